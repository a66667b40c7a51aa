"""The ledger of a session: cash, positions and locks, exact to the last digit."""

from copy import copy
from decimal import Decimal

import msgspec

from candlestep.sandbox.errors import InsufficientBalance
from candlestep.sandbox.exchange.costs.costs import Cost
from candlestep.sandbox.exchange.locks import Locks
from candlestep.sandbox.exchange.orders import Order
from candlestep.sandbox.money import (
    PRICE_PLACES,
    ZERO,
    add,
    rounded_product,
    rounded_ratio,
    rounded_share,
    subtract,
)


class Holding(msgspec.Struct, frozen=True, gc=False):
    """The quantity held of one symbol, and its cost, entry fees included."""

    symbol: str
    quantity: Decimal = ZERO
    cost_basis: Decimal = ZERO
    realized_pnl: Decimal = ZERO
    """PnL realized since the session's start; kept when the position is closed."""


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


class Account:
    """Cash, holdings and locks. No operation can make a balance negative."""

    def __init__(self, starting_balance: Decimal) -> None:
        self.starting_balance = starting_balance
        self.available_cash = starting_balance
        self._cash = starting_balance
        self.realized_pnl = ZERO
        self.holdings: dict[str, Holding] = {}
        """Every symbol ever held, in the order first bought."""
        self.open_holdings: dict[str, Holding] = {}
        """Holdings whose quantity is not zero."""
        self._open_holdings: tuple[Holding, ...] = ()
        self._cost_basis = ZERO
        self._locks = Locks()

    def copy(self) -> "Account":
        """Return an independent copy. Linear in the symbols ever held."""
        copied = copy(self)
        copied.holdings = self.holdings.copy()
        copied.open_holdings = self.open_holdings.copy()
        copied._locks = self._locks.copy()
        return copied

    @property
    def locked_cash(self) -> Decimal:
        """Cash that pending buys lock."""
        return self._locks.cash

    def holding(self, symbol: str) -> Holding:
        """Return the holding of ``symbol``, an empty one if it was never held."""
        return self.holdings.get(symbol) or Holding(symbol)

    def locked_quantity(self, symbol: str) -> Decimal:
        """Return the quantity of ``symbol`` that pending limit sells lock."""
        return self._locks.quantity(symbol)

    def sellable(self, symbol: str, oco_group: str | None) -> Decimal:
        """Return the quantity that a sell in ``oco_group`` may sell: all not locked outside it."""
        others = self._locks.quantity_of_others(symbol, oco_group)
        return subtract(self.holding(symbol).quantity, others)

    def lock(self, order: Order) -> None:
        """Lock the cash or quantity that is stored on ``order``."""
        self._locks.add(order)
        self.available_cash = subtract(self.available_cash, order.locked_cash)

    def release(self, order: Order) -> None:
        """Release the cash or quantity that ``order`` locked."""
        self._locks.remove(order)
        self.available_cash = add(self.available_cash, order.locked_cash)

    def require_cash(self, cash: Decimal) -> None:
        """Raise ``InsufficientBalance`` unless ``cash`` is available."""
        if cash > self.available_cash:
            raise InsufficientBalance(
                f"the order costs {cash:f} with fees, but only {self.available_cash:f} is available;"
                " lower the quantity or cancel a pending buy",
                required=cash,
                available=self.available_cash,
            )

    def require_quantity(self, order: Order) -> None:
        """Raise ``InsufficientBalance`` unless a sell's quantity is held and not locked by others.

        A protective order may share what others lock.
        """
        if order.is_protective:
            available = self.holding(order.symbol).quantity
        else:
            available = self.sellable(order.symbol, order.oco_group)
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
        self._change(symbol, paid.copy_negate(), quantity, paid, ZERO)

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
        self._change(symbol, proceeds, quantity.copy_negate(), taken.copy_negate(), realized)
        return realized

    def portfolio(self, prices: dict[str, Decimal]) -> Portfolio:
        """Return the account valued at ``prices``, which must have every symbol held."""
        values = []
        value = ZERO
        for holding in self._open_holdings:
            values.append(rounded_product(holding.quantity, prices[holding.symbol]))
            value = add(value, values[-1])
        return Portfolio(
            self.starting_balance,
            self.available_cash,
            self._locks.cash,
            value,
            add(self._cash, value),
            subtract(value, self._cost_basis),
            self.realized_pnl,
            self._open_holdings,
            tuple(values),
            prices,
        )

    def _change(
        self, symbol: str, cash: Decimal, quantity: Decimal, cost_basis: Decimal, realized: Decimal
    ) -> None:
        """Add what a trade changes to cash, to the holding and to the realized PnL."""
        held = self.holding(symbol)
        holding = Holding(
            symbol,
            add(held.quantity, quantity),
            add(held.cost_basis, cost_basis),
            add(held.realized_pnl, realized),
        )
        self.available_cash = add(self.available_cash, cash)
        self._cash = add(self._cash, cash)
        self._cost_basis = add(self._cost_basis, cost_basis)
        self.realized_pnl = add(self.realized_pnl, realized)
        self.holdings[symbol] = holding
        if holding.quantity:
            self.open_holdings[symbol] = holding
        else:
            del self.open_holdings[symbol]
        self._open_holdings = tuple(
            self.open_holdings[symbol] for symbol in sorted(self.open_holdings)
        )
