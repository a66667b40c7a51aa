"""The market of a session in answers: prices, a day's ticker, candles."""

from typing import Annotated, Any, Self

import msgspec
from msgspec import UNSET, Meta

from candlestep.api.schemas.fields import Money, Time, money
from candlestep.api.schemas.prices import MarkPricesJson, PricesJson
from candlestep.api.schemas.response import Response
from candlestep.sandbox import Candle, Ticker, format_time
from candlestep.sandbox.market.funding import FundingRow


class PricesResponse(msgspec.Struct, frozen=True):
    prices: PricesJson
    virtual_time: Time
    mark_prices: MarkPricesJson = UNSET


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


class FundingRateResponse(Response, frozen=True):
    time: Time
    rate: Annotated[
        Money,
        Meta(description="As a fraction of the notional: what a long pays and a short receives."),
    ]
    interval_seconds: int
    mark: Annotated[
        Money | None, Meta(description="The mark price of the settlement, if it was imported.")
    ]

    @classmethod
    def of(cls, row: FundingRow, /, **fields: Any) -> Self:
        """Return the answer that shows a settlement."""
        return super().of(row, interval_seconds=row.interval // 1000, **fields)


class FundingRatesResponse(msgspec.Struct, frozen=True):
    symbol: str
    rates: list[FundingRateResponse]
    count: int
    total: Annotated[int, Meta(description="The number of all settlements so far.")]
    next_time: Annotated[
        Time | None,
        Meta(description="The time of the next settlement, by the interval of the last one."),
    ]
