"""Instruments: the filters of orders, and whether the volume of candles is usable."""

from decimal import Decimal
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType
from msgspec.structs import asdict

from candlestep.api.errors import with_field_names
from candlestep.api.http.route import Request, Route
from candlestep.api.schemas.decoding import RequestBody
from candlestep.api.schemas.fields import Decimals, ExchangeGiven, PositiveNumber
from candlestep.api.services import Services
from candlestep.data.records import instruments as records
from candlestep.data.symbols import DEFAULT_EXCHANGE
from candlestep.sandbox import InvalidParameter, InvalidSymbol
from candlestep.sandbox.exchange.instruments import Kind
from candlestep.sandbox.money import format_decimal

_BASE = "/api/v1/data/instruments"
_ONE = f"{_BASE}/{{symbol}}"

_TICK_SIZE = Meta(description="Limit and trigger prices are multiples of it.")
_STEP_SIZE = Meta(description="Quantities are multiples of it.")
_MIN_QUANTITY = Meta(description="Smallest quantity of an order.")
_MIN_NOTIONAL = Meta(description="Smallest quantity times price of an order.")
_VOLUME_USABLE = Meta(
    description="False if the volume of the candles has another unit than the base currency;"
    " slippage by volume is then the least."
)


class InstrumentsQuery(RequestBody):
    exchange: (
        Annotated[ExchangeGiven, Meta(description="By default those of all exchanges.")] | None
    ) = None


class InstrumentQuery(RequestBody):
    exchange: ExchangeGiven = DEFAULT_EXCHANGE


class FiltersChange(RequestBody):
    tick_size: Annotated[PositiveNumber | UnsetType | None, _TICK_SIZE] = UNSET
    step_size: Annotated[PositiveNumber | UnsetType | None, _STEP_SIZE] = UNSET
    min_quantity: Annotated[PositiveNumber | UnsetType | None, _MIN_QUANTITY] = UNSET
    min_notional: Annotated[PositiveNumber | UnsetType | None, _MIN_NOTIONAL] = UNSET


class InstrumentChange(RequestBody):
    volume_usable: Annotated[bool | UnsetType, _VOLUME_USABLE] = UNSET
    filters: Annotated[
        FiltersChange | UnsetType,
        Meta(description="The filters to change. Null removes one; those left out stay."),
    ] = UNSET


class FiltersResponse(msgspec.Struct, frozen=True):
    tick_size: Annotated[Decimals, _TICK_SIZE] | None
    step_size: Annotated[Decimals, _STEP_SIZE] | None
    min_quantity: Annotated[Decimals, _MIN_QUANTITY] | None
    min_notional: Annotated[Decimals, _MIN_NOTIONAL] | None


class TierResponse(msgspec.Struct, frozen=True):
    floor: Annotated[Decimals, Meta(description="Notional from which on it holds.")]
    mmr: Annotated[Decimals, Meta(description="Maintenance margin rate, a fraction.")]
    cum: Annotated[Decimals, Meta(description="Amount taken off `mmr` times the notional.")]
    max_leverage: Annotated[Decimals, Meta(description="Highest leverage of such a position.")]


class ListedInstrumentResponse(msgspec.Struct, frozen=True):
    exchange: str
    symbol: str
    kind: Kind
    base: str | None
    quote: str | None
    filters: FiltersResponse
    volume_usable: Annotated[bool, _VOLUME_USABLE]
    tiers: Annotated[
        list[TierResponse] | UnsetType,
        Meta(description="Margin tiers of a perpetual that were imported last, lowest first."),
    ] = UNSET


class ListedInstrumentsResponse(msgspec.Struct, frozen=True):
    instruments: list[ListedInstrumentResponse]
    total: int


async def instruments(services: Services, request: Request) -> ListedInstrumentsResponse:
    """List the instruments, by exchange and symbol."""
    query: InstrumentsQuery = request.query
    listed = await services.read(records.stored_instruments, services.store, query.exchange)
    return ListedInstrumentsResponse([_to_response(entry) for entry in listed], len(listed))


async def instrument(services: Services, request: Request) -> ListedInstrumentResponse:
    """Return one instrument."""
    query: InstrumentQuery = request.query
    listed = await services.read(
        records.get_instrument, services.store, query.exchange, request.path["symbol"]
    )
    return _to_response(listed)


async def change(services: Services, request: Request) -> ListedInstrumentResponse:
    """Change filters (null removes one) or the use of the volume. Needs an admin key.

    Sessions that start later have it; the others keep what they copied when they started.
    """
    query: InstrumentQuery = request.query
    body: InstrumentChange = request.body
    filters = {} if body.filters is UNSET else asdict(body.filters)
    changed = records.InstrumentChange(
        None if body.volume_usable is UNSET else body.volume_usable,
        {name: value for name, value in filters.items() if value is not UNSET},
    )
    try:
        listed = await services.in_thread(
            records.change_instrument,
            services.store,
            query.exchange,
            request.path["symbol"],
            changed,
        )
    except InvalidSymbol:
        raise
    except InvalidParameter as refusal:
        raise with_field_names(refusal, {name: f"filters.{name}" for name in filters}) from None
    return _to_response(listed)


def _to_response(listed: records.ListedInstrument) -> ListedInstrumentResponse:
    known = listed.instrument
    filters = {name: _text(value) for name, value in asdict(known.filters).items()}
    return ListedInstrumentResponse(
        listed.exchange,
        known.symbol,
        known.kind,
        known.base,
        known.quote,
        FiltersResponse(**filters),
        known.volume_usable,
        UNSET if known.tiers is None else [TierResponse(**tier) for tier in known.tiers.settings()],
    )


def _text(number: Decimal | None) -> str | None:
    return None if number is None else format_decimal(number)


_UNKNOWN = ("NOT_FOUND", "SYMBOL_NOT_FOUND")

ROUTES = [
    Route("GET", _BASE, instruments, "List instruments", query=InstrumentsQuery),
    Route("GET", _ONE, instrument, "Get an instrument", query=InstrumentQuery, errors=_UNKNOWN),
    Route(
        "PATCH", _ONE, change, "Change an instrument",
        query=InstrumentQuery, body=InstrumentChange, access="admin_key", errors=_UNKNOWN,
    ),
]  # fmt: skip
