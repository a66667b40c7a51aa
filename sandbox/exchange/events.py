"""Timed events: the kinds that exist, and the sequence of those at one instant.

At one instant, events happen by kind, in the sequence of this table:

| kind         | what happens                                   | symbol | subject             |
|--------------|------------------------------------------------|--------|---------------------|
| `COMPLETION` | a candle that may trigger an order is complete | its    | index of the candle |
| `FUNDING`    | a position pays or receives funding            | its    | row of the rates    |
| `MARGIN`     | positions may have too little margin           | one, or none for all cross positions | version of the search |
| `EXPIRY`     | a pending order expires                        | none   | id of the order     |
| `DATA_END`   | the last candle of a position's symbol is over | its    | none                |

Completions of one instant happen by open time of the candle, then by symbol; payments by symbol;
expiries by id.
"""

import heapq
from collections.abc import Callable
from typing import NamedTuple

COMPLETION = 0
FUNDING = 1
MARGIN = 2
EXPIRY = 3
DATA_END = 4

_FEW_STALE = 64


class Event(NamedTuple):
    """A time (ms) at which something may happen; sorts in the sequence of events."""

    time: int
    kind: int
    open_time: int = 0
    symbol: str = ""
    subject: int = 0


class EventQueue:
    """The future events, in a heap.

    An event stays in the heap even if what it announces can no longer happen; the exchange
    recognises that when its time comes.
    """

    def __init__(self) -> None:
        self.heap: list[Event] = []
        """The earliest event comes first. Change it only through the methods."""
        self._stale_expiries = 0

    def copy(self) -> "EventQueue":
        """Return an independent copy."""
        copied = EventQueue()
        copied.heap = self.heap.copy()
        copied._stale_expiries = self._stale_expiries
        return copied

    def add(self, event: Event) -> None:
        """Add an event. O(log n)."""
        heapq.heappush(self.heap, event)

    def pop(self) -> Event:
        """Remove and return the earliest event. O(log n)."""
        event = heapq.heappop(self.heap)
        if event.kind == EXPIRY:
            self._stale_expiries -= 1
        return event

    def count_stale_expiry(self, is_pending: Callable[[int], bool]) -> None:
        """Count one more expiry whose order has closed.

        Once they are more than half of the heap, all are removed, so that it cannot grow without
        bound; ``is_pending`` tells them by the id of their order.
        """
        self._stale_expiries += 1
        if self._stale_expiries > _FEW_STALE and 2 * self._stale_expiries > len(self.heap):
            self._stale_expiries = 0
            # In place: the heap is read while the exchange advances.
            self.heap[:] = [
                event for event in self.heap if event.kind != EXPIRY or is_pending(event.subject)
            ]
            heapq.heapify(self.heap)
