"""The points of a path within one candle."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

from tests.support.naive_path import CLOSE, FIRST, OPEN, points
from tests.support.oracle import PRICE_PLACES, Candle, rounded


def leg_of(candle: Candle, leg: int) -> tuple[Decimal, Decimal]:
    """Return where a leg begins and where it ends."""
    turning = points(candle)
    return turning[leg - FIRST], turning[leg]


def along(candle: Candle, leg: int, fraction: Fraction) -> Decimal:
    """Return the point of a path at a fraction of a leg, at 16 places."""
    if leg == OPEN:
        return candle.open
    if leg == CLOSE:
        return candle.close
    start, end = leg_of(candle, leg)
    return rounded(Fraction(start) + fraction * Fraction(end - start), PRICE_PLACES)
