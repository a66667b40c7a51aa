"""The exchange: places and cancels orders, and lets time pass from event to event."""

from collections.abc import Mapping
from copy import copy
from decimal import Decimal

import msgspec

from candlestep.sandbox.errors import (
    InvalidState,
    OrderNotFound,
    OrderWouldMatch,
    RiskLimitExceeded,
    abbreviate,
)
from candlestep.sandbox.exchange.account import Ledger
from candlestep.sandbox.exchange.clearing import Admission, Clearing
from candlestep.sandbox.exchange.costs.costs import (
    Costs,
    Terms,
    fills_at_once,
    is_worse,
)
from candlestep.sandbox.exchange.costs.quotes import Quotes
from candlestep.sandbox.exchange.events import (
    COMPLETION,
    DATA_END,
    EXPIRY,
    FUNDING,
    MARGIN,
    Event,
)
from candlestep.sandbox.exchange.history import AccountHistory
from candlestep.sandbox.exchange.instructions import require_amount
from candlestep.sandbox.exchange.instruments import Instrument
from candlestep.sandbox.exchange.matching import CandleWatch
from candlestep.sandbox.exchange.orders import (
    LIQUIDATION,
    Fill,
    Order,
    OrderStatus,
    OrderTicket,
    bracket_of,
)
from candlestep.sandbox.exchange.path import Execution, PathWalk, has_reached
from candlestep.sandbox.exchange.risk import Breach, RiskProfile, TradingDay, first_breach
from candlestep.sandbox.exchange.trailing import trailing_from
from candlestep.sandbox.market.candles import Candles
from candlestep.sandbox.market.market import Market
from candlestep.sandbox.money import ZERO, Whole, format_decimal, python_number, subtract

_NO_LIMITS = RiskProfile()


