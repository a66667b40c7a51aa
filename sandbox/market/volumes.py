"""Volumes of candles as exact running totals, so that the sum of any span is one subtraction."""

from decimal import Decimal
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from candlestep.sandbox.market.fixed_point import FixedPoint, Units

VOLUME_WINDOW = 60
"""Number of candles in the average volume of the slippage model."""

_INT64_HEADROOM = 2**62

Integers = NDArray[np.int64]


class RecentVolume(msgspec.Struct, frozen=True, gc=False):
    """The exact volume of the latest candles of one interval, and their number."""

    total: Decimal
    candles: int


class VolumeTotals(NamedTuple):
    """Running totals of volume, so that ``(totals[j] - totals[i]) / 10 ** digits`` is exact."""

    totals: Units
    digits: int

    @classmethod
    def of(cls, volume: FixedPoint) -> "VolumeTotals":
        """Add up volumes, which must be at least one."""
        units, digits, largest = volume
        if largest * len(units) >= _INT64_HEADROOM:
            units = units.astype(object)
        return cls(_running_totals(units), digits)

    def of_rows(self, rows: Integers) -> Units:
        """Return the volume of each of these candles; no sum of them overflows."""
        return self.totals[rows + 1] - self.totals[rows]


class IntervalVolume:
    """The volumes of the candles of one interval."""

    def __init__(self, totals: VolumeTotals, rows: Integers | None = None) -> None:
        """Take the volumes of all candles, and the rows of this interval (None: all)."""
        self._totals, self._digits = totals
        self._rows = rows
        self._latest: tuple[int, RecentVolume] | None = None
        if rows is not None:
            self._totals = _running_totals(totals.of_rows(rows))

    def recent(self, stop: int) -> RecentVolume:
        """Return the volume of the last ``VOLUME_WINDOW`` candles before index ``stop`` of all.

        The latest one is kept: orders between the same two candles ask for it again.
        """
        latest = self._latest  # Read once: sessions in other threads may change it.
        if latest is not None and latest[0] == stop:
            return latest[1]
        recent = self._computed(stop)
        self._latest = stop, recent
        return recent

    def _computed(self, stop: int) -> RecentVolume:
        if self._rows is not None:
            stop = int(self._rows.searchsorted(stop))
        start = max(0, stop - VOLUME_WINDOW)
        total = self._totals.item(stop) - self._totals.item(start)
        return RecentVolume(Decimal(f"{total}e-{self._digits}"), stop - start)


def _running_totals(units: Units) -> Units:
    """Return the sums of the first 0, 1, 2, … of ``units``, which have at least one element."""
    return np.concatenate([units[:1] * 0, np.cumsum(units)])
