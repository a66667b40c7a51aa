"""Random candles for environments: any number of digits, gaps, and prices from 1e-8 to 1e6."""

from collections.abc import Sequence

import numpy as np
from hypothesis import strategies as st

from candlestep.sandbox import Candles, Market
from candlestep.sandbox.exchange.batch.exact import Floats

MINUTE = 60_000
START = 1_735_689_600_000


def tape(
    seed: int,
    candles: int = 60,
    *,
    symbol: str = "BTCUSDT",
    level: float = 100.0,
    digits: int = 2,
    volatility: float = 0.01,
    gaps: float = 0.0,
    interval: int = MINUTE,
    volume: float = 5.0,
) -> Candles:
    """Return a random walk around ``level`` with at most ``digits`` decimal places."""
    random = np.random.default_rng(seed)
    least = 10.0**-digits

    def rounded(prices: Floats) -> Floats:
        return np.asarray(np.round(np.maximum(prices, least), digits))

    closes = level * np.exp(np.cumsum(random.normal(0, volatility, candles)))
    opens = np.append(level, closes[:-1]) * np.exp(random.normal(0, volatility / 4, candles))
    spread = np.exp(np.abs(random.normal(0, volatility / 2, (2, candles))))
    opens, closes = rounded(opens), rounded(closes)
    highs = rounded(np.maximum(opens, closes) * spread[0])
    lows = rounded(np.minimum(opens, closes) / spread[1])
    volumes = np.round(random.exponential(volume, candles), 3)
    volumes[random.random(candles) < 0.1] = 0
    kept = random.random(candles) >= gaps
    kept[[0, -1]] = True
    return Candles(
        symbol=symbol,
        interval=interval // 1000,
        open_time=(START + interval * np.arange(candles))[kept],
        open=opens[kept],
        high=np.maximum(highs, np.maximum(opens, closes))[kept],
        low=np.minimum(lows, np.minimum(opens, closes))[kept],
        close=closes[kept],
        volume=volumes[kept],
    )


@st.composite
def tapes(draw: st.DrawFn, symbols: Sequence[str] = ("BTCUSDT",), candles: int = 60) -> Market:
    """Draw a market of symbols whose prices lie anywhere from 1e-8 to 1e6."""
    return Market(
        [
            tape(
                draw(st.integers(0, 2**32)),
                candles,
                symbol=symbol,
                level=(level := 10.0 ** draw(st.integers(-7, 5))),
                digits=draw(st.integers(max(0, int(-np.log10(level)) + 1), 8)),
                volatility=draw(st.sampled_from([0.0005, 0.01, 0.2])),
                gaps=draw(st.sampled_from([0.0, 0.3])),
                volume=draw(st.sampled_from([0.01, 5.0, 1e6])),
            )
            for symbol in symbols
        ]
    )
