"""The ledger of a session: cash, positions and locks, exact to the last digit."""

from collections.abc import Mapping
from copy import copy
from decimal import Decimal
from typing import Protocol, TypeVar

import msgspec

from candlestep.sandbox.errors import InsufficientBalance
from candlestep.sandbox.exchange.costs.costs import Cost
from candlestep.sandbox.exchange.orders import Order
from candlestep.sandbox.money import (
    AMOUNT_UNIT,
    PRICE_PLACES,
    ZERO,
    add,
    half_up,
    multiply,
    rounded_ratio,
    rounded_share,
    subtract,
)

Key = TypeVar("Key")


class Holding(msgspec.Struct, frozen=True, gc=False):
    """The quantity held of one symbol, and its cost.

    On spot the cost has the entry fees; of a perpetual it has none, and a short is negative.
    """

    symbol: str
    quantity: Decimal = ZERO
    cost_basis: Decimal = ZERO
    realized_pnl: Decimal = ZERO
    """PnL realized since the session's start; kept when the position is closed."""

    def changed(self, quantity: Decimal, cost_basis: Decimal, realized: Decimal) -> "Holding":
        """Return the holding after a trade that adds these amounts."""
        return Holding(
            self.symbol,
            add(self.quantity, quantity),
            add(self.cost_basis, cost_basis),
            self.realized_pnl if realized is ZERO else add(self.realized_pnl, realized),
        )


class Position(msgspec.Struct, frozen=True):
    """An open position, valued at the current price; amounts in quote currency."""

    symbol: str
    quantity: Decimal
    cost_basis: Decimal
    current_price: Decimal
    market_value: Decimal
    unrealized_pnl: Decimal
    realized_pnl: Decimal

    @property
    def avg_entry_price(self) -> Decimal:
        """Cost basis over quantity, fees included, at 16 places; for display."""
        return rounded_ratio(self.cost_basis, self.quantity, PRICE_PLACES)


class Portfolio(msgspec.Struct, frozen=True):
    """An account at one instant, in quote currency. Exactly and always:

    ``total_equity == starting_balance + realized_pnl + unrealized_pnl`` and
    ``total_equity == available_cash + locked_cash + position_value``.
    """

    starting_balance: Decimal
    available_cash: Decimal
    locked_cash: Decimal
    position_value: Decimal
    total_equity: Decimal
    unrealized_pnl: Decimal
    realized_pnl: Decimal
    holdings: tuple[Holding, ...]
    """Open holdings, by symbol."""
    values: tuple[Decimal, ...]
    """The market value of each of ``holdings``."""
    prices: dict[str, Decimal]
    """The price of each symbol of ``holdings``."""

    @property
    def positions(self) -> tuple[Position, ...]:
        """The open positions by symbol, valued at ``prices``."""
        return tuple(
            [
                Position(
                    holding.symbol,
                    holding.quantity,
                    holding.cost_basis,
                    self.prices[holding.symbol],
                    value,
                    subtract(value, holding.cost_basis),
                    holding.realized_pnl,
                )
                for holding, value in zip(self.holdings, self.values, strict=True)
            ]
        )


class Balance(msgspec.Struct, frozen=True):
    """The available quantity of one asset, and the quantity that pending orders lock."""

    asset: str
    available: Decimal
    locked: Decimal

    @property
    def total(self) -> Decimal:
        """Available and locked."""
        return add(self.available, self.locked)


class Ledger(Protocol):
    """The readings of every account, spot or margin."""

    @property
    def starting_balance(self) -> Decimal:
        """The balance at the session's start."""

    @property
    def available_cash(self) -> Decimal:
        """Cash that no order or position locks."""

    @property
    def locked_cash(self) -> Decimal:
        """Cash that orders or positions lock."""

    @property
    def realized_pnl(self) -> Decimal:
        """PnL realized since the session's start, after fees."""

    @property
    def open_holdings(self) -> Mapping[str, Holding]:
        """Holdings whose quantity is not zero."""

    def holding(self, symbol: str) -> Holding:
        """Return the holding of ``symbol``, an empty one if it was never held."""

    def held_quantities(self) -> list[tuple[str, Decimal]]:
        """Return the quantity of each asset that is held besides cash, by symbol."""

    def locked_quantity(self, symbol: str) -> Decimal:
        """Return the quantity of ``symbol`` that pending orders lock."""


