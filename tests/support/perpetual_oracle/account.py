"""The margin account: wallets, positions, and the amounts that a fill moves between them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple

from tests.support.oracle import AMOUNT_PLACES, PRICE_PLACES, ZERO, rounded
from tests.support.perpetual_oracle.margin import (
    against,
    bankruptcy_price,
    exact_pnl,
    liquidation_price,
    maintenance,
    reported_pnl,
    rounded_up,
    safety,
    share,
    sign,
)
from tests.support.perpetual_oracle.values import Order, Tier


@dataclass
class Position:
    """A symbol's signed quantity, its cost (without fees), and what came of it so far."""

    symbol: str
    tiers: tuple[Tier, ...]
    leverage: int
    is_isolated: bool
    quantity: Decimal = ZERO
    cost: Decimal = ZERO
    isolated_wallet: Decimal = ZERO
    closed_pnl: Decimal = ZERO
    fees: Decimal = ZERO
    funding: Decimal = ZERO
    insurance: Decimal = ZERO

    def __deepcopy__(self, memo: object) -> Position:
        return Position(**self.__dict__)

    @property
    def size(self) -> Decimal:
        return abs(self.quantity)

    @property
    def entry_price(self) -> Decimal:
        return rounded(Fraction(self.cost) / Fraction(self.size), PRICE_PLACES)

    @property
    def realized_pnl(self) -> Decimal:
        return self.closed_pnl - self.fees + self.funding + self.insurance

    def notional(self, mark: Decimal) -> Decimal:
        return rounded(self.size * mark, AMOUNT_PLACES)

    def unrealized_pnl(self, mark: Decimal) -> Decimal:
        return reported_pnl(self.quantity, self.cost, mark) if self.quantity else ZERO

    @property
    def largest_notional(self) -> Decimal | None:
        """The cap of its leverage: where the first tier begins that does not allow it."""
        floors = [tier.floor for tier in self.tiers if tier.max_leverage < self.leverage]
        return min(floors, default=None)


class Booked(NamedTuple):
    """The amounts of a fill."""

    quote_amount: Decimal
    fee: Decimal
    closed_pnl: Decimal | None
    closed_quantity: Decimal


class Forced(NamedTuple):
    """The amounts of a liquidation."""

    booked: Booked
    insurance: Decimal


