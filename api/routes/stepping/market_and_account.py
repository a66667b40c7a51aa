"""The market and the account of a session, as of its virtual clock."""

from typing import Annotated

import msgspec
from msgspec import Meta

from candlestep.api.http.route import Call, Route
from candlestep.api.schemas.account import (
    BalanceAnswer,
    BalancesAnswer,
    PortfolioAnswer,
    PositionAnswer,
    PositionsAnswer,
)
from candlestep.api.schemas.fields import INTERVAL_TEXTS, Money, Time, money
from candlestep.api.schemas.requests import Body
from candlestep.api.services import Server
from candlestep.api.sessions.pool import FIND_ERRORS
from candlestep.data.symbols import normalise_symbol
from candlestep.sandbox import Candle, Ticker, format_time, interval_name, parse_interval

_BASE = "/api/v1/backtest/{session_id}"


class CandlesQuery(Body):
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


class PricesAnswer(msgspec.Struct, frozen=True):
    prices: dict[str, Money]
    virtual_time: Time


class PriceAnswer(msgspec.Struct, frozen=True):
    symbol: str
    price: Money
    virtual_time: Time


class TickerAnswer(msgspec.Struct, frozen=True):
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
    def of(cls, ticker: Ticker) -> "TickerAnswer":
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


class CandleAnswer(msgspec.Struct, frozen=True):
    open_time: Time
    bucket: Time
    open: Money
    high: Money
    low: Money
    close: Money
    volume: Money

    @classmethod
    def of(cls, candle: Candle) -> "CandleAnswer":
        open_time = format_time(candle.open_time)
        prices = (candle.open, candle.high, candle.low, candle.close, candle.volume)
        return cls(open_time, open_time, *map(money, prices))


class CandlesAnswer(msgspec.Struct, frozen=True):
    symbol: str
    interval: str
    candles: list[CandleAnswer]
    count: int


async def prices(server: Server, call: Call) -> PricesAnswer:
    """The price of each pair that has one."""
    session = (await server.live(call)).session
    found = {symbol: money(price) for symbol, price in session.prices().items()}
    return PricesAnswer(found, format_time(session.time))


async def price(server: Server, call: Call) -> PriceAnswer:
    """The price of one pair."""
    session = (await server.live(call)).session
    symbol = normalise_symbol(call.path["symbol"])
    return PriceAnswer(symbol, money(session.price(symbol)), format_time(session.time))


async def ticker(server: Server, call: Call) -> TickerAnswer:
    """The last 24 hours of one pair."""
    session = (await server.live(call)).session
    return TickerAnswer.of(session.ticker(normalise_symbol(call.path["symbol"])))


async def candles(server: Server, call: Call) -> CandlesAnswer:
    """The latest complete candles of one pair, oldest first; empty for a pair without any."""
    live = await server.live(call)
    symbol = normalise_symbol(call.path["symbol"])
    query: CandlesQuery = call.query
    asked = None if query.interval is None else parse_interval(query.interval)
    if symbol in live.record.pairs and symbol not in live.session.market.symbols:
        interval = interval_name(asked or live.record.interval)
        return CandlesAnswer(symbol, interval, [], 0)
    used = asked or live.session.default_interval(symbol)
    found = live.session.candles(symbol, used // 1000, query.limit)
    answers = [CandleAnswer.of(candle) for candle in found]
    return CandlesAnswer(symbol, interval_name(used), answers, len(answers))


async def balance(server: Server, call: Call) -> BalancesAnswer:
    """The account's currency, and what is held."""
    session = (await server.live(call)).session
    return BalancesAnswer([BalanceAnswer.of(each) for each in session.balances()])


async def positions(server: Server, call: Call) -> PositionsAnswer:
    """The open positions at current prices."""
    session = (await server.live(call)).session
    return PositionsAnswer([PositionAnswer.of(each) for each in session.positions()])


async def portfolio(server: Server, call: Call) -> PortfolioAnswer:
    """The account at current prices."""
    session = (await server.live(call)).session
    return PortfolioAnswer.of(session.portfolio())


_SYMBOL = (*FIND_ERRORS, "SYMBOL_NOT_FOUND")

ROUTES = [
    Route("GET", f"{_BASE}/market/prices", prices, "Prices", PricesAnswer, errors=FIND_ERRORS),
    Route(
        "GET", f"{_BASE}/market/price/{{symbol}}", price, "Price of a pair", PriceAnswer,
        errors=_SYMBOL,
    ),
    Route(
        "GET", f"{_BASE}/market/ticker/{{symbol}}", ticker, "24 hours of a pair", TickerAnswer,
        errors=_SYMBOL,
    ),
    Route(
        "GET", f"{_BASE}/market/candles/{{symbol}}", candles, "Candles of a pair", CandlesAnswer,
        query=CandlesQuery, errors=_SYMBOL,
    ),
    Route(
        "GET", f"{_BASE}/account/balance", balance, "Balances", BalancesAnswer,
        errors=FIND_ERRORS,
    ),
    Route(
        "GET", f"{_BASE}/account/positions", positions, "Open positions", PositionsAnswer,
        errors=FIND_ERRORS,
    ),
    Route(
        "GET", f"{_BASE}/account/portfolio", portfolio, "Portfolio", PortfolioAnswer,
        errors=FIND_ERRORS,
    ),
]  # fmt: skip