class Exchange:
    """One account on one market: its orders, its fills, and its clock.

    Time passes only in ``advance`` and ``advance_to_change``. Orders and fills are lists in the
    sequence of their ids, which count from 1.
    """

    def __init__(
        self,
        market: Market,
        start: int,
        *,
        clearing: Clearing,
        costs: Costs,
        risk: RiskProfile,
        close_only: bool,
        instruments: Mapping[str, Instrument],
    ) -> None:
        """Begin to trade for the account of ``clearing`` at ``start`` (ms).

        With ``close_only`` a candle triggers orders by its close alone. ``instruments`` by symbol
        have the filters of orders.
        """
        self.market = market
        self.now = start
        self.clearing = clearing
        self.orders: list[Order] = []
        self.fills: list[Fill] = []
        self.closed: list[Order] = []
        """Orders that ended without a fill, in the sequence in which they ended."""
        self._risk = risk
        self._has_limits = risk != _NO_LIMITS
        self.quotes = Quotes(market, costs, instruments, clearing, self.fills)
        self._pending = clearing.pending
        self.watch = CandleWatch(close_only=close_only)
        self._events = clearing.events
        self._walk: PathWalk | None = None
        """The path of the candle that is looked at."""
        self._today = TradingDay(start, clearing.account.starting_balance)

    def copy(self) -> "Exchange":
        """Return an independent copy; orders, fills and candles are shared."""
        copied = copy(self)
        copied.clearing = self.clearing.copy()
        copied.orders = self.orders.copy()
        copied.fills = self.fills.copy()
        copied.closed = self.closed.copy()
        copied._pending = copied.clearing.pending
        copied.watch = self.watch.copy()
        copied._events = copied.clearing.events
        copied._today = copy(self._today)
        copied.quotes = self.quotes.copy(copied.clearing, copied.fills)
        return copied

    @property
    def account(self) -> Ledger:
        """The ledger; do not change it."""
        return self.clearing.account

    @property
    def history(self) -> AccountHistory:
        """The history of the account."""
        return self.clearing.history

    def advance(self, until: int) -> None:
        """Let time pass to ``until``. Costs grow with the events on the way, not with the span."""
        self.clearing.arm(self.now)
        events = self._events.heap
        while events and events[0].time <= until:
            if not self.clearing.continues_search(until):
                self._finish_instant(events[0].time)
        self.now = until

    def advance_to_change(self, until: int) -> None:
        """Let time pass until an order fills or closes, but not beyond ``until``."""
        self.clearing.arm(self.now)
        events = self._events.heap
        fills, closed = len(self.fills), len(self.closed)
        while events and events[0].time <= until:
            if self.clearing.continues_search(until):
                continue
            self._finish_instant(events[0].time)
            if len(self.fills) > fills or len(self.closed) > closed:
                return
        self.now = until

    def _finish_instant(self, time: int) -> None:
        """Process every event at ``time``, including those that these events cause."""
        self.now = time
        clearing, events = self.clearing, self._events.heap
        clearing.begin_instant(time)
        while events and events[0].time == time:
            event = self._events.pop()
            if event.kind == COMPLETION:
                if self.watch.is_current(event) or clearing.is_due(event):
                    self._complete_candle(event.symbol, event.subject)
            elif event.kind == FUNDING:
                self._today.begin(time, clearing.account.realized_pnl)
                clearing.pay_funding(event)
            elif event.kind == MARGIN:
                self._close_by_force(None)
            elif event.kind == DATA_END:
                self.liquidate("data_end", event.symbol)
                self._close_by_force(None)
            elif self._is_pending(event.subject):
                self._close(self.orders[event.subject - 1], "expired", None)
        clearing.end_instant()
        clearing.arm(time)

    def _complete_candle(self, symbol: str, index: int) -> None:
        candles = self.market.candles_of(symbol)
        self.clearing.begin_candle(symbol, index)
        book = self._pending.books.get(symbol)
        if book:
            candle, close_only = candles.candle(index), self.watch.close_only
            self._walk = walk = PathWalk(book, candle, index, close_only=close_only)
            while (execution := walk.next()) is not None:
                self._close_by_force(execution)
                if execution.order.id in book:  # What happened before may have cancelled it.
                    self._trigger(execution, candles, index)
            self._walk = None
        self._close_by_force(None)
        completion = self.watch.move_on(symbol, book, candles, index)
        if completion is not None:
            self._events.add(completion)

    def _close_by_force(self, execution: Execution | None) -> None:
        """Close the positions that are liquidated before ``execution``, or the end of the path."""
        while (forced := self.clearing.next_forced_close(execution, self.now)) is not None:
            for order in forced.cancelled:
                self._close(order, "cancelled", LIQUIDATION)
            order = msgspec.structs.replace(self._draft(forced.ticket), reason=LIQUIDATION)
            self._fill(self._accept(order), forced.terms)

    def _is_pending(self, order_id: Whole) -> bool:
        return self.orders[order_id - 1].status == "pending"

    def place(
        self, ticket: OrderTicket, *, list_id: int | None = None, parent_id: int | None = None
    ) -> Order:
        """Fill an order at once, or let it rest until its trigger; one of a list has to rest.

        A refused order changes nothing, except for ``RiskLimitExceeded``.

        Raises ``SymbolNotFound``, ``InvalidSymbol``, ``NoPrice``, ``InvalidParameter`` (an amount
        that rounds to zero), ``FilterViolated``, ``OrderWouldMatch``, ``InsufficientBalance``, and
        ``RiskLimitExceeded``, which records the order as rejected. O(log n) in the pending orders.
        """
        candles = self.market.candles_of(ticket.symbol)
        if ticket.symbol != candles.symbol:
            ticket = msgspec.structs.replace(ticket, symbol=candles.symbol)
        price = candles.price(self.now) or self.market.price(ticket.symbol, self.now)
        if ticket.quote_amount is not None:
            ticket = self.quotes.sized(ticket, price, candles, self.now)
        instrument = self.quotes.instruments.get(ticket.symbol)
        if instrument is not None:
            instrument.require_order(ticket, price, only_reduces=self._only_reduces(ticket))
        if fills_at_once(ticket, price):
            if ticket.post_only or list_id is not None:
                limit, now = (format_decimal(one) for one in (ticket.price or price, price))
                raise OrderWouldMatch(
                    f"the {ticket.side} limit at {limit} would fill at once at {now};"
                    " give it a price that it has to wait for"
                )
            return self.execute(ticket, self.quotes.at_once(ticket, price, candles, self.now))
        order = self._draft(ticket)
        if list_id is not None or parent_id is not None:
            order = msgspec.structs.replace(order, list_id=list_id, parent_id=parent_id)
        return self._rest(order, price, candles)

    def cancel(self, order_id: Whole) -> Order:
        """Cancel a pending order and release what it locked.

        Raises ``OrderNotFound``, and ``InvalidState`` if it is no longer pending.
        """
        return self._close(self.pending_order(order_id), "cancelled", "requested")

    def replace(self, order_id: Whole, ticket: OrderTicket) -> Order:
        """Cancel a pending order, and place ``ticket`` in its group and list.

        A refusal leaves the order cancelled; try on a copy. Raises as ``cancel`` and ``place``.
        """
        old = self._close(self.pending_order(order_id), "cancelled", "replaced")
        return self.place(ticket, list_id=old.list_id, parent_id=old.parent_id)

    def record_rejected(self, ticket: OrderTicket, refusal: RiskLimitExceeded) -> RiskLimitExceeded:
        """Record an order as rejected that a copy refused; return the refusal that names it."""
        breach = Breach.of(refusal, self._risk)
        return breach.refusal(self._end_unplaced(self._draft(ticket), "rejected", breach.limit).id)

    def cancel_all(self, reason: str) -> None:
        """Cancel every pending order, oldest first."""
        for order in self.open_orders():
            self._close(order, "cancelled", reason)

    def liquidate(self, reason: str, symbol: str | None = None) -> None:
        """Close every position at the market, by symbol, or only that in ``symbol``."""
        for ticket in self.clearing.closing_tickets():
            if symbol not in (None, ticket.symbol):
                continue
            candles = self.market.candles_of(ticket.symbol)
            price = self.market.price(ticket.symbol, self.now)
            order = msgspec.structs.replace(self._draft(ticket), reason=reason)
            self._fill(self._accept(order), self.quotes.at_once(ticket, price, candles, self.now))

    def book(self, ticket: OrderTicket, terms: Terms) -> Order:
        """Book a fill now that was executed elsewhere, without asking whether it is admitted."""
        return self._fill(self._accept(self._draft(ticket)), terms)

    def test_margin(self) -> None:
        """Close the positions whose margin no longer suffices at the marks now."""
        self._close_by_force(None)

    def order(self, order_id: Whole) -> Order:
        """Return the order with this id; raises ``OrderNotFound``."""
        number = python_number(order_id)
        if type(number) is int and 1 <= number <= len(self.orders):
            return self.orders[number - 1]
        text = abbreviate(order_id)
        raise OrderNotFound(f"the session has no order {text}", order_id=text)

    def pending_order(self, order_id: Whole) -> Order:
        """Return a pending order; raises ``OrderNotFound``, and ``InvalidState`` if it is none."""
        order = self.order(order_id)
        if order.status != "pending":
            raise InvalidState(
                f"order {order_id} is {order.status}; only a pending order can be cancelled"
                " or replaced",
                order_id=order_id,
                status=order.status,
            )
        return order

    @property
    def pending_count(self) -> int:
        """Number of pending orders."""
        return len(self._pending)

    def open_orders(self) -> list[Order]:
        """Return the pending orders, oldest first. O(n log n)."""
        return [self.orders[order_id - 1] for order_id in sorted(self._pending)]

    # Placing

    def execute(self, ticket: OrderTicket, terms: Terms) -> Order:
        """Fill an order on ``terms`` quoted now, without filters; raises as ``place``."""
        require_amount(terms.cost.quote_amount)
        order = self._draft(ticket)
        self._check_risk(self.clearing.admit_at_once(order, terms, self.now))
        filled = self._fill(self._accept(order), terms)
        self._close_by_force(None)
        return filled

    def _rest(self, order: Order, price: Decimal, candles: Candles) -> Order:
        """Accept an order that waits for its trigger, and lock what it needs."""
        if order.type == "trailing_stop":
            order = trailing_from(order, price)
        value = order.value
        require_amount(value)
        admission = self.clearing.admit_pending(order, candles, self.now)
        self._check_risk(admission)
        if order.type == "limit" and order.time_in_force != "gtc":
            return self._end_unplaced(order, "expired", None)
        order = self._accept(admission.order)
        self._await(order, value, candles)
        return order

    def _await(self, order: Order, value: Decimal, candles: Candles) -> None:
        """Let an accepted order of a ``value`` wait for its trigger."""
        self._pending.add(order, value)
        self.clearing.lock(order)
        self.history.record(self.now, self.account)
        if order.expires_at is not None:
            self._events.add(Event(order.expires_at, EXPIRY, subject=order.id))
        if self._walk is not None:
            self._walk.add(order)
            return
        book = self._pending.books[order.symbol]
        completion = self.watch.add_order(book, order, candles, self.now)
        if completion is not None:
            self._events.add(completion)

    def _end_unplaced(self, order: Order, status: OrderStatus, reason: str | None) -> Order:
        """Record an order that has ended without waiting."""
        ended = self._accept(self._ended(order, status, reason))
        self.closed.append(ended)
        return ended

    def _draft(self, ticket: OrderTicket) -> Order:
        """Return the order that ``ticket`` would become."""
        return Order(len(self.orders) + 1, self.now, *msgspec.structs.astuple(ticket))

    def _only_reduces(self, ticket: OrderTicket) -> bool:
        """Return whether an order can close no more than a position, and nothing else."""
        if not ticket.reduce_only:
            return False
        return self.clearing.executable(self._draft(ticket)) == ticket.quantity

    def _accept(self, order: Order) -> Order:
        self.orders.append(order)
        return order

    # Risk

    def _check_risk(self, admission: Admission) -> None:
        """Record an order as rejected and raise if a limit of the risk profile refuses it."""
        order, cost = admission.order, admission.cost
        if cost is None or not self._has_limits:
            return
        self._today.begin(self.now, self.account.realized_pnl)
        exposure = self.clearing.exposure(order, cost, self.now)
        realized_today = self._today.realized(self.account.realized_pnl)
        breach = first_breach(
            self._risk,
            exposure,
            realized_today,
            lambda: self._today.equity_at_start(self.history, self.market),
        )
        if breach is not None:
            raise breach.refusal(self._end_unplaced(order, "rejected", breach.limit).id)

    # Executing and closing

    def _trigger(self, execution: Execution, candles: Candles, index: int) -> None:
        """Execute a pending order that the candle at ``index`` triggers, or reject it.

        One that becomes a limit there waits on if the price is worse than its limit.
        """
        order, base_price, _ = execution
        if order.becomes_limit and is_worse(base_price, order.value_price, order.side):
            self._become_limit(order)
            return
        clearing, quotes = self.clearing, self.quotes
        quantity = clearing.executable(order)
        if not quantity:
            self._close(order, "rejected", clearing.nothing_left)
            return
        fee_rate = quotes.fee_rate(order.symbol, self.now, is_maker=order.is_limit)
        terms = quotes.costs.terms_at_trigger(order, quantity, base_price, fee_rate, candles, index)
        objection = clearing.objection(order, terms, self.now)
        if objection is not None:
            self._close(order, "rejected", objection)
            return
        self._release(order)
        self._fill(order, terms)

    def _become_limit(self, order: Order) -> None:
        """Let an order that is triggered wait at its limit, unless it may not wait."""
        if order.time_in_force != "gtc":
            self._close(order, "expired", None)
            return
        limit = msgspec.structs.replace(order, triggered_at=self.now)
        self.orders[order.id - 1] = limit
        self._pending.change(order, limit)
        assert self._walk is not None, "only candles trigger orders"
        self._walk.add(limit)

    def _fill(self, order: Order, terms: Terms) -> Order:
        """Book an execution; cancel the rest of its OCO group, and the guards of a closed position."""
        clearing, symbol = self.clearing, order.symbol
        if self._has_limits:
            self._today.begin(self.now, clearing.account.realized_pnl)
        booking = clearing.book(order, terms, self.now)
        fill = Fill(
            len(self.fills) + 1,
            order.id,
            symbol,
            order.side,
            order.type,
            terms.quantity,
            terms.price,
            terms.cost.quote_amount,
            terms.cost.fee,
            terms.slippage,
            booking.realized_pnl,
            self.now,
            booking.closed_pnl,
            booking.closed_quantity,
            order.reason == LIQUIDATION,
        )
        self.fills.append(fill)
        filled = self._ended(order, "filled", order.reason, fill)
        self.orders[order.id - 1] = filled
        if order.group is not None:
            for order_id in self._pending.in_group(order.group):
                self._close(self.orders[order_id - 1], "cancelled", "oco")
        for guard in clearing.without_position(order):
            self._close(guard, "cancelled", "position_closed")
        clearing.history.record(self.now, clearing.account)
        clearing.history.record_holding(self.now, symbol, clearing.account)
        if order.stop_loss is not None or order.take_profit is not None:
            self._place_legs(filled, subtract(terms.quantity, booking.closed_quantity or ZERO))
        return filled

    def _place_legs(self, entry: Order, quantity: Decimal) -> None:
        """Place the bracket of an entry that has filled, for the part of it that was opened.

        A leg that the price has reached already executes at once.
        """
        if not quantity:
            return
        candles = self.market.candles_of(entry.symbol)
        legs = bracket_of(entry, quantity, first_id=len(self.orders) + 1, now=self.now)
        waiting = [
            self._accept(self.clearing.admit_pending(leg, candles, self.now).order) for leg in legs
        ]
        for leg in waiting:
            self._await(leg, leg.value, candles)
        if self._walk is None:
            price = self.market.price(entry.symbol, self.now)
            for leg in waiting:
                if has_reached(leg, price):
                    self._release(leg)
                    self._fill(leg, self.quotes.at_once(leg.ticket, price, candles, self.now))

    def _close(self, order: Order, status: OrderStatus, reason: str | None) -> Order:
        """End a pending order without a fill."""
        self._release(order)
        closed = self._ended(order, status, reason)
        self.orders[order.id - 1] = closed
        self.closed.append(closed)
        self.history.record(self.now, self.account)
        return closed

    def _ended(
        self, order: Order, status: OrderStatus, reason: str | None, fill: Fill | None = None
    ) -> Order:
        """Return ``order`` as it is when it stops being pending now, with nothing locked."""
        return msgspec.structs.replace(
            order,
            status=status,
            reason=reason,
            filled_at=None if fill is None else self.now,
            closed_at=self.now,
            locked_cash=ZERO,
            locked_quantity=ZERO,
            fill=fill,
        )

    def _release(self, order: Order) -> None:
        """Remove an order from those pending and free what it locked."""
        self._pending.remove(order)
        self.clearing.release(order)
        if order.expires_at is not None:
            self._events.count_stale_expiry(self._is_pending)
