"""The columns that charts are drawn from: chosen so that they are few, and that nothing is lost.

Candles are aggregated to the finest interval that fits, curves keep the extremes of every part, and
fills that are too many are gathered by candle, kind and side, so that their counts and sums stay.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from operator import attrgetter
from typing import NamedTuple

import numpy as np

from candlestep.sandbox.clock import INTERVALS, bucket_start
from candlestep.sandbox.exchange.orders import Fill
from candlestep.sandbox.market.aggregation import gather
from candlestep.sandbox.market.candles import Candles, Floats, Integers
from candlestep.sandbox.performance.charts import (
    MARKER_STYLES,
    MOST_CANDLES,
    MOST_MARKERS,
    ChartCandles,
    Curve,
    FillMarker,
)

_PLACES = {kind: place for place, kind in enumerate(MARKER_STYLES)}
_PARTS = 400
"""The parts of a curve whose extremes are kept; each is about three pixels wide on a page."""


class Range(NamedTuple):
    """The time that a chart shows, in milliseconds."""

    start: int
    end: int


def fitting_interval(candles: Candles, shown: Range, at_least: int = 0) -> int:
    """Return the finest interval in ms, from ``at_least`` on, of which a chart can show them all.

    It is never finer than the data. The coarsest there is, if even that has too many.
    """
    least = max(candles.intervals[0], at_least)
    lengths = [length for length in INTERVALS.values() if length >= least]
    return next(
        (length for length in lengths if (shown.end - shown.start) <= length * MOST_CANDLES),
        max(INTERVALS.values()),
    )


def candle_columns(candles: Candles, shown: Range, now: int, interval: int) -> ChartCandles:
    """Return the candles of ``interval`` ms that have a part in a range and are complete by ``now``.

    Linear in the candles that are aggregated.
    """
    first = int(candles.open_time.searchsorted(bucket_start(shown.start, interval)))
    end = shown.end
    if candles.intervals[0] < interval:
        end = min(bucket_start(shown.end - 1, interval) + interval, bucket_start(now, interval))
    stop = min(candles.last_complete(now) + 1, int(candles.open_time.searchsorted(end)))
    rows = np.arange(first, max(first, stop))
    if candles.intervals[-1] > interval:
        rows = rows[
            candles.completions(first, max(first, stop)) - candles.open_time[rows] <= interval
        ]
    if not len(rows):
        empty = np.empty(0)
        return ChartCandles(
            candles.symbol, interval, np.empty(0, np.int64), empty, empty, empty, empty
        )
    opens, firsts = gather(candles, rows, interval)
    lasts = rows[np.append(firsts[1:], len(rows)) - 1]
    return ChartCandles(
        candles.symbol,
        interval,
        opens[firsts],
        candles.open[rows[firsts]],
        np.maximum.reduceat(candles.high[rows], firsts),
        np.minimum.reduceat(candles.low[rows], firsts),
        candles.close[lasts],
    )


def fill_markers(fills: Sequence[Fill]) -> list[FillMarker]:
    """Return a marker for each fill."""
    return [
        FillMarker(
            fill.time,
            fill.side,
            float(fill.price),
            float(fill.quantity),
            None if fill.realized_pnl is None else float(fill.realized_pnl),
            1,
            fill.is_liquidation,
        )
        for fill in fills
    ]


def gathered_markers(
    markers: Sequence[FillMarker], shown: Range, interval: int
) -> list[FillMarker]:
    """Return the markers (of one symbol, in order) in a range: each up to 1,000.

    Beyond, those of one kind and side in one candle of ``interval`` ms become one, at the mean price.
    Their counts and sums add up to the fills.
    """
    first = bisect_left(markers, shown.start, key=attrgetter("time"))
    visible = markers[first : bisect_right(markers, shown.end, key=attrgetter("time"))]
    if len(visible) <= MOST_MARKERS:
        return list(visible)
    # A fill at the completion of a candle belongs to it.
    times = np.array([marker.time for marker in visible], dtype=np.int64) - 1
    kinds = np.array([2 * _PLACES[marker.kind] + (marker.side == "sell") for marker in visible])
    keys = 2 * len(_PLACES) * bucket_start(times, interval) + kinds
    places = np.argsort(keys, kind="stable")
    firsts = np.flatnonzero(np.diff(keys[places], prepend=keys[places[0]] - 1))
    return _gathered([visible[place] for place in places.tolist()], firsts)


def thinned(curve: Curve, shown: Range) -> Curve:
    """Return a curve within a range, with at most about 2,000 points.

    It keeps the value at the start of the range, and the highest equity, the lowest, and the
    deepest drawdown of every part.
    """
    first = max(0, int(np.searchsorted(curve.time, shown.start, "right")) - 1)
    stop = int(np.searchsorted(curve.time, shown.end, "right"))
    places = np.arange(first, stop)
    if len(places) > MOST_CANDLES:
        places = first + _extremes(curve.equity[first:stop], curve.drawdown[first:stop])
    times = curve.time[places]
    if len(times):
        times = np.maximum(times, shown.start)
    exposure = None if curve.exposure is None else curve.exposure[places]
    return Curve(times, curve.equity[places], curve.drawdown[places], exposure)


def _gathered(markers: Sequence[FillMarker], firsts: Integers) -> list[FillMarker]:
    """Return one marker for those from each of ``firsts`` to the next, at the time of the first."""
    times, sides, price, quantity, pnl, fills, forced = zip(*markers, strict=True)
    quantities = np.add.reduceat(np.array(quantity), firsts)
    prices = np.add.reduceat(np.array(quantity) * np.array(price), firsts) / quantities
    # A buy of a spot account realizes nothing: it has no PnL, rather than one of 0.
    realized = np.array(pnl, dtype=np.float64)
    is_missing = np.isnan(realized)
    pnls = np.add.reduceat(np.where(is_missing, 0.0, realized), firsts)
    has_pnl = np.logical_or.reduceat(~is_missing, firsts)
    counts = np.add.reduceat(np.array(fills), firsts)
    places = firsts.tolist()
    return list(
        map(
            FillMarker,
            [times[place] for place in places],
            [sides[place] for place in places],
            prices.tolist(),
            quantities.tolist(),
            [pnl if has else None for pnl, has in zip(pnls.tolist(), has_pnl, strict=True)],
            counts.tolist(),
            [forced[place] for place in places],
        )
    )


def _extremes(equity: Floats, drawdown: Floats) -> Integers:
    """Return the places of the extremes in each of 400 parts, and of the first and last value."""
    lows, highs, depths = _in_parts(equity), _in_parts(-equity), _in_parts(drawdown)
    last = len(equity) - 1
    return np.unique(np.concatenate([[0, last], lows, highs, depths]).clip(max=last))


def _in_parts(values: Floats) -> Integers:
    """Return the place of the lowest value in each of 400 parts; beyond the end where one is empty."""
    size = -(-len(values) // _PARTS)
    # Padded with the last value: the lowest of a part stands before what repeats it.
    parts = np.pad(values, (0, size * _PARTS - len(values)), mode="edge").reshape(_PARTS, size)
    places: Integers = parts.argmin(axis=1) + size * np.arange(_PARTS)
    return places
