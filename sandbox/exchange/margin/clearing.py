"""Clearing of a margin account: initial margin, funding, and liquidation."""

from collections.abc import Iterable, Mapping
from copy import copy
from decimal import Decimal
from typing import Literal

import msgspec

from candlestep.sandbox.exchange.book import PendingOrders
from candlestep.sandbox.exchange.clearing import (
    Admission,
    Booking,
    ForcedClose,
    Liquidation,
)
from candlestep.sandbox.exchange.costs.costs import Cost, Costs, Terms, cost_at
from candlestep.sandbox.exchange.events import COMPLETION, DATA_END, MARGIN, Event, EventQueue
from candlestep.sandbox.exchange.history import AccountHistory
from candlestep.sandbox.exchange.instructions import refuse_bracket
from candlestep.sandbox.exchange.margin.account import (
    MarginAccount,
    MarginPortfolio,
    MarginTerms,
)
from candlestep.sandbox.exchange.margin.funding import (
    FundingPayment,
    FundingSchedule,
    mark_of,
    payment,
)
from candlestep.sandbox.exchange.margin.guard import CROSS, MarginGuard
from candlestep.sandbox.exchange.margin.marks import MarkPath, StandingMarks
from candlestep.sandbox.exchange.margin.positions import (
    against,
    bankruptcy_price,
    unrealized_pnl,
)
from candlestep.sandbox.exchange.margin.rules import MarginRules
from candlestep.sandbox.exchange.orders import LIQUIDATION, Order, OrderTicket, Side
from candlestep.sandbox.exchange.path import Execution
from candlestep.sandbox.exchange.risk import Exposure
from candlestep.sandbox.market.candles import Candles
from candlestep.sandbox.market.funding import FundingRates
from candlestep.sandbox.market.market import Market
from candlestep.sandbox.money import (
    AMOUNT_PLACES,
    ZERO,
    add,
    multiply,
    rounded_product,
    rounded_ratio,
    subtract,
)

LiquidationAt = Literal["path", "bankruptcy"]

_ENTRY_TYPES = ("market", "limit")


class LiquidationRules(msgspec.Struct, frozen=True):
    """The fee of a liquidation, and the price at which it is made."""

    fee_rate: Decimal = Decimal("0.0125")
    """Fraction of the notional, at most what is left of the margin."""
    at: LiquidationAt = "path"
    """``path``: where the mark meets the liquidation price, or beyond it if it jumps there.
    ``bankruptcy``: where nothing of the margin is left."""


