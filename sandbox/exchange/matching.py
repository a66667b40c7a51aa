"""Matching: which candle may trigger pending orders next, and which orders it triggers.

Candles are searched in floats, which skips those that cannot reach any trigger; ``walk`` then
decides in decimals, order by order, along the path of the price within one candle.
"""

from copy import copy
from decimal import Decimal
from typing import NamedTuple

from candlestep.sandbox.exchange.book import Book
from candlestep.sandbox.exchange.events import COMPLETION, Event
from candlestep.sandbox.exchange.orders import Order
from candlestep.sandbox.market.candles import Candle, Candles
from candlestep.sandbox.money import largest_float_up_to, smallest_float_from


class Execution(NamedTuple):
    """A pending order that a candle triggers, and the price it gets before slippage."""

    order: Order
    base_price: Decimal


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

    def add_order(self, order: Order, candles: Candles, now: int) -> Event | None:
        """Watch for an order that is placed ``now``. O(log n) in the candles."""
        if order.waits_for_fall:
            below, above = largest_float_up_to(order.trigger), float("inf")
        else:
            below, above = float("-inf"), smallest_float_from(order.trigger)
        return self._find(order.symbol, candles, candles.last_complete(now) + 1, below, above)

    def move_on(self, symbol: str, book: Book, candles: Candles, start: int) -> Event | None:
        """Watch for the orders of ``book`` from the candle at ``start`` on, forgetting others."""
        del self._next[symbol]
        if not book:
            return None
        return self._find(symbol, candles, start, book.highest_fall, book.lowest_rise)

    def _find(
        self, symbol: str, candles: Candles, start: int, below: float, above: float
    ) -> Event | None:
        """Return the first candle from ``start`` on that reaches a price, and watch it.

        Return None if the candle that is watched already comes no later.
        """
        stop = self._next.get(symbol, len(candles))
        index = candles.first_touch(below, above, start, stop, close_only=self.close_only)
        if index >= stop:
            return None
        self._next[symbol] = index
        open_time = int(candles.open_time[index])
        return Event(int(candles.complete_time[index]), COMPLETION, open_time, symbol, index)


def walk(book: Book, candle: Candle, *, close_only: bool) -> list[Execution]:
    """Return the orders of ``book`` that ``candle`` triggers, in the sequence of their triggers.

    The price is taken to travel open → nearer extreme → farther extreme → close. Orders whose
    trigger the open has reached or passed come first, oldest first, at the open; then those on
    the first leg and those on the second, at their triggers. An order placed while the candle was
    running comes last and is checked against the close alone. O(orders reached + log n).
    """
    at_open: list[Execution] = []
    on_falling_leg: list[Execution] = []
    on_rising_leg: list[Execution] = []
    at_close: list[Execution] = []
    for orders, leg in (
        (book.reached_by_fall(candle.low), on_falling_leg),
        (book.reached_by_rise(candle.high), on_rising_leg),
    ):
        for order in orders:
            trigger = order.trigger
            if close_only or order.created_at > candle.open_time:
                if _has_reached(order, candle.close):
                    worse = max if order.side == "buy" else min
                    at_close.append(Execution(order, worse(trigger, candle.close)))
            elif _has_reached(order, candle.open):
                at_open.append(Execution(order, candle.open))
            else:
                leg.append(Execution(order, trigger))
    at_open.sort(key=_age)
    at_close.sort(key=_age)
    if candle.low_is_nearer:
        return at_open + on_falling_leg + on_rising_leg + at_close
    return at_open + on_rising_leg + on_falling_leg + at_close


def _has_reached(order: Order, price: Decimal) -> bool:
    """Return whether ``price`` is at the trigger, or beyond it on the side the order waits for."""
    return price <= order.trigger if order.waits_for_fall else price >= order.trigger


def _age(execution: Execution) -> int:
    return execution.order.id
