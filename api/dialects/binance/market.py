"""The market of a session, as of its virtual time: ``exchangeInfo``, ``klines``, tickers, depth."""

import re
from decimal import Decimal
from typing import Any

import numpy as np

from candlestep.api.dialects.binance.call import Call, Endpoint, number, reads
from candlestep.api.dialects.binance.errors import BinanceError, malformed
from candlestep.api.dialects.binance.klines import MOST_ROWS, latest_rows, rows_between
from candlestep.api.http.route import JsonBytes
from candlestep.sandbox import InvalidParameter, Ticker
from candlestep.sandbox.clock import DAY, HOUR, INTERVALS, MINUTE, bucket_start
from candlestep.sandbox.exchange.costs.depth import Depth, Level, depth_at
from candlestep.sandbox.money import ZERO, decimal_of, rounded_product

ORDER_TYPES = [
    "LIMIT", "LIMIT_MAKER", "MARKET", "STOP_LOSS", "STOP_LOSS_LIMIT", "TAKE_PROFIT",
    "TAKE_PROFIT_LIMIT",
]  # fmt: skip

_MOST_LEVELS = 5000
_WINDOW = re.compile(r"([1-9][0-9]?)([mhd])", re.ASCII)
_UNITS = {"m": (MINUTE, 59), "h": (HOUR, 23), "d": (DAY, 7)}
_RATE_LIMITS = [
    {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 6000},
    {"rateLimitType": "ORDERS", "interval": "SECOND", "intervalNum": 10, "limit": 100},
    {"rateLimitType": "ORDERS", "interval": "DAY", "intervalNum": 1, "limit": 200_000},
    {"rateLimitType": "RAW_REQUESTS", "interval": "MINUTE", "intervalNum": 5, "limit": 61_000},
]


async def ping(call: Call) -> Any:
    """Answer that the server is there."""
    return {}


async def time(call: Call) -> Any:
    """Return the virtual time."""
    return {"serverTime": call.now}


async def exchange_info(call: Call) -> Any:
    """Return the symbols of the session, and the filters of each."""
    named = call.parameters.symbols()
    symbols = call.session.market.symbols if named is None else [call.traded(s) for s in named]
    return {
        "timezone": "UTC",
        "serverTime": call.now,
        "rateLimits": _RATE_LIMITS,
        "exchangeFilters": [],
        "symbols": [_symbol(call, symbol) for symbol in symbols],
    }


def _symbol(call: Call, symbol: str) -> dict[str, Any]:
    base, quote = call.assets(symbol)
    return {
        "symbol": symbol,
        "status": "TRADING",
        "baseAsset": base,
        "baseAssetPrecision": 8,
        "quoteAsset": quote,
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "baseCommissionPrecision": 8,
        "quoteCommissionPrecision": 8,
        "orderTypes": ORDER_TYPES,
        "icebergAllowed": False,
        "ocoAllowed": True,
        "otoAllowed": False,
        "quoteOrderQtyMarketAllowed": True,
        "allowTrailingStop": False,
        "cancelReplaceAllowed": True,
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False,
        "filters": call.rules.shown(symbol),
        "permissions": ["SPOT"],
        "permissionSets": [["SPOT"]],
        "defaultSelfTradePreventionMode": "NONE",
        "allowedSelfTradePreventionModes": ["NONE"],
    }


async def klines(call: Call) -> Any:
    """Return candles, the running one last: its close time is later than now, as on Binance."""
    symbol = call.symbol()
    parameters = call.parameters
    name = parameters.required("interval")
    if name not in INTERVALS:
        raise _invalid_interval()
    start, end = parameters.whole("startTime"), parameters.whole("endTime")
    limit = parameters.count("limit", 500, MOST_ROWS)
    market, interval, now = call.session.market, INTERVALS[name], call.session.time
    try:
        if start is None and (end is None or end >= now):
            return JsonBytes(latest_rows(market, symbol, interval, now, limit), 200)
        return JsonBytes(
            await call.services.read(
                rows_between, market, symbol, (start, end), interval, now, limit
            ),
            200,
        )
    except InvalidParameter:
        raise _invalid_interval() from None


def _invalid_interval() -> BinanceError:
    return BinanceError(-1120, "Invalid interval.")


async def ticker_price(call: Call) -> Any:
    """Return the latest price of one or more symbols."""
    return _each(call, lambda symbol: {"symbol": symbol, "price": number(_price(call, symbol))})


async def average_price(call: Call) -> Any:
    """Return the average price of the last five minutes, by the volume at each close."""
    symbol = call.symbol()
    candles, now = call.session.market.candles_of(symbol), call.session.time
    rows = slice(candles.last_complete(now - 5 * MINUTE) + 1, candles.last_complete(now) + 1)
    weights, closes = candles.volume[rows], candles.close[rows]
    price = _price(call, symbol)
    if weights.sum() > 0:
        price = decimal_of(float(np.average(closes, weights=weights)))
    return {"mins": 5, "price": number(price), "closeTime": now}


async def ticker_24h(call: Call) -> Any:
    """Return the last 24 hours of one or more symbols."""
    return _each(call, lambda symbol: _rolling(call, symbol, DAY))


async def rolling_ticker(call: Call) -> Any:
    """Return the last ``windowSize``, by default a day, of one or more symbols."""
    text = call.parameters.text("windowSize") or "1d"
    match = _WINDOW.fullmatch(text)
    unit, most = _UNITS[match[2]] if match else (0, 0)
    if match is None or int(match[1]) > most:
        raise malformed("windowSize")
    span = int(match[1]) * unit
    return _each(call, lambda symbol: _rolling(call, symbol, span))


