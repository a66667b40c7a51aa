"""What can be traded where: exchanges and their instruments, with the data that there is."""

from typing import Annotated, Literal, get_args

import msgspec
from msgspec import UNSET, Meta, UnsetType

from candlestep.api.errors import NotFound
from candlestep.api.http.route import Call, Route
from candlestep.api.schemas.fields import Time, one_of
from candlestep.api.services import Server
from candlestep.data.errors import ExchangeNotFound
from candlestep.data.market.instruments import Listing, listings, updated_at
from candlestep.data.symbols import normalise_symbol
from candlestep.sandbox import SymbolNotFound, format_time
from candlestep.sandbox.errors import shown

VenueType = Literal["cex"]
Segment = Literal["spot", "futures"]

_SEGMENTS: tuple[Segment, ...] = get_args(Segment)
_ONE = "/api/v1/exchange/{exchangeId}"

LastPrice = Annotated[float, Meta(description="Close of the last candle.")]
Volume = Annotated[
    float,
    Meta(
        description="Of the last 24 hours that there are candles of, in quote currency: the volume"
        " of each at its close. Left out where the data has none."
    ),
]


class ExchangeAnswer(msgspec.Struct, frozen=True):
    id: Annotated[str, Meta(examples=["binance"])]
    name: str
    venueType: VenueType
    segments: list[Segment]
    liveSegments: Annotated[list[Segment], Meta(description="None: nothing here is live.")]


class InstrumentAnswer(msgspec.Struct, frozen=True):
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


class LinkedInstrumentAnswer(msgspec.Struct, frozen=True):
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


class SegmentAnswer(msgspec.Struct, frozen=True):
    data: list[LinkedInstrumentAnswer]
    meta: SegmentMeta
    links: Links = msgspec.field(name="_links")


async def exchanges(server: Server, call: Call) -> list[ExchangeAnswer]:
    """The exchanges that there are candles of."""
    found = await server.in_thread(server.catalogue.series)
    names = sorted({each.exchange for each in found})
    return [ExchangeAnswer(name, name.capitalize(), "cex", ["spot"], []) for name in names]


async def instruments(server: Server, call: Call) -> list[InstrumentAnswer]:
    """The instruments of an exchange, with the times that there are candles of."""
    found = await server.in_thread(_listings, server, call.path["exchangeId"])
    return [
        InstrumentAnswer(
            f"{each.base}/{each.quote}",
            each.base,
            each.quote,
            format_time(each.start),
            format_time(each.end),
            each.last.last_price,
            each.last.volume or UNSET,
        )
        for each in found
    ]


async def segment(server: Server, call: Call) -> SegmentAnswer:
    """The instruments of a segment; there are none but spot ones."""
    exchange = await server.in_thread(known_exchange, server, call.path["exchangeId"])
    name = _segment(call)
    found = await server.in_thread(_listings, server, exchange)
    return SegmentAnswer(
        [_linked(exchange, name, each) for each in found] if name == "spot" else [],
        SegmentMeta(
            format_time(await server.in_thread(updated_at, server.store, exchange)),
            exchange,
            name,
            "cex",
        ),
        _links(exchange, name),
    )


async def instrument(server: Server, call: Call) -> LinkedInstrumentAnswer:
    """One instrument."""
    exchange = await server.in_thread(known_exchange, server, call.path["exchangeId"])
    name = _segment(call)
    symbol = normalise_symbol(call.path["symbol"])
    for each in await server.in_thread(_listings, server, exchange):
        if each.symbol == symbol and name == "spot":
            return _linked(exchange, name, each)
    raise SymbolNotFound(f"there are no {name} candles of {symbol}", symbol=symbol)


def known_exchange(server: Server, text: str) -> str:
    """The exchange that a path names; raises ``ExchangeNotFound``. Blocks for milliseconds."""
    exchange = text.strip().lower()
    known = sorted({each.exchange for each in server.catalogue.series()})
    if exchange not in known:
        raise ExchangeNotFound(
            f"there is no exchange {shown(text)!r}"
            + (f", but {', '.join(known)}" if known else "; there are no candles at all yet"),
            exchange=shown(text),
        )
    return exchange


def _segment(call: Call) -> Segment:
    name = call.path["segment"]
    segment = one_of(_SEGMENTS, name)
    if segment is None:
        there = " and ".join(_SEGMENTS)
        raise NotFound(f"there is no segment {shown(name)!r}, but {there}", segment=shown(name))
    return segment


def _listings(server: Server, exchange: str) -> list[Listing]:
    name = known_exchange(server, exchange)
    return listings(server.store, name, server.catalogue.series())


def _linked(exchange: str, segment: Segment, each: Listing) -> LinkedInstrumentAnswer:
    name = f"{each.base}/{each.quote}"
    return LinkedInstrumentAnswer(
        name,
        name,
        each.base,
        each.quote,
        format_time(each.start),
        format_time(each.end),
        each.last.last_price,
        _links(exchange, segment, f"/{each.symbol}"),
        each.last.volume or UNSET,
    )


def _links(exchange: str, segment: Segment, rest: str = "") -> Links:
    return Links(Link(f"/api/v1/exchange/{exchange}/{segment}/instruments{rest}"))


_UNKNOWN = ("EXCHANGE_NOT_FOUND",)

ROUTES = [
    Route("GET", "/api/v1/exchanges", exchanges, "Exchanges", list[ExchangeAnswer]),
    Route(
        "GET", f"{_ONE}/instruments", instruments, "Instruments of an exchange",
        list[InstrumentAnswer], errors=_UNKNOWN, refused_with=400,
    ),
    Route(
        "GET", f"{_ONE}/{{segment}}/instruments", segment, "Instruments of a segment",
        SegmentAnswer, errors=(*_UNKNOWN, "NOT_FOUND"), refused_with=400,
    ),
    Route(
        "GET", f"{_ONE}/{{segment}}/instruments/{{symbol}}", instrument, "An instrument",
        LinkedInstrumentAnswer, errors=(*_UNKNOWN, "NOT_FOUND", "SYMBOL_NOT_FOUND"),
        refused_with=400,
    ),
]  # fmt: skip
