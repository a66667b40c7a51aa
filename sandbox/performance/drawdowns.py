"""Drawdowns: how far equity is below its peak at every instant, and the worst stretches below one.

The starting balance is the first peak, as for ``metrics.max_drawdown``: the deepest drawdown here is
that figure, and the longest is its duration.
"""

import msgspec
import numpy as np

from candlestep.sandbox.market.candles import Floats
from candlestep.sandbox.performance.metrics import EquitySeries


class DrawdownPeriod(msgspec.Struct, frozen=True):
    """A stretch in which equity stays below an earlier peak. Times are in milliseconds."""

    peak_time: int
    """The last time at which equity was at the peak."""
    trough_time: int
    """The first time of the lowest equity."""
    recovery_time: int | None
    """The first time at which equity is back at the peak; None if it never is."""
    depth_pct: float
    """The fall from the peak to the lowest equity, in percent of the peak."""
    amount: float
    """The same fall in quote currency."""
    duration: int
    """The milliseconds from the first instant below the peak to the recovery, or to the end."""


def underwater(series: EquitySeries, starting_balance: float) -> Floats:
    """Return equity relative to its peak so far, in percent: 0 at a peak, negative below. Linear."""
    peaks = _peaks(series, starting_balance)
    depths: Floats = (series.equity / peaks - 1) * 100
    return depths


def worst_drawdowns(
    series: EquitySeries, starting_balance: float, count: int = 5
) -> list[DrawdownPeriod]:
    """Return the ``count`` deepest drawdowns, the deepest first. Linear in the series."""
    peaks = _peaks(series, starting_balance)
    below = series.equity < peaks
    turns = np.flatnonzero(below[1:] != below[:-1]) + 1
    edges = [*([0] if below[0] else []), *turns.tolist(), *([len(below)] if below[-1] else [])]
    firsts, stops = edges[::2], edges[1::2]
    if not firsts:
        return []
    # Equity between two drawdowns is at a peak, so that a minimum over it as well is the same.
    depths = np.minimum.reduceat(series.equity / peaks, np.array(firsts))
    deepest = np.argsort(depths, kind="stable")[:count]
    return [_period(series, peaks, firsts[place], stops[place]) for place in deepest.tolist()]


def _peaks(series: EquitySeries, starting_balance: float) -> Floats:
    peaks: Floats = np.maximum.accumulate(series.equity)
    return np.maximum(peaks, starting_balance, out=peaks)


def _period(series: EquitySeries, peaks: Floats, first: int, stop: int) -> DrawdownPeriod:
    """Return the drawdown at the places from ``first`` up to ``stop``, where equity is back."""
    trough = first + int(series.equity[first:stop].argmin())
    peak, lowest = float(peaks[first]), float(series.equity[trough])
    has_recovered = stop < len(series.time)
    ended_at = int(series.time[stop if has_recovered else -1])
    return DrawdownPeriod(
        peak_time=int(series.time[max(0, first - 1)]),
        trough_time=int(series.time[trough]),
        recovery_time=ended_at if has_recovered else None,
        depth_pct=(peak - lowest) / peak * 100,
        amount=peak - lowest,
        duration=ended_at - int(series.time[first]),
    )