@dataclass
class Account:
    """One account: a cross wallet, and a position with a wallet of its own per symbol."""

    cross: Decimal
    positions: dict[str, Position] = field(default_factory=dict)

    def copy(self) -> Account:
        return deepcopy(self)

    def open_positions(self) -> list[Position]:
        return [self.positions[name] for name in sorted(self.positions) if self.size(name)]

    def cross_positions(self) -> list[Position]:
        return [position for position in self.open_positions() if not position.is_isolated]

    def size(self, symbol: str) -> Decimal:
        return self.positions[symbol].size

    @property
    def wallet(self) -> Decimal:
        isolated = sum((position.isolated_wallet for position in self.positions.values()), ZERO)
        return self.cross + isolated

    def total(self, amount_of: Callable[[Position], Decimal]) -> Decimal:
        return sum((amount_of(position) for position in self.positions.values()), ZERO)

    # Fills and funding

    def fill(
        self, symbol: str, side: str, quantity: Decimal, price: Decimal, fee_rate: Decimal
    ) -> Booked:
        """Book a fill: first it closes what is open on the other side, the rest opens.

        A debt that it leaves is a matter of ``insure``.
        """
        position = self.positions[symbol]
        quote = rounded(quantity * price, AMOUNT_PLACES)
        fee = rounded(quote * fee_rate, AMOUNT_PLACES)
        direction = 1 if side == "buy" else -1
        closed = ZERO
        if position.quantity * direction < 0:
            closed = min(quantity, position.size)
        closed_quote = quote if closed == quantity else share(quote, closed, quantity)
        closed_pnl = self._close(position, closed, closed_quote) if closed else None
        if quantity > closed:
            self._open(position, direction * (quantity - closed), quote - closed_quote)
        self.cross -= fee
        position.fees += fee
        return Booked(quote, fee, closed_pnl, closed)

    def _close(self, position: Position, quantity: Decimal, quote: Decimal) -> Decimal:
        """Take a part, or all, of a position out of it; the PnL goes to the cross wallet."""
        is_all = quantity == position.size
        cost, released = position.cost, position.isolated_wallet
        if not is_all:
            cost = share(cost, quantity, position.size)
            released = share(released, quantity, position.size)
        side = sign(position.quantity)
        closed_pnl = side * (quote - cost)
        position.quantity -= side * quantity
        position.cost -= cost
        position.isolated_wallet -= released
        position.closed_pnl += closed_pnl
        self.cross += released + closed_pnl
        return closed_pnl

    def _open(self, position: Position, quantity: Decimal, quote: Decimal) -> None:
        position.quantity += quantity
        position.cost += quote
        if position.is_isolated:
            margin = rounded(Fraction(quote) / position.leverage, AMOUNT_PLACES)
            position.isolated_wallet += margin
            self.cross -= margin

    def insure(self, symbol: str) -> Decimal:
        """Cover a debt that closing ``symbol`` left, once no cross position is; return how much."""
        if self.cross >= 0 or self.cross_positions():
            return ZERO
        covered = -self.cross
        self.positions[symbol].insurance += covered
        self.cross = ZERO
        return covered

    def pay_funding(self, symbol: str, amount: Decimal) -> None:
        position = self.positions[symbol]
        position.funding += amount
        if position.is_isolated:
            position.isolated_wallet += amount
        else:
            self.cross += amount

    # Liquidation

    def liquidate(
        self, symbol: str, price: Decimal, fee_rate: Decimal, marks: Mapping[str, Decimal]
    ) -> Forced:
        """Close a position by force at ``price``, for a fee of at most what is left."""
        position = self.positions[symbol]
        size, quote = position.size, position.notional(price)
        pnl = sign(position.quantity) * (quote - position.cost)
        left = position.isolated_wallet + pnl
        if not position.is_isolated:
            others = [p for p in self.cross_positions() if p is not position]
            left = self.cross + pnl + sum((p.unrealized_pnl(marks[p.symbol]) for p in others), ZERO)
        fee = min(rounded(quote * fee_rate, AMOUNT_PLACES), max(ZERO, left))
        released = position.isolated_wallet
        position.quantity = position.cost = position.isolated_wallet = ZERO
        position.closed_pnl += pnl
        position.fees += fee
        remainder = released + pnl - fee
        insurance = ZERO
        if position.is_isolated:
            insurance = max(ZERO, -remainder)
            position.insurance += insurance
            self.cross += remainder + insurance
        else:
            self.cross += remainder
            insurance = self.insure(symbol)
        return Forced(Booked(quote, fee, pnl, size), insurance)

    def is_safe(self, position: Position, marks: Mapping[str, Decimal]) -> bool:
        """Return whether f > 0 for an isolated position, F > 0 for a cross one."""
        if not position.is_isolated:
            return self.is_cross_safe(marks)
        quantity, cost = position.quantity, position.cost
        mark = marks[position.symbol]
        return safety(quantity, cost, position.isolated_wallet, mark, position.tiers) > 0

    def is_cross_safe(self, marks: Mapping[str, Decimal]) -> bool:
        """Return whether F > 0, or no cross position is open."""
        positions = self.cross_positions()
        left = sum((_left(position, marks) for position in positions), self.cross)
        return not positions or left > 0

    def needed(self, position: Position, marks: Mapping[str, Decimal]) -> Decimal:
        """Return the maintenance of a position at its standing mark."""
        return maintenance(position.size * marks[position.symbol], position.tiers)

    def balance_of(self, position: Position, marks: Mapping[str, Decimal]) -> Decimal:
        """Return WB': what a position may lose with the others standing at their marks."""
        if position.is_isolated:
            return position.isolated_wallet
        others = [other for other in self.cross_positions() if other is not position]
        return sum((_left(other, marks) for other in others), self.cross)

    def liquidation_price(
        self, position: Position, marks: Mapping[str, Decimal]
    ) -> Fraction | None:
        balance = self.balance_of(position, marks)
        return liquidation_price(position.quantity, position.cost, balance, position.tiers)

    def bankruptcy_price(self, position: Position, marks: Mapping[str, Decimal]) -> Fraction:
        balance = position.isolated_wallet
        if not position.is_isolated:
            balance = self.cross
            for other in self.cross_positions():
                if other is not position:
                    balance += exact_pnl(other.quantity, other.cost, marks[other.symbol])
        return bankruptcy_price(position.quantity, position.cost, balance)

    def forced_price(
        self, position: Position, price: Fraction | Decimal, marks: Mapping[str, Decimal], at: str
    ) -> Decimal:
        """Return the price of a liquidation that ``price`` on the path brought about."""
        if at == "bankruptcy":
            bankruptcy = self.bankruptcy_price(position, marks)
            price = bankruptcy if bankruptcy > 0 else price
        return against(position.quantity, price)

    # Margin that is needed

    def initial_margin(self, symbol: str, mark: Decimal, pending: Iterable[Order]) -> Decimal:
        """Return the margin of a symbol and its orders at a mark, without an isolated wallet's."""
        position = self.positions[symbol]
        notional = sign(position.quantity) * position.notional(mark)
        return _margin(position, notional, symbol, pending)

    def locked_margin(self, symbol: str, pending: Iterable[Order]) -> Decimal:
        """Return the same by cost, which does not move with marks, with the isolated wallet."""
        position = self.positions[symbol]
        value = sign(position.quantity) * position.cost
        return position.isolated_wallet + _margin(position, value, symbol, pending)

    def available(self, marks: Mapping[str, Decimal], pending: Iterable[Order]) -> Decimal:
        """Return the balance available for orders; may be negative."""
        pending = list(pending)
        available = self.cross
        for position in self.positions.values():
            mark = marks.get(position.symbol)
            if mark is None:
                continue
            if not position.is_isolated:
                available += position.unrealized_pnl(mark)
            available -= self.initial_margin(position.symbol, mark, pending)
        return available

    def largest_exposure(self, symbol: str, mark: Decimal, pending: Iterable[Order]) -> Decimal:
        position = self.positions[symbol]
        notional = sign(position.quantity) * position.notional(mark)
        return _exposure(notional, symbol, pending)

    def is_within_cap(self, symbol: str, mark: Decimal, pending: Iterable[Order]) -> bool:
        cap = self.positions[symbol].largest_notional
        return cap is None or self.largest_exposure(symbol, mark, pending) <= cap


