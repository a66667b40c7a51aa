"""The deterministic synthetic year that the benchmarks run on: 1-minute candles, two symbols."""

import numpy as np

from candlestep.sandbox import Candles

MINUTE = 60_000
YEAR = 365 * 24 * 60
START = 1_704_067_200_000
END = START + YEAR * MINUTE
SYMBOLS = {"BTCUSDT": 60_000.0, "ETHUSDT": 3_000.0}


def synthetic_year(symbol: str) -> Candles:
    """A random walk that stays within a third of where it began, prices to the cent."""
    random = np.random.default_rng(list(SYMBOLS).index(symbol))
    first = SYMBOLS[symbol]
    walk = np.sin(np.cumsum(random.normal(0, 0.002, YEAR)))
    close = (first * (1 + walk / 3)).round(2)
    opened = np.concatenate([[first], close[:-1]])
    reach = first * 0.0003
    return Candles(
        symbol=symbol,
        interval="1m",
        open_time=START + np.arange(YEAR) * MINUTE,
        open=opened,
        high=(np.maximum(opened, close) + random.exponential(reach, YEAR)).round(2),
        low=(np.minimum(opened, close) - random.exponential(reach, YEAR)).round(2),
        close=close,
        volume=random.lognormal(2, 1, YEAR).round(5),
    )
