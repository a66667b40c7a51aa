"""The state of the oracle: one account on one market, and what happens to its orders."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

from tests.support.oracle import AMOUNT_PLACES, ZERO, Candle, rounded
from tests.support.perpetual_oracle.account import Account, Booked, Position
from tests.support.perpetual_oracle.margin import sign
from tests.support.perpetual_oracle.market import Due, Market
from tests.support.perpetual_oracle.terms import (
    TAKES_BOTH,
    is_worse,
    slippage_of,
    slipped,
    slipped_within,
)
from tests.support.perpetual_oracle.values import (
    Config,
    Events,
    Fill,
    Liquidation,
    Order,
    Payment,
    Portfolio,
)


class Exchange:
    """The holdings, the pending orders and the marks."""

    def __init__(self, market: Market, config: Config) -> None:
        self.config = config
        self.market = market
        self.symbols = market.symbols
        self.time = config.start
        self.history: dict[str, list[Candle]] = {symbol: [] for symbol in self.symbols}
        self.standing: dict[str, Decimal] = {}
        """The price of the line that values a symbol, since its first complete candle."""
        self.account = Account(
            config.balance,
            {
                symbol: Position(
                    symbol,
                    config.tiers[symbol],
                    config.leverage.get(symbol, 1),
                    config.margin_mode == "isolated",
                )
                for symbol in self.symbols
            },
        )
        self.changed_at: dict[str, int] = {}
        """When a command last made what a position stood before count no longer (section 7, 13)."""
        self.orders: list[Order] = []
        self.pending: list[Order] = []
        self.fills: list[Fill] = []
        self.payments: list[Payment] = []
        self.liquidations: list[Liquidation] = []
        self.flips = 0
        self.placed: set[int] | None = None
        """The orders that began to wait on the path that is walked."""
        self.snapshots: dict[int, Portfolio] = {}
        self.equity_curve: dict[int, Decimal] = {}
        self.events = Events()

    # What can be read

    def price(self, symbol: str) -> Decimal | None:
        """Return the close of the latest complete candle, before that the first open."""
        if self.history[symbol]:
            return self.history[symbol][-1].close
        first = self.market.first[symbol].candle
        return first.open if first.open_time <= self.time else None

    def prices(self) -> dict[str, Decimal]:
        known = {symbol: self.price(symbol) for symbol in self.symbols}
        return {symbol: price for symbol, price in known.items() if price is not None}

    def mark(self, symbol: str) -> Decimal | None:
        """Return where the line that values a symbol stands."""
        if symbol in self.standing:
            return self.standing[symbol]
        first = self.market.first[symbol].mark
        return first.open if first.open_time <= self.time else None

    def marks(self) -> dict[str, Decimal]:
        known = {symbol: self.mark(symbol) for symbol in self.symbols}
        return {symbol: mark for symbol, mark in known.items() if mark is not None}

    def portfolio(self) -> Portfolio:
        """Return the account; what is locked does not move with marks (7, 17)."""
        account, marks = self.account, self.marks()
        unrealized = ZERO
        for position in account.open_positions():
            unrealized += position.unrealized_pnl(marks[position.symbol])
        needed = [account.locked_margin(symbol, self.pending) for symbol in self.symbols]
        locked = min(account.wallet, sum(needed, ZERO))
        return Portfolio(
            total_equity=account.wallet + unrealized,
            available_cash=account.wallet - locked,
            locked_cash=locked,
            position_value=unrealized,
            unrealized_pnl=unrealized,
            realized_pnl=account.total(lambda position: position.realized_pnl),
        )

    # Admission

    def reducible(self, order: Order) -> Decimal:
        """Return how much of the position an order can close."""
        quantity = self.account.positions[order.symbol].quantity
        direction = 1 if order.side == "buy" else -1
        return abs(quantity) if quantity * direction < 0 else ZERO

    def objection(self, order: Order, quantity: Decimal, price: Decimal) -> str | None:
        """Return what is wrong with the state after a fill that increases exposure (7, 6)."""
        if order.reduce_only or quantity <= self.reducible(order):
            return None
        symbol = order.symbol
        after, marks = self.account.copy(), self.marks()
        after.fill(symbol, order.side, quantity, price, self.config.fee_rate)
        others = [
            other
            for other in self.pending
            if other is not order and (order.list_id is None or other.list_id != order.list_id)
        ]
        if not after.is_within_cap(symbol, marks[symbol], others):
            return "leverage_limit"
        position = after.positions[symbol]
        is_affordable = after.available(marks, others) >= 0
        if position.is_isolated and after.cross < 0:
            is_affordable = False
        is_safe = after.is_safe(position, marks) and after.is_cross_safe(marks)
        return None if is_affordable and is_safe else "insufficient_margin"

    def slippage_now(self, order: Order) -> Decimal:
        seen = self.history[order.symbol]
        interval = seen[-1].interval if seen else 0
        return slippage_of(self.config, seen, order.quantity, interval, self.time)

    # Fills and their consequences

    def trigger(self, order: Order, base: Decimal, candle: Candle) -> None:
        """Fill or reject a pending order that has become executable, or let it wait as a limit."""
        if order.type in TAKES_BOTH and not order.is_limit and is_worse(order, base):
            if order.time_in_force != "gtc":
                self.close(order, "expired", None)
                return
            order.triggered_at = self.time
            assert self.placed is not None
            self.placed.add(order.id)
            return
        quantity = order.quantity
        if order.reduce_only:
            quantity = min(quantity, self.reducible(order))
            if not quantity:
                self.close(order, "rejected", "nothing_to_reduce")
                return
        slippage = ZERO
        price = slipped(order, base, slippage)
        if not order.is_limit:
            seen = self.history[order.symbol]
            slippage = slippage_of(self.config, seen, quantity, candle.interval, candle.open_time)
            price, slippage = slipped_within(order, base, slippage)
        reason = self.objection(order, quantity, price)
        if reason is not None:
            self.close(order, "rejected", reason)
            return
        self.fill(order, quantity, price, slippage)

    def fill(self, order: Order, quantity: Decimal, price: Decimal, slippage: Decimal) -> None:
        """Book a fill; then its siblings, then what guards a position that is gone (7, 15)."""
        position = self.account.positions[order.symbol]
        before = position.quantity
        booked = self.account.fill(order.symbol, order.side, quantity, price, self.config.fee_rate)
        if booked.closed_quantity:
            self.account.insure(order.symbol)
        self._record(order, quantity, price, slippage, booked, is_liquidation=False)
        if order.group is not None:
            for other in list(self.pending):
                if other.group == order.group:
                    self.close(other, "cancelled", "oco")
        if before and before * position.quantity <= 0:
            self.flips += position.quantity != 0
            for other in list(self.pending):
                if other.symbol == order.symbol and other.reduce_only:
                    self.close(other, "cancelled", "position_closed")
        self._place_legs(order, quantity - booked.closed_quantity)
        self.snapshots[self.time] = self.portfolio()

    def _place_legs(self, entry: Order, opened: Decimal) -> None:
        """Place the bracket of an entry for what it opened (7, 15)."""
        triggers = {"stop_loss": entry.stop_loss, "take_profit": entry.take_profit}
        wanted = [(type, trigger) for type, trigger in triggers.items() if trigger is not None]
        if not opened:
            return
        first = len(self.orders) + 1
        for number, (type, trigger) in enumerate(wanted):
            leg = Order(
                id=first + number,
                symbol=entry.symbol,
                side="sell" if entry.side == "buy" else "buy",
                type=type,
                quantity=opened,
                price=None,
                trigger_price=trigger,
                reduce_only=True,
                oco_group=None,
                created_at=self.time,
                expires_at=None,
                parent_id=entry.id,
                list_id=first if len(wanted) == 2 else None,
            )
            self.orders.append(leg)
            self.pending.append(leg)
        legs = self.orders[first - 1 :]
        if self.placed is not None:
            self.placed.update(leg.id for leg in legs)
            return
        price = self.price(entry.symbol)
        assert price is not None
        for leg in legs:
            if price <= leg.trigger if leg.waits_for_fall else price >= leg.trigger:
                slippage = self.slippage_now(leg)
                self.pending.remove(leg)
                self.fill(leg, leg.quantity, slipped(leg, price, slippage), slippage)

    def _record(
        self,
        order: Order,
        quantity: Decimal,
        price: Decimal,
        slippage: Decimal,
        booked: Booked,
        *,
        is_liquidation: bool,
    ) -> None:
        order.fill = Fill(
            id=len(self.fills) + 1,
            order_id=order.id,
            symbol=order.symbol,
            side=order.side,
            type=order.type,
            quantity=quantity,
            price=price,
            quote_amount=booked.quote_amount,
            fee=booked.fee,
            slippage=slippage,
            closed_pnl=booked.closed_pnl,
            closed_quantity=booked.closed_quantity,
            is_liquidation=is_liquidation,
            time=self.time,
        )
        self.fills.append(order.fill)
        if order in self.pending:
            self.pending.remove(order)
            self.events.filled.append(order)
        order.status = "filled"
        order.filled_at = order.closed_at = self.time

    def close(self, order: Order, status: str, reason: str | None) -> None:
        """End a pending order without a fill."""
        self.pending.remove(order)
        order.status = status
        order.reason = reason
        order.closed_at = self.time
        self.events.closed.append(order)

    # Liquidation

    def settle(self, moved: str | None, unseen: str | None = None) -> None:
        """Liquidate whatever is not safe where the marks stand; isolated positions come first.

        The position of ``unseen`` is not tested: only the close of its candle counts.
        """
        marks = self.marks()
        for position in self.account.open_positions():
            is_tested = position.is_isolated and position.symbol != unseen
            if is_tested and not self.account.is_safe(position, marks):
                self.liquidate_isolated(position, marks[position.symbol])
        crossed = [position.symbol for position in self.account.cross_positions()]
        if unseen not in crossed and not self.account.is_cross_safe(marks):
            self.liquidate_cross(moved)

    def liquidate_isolated(self, position: Position, price: Fraction | Decimal) -> None:
        for order in list(self.pending):
            if order.symbol == position.symbol:
                self.close(order, "cancelled", "liquidation")
        self._force(position, price)

    def liquidate_cross(self, moved: str | None, price: Fraction | Decimal | None = None) -> None:
        """Close cross positions until the rest is safe: that of ``moved``, then the largest."""
        account, marks = self.account, self.marks()
        for order in list(self.pending):
            if not account.positions[order.symbol].is_isolated:
                self.close(order, "cancelled", "liquidation")
        for position in account.cross_positions():
            if position.symbol == moved:
                self._force(position, marks[moved] if price is None else price)
        while not account.is_cross_safe(marks):
            largest = min(
                account.cross_positions(),
                key=lambda position: (-account.needed(position, marks), position.symbol),
            )
            self._force(largest, marks[largest.symbol])

    def _force(self, position: Position, price: Fraction | Decimal) -> None:
        """Close a position at the price that brought it about, by an order of the session."""
        config, marks = self.config, self.marks()
        fill_price = self.account.forced_price(position, price, marks, config.liquidation_at)
        order = self.own_order(position, "liquidation")
        forced = self.account.liquidate(position.symbol, fill_price, config.liquidation_fee, marks)
        self._record(order, order.quantity, fill_price, ZERO, forced.booked, is_liquidation=True)
        self.events.filled.append(order)
        assert forced.booked.closed_pnl is not None
        liquidation = Liquidation(
            order_id=order.id,
            symbol=position.symbol,
            side=order.side,
            quantity=order.quantity,
            price=fill_price,
            closed_pnl=forced.booked.closed_pnl,
            fee=forced.booked.fee,
            insurance=forced.insurance,
            margin_mode="isolated" if position.is_isolated else "cross",
            time=self.time,
        )
        self.liquidations.append(liquidation)
        self.events.liquidations.append(liquidation)
        self.snapshots[self.time] = self.portfolio()

    def own_order(self, position: Position, reason: str) -> Order:
        """Record an order of the session itself that closes a position."""
        order = Order(
            id=len(self.orders) + 1,
            symbol=position.symbol,
            side="sell" if position.quantity > 0 else "buy",
            type="market",
            quantity=position.size,
            price=None,
            trigger_price=None,
            reduce_only=True,
            oco_group=None,
            created_at=self.time,
            expires_at=None,
            reason=reason,
        )
        self.orders.append(order)
        return order

    def pay_funding(self, due: Due) -> None:
        """Pay a settlement on what is held: a long pays if the rate is positive."""
        symbol, mark = due.symbol, due.mark
        position = self.account.positions[symbol]
        if not position.quantity:
            return
        if mark is None:
            mark = self.market.mark_at(symbol, self.time)
        if mark is None:
            mark = self.price(symbol)
        assert mark is not None
        notional = position.notional(mark)
        amount = -sign(position.quantity) * rounded(notional * due.rate, AMOUNT_PLACES)
        self.account.pay_funding(symbol, amount)
        payment = Payment(symbol, self.time, due.rate, mark, position.quantity, notional, amount)
        self.payments.append(payment)
        self.events.payments.append(payment)

    def refresh(self) -> None:
        """Record for this instant the state after everything of it."""
        portfolio = self.portfolio()
        if self.time in self.snapshots:
            self.snapshots[self.time] = portfolio
        changed = [fill.time for fill in self.fills[-1:]]
        changed += [payment.time for payment in self.payments[-1:]]
        if self.time in changed:
            self.equity_curve[self.time] = portfolio.total_equity