async def trading_day(call: Call) -> Any:
    """Return the time since midnight (UTC) of one or more symbols."""
    now = call.session.time
    return _each(call, lambda symbol: _rolling(call, symbol, now - bucket_start(now, DAY)))


def _rolling(call: Call, symbol: str, span: int) -> dict[str, Any]:
    ticker = call.session.market.ticker(symbol, call.session.time, span)
    times = {"openTime": call.session.time - span, "closeTime": call.session.time}
    ids = {"firstId": -1, "lastId": -1, "count": 0}
    if call.parameters.text("type") == "MINI":
        return {"symbol": symbol, **_prices(ticker), **times, **ids}
    book = _book(call, symbol, ticker.close, 1)
    return {
        "symbol": symbol,
        "priceChange": number(ticker.price_change),
        "priceChangePercent": f"{ticker.price_change_pct:.3f}",
        "weightedAvgPrice": number(ticker.close),
        "prevClosePrice": number(ticker.open),
        **_prices(ticker),
        "lastQty": number(ZERO),
        **_best(book),
        **times,
        **ids,
    }


def _prices(ticker: Ticker) -> dict[str, str]:
    return {
        "openPrice": number(ticker.open),
        "highPrice": number(ticker.high),
        "lowPrice": number(ticker.low),
        "lastPrice": number(ticker.close),
        "volume": number(ticker.volume),
        "quoteVolume": number(rounded_product(ticker.volume, ticker.close)),
    }


async def book_ticker(call: Call) -> Any:
    """Return the best bid and ask of one or more symbols."""
    return _each(
        call,
        lambda symbol: {"symbol": symbol, **_best(_book(call, symbol, _price(call, symbol), 1))},
    )


async def depth(call: Call) -> Any:
    """Return the book that the session's slippage stands for."""
    symbol = call.symbol()
    levels = call.parameters.count("limit", 100, _MOST_LEVELS)
    book = _book(call, symbol, _price(call, symbol), levels)
    return {
        "lastUpdateId": call.session.step_number + 1,
        "bids": [_level(level) for level in book.bids],
        "asks": [_level(level) for level in book.asks],
    }


async def no_trades(call: Call) -> Any:
    """Return no trades: candles have none."""
    call.symbol()
    return []


def _price(call: Call, symbol: str) -> Decimal:
    return call.session.market.price(symbol, call.session.time)


def _book(call: Call, symbol: str, price: Decimal, levels: int) -> Depth:
    session = call.session
    tick = call.rules.of(symbol).filters.tick_size
    assert tick is not None, "rules have a tick for every symbol"
    return depth_at(
        session.config.costs,
        session.market.candles_of(symbol),
        price,
        session.time,
        tick=tick,
        levels=levels,
    )


def _best(book: Depth) -> dict[str, str]:
    bid = book.bids[0] if book.bids else Level(ZERO, ZERO)
    ask = book.asks[0] if book.asks else Level(ZERO, ZERO)
    return {
        "bidPrice": number(bid.price),
        "bidQty": number(bid.quantity),
        "askPrice": number(ask.price),
        "askQty": number(ask.quantity),
    }


def _level(level: Level) -> list[str]:
    return [number(level.price), number(level.quantity)]


def _each(call: Call, answer: Any) -> Any:
    """Return the answer for one symbol, or the list for several."""
    symbols = call.symbols()
    return answer(symbols[0]) if call.is_single() else [answer(symbol) for symbol in symbols]


_SYMBOLS = ("symbol", "symbols")

ENDPOINTS: dict[tuple[str, str], Endpoint] = {
    ("GET", "api/v3/ping"): reads(ping, "none"),
    ("GET", "api/v3/time"): reads(time, "none"),
    ("GET", "api/v3/exchangeInfo"): reads(exchange_info, "none", *_SYMBOLS),
    ("GET", "api/v3/klines"): reads(
        klines, "none", "symbol", "interval", "startTime", "endTime", "limit"
    ),
    ("GET", "api/v3/uiKlines"): reads(
        klines, "none", "symbol", "interval", "startTime", "endTime", "limit"
    ),
    ("GET", "api/v3/avgPrice"): reads(average_price, "none", "symbol"),
    ("GET", "api/v3/ticker/price"): reads(ticker_price, "none", *_SYMBOLS),
    ("GET", "api/v3/ticker/24hr"): reads(ticker_24h, "none", *_SYMBOLS, "type"),
    ("GET", "api/v3/ticker/tradingDay"): reads(trading_day, "none", *_SYMBOLS, "type"),
    ("GET", "api/v3/ticker"): reads(rolling_ticker, "none", *_SYMBOLS, "type", "windowSize"),
    ("GET", "api/v3/ticker/bookTicker"): reads(book_ticker, "none", *_SYMBOLS),
    ("GET", "api/v3/depth"): reads(depth, "none", "symbol", "limit"),
    ("GET", "api/v3/trades"): reads(no_trades, "none", "symbol", "limit"),
    ("GET", "api/v3/historicalTrades"): reads(no_trades, "none", "symbol", "limit", "fromId"),
    ("GET", "api/v3/aggTrades"): reads(
        no_trades, "none", "symbol", "limit", "fromId", "startTime", "endTime"
    ),
}
