"""Matching: which candle may trigger pending orders next.

Candles are searched in floats, which skips those that cannot reach any trigger; ``PathWalk`` then
decides in decimals, order by order, along the path of the price within one candle.
"""

from copy import copy
from decimal import Decimal

from candlestep.sandbox.exchange.book import Book
from candlestep.sandbox.exchange.events import COMPLETION, Event
from candlestep.sandbox.exchange.orders import Order
from candlestep.sandbox.exchange.trailing import next_trail
from candlestep.sandbox.market.candles import Candles
from candlestep.sandbox.money import largest_float_up_to, smallest_float_from


class CandleWatch:
    """The next candle of each symbol that may trigger one of its pending orders.

    ``add_order`` and ``move_on`` return the event of a candle that has become its symbol's next
    one. Events of earlier choices stay in the queue, and ``is_current`` tells them apart.
    """

    def __init__(self, *, close_only: bool) -> None:
        """Start with nothing to watch; with ``close_only`` candles trigger by their close alone."""
        self.close_only = close_only
        self._next: dict[str, int] = {}

    def copy(self) -> "CandleWatch":
        """Return an independent copy."""
        copied = copy(self)
        copied._next = self._next.copy()
        return copied

    def is_current(self, event: Event) -> bool:
        """Return whether the candle of ``event`` is still the next one of its symbol."""
        return self._next.get(event.symbol) == event.subject

    def add_order(self, book: Book, order: Order, candles: Candles, now: int) -> Event | None:
        """Watch for an order of ``book`` that is placed ``now``. O(log n) in the candles."""
        start = candles.last_complete(now) + 1
        if order.type == "trailing_stop":
            best = order.best_price
            trail = next_trail(order, best, candles, start, close_only=self.close_only)
            book.trails[order.id] = trail
            return self._watch(order.symbol, candles, trail.candle)
        if order.waits_for_fall:
            below, above = largest_float_up_to(order.trigger), float("inf")
        else:
            below, above = float("-inf"), smallest_float_from(order.trigger)
        return self._find(order.symbol, candles, start, below, above)

    def move_on(self, symbol: str, book: Book | None, candles: Candles, index: int) -> Event | None:
        """Watch for the orders of ``book`` after the candle at ``index``, if it was the next one."""
        if self._next.get(symbol) != index:
            return None
        del self._next[symbol]
        if not book:
            return None
        event = self._find(symbol, candles, index + 1, book.highest_fall, book.lowest_rise)
        for order_id, trail in book.trails.items():
            if trail.candle == index:
                order, start = book.order(order_id), index + 1
                trail = next_trail(order, trail.best, candles, start, close_only=self.close_only)
                book.trails[order_id] = trail
            event = self._watch(symbol, candles, trail.candle) or event
        return event

    def trailing_trigger(
        self, book: Book, order: Order, candles: Candles, now: int
    ) -> Decimal | None:
        """Return where a trailing stop of ``book`` would trigger; None before its activation."""
        trail, last = book.trails[order.id], candles.last_complete(now)
        best = trail.best_after(order, candles, last, close_only=self.close_only)
        return None if best is None else order.trigger_at(best)

    def _find(
        self, symbol: str, candles: Candles, start: int, below: float, above: float
    ) -> Event | None:
        """Return the first candle from ``start`` on that reaches a price, and watch it.

        Return None if the candle that is watched already comes no later.
        """
        stop = self._next.get(symbol, len(candles))
        index = candles.first_touch(below, above, start, stop, close_only=self.close_only)
        return self._watch(symbol, candles, index)

    def _watch(self, symbol: str, candles: Candles, index: int) -> Event | None:
        """Watch the candle at ``index``, unless one that comes no later is watched already."""
        if index >= self._next.get(symbol, len(candles)):
            return None
        self._next[symbol] = index
        open_time = int(candles.open_time[index])
        return Event(candles.complete_time_of(index), COMPLETION, open_time, symbol, index)