class MarginClearing:
    """The rules of a margin account; see ``Clearing``. Terms and formulas are those of Binance USDⓈ-M."""

    is_sized_by_notional = True
    nothing_left = "nothing_to_reduce"

    def __init__(
        self,
        market: Market,
        start: int,
        *,
        starting_balance: Decimal,
        costs: Costs,
        terms: Mapping[str, MarginTerms],
        rates: Mapping[str, FundingRates],
        end: int,
        liquidation: LiquidationRules,
        uses_marks: bool,
        close_only: bool,
        settles_at_data_end: bool = False,
    ) -> None:
        """Open an account with ``starting_balance`` at ``start`` (ms), holding nothing.

        ``terms`` by symbol must have every symbol of the market; ``rates`` are settled up to
        ``end``, the session's. With ``close_only`` liquidation sees the closes of candles alone. With
        ``settles_at_data_end`` a position is closed when the last candle of its symbol is over.
        """
        self.account = MarginAccount(starting_balance, terms)
        self.history = AccountHistory(start, self.account, is_margined=True, uses_marks=uses_marks)
        self.pending = PendingOrders()
        self.events = EventQueue()
        self.marks = StandingMarks(market, uses_marks=uses_marks)
        self.guard = MarginGuard(self.account, self.marks, close_only=close_only)
        self.rules = MarginRules(self.account, self.pending, self.marks, self.guard)
        self.payments: list[FundingPayment] = []
        self.liquidations: list[Liquidation] = []
        self.max_leverage_used = ZERO
        """The highest exposure over equity after any fill, at 8 places."""
        self._market = market
        self._costs = costs
        self._funding = FundingSchedule(rates, end)
        self._liquidation = liquidation
        self.uses_marks = uses_marks
        self._close_only = close_only
        self._settles_at_data_end = settles_at_data_end
        self._due: dict[str, int] = {}
        self._path: MarkPath | None = None
        self._is_unsettled = False
        self._has_lost_position = False
        self._mark_of_forced = ZERO

    def copy(self) -> "MarginClearing":
        """Return an independent copy; orders, candles and rates are shared."""
        copied = copy(self)
        copied.account = self.account.copy()
        copied.history = self.history.copy()
        copied.pending = self.pending.copy()
        copied.events = self.events.copy()
        copied.marks = self.marks.copy()
        copied.guard = self.guard.copy(copied.account, copied.marks)
        copied.rules = MarginRules(copied.account, copied.pending, copied.marks, copied.guard)
        copied.payments = self.payments.copy()
        copied.liquidations = self.liquidations.copy()
        copied._funding = self._funding.copy()
        copied._due = self._due.copy()
        return copied

    # Admission

    def complete(self, ticket: OrderTicket) -> OrderTicket:
        """Return ``ticket`` with ``reduce_only``, by default true for stop_loss and take_profit."""
        if ticket.reduce_only is None:
            reduces = ticket.type not in _ENTRY_TYPES
            ticket = msgspec.structs.replace(ticket, reduce_only=reduces)
        if ticket.reduce_only:
            refuse_bracket(ticket, "guards what an order opens; set reduce_only to false")
        return ticket

    def admit_at_once(self, order: Order, terms: Terms, now: int) -> Admission:
        """Admit an order by the state after its fill.

        Raises ``InsufficientMargin``, ``LeverageLimit``, and ``InvalidParameter`` for a reduce-only
        order that there is no position for.
        """
        return self.rules.admit(order, terms.cost, now)

    def admit_pending(self, order: Order, candles: Candles, now: int) -> Admission:
        """Admit an order by the state after its fill at its trigger, as of now.

        With the present slippage, and the highest fee. Raises as ``admit_at_once``.
        """
        price = self._costs.price_to_lock(order, candles, now)
        fee_rate = self._costs.fees.highest(order.symbol)
        return self.rules.admit(order, cost_at(order.quantity, price, fee_rate), now)

    def spendable(self, symbol: str, now: int) -> Decimal:
        """Return the balance available for new positions, in isolated mode within the cross wallet."""
        return max(self.rules.spendable(symbol, now), ZERO)

    def most_to_open(
        self, ticket: OrderTicket, cash: Decimal, base_price: Decimal, now: int
    ) -> Decimal:
        """Return the quantity whose margin is ``cash``, within the bound of the leverage."""
        margined = multiply(cash, self.account.terms[ticket.symbol].leverage)
        quantity = rounded_ratio(margined, base_price, AMOUNT_PLACES)
        most = self.rules.most_by_leverage(ticket.symbol, ticket.side, now)
        return quantity if most is None else min(quantity, most)

    def cost_to_open(self, ticket: OrderTicket, quantity: Decimal, cost: Cost, now: int) -> Decimal:
        """Return the margin of a fill with its fee and its loss at the mark."""
        return self.rules.cost_to_open(ticket, quantity, cost, now)

    def exposure(self, order: Order, cost: Decimal, now: int) -> Exposure:
        """Return the exposure to an order that opens ``cost``, in notional at the mark."""
        return self.rules.exposure(order, cost, self.equity(now), now)

    # Orders

    def lock(self, order: Order) -> None:
        """Lock what the symbol of ``order`` needs."""
        self.lock_symbol(order.symbol)

    def release(self, order: Order) -> None:
        """Lock what the symbol of ``order`` still needs."""
        self.lock_symbol(order.symbol)

    def lock_symbol(self, symbol: str) -> None:
        """Lock what a symbol's position and orders need by their cost."""
        self.account.lock(symbol, *self.rules.entries(symbol))

    def executable(self, order: Order) -> Decimal:
        """Return an order's quantity; of a reduce-only one, no more than there is to close."""
        if not order.reduce_only:
            return order.quantity
        return min(order.quantity, self.rules.reducible(order))

    def objection(self, order: Order, terms: Terms, now: int) -> str | None:
        """Return ``insufficient_margin`` or ``leverage_limit`` by the state after the fill."""
        return self.rules.objection(order, terms, now)

    def book(self, order: Order, terms: Terms, now: int) -> Booking:
        """Book a fill or a liquidation, and what the insurance fund takes over of a debt."""
        symbol, account = order.symbol, self.account
        before = account.holding(symbol).quantity
        is_forced = order.reason == LIQUIDATION
        remainder = account.isolated_wallet(symbol)
        trade = account.trade(symbol, order.side, terms.quantity, terms.cost)
        insurance = ZERO
        if is_forced and account.terms[symbol].is_isolated:
            remainder = add(remainder, subtract(trade.closed_pnl, terms.cost.fee))
            insurance = debt_of(remainder)
        elif trade.closed and not account.has_cross_position():
            insurance = debt_of(account.cross_wallet)
        if insurance:
            account.insure(symbol, insurance)
        self._note_change(symbol, before, account.holding(symbol).quantity, now)
        if is_forced:
            self._note_liquidation(order, terms, trade.closed_pnl, insurance, now)
        self.lock_symbol(symbol)
        if not trade.closed:
            return Booking(None, None, ZERO)
        realized = subtract(trade.closed_pnl, terms.cost.fee)
        return Booking(realized, trade.closed_pnl, trade.closed)

    def _note_change(self, symbol: str, before: Decimal, after: Decimal, now: int) -> None:
        """Note what a fill means for funding, for the path it is on, and for the search."""
        is_new = not before or not after or (before > 0) != (after > 0)
        self._has_lost_position = bool(before) and is_new
        if after and not before:
            funding = self._funding.arm(symbol, now - self.marks.is_moving)
            if funding is not None:
                self.events.add(funding)
            self._await_data_end(symbol, now)
        if self._path is not None:
            self._path.is_seen = self._path.is_seen or is_new
        elif after and (is_new or after.copy_abs() > before.copy_abs()):
            self.guard.changed_at[symbol] = now
        self._is_unsettled = True
        self.guard.disarm(symbol)
        equity = self.equity(now)
        if after and equity > 0:
            exposed = ZERO
            for held in self.account.open_holdings:
                exposed = add(exposed, self.rules.notional(self.account, held, now).copy_abs())
            used = rounded_ratio(exposed, equity, AMOUNT_PLACES)
            self.max_leverage_used = max(self.max_leverage_used, used)

    def _await_data_end(self, symbol: str, now: int) -> None:
        """Add the event of a new position's last candle, if the session settles then."""
        if not self._settles_at_data_end:
            return
        event = Event(self._market.candles_of(symbol).complete_time_of(-1), DATA_END, symbol=symbol)
        if event.time > now - self.marks.is_moving and event not in self.events.heap:
            self.events.add(event)

    def without_position(self, order: Order) -> list[Order]:
        """Return the reduce-only orders of a position that the last fill closed or flipped."""
        return self.pending.protective(order.symbol) if self._has_lost_position else []

    def closing_tickets(self) -> list[OrderTicket]:
        """Return the market orders that close every position, by symbol."""
        holdings = self.account.open_holdings
        return [self._closing_ticket(symbol) for symbol in sorted(holdings)]

    def _closing_ticket(self, symbol: str) -> OrderTicket:
        quantity = self.account.holding(symbol).quantity
        side: Side = "sell" if quantity > 0 else "buy"
        return OrderTicket(symbol, side, "market", quantity.copy_abs(), reduce_only=True)

    def note_transfer(self, symbol: str) -> None:
        """Note that a transfer has changed the wallet of a position."""
        self._is_unsettled = True
        self.guard.disarm(symbol)

    # Valuation

    def has_mark(self, symbol: str, now: int) -> bool:
        """Return whether ``symbol`` has a mark price yet."""
        return self.marks.line(symbol).price(now) is not None

    def portfolio(self, prices: Mapping[str, Decimal], now: int) -> MarginPortfolio:
        """Return the account valued at the marks; ``prices`` do not matter."""
        account = self.account
        return account.portfolio(self.marks.closes(account.held, now))

    def equity(self, now: int) -> Decimal:
        """Return the wallet and the unrealized PnL."""
        equity = self.account.wallet
        for symbol, holding in self.account.open_holdings.items():
            equity = add(equity, unrealized_pnl(holding, self.marks.price(symbol, now)))
        return equity

    # Time

    def arm(self, now: int) -> None:
        """Add the next time at which each position may lack margin, if it is not known."""
        if self.guard.unarmed:
            self.guard.arm(self.events, now)

    def continues_search(self, until: int) -> bool:
        """Take the first event if it is stale, or only goes on with a search."""
        return self.guard.continues_search(self.events, until)

    def begin_instant(self, time: int) -> None:
        """Add the candles complete at ``time`` of every symbol with a position."""
        self.guard.disarm_at(time)
        self.marks.begin_moves()
        for symbol in self.account.open_holdings:
            line = self.marks.line(symbol)
            index = line.last_complete(time)
            if index >= 0 and line.complete_time_of(index) == time:
                self._due[symbol] = index
                open_time = int(line.open_time[index])
                self.events.add(Event(time, COMPLETION, open_time, symbol, index))

    def is_due(self, event: Event) -> bool:
        """Return whether a position has yet to see the candle of a completion."""
        return self._due.get(event.symbol) == event.subject

    def begin_candle(self, symbol: str, index: int) -> None:
        """Begin the path of the mark through a complete candle."""
        self._due.pop(symbol, None)
        line, candles = self.marks.line(symbol), self._market.candles_of(symbol)
        mark = line.candle(index)
        self._path = MarkPath(
            symbol,
            mark,
            mark if line is candles else candles.candle(index),
            close_only=self._close_only,
            is_seen=self.guard.changed_at.get(symbol, 0) <= mark.open_time,
        )
        self._is_unsettled = False

    def next_forced_close(self, execution: Execution | None, now: int) -> ForcedClose | None:
        """Return the next position to close, at the place of its path where margin is missing.

        What a fill or a payment has broken comes first, at the marks as they stand; then the mark
        moves on to ``execution``, or to the end of the candle.
        """
        path = self._path
        if path is None:
            self.marks.end_moves()
        forced = self._broken_where_it_stands(path, now) if self._is_unsettled else None
        while forced is None and path is not None:
            point = path.next_point(execution)
            if point is None:
                break
            forced = self._move(path, *point, now)
        if forced is None and execution is None:
            self._path = None
        return forced

    def _broken_where_it_stands(self, path: MarkPath | None, now: int) -> ForcedClose | None:
        """Return a position without margin: isolated ones by symbol, then cross ones."""
        moved = None if path is None else path.symbol
        unseen = None if path is None or path.is_seen else path.symbol
        for symbol in sorted(self.account.isolated_wallets):
            if symbol != unseen and not self.guard.is_safe(symbol, now):
                return self._force(symbol, self.marks.price(symbol, now), now)
        is_hidden = unseen in self.account.open_holdings and not self._is_isolated(unseen)
        if not is_hidden and not self.guard.is_safe(CROSS, now):
            if moved not in self.account.open_holdings or self._is_isolated(moved):
                moved = self.guard.largest(CROSS, now).symbol
            return self._force(moved, self.marks.price(moved, now), now)
        self._is_unsettled = False
        return None

    def _is_isolated(self, symbol: str | None) -> bool:
        return symbol is not None and self.account.terms[symbol].is_isolated

    def _move(self, path: MarkPath, price: Decimal, is_jump: bool, now: int) -> ForcedClose | None:
        """Move the mark of a path; return its position if margin does not suffice there."""
        symbol = path.symbol
        self.marks.move(symbol, price)
        if not path.is_seen or symbol not in self.account.open_holdings:
            return None
        if self.guard.is_safe(self.guard.scope_of(symbol), now):
            return None
        if not is_jump:
            met = self.guard.liquidation_price(symbol, now)
            price = price if met is None else met
        return self._force(symbol, price, now)

    def _force(self, symbol: str, mark: Decimal, now: int) -> ForcedClose:
        """Return how a position is closed at ``mark``, for a fee of at most what is left."""
        holding = self.account.holding(symbol)
        rules, price = self._liquidation, None
        if rules.at == "bankruptcy":
            price = bankruptcy_price(holding, self.guard.balance_to_bankruptcy(symbol, now))
        if price is None:
            price = against(holding, mark)
        ticket = self._closing_ticket(symbol)
        quote = rounded_product(ticket.quantity, price)
        left = self._left_after(symbol, quote, now)
        fee = min(rounded_product(quote, rules.fee_rate), max(left, ZERO))
        self._mark_of_forced = against(holding, mark)
        terms = Terms(ticket.quantity, price, ZERO, Cost(quote, fee))
        return ForcedClose(ticket, terms, self._orders_of(symbol))

    def _left_after(self, symbol: str, quote: Decimal, now: int) -> Decimal:
        """Return what is left of the margin after a close for ``quote``, before the fee."""
        account, holding = self.account, self.account.holding(symbol)
        value = quote if holding.quantity > 0 else quote.copy_negate()
        pnl = subtract(value, holding.cost_basis)
        if self._is_isolated(symbol):
            return add(account.isolated_wallet(symbol), pnl)
        left = add(account.cross_wallet, pnl)
        for other in self.guard.members(CROSS):
            if other.symbol != symbol:
                left = add(left, unrealized_pnl(other, self.marks.price(other.symbol, now)))
        return left

    def _orders_of(self, symbol: str) -> Iterable[Order]:
        """Return the pending orders that a liquidation cancels: those of its scope, by id."""
        scope = self.guard.scope_of(symbol)
        return self.pending.of(
            other for other in self.pending.books if self.guard.scope_of(other) == scope
        )

    def _note_liquidation(
        self, order: Order, terms: Terms, closed_pnl: Decimal, insurance: Decimal, now: int
    ) -> None:
        fee = terms.cost.fee
        self.liquidations.append(
            Liquidation(
                order.id,
                order.symbol,
                order.side,
                terms.quantity,
                self._mark_of_forced,
                terms.price,
                closed_pnl,
                subtract(subtract(fee, closed_pnl), insurance),
                fee,
                insurance,
                "isolated" if self._is_isolated(order.symbol) else "cross",
                now,
            )
        )

    def pay_funding(self, event: Event) -> None:
        """Settle a row of funding on the position that is held after the candles of its time."""
        self.marks.end_moves()
        row = self._funding.take(event)
        symbol = event.symbol
        holding = self.account.open_holdings.get(symbol)
        if row is None or holding is None:
            return
        mark, source = mark_of(self._market, symbol, row, uses_marks=self.uses_marks)
        notional = rounded_product(holding.quantity.copy_abs(), mark)
        amount = payment(holding.quantity, notional, row.rate)
        self.account.pay_funding(symbol, amount)
        self.payments.append(
            FundingPayment(
                len(self.payments) + 1,
                symbol,
                row.rate,
                mark,
                source,
                holding.quantity,
                notional,
                amount,
                event.time,
            )
        )
        self.lock_symbol(symbol)
        self.history.record(event.time, self.account)
        self.history.funding.record(event.time, self.account.funding)
        self._is_unsettled = True
        self.guard.disarm(symbol)
        self.events.add(Event(event.time, MARGIN, symbol=symbol))
        following = self._funding.arm_next(event)
        if following is not None:
            self.events.add(following)

    def end_instant(self) -> None:
        """Let every mark stand at its close."""
        self.marks.end_moves()
        self._due.clear()


def debt_of(balance: Decimal) -> Decimal:
    """Return what a balance is below 0."""
    return balance.copy_negate() if balance < 0 else ZERO
