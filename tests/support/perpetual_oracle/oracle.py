"""One session on one market of perpetual futures: its commands, and its time from leg to leg."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any

from tests.support.oracle import (
    AMOUNT_PLACES,
    LARGEST,
    PRICE_PLACES,
    SNAPSHOT_STEPS,
    ZERO,
    Refused,
    Row,
    TradeMetrics,
    fall_from_peak,
    metrics_of,
    rounded,
)
from tests.support.perpetual_oracle.account import Position
from tests.support.perpetual_oracle.exchange import Exchange
from tests.support.perpetual_oracle.margin import rounded_up
from tests.support.perpetual_oracle.market import Market
from tests.support.perpetual_oracle.terms import (
    REDUCES_BY_DEFAULT,
    checked_positive,
    checked_prices,
    is_executable,
    replaced,
    slipped,
)
from tests.support.perpetual_oracle.values import (
    Config,
    Events,
    FundingRow,
    Order,
    exactly,
)
from tests.support.perpetual_oracle.walk import Walk


class Oracle:
    """A session, answered by the text of the chapter alone."""

    @exactly
    def __init__(
        self,
        rows: Iterable[Row],
        config: Config,
        marks: Iterable[Row] = (),
        funding: Iterable[FundingRow] = (),
    ) -> None:
        """Start a session; raises ``Refused`` if it would rest on missing funding rows."""
        market = Market(rows, marks, funding, config.mark)
        if config.pays_funding and config.default_rate is None:
            for symbol in market.symbols:
                if market.missing(symbol, config):
                    raise Refused("NO_DATA")
        self.config = config
        self.exchange = Exchange(market, config)
        for bar in market.bars:
            if bar.candle.complete <= config.start:
                self.exchange.history[bar.candle.symbol].append(bar.candle)
                self.exchange.standing[bar.candle.symbol] = bar.mark.close
        self.coming = [bar for bar in market.bars if bar.candle.complete > config.start]
        self.due = market.due(config)
        self.step_number = 0
        self.total_steps = (config.end - config.start) // config.interval
        self.status = "running"
        self.exchange.snapshots[config.start] = self.exchange.portfolio()

    # Commands

    @exactly
    def place_order(self, **terms: Any) -> Order:
        """Place an order; a market order and a marketable limit fill before this returns."""
        self._must_be_running()
        order = self._checked_order(**terms)
        self._place(order)
        return order

    @exactly
    def place_oco(self, first: Mapping[str, Any], second: Mapping[str, Any]) -> list[Order]:
        """Place two orders that wait, the first of which to fill cancels the other; or neither."""
        exchange = self.exchange
        self._must_be_running()
        legs = [self._checked_order(**terms) for terms in (first, second)]
        for leg in legs:
            is_immediate = leg.type == "limit" and leg.time_in_force != "gtc"
            if leg.type == "market" or leg.oco_group is not None or is_immediate:
                raise Refused("INVALID_PARAMETER")
        if legs[0].symbol != legs[1].symbol or legs[0].side != legs[1].side:
            raise Refused("INVALID_PARAMETER")
        list_id = len(exchange.orders) + 1
        try:
            for number, leg in enumerate(legs):
                leg.id, leg.list_id = list_id + number, list_id
                self._place(leg)
        except Refused:
            for leg in legs:
                if leg in exchange.pending:
                    exchange.orders.remove(leg)
                    exchange.pending.remove(leg)
            exchange.refresh()
            raise
        return legs

    @exactly
    def replace_order(
        self,
        order_id: int,
        price: Decimal | None = None,
        trigger_price: Decimal | None = None,
        quantity: Decimal | None = None,
    ) -> Order:
        """Cancel a pending order and place it with other numbers, or leave it as it is."""
        exchange = self.exchange
        old = self._pending_order(order_id)
        new = replaced(old, price, trigger_price, quantity)
        new.id, new.created_at = len(exchange.orders) + 1, exchange.time
        place, closed = exchange.pending.index(old), len(exchange.events.closed)
        exchange.pending.remove(old)
        try:
            self._place(new)
        except Refused:
            exchange.pending.insert(place, old)
            exchange.refresh()
            raise
        old.status, old.reason, old.closed_at = "cancelled", "replaced", exchange.time
        exchange.events.closed.insert(closed, old)
        return new

    def _pending_order(self, order_id: int) -> Order:
        self._must_be_running()
        for order in self.exchange.orders:
            if order.id == order_id:
                if order.status != "pending":
                    raise Refused("INVALID_STATE")
                return order
        raise Refused("ORDER_NOT_FOUND")

    def _checked_order(
        self,
        *,
        symbol: str,
        side: str,
        type: str,
        quantity: Decimal | None = None,
        price: Decimal | None = None,
        trigger_price: Decimal | None = None,
        reduce_only: bool | None = None,
        oco_group: str | None = None,
        expires_at: int | None = None,
        time_in_force: str = "gtc",
        post_only: bool = False,
        trail_percent: Decimal | None = None,
        trail_amount: Decimal | None = None,
        activation_price: Decimal | None = None,
        quote_amount: Decimal | None = None,
        stop_loss: Decimal | None = None,
        take_profit: Decimal | None = None,
    ) -> Order:
        """Return an order whose terms have been checked."""
        exchange = self.exchange
        price, trigger_price = checked_prices(type, price, trigger_price)
        order = Order(
            id=len(exchange.orders) + 1,
            symbol=symbol,
            side=side,
            type=type,
            quantity=ZERO if quantity is None else checked_positive(quantity, AMOUNT_PLACES),
            price=price,
            trigger_price=trigger_price,
            reduce_only=type in REDUCES_BY_DEFAULT if reduce_only is None else reduce_only,
            oco_group=oco_group,
            created_at=exchange.time,
            expires_at=expires_at,
            time_in_force=time_in_force,
            post_only=post_only,
            trail_percent=trail_percent,
            trail_amount=trail_amount,
            activation_price=activation_price,
            quote_amount=quote_amount,
            stop_loss=stop_loss,
            take_profit=take_profit,
        )
        if stop_loss is not None and take_profit is not None:
            gains = take_profit - stop_loss
            if gains <= 0 if side == "buy" else gains >= 0:
                raise Refused("INVALID_PARAMETER")
        if order.reduce_only and (stop_loss is not None or take_profit is not None):
            raise Refused("INVALID_PARAMETER")
        if expires_at is not None and (type == "market" or expires_at <= exchange.time):
            raise Refused("INVALID_PARAMETER")
        if symbol not in exchange.history:
            raise Refused("SYMBOL_NOT_FOUND")
        return order

    def _place(self, order: Order) -> None:
        """Let a checked order fill at once or wait; one of a list has to wait."""
        exchange = self.exchange
        market_price = exchange.price(order.symbol)
        if market_price is None:
            raise Refused("NO_DATA")
        if order.quote_amount is not None:
            whole = Fraction(order.quote_amount) / Fraction(market_price) * 10**AMOUNT_PLACES
            order.quantity = Decimal(int(whole)).scaleb(-AMOUNT_PLACES)
            if not order.quantity:
                raise Refused("INVALID_PARAMETER")
        if order.type == "trailing_stop":
            at = market_price if order.activation_price is None else order.activation_price
            is_active = market_price >= at if order.side == "sell" else market_price <= at
            order.best_price = order.peak = market_price if is_active else None
            if order.trigger <= 0:
                raise Refused("INVALID_PARAMETER")
        if is_executable(order, market_price):
            if order.post_only or order.list_id is not None:
                raise Refused("ORDER_WOULD_MATCH")
            self._place_at_once(order, market_price)
        else:
            self._place_pending(order)
        exchange.refresh()

    @exactly
    def cancel_order(self, order_id: int) -> Order:
        order = self._pending_order(order_id)
        self.exchange.close(order, "cancelled", "requested")
        self.exchange.refresh()
        return order

    @exactly
    def set_leverage(self, symbol: str, leverage: int) -> None:
        """Change the leverage of a symbol; an isolated wallet stays as it is (7, 11)."""
        exchange = self.exchange
        self._must_be_running()
        position = self._position(symbol)
        before = position.leverage
        if not 1 <= leverage <= position.tiers[0].max_leverage:
            raise Refused("INVALID_PARAMETER")
        if leverage < before and position.is_isolated and position.quantity:
            raise Refused("INVALID_STATE")
        position.leverage = leverage
        refusal = self._refusal_of_leverage(symbol, leverage < before)
        if refusal is not None:
            position.leverage = before
            raise Refused(refusal)
        if leverage != before:
            exchange.changed_at[symbol] = exchange.time
        exchange.refresh()

    def _refusal_of_leverage(self, symbol: str, is_lower: bool) -> str | None:
        exchange = self.exchange
        mark = exchange.mark(symbol)
        if mark is not None and not exchange.account.is_within_cap(symbol, mark, exchange.pending):
            return "LEVERAGE_LIMIT"
        if is_lower and exchange.account.available(exchange.marks(), exchange.pending) < 0:
            return "INSUFFICIENT_MARGIN"
        return None

    @exactly
    def set_margin_mode(self, symbol: str, mode: str) -> None:
        """Change the margin mode of a symbol without a position and without pending orders."""
        self._must_be_running()
        position = self._position(symbol)
        if position.quantity or any(order.symbol == symbol for order in self.exchange.pending):
            raise Refused("INVALID_STATE")
        position.is_isolated = mode == "isolated"
        self.exchange.refresh()

    @exactly
    def transfer_margin(self, symbol: str, amount: Decimal) -> None:
        """Move ``amount`` from the cross wallet to that of an isolated position, or back."""
        exchange = self.exchange
        self._must_be_running()
        position = self._position(symbol)
        amount = rounded(amount, AMOUNT_PLACES)
        if not amount or abs(amount) > LARGEST:
            raise Refused("INVALID_PARAMETER")
        if not position.quantity or not position.is_isolated:
            raise Refused("INVALID_STATE")
        if amount > self._most_to_add() or -amount > self._most_to_remove(position):
            raise Refused("INSUFFICIENT_MARGIN")
        exchange.account.cross -= amount
        position.isolated_wallet += amount
        if amount < 0:
            exchange.changed_at[symbol] = exchange.time
        exchange.settle(None)
        exchange.refresh()

    def _most_to_add(self) -> Decimal:
        exchange = self.exchange
        available = exchange.account.available(exchange.marks(), exchange.pending)
        return max(ZERO, min(exchange.account.cross, available))

    def _most_to_remove(self, position: Position) -> Decimal:
        mark = self.exchange.marks()[position.symbol]
        needed = rounded_up(Fraction(position.notional(mark)) / position.leverage)
        wallet = position.isolated_wallet
        return max(ZERO, min(wallet, wallet + position.unrealized_pnl(mark) - needed))

    @exactly
    def step(self, steps: int = 1) -> Events:
        self._must_be_running()
        if steps < 1:
            raise Refused("INVALID_PARAMETER")
        for _ in range(steps):
            if self.status == "running":
                self._step()
        events, self.exchange.events = self.exchange.events, Events()
        return events

    @exactly
    def cancel(self) -> None:
        self._must_be_running()
        self._end("cancelled")

    # Metrics

    def drawdown(self) -> tuple[Fraction, int]:
        """Return the deepest fall from a peak, and the longest time under water in days."""
        exchange, config = self.exchange, self.config
        candles = [bar.candle for bar in exchange.market.bars if bar.candle.complete > config.start]
        opened = [candle for candle in candles if candle.open_time < exchange.time]
        start = max(min((candle.open_time for candle in opened), default=0), config.start)
        ends = (min(candle.complete, exchange.time) for candle in opened)
        return fall_from_peak(
            config.balance, exchange.equity_curve, start, max(ends, default=start)
        )

    def trade_metrics(self) -> TradeMetrics:
        """Return the figures of the fills that closed something."""
        fills = self.exchange.fills
        realized = [fill.realized_pnl for fill in fills if fill.realized_pnl is not None]
        return metrics_of(len(fills), realized)

    # Placement

    def _must_be_running(self) -> None:
        if self.status != "running":
            raise Refused("INVALID_STATE")

    def _position(self, symbol: str) -> Position:
        if symbol not in self.exchange.account.positions:
            raise Refused("SYMBOL_NOT_FOUND")
        return self.exchange.account.positions[symbol]

    def _place_at_once(self, order: Order, market_price: Decimal) -> None:
        exchange = self.exchange
        slippage = exchange.slippage_now(order)
        price = slipped(order, market_price, slippage)
        if order.type == "limit":
            limit = order.trigger
            if price > limit if order.side == "buy" else price < limit:
                price = limit
                off = abs(Fraction(price) / Fraction(market_price) - 1)
                slippage = rounded(off, PRICE_PLACES)
        if not rounded(order.quantity * price, AMOUNT_PLACES):
            raise Refused("INVALID_PARAMETER")
        self._must_be_admissible(order, price)
        before = exchange.account.positions[order.symbol].quantity
        exchange.orders.append(order)
        exchange.fill(order, order.quantity, price, slippage)
        # A leg of its bracket that fills at once reduces what has been increased before.
        reached = before + (order.quantity if order.side == "buy" else -order.quantity)
        if abs(reached) > abs(before) or before * reached < 0:
            exchange.changed_at[order.symbol] = exchange.time
        exchange.settle(None)

    def _place_pending(self, order: Order) -> None:
        exchange = self.exchange
        if not rounded(order.quantity * order.worst, AMOUNT_PLACES):
            raise Refused("INVALID_PARAMETER")
        slippage = exchange.slippage_now(order) if order.price is None else ZERO
        self._must_be_admissible(order, slipped(order, order.worst, slippage))
        exchange.orders.append(order)
        exchange.pending.append(order)
        if order.type == "limit" and order.time_in_force != "gtc":
            exchange.close(order, "expired", None)

    def _must_be_admissible(self, order: Order, price: Decimal) -> None:
        if order.reduce_only and order.quantity > self.exchange.reducible(order):
            raise Refused("REDUCE_ONLY")
        reason = self.exchange.objection(order, order.quantity, price)
        if reason is not None:
            raise Refused(reason.upper())

    # Time

    def _step(self) -> None:
        exchange = self.exchange
        until = exchange.time + self.config.interval
        while (instant := self._next_instant(until)) < until:
            self._pass(instant)
        self._pass(until)
        self.step_number += 1
        if self.step_number % SNAPSHOT_STEPS == 0:
            exchange.snapshots[exchange.time] = exchange.portfolio()
        if self.step_number == self.total_steps:
            self._end("completed")

    def _next_instant(self, until: int) -> int:
        """Return the next time at which a candle completes, a row is due or an order expires."""
        instants = [until]
        instants += [bar.candle.complete for bar in self.coming[:1]]
        instants += [row.time for row in self.due[:1]]
        instants += [
            order.expires_at for order in self.exchange.pending if order.expires_at is not None
        ]
        return min(instants)

    def _pass(self, instant: int) -> None:
        """Let everything of one instant happen: completions, funding, margin, expiries."""
        exchange = self.exchange
        exchange.time = instant
        completed = []
        while self.coming and self.coming[0].candle.complete <= instant:
            completed.append(self.coming.pop(0))
        for bar in completed:
            exchange.history[bar.candle.symbol].append(bar.candle)
        for bar in completed:
            Walk(self.exchange, bar).run()
        while self.due and self.due[0].time <= instant:
            due = self.due.pop(0)
            exchange.pay_funding(due)
        exchange.settle(None)
        for order in list(exchange.pending):
            if order.expires_at == instant:
                exchange.close(order, "expired", None)
        if any(exchange.account.size(bar.candle.symbol) for bar in completed):
            exchange.equity_curve[instant] = exchange.portfolio().total_equity
        exchange.refresh()

    def _end(self, status: str) -> None:
        """Cancel pending orders, close positions if configured, take the last snapshot."""
        exchange = self.exchange
        for order in list(exchange.pending):
            exchange.close(order, "cancelled", "session_end")
        if self.config.liquidate_at_end and status == "completed":
            for position in exchange.account.open_positions():
                order = exchange.own_order(position, "liquidate_at_end")
                price = exchange.price(position.symbol)
                assert price is not None
                slippage = exchange.slippage_now(order)
                exchange.fill(order, order.quantity, slipped(order, price, slippage), slippage)
                exchange.events.filled.append(order)
        exchange.snapshots[exchange.time] = exchange.portfolio()
        exchange.refresh()
        self.status = status
