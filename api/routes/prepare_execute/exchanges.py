"""Exchanges and their instruments, with the periods that have candles."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import UNSET, Meta, UnsetType

from candlestep.api.errors import NotFound
from candlestep.api.http.route import Request, Route
from candlestep.api.schemas.fields import Time, match_choice
from candlestep.api.services import Services
from candlestep.data.errors import ExchangeNotFound
from candlestep.data.market.instruments import Listing, list_instruments, updated_at
from candlestep.data.symbols import PERPETUAL, is_perpetual, normalise_symbol
from candlestep.sandbox import SymbolNotFound, format_time
from candlestep.sandbox.errors import abbreviate

VenueType = Literal["cex"]
Segment = Literal["spot", "futures"]

_SEGMENTS: tuple[Segment, ...] = get_args(Segment)
_ONE = "/api/v1/exchange/{exchangeId}"

LastPrice = Annotated[float, Meta(description="Close of the last candle.")]
Volume = Annotated[
    float,
    Meta(
        description="Of the last 24 hours with candles, in quote currency: the volume of each"
        " candle at its close. Left out if the data has no volume."
    ),
]


class ExchangeResponse(msgspec.Struct, frozen=True):
    id: Annotated[str, Meta(examples=["binance"])]
    name: str
    venueType: VenueType
    segments: list[Segment]
    liveSegments: Annotated[list[Segment], Meta(description="Always empty: nothing here is live.")]


class InstrumentResponse(msgspec.Struct, frozen=True):
    id: Annotated[str, Meta(examples=["BTC/USDT"])]
    base: str
    quote: str
    dataFrom: Annotated[Time, Meta(description="The first candle opens.")]
    dataTo: Annotated[Time, Meta(description="The last candle is complete.")]
    lastPrice: LastPrice
    volume24h: Volume | UnsetType = UNSET


class Link(msgspec.Struct, frozen=True):
    href: str


class Links(msgspec.Struct, frozen=True):
    self: Link


class LinkedInstrumentResponse(msgspec.Struct, frozen=True):
    id: Annotated[str, Meta(examples=["BTC/USDT"])]
    symbol: Annotated[str, Meta(description="The same as `id`.")]
    base: str
    quote: str
    dataFrom: Time
    dataTo: Time
    lastPrice: LastPrice
    links: Links = msgspec.field(name="_links")
    volume24h: Volume | UnsetType = UNSET


class SegmentMeta(msgspec.Struct, frozen=True):
    updatedAt: Annotated[Time, Meta(description="Of the last import.")]
    exchange: str
    segment: Segment
    venueType: VenueType


class SegmentResponse(msgspec.Struct, frozen=True):
    data: list[LinkedInstrumentResponse]
    meta: SegmentMeta
    links: Links = msgspec.field(name="_links")


async def exchanges(services: Services, request: Request) -> list[ExchangeResponse]:
    """List the exchanges that have candles."""
    segments: dict[str, set[Segment]] = {}
    for entry in await services.read(services.catalogue.series):
        segments.setdefault(entry.exchange, {"spot"}).add(_segment_of(entry.symbol))
    return [
        ExchangeResponse(
            name, name.capitalize(), "cex", [one for one in _SEGMENTS if one in segments[name]], []
        )
        for name in sorted(segments)
    ]


async def instruments(services: Services, request: Request) -> list[InstrumentResponse]:
    """List the pairs of an exchange, with the period that has candles.

    The answer is a bare array, as this API's document prints it. Clients that expect an object with
    `data` and `meta` read `GET /api/v1/exchange/{id}/spot/instruments`.
    """
    _, listings = await services.read(_listings, services, request)
    return [InstrumentResponse(**_fields(one)) for one in _in_segment(listings, "spot")]


async def segment(services: Services, request: Request) -> SegmentResponse:
    """List the instruments of a segment: pairs, or the perpetuals of `futures`."""
    exchange, listings = await services.read(_listings, services, request)
    name = _segment(request)
    return SegmentResponse(
        [_linked(exchange, name, one) for one in _in_segment(listings, name)],
        SegmentMeta(
            format_time(await services.read(updated_at, services.store, exchange)),
            exchange,
            name,
            "cex",
        ),
        _links(exchange, name),
    )


async def instrument(services: Services, request: Request) -> LinkedInstrumentResponse:
    """Return one instrument."""
    exchange, listings = await services.read(_listings, services, request)
    name = _segment(request)
    symbol = normalise_symbol(request.path["symbol"])
    if name == "futures" and not is_perpetual(symbol):
        symbol += PERPETUAL
    for listing in _in_segment(listings, name):
        if listing.symbol == symbol:
            return _linked(exchange, name, listing)
    raise SymbolNotFound(f"there are no {name} candles of {symbol}", symbol=symbol)


def known_exchange(services: Services, text: str) -> str:
    """Return the exchange that a path names; blocks for milliseconds.

    Raises ``ExchangeNotFound``.
    """
    exchange = text.strip().lower()
    known = sorted({series.exchange for series in services.catalogue.series()})
    if exchange not in known:
        raise ExchangeNotFound(
            f"there is no exchange {abbreviate(text)!r}; "
            + (f"there are {', '.join(known)}" if known else "no candles are imported yet"),
            exchange=abbreviate(text),
        )
    return exchange


def _segment(request: Request) -> Segment:
    name = request.path["segment"]
    segment = match_choice(_SEGMENTS, name)
    if segment is None:
        raise NotFound(
            f"there is no segment {abbreviate(name)!r}; there are {' and '.join(_SEGMENTS)}",
            segment=abbreviate(name),
        )
    return segment


def _listings(services: Services, request: Request) -> tuple[str, list[Listing]]:
    """Return the exchange that the path names, and its instruments."""
    exchange = known_exchange(services, request.path["exchangeId"])
    return exchange, list_instruments(services.store, exchange, services.catalogue.series())


def _segment_of(symbol: str) -> Segment:
    return "futures" if is_perpetual(symbol) else "spot"


def _in_segment(listings: Sequence[Listing], segment: Segment) -> list[Listing]:
    return [listing for listing in listings if _segment_of(listing.symbol) == segment]


def _fields(listing: Listing) -> dict[str, Any]:
    """Return the fields of an ``InstrumentResponse``."""
    return {
        "id": f"{listing.base}/{listing.quote}"
        + (f":{listing.quote}" if is_perpetual(listing.symbol) else ""),
        "base": listing.base,
        "quote": listing.quote,
        "dataFrom": format_time(listing.start),
        "dataTo": format_time(listing.end),
        "lastPrice": listing.last.last_price,
        "volume24h": listing.last.volume or UNSET,
    }


def _linked(exchange: str, segment: Segment, listing: Listing) -> LinkedInstrumentResponse:
    fields = _fields(listing)
    links = _links(exchange, segment, f"/{listing.symbol}")
    return LinkedInstrumentResponse(**fields, symbol=fields["id"], links=links)


def _links(exchange: str, segment: Segment, rest: str = "") -> Links:
    return Links(Link(f"/api/v1/exchange/{exchange}/{segment}/instruments{rest}"))


_INSTRUMENTS = f"{_ONE}/{{segment}}/instruments"
_UNKNOWN = ("EXCHANGE_NOT_FOUND",)

ROUTES = [
    Route("GET", "/api/v1/exchanges", exchanges, "Exchanges", refused_status=422),
    Route(
        "GET", f"{_ONE}/instruments", instruments, "Instruments of an exchange", errors=_UNKNOWN
    ),
    Route(
        "GET", _INSTRUMENTS, segment, "Instruments of a segment", errors=(*_UNKNOWN, "NOT_FOUND")
    ),
    Route(
        "GET", f"{_INSTRUMENTS}/{{symbol}}", instrument, "An instrument",
        errors=(*_UNKNOWN, "NOT_FOUND", "SYMBOL_NOT_FOUND"),
    ),
]  # fmt: skip
