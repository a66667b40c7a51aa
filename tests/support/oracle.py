"""The oracle: the simulated exchange as a plain loop, after design sections 3 to 9.

It looks at every candle of every symbol in time order, and at every pending order in each of
them. It shares no code with ``sandbox``: where the two differ, one of them is wrong.
Amounts are exact decimals, times are milliseconds since the epoch (UTC).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Context, Decimal, DivisionByZero, Inexact, InvalidOperation, localcontext
from fractions import Fraction
from functools import wraps
from typing import Any, NamedTuple, ParamSpec, TypeVar

from tests.support.naive_path import followed, next_event, start_of, stop_of

P = ParamSpec("P")
R = TypeVar("R")

DAY = 86_400_000
LARGEST = Decimal("1e16")
ZERO = Decimal(0)
EXACT = Context(prec=100, traps=[Inexact, InvalidOperation, DivisionByZero])

PRICE_PLACES = 16
AMOUNT_PLACES = 8
SNAPSHOT_STEPS = 60
VOLUME_CANDLES = 60
LEAST_SLIPPAGE = Decimal("0.0001")
MOST_SLIPPAGE = Decimal("0.1")
TIER_DAYS = 30

# Least 30-day volume, maker rate, taker rate.
TIERS = [
    (ZERO, Decimal("0.0008"), Decimal("0.001")),
    (Decimal(10_000), Decimal("0.0007"), Decimal("0.0009")),
    (Decimal(50_000), Decimal("0.0006"), Decimal("0.0008")),
    (Decimal(100_000), Decimal("0.0005"), Decimal("0.0007")),
    (Decimal(1_000_000), Decimal("0.0004"), Decimal("0.0006")),
    (Decimal(10_000_000), Decimal("0.0003"), Decimal("0.0005")),
    (Decimal(100_000_000), Decimal("0.0002"), Decimal("0.0004")),
]

# symbol, interval, open time, open, high, low, close, volume (None: the data has no volume)
Row = tuple[str, int, int, float, float, float, float, float | None]


_ASKED_FOR = (
    "symbol", "side", "type", "quantity", "price", "trigger_price", "oco_group", "expires_at",
    "time_in_force", "post_only", "quote_amount", "trail_percent", "trail_amount",
    "activation_price", "stop_loss", "take_profit",
)  # fmt: skip
"""The fields in which an order sent again must equal the earlier one."""


class Refused(Exception):
    """A command that the exchange does not accept; ``code`` is the public error code."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True, slots=True)
class Candle:
    symbol: str
    interval: int
    open_time: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal

    @property
    def complete(self) -> int:
        return self.open_time + self.interval


class FeePeriod(NamedTuple):
    """The rates of a venue from ``start`` until ``stop``, for some symbols or (None) for all."""

    start: int
    stop: int | None
    maker: Decimal
    taker: Decimal
    symbols: tuple[str, ...] | None


@dataclass(frozen=True)
class Config:
    start: int
    end: int
    interval: int
    balance: Decimal
    fee_rate: Decimal = Decimal("0.001")
    fee_model: str | None = None
    fee_bps: Decimal = Decimal(5)
    fee_schedule: tuple[FeePeriod, ...] = ()
    slippage: str = "volume"
    bps: Decimal = ZERO
    trigger: str = "path"
    liquidate_at_end: bool = False
    locking_stops: bool = False
    max_order_size_pct: Decimal | None = None
    max_position_size_pct: Decimal | None = None
    daily_loss_limit_pct: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Fill:
    id: int
    order_id: int
    symbol: str
    side: str
    type: str
    quantity: Decimal
    price: Decimal
    quote_amount: Decimal
    fee: Decimal
    slippage: Decimal
    realized_pnl: Decimal | None
    time: int


@dataclass(slots=True)
class Order:
    id: int
    symbol: str
    side: str
    type: str
    quantity: Decimal
    price: Decimal | None
    trigger_price: Decimal | None
    client_order_id: str | None
    oco_group: str | None
    created_at: int
    expires_at: int | None
    status: str = "pending"
    reason: str | None = None
    filled_at: int | None = None
    closed_at: int | None = None
    locked_cash: Decimal = ZERO
    locked_quantity: Decimal = ZERO
    fill: Fill | None = None
    time_in_force: str = "gtc"
    post_only: bool = False
    quote_amount: Decimal | None = None
    trail_percent: Decimal | None = None
    trail_amount: Decimal | None = None
    activation_price: Decimal | None = None
    stop_loss: Decimal | None = None
    take_profit: Decimal | None = None
    best_price: Decimal | None = None
    peak: Decimal | None = None
    """The best price of a trailing stop so far; ``best_price`` is that at its placement."""
    list_id: int | None = None
    parent_id: int | None = None
    triggered_at: int | None = None

    @property
    def is_limit(self) -> bool:
        return self.type == "limit" or self.triggered_at is not None

    @property
    def trigger(self) -> Decimal:
        """The price at which it becomes executable (design section 2)."""
        if self.type == "trailing_stop":
            best = self.best_price or self.activation_price
            assert best is not None
            return stop_of(self, best)
        trigger = self.price if self.is_limit else self.trigger_price
        assert trigger is not None
        return trigger

    @property
    def worst(self) -> Decimal:
        """The price at which it locks cash before slippage: its limit, if it has one."""
        return rounded(self.trigger, PRICE_PLACES) if self.price is None else self.price

    @property
    def waits_for_fall(self) -> bool:
        """The table of design section 4."""
        if self.is_limit:
            return self.side == "buy"
        return (self.side, self.type) in {
            ("sell", "stop_loss"),
            ("sell", "stop_limit"),
            ("sell", "trailing_stop"),
            ("buy", "take_profit"),
            ("buy", "take_profit_limit"),
        }

    @property
    def is_protective(self) -> bool:
        guards = {"stop_loss", "take_profit", "trailing_stop"}
        return self.side == "sell" and self.type in guards and not self.locked_quantity

    @property
    def group(self) -> str | int | None:
        return self.oco_group if self.list_id is None else self.list_id


