"""The answers of a server about the market of a session, and the values that they stand for."""

from decimal import Decimal

import msgspec

from candlestep.api.client.times import milliseconds
from candlestep.sandbox import Candle, Ticker


class PricesAnswer(msgspec.Struct):
    prices: dict[str, Decimal]


class PriceAnswer(msgspec.Struct):
    price: Decimal


class TickerAnswer(msgspec.Struct):
    symbol: str
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    price_change: Decimal
    price_change_pct: Decimal
    virtual_time: str

    def ticker(self) -> Ticker:
        """Return the last 24 hours."""
        return Ticker(
            self.symbol,
            milliseconds(self.virtual_time),
            self.open,
            self.high,
            self.low,
            self.close,
            self.volume,
            self.price_change,
            self.price_change_pct,
        )


class CandleAnswer(msgspec.Struct):
    open_time: str
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal

    def candle(self, interval: int) -> Candle:
        """Return the candle of an interval in milliseconds."""
        opens = milliseconds(self.open_time)
        return Candle(
            opens, opens + interval, self.open, self.high, self.low, self.close, self.volume
        )


class CandlesAnswer(msgspec.Struct):
    interval: str
    candles: list[CandleAnswer]