def _left(position: Position, marks: Mapping[str, Decimal]) -> Decimal:
    """Return the unrealized PnL less the maintenance of a position, in exact products."""
    mark = marks[position.symbol]
    return safety(position.quantity, position.cost, ZERO, mark, position.tiers)


def _exposure(value: Decimal, symbol: str, pending: Iterable[Order]) -> Decimal:
    """Return max(|N + B|, |N - A|): what a symbol comes to if one side's orders fill."""
    values: dict[str, dict[str, Decimal]] = {"buy": {}, "sell": {}}
    for order in pending:
        if order.symbol == symbol and not order.reduce_only:
            amount = rounded(order.quantity * order.worst, AMOUNT_PLACES)
            one = f"order {order.id}" if order.list_id is None else f"list {order.list_id}"
            side = values[order.side]
            side[one] = max(side.get(one, ZERO), amount)
    bids, asks = sum(values["buy"].values(), ZERO), sum(values["sell"].values(), ZERO)
    return max(abs(value + bids), abs(value - asks))


def _margin(position: Position, value: Decimal, symbol: str, pending: Iterable[Order]) -> Decimal:
    exposure = Fraction(_exposure(value, symbol, pending))
    if position.is_isolated:
        exposure -= Fraction(abs(value))
    return rounded_up(exposure / position.leverage)
