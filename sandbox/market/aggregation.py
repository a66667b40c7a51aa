"""Aggregation: the coarser candle to which each candle of a symbol belongs.

Candles of the interval itself stand for themselves, whenever they open. Finer ones are gathered in
the UTC buckets of ``clock.bucket_start``, and only if each opens and completes inside its bucket:
hourly candles that open at half past make no days.
"""

from bisect import bisect_right
from decimal import Decimal
from itertools import pairwise

import numpy as np

from candlestep.sandbox.clock import bucket_start, format_time, interval_name
from candlestep.sandbox.errors import InvalidParameter
from candlestep.sandbox.market.candles import Candle, Candles, Floats, Integers
from candlestep.sandbox.market.fixed_point import as_floats
from candlestep.sandbox.money import ZERO, decimal_of

_FEW_ROWS = 256
"""The rows up to which Python's lists are faster than arrays."""


def gather(candles: Candles, rows: Integers, interval: int) -> tuple[Integers, Integers]:
    """Return when the candle of ``interval`` ms opens to which each of ``rows`` belongs.

    The rows must be of candles up to that interval, in order. Also return the places at which
    another such candle begins, as for ``reduceat``.
    """
    starts = starts_of(candles, rows, interval)
    return starts, np.flatnonzero(np.diff(starts, prepend=starts[:1] - 1))


def starts_of(candles: Candles, rows: Integers | slice, interval: int) -> Integers:
    """Return when the candle opens to which each of ``rows`` belongs, as ``gather`` does."""
    opens: Integers = candles.open_time[rows]
    starts = opens if candles.intervals == (interval,) else bucket_start(opens, interval)
    if len(candles.intervals) > 1 and interval in candles.intervals:
        is_itself = candles.complete_time[rows] - opens == interval
        starts[is_itself] = opens[is_itself]
    return starts


def aggregated(candles: Candles, rows: Integers, interval: int) -> list[Candle]:
    """Return the candles of ``interval`` ms that these rows of ``candles`` make, in decimals."""
    if len(rows) <= _FEW_ROWS:
        return _aggregated_few(candles, rows, interval)
    opens, firsts = gather(candles, rows, interval)
    result = []
    for first, stop in pairwise([*firsts, len(rows)]):
        members = rows[first:stop]
        open_time = int(opens[first])
        result.append(
            Candle(
                open_time,
                open_time + interval,
                decimal_of(float(candles.open[members[0]])),
                decimal_of(float(candles.high[members].max())),
                decimal_of(float(candles.low[members].min())),
                decimal_of(float(candles.close[members[-1]])),
                volume_of(candles, int(members[0]), int(members[-1]) + 1),
            )
        )
    return result


def _aggregated_few(candles: Candles, rows: Integers, interval: int) -> list[Candle]:
    """Return what ``aggregated`` does: for a few rows, lists are several times as fast."""
    if not len(rows):
        return []
    indices = rows.tolist()
    follow = indices[-1] - indices[0] == len(indices) - 1
    part: slice | Integers = slice(indices[0], indices[-1] + 1) if follow else rows
    starts = starts_of(candles, part, interval).tolist()
    highs, lows = candles.high[part].tolist(), candles.low[part].tolist()
    result = []
    first = 0
    while first < len(starts):
        start = starts[first]
        stop = bisect_right(starts, start, first)
        result.append(
            Candle(
                start,
                start + interval,
                decimal_of(float(candles.open[indices[first]])),
                decimal_of(max(highs[first:stop])),
                decimal_of(min(lows[first:stop])),
                decimal_of(float(candles.close[indices[stop - 1]])),
                volume_of(candles, indices[first], indices[stop - 1] + 1),
            )
        )
        first = stop
    return result


def volume_of(candles: Candles, start: int, stop: int) -> Decimal:
    """Return the exact volume of the candles in ``[start, stop)``, without trailing zeros."""
    totals, digits = candles.volume_totals
    total = int(totals[stop] - totals[start])
    # The scale depends on the whole series, so showing it would reveal later candles.
    while digits and total % 10 == 0:
        total, digits = total // 10, digits - 1
    return Decimal(f"{total}e-{digits}")


def volumes(candles: Candles, rows: Integers, firsts: Integers) -> Floats:
    """Return the volume of each coarser candle: the exact sum, rounded once to the nearest float.

    ``firsts`` are the places in ``rows`` at which each begins.
    """
    if len(firsts) == len(rows):
        return candles.volume[rows]
    totals = candles.volume_totals
    return as_floats(np.add.reduceat(totals.of_rows(rows), firsts), totals.digits)


def is_straddled(candles: Candles, interval: int, time: int | None = None) -> bool:
    """Return whether a finer candle that has opened by ``time`` lies in two buckets of ``interval``.

    That does not matter before any finer candle is complete. Without a time, all candles count.
    """
    straddling = candles.first_straddling(interval)
    if straddling is None or time is None:
        return straddling is not None
    finest = candles.finest_complete(time)
    return straddling.open_time <= time and finest is not None and finest < interval


def shown_interval(candles: Candles, interval: int, time: int) -> int:
    """Return ``interval``, or that of the data by ``time`` if it is coarser or does not fit in it."""
    finest = candles.finest_complete(time) or 0
    return finest if is_straddled(candles, interval, time) else max(finest, interval)


def require_whole(candles: Candles, interval: int, field: str, time: int | None = None) -> None:
    """Raise ``InvalidParameter`` naming ``field`` if ``interval`` ``is_straddled``."""
    straddling = candles.first_straddling(interval)
    if straddling is not None and is_straddled(candles, interval, time):
        name, own = interval_name(interval), interval_name(straddling.interval)
        raise InvalidParameter(
            field,
            f"{name} cannot be made of the {own} candles of {candles.symbol}: the one that opens at"
            f" {format_time(straddling.open_time)} lies in two periods of {name} (UTC); use {own}",
        )


def rows_between(
    candles: Candles, start: int | None, end: int, interval: int, time: int, limit: int
) -> Integers:
    """Return the indices of the complete candles that ``limit`` coarser ones are made of, at least.

    Those are the first that open from ``start`` on, or else the last that open up to ``end``.
    """
    after = bucket_start(end, interval) + interval
    stop = min(int(candles.open_time.searchsorted(after)), candles.last_complete(time) + 1)
    if start is not None and len(candles.intervals) == 1 and candles.intervals[0] < interval:
        # What opens before that belongs to a candle that opens before the start.
        start = bucket_start(start + interval - 1, interval)
    first = 0 if start is None else int(candles.open_time.searchsorted(start))
    if candles.intervals[-1] > interval:
        rows = np.arange(first, stop)
        return rows[candles.completions(first, stop) - candles.open_time[rows] <= interval]
    # One more, because the first of them may belong to a candle that is left out.
    most = (limit + 1) * -(-interval // candles.intervals[0])
    if start is None:
        return np.arange(max(0, stop - most), stop)
    return np.arange(first, min(stop, first + most))


def just_opened(candles: Candles, interval: int, time: int) -> Candle | None:
    """Return the candle of ``interval`` ms to which the one belongs that runs at ``time``.

    It has the open alone. None if no candle of at most that interval has opened and is not complete.
    """
    row = candles.last_complete(time) + 1
    if row >= len(candles):
        return None
    opened = int(candles.open_time[row])
    length = candles.complete_time_of(row) - opened
    if opened > time or length > interval:
        return None
    opened = opened if length == interval else bucket_start(opened, interval)
    price = decimal_of(float(candles.open[row]))
    return Candle(opened, opened + interval, price, price, price, price, ZERO)
