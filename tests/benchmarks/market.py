"""The synthetic year that the benchmarks run on: minute candles of two symbols, always the same."""

import numpy as np

from candlestep.sandbox import Candles

MINUTE = 60_000
YEAR = 365 * 24 * 60
START = 1_704_067_200_000
END = START + YEAR * MINUTE
SYMBOLS = {"BTCUSDT": 60_000.0, "ETHUSDT": 3_000.0}


def synthetic_year(symbol: str) -> Candles:
    """Return a random walk that stays within a third of its first price, in whole cents."""
    random = np.random.default_rng(list(SYMBOLS).index(symbol))
    first = SYMBOLS[symbol]
    walk = np.sin(np.cumsum(random.normal(0, 0.002, YEAR)))
    close = (first * (1 + walk / 3)).round(2)
    opens = np.concatenate([[first], close[:-1]])
    reach = first * 0.0003
    return Candles(
        symbol=symbol,
        interval="1m",
        open_time=START + np.arange(YEAR) * MINUTE,
        open=opens,
        high=(np.maximum(opens, close) + random.exponential(reach, YEAR)).round(2),
        low=(np.minimum(opens, close) - random.exponential(reach, YEAR)).round(2),
        close=close,
        volume=random.lognormal(2, 1, YEAR).round(5),
    )
