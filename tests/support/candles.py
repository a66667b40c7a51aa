"""Small series of candles, written by hand."""

from candlestep.sandbox import Candles
from candlestep.sandbox.clock import MINUTE


def minutes(symbol: str, *closes: float, start: int = 0) -> Candles:
    """Return minutes from ``start`` on, each opening at the close before, without wicks."""
    opens = [closes[0], *closes[:-1]]
    pairs = list(zip(opens, closes, strict=True))
    return Candles(
        symbol=symbol,
        interval="1m",
        open_time=[start + i * MINUTE for i in range(len(closes))],
        open=opens,
        high=[max(pair) for pair in pairs],
        low=[min(pair) for pair in pairs],
        close=closes,
        volume=[0.1] * len(closes),
    )


def flat(symbol: str, interval: str, **price_at: float) -> Candles:
    """Return flat candles: ``t60=5.0`` is one that opens at minute 60 with the price 5."""
    times = [int(name[1:]) * MINUTE for name in price_at]
    prices = list(price_at.values())
    return Candles(
        symbol=symbol,
        interval=interval,
        open_time=times,
        open=prices,
        high=prices,
        low=prices,
        close=prices,
        volume=prices,
    )
