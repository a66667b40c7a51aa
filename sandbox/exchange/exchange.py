"""The exchange: takes orders, and lets time pass from event to event."""

import heapq
from copy import copy
from decimal import Decimal
from typing import NamedTuple

import msgspec

from candlestep.sandbox.errors import InvalidParameter, InvalidState, RiskLimitExceeded
from candlestep.sandbox.exchange.account import Account
from candlestep.sandbox.exchange.book import Book
from candlestep.sandbox.exchange.costs.costs import Cost, Costs, cost_at, slipped
from candlestep.sandbox.exchange.costs.fees import TradedVolume
from candlestep.sandbox.exchange.history import AccountHistory
from candlestep.sandbox.exchange.orders import Fill, Order, OrderStatus, OrderTicket, order_by_id
from candlestep.sandbox.exchange.risk import Breach, Exposure, RiskProfile, TradingDay, first_breach
from candlestep.sandbox.market.candles import Candles
from candlestep.sandbox.market.market import Market
from candlestep.sandbox.money import (
    AMOUNT_PLACES,
    AMOUNT_UNIT,
    EXACT,
    MARKET,
    MAXIMUM,
    PRICE_PLACES,
    ZERO,
    add,
    largest_float_up_to,
    rounded_product,
    rounded_ratio,
    rounded_share,
    smallest_float_from,
    subtract,
)

_COMPLETION, _EXPIRY = 0, 1


class _Event(NamedTuple):
    """A time at which something may happen; sorts in the sequence in which it would."""

    time: int
    kind: int
    open_time: int = 0
    symbol: str = ""
    subject: int = 0
    """Index of the candle that completes, or id of the order that expires."""


class _Terms(NamedTuple):
    """Terms of an execution: the price after slippage, and what it comes to."""

    quantity: Decimal
    price: Decimal
    slippage: Decimal
    cost: Cost


