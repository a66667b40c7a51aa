"""The market of a session in answers: prices, a day's ticker, candles."""

from typing import Any, Self

import msgspec

from candlestep.api.schemas.fields import Money, Time, money
from candlestep.api.schemas.response import Response
from candlestep.sandbox import Candle, Ticker, format_time


class PricesResponse(msgspec.Struct, frozen=True):
    prices: dict[str, Money]
    virtual_time: Time


class PriceResponse(msgspec.Struct, frozen=True):
    symbol: str
    price: Money
    virtual_time: Time


class TickerResponse(Response, frozen=True):
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
    def of(cls, ticker: Ticker, /, **fields: Any) -> Self:
        """Return the answer that shows a ticker."""
        return super().of(ticker, virtual_time=format_time(ticker.time), **fields)


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
