"""Pending orders of one symbol, sorted by trigger, and the path of a candle through them."""

from collections.abc import Iterator
from decimal import Decimal
from typing import NamedTuple

from sortedcontainers import SortedList

from candlestep.sandbox.exchange.orders import Order
from candlestep.sandbox.market.candles import Candle
from candlestep.sandbox.money import largest_float_up_to, smallest_float_from

_LAST_ID = 2**63


class Execution(NamedTuple):
    """A pending order that a candle triggers, and the price it gets before slippage."""

    order: Order
    base_price: Decimal


class Book:
    """The pending orders of one symbol. Adding and removing cost O(log n)."""

    def __init__(self, *, close_only: bool) -> None:
        """With ``close_only``, candles are asked for their close and not for their path."""
        self._close_only = close_only
        self._orders: dict[int, Order] = {}
        # Each sorted so that the order the price reaches first comes first.
        self._falls: SortedList[tuple[Decimal, int]] = SortedList()
        self._rises: SortedList[tuple[Decimal, int]] = SortedList()

    def __len__(self) -> int:
        return len(self._orders)

    def __iter__(self) -> Iterator[int]:
        """Ids of the orders, oldest first."""
        return iter(self._orders)

    def __contains__(self, order_id: int) -> bool:
        return order_id in self._orders

    def copy(self) -> "Book":
        """The same orders, independent from now on. O(n log n)."""
        copied = Book(close_only=self._close_only)
        copied._orders = self._orders.copy()
        copied._falls = self._falls.copy()
        copied._rises = self._rises.copy()
        return copied

    def add(self, order: Order) -> None:
        """Let ``order`` wait for its trigger."""
        self._orders[order.id] = order
        if order.waits_for_fall:
            self._falls.add((order.trigger.copy_negate(), order.id))
        else:
            self._rises.add((order.trigger, order.id))

    def remove(self, order: Order) -> None:
        """Take a waiting ``order`` out."""
        del self._orders[order.id]
        if order.waits_for_fall:
            self._falls.remove((order.trigger.copy_negate(), order.id))
        else:
            self._rises.remove((order.trigger, order.id))

    @property
    def highest_fall(self) -> float:
        """The highest low that triggers an order that waits for a fall; -inf if none does."""
        if not self._falls:
            return float("-inf")
        return largest_float_up_to(self._falls[0][0].copy_negate())

    @property
    def lowest_rise(self) -> float:
        """The lowest high that triggers an order that waits for a rise; inf if none does."""
        return smallest_float_from(self._rises[0][0]) if self._rises else float("inf")

    def protective(self) -> list[Order]:
        """The reduce-only sells that wait, oldest first."""
        return [order for order in self._orders.values() if order.is_protective]

    def triggered(self, candle: Candle) -> list[Execution]:
        """The orders that ``candle`` triggers, in the sequence in which it does.

        The price is taken to travel open → nearer extreme → farther extreme → close. Orders
        that the open has reached or passed come first, oldest first, at the open; then those on
        the first leg, then those on the second, at their triggers. An order placed while the
        candle was running is asked last, against the close alone. O(orders triggered + log n).
        """
        at_open: list[Execution] = []
        on_falling_leg: list[Execution] = []
        on_rising_leg: list[Execution] = []
        at_close: list[Execution] = []
        fallen = self._falls.irange(maximum=(candle.low.copy_negate(), _LAST_ID))
        risen = self._rises.irange(maximum=(candle.high, _LAST_ID))
        for keys, leg in ((fallen, on_falling_leg), (risen, on_rising_leg)):
            for _, order_id in keys:
                order = self._orders[order_id]
                trigger = order.trigger
                if self._close_only or order.created_at > candle.open_time:
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
    """Whether ``price`` is at the trigger or beyond it, on the side the order waits for."""
    return price <= order.trigger if order.waits_for_fall else price >= order.trigger


def _age(execution: Execution) -> int:
    return execution.order.id