def balances_of(account: Ledger, currency: str) -> list[Balance]:
    """Return the balance of the currency, then of the base asset of each open position.

    A margin account has the currency alone.
    """
    balances = [Balance(currency, account.available_cash, account.locked_cash)]
    for symbol, quantity in account.held_quantities():
        locked = account.locked_quantity(symbol)
        available = subtract(quantity, locked)
        balances.append(Balance(symbol.removesuffix(currency) or symbol, available, locked))
    return balances


class Account:
    """Cash, holdings and locks. No operation can make a balance negative.

    Pending orders lock cash for buys, quantities for limit sells. The locked amount is stored on
    the order and released exactly. Sells of one symbol in one group share a lock, the largest of
    them; so do the buys of one list.
    """

    def __init__(self, starting_balance: Decimal) -> None:
        self.starting_balance = starting_balance
        self.available_cash = starting_balance
        self.locked_cash = ZERO
        self.realized_pnl = ZERO
        self.holdings: dict[str, Holding] = {}
        """Every symbol ever held, in the order first bought."""
        self.open_holdings: dict[str, Holding] = {}
        """Holdings whose quantity is not zero."""
        self._open_holdings: tuple[Holding, ...] = ()
        self._cost_basis = ZERO
        self._locked_quantities: dict[str, Decimal] = {}
        self._shared_locks: dict[tuple[str, str | int], dict[int, Decimal]] = {}
        """The quantity of each order by its id, by symbol and group."""
        self._shared_cash: dict[int, dict[int, Decimal]] = {}
        """The cash of each buy by its id, by list."""

    def copy(self) -> "Account":
        """Return an independent copy. Linear in the symbols ever held."""
        copied = copy(self)
        copied.holdings = self.holdings.copy()
        copied.open_holdings = self.open_holdings.copy()
        copied._locked_quantities = self._locked_quantities.copy()
        copied._shared_locks = {key: locks.copy() for key, locks in self._shared_locks.items()}
        copied._shared_cash = {key: locks.copy() for key, locks in self._shared_cash.items()}
        return copied

    def holding(self, symbol: str) -> Holding:
        """Return the holding of ``symbol``, an empty one if it was never held."""
        return self.holdings.get(symbol) or Holding(symbol)

    def held_quantities(self) -> list[tuple[str, Decimal]]:
        """Return the quantity of each open holding, by symbol."""
        return [
            (symbol, self.open_holdings[symbol].quantity) for symbol in sorted(self.open_holdings)
        ]

    def locked_quantity(self, symbol: str) -> Decimal:
        """Return the quantity of ``symbol`` that pending limit sells lock."""
        return self._locked_quantities.get(symbol, ZERO)

    def sellable(self, symbol: str, group: str | int | None) -> Decimal:
        """Return the quantity that a sell in ``group`` may sell: all not locked outside it."""
        held, locked = self.holding(symbol).quantity, self._locked_quantities.get(symbol)
        if locked is None:
            return held
        if group is not None:  # A fill in the group releases its lock.
            locked = subtract(locked, self._shared_lock(symbol, group))
        return subtract(held, locked)

    def payable(self, order: Order) -> Decimal:
        """Return the cash that a buy may take: what is available, and what it or its list locks."""
        locked = order.locked_cash
        if order.list_id is not None:
            locked = _largest(self._shared_cash.get(order.list_id))
        return add(self.available_cash, locked) if locked else self.available_cash

    def lock(self, order: Order) -> None:
        """Lock the cash or quantity that is stored on ``order``."""
        if order.locked_cash:
            self._change_locked_cash(order, is_locked=True)
        if order.locked_quantity:
            self._change_locked_quantity(order, is_locked=True)

    def release(self, order: Order) -> None:
        """Release the cash or quantity that ``order`` locked."""
        if order.locked_cash:
            self._change_locked_cash(order, is_locked=False)
        if order.locked_quantity:
            self._change_locked_quantity(order, is_locked=False)

    def require_cash(self, order: Order, cash: Decimal) -> None:
        """Raise ``InsufficientBalance`` unless a buy may take ``cash``."""
        available = self.payable(order)
        if cash > available:
            raise InsufficientBalance(
                f"the order costs {cash:f} with fees, but only {available:f} is available;"
                " lower the quantity or cancel a pending buy",
                required=cash,
                available=available,
            )

    def require_quantity(self, order: Order, *, is_shared: bool) -> None:
        """Raise ``InsufficientBalance`` unless a sell's quantity is held and not locked by others.

        With ``is_shared`` it may be what others lock.
        """
        if is_shared:
            available = self.holding(order.symbol).quantity
        else:
            available = self.sellable(order.symbol, order.group)
        if order.quantity > available:
            raise InsufficientBalance(
                f"the order sells {order.quantity:f} {order.symbol}, but only {available:f} is"
                " available; lower the quantity or cancel a pending sell",
                required=order.quantity,
                available=available,
            )

    def buy(self, symbol: str, quantity: Decimal, cost: Cost) -> None:
        """Pay for ``quantity`` and add it to the holding; the cash must be available."""
        paid = cost.to_buy
        self._change(self.holding(symbol), paid.copy_negate(), quantity, paid, ZERO)

    def sell(self, symbol: str, quantity: Decimal, cost: Cost) -> Decimal:
        """Sell ``quantity``, at most the quantity held, and return the PnL that is realized.

        A partial sell takes its share of the cost basis, a full one all of it.
        """
        held = self.holding(symbol)
        taken = held.cost_basis
        if quantity != held.quantity:
            taken = rounded_share(held.cost_basis, quantity, held.quantity)
        proceeds = cost.from_sale
        realized = subtract(proceeds, taken)
        self._change(held, proceeds, quantity.copy_negate(), taken.copy_negate(), realized)
        return realized

    def portfolio(self, prices: Mapping[str, Decimal]) -> Portfolio:
        """Return the account valued at ``prices``, which must have every symbol held."""
        held_prices = {}
        values = []
        value, cash = ZERO, self.available_cash
        if self.locked_cash:
            cash = add(cash, self.locked_cash)
        for holding in self._open_holdings:
            held_prices[holding.symbol] = price = prices[holding.symbol]
            # As rounded_product, without the call: this is done after each step.
            worth = half_up(multiply(holding.quantity, price), AMOUNT_UNIT)
            values.append(worth)
            value = add(value, worth)
        return Portfolio(
            self.starting_balance,
            self.available_cash,
            self.locked_cash,
            value,
            add(cash, value),
            subtract(value, self._cost_basis),
            self.realized_pnl,
            self._open_holdings,
            tuple(values),
            held_prices,
        )

    def _change_locked_cash(self, order: Order, *, is_locked: bool) -> None:
        list_id, change = order.list_id, order.locked_cash
        if list_id is not None:
            change = _changed_lock(
                self._shared_cash, list_id, order.id, change, is_locked=is_locked
            )
        elif not is_locked:
            change = change.copy_negate()
        self.locked_cash = add(self.locked_cash, change)
        self.available_cash = subtract(self.available_cash, change)

    def _change_locked_quantity(self, order: Order, *, is_locked: bool) -> None:
        symbol, group, change = order.symbol, order.group, order.locked_quantity
        if group is not None:
            key = symbol, group
            change = _changed_lock(self._shared_locks, key, order.id, change, is_locked=is_locked)
        elif not is_locked:
            change = change.copy_negate()
        self._locked_quantities[symbol] = add(self.locked_quantity(symbol), change)

    def _shared_lock(self, symbol: str, group: str | int) -> Decimal:
        return _largest(self._shared_locks.get((symbol, group)))

    def _change(
        self,
        held: Holding,
        cash: Decimal,
        quantity: Decimal,
        cost_basis: Decimal,
        realized: Decimal,
    ) -> None:
        """Add what a trade changes to cash, to what is held and to the realized PnL."""
        symbol = held.symbol
        holding = held.changed(quantity, cost_basis, realized)
        self.available_cash = add(self.available_cash, cash)
        self._cost_basis = add(self._cost_basis, cost_basis)
        if realized is not ZERO:
            self.realized_pnl = add(self.realized_pnl, realized)
        self.holdings[symbol] = holding
        if holding.quantity:
            self.open_holdings[symbol] = holding
        else:
            del self.open_holdings[symbol]
        holdings = self.open_holdings
        self._open_holdings = tuple(
            holdings.values() if len(holdings) < 2 else map(holdings.__getitem__, sorted(holdings))
        )


def _largest(locks: dict[int, Decimal] | None) -> Decimal:
    """Return the lock that orders share: the largest of them."""
    return max(locks.values()) if locks else ZERO


def _changed_lock(
    shared: dict[Key, dict[int, Decimal]],
    key: Key,
    order_id: int,
    lock: Decimal,
    *,
    is_locked: bool,
) -> Decimal:
    """Add the lock of an order to those it shares, or remove it; return what is locked more."""
    locks = shared.setdefault(key, {})
    before = _largest(locks)
    if is_locked:
        locks[order_id] = lock
    else:
        del locks[order_id]
    if not locks:
        del shared[key]
    return subtract(_largest(locks), before)
