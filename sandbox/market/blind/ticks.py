"""The grids on which prices and volumes lie, and how they are blurred.

Prices are whole numbers of ticks. On any scale, a search for the number of ticks of which all are
whole multiples finds it, and with it the digits of the price, rounded or not: of three hundred
closes of ETH, from 200,000 candidates, the right one. So each level is moved by a part of a tick of
its own, by less than half of it: the order of prices stays, and no grid is left. Volumes are whole
numbers of lots, and would tell the factor by which they are divided in the same way.
"""

from hashlib import sha256
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from candlestep.sandbox.market.blind.rounding import Floats
from candlestep.sandbox.market.fixed_point import fixed_point

_WORD_BYTES = 8
_FRACTION_BITS = 53
# The finaliser of SplitMix64.
_FIRST_MULTIPLIER = np.uint64(0xBF58476D1CE4E5B9)
_SECOND_MULTIPLIER = np.uint64(0x94D049BB133111EB)
_SHIFTS = (np.uint64(30), np.uint64(27), np.uint64(31))


class Ticks(NamedTuple):
    """The grid of the prices of one series: multiples of ``units / scale``."""

    units: int
    scale: float
    key: int
    """The key of the moves of levels."""

    @classmethod
    def of(cls, seed: int, pair: str, prices: Floats) -> "Ticks | None":
        """Return the grid of prices; None if they have so many digits that there is none."""
        if not len(prices):
            return None
        units, digits, _ = fixed_point(prices)
        if units.dtype == object:
            return None
        key = sha256(f"candlestep/{seed}/ticks/{pair}".encode()).digest()[:_WORD_BYTES]
        return cls(int(np.gcd.reduce(units)), 10.0**digits, int.from_bytes(key))

    @classmethod
    def of_volumes(cls, seed: int, pair: str, volumes: Floats) -> "Ticks | None":
        """Return the grid of volumes; one that is coarser than a thousandth of them is left finer."""
        grid = cls.of(seed, f"{pair}/volume", volumes)
        if grid is None:
            return None
        largest = int(np.rint(volumes.max() * grid.scale))
        return grid._replace(units=max(1, min(grid.units, largest // 1000)))

    def blurred(self, prices: Floats) -> Floats:
        """Return prices of the grid, each level moved by less than half a tick."""
        levels = np.rint(prices * (self.scale / self.units)).astype(np.int64)
        moves = (_mixed(levels, self.key) >> np.uint64(64 - _FRACTION_BITS)) / 2.0**_FRACTION_BITS
        blurred: Floats = (levels + (moves - 0.5)) * self.units / self.scale
        return blurred


def _mixed(levels: NDArray[np.int64], key: int) -> NDArray[np.uint64]:
    """Return a word for each level, of which every bit depends on all bits of level and key."""
    words = levels.astype(np.uint64) ^ np.uint64(key)
    words = (words ^ (words >> _SHIFTS[0])) * _FIRST_MULTIPLIER
    words = (words ^ (words >> _SHIFTS[1])) * _SECOND_MULTIPLIER
    return words ^ (words >> _SHIFTS[2])
