"""The search for the first candle that reaches a price, in time logarithmic in the span."""

from math import inf
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_BLOCK = 256
_SLACK = 1e-12
"""Share of a price by which a bound is widened that is computed in floats."""

Floats = NDArray[np.float64]


class Retreat(NamedTuple):
    """A way back from the best price: a fall to ``share`` of it, less ``amount``.

    Or, if not ``falls``, a rise from the lowest price, to a share of it and an amount more.
    """

    share: float
    amount: float
    falls: bool


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

    def first_retreat(self, best: float, retreat: Retreat, start: int) -> tuple[int, float]:
        """Return the first candle from ``start`` on that may retreat from the best price.

        That is the best of ``best`` and of all candles since ``start``, with the candle itself.
        With it comes the best price before it; the number of candles if there is none.

        >>> index = PriceIndex(np.array([9.0, 11.0, 9.5]), np.array([10.0, 12.0, 11.5]))
        >>> index.first_retreat(9.0, Retreat(share=1.0, amount=2.0, falls=True), 0)
        (2, 12.0)
        """
        length, following = len(self._lows[0]), start // _BLOCK + 1
        reached, bests = self._retreats(0, retreat, best, start, following * _BLOCK)
        if reached.size:
            first = int(reached[0])
            return start + first, float(bests[first - 1]) if first else best
        best = float(bests[-1]) if bests.size else best
        if following * _BLOCK >= length:
            return length, best
        blocks, bests_of_blocks = self._retreats(1, retreat, best, following, length)
        for block in blocks:
            before = float(bests_of_blocks[block - 1]) if block else best
            opens = (following + int(block)) * _BLOCK
            reached, bests = self._retreats(0, retreat, before, opens, opens + _BLOCK)
            if reached.size:
                first = int(reached[0])
                return opens + first, float(bests[first - 1]) if first else before
        return length, float(bests_of_blocks[-1])

    def _retreats(
        self, level: int, retreat: Retreat, best: float, start: int, stop: int
    ) -> tuple[NDArray[np.int64], Floats]:
        """Return the positions of ``level`` from ``start`` on that retreat so far, less ``start``.

        With them the best price after each position.
        """
        lows, highs = self._lows[level][start:stop], self._highs[level][start:stop]
        if retreat.falls:
            bests = np.maximum(np.maximum.accumulate(highs), best)
            reached = lows <= bests * (retreat.share + _SLACK) - retreat.amount
        else:
            bests = np.minimum(np.minimum.accumulate(lows), best)
            reached = highs >= bests * (retreat.share - _SLACK) + retreat.amount
        return np.flatnonzero(reached), bests

    def _scan(self, level: int, below: float, above: float, start: int, stop: int) -> int | None:
        """Return the first position of ``level`` in ``[start, stop)`` that reaches either price."""
        if above == inf:
            reached = self._lows[level][start:stop] <= below
        else:
            reached = self._highs[level][start:stop] >= above
            if below != -inf:
                reached |= self._lows[level][start:stop] <= below
        if not reached.size:
            return None
        first = int(reached.argmax())
        return start + first if reached[first] else None
