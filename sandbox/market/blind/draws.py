"""Draws from a seed that are the same on every machine and in every version."""

from collections.abc import Sequence
from hashlib import sha256
from typing import TypeVar

_DRAW_BYTES = 8
_DRAWS = 2 ** (8 * _DRAW_BYTES)

Item = TypeVar("Item")


class Draws:
    """An endless row of whole numbers, of its own for each seed and each purpose.

    The n-th is the start of the SHA-256 of seed, purpose and n, so that it depends on no library.
    """

    def __init__(self, seed: int, purpose: str) -> None:
        self._name = f"candlestep/{seed}/{purpose}"
        self._count = 0

    def below(self, bound: int) -> int:
        """Draw a whole number from 0 to ``bound - 1``, all of them equally likely."""
        while True:
            text = f"{self._name}/{self._count}".encode()
            self._count += 1
            number = int.from_bytes(sha256(text).digest()[:_DRAW_BYTES])
            if number < _DRAWS - _DRAWS % bound:
                return number % bound

    def shuffled(self, items: Sequence[Item]) -> list[Item]:
        """Return ``items`` in a drawn order, all orders equally likely."""
        order = list(items)
        for place in range(len(order) - 1, 0, -1):
            other = self.below(place + 1)
            order[place], order[other] = order[other], order[place]
        return order
