"""The exchange: places and cancels orders, and lets time pass from event to event."""

from copy import copy
from decimal import Decimal

import msgspec

from candlestep.sandbox.errors import (
    InvalidParameter,
    InvalidState,
    OrderNotFound,
    RiskLimitExceeded,
    abbreviate,
)
from candlestep.sandbox.exchange.account import Account
from candlestep.sandbox.exchange.book import PendingOrders
from candlestep.sandbox.exchange.costs.costs import (
    Costs,
    Terms,
    affordable_quantity,
    cost_at,
    fills_at_once,
)
from candlestep.sandbox.exchange.costs.fees import TradedVolume
from candlestep.sandbox.exchange.events import EXPIRY, Event, EventQueue
from candlestep.sandbox.exchange.history import AccountHistory
from candlestep.sandbox.exchange.matching import CandleWatch, walk
from candlestep.sandbox.exchange.orders import Fill, Order, OrderStatus, OrderTicket
from candlestep.sandbox.exchange.risk import Breach, Exposure, RiskProfile, TradingDay, first_breach
from candlestep.sandbox.market.candles import Candles
from candlestep.sandbox.market.market import Market
from candlestep.sandbox.money import (
    AMOUNT_PLACES,
    EXACT,
    MAXIMUM,
    ZERO,
    add,
    rounded_product,
    rounded_ratio,
    total,
)

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
        starting_balance: Decimal,
        costs: Costs,
        risk: RiskProfile,
        close_only: bool,
    ) -> None:
        """Open an account with ``starting_balance`` at ``start`` (ms), holding nothing.

        With ``close_only`` a candle triggers orders by its close alone.
        """
        self.market = market
        self.now = start
        self.account = Account(starting_balance)
        self.history = AccountHistory(start, self.account)
        self.orders: list[Order] = []
        self.fills: list[Fill] = []
        self.closed: list[Order] = []
        """Orders that ended without a fill, in the sequence in which they ended."""
        self._costs = costs
        self._risk = risk
        self._pending = PendingOrders()
        self._watch = CandleWatch(close_only=close_only)
        self._events = EventQueue()
        self._today = TradingDay(start, starting_balance)
        self._traded = TradedVolume()

    def copy(self) -> "Exchange":
        """Return an independent copy; orders, fills and candles are shared."""
        copied = copy(self)
        copied.account = self.account.copy()
        copied.history = self.history.copy()
        copied.orders = self.orders.copy()
        copied.fills = self.fills.copy()
        copied.closed = self.closed.copy()
        copied._pending = self._pending.copy()
        copied._watch = self._watch.copy()
        copied._events = self._events.copy()
        copied._today = copy(self._today)
        copied._traded = copy(self._traded)
        return copied

    def advance(self, until: int) -> None:
        """Let time pass to ``until``. Costs grow with the events on the way, not with the span."""
        events = self._events.heap
        while events and events[0].time <= until:
            self._finish_instant(events[0].time)
        self.now = until

    def advance_to_change(self, until: int) -> None:
        """Let time pass until an order fills or closes, but not beyond ``until``."""
        events = self._events.heap
        fills, closed = len(self.fills), len(self.closed)
        while events and events[0].time <= until:
            self._finish_instant(events[0].time)
            if len(self.fills) > fills or len(self.closed) > closed:
                return
        self.now = until

    def _finish_instant(self, time: int) -> None:
        """Process every event at ``time``, including those that these events cause."""
        self.now = time
        events = self._events.heap
        while events and events[0].time == time:
            event = self._events.pop()
            if event.kind == EXPIRY:
                if self._is_pending(event.subject):
                    self._close(self.orders[event.subject - 1], "expired", None)
            elif self._watch.is_current(event):
                self._complete_candle(event.symbol, event.subject)

    def _complete_candle(self, symbol: str, index: int) -> None:
        candles = self.market.candles_of(symbol)
        book = self._pending.books[symbol]
        candle = candles.candle(index)
        for order, base_price in walk(book, candle, close_only=self._watch.close_only):
            if order.id in book:  # One that triggered before it may have cancelled it.
                self._trigger(order, base_price, candles, index)
        completion = self._watch.move_on(symbol, book, candles, index + 1)
        if completion is not None:
            self._events.add(completion)

    def _is_pending(self, order_id: int) -> bool:
        return self.orders[order_id - 1].status == "pending"

    def place(self, ticket: OrderTicket) -> Order:
        """Fill an order at once, or let it rest until its trigger.

        A refused order changes nothing, except for ``RiskLimitExceeded``.

        Raises ``SymbolNotFound``, ``NoPrice``, ``InvalidParameter`` (an amount that rounds to
        zero), ``InsufficientBalance``, and ``RiskLimitExceeded``, which records the order as
        rejected. O(log n) in the pending orders.
        """
        candles = self.market.candles_of(ticket.symbol)
        price = self.market.price(ticket.symbol, self.now)
        if fills_at_once(ticket, price):
            return self._execute_at_once(ticket, price, candles)
        return self._rest(ticket, candles)

    def cancel(self, order_id: int) -> Order:
        """Cancel a pending order and release what it locked.

        Raises ``OrderNotFound``, and ``InvalidState`` if it is no longer pending.
        """
        order = self.order(order_id)
        if order.status != "pending":
            raise InvalidState(
                f"order {order_id} is {order.status}; only a pending order can be cancelled",
                order_id=order_id,
                status=order.status,
            )
        return self._close(order, "cancelled", "requested")

    def cancel_all(self, reason: str) -> None:
        """Cancel every pending order, oldest first."""
        for order in self.open_orders():
            self._close(order, "cancelled", reason)

    def liquidate(self, reason: str) -> None:
        """Sell every position at the market, by symbol."""
        for symbol in sorted(self.account.open_holdings):
            quantity = self.account.holding(symbol).quantity
            candles = self.market.candles_of(symbol)
            ticket = OrderTicket(symbol, "sell", "market", quantity)
            price = self.market.price(symbol, self.now)
            order = msgspec.structs.replace(self._draft(ticket), reason=reason)
            self._fill(self._accept(order), self._terms_at_once(ticket, price, candles))

    def affordable(self, ticket: OrderTicket, cash: Decimal) -> Decimal:
        """Return the quantity at which the buy ``ticket`` would take at most ``cash``; may be 0.

        Where slippage grows with the quantity, it is computed for the slightly larger order that
        ``cash`` would buy without costs, so a little cash may be left over.
        """
        symbol = ticket.symbol
        candles = self.market.candles_of(symbol)
        price = self.market.price(symbol, self.now)
        at_once = fills_at_once(ticket, price)
        base_price = price if at_once else self._draft(ticket).trigger
        quantity = min(rounded_ratio(cash, base_price, AMOUNT_PLACES), MAXIMUM)
        largest = msgspec.structs.replace(ticket, quantity=quantity)
        if at_once:
            unit_price = self._terms_at_once(largest, price, candles).price
            fee_rate = self._fee_rate(symbol, is_maker=False)
        else:
            unit_price = self._costs.price_to_lock(self._draft(largest), candles, self.now)
            fee_rate = self._costs.fees.highest(symbol)
        return affordable_quantity(cash, quantity, base_price, unit_price, fee_rate)

    def order(self, order_id: int) -> Order:
        """Return the order with this id; raises ``OrderNotFound``."""
        if type(order_id) is int and 1 <= order_id <= len(self.orders):
            return self.orders[order_id - 1]
        text = abbreviate(order_id)
        raise OrderNotFound(f"the session has no order {text}", order_id=text)

    @property
    def pending_count(self) -> int:
        """Number of pending orders."""
        return len(self._pending)

    def open_orders(self) -> list[Order]:
        """Return the pending orders, oldest first. O(n log n)."""
        return [self.orders[order_id - 1] for order_id in sorted(self._pending)]

    def equity(self) -> Decimal:
        """Return cash and the value of all positions now."""
        cash = (self.account.available_cash, self.account.locked_cash)
        return total([*cash, *map(self._held_value, self.account.open_holdings)])

    # Placing

    def _execute_at_once(self, ticket: OrderTicket, price: Decimal, candles: Candles) -> Order:
        terms = self._terms_at_once(ticket, price, candles)
        _require_amount(terms.cost.quote_amount)
        order = self._draft(ticket)
        if ticket.side == "buy":
            self.account.require_cash(terms.cost.to_buy)
            self._check_risk(order, terms.cost.to_buy)
        else:
            self.account.require_quantity(order)
        return self._fill(self._accept(order), terms)

    def _rest(self, ticket: OrderTicket, candles: Candles) -> Order:
        """Accept an order that waits for its trigger, and lock what it needs."""
        order = self._draft(ticket)
        value = rounded_product(order.quantity, order.trigger)
        _require_amount(value)
        if order.side == "buy":
            order = msgspec.structs.replace(order, locked_cash=self._cash_to_lock(order, candles))
            self.account.require_cash(order.locked_cash)
            self._check_risk(order, order.locked_cash)
        else:
            self.account.require_quantity(order)
            if not order.is_protective:
                order = msgspec.structs.replace(order, locked_quantity=order.quantity)
        self._accept(order)
        self.account.lock(order)
        self.history.record(self.now, self.account)
        self._pending.add(order, value)
        if order.expires_at is not None:
            self._events.add(Event(order.expires_at, EXPIRY, subject=order.id))
        completion = self._watch.add_order(order, candles, self.now)
        if completion is not None:
            self._events.add(completion)
        return order

    def _draft(self, ticket: OrderTicket) -> Order:
        """Return the order that ``ticket`` would become."""
        return Order(len(self.orders) + 1, self.now, *msgspec.structs.astuple(ticket))

    def _accept(self, order: Order) -> Order:
        self.orders.append(order)
        return order

    def _cash_to_lock(self, order: Order, candles: Candles) -> Decimal:
        """Return the cost of a buy at its trigger, with the present slippage and the highest fee."""
        price = self._costs.price_to_lock(order, candles, self.now)
        return cost_at(order.quantity, price, self._costs.fees.highest(order.symbol)).to_buy

    def _terms_at_once(self, ticket: OrderTicket, price: Decimal, candles: Candles) -> Terms:
        fee_rate = self._fee_rate(ticket.symbol, is_maker=False)
        return self._costs.terms_at_once(ticket, price, fee_rate, candles, self.now)

    def _fee_rate(self, symbol: str, *, is_maker: bool) -> Decimal:
        """Return the fee rate of a fill now."""
        fees = self._costs.fees
        volume = self._traded.at(self.now, self.fills) if fees.counts_volume else ZERO
        return fees.rate(symbol, self.now, volume, is_maker=is_maker)

    # Risk

    def _check_risk(self, order: Order, cost: Decimal) -> None:
        """Record ``order`` as rejected and raise if a limit of the risk profile refuses it."""
        if self._risk == _NO_LIMITS:
            return
        self._today.begin(self.now, self.account.realized_pnl)
        pending = self._pending.buy_value(order.symbol)
        exposure = Exposure(
            order_cost=cost,
            available_cash=self.account.available_cash,
            symbol_value=add(self._held_value(order.symbol), pending),
            total_equity=self.equity(),
            realized_today=self._today.realized(self.account.realized_pnl),
        )
        breach = first_breach(
            self._risk, exposure, lambda: self._today.equity_at_start(self.history, self.market)
        )
        if breach is not None:
            self._reject(order, breach)

    def _reject(self, order: Order, breach: Breach) -> None:
        rejected = self._ended(order, "rejected", breach.limit)
        self.closed.append(self._accept(rejected))
        raise RiskLimitExceeded(
            f"{breach.limit} is {EXACT.normalize(breach.percent):f} %, which allows"
            f" {breach.allowed:f}; the order comes to {breach.attempted:f}. It is recorded as"
            f" rejected order {order.id}",
            limit=breach.limit,
            allowed=breach.allowed,
            attempted=breach.attempted,
            order_id=order.id,
        )

    def _held_value(self, symbol: str) -> Decimal:
        holding = self.account.open_holdings.get(symbol)
        if holding is None:
            return ZERO
        return rounded_product(holding.quantity, self.market.price(symbol, self.now))

    # Executing and closing

    def _trigger(self, order: Order, base_price: Decimal, candles: Candles, index: int) -> None:
        """Execute a pending order that the candle at ``index`` triggers, or reject it.

        A protective sell is reduce-only: it sells no more than is still held and not locked.
        """
        account = self.account
        quantity = order.quantity
        if order.is_protective:
            quantity = min(quantity, account.sellable(order.symbol, order.oco_group))
            if not quantity:
                self._close(order, "rejected", "nothing_to_sell")
                return
        fee_rate = self._fee_rate(order.symbol, is_maker=order.type == "limit")
        terms = self._costs.terms_at_trigger(order, quantity, base_price, fee_rate, candles, index)
        cash = add(account.available_cash, order.locked_cash)
        if order.side == "buy" and terms.cost.to_buy > cash:
            self._close(order, "rejected", "insufficient_balance")
            return
        self._release(order)
        self._fill(order, terms)

    def _fill(self, order: Order, terms: Terms) -> Order:
        """Book an execution; cancel the rest of its OCO group, and the guards of a closed position."""
        account, symbol = self.account, order.symbol
        self._today.begin(self.now, account.realized_pnl)
        realized = None
        if order.side == "buy":
            account.buy(symbol, terms.quantity, terms.cost)
        else:
            realized = account.sell(symbol, terms.quantity, terms.cost)
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
            realized,
            self.now,
        )
        self.fills.append(fill)
        filled = self._ended(order, "filled", order.reason, fill)
        self.orders[order.id - 1] = filled
        if order.oco_group is not None:
            for order_id in self._pending.in_group(order.oco_group):
                self._close(self.orders[order_id - 1], "cancelled", "oco")
        if order.side == "sell" and symbol not in account.open_holdings:
            for guard in self._pending.protective(symbol):
                self._close(guard, "cancelled", "position_closed")
        self.history.record(self.now, account)
        self.history.record_holding(self.now, symbol, account)
        return filled

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
        self.account.release(order)
        if order.expires_at is not None:
            self._events.count_stale_expiry(self._is_pending)


def _require_amount(quote_amount: Decimal) -> None:
    if not quote_amount:
        raise InvalidParameter(
            "quantity", "the order's amount, quantity x price, rounds to zero; raise the quantity"
        )