class Exchange:
    """One account on one market: its orders, its fills, and the passing of time.

    ``advance`` is the only way time passes. Orders and fills are lists by id, from 1.
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
        """An account with ``starting_balance`` at the time ``start``, holding nothing.

        With ``close_only`` a candle triggers orders by its close alone.
        """
        self.market = market
        self.now = start
        self.account = Account(starting_balance)
        self.history = AccountHistory(start, self.account)
        self.orders: list[Order] = []
        self.fills: list[Fill] = []
        self.closed: list[Order] = []
        """Orders that ended without a fill, in the sequence in which they did."""
        self._costs = costs
        self._risk = risk
        self._close_only = close_only
        self._books: dict[str, Book] = {}
        # The next candle of each symbol that may trigger one of its orders.
        self._touches: dict[str, int] = {}
        self._events: list[_Event] = []
        self._stale_expiries = 0
        self._oco_groups: dict[str, dict[int, None]] = {}
        self._pending_buys: dict[str, Decimal] = {}
        self._today = TradingDay(start, starting_balance)
        self._traded = TradedVolume()

    def copy(self) -> "Exchange":
        """The same exchange, independent from now on; orders, fills and candles are shared."""
        copied = copy(self)
        copied.account = self.account.copy()
        copied.history = self.history.copy()
        copied.orders = self.orders.copy()
        copied.fills = self.fills.copy()
        copied.closed = self.closed.copy()
        copied._books = {symbol: book.copy() for symbol, book in self._books.items()}
        copied._touches = self._touches.copy()
        copied._events = self._events.copy()
        copied._oco_groups = {name: ids.copy() for name, ids in self._oco_groups.items()}
        copied._pending_buys = self._pending_buys.copy()
        copied._today = copy(self._today)
        copied._traded = copy(self._traded)
        return copied

    def advance(self, until: int) -> None:
        """Let time pass to ``until``; cost grows with what happens, not with the span."""
        events = self._events
        while events and events[0].time <= until:
            self._finish_instant(events[0].time)
        self.now = until

    def advance_to_change(self, until: int) -> None:
        """Let time pass until an order fills or closes, and to ``until`` at most."""
        events = self._events
        fills, closed = len(self.fills), len(self.closed)
        while events and events[0].time <= until:
            self._finish_instant(events[0].time)
            if len(self.fills) > fills or len(self.closed) > closed:
                return
        self.now = until

    def _finish_instant(self, time: int) -> None:
        """All that happens at ``time``: completions of candles first, then expiries."""
        self.now = time
        events = self._events
        while events and events[0].time == time:
            event = heapq.heappop(events)
            if event.kind == _EXPIRY:
                self._expire(event.subject)
            elif self._touches.get(event.symbol) == event.subject:
                self._complete_candle(event.symbol, event.subject)

    def _complete_candle(self, symbol: str, index: int) -> None:
        candles = self.market.candles_of(symbol)
        book = self._books[symbol]
        for order, base_price in book.triggered(candles.candle(index)):
            if order.id in book:
                self._trigger(order, base_price, candles, index)
        del self._touches[symbol]
        self._find_touch(symbol, candles, index + 1)

    def _expire(self, order_id: int) -> None:
        self._stale_expiries -= 1
        order = self.orders[order_id - 1]
        if order.status == "pending":
            self._close(order, "expired", None)

    def _find_touch(self, symbol: str, candles: Candles, start: int) -> None:
        """Note the first candle from ``start`` on that may trigger an order of the book."""
        book = self._books[symbol]
        if book:
            self._note_touch(symbol, candles, start, book.highest_fall, book.lowest_rise)

    def _note_touch(
        self, symbol: str, candles: Candles, start: int, below: float, above: float
    ) -> None:
        stop = self._touches.get(symbol, len(candles))
        index = candles.first_touch(below, above, start, stop, close_only=self._close_only)
        if index < stop:
            self._touches[symbol] = index
            open_time = int(candles.open_time[index])
            time = int(candles.complete_time[index])
            heapq.heappush(self._events, _Event(time, _COMPLETION, open_time, symbol, index))

    def place(self, request: OrderTicket) -> Order:
        """Fill ``request`` at once, or let it wait. What is refused changes nothing.

        Raises ``SymbolNotFound``, ``NoPrice``, ``InvalidParameter`` (an amount that rounds to
        zero), ``InsufficientBalance``, and ``RiskLimitExceeded``, which records the order as
        rejected. O(log n) in the pending orders.
        """
        candles = self.market.candles_of(request.symbol)
        price = self.market.price(request.symbol, self.now)
        if _fills_at_once(request, price):
            return self._execute_at_once(request, price, candles)
        return self._let_wait(request, price, candles)

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
            request = OrderTicket(symbol, "sell", "market", quantity)
            price = self.market.price(symbol, self.now)
            order = self._accept(msgspec.structs.replace(self._draft(request), reason=reason))
            self._fill(order, self._trade_now(request, price, candles))

    def affordable(self, request: OrderTicket, cash: Decimal) -> Decimal:
        """The quantity at which the buy ``request`` would take at most ``cash``; may be 0.

        Where slippage grows with the quantity, that of the slightly larger order is reckoned
        with that ``cash`` would buy without costs, so a little may be left over.
        """
        candles = self.market.candles_of(request.symbol)
        price = self.market.price(request.symbol, self.now)
        at_once = _fills_at_once(request, price)
        base_price = price if at_once else self._draft(request).trigger
        quantity = min(rounded_ratio(cash, base_price, AMOUNT_PLACES), MAXIMUM)
        most = msgspec.structs.replace(request, quantity=quantity)
        if at_once:
            unit_price = self._trade_now(most, price, candles).price
            fee_rate = self._fee_rate(request.symbol, is_maker=False)
        else:
            unit_price = self._price_to_lock(self._draft(most), candles)
            fee_rate = self._costs.fees.highest(request.symbol)
        cost = cost_at(quantity, unit_price, fee_rate).to_buy
        if cost > cash:
            quantity = rounded_share(cash, quantity, cost)
        while quantity > 0 and (cost := cost_at(quantity, unit_price, fee_rate).to_buy) > cash:
            # Roundings are what is too much: less than a unit of each, in money and in quantity.
            excess = rounded_ratio(subtract(cost, cash), base_price, AMOUNT_PLACES)
            quantity = subtract(quantity, add(excess, AMOUNT_UNIT))
        return max(quantity, ZERO)

    def order(self, order_id: int) -> Order:
        """The order with this id; raises ``OrderNotFound``."""
        return order_by_id(self.orders, order_id)

    @property
    def pending_count(self) -> int:
        """How many orders are pending."""
        return sum(len(book) for book in self._books.values())

    def open_orders(self) -> list[Order]:
        """The pending orders, oldest first. Linear in their number."""
        pending = [self.orders[i - 1] for book in self._books.values() for i in book]
        return sorted(pending, key=lambda order: order.id)

    def equity(self) -> Decimal:
        """Cash and the value of all positions now."""
        total = add(self.account.available_cash, self.account.locked_cash)
        for symbol in self.account.open_holdings:
            total = add(total, self._held_value(symbol))
        return total

    def _execute_at_once(self, request: OrderTicket, price: Decimal, candles: Candles) -> Order:
        trade = self._trade_now(request, price, candles)
        _require_amount(trade.cost.quote_amount)
        order = self._draft(request)
        if request.side == "buy":
            self.account.require_cash(trade.cost.to_buy)
            self._check_risk(order, trade.cost.to_buy)
        else:
            sellable = self.account.sellable(request.symbol, request.oco_group)
            self.account.require_quantity(request.symbol, request.quantity, sellable)
        return self._fill(self._accept(order), trade)

    def _let_wait(self, request: OrderTicket, price: Decimal, candles: Candles) -> Order:
        order = self._draft(request)
        trigger = order.trigger
        notional = rounded_product(order.quantity, trigger)
        _require_amount(notional)
        if order.side == "buy":
            order = msgspec.structs.replace(order, locked_cash=self._cash_to_lock(order, candles))
            self.account.require_cash(order.locked_cash)
            self._check_risk(order, order.locked_cash)
            pending = self._pending_buys.get(order.symbol, ZERO)
            self._pending_buys[order.symbol] = add(pending, notional)
        elif order.is_protective:
            held = self.account.holding(order.symbol).quantity
            self.account.require_quantity(order.symbol, order.quantity, held)
        else:
            sellable = self.account.sellable(order.symbol, order.oco_group)
            self.account.require_quantity(order.symbol, order.quantity, sellable)
            order = msgspec.structs.replace(order, locked_quantity=order.quantity)
        return self._wait(self._accept(order), candles)

    def _wait(self, order: Order, candles: Candles) -> Order:
        self.account.lock(order)
        self.history.record(self.now, self.account)
        book = self._books.get(order.symbol)
        if book is None:
            book = self._books[order.symbol] = Book(close_only=self._close_only)
        book.add(order)
        if order.oco_group is not None:
            self._oco_groups.setdefault(order.oco_group, {})[order.id] = None
        if order.expires_at is not None:
            heapq.heappush(self._events, _Event(order.expires_at, _EXPIRY, subject=order.id))
        if order.waits_for_fall:
            below, above = largest_float_up_to(order.trigger), float("inf")
        else:
            below, above = float("-inf"), smallest_float_from(order.trigger)
        next_candle = candles.last_complete(self.now) + 1
        self._note_touch(order.symbol, candles, next_candle, below, above)
        return order

    def _draft(self, request: OrderTicket) -> Order:
        """The order that ``request`` would become."""
        return Order(
            len(self.orders) + 1,
            request.symbol,
            request.side,
            request.type,
            request.quantity,
            request.price,
            request.trigger_price,
            request.client_order_id,
            request.oco_group,
            self.now,
            request.expires_at,
        )

    def _accept(self, order: Order) -> Order:
        self.orders.append(order)
        return order

    def _cash_to_lock(self, order: Order, candles: Candles) -> Decimal:
        """What the buy would cost at its trigger, with the slippage of now and the highest fee."""
        price = self._price_to_lock(order, candles)
        return cost_at(order.quantity, price, self._costs.fees.highest(order.symbol)).to_buy

    def _price_to_lock(self, order: Order, candles: Candles) -> Decimal:
        """The trigger of the buy, with the slippage of now."""
        if order.type == "limit":
            return order.trigger
        slippage = self._slippage_now(order.quantity, candles)
        return slipped(order.trigger, order.side, slippage)

    def _trade_now(self, request: OrderTicket, price: Decimal, candles: Candles) -> _Terms:
        """The terms of an order that fills at once, never worse than its limit."""
        slippage = self._slippage_now(request.quantity, candles)
        fill_price = slipped(price, request.side, slippage)
        limit = request.price
        if limit is not None and (
            fill_price > limit if request.side == "buy" else fill_price < limit
        ):
            fill_price = limit
            worse_by = MARKET.subtract(limit, price).copy_abs()
            slippage = rounded_ratio(worse_by, price, PRICE_PLACES)
        fee_rate = self._fee_rate(request.symbol, is_maker=False)
        cost = cost_at(request.quantity, fill_price, fee_rate)
        return _Terms(request.quantity, fill_price, slippage, cost)

    def _trigger(self, order: Order, base_price: Decimal, candles: Candles, index: int) -> None:
        """Execute a pending order that the candle at ``index`` triggers, or reject it."""
        quantity = order.quantity
        if order.is_protective:
            quantity = min(quantity, self.account.sellable(order.symbol, order.oco_group))
            if not quantity:
                self._close(order, "rejected", "nothing_to_sell")
                return
        slippage = ZERO
        if order.type != "limit":
            opened = int(candles.open_time[index])
            stop = candles.last_complete(opened) + 1
            slippage = self._costs.slippage(quantity, candles, stop, index)
        price = slipped(base_price, order.side, slippage)
        fee_rate = self._fee_rate(order.symbol, is_maker=order.type == "limit")
        trade = _Terms(quantity, price, slippage, cost_at(quantity, price, fee_rate))
        if order.side == "buy":
            spendable = add(self.account.available_cash, order.locked_cash)
            if trade.cost.to_buy > spendable:
                self._close(order, "rejected", "insufficient_balance")
                return
        self._release(order)
        self._fill(order, trade)

    def _fill(self, order: Order, trade: _Terms) -> Order:
        """Book the trade and all that follows from it: siblings and guards are cancelled."""
        account, symbol = self.account, order.symbol
        self._today.begin(self.now, account.realized_pnl)
        realized = None
        if order.side == "buy":
            account.buy(symbol, trade.quantity, trade.cost)
        else:
            realized = account.sell(symbol, trade.quantity, trade.cost)
        fill = Fill(
            len(self.fills) + 1,
            order.id,
            symbol,
            order.side,
            order.type,
            trade.quantity,
            trade.price,
            trade.cost.quote_amount,
            trade.cost.fee,
            trade.slippage,
            realized,
            self.now,
        )
        self.fills.append(fill)
        filled = msgspec.structs.replace(
            order,
            status="filled",
            filled_at=self.now,
            closed_at=self.now,
            locked_cash=ZERO,
            locked_quantity=ZERO,
            fill=fill,
        )
        self.orders[order.id - 1] = filled
        if order.oco_group is not None:
            for order_id in sorted(self._oco_groups.get(order.oco_group, ())):
                self._close(self.orders[order_id - 1], "cancelled", "oco")
        if order.side == "sell" and symbol not in account.open_holdings:
            for guard in self._guards(symbol):
                self._close(guard, "cancelled", "position_closed")
        self.history.record(self.now, account)
        self.history.record_holding(self.now, symbol, account)
        return filled

    def _close(self, order: Order, status: OrderStatus, reason: str | None) -> Order:
        """End a pending order without a fill."""
        self._release(order)
        closed = msgspec.structs.replace(
            order,
            status=status,
            reason=reason,
            closed_at=self.now,
            locked_cash=ZERO,
            locked_quantity=ZERO,
        )
        self.orders[order.id - 1] = closed
        self.closed.append(closed)
        self.history.record(self.now, self.account)
        return closed

    def _release(self, order: Order) -> None:
        """Take a pending order out of the book and free what it locked."""
        self._books[order.symbol].remove(order)
        self.account.release(order)
        if order.side == "buy":
            notional = rounded_product(order.quantity, order.trigger)
            pending = subtract(self._pending_buys[order.symbol], notional)
            self._pending_buys[order.symbol] = pending
        if order.expires_at is not None:
            self._drop_stale_expiries()
        if order.oco_group is not None:
            members = self._oco_groups[order.oco_group]
            del members[order.id]
            if not members:
                del self._oco_groups[order.oco_group]

    def _drop_stale_expiries(self) -> None:
        """Forget the expiries of orders that are closed, whenever they are the most of them."""
        self._stale_expiries += 1
        if self._stale_expiries > 64 and 2 * self._stale_expiries > len(self._events):
            self._stale_expiries = 0
            self._events[:] = [
                event
                for event in self._events
                if event.kind != _EXPIRY or self.orders[event.subject - 1].status == "pending"
            ]
            heapq.heapify(self._events)

    def _guards(self, symbol: str) -> list[Order]:
        book = self._books.get(symbol)
        return [] if book is None else book.protective()

    def _slippage_now(self, quantity: Decimal, candles: Candles) -> Decimal:
        last = candles.last_complete(self.now)
        return self._costs.slippage(quantity, candles, last + 1, max(last, 0))

    def _fee_rate(self, symbol: str, *, is_maker: bool) -> Decimal:
        """The rate of a fill now."""
        fees = self._costs.fees
        volume = self._traded.at(self.now, self.fills) if fees.counts_volume else ZERO
        return fees.rate(symbol, self.now, volume, is_maker=is_maker)

    def _check_risk(self, order: Order, cost: Decimal) -> None:
        """Raise ``RiskLimitExceeded`` and record ``order`` as rejected if a limit refuses it."""
        if self._risk == _NO_LIMITS:
            return
        pending = self._pending_buys.get(order.symbol, ZERO)
        self._today.begin(self.now, self.account.realized_pnl)
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
        rejected = msgspec.structs.replace(
            order, status="rejected", reason=breach.limit, closed_at=self.now, locked_cash=ZERO
        )
        self.closed.append(self._accept(rejected))
        raise RiskLimitExceeded(
            f"{breach.limit} is {EXACT.normalize(breach.percent):f} %, which allows {breach.allowed:f}; the order"
            f" comes to {breach.attempted:f}. It is recorded as rejected order {order.id}",
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


_NO_LIMITS = RiskProfile()


def _fills_at_once(request: OrderTicket, price: Decimal) -> bool:
    """Whether the order is a market order, or a limit that the price has reached already."""
    if request.type == "market":
        return True
    if request.type != "limit" or request.price is None:
        return False
    return price <= request.price if request.side == "buy" else price >= request.price


def _require_amount(quote_amount: Decimal) -> None:
    if not quote_amount:
        raise InvalidParameter(
            "quantity", "the order's amount, quantity x price, rounds to zero; raise the quantity"
        )