@dataclass(slots=True)
class Position:
    quantity: Decimal = ZERO
    cost_basis: Decimal = ZERO
    realized_pnl: Decimal = ZERO


class Portfolio(NamedTuple):
    total_equity: Decimal
    available_cash: Decimal
    locked_cash: Decimal
    position_value: Decimal
    unrealized_pnl: Decimal
    realized_pnl: Decimal


@dataclass(frozen=True)
class StepEvents:
    orders_filled: list[Order]
    orders_closed: list[Order]


@dataclass(frozen=True)
class TradeMetrics:
    total_trades: int
    win_rate: Fraction | None
    profit_factor: Fraction | None
    avg_win: Fraction | None
    avg_loss: Fraction | None
    best_trade: Decimal | None
    worst_trade: Decimal | None
    expectancy: Fraction | None


@dataclass
class _Events:
    filled: list[Order] = field(default_factory=list)
    closed: list[Order] = field(default_factory=list)


def rounded(value: Decimal | Fraction, places: int) -> Decimal:
    """Round half up (away from zero on a tie), whatever the context of the caller."""
    scaled = abs(Fraction(value)) * 10**places
    digits = (2 * scaled.numerator + scaled.denominator) // (2 * scaled.denominator)
    return Decimal(-digits if value < 0 else digits).scaleb(-places, EXACT)


def from_float(value: float) -> Decimal:
    """Convert a float to a decimal through its shortest representation (section 5)."""
    return Decimal(repr(float(value)))


def merged_candles(candles: Iterable[Candle]) -> list[Candle]:
    """Return every finest candle, and a coarser one only if no finer one overlaps it (3)."""
    candles = list(candles)
    opens: dict[tuple[str, int], list[int]] = {}
    for candle in sorted(candles, key=lambda candle: candle.open_time):
        opens.setdefault((candle.symbol, candle.interval), []).append(candle.open_time)

    def overlaps_finer(candle: Candle) -> bool:
        for (symbol, interval), times in opens.items():
            if symbol == candle.symbol and interval < candle.interval:
                position = bisect_right(times, candle.open_time - interval)
                if position < len(times) and times[position] < candle.complete:
                    return True
        return False

    return [candle for candle in candles if not overlaps_finer(candle)]


