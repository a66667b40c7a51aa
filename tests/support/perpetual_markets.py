"""Sessions on perpetuals, with prices written by hand."""

from collections.abc import Iterable, Sequence
from typing import Any

from candlestep.sandbox import Candles, FundingRates, Market, Session, SessionConfig
from candlestep.sandbox.clock import INTERVALS, MINUTE

BTC = "BTCUSDT-PERP"
ETH = "ETHUSDT-PERP"
BTC_TIERS = [
    {"floor": 0, "mmr": "0.004", "max_leverage": 150},
    {"floor": 300_000, "mmr": "0.005", "max_leverage": 100},
    {"floor": 800_000, "mmr": "0.0065", "max_leverage": 75},
    {"floor": 3_000_000, "mmr": "0.01", "max_leverage": 50},
    {"floor": 12_000_000, "mmr": "0.02", "max_leverage": 20},
]
"""Binance's tiers of BTCUSDT of 2026-09."""

Row = float | Sequence[float]


def bars(symbol: str, *rows: Row, start: int = 0, interval: str = "1m") -> Candles:
    """Return candles from ``start`` on; a row is open, high, low, close, or one flat price."""
    columns = [list(row) if isinstance(row, Sequence) else [row] * 4 for row in rows]
    length = INTERVALS[interval]
    opens, highs, lows, closes = zip(*columns, strict=True)
    return Candles(
        symbol=symbol,
        interval=interval,
        open_time=[start + place * length for place in range(len(columns))],
        open=opens,
        high=highs,
        low=lows,
        close=closes,
        volume=[1000.0] * len(columns),
    )


def perp_session(
    *candles: Candles,
    marks: Iterable[Candles] = (),
    funding: Iterable[FundingRates] = (),
    **settings: Any,
) -> Session:
    """Return a session from minute 1 to the end of the first series, at 10x without slippage."""
    rates = list(funding)
    defaults: dict[str, Any] = {
        "start_time": MINUTE,
        "end_time": candles[0].complete_time_of(-1),
        "starting_balance": 10_000,
        "market_type": "perp",
        "leverage": 10,
        "funding": bool(rates),
        "funding_rate_default": 0 if rates else None,
        "fee_rate": "0.0005",
        "slippage": {"model": "none"},
        "margin_tiers": BTC_TIERS,
        "allow_gaps": True,
    }
    return Session(SessionConfig(**defaults | settings), Market(candles, marks, rates))
