"""Bars: the complete candles of one timeframe, as the columns of floats behind indicators."""

from typing import NamedTuple

import numpy as np

from candlestep.sandbox.clock import Clock, interval_name
from candlestep.sandbox.errors import InvalidParameter
from candlestep.sandbox.market.aggregation import gather, require_whole, volumes
from candlestep.sandbox.market.candles import PRICES, Candles, Floats, Integers


class Bars(NamedTuple):
    """Candles of one symbol and one interval in order of time; times in milliseconds.

    A row must not be read before its ``complete_time``.
    """

    symbol: str
    complete_time: Integers
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats


class SessionRows(NamedTuple):
    """The rows of bars that complete within a session, while orders can still be placed."""

    first: int
    stop: int
    steps: Integers
    """First step at which each row in ``[first, stop)`` is complete."""


def aggregate_bars(candles: Candles, interval: int) -> Bars:
    """Return the candles of ``interval`` milliseconds, aggregated from finer ones where needed.

    As in ``Market.candles``, periods for which the data has only coarser candles are left out, and
    ``InvalidParameter`` is raised if candles straddle the bounds of coarser ones. Every number
    depends only on the finer candles inside its row. Linear.
    """
    if candles.intervals == (interval,):
        columns = (getattr(candles, name) for name in PRICES)
        return Bars(candles.symbol, candles.complete_time, *columns)
    rows = np.flatnonzero(candles.complete_time - candles.open_time <= interval)
    if not len(rows):
        raise InvalidParameter(
            "timeframe",
            f"{interval_name(interval)} is finer than the data of {candles.symbol}, which is"
            f" {interval_name(candles.intervals[0])}; choose that or a coarser one",
        )
    require_whole(candles, interval, "timeframe")
    opens, firsts = gather(candles, rows, interval)
    lasts = np.append(firsts[1:], len(rows)) - 1
    return Bars(
        candles.symbol,
        opens[firsts] + interval,
        candles.open[rows[firsts]],
        np.maximum.reduceat(candles.high[rows], firsts),
        np.minimum.reduceat(candles.low[rows], firsts),
        candles.close[rows[lasts]],
        volumes(candles, rows, firsts),
    )


def session_rows(bars: Bars, clock: Clock) -> SessionRows:
    """Return the rows of ``bars`` that complete from the session's start on, and before its last step."""
    steps = -((clock.start - bars.complete_time) // clock.interval)
    first = int(np.searchsorted(bars.complete_time, clock.start))
    stop = int(np.searchsorted(steps, clock.total_steps))
    return SessionRows(first, max(first, stop), steps[first:stop])
