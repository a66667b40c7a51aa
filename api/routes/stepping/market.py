"""The market of a session, as of its virtual clock."""

from functools import partial
from typing import Annotated

from msgspec import Meta

from candlestep.api.http.route import Request
from candlestep.api.routes.stepping.session_commands import FIND_ERRORS, find_session, read_route
from candlestep.api.schemas.decoding import RequestBody
from candlestep.api.schemas.fields import INTERVAL_TEXTS, money
from candlestep.api.schemas.market import (
    CandleResponse,
    CandlesResponse,
    PriceResponse,
    PricesResponse,
    TickerResponse,
)
from candlestep.api.services import Services
from candlestep.data.symbols import normalise_symbol
from candlestep.sandbox import format_time, interval_name, parse_interval

_BASE = "/api/v1/backtest/{session_id}/market"


class CandlesQuery(RequestBody):
    interval: (
        Annotated[
            str,
            Meta(
                description="A name, or seconds; left out: the session's.",
                extra_json_schema={"enum": INTERVAL_TEXTS},
            ),
        ]
        | None
    ) = None
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100


async def prices(services: Services, request: Request) -> PricesResponse:
    """Return the price of each pair that has one."""
    session = (await find_session(services, request)).session
    prices = {symbol: money(price) for symbol, price in session.prices().items()}
    return PricesResponse(prices, format_time(session.time))


async def price(services: Services, request: Request) -> PriceResponse:
    """Return the price of one pair."""
    session = (await find_session(services, request)).session
    symbol = normalise_symbol(request.path["symbol"])
    return PriceResponse(symbol, money(session.price(symbol)), format_time(session.time))


async def ticker(services: Services, request: Request) -> TickerResponse:
    """Return the last 24 hours of one pair."""
    session = (await find_session(services, request)).session
    return TickerResponse.of(session.ticker(normalise_symbol(request.path["symbol"])))


async def candles(services: Services, request: Request) -> CandlesResponse:
    """Return the latest complete candles of one pair, oldest first; none if it has no candles."""
    hosted = await find_session(services, request)
    record, session = hosted.record, hosted.session
    symbol = normalise_symbol(request.path["symbol"])
    query: CandlesQuery = request.query
    interval = None if query.interval is None else parse_interval(query.interval)
    if symbol in record.pairs and symbol not in session.market.symbols:
        return CandlesResponse(symbol, interval_name(interval or record.interval), [], 0)
    interval = interval or session.default_interval(symbol)
    candles = session.candles(symbol, interval // 1000, query.limit)
    answers = [CandleResponse.of(candle) for candle in candles]
    return CandlesResponse(symbol, interval_name(interval), answers, len(answers))


_symbol_route = partial(read_route, errors=(*FIND_ERRORS, "SYMBOL_NOT_FOUND"))

ROUTES = [
    read_route(f"{_BASE}/prices", prices, "Prices", PricesResponse),
    _symbol_route(f"{_BASE}/price/{{symbol}}", price, "Price of a pair", PriceResponse),
    _symbol_route(f"{_BASE}/ticker/{{symbol}}", ticker, "24 hours of a pair", TickerResponse),
    _symbol_route(
        f"{_BASE}/candles/{{symbol}}",
        candles,
        "Candles of a pair",
        CandlesResponse,
        query=CandlesQuery,
    ),
]
