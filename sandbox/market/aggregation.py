"""Aggregation: the coarser candle to which each candle of a symbol belongs.

Candles of the interval itself stand for themselves, whenever they open. Finer ones are gathered in
the UTC buckets of ``clock.bucket_start``, and only if each opens and completes inside its bucket:
hourly candles that open at half past make no days.
"""

import numpy as np

from candlestep.sandbox.clock import bucket_start, format_time, interval_name
from candlestep.sandbox.errors import InvalidParameter
from candlestep.sandbox.market.candles import Candle, Candles, Floats, Integers
from candlestep.sandbox.market.fixed_point import as_floats
from candlestep.sandbox.money import ZERO, decimal_of


def gather(candles: Candles, rows: Integers, interval: int) -> tuple[Integers, Integers]:
    """Return when the candle of ``interval`` ms opens to which each of ``rows`` belongs.

    The rows must be of candles up to that interval, in order. Also return the places at which
    another such candle begins, as for ``reduceat``.
    """
    opens = candles.open_time[rows]
    starts = opens if candles.intervals == (interval,) else bucket_start(opens, interval)
    if len(candles.intervals) > 1 and interval in candles.intervals:
        is_itself = candles.complete_time[rows] - opens == interval
        starts[is_itself] = opens[is_itself]
    return starts, np.flatnonzero(np.diff(starts, prepend=starts[:1] - 1))


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
    if row >= len(candles) or int(candles.open_time[row]) > time:
        return None
    rows = np.array([row])
    if candles.complete_time_of(row) - int(candles.open_time[row]) > interval:
        return None
    opens, _ = gather(candles, rows, interval)
    opened, price = int(opens[0]), decimal_of(float(candles.open[row]))
    return Candle(opened, opened + interval, price, price, price, price, ZERO)
