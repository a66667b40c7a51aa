"""The pending orders of a session: by trigger, by group, and the value of entries."""

from collections.abc import Iterable, Iterator
from decimal import Decimal

from sortedcontainers import SortedList

from candlestep.sandbox.exchange.orders import Order, Side
from candlestep.sandbox.exchange.trailing import Trail
from candlestep.sandbox.money import (
    ZERO,
    add,
    largest_float_up_to,
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
        self.trails: dict[int, Trail] = {}
        """The candles that trailing stops have to see next, by the id of the order."""
        self.two_legged = 0
        """The orders that leave two legs of a bracket when they fill."""

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
        copied.trails = self.trails.copy()
        copied.two_legged = self.two_legged
        return copied

    def order(self, order_id: int) -> Order:
        """Return an order of the book by its id."""
        return self._orders[order_id]

    def add(self, order: Order) -> None:
        """Add an order that waits for its trigger; that of a trailing stop is not kept here."""
        self._orders[order.id] = order
        self.two_legged += order.has_two_legs
        if order.type != "trailing_stop":
            side, key = self._place_of(order)
            side.add(key)

    def remove(self, order: Order) -> None:
        """Remove an order; it must be in the book."""
        del self._orders[order.id]
        self.two_legged -= order.has_two_legs
        if order.type != "trailing_stop":
            side, key = self._place_of(order)
            side.remove(key)
        else:
            self.trails.pop(order.id, None)

    def _place_of(
        self, order: Order
    ) -> tuple[SortedList[tuple[Decimal, int]], tuple[Decimal, int]]:
        if order.waits_for_fall:
            return self._falls, (order.trigger.copy_negate(), order.id)
        return self._rises, (order.trigger, order.id)

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

    def orders(self) -> list[Order]:
        """Return the orders, oldest first."""
        return list(self._orders.values())

    def protective(self) -> list[Order]:
        """Return the reduce-only orders, oldest first."""
        return [order for order in self._orders.values() if order.is_protective]


class PendingOrders:
    """The pending orders of all symbols, with what their rules need to find each other."""

    def __init__(self) -> None:
        self.books: dict[str, Book] = {}
        """One for each symbol that ever had a pending order."""
        self._groups: dict[str | int, dict[int, None]] = {}
        self._list_values: dict[int, dict[int, Decimal]] = {}
        """The values of the entries of a list by id; the largest counts."""
        self._entry_values: dict[tuple[str, Side], Decimal] = {}

    def __len__(self) -> int:
        return sum(map(len, self.books.values()))

    @property
    def most(self) -> int:
        """The most of them at a time, once entries have filled and placed their brackets."""
        return len(self) + sum(book.two_legged for book in self.books.values())

    def __iter__(self) -> Iterator[int]:
        """Iterate over the ids of the orders, oldest first within a symbol."""
        for book in self.books.values():
            yield from book

    def copy(self) -> "PendingOrders":
        """Return an independent copy. O(n log n)."""
        copied = PendingOrders()
        copied.books = {symbol: book.copy() for symbol, book in self.books.items()}
        copied._groups = {name: ids.copy() for name, ids in self._groups.items()}
        copied._list_values = {name: ids.copy() for name, ids in self._list_values.items()}
        copied._entry_values = self._entry_values.copy()
        return copied

    def add(self, order: Order, value: Decimal) -> None:
        """Add an order that waits for its trigger; ``value`` is that of the order."""
        symbol = order.symbol
        book = self.books.get(symbol)
        if book is None:
            book = self.books[symbol] = Book()
        book.add(order)
        group = order.group
        if group is not None:
            self._groups.setdefault(group, {})[order.id] = None
        if order.is_entry:
            self._add_value(order, value)

    def remove(self, order: Order) -> None:
        """Remove an order; it must be pending."""
        self.books[order.symbol].remove(order)
        group = order.group
        if group is not None:
            members = self._groups[group]
            del members[order.id]
            if not members:
                del self._groups[group]
        if order.is_entry:
            self._add_value(order, order.value.copy_negate())

    def change(self, order: Order, changed: Order) -> None:
        """Let an order wait for another trigger, with the same value."""
        book = self.books[order.symbol]
        book.remove(order)
        book.add(changed)

    def _add_value(self, order: Order, value: Decimal) -> None:
        key, list_id = (order.symbol, order.side), order.list_id
        if list_id is not None:
            values = self._list_values.setdefault(list_id, {})
            before = max(values.values(), default=ZERO)
            if value > 0:
                values[order.id] = value
            else:
                values.pop(order.id)
            value = subtract(max(values.values(), default=ZERO), before)
            if not values:
                del self._list_values[list_id]
        self._entry_values[key] = add(self._entry_values.get(key, ZERO), value)

    def value_freed_by(self, order: Order) -> Decimal:
        """Return what of ``entry_value`` an entry frees with its fill: its own, or its list's."""
        if order.list_id is None:
            return order.value
        return max(self._list_values.get(order.list_id, {}).values(), default=ZERO)

    def entry_value(self, symbol: str, side: Side) -> Decimal:
        """Return the value of the symbol's pending entries of a side; see ``Order.value``. O(1)."""
        return self._entry_values.get((symbol, side), ZERO)

    def entry_symbols(self) -> Iterator[str]:
        """Iterate over the symbols with pending entries; one may come twice."""
        return (symbol for (symbol, _), value in self._entry_values.items() if value)

    def of(self, symbols: Iterable[str]) -> list[Order]:
        """Return the orders of ``symbols``, oldest first."""
        books = [self.books[symbol] for symbol in symbols if symbol in self.books]
        orders = [order for book in books for order in book.orders()]
        return sorted(orders, key=lambda order: order.id)

    def in_group(self, group: str | int) -> list[int]:
        """Return the ids of the orders in an ``oco_group`` or a list, oldest first."""
        return sorted(self._groups.get(group, ()))

    def protective(self, symbol: str) -> list[Order]:
        """Return the symbol's reduce-only orders, oldest first."""
        book = self.books.get(symbol)
        return [] if book is None else book.protective()
