"""The market and the account of a session, as of its virtual clock."""

from typing import Annotated

import msgspec
from msgspec import Meta

from candlestep.api.http.route import Request, Route
from candlestep.api.schemas.account import (
    BalanceResponse,
    BalancesResponse,
    PortfolioResponse,
    PositionResponse,
    PositionsResponse,
)
from candlestep.api.schemas.decoding import RequestBody
from candlestep.api.schemas.fields import INTERVAL_TEXTS, Money, Time, money
from candlestep.api.services import Services
from candlestep.api.sessions.pool import FIND_ERRORS
from candlestep.data.symbols import normalise_symbol
from candlestep.sandbox import Candle, Ticker, format_time, interval_name, parse_interval

_BASE = "/api/v1/backtest/{session_id}"


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


class PricesResponse(msgspec.Struct, frozen=True):
    prices: dict[str, Money]
    virtual_time: Time


class PriceResponse(msgspec.Struct, frozen=True):
    symbol: str
    price: Money
    virtual_time: Time


class TickerResponse(msgspec.Struct, frozen=True):
    symbol: str
    open: Money
    high: Money
    low: Money
    close: Money
    volume: Money
    price_change: Money
    price_change_pct: Money
    virtual_time: Time

    @classmethod
    def of(cls, ticker: Ticker) -> "TickerResponse":
        return cls(
            ticker.symbol,
            money(ticker.open),
            money(ticker.high),
            money(ticker.low),
            money(ticker.close),
            money(ticker.volume),
            money(ticker.price_change),
            money(ticker.price_change_pct),
            format_time(ticker.time),
        )


class CandleResponse(msgspec.Struct, frozen=True):
    open_time: Time
    bucket: Time
    open: Money
    high: Money
    low: Money
    close: Money
    volume: Money

    @classmethod
    def of(cls, candle: Candle) -> "CandleResponse":
        open_time = format_time(candle.open_time)
        prices = (candle.open, candle.high, candle.low, candle.close, candle.volume)
        return cls(open_time, open_time, *map(money, prices))


class CandlesResponse(msgspec.Struct, frozen=True):
    symbol: str
    interval: str
    candles: list[CandleResponse]
    count: int


async def prices(services: Services, request: Request) -> PricesResponse:
    """The price of each pair that has one."""
    session = (await services.live(request)).session
    found = {symbol: money(price) for symbol, price in session.prices().items()}
    return PricesResponse(found, format_time(session.time))


async def price(services: Services, request: Request) -> PriceResponse:
    """The price of one pair."""
    session = (await services.live(request)).session
    symbol = normalise_symbol(request.path["symbol"])
    return PriceResponse(symbol, money(session.price(symbol)), format_time(session.time))


async def ticker(services: Services, request: Request) -> TickerResponse:
    """The last 24 hours of one pair."""
    session = (await services.live(request)).session
    return TickerResponse.of(session.ticker(normalise_symbol(request.path["symbol"])))


async def candles(services: Services, request: Request) -> CandlesResponse:
    """The latest complete candles of one pair, oldest first; empty for a pair without any."""
    live = await services.live(request)
    symbol = normalise_symbol(request.path["symbol"])
    query: CandlesQuery = request.query
    asked = None if query.interval is None else parse_interval(query.interval)
    if symbol in live.record.pairs and symbol not in live.session.market.symbols:
        interval = interval_name(asked or live.record.interval)
        return CandlesResponse(symbol, interval, [], 0)
    used = asked or live.session.default_interval(symbol)
    found = live.session.candles(symbol, used // 1000, query.limit)
    answers = [CandleResponse.of(candle) for candle in found]
    return CandlesResponse(symbol, interval_name(used), answers, len(answers))


async def balance(services: Services, request: Request) -> BalancesResponse:
    """The account's currency, and what is held."""
    session = (await services.live(request)).session
    return BalancesResponse([BalanceResponse.of(each) for each in session.balances()])


async def positions(services: Services, request: Request) -> PositionsResponse:
    """The open positions at current prices."""
    session = (await services.live(request)).session
    return PositionsResponse([PositionResponse.of(each) for each in session.positions()])


async def portfolio(services: Services, request: Request) -> PortfolioResponse:
    """The account at current prices."""
    session = (await services.live(request)).session
    return PortfolioResponse.of(session.portfolio())


_SYMBOL = (*FIND_ERRORS, "SYMBOL_NOT_FOUND")

ROUTES = [
    Route("GET", f"{_BASE}/market/prices", prices, "Prices", PricesResponse, errors=FIND_ERRORS),
    Route(
        "GET", f"{_BASE}/market/price/{{symbol}}", price, "Price of a pair", PriceResponse,
        errors=_SYMBOL,
    ),
    Route(
        "GET", f"{_BASE}/market/ticker/{{symbol}}", ticker, "24 hours of a pair", TickerResponse,
        errors=_SYMBOL,
    ),
    Route(
        "GET", f"{_BASE}/market/candles/{{symbol}}", candles, "Candles of a pair", CandlesResponse,
        query=CandlesQuery, errors=_SYMBOL,
    ),
    Route(
        "GET", f"{_BASE}/account/balance", balance, "Balances", BalancesResponse,
        errors=FIND_ERRORS,
    ),
    Route(
        "GET", f"{_BASE}/account/positions", positions, "Open positions", PositionsResponse,
        errors=FIND_ERRORS,
    ),
    Route(
        "GET", f"{_BASE}/account/portfolio", portfolio, "Portfolio", PortfolioResponse,
        errors=FIND_ERRORS,
    ),
]  # fmt: skip