def fall_from_peak(
    balance: Decimal, equity_curve: Mapping[int, Decimal], start: int, end: int
) -> tuple[Fraction, int]:
    """Return the deepest fall from a peak as a fraction, and the days under water, rounded up."""
    curve: dict[int, Decimal] = {}
    for time in sorted(equity_curve):
        curve[min(max(time, start), end)] = equity_curve[time]
    peak = balance
    deepest = Fraction(0)
    longest = 0
    below_since: int | None = None
    for time in sorted(curve):
        equity = curve[time]
        if equity < peak:
            if below_since is None:
                below_since = time
            deepest = max(deepest, 1 - Fraction(equity) / Fraction(peak))
        else:
            if below_since is not None:
                longest = max(longest, time - below_since)
                below_since = None
            peak = equity
    if below_since is not None:
        longest = max(longest, end - below_since)
    return deepest, -(-longest // DAY)


def metrics_of(total_trades: int, realized: Sequence[Decimal]) -> TradeMetrics:
    """Compute figures of the fills that realize PnL, after fees; undefined is None (9)."""
    wins = [Fraction(pnl) for pnl in realized if pnl > 0]
    losses = [Fraction(pnl) for pnl in realized if pnl < 0]

    def mean(values: Sequence[Fraction]) -> Fraction | None:
        return sum(values, Fraction(0)) / len(values) if values else None

    return TradeMetrics(
        total_trades=total_trades,
        win_rate=Fraction(100 * len(wins), len(realized)) if realized else None,
        profit_factor=sum(wins, Fraction(0)) / -sum(losses) if losses else None,
        avg_win=mean(wins),
        avg_loss=mean(losses),
        best_trade=max(realized, default=None),
        worst_trade=min(realized, default=None),
        expectancy=mean([Fraction(pnl) for pnl in realized]),
    )


def _exactly(method: Callable[P, R]) -> Callable[P, R]:
    """Run in a context that neither rounds silently nor depends on the caller's."""

    @wraps(method)
    def in_own_context(*args: P.args, **kwargs: P.kwargs) -> R:
        with localcontext(EXACT):
            return method(*args, **kwargs)

    return in_own_context


def _is_listed_with(one: Order, other: Order) -> bool:
    return one.list_id is not None and one.list_id == other.list_id


def _largest(most: int, holds: Callable[[int], bool]) -> int:
    """Return the largest whole number up to ``most`` at which what held before still ``holds``."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        if holds(middle):
            low = middle
        else:
            high = middle - 1
    return low


class Oracle:
    """One session on one market."""

    @_exactly
    def __init__(self, rows: Iterable[Row], config: Config) -> None:
        all_candles = [
            Candle(symbol, interval, open_time, *map(from_float, (o, h, l, c, v or 0.0)))
            for symbol, interval, open_time, o, h, l, c, v in rows
        ]
        candles = merged_candles(all_candles)
        candles.sort(key=lambda candle: (candle.complete, candle.open_time, candle.symbol))
        self.config = config
        self.symbols = sorted({candle.symbol for candle in candles})
        self.first: dict[str, Candle] = {}
        for candle in sorted(all_candles, key=lambda candle: (candle.open_time, candle.interval)):
            self.first.setdefault(candle.symbol, candle)
        self.history: dict[str, list[Candle]] = {symbol: [] for symbol in self.symbols}
        for candle in candles:
            if candle.complete <= config.start:
                self.history[candle.symbol].append(candle)
        self.coming = [candle for candle in candles if candle.complete > config.start]
        self.next_candle = 0

        self.time = config.start
        self.step_number = 0
        self.total_steps = (config.end - config.start) // config.interval
        self.status = "running"

        self.cash = config.balance
        self.positions: dict[str, Position] = {symbol: Position() for symbol in self.symbols}
        self.orders: list[Order] = []
        self.pending: list[Order] = []
        self.names: dict[str | None, Order] = {}
        """The orders by their ``client_order_id``."""
        self.fills: list[Fill] = []
        self.day_start_equity = config.balance
        self.snapshots: dict[int, Portfolio] = {config.start: self.portfolio()}
        self.equity_curve: dict[int, Decimal] = {}
        self._events = _Events()
        self._placed: set[int] | None = None
        """The orders that began to wait on the path that is walked."""

    # Commands

    @_exactly
    def place_order(self, **terms: Any) -> Order:
        """Place an order; check state, parameters, symbol, repetition, price, balance, risk."""
        name = terms.get("client_order_id")
        earlier = [self.names[name]] if name in self.names else []
        if not earlier:
            self._must_be_running()
        order = self._checked_order(now=earlier[0].created_at if earlier else self.time, **terms)
        for placed in earlier:
            by_amount = order.quote_amount is not None
            names = [name for name in _ASKED_FOR if name != "quantity" or not by_amount]
            if any(getattr(placed, name) != getattr(order, name) for name in names):
                raise Refused("CLIENT_ORDER_ID_IN_USE")
            return placed
        self._place(order)
        return order

    def _place(self, order: Order) -> None:
        """Let a checked order fill at once or wait, with its client's name."""
        market_price = self.price(order.symbol)
        if market_price is None:
            raise Refused("NO_DATA")
        if order.quote_amount is not None:
            order.quantity = self._quantity_for(order, order.quote_amount, market_price)
        try:
            if self._is_executable(order, market_price):
                if order.post_only or order.list_id is not None:
                    raise Refused("ORDER_WOULD_MATCH")
                self._place_at_once(order, market_price)
            else:
                self._place_pending(order, market_price)
        finally:
            if order in self.orders and order.client_order_id is not None:
                self.names[order.client_order_id] = order
        self._refresh()

    @_exactly
    def place_oco(self, first: Mapping[str, Any], second: Mapping[str, Any]) -> list[Order]:
        """Place two orders that wait, the first of which to fill cancels the other; or neither."""
        ids = [terms.get("client_order_id") for terms in (first, second)]
        known = [self.names[name] for name in ids if name in self.names]
        if known:
            return self._listed_before(known[0].list_id, ids, (first, second))
        self._must_be_running()
        list_id = len(self.orders) + 1
        legs = [self._waiting_order(terms) for terms in (first, second)]
        if ids[0] is not None and ids[0] == ids[1]:
            raise Refused("INVALID_PARAMETER")
        if legs[0].symbol != legs[1].symbol or legs[0].side != legs[1].side:
            raise Refused("INVALID_PARAMETER")
        placed: list[Order] = []
        for order in legs:
            order.id, order.list_id = len(self.orders) + 1, list_id
            try:
                self._place(order)
            except Refused as refused:
                self._take_back(placed)
                self._refresh()
                if refused.code == "RISK_LIMIT_EXCEEDED":
                    order.id, order.list_id = len(self.orders), None
                    order.best_price = None
                raise
            placed.append(order)
        return placed

    def _listed_before(
        self, list_id: int | None, ids: list[Any], legs: tuple[Mapping[str, Any], ...]
    ) -> list[Order]:
        """Return the list that was placed with these names, if it is the same."""
        listed = [order for order in self.orders if order.list_id == list_id]
        if list_id is None or [order.client_order_id for order in listed] != ids:
            raise Refused("CLIENT_ORDER_ID_IN_USE")
        asked = [self._waiting_order(terms, listed[0].created_at) for terms in legs]
        if asked[0].symbol != asked[1].symbol or asked[0].side != asked[1].side:
            raise Refused("INVALID_PARAMETER")
        if ids[0] is not None and ids[0] == ids[1]:
            raise Refused("INVALID_PARAMETER")
        for placed, order in zip(listed, asked, strict=True):
            if any(getattr(placed, name) != getattr(order, name) for name in _ASKED_FOR):
                raise Refused("CLIENT_ORDER_ID_IN_USE")
        return listed

    def _waiting_order(self, terms: Mapping[str, Any], now: int | None = None) -> Order:
        """Return an order of a list, checked but for what the market and the account say."""
        order = self._checked_order(now=now, **terms)
        if order.type == "market" or order.oco_group is not None:
            raise Refused("INVALID_PARAMETER")
        if order.type == "limit" and order.time_in_force != "gtc":
            raise Refused("INVALID_PARAMETER")
        return order

    def _take_back(self, placed: list[Order]) -> None:
        for order in placed:
            self.orders.remove(order)
            self.pending.remove(order)
            self.names = {name: one for name, one in self.names.items() if one is not order}

    @_exactly
    def replace_order(
        self,
        order_id: int,
        price: Decimal | None = None,
        trigger_price: Decimal | None = None,
        quantity: Decimal | None = None,
    ) -> Order:
        """Cancel a pending order and place it with other numbers, or leave it as it is."""
        self._must_be_running()
        if not 1 <= order_id <= len(self.orders):
            raise Refused("ORDER_NOT_FOUND")
        old = self.orders[order_id - 1]
        if old.status != "pending":
            raise Refused("INVALID_STATE")
        if price is trigger_price is quantity is None:
            raise Refused("INVALID_PARAMETER")
        new = replace(old, id=len(self.orders) + 1, created_at=self.time, triggered_at=None)
        new.locked_cash = new.locked_quantity = ZERO
        if old.triggered_at is not None:
            new.type, new.trigger_price = "limit", None
        if new.type in {"stop_loss", "take_profit"} and trigger_price is None:
            price, trigger_price = None, price
        for name, value in (("price", price), ("trigger_price", trigger_price)):
            if value is not None:
                if getattr(new, name) is None:
                    raise Refused("INVALID_PARAMETER")
                setattr(new, name, self._checked_price(value))
        if quantity is not None:
            new.quantity = self._checked_positive(quantity, AMOUNT_PLACES)
        place, closed = self.pending.index(old), len(self._events.closed)
        self.pending.remove(old)
        names = dict(self.names)
        try:
            self._place(new)
        except Refused as refused:
            self.pending.insert(place, old)
            self.names = names
            self._refresh()
            if refused.code == "RISK_LIMIT_EXCEEDED":
                new.list_id = new.parent_id = new.best_price = None
            raise
        old.status, old.reason, old.closed_at = "cancelled", "replaced", self.time
        self._events.closed.insert(closed, old)
        self._refresh()
        return new

    @_exactly
    def cancel_order(self, order_id: int) -> Order:
        self._must_be_running()
        for order in self.orders:
            if order.id == order_id:
                if order.status != "pending":
                    raise Refused("INVALID_STATE")
                self._close(order, "cancelled", "requested")
                self._refresh()
                return order
        raise Refused("ORDER_NOT_FOUND")

    @_exactly
    def step(self, steps: int = 1) -> StepEvents:
        self._must_be_running()
        if steps < 1:
            raise Refused("INVALID_PARAMETER")
        for _ in range(steps):
            if self.status == "running":
                self._step()
        events, self._events = self._events, _Events()
        return StepEvents(events.filled, events.closed)

    @_exactly
    def cancel(self) -> None:
        self._must_be_running()
        self._end("cancelled")

    # What can be read

    def price(self, symbol: str) -> Decimal | None:
        """Return the close of the latest complete candle, before that the first open (3).

        That one counts even if finer candles overlap it later: nobody knows of them yet.
        """
        if self.history[symbol]:
            return self.history[symbol][-1].close
        first = self.first[symbol]
        return first.open if first.open_time <= self.time else None

    def prices(self) -> dict[str, Decimal]:
        known = {symbol: self.price(symbol) for symbol in self.symbols}
        return {symbol: price for symbol, price in known.items() if price is not None}

    @_exactly
    def locked_cash(self) -> Decimal:
        locks: dict[str, Decimal] = {}
        for order in self.pending:
            one = f"order {order.id}" if order.list_id is None else f"list {order.list_id}"
            locks[one] = max(locks.get(one, ZERO), order.locked_cash)
        return sum(locks.values(), ZERO)

    def payable(self, order: Order) -> Decimal:
        """Return the cash that a buy may take, with what it or its list locks."""
        listed = [one for one in self.pending if one is order or _is_listed_with(one, order)]
        return self.available_cash() + max((one.locked_cash for one in listed), default=ZERO)

    @_exactly
    def available_cash(self) -> Decimal:
        return self.cash - self.locked_cash()

    @_exactly
    def locked_quantity(self, symbol: str, without_group: str | int | None = None) -> Decimal:
        """Return the quantity locked by limit sells; a group shares its largest lock (4)."""
        total = ZERO
        groups: dict[str | int, Decimal] = {}
        for order in self.pending:
            if order.symbol != symbol:
                continue
            if order.group is None:
                total += order.locked_quantity
            elif order.group != without_group:
                largest = groups.get(order.group, ZERO)
                groups[order.group] = max(largest, order.locked_quantity)
        return total + sum(groups.values(), ZERO)

    @_exactly
    def portfolio(self) -> Portfolio:
        """Return the account; the value of each position is rounded once (5)."""
        value = cost = realized = ZERO
        for symbol in self.symbols:
            position = self.positions[symbol]
            value += self._value(symbol)
            cost += position.cost_basis
            realized += position.realized_pnl
        locked = self.locked_cash()
        return Portfolio(
            total_equity=self.cash + value,
            available_cash=self.cash - locked,
            locked_cash=locked,
            position_value=value,
            unrealized_pnl=value - cost,
            realized_pnl=realized,
        )

    @_exactly
    def net_pnl(self, symbol: str) -> Decimal:
        """Return a pair's realized plus unrealized PnL (section 9)."""
        position = self.positions[symbol]
        return position.realized_pnl + self._value(symbol) - position.cost_basis

    def drawdown(self) -> tuple[Fraction, int]:
        """Return the deepest fall from a peak and the longest time under water (9).

        The fall is a fraction; the time is in whole days, rounded up. Both are of the time that
        candles cover; what changed before or after counts as of its start or end.
        """
        opened = [candle for candle in self.coming if candle.open_time < self.time]
        start = max(min((c.open_time for c in opened), default=0), self.config.start)
        end = max((min(c.complete, self.time) for c in opened), default=start)
        return fall_from_peak(self.config.balance, self.equity_curve, start, end)

    def trade_metrics(self) -> TradeMetrics:
        """Compute figures of the fills that realize PnL, after fees; undefined is None (9)."""
        realized = [fill.realized_pnl for fill in self.fills if fill.realized_pnl is not None]
        return metrics_of(len(self.fills), realized)

    # Parameters

    def _checked_order(
        self,
        *,
        now: int | None = None,
        symbol: str,
        side: str,
        type: str,
        quantity: Decimal | None = None,
        price: Decimal | None = None,
        trigger_price: Decimal | None = None,
        client_order_id: str | None = None,
        oco_group: str | None = None,
        expires_at: int | None = None,
        time_in_force: str = "gtc",
        post_only: bool = False,
        quote_amount: Decimal | None = None,
        trail_percent: Decimal | None = None,
        trail_amount: Decimal | None = None,
        activation_price: Decimal | None = None,
        stop_loss: Decimal | None = None,
        take_profit: Decimal | None = None,
    ) -> Order:
        """Return an order whose parameters have been checked."""
        price, trigger_price = self._checked_prices(type, price, trigger_price)
        order = Order(
            id=len(self.orders) + 1,
            symbol=symbol,
            side=side,
            type=type,
            quantity=self._checked_quantity(type, quantity, quote_amount),
            price=price,
            trigger_price=trigger_price,
            client_order_id=client_order_id,
            oco_group=oco_group,
            created_at=self.time if now is None else now,
            expires_at=self._checked_expiry(type, expires_at, self.time if now is None else now),
            time_in_force=time_in_force,
            post_only=post_only,
            quote_amount=None if quote_amount is None else rounded(quote_amount, AMOUNT_PLACES),
            trail_percent=self._checked_price(trail_percent, AMOUNT_PLACES),
            trail_amount=self._checked_price(trail_amount),
            activation_price=self._checked_price(activation_price),
            stop_loss=self._checked_price(stop_loss),
            take_profit=self._checked_price(take_profit),
        )
        self._check_conditions(order)
        if side not in {"buy", "sell"}:
            raise Refused("INVALID_PARAMETER")
        if symbol not in self.history:
            raise Refused("SYMBOL_NOT_FOUND")
        return order

    def _must_be_running(self) -> None:
        if self.status != "running":
            raise Refused("INVALID_STATE")

    def _checked_positive(self, value: Decimal, places: int) -> Decimal:
        value = rounded(value, places)
        if not ZERO < value <= LARGEST:
            raise Refused("INVALID_PARAMETER")
        return value

    def _checked_quantity(
        self, type: str, quantity: Decimal | None, quote_amount: Decimal | None
    ) -> Decimal:
        """Return the quantity; 0 for an order by amount, which only a market order can be."""
        if (quantity is None) == (quote_amount is None):
            raise Refused("INVALID_PARAMETER")
        if quantity is not None:
            return self._checked_positive(quantity, AMOUNT_PLACES)
        if type != "market" or quote_amount is None:
            raise Refused("INVALID_PARAMETER")
        self._checked_positive(quote_amount, AMOUNT_PLACES)
        return ZERO

    def _check_conditions(self, order: Order) -> None:
        """Refuse time in force and post_only where they contradict the rest of the order."""
        if order.time_in_force not in {"gtc", "ioc", "fok"}:
            raise Refused("INVALID_PARAMETER")
        if order.time_in_force != "gtc":
            if order.type in {"stop_loss", "take_profit", "trailing_stop"} or order.post_only:
                raise Refused("INVALID_PARAMETER")
            if order.type == "limit" and order.expires_at is not None:
                raise Refused("INVALID_PARAMETER")
        if order.post_only and order.type != "limit":
            raise Refused("INVALID_PARAMETER")
        distances = [order.trail_percent, order.trail_amount]
        if order.type == "trailing_stop":
            if distances.count(None) != 1 or (order.trail_percent or 0) >= 100:
                raise Refused("INVALID_PARAMETER")
        elif any(value is not None for value in [*distances, order.activation_price]):
            raise Refused("INVALID_PARAMETER")
        if order.stop_loss is not None or order.take_profit is not None:
            if order.side == "sell":
                raise Refused("INVALID_PARAMETER")
            if order.stop_loss and order.take_profit and order.stop_loss >= order.take_profit:
                raise Refused("INVALID_PARAMETER")

    def _checked_price(self, price: Decimal | None, places: int = PRICE_PLACES) -> Decimal | None:
        return None if price is None else self._checked_positive(price, places)

    def _checked_prices(
        self, type: str, price: Decimal | None, trigger_price: Decimal | None
    ) -> tuple[Decimal | None, Decimal | None]:
        trigger = price if trigger_price is None else trigger_price
        if type in {"stop_limit", "take_profit_limit"}:
            if price is None or trigger_price is None:
                raise Refused("INVALID_PARAMETER")
            return self._checked_price(price), self._checked_price(trigger_price)
        if price is not None and trigger_price is not None:
            raise Refused("INVALID_PARAMETER")
        if type in {"market", "trailing_stop"} and trigger is None:
            return None, None
        if type == "limit" and price is not None:
            return self._checked_positive(price, PRICE_PLACES), None
        if type in {"stop_loss", "take_profit"} and trigger is not None:
            return None, self._checked_positive(trigger, PRICE_PLACES)
        raise Refused("INVALID_PARAMETER")

    def _checked_expiry(self, type: str, expires_at: int | None, now: int) -> int | None:
        if expires_at is not None and (type == "market" or expires_at <= now):
            raise Refused("INVALID_PARAMETER")
        return expires_at

    # Placement (sections 4 and 5)

    def _is_executable(self, order: Order, market_price: Decimal) -> bool:
        """Return whether it is a market order, or a marketable limit."""
        if order.type == "limit":
            reached = market_price <= order.trigger
            return reached if order.side == "buy" else market_price >= order.trigger
        return order.type == "market"

    def _place_at_once(self, order: Order, market_price: Decimal) -> None:
        slippage = self._slippage_now(order)
        price = self._slipped(order, market_price, slippage)
        if order.type == "limit":
            limit = order.trigger
            if price > limit if order.side == "buy" else price < limit:
                price = limit
                off = abs(Fraction(price) / Fraction(market_price) - 1)
                slippage = rounded(off, PRICE_PLACES)
        rate = self._fee_rate(order.symbol, is_maker=False)
        notional, fee = self._notional_and_fee(order.quantity, price, rate)
        if notional == 0:
            raise Refused("INVALID_PARAMETER")
        if order.side == "buy":
            self._check_affordable(order, notional + fee)
            self._check_risk(order, notional + fee)
        else:
            self._check_free(order)
        self._record(order)
        self._fill(order, order.quantity, price, slippage, self.time, is_maker=False)

    def _place_pending(self, order: Order, market_price: Decimal) -> None:
        """Let an order wait, with its lock.

        A buy locks its cost at its limit, or at its trigger after slippage, a limit sell its
        quantity; a protective sell locks nothing, but may not exceed the quantity held. With
        ``locking_stops`` it locks its quantity, too.
        """
        if order.type == "trailing_stop":
            reached = market_price if order.activation_price is None else order.activation_price
            is_active = market_price >= reached if order.side == "sell" else market_price <= reached
            order.best_price = order.peak = market_price if is_active else None
            if order.trigger <= 0:
                raise Refused("INVALID_PARAMETER")
        if rounded(order.quantity * order.worst, AMOUNT_PLACES) == 0:
            raise Refused("INVALID_PARAMETER")
        if order.side == "buy":
            slippage = self._slippage_now(order) if order.price is None else ZERO
            price = self._slipped(order, order.worst, slippage)
            rate = self._highest_fee_rate(order.symbol)
            lock = sum(self._notional_and_fee(order.quantity, price, rate), ZERO)
            self._check_affordable(order, lock)
            self._check_risk(order, lock)
            order.locked_cash = lock
        elif order.is_protective and not self.config.locking_stops:
            if order.quantity > self.positions[order.symbol].quantity:
                raise Refused("INSUFFICIENT_BALANCE")
        else:
            self._check_free(order)
            order.locked_quantity = order.quantity
        self._record(order)
        if order.type == "limit" and order.time_in_force != "gtc":
            order.locked_cash = order.locked_quantity = ZERO
            self._close(order, "expired", None)
        else:
            self.pending.append(order)

    def _quantity_for(self, order: Order, amount: Decimal, market_price: Decimal) -> Decimal:
        """Return the quantity of an order for an amount of the quote currency.

        A buy takes what the amount would buy without costs to see the slippage, and then that
        part of it which the amount pays for; a sell the least that brings the amount.
        """
        rate = self._fee_rate(order.symbol, is_maker=False)

        def price_of(quantity: Decimal) -> Decimal:
            order.quantity = quantity
            return self._slipped(order, market_price, self._slippage_now(order))

        def is_too_few(units: int) -> bool:
            quantity = Decimal(units).scaleb(-AMOUNT_PLACES)
            notional, fee = self._notional_and_fee(quantity, price_of(quantity), rate)
            return notional - fee < amount

        whole = min(rounded(Fraction(amount) / Fraction(market_price), AMOUNT_PLACES), LARGEST)
        if order.side == "sell":
            units = 1 + _largest(2 * int(whole.scaleb(AMOUNT_PLACES)) + 1, is_too_few)
            return Decimal(units).scaleb(-AMOUNT_PLACES)
        price, quantity = price_of(whole), whole
        cost = sum(self._notional_and_fee(whole, price, rate), ZERO)
        if cost > amount:
            quantity = rounded(Fraction(amount) * Fraction(whole) / Fraction(cost), AMOUNT_PLACES)
        while quantity > 0:
            excess = sum(self._notional_and_fee(quantity, price, rate), ZERO) - amount
            if excess <= 0:
                return quantity
            excess = rounded(Fraction(excess) / Fraction(market_price), AMOUNT_PLACES)
            quantity -= excess + Decimal(1).scaleb(-AMOUNT_PLACES)
        raise Refused("INVALID_PARAMETER")

    def _check_affordable(self, order: Order, cost: Decimal) -> None:
        if cost > self.payable(order):
            raise Refused("INSUFFICIENT_BALANCE")

    def _check_free(self, order: Order) -> None:
        if order.quantity > self._free_quantity(order):
            raise Refused("INSUFFICIENT_BALANCE")

    def _free_quantity(self, order: Order) -> Decimal:
        """Return the quantity held and not locked by limit sells of other groups."""
        locked = self.locked_quantity(order.symbol, without_group=order.group)
        return self.positions[order.symbol].quantity - locked

    def _check_risk(self, order: Order, cost: Decimal) -> None:
        """Record a buy that breaks a limit as a rejected order (section 6)."""
        limit = self._broken_limit(order.symbol, cost)
        if limit is not None:
            self._record(order)
            self._close(order, "rejected", limit)
            raise Refused("RISK_LIMIT_EXCEEDED")

    def _broken_limit(self, symbol: str, cost: Decimal) -> str | None:
        config = self.config
        waiting = [o for o in self.pending if o.symbol == symbol and o.side == "buy"]
        exposure = self._value(symbol) + cost
        values: dict[str, Decimal] = {}
        for order in waiting:
            one = f"order {order.id}" if order.list_id is None else f"list {order.list_id}"
            value = rounded(order.quantity * order.worst, AMOUNT_PLACES)
            values[one] = max(values.get(one, ZERO), value)
        exposure += sum(values.values(), ZERO)
        loss = ZERO
        for fill in self.fills:
            if fill.realized_pnl is not None and fill.time // DAY == self.time // DAY:
                loss -= fill.realized_pnl

        def exceeds(amount: Decimal, pct: Decimal | None, whole: Decimal) -> bool:
            return pct is not None and 100 * amount > pct * whole

        if exceeds(cost, config.max_order_size_pct, self.available_cash()):
            return "max_order_size_pct"
        if exceeds(exposure, config.max_position_size_pct, self.portfolio().total_equity):
            return "max_position_size_pct"
        if exceeds(loss, config.daily_loss_limit_pct, self.day_start_equity):
            return "daily_loss_limit_pct"
        return None

    def _record(self, order: Order) -> None:
        self.orders.append(order)

    # Costs (section 5)

    def _notional_and_fee(
        self, quantity: Decimal, price: Decimal, rate: Decimal
    ) -> tuple[Decimal, Decimal]:
        notional = rounded(quantity * price, AMOUNT_PLACES)
        return notional, rounded(notional * rate, AMOUNT_PLACES)

    def _flat_fee_rate(self) -> Decimal | None:
        """Return the rate of the models that have a single one."""
        config = self.config
        if config.fee_model is None:
            return config.fee_rate
        return {"none": ZERO, "fixed_bps": config.fee_bps / 10_000}.get(config.fee_model)

    def _fee_rate(self, symbol: str, *, is_maker: bool) -> Decimal:
        """Return the rate of a fill now; only limits that rested are makers."""
        flat = self._flat_fee_rate()
        if flat is not None:
            return flat
        if self.config.fee_model == "tiered_maker_taker":
            since = self.time - TIER_DAYS * DAY
            traded = sum((f.quote_amount for f in self.fills if f.time > since), ZERO)
            _, maker, taker = [tier for tier in TIERS if tier[0] <= traded][-1]
        else:
            begun = [p for p in self.config.fee_schedule if p.start <= self.time]
            begun.sort(key=lambda period: period.start)
            of_symbol = [p for p in begun if p.symbols is not None and symbol in p.symbols]
            of_all = [p for p in begun if p.symbols is None]
            latest = [kind[-1] for kind in (of_symbol, of_all) if kind]
            valid = [p for p in latest if p.stop is None or self.time < p.stop]
            _, _, maker, taker, _ = valid[0]
        return maker if is_maker else taker

    def _highest_fee_rate(self, symbol: str) -> Decimal:
        """Return the highest rate that a fill during the session may pay."""
        flat = self._flat_fee_rate()
        if flat is not None:
            return flat
        if self.config.fee_model == "tiered_maker_taker":
            return max(rate for tier in TIERS for rate in tier[1:])
        config = self.config
        last = config.start + self.total_steps * config.interval
        highest = ZERO
        for period in config.fee_schedule:
            same_kind = [
                other.start
                for other in config.fee_schedule
                if other.start > period.start
                and (
                    other.symbols is None
                    if period.symbols is None
                    else other.symbols is not None and symbol in other.symbols
                )
            ]
            stop = period.stop if period.stop is not None else min(same_kind, default=last + 1)
            concerns = period.symbols is None or symbol in period.symbols
            if concerns and period.start <= last and stop > config.start:
                highest = max(highest, period.maker, period.taker)
        return highest

    def _slipped(self, order: Order, base: Decimal, slippage: Decimal) -> Decimal:
        sign = 1 if order.side == "buy" else -1
        return rounded(base * (1 + sign * slippage), PRICE_PLACES)

    def _slippage_now(self, order: Order) -> Decimal:
        seen = self.history[order.symbol]
        interval = seen[-1].interval if seen else 0
        return self._slippage(order.symbol, order.quantity, interval, self.time)

    def _slippage(self, symbol: str, quantity: Decimal, interval: int, now: int) -> Decimal:
        """Compute it from the average volume of the last candles complete at ``now``."""
        if self.config.slippage == "none":
            return ZERO
        if self.config.slippage == "fixed_bps":
            return self.config.bps / 10_000
        has_volume = False
        for candle in self.history[symbol]:
            if candle.complete <= now and candle.volume > 0:
                has_volume = True
                break
        volumes: list[Decimal] = []
        for candle in reversed(self.history[symbol]):
            if len(volumes) == VOLUME_CANDLES:
                break
            if candle.complete <= now and candle.interval == interval:
                volumes.append(candle.volume)
        if not volumes or not has_volume:
            return LEAST_SLIPPAGE
        total = sum(volumes, ZERO)
        if total == 0:
            return MOST_SLIPPAGE
        fraction = Fraction(quantity) * len(volumes) / Fraction(total) / 10
        return min(max(rounded(fraction, PRICE_PLACES), LEAST_SLIPPAGE), MOST_SLIPPAGE)

    def _value(self, symbol: str) -> Decimal:
        quantity = self.positions[symbol].quantity
        price = self.price(symbol)
        return rounded(quantity * price, AMOUNT_PLACES) if quantity and price else ZERO

    # Fills and their consequences (sections 4 and 5)

    def _fill(
        self,
        order: Order,
        quantity: Decimal,
        price: Decimal,
        slippage: Decimal,
        time: int,
        *,
        is_maker: bool,
    ) -> None:
        rate = self._fee_rate(order.symbol, is_maker=is_maker)
        notional, fee = self._notional_and_fee(quantity, price, rate)
        position = self.positions[order.symbol]
        realized: Decimal | None = None
        if order.side == "buy":
            self.cash -= notional + fee
            position.quantity += quantity
            position.cost_basis += notional + fee
        else:
            cost = position.cost_basis
            if quantity < position.quantity:
                share = Fraction(cost) * Fraction(quantity) / Fraction(position.quantity)
                cost = rounded(share, AMOUNT_PLACES)
            realized = notional - fee - cost
            self.cash += notional - fee
            position.quantity -= quantity
            position.cost_basis -= cost
            position.realized_pnl += realized
        order.fill = Fill(
            id=len(self.fills) + 1,
            order_id=order.id,
            symbol=order.symbol,
            side=order.side,
            type=order.type,
            quantity=quantity,
            price=price,
            quote_amount=notional,
            fee=fee,
            slippage=slippage,
            realized_pnl=realized,
            time=time,
        )
        self.fills.append(order.fill)
        if order in self.pending:
            self.pending.remove(order)
            self._events.filled.append(order)
        order.status = "filled"
        order.filled_at = order.closed_at = time
        if order.group is not None:
            for other in list(self.pending):
                if other.group == order.group:
                    self._close(other, "cancelled", "oco")
        if position.quantity == 0:
            for other in list(self.pending):
                if other.symbol == order.symbol and other.is_protective:
                    self._close(other, "cancelled", "position_closed")
        self._place_legs(order)
        self.snapshots[time] = self.portfolio()

    def _place_legs(self, entry: Order) -> None:
        """Place the bracket of an entry; a leg that the price is beyond executes at once."""
        triggers = {"stop_loss": entry.stop_loss, "take_profit": entry.take_profit}
        wanted = [(type, trigger) for type, trigger in triggers.items() if trigger is not None]
        legs: list[Order] = []
        for type, trigger in wanted:
            leg = Order(
                id=len(self.orders) + 1,
                symbol=entry.symbol,
                side="sell",
                type=type,
                quantity=entry.quantity,
                price=None,
                trigger_price=trigger,
                client_order_id=None,
                oco_group=None,
                created_at=self.time,
                expires_at=None,
                parent_id=entry.id,
                locked_quantity=entry.quantity if self.config.locking_stops else ZERO,
            )
            legs.append(leg)
            self._record(leg)
            self.pending.append(leg)
        for leg in legs:
            leg.list_id = legs[0].id if len(legs) == 2 else None
        if self._placed is not None:
            self._placed.update(leg.id for leg in legs)
            return
        price = self.price(entry.symbol)
        assert price is not None
        for leg in legs:
            if price <= leg.trigger if leg.waits_for_fall else price >= leg.trigger:
                slippage = self._slippage_now(leg)
                slipped = self._slipped(leg, price, slippage)
                self.pending.remove(leg)
                self._fill(leg, leg.quantity, slipped, slippage, self.time, is_maker=False)

    def _close(self, order: Order, status: str, reason: str | None) -> None:
        if order in self.pending:
            self.pending.remove(order)
        order.status = status
        order.reason = reason
        order.closed_at = self.time
        self._events.closed.append(order)

    def _is_worse(self, order: Order, price: Decimal) -> bool:
        """Return whether a price is worse than the limit of an order."""
        assert order.price is not None
        return price > order.price if order.side == "buy" else price < order.price

    def _trigger(self, order: Order, base: Decimal, candle: Candle) -> None:
        """Fill or reject a pending order that has become executable, or let it wait as a limit."""
        if order.type in {"stop_limit", "take_profit_limit"} and order.triggered_at is None:
            is_worse = self._is_worse(order, base)
            if is_worse and order.time_in_force != "gtc":
                self._close(order, "expired", None)
                return
            if is_worse:
                order.triggered_at = self.time
                assert self._placed is not None
                self._placed.add(order.id)
                return
        quantity = order.quantity
        if order.is_protective:
            quantity = min(quantity, self._free_quantity(order))
            if quantity <= 0:
                self._close(order, "rejected", "nothing_to_sell")
                return
        slippage = ZERO
        if not order.is_limit:
            opened = candle.open_time
            slippage = self._slippage(order.symbol, quantity, candle.interval, opened)
        price = self._slipped(order, base, slippage)
        limit = order.price
        is_bounded = not order.is_limit
        if limit is not None and is_bounded and self._is_worse(order, price):
            price = limit
            off = abs(Fraction(limit) / Fraction(base) - 1)
            slippage = rounded(off, PRICE_PLACES)
        if order.side == "buy":
            rate = self._fee_rate(order.symbol, is_maker=order.is_limit)
            cost = sum(self._notional_and_fee(quantity, price, rate), ZERO)
            if cost > self.payable(order):
                self._close(order, "rejected", "insufficient_balance")
                return
        is_maker = order.is_limit
        self._fill(order, quantity, price, slippage, candle.complete, is_maker=is_maker)

    # Time (sections 3, 4 and 7)

    def _step(self) -> None:
        until = self.time + self.config.interval
        while (instant := self._next_instant(until)) < until:
            self._pass(instant)
        self._pass(until)
        self.step_number += 1
        if self.step_number % SNAPSHOT_STEPS == 0:
            self.snapshots[self.time] = self.portfolio()
        if self.step_number == self.total_steps:
            self._end("completed")

    def _next_instant(self, until: int) -> int:
        """Return the next time at which a candle completes, an order expires or a day begins."""
        instant = min(until, (self.time // DAY + 1) * DAY)
        if self.next_candle < len(self.coming):
            instant = min(instant, self.coming[self.next_candle].complete)
        for order in self.pending:
            if order.expires_at is not None:
                instant = min(instant, order.expires_at)
        return instant

    def _pass(self, instant: int) -> None:
        """Let everything of one instant happen, in the sequence of section 4."""
        self.time = instant
        completed: list[Candle] = []
        while self.next_candle < len(self.coming):
            candle = self.coming[self.next_candle]
            if candle.complete > instant:
                break
            self.history[candle.symbol].append(candle)
            completed.append(candle)
            self.next_candle += 1
        if instant % DAY == 0:
            self.day_start_equity = self.portfolio().total_equity
        for candle in completed:
            self._check_orders(candle)
        for order in list(self.pending):
            if order.expires_at == instant:
                self._close(order, "expired", None)
        if any(self.positions[candle.symbol].quantity for candle in completed):
            self.equity_curve[instant] = self.portfolio().total_equity
        self._refresh()

    def _check_orders(self, candle: Candle) -> None:
        trigger = self.config.trigger
        here, self._placed = start_of(candle, trigger), set()
        while event := next_event(candle, self._waiting(candle), here, self._placed, trigger):
            here = event.at
            self._trigger(event.order, event.base, candle)
        self._placed = None
        for order in self._waiting(candle):
            if order.type == "trailing_stop":
                _, order.peak = followed(candle, order, trigger)

    def _waiting(self, candle: Candle) -> list[Order]:
        return [order for order in self.pending if order.symbol == candle.symbol]

    def _refresh(self) -> None:
        """Record for this instant the state after everything of it (R14)."""
        if self.time in self.snapshots:
            self.snapshots[self.time] = self.portfolio()
        if self.fills and self.fills[-1].time == self.time:
            self.equity_curve[self.time] = self.portfolio().total_equity

    def _end(self, status: str) -> None:
        """Cancel pending orders, sell positions if configured, take the last snapshot (8)."""
        for order in list(self.pending):
            self._close(order, "cancelled", "session_end")
        if self.config.liquidate_at_end and status == "completed":
            for symbol in self.symbols:
                self._liquidate(symbol)
        self.snapshots[self.time] = self.portfolio()
        self._refresh()
        self.status = status

    def _liquidate(self, symbol: str) -> None:
        """Sell the whole position at the market."""
        quantity = self.positions[symbol].quantity
        market_price = self.price(symbol)
        if quantity == 0 or market_price is None:
            return
        order = Order(
            id=len(self.orders) + 1,
            symbol=symbol,
            side="sell",
            type="market",
            quantity=quantity,
            price=None,
            trigger_price=None,
            client_order_id=None,
            oco_group=None,
            created_at=self.time,
            expires_at=None,
            reason="liquidate_at_end",
        )
        self._record(order)
        slippage = self._slippage_now(order)
        price = self._slipped(order, market_price, slippage)
        self._fill(order, quantity, price, slippage, self.time, is_maker=False)
        self._events.filled.append(order)
