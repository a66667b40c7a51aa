"""The pending orders of a session: by trigger, by ``oco_group``, and the value of the buys."""

from collections.abc import Iterator
from decimal import Decimal

from sortedcontainers import SortedList

from candlestep.sandbox.exchange.orders import Order
from candlestep.sandbox.money import (
    ZERO,
    add,
    largest_float_up_to,
    rounded_product,
    smallest_float_from,
    subtract,
)

_LAST_ID = 2**63


class Book:
    """The pending orders of one symbol. Adding and removing one costs O(log n)."""

    def __init__(self) -> None:
        self._orders: dict[int, Order] = {}
        # Each is sorted so that the order the price reaches first comes first.
        self._falls: SortedList[tuple[Decimal, int]] = SortedList()
        self._rises: SortedList[tuple[Decimal, int]] = SortedList()

    def __len__(self) -> int:
        return len(self._orders)

    def __iter__(self) -> Iterator[int]:
        """Iterate over the ids of the orders, oldest first."""
        return iter(self._orders)

    def __contains__(self, order_id: int) -> bool:
        return order_id in self._orders

    def copy(self) -> "Book":
        """Return an independent book of the same orders. O(n log n)."""
        copied = Book()
        copied._orders = self._orders.copy()
        copied._falls = self._falls.copy()
        copied._rises = self._rises.copy()
        return copied

    def add(self, order: Order) -> None:
        """Add an order that waits for its trigger."""
        self._orders[order.id] = order
        if order.waits_for_fall:
            self._falls.add((order.trigger.copy_negate(), order.id))
        else:
            self._rises.add((order.trigger, order.id))

    def remove(self, order: Order) -> None:
        """Remove an order; it must be in the book."""
        del self._orders[order.id]
        if order.waits_for_fall:
            self._falls.remove((order.trigger.copy_negate(), order.id))
        else:
            self._rises.remove((order.trigger, order.id))

    @property
    def highest_fall(self) -> float:
        """The highest low that triggers an order that waits for a fall; -inf without one."""
        if not self._falls:
            return float("-inf")
        return largest_float_up_to(self._falls[0][0].copy_negate())

    @property
    def lowest_rise(self) -> float:
        """The lowest high that triggers an order that waits for a rise; inf without one."""
        return smallest_float_from(self._rises[0][0]) if self._rises else float("inf")

    def reached_by_fall(self, low: Decimal) -> list[Order]:
        """Return the orders whose trigger a fall to ``low`` reaches, in that sequence."""
        orders = self._orders
        reached = self._falls.irange(maximum=(low.copy_negate(), _LAST_ID))
        return [orders[order_id] for _, order_id in reached]

    def reached_by_rise(self, high: Decimal) -> list[Order]:
        """Return the orders whose trigger a rise to ``high`` reaches, in that sequence."""
        orders = self._orders
        reached = self._rises.irange(maximum=(high, _LAST_ID))
        return [orders[order_id] for _, order_id in reached]

    def protective(self) -> list[Order]:
        """Return the reduce-only sells, oldest first."""
        return [order for order in self._orders.values() if order.is_protective]


class PendingOrders:
    """The pending orders of all symbols, with what their rules need to find each other."""

    def __init__(self) -> None:
        self.books: dict[str, Book] = {}
        """One for each symbol that ever had a pending order."""
        self._oco_groups: dict[str, dict[int, None]] = {}
        self._buy_values: dict[str, Decimal] = {}

    def __len__(self) -> int:
        return sum(map(len, self.books.values()))

    def __iter__(self) -> Iterator[int]:
        """Iterate over the ids of the orders, oldest first within a symbol."""
        for book in self.books.values():
            yield from book

    def copy(self) -> "PendingOrders":
        """Return an independent copy. O(n log n)."""
        copied = PendingOrders()
        copied.books = {symbol: book.copy() for symbol, book in self.books.items()}
        copied._oco_groups = {name: ids.copy() for name, ids in self._oco_groups.items()}
        copied._buy_values = self._buy_values.copy()
        return copied

    def add(self, order: Order, value: Decimal) -> None:
        """Add an order that waits for its trigger; ``value`` is its quantity at the trigger."""
        symbol = order.symbol
        book = self.books.get(symbol)
        if book is None:
            book = self.books[symbol] = Book()
        book.add(order)
        if order.oco_group is not None:
            self._oco_groups.setdefault(order.oco_group, {})[order.id] = None
        if order.side == "buy":
            self._buy_values[symbol] = add(self._buy_values.get(symbol, ZERO), value)

    def remove(self, order: Order) -> None:
        """Remove an order; it must be pending."""
        symbol = order.symbol
        self.books[symbol].remove(order)
        if order.oco_group is not None:
            members = self._oco_groups[order.oco_group]
            del members[order.id]
            if not members:
                del self._oco_groups[order.oco_group]
        if order.side == "buy":
            value = rounded_product(order.quantity, order.trigger)
            self._buy_values[symbol] = subtract(self._buy_values[symbol], value)

    def buy_value(self, symbol: str) -> Decimal:
        """Return the value of the symbol's pending buys, each at its trigger. O(1)."""
        return self._buy_values.get(symbol, ZERO)

    def in_group(self, oco_group: str) -> list[int]:
        """Return the ids of the orders in an ``oco_group``, oldest first."""
        return sorted(self._oco_groups.get(oco_group, ()))

    def protective(self, symbol: str) -> list[Order]:
        """Return the symbol's reduce-only sells, oldest first."""
        book = self.books.get(symbol)
        return [] if book is None else book.protective()
