"""The path of the price through one candle, and the orders that it meets, one after the other.

The price is taken to travel open → nearer extreme → farther extreme → close.
"""

from decimal import Decimal
from heapq import heapify, heappop, heappush
from typing import NamedTuple

from candlestep.sandbox.exchange.book import Book
from candlestep.sandbox.exchange.orders import Order
from candlestep.sandbox.exchange.trailing import Trail, follow
from candlestep.sandbox.market.candles import Candle
from candlestep.sandbox.money import ZERO

AT_OPEN, FIRST_LEG, SECOND_LEG, LAST_LEG, AT_CLOSE = range(5)
"""The places of a path at which orders execute: its open, its three legs, and its close, where those are
checked that count by the close alone."""


class Execution(NamedTuple):
    """A pending order that a candle triggers, the price it gets before slippage, and where."""

    order: Order
    base_price: Decimal
    place: int


class PathWalk:
    """A walk along the path of one candle, from one execution to the next.

    Orders whose trigger the open has reached or passed come first, oldest first, at the open; then
    those on each leg, at their triggers, in the sequence in which the price meets them. An order
    that a command placed while the candle was running comes last and is checked against the close
    alone. One that begins to rest on the way sees the rest of the path: see ``add``.
    """

    def __init__(self, book: Book, candle: Candle, index: int, *, close_only: bool) -> None:
        """Begin before the open, or with ``close_only`` before the close. O(orders reached).

        ``index`` is that of the candle; trailing stops that are due at it follow its path.
        """
        self._book = book
        self._candle = candle
        self._points = turning_points(candle)
        self._close_only = close_only
        self._place = AT_CLOSE if close_only else AT_OPEN
        self._key, self._price = ZERO, candle.open
        self._queues: tuple[list[tuple[Decimal, int, Execution]], ...] = ([], [], [], [], [])
        falls_first = candle.low_is_nearer
        for orders, leg in (
            (book.reached_by_fall(candle.low), FIRST_LEG if falls_first else SECOND_LEG),
            (book.reached_by_rise(candle.high), SECOND_LEG if falls_first else FIRST_LEG),
        ):
            for order in orders:
                if close_only or order.created_at > candle.open_time:
                    if has_reached(order, candle.close):
                        worse = max if order.side == "buy" else min
                        self._meet(order, AT_CLOSE, ZERO, worse(order.trigger, candle.close))
                elif has_reached(order, candle.open):
                    self._meet(order, AT_OPEN, ZERO, candle.open)
                else:
                    self._meet(order, leg, _along(order), order.trigger)
        if book.trails:
            self._follow_trails(index)
        for queue in self._queues:
            if len(queue) > 1:
                heapify(queue)

    def next(self) -> Execution | None:
        """Return the next execution of an order that is still pending; None at the end."""
        while True:
            queue = self._queues[self._place]
            while queue:
                self._key, _, execution = heappop(queue)
                if execution.order.id in self._book:
                    self._price = execution.base_price
                    return execution
            if self._place == AT_CLOSE:
                return None
            self._place += 1

    def add(self, order: Order) -> None:
        """Let an order rest from here on.

        If its trigger has been reached or passed here, it executes here, after what is older.
        """
        here = self._candle.close if self._place == AT_CLOSE else self._price
        if has_reached(order, here):
            # What was a stop and is a limit is checked by the close alone, as any limit is.
            is_bounded = self._place == AT_CLOSE and order.is_limit
            price = order.trigger if is_bounded else here
            self._meet(order, self._place, self._key, price, is_late=True)
            return
        for leg in range(max(self._place, FIRST_LEG), AT_CLOSE):
            if has_reached(order, self._points[leg]):
                self._meet(order, leg, _along(order), order.trigger, is_late=True)
                return

    def _follow_trails(self, index: int) -> None:
        book, candle = self._book, self._candle
        for order_id, trail in book.trails.items():
            if trail.candle != index:
                continue
            order = book.order(order_id)
            by_close = self._close_only or order.created_at > candle.open_time
            points = (candle.close,) if by_close else self._points
            meeting, best = follow(order, trail.best, points)
            book.trails[order_id] = Trail(index, best, index + 1, best)
            if meeting is not None:
                place = AT_CLOSE if by_close else meeting.point
                key = _along(order, meeting.price) if meeting.point else ZERO
                self._meet(order, place, key, meeting.price)

    def _meet(
        self, order: Order, place: int, key: Decimal, price: Decimal, *, is_late: bool = False
    ) -> None:
        meeting = key, order.id, Execution(order, price, place)
        if is_late:
            heappush(self._queues[place], meeting)
        else:
            self._queues[place].append(meeting)


def turning_points(candle: Candle) -> tuple[Decimal, Decimal, Decimal, Decimal]:
    """Return the points of a path: its open, both extremes, and its close."""
    low, high = candle.low, candle.high
    near, far = (low, high) if candle.low_is_nearer else (high, low)
    return candle.open, near, far, candle.close


def has_reached(order: Order, price: Decimal) -> bool:
    """Return whether ``price`` is at the trigger, or beyond it on the side the order waits for."""
    return price <= order.trigger if order.waits_for_fall else price >= order.trigger


def _along(order: Order, price: Decimal | None = None) -> Decimal:
    """Return what sorts a price, by default the trigger, along a leg that reaches it."""
    price = order.trigger if price is None else price
    return price.copy_negate() if order.waits_for_fall else price
