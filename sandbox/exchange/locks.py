"""Locks of pending orders: cash for buys, quantities for limit sells."""

from decimal import Decimal

from candlestep.sandbox.exchange.orders import Order
from candlestep.sandbox.money import ZERO, add, subtract


class Locks:
    """The locks of all pending orders of an account.

    The locked amount is stored on the order and released exactly. Limit sells of one symbol in
    one ``oco_group`` share a lock, the largest of them.
    """

    def __init__(self) -> None:
        self.cash = ZERO
        """Cash locked by pending buys."""
        self._quantities: dict[str, Decimal] = {}
        self._shared: dict[tuple[str, str], dict[int, Decimal]] = {}

    def copy(self) -> "Locks":
        """Return an independent copy."""
        copied = Locks()
        copied.cash = self.cash
        copied._quantities = self._quantities.copy()
        copied._shared = {key: members.copy() for key, members in self._shared.items()}
        return copied

    def quantity(self, symbol: str) -> Decimal:
        """Return the quantity of ``symbol`` that pending limit sells lock. O(1)."""
        return self._quantities.get(symbol, ZERO)

    def quantity_of_others(self, symbol: str, oco_group: str | None) -> Decimal:
        """Return ``quantity`` less the lock of ``oco_group``, which a fill in the group releases."""
        if oco_group is None:
            return self.quantity(symbol)
        return subtract(self.quantity(symbol), self._largest(symbol, oco_group))

    def add(self, order: Order) -> None:
        """Add the lock stored on ``order``."""
        self.cash = add(self.cash, order.locked_cash)
        if order.locked_quantity:
            self._change(order, present=True)

    def remove(self, order: Order) -> None:
        """Remove the lock stored on ``order``."""
        self.cash = subtract(self.cash, order.locked_cash)
        if order.locked_quantity:
            self._change(order, present=False)

    def _change(self, order: Order, *, present: bool) -> None:
        symbol, group = order.symbol, order.oco_group
        if group is None:
            change = order.locked_quantity if present else order.locked_quantity.copy_negate()
        else:
            before = self._largest(symbol, group)
            members = self._shared.setdefault((symbol, group), {})
            if present:
                members[order.id] = order.locked_quantity
            else:
                del members[order.id]
            if not members:
                del self._shared[symbol, group]
            change = subtract(self._largest(symbol, group), before)
        self._quantities[symbol] = add(self.quantity(symbol), change)

    def _largest(self, symbol: str, oco_group: str) -> Decimal:
        return max(self._shared.get((symbol, oco_group), {}).values(), default=ZERO)
