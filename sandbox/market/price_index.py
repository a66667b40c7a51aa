"""The search for the first candle that reaches a price, in time logarithmic in the span."""

import numpy as np
from numpy.typing import NDArray

_BLOCK = 256

Floats = NDArray[np.float64]


class PriceIndex:
    """Lows and highs under a pyramid of block minima and maxima, 256 to one."""

    def __init__(self, low: Floats, high: Floats) -> None:
        """Index candles by their ``low`` and ``high``; linear, about 1 % of their memory."""
        self._lows = [low]
        self._highs = [high]
        while len(self._lows[-1]) > _BLOCK:
            starts = np.arange(0, len(self._lows[-1]), _BLOCK)
            self._lows.append(np.minimum.reduceat(self._lows[-1], starts))
            self._highs.append(np.maximum.reduceat(self._highs[-1], starts))

    def first_touch(self, below: float, above: float, start: int, stop: int) -> int:
        """Return the first candle in ``[start, stop)`` with low ≤ ``below`` or high ≥ ``above``.

        Returns ``stop`` if there is none. ``below=-inf`` or ``above=inf`` searches one side only.
        Logarithmic in the span: at most one block of each level is scanned on the way up and down.

        >>> index = PriceIndex(np.array([9.0, 8.0, 7.0]), np.array([10.0, 11.0, 8.0]))
        >>> index.first_touch(7.5, np.inf, 0, 3)
        2
        """
        level = 0
        position = start
        while True:
            block_end = (position // _BLOCK + 1) * _BLOCK
            index = self._scan(level, below, above, position, block_end)
            if index is not None:
                break
            level += 1
            if level == len(self._lows):
                return stop
            position = block_end // _BLOCK
            if position * _BLOCK**level >= stop:
                return stop
        while level:
            level -= 1
            index = self._scan(level, below, above, index * _BLOCK, (index + 1) * _BLOCK)
            assert index is not None, "a block that reaches the price has a member that does"
        return min(index, stop)

    def _scan(self, level: int, below: float, above: float, start: int, stop: int) -> int | None:
        """Return the first position of ``level`` in ``[start, stop)`` that reaches either price."""
        reached = self._lows[level][start:stop] <= below
        reached |= self._highs[level][start:stop] >= above
        if not reached.size:
            return None
        first = int(reached.argmax())
        return start + first if reached[first] else None
