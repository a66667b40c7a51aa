"""The rules of margin: which orders, leverages and transfers an account can bear.

An order that adds to a position is admitted by the state after its fill: the balance available for
new positions is not negative, the exposure is within that of the leverage, and no position would be
liquidated at the present marks. Orders that only reduce are never refused for margin.
"""

from decimal import Decimal

from candlestep.sandbox.errors import InsufficientMargin, InvalidParameter, LeverageLimit
from candlestep.sandbox.exchange.book import PendingOrders
from candlestep.sandbox.exchange.clearing import Admission
from candlestep.sandbox.exchange.costs.costs import Cost, Terms
from candlestep.sandbox.exchange.margin.account import MarginAccount, exposure
from candlestep.sandbox.exchange.margin.guard import CROSS, MarginGuard
from candlestep.sandbox.exchange.margin.marks import StandingMarks
from candlestep.sandbox.exchange.margin.positions import unrealized_pnl
from candlestep.sandbox.exchange.orders import Order, OrderTicket, Side
from candlestep.sandbox.exchange.risk import Exposure
from candlestep.sandbox.money import (
    AMOUNT_PLACES,
    ZERO,
    add,
    format_decimal,
    ratio_up_to,
    rounded_product,
    subtract,
)


class MarginRules:
    """The bounds of a margin account, with its pending orders, at the marks of a time."""

    def __init__(
        self,
        account: MarginAccount,
        pending: PendingOrders,
        marks: StandingMarks,
        guard: MarginGuard,
    ) -> None:
        self._account = account
        self._pending = pending
        self._marks = marks
        self._guard = guard

    def admit(self, order: Order, cost: Cost, now: int) -> Admission:
        """Admit an order by the account after its fill at ``cost``, or raise what refuses it."""
        self._require_reducible(order)
        if not self._adds(order, order.quantity):
            return Admission(order, None)
        after = self._account.copy()
        trade = after.trade(order.symbol, order.side, order.quantity, cost)
        refusal = self._refusal(order, after, now)
        if refusal is not None:
            raise refusal
        return Admission(order, trade.opened_quote)

    def _require_reducible(self, order: Order) -> None:
        reducible = self.reducible(order)
        if not order.reduce_only or order.quantity <= reducible:
            return
        if not reducible:
            problem = f"there is no position in {order.symbol} that a {order.side} reduces;"
        else:
            problem = (
                f"the {order.side} of {format_decimal(order.quantity)} {order.symbol} would not"
                f" only reduce the position; lower the quantity to at most"
                f" {format_decimal(reducible)}, or"
            )
        raise InvalidParameter(
            "reduce_only",
            f"{problem} set reduce_only to false to open a position",
            reducible=reducible,
        )

    def reducible(self, order: Order) -> Decimal:
        """Return the quantity of the position that an order can close."""
        held = self._account.holding(order.symbol).quantity
        is_opposite = held < 0 if order.side == "buy" else held > 0
        return held.copy_abs() if is_opposite else ZERO

    def _adds(self, order: Order, quantity: Decimal) -> bool:
        """Return whether a fill of ``quantity`` would open a position, or add to one."""
        return not order.reduce_only and quantity > self.reducible(order)

    def _refusal(
        self, order: Order, after: MarginAccount, now: int, *, is_pending: bool = False
    ) -> InsufficientMargin | LeverageLimit | None:
        """Return what is wrong with the account ``after`` the fill of an order, at the marks now.

        An order that ``is_pending`` no longer counts among those that wait, nor do orders of its list.
        """
        symbol = order.symbol
        without = order if is_pending or order.list_id is not None else None
        refusal = self.leverage_refusal(after, symbol, now, without)
        if refusal is not None:
            return refusal
        left = self.spendable(symbol, now, after, without)
        if left < 0:
            available = self.available(now, without=without)
            return _insufficient(subtract(available, left), available)
        scopes = (symbol, CROSS) if after.terms[symbol].is_isolated else (CROSS,)
        guard = self._guard.copy(after, self._marks)
        if all(guard.is_safe(scope, now) for scope in scopes):
            return None
        available = self.available(now, without=without)
        return InsufficientMargin(
            f"at the present mark price the position in {symbol} would be liquidated at once; lower"
            " the quantity or the leverage",
            required=subtract(available, left),
            available=max(available, ZERO),
        )

    def objection(self, order: Order, terms: Terms, now: int) -> str | None:
        """Return the reason to reject a pending order by the state after its fill, if any."""
        if not self._adds(order, terms.quantity):
            return None
        after = self._account.copy()
        after.trade(order.symbol, order.side, terms.quantity, terms.cost)
        refusal = self._refusal(order, after, now, is_pending=True)
        if refusal is None:
            return None
        is_margin = isinstance(refusal, InsufficientMargin)
        return "insufficient_margin" if is_margin else "leverage_limit"

    def leverage_refusal(
        self, account: MarginAccount, symbol: str, now: int, without: Order | None = None
    ) -> LeverageLimit | None:
        """Return an error if the exposure to ``symbol`` is larger than its leverage allows."""
        terms = account.terms[symbol]
        most = terms.tiers.max_notional(terms.leverage)
        if most is None:
            return None
        notional = self.notional(account, symbol, now)
        exposed = exposure(notional, *self.entries(symbol, without))
        if exposed <= most:
            return None
        return LeverageLimit(
            f"at leverage {format_decimal(terms.leverage)} the position in {symbol} and its orders"
            f" may come to at most {format_decimal(most)}, not {format_decimal(exposed)}; lower the"
            " quantity or the leverage",
            allowed=most,
            attempted=exposed,
        )

    def available(
        self, now: int, account: MarginAccount | None = None, without: Order | None = None
    ) -> Decimal:
        """Return the balance that is available for new positions; may be negative.

        The cross wallet and the unrealized PnL of cross positions, less the initial margin of
        these and of all pending entries, each symbol's rounded up. ``without`` is not counted.
        """
        account = self._account if account is None else account
        available = account.cross_wallet
        for symbol in dict.fromkeys([*account.open_holdings, *self._pending.entry_symbols()]):
            terms = account.terms[symbol]
            if not terms.is_isolated and symbol in account.open_holdings:
                mark = self._marks.price(symbol, now)
                pnl = unrealized_pnl(account.open_holdings[symbol], mark)
                available = add(available, pnl)
            margin = self.initial_margin(account, symbol, now, without)
            available = subtract(available, margin)
        return available

    def spendable(
        self,
        symbol: str,
        now: int,
        account: MarginAccount | None = None,
        without: Order | None = None,
    ) -> Decimal:
        """Return what an order in ``symbol`` may take: in isolated mode of the cross wallet.

        As ``available``, it may be negative.
        """
        account = self._account if account is None else account
        available = self.available(now, account, without)
        if account.terms[symbol].is_isolated:
            return min(available, account.cross_wallet)
        return available

    def cost_to_open(self, ticket: OrderTicket, quantity: Decimal, cost: Cost, now: int) -> Decimal:
        """Return what a fill takes of what is spendable; a gain at the mark does not count.

        ``ticket`` must open a position or add to one. At least its initial margin and its fee.
        """
        symbol = ticket.symbol
        after = self._account.copy()
        after.trade(symbol, ticket.side, quantity, cost)
        taken = subtract(self.spendable(symbol, now), self.spendable(symbol, now, after))
        return max(taken, add(after.terms[symbol].margin(cost.quote_amount), cost.fee))

    def most_by_leverage(self, symbol: str, side: Side, now: int) -> Decimal | None:
        """Return the quantity that can be added at the mark within the bound of the leverage."""
        terms = self._account.terms[symbol]
        most = terms.tiers.max_notional(terms.leverage)
        if most is None:
            return None
        buys, sells = self.entries(symbol)
        notional = self.notional(self._account, symbol, now)
        exposed = add(notional, buys) if side == "buy" else subtract(sells, notional)
        room = max(subtract(most, exposed), ZERO)
        return ratio_up_to(room, self._marks.price(symbol, now), AMOUNT_PLACES)

    def initial_margin(
        self, account: MarginAccount, symbol: str, now: int, without: Order | None = None
    ) -> Decimal:
        """Return the margin that a symbol takes of the cross wallet, at its mark."""
        notional = self.notional(account, symbol, now)
        exposed = exposure(notional, *self.entries(symbol, without))
        terms = account.terms[symbol]
        if terms.is_isolated:
            exposed = subtract(exposed, notional.copy_abs())
        return terms.margin(exposed)

    def notional(self, account: MarginAccount, symbol: str, now: int) -> Decimal:
        """Return the signed value of a position at its mark."""
        holding = account.open_holdings.get(symbol)
        if holding is None:
            return ZERO
        return rounded_product(holding.quantity, self._marks.price(symbol, now))

    def entries(self, symbol: str, without: Order | None = None) -> tuple[Decimal, Decimal]:
        """Return the value of a symbol's pending buys and sells that may add to a position."""
        buys = self._pending.entry_value(symbol, "buy")
        sells = self._pending.entry_value(symbol, "sell")
        if without is not None and without.symbol == symbol and without.is_entry:
            value = self._pending.value_freed_by(without)
            if without.side == "buy":
                return subtract(buys, value), sells
            return buys, subtract(sells, value)
        return buys, sells

    def exposure(self, order: Order, cost: Decimal, equity: Decimal, now: int) -> Exposure:
        """Return the exposure to an order that opens ``cost``, in notional at the mark."""
        held = self.notional(self._account, order.symbol, now)
        is_same_side = held > 0 if order.side == "buy" else held < 0
        value = held.copy_abs() if is_same_side else ZERO
        pending = self._pending.entry_value(order.symbol, order.side)
        return Exposure(
            order_cost=cost,
            available_cash=max(self.available(now), ZERO),
            symbol_value=add(value, pending),
            total_equity=equity,
        )


def _insufficient(needed: Decimal, available: Decimal) -> InsufficientMargin:
    has = max(available, ZERO)
    return InsufficientMargin(
        f"the order needs {needed:f} of margin with its fee, but only {has:f} is available; lower"
        " the quantity, raise the leverage, or cancel a pending order",
        required=needed,
        available=has,
    )
