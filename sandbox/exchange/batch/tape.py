"""The candles of one symbol as whole numbers, and the latest of them at each step of a clock."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from candlestep.sandbox.clock import Clock, format_time, interval_name
from candlestep.sandbox.errors import InvalidParameter
from candlestep.sandbox.exchange.batch.exact import DIVISOR_BOUND
from candlestep.sandbox.market.candles import Candles
from candlestep.sandbox.market.fixed_point import fixed_point
from candlestep.sandbox.market.volumes import VOLUME_WINDOW

Integers = NDArray[np.int64]

NEVER = 2**62
"""A price above all others, for steps without a candle and for guards that are not set."""
MOST_PRICE_DIGITS = 16
PRICE_BOUND = 10**10
MOST_VOLUME_DIGITS = 10


class RecentVolumes(NamedTuple):
    """By index of a candle: the volume of the 60 candles before it, in units of 10 ** -digits."""

    totals: Integers
    digits: int
    first: int
    """The first candle before which there was any volume."""


class Tape:
    """The prices of a symbol in units of 10 ** -``digits``, by candle and by step."""

    def __init__(self, candles: Candles, clock: Clock) -> None:
        """Take the candles, at most one interval of the ``clock`` long, on its grid.

        Raises ``InvalidParameter`` for candles of several intervals, coarser than a step, between
        two steps, or of more digits than int64 holds. Linear.
        """
        require_on_grid(candles, clock)
        prices = fixed_point(
            np.concatenate([candles.open, candles.high, candles.low, candles.close])
        )
        if (
            prices.units.dtype == object
            or prices.digits > MOST_PRICE_DIGITS
            or prices.largest >= DIVISOR_BOUND
        ):
            raise InvalidParameter(
                "market",
                f"the prices of {candles.symbol} have more digits than int64 holds; round them",
            )
        if prices.largest >= PRICE_BOUND * 10**prices.digits:
            raise InvalidParameter(
                "market",
                f"{candles.symbol} has prices of {PRICE_BOUND:,} or more; quote it in larger units",
            )
        self.symbol = candles.symbol
        self.digits = prices.digits
        self.largest = prices.largest
        self.open, self.high, self.low, self.close = prices.units.reshape(4, -1)
        self.completions = candles.complete_time
        times = clock.start + clock.interval * np.arange(clock.total_steps + 1)
        self.row: Integers = candles.last_complete_at(times)
        """The last candle that is complete at each step; -1 before the first."""
        self.price: Integers = self.close[np.maximum(self.row, 0)]
        """The price at each step that has one."""
        counts = np.diff(self.row, prepend=self.row[0])
        self.most_candles = int(counts.max())
        """The most candles that complete in one step."""
        self.step_low, self.step_high = self._extremes(counts)

    def _extremes(self, counts: Integers) -> tuple[Integers, Integers]:
        """Return the lowest and the highest price of the candles complete since the step before.

        A step without a candle has extremes that nothing reaches. One step is added at the end.
        """
        low = np.full(len(self.row) + 1, NEVER)
        high = np.full(len(self.row) + 1, -1)
        steps = np.flatnonzero(counts)
        if len(steps):
            firsts = self.row[steps] - counts[steps] + 1
            stop = int(self.row[-1]) + 1
            low[steps] = np.minimum.reduceat(self.low[:stop], firsts)
            high[steps] = np.maximum.reduceat(self.high[:stop], firsts)
        return low, high


def require_on_grid(candles: Candles, clock: Clock) -> None:
    """Raise ``InvalidParameter`` unless each candle lies within a single step of the clock."""
    symbol, name = candles.symbol, interval_name(clock.interval)
    if len(candles.intervals) > 1:
        names = " and ".join(map(interval_name, candles.intervals))
        raise InvalidParameter(
            "market",
            f"{symbol} has candles of {names}; an environment takes those of one interval",
        )
    own = candles.intervals[0]
    if clock.interval % own:
        raise InvalidParameter(
            "interval",
            f"{name} cannot be made of the {interval_name(own)} candles of {symbol}",
        )
    strays = np.flatnonzero((candles.complete_time - clock.start) % own)
    if len(strays):
        raise InvalidParameter(
            "market",
            f"the candle of {symbol} that opens at {format_time(int(candles.open_time[strays[0]]))}"
            f" is complete between two steps of {name}; align the candles",
        )


def recent_volumes(candles: Candles) -> RecentVolumes:
    """Return the volumes that slippage depends on; raises ``InvalidParameter`` if int64 is too small."""
    totals, digits = candles.volume_totals
    stops = np.arange(len(totals))
    recent = totals - totals[np.maximum(stops - VOLUME_WINDOW, 0)]
    if digits > MOST_VOLUME_DIGITS or recent.max() >= DIVISOR_BOUND:
        raise InvalidParameter(
            "slippage",
            f"the volumes of {candles.symbol} have too many digits for the volume model; round"
            " them, or choose fixed_bps",
        )
    traded = candles.volume > 0
    first = int(traded.argmax()) + 1 if traded.any() else len(totals)
    return RecentVolumes(recent.astype(np.int64), digits, first)
