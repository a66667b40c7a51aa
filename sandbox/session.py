"""The session: one account on one market between two times, stepped by one agent."""

from copy import copy
from decimal import Decimal

import msgspec
import numpy as np

from candlestep.sandbox.clock import format_time, interval_name
from candlestep.sandbox.config import Number, SessionConfig, Time
from candlestep.sandbox.errors import InvalidParameter, InvalidState, abbreviate
from candlestep.sandbox.exchange.account import Account, Balance, Portfolio, Position
from candlestep.sandbox.exchange.exchange import Exchange
from candlestep.sandbox.exchange.orders import Fill, Order, parse_name, parse_request
from candlestep.sandbox.market.candles import Candle, Integers
from candlestep.sandbox.market.fixed_point import Units
from candlestep.sandbox.market.market import Market, Ticker
from candlestep.sandbox.money import AMOUNT_PLACES, parse_positive, rounded_ratio, subtract
from candlestep.sandbox.performance.equity import EquityCurve, equity_curve, total_equity
from candlestep.sandbox.performance.results import Results, SessionStatus, compute_results

SNAPSHOT_STEPS = 60
"""Number of steps from one snapshot of equity to the next."""


class Step(msgspec.Struct, frozen=True):
    """The report to an agent after a step; times in milliseconds."""

    time: int
    step: int
    total_steps: int
    prices: dict[str, Decimal]
    """Price of every symbol that has one."""
    orders_filled: tuple[Order, ...]
    """Orders that filled during this step."""
    orders_closed: tuple[Order, ...]
    """Orders cancelled, rejected or expired since the last step."""
    portfolio: Portfolio
    is_complete: bool
    steps_executed: int
    """Number of steps that this report covers."""

    @property
    def remaining_steps(self) -> int:
        """Number of steps to the end of the session."""
        return self.total_steps - self.step

    @property
    def progress_pct(self) -> Decimal:
        """Share of the steps that are done, in percent at 2 places."""
        return rounded_ratio(Decimal(self.step * 100), Decimal(self.total_steps), 2)


class Session:
    """An agent's account on a market, from its first step to its last.

    >>> session = Session(config, market)
    >>> session.place_order(symbol="BTCUSDT", side="buy", type="market", quantity="0.1")
    >>> step = session.step(60)
    >>> step.portfolio.total_equity
    """

    def __init__(self, config: SessionConfig, market: Market) -> None:
        """Start a session at step 0. The market may have candles before and after it."""
        self.config = config
        self.market = market
        self.status: SessionStatus = "running"
        self._step = 0
        self._clock = config.clock
        self._exchange = Exchange(
            market,
            config.clock.start,
            starting_balance=config.starting_balance,
            costs=config.costs,
            risk=config.risk,
            close_only=config.trigger == "close",
        )
        self._client_orders: dict[str, int] = {}
        self._reported_closed = 0
        self._final_results: Results | None = None

    @property
    def time(self) -> int:
        """The virtual clock, in milliseconds."""
        return self._exchange.now

    @property
    def total_steps(self) -> int:
        """Number of steps from start to end."""
        return self.config.clock.total_steps

    @property
    def step_number(self) -> int:
        """Number of steps done."""
        return self._step

    @property
    def orders(self) -> list[Order]:
        """All orders by id, from 1, including those rejected by a risk limit."""
        return list(self._exchange.orders)

    @property
    def fills(self) -> list[Fill]:
        """All fills by id, from 1."""
        return list(self._exchange.fills)

    @property
    def order_count(self) -> int:
        """Number of orders, which is also the id of the latest."""
        return len(self._exchange.orders)

    @property
    def pending_count(self) -> int:
        """Number of pending orders."""
        return self._exchange.pending_count

    @property
    def account(self) -> Account:
        """The ledger; do not change it."""
        return self._exchange.account

    def order(self, order_id: int) -> Order:
        """Return the order with this id; raises ``OrderNotFound``."""
        return self._exchange.order(order_id)

    def open_orders(self) -> list[Order]:
        """Return the pending orders, oldest first."""
        return self._exchange.open_orders()

    def prices(self) -> dict[str, Decimal]:
        """Return the current price of each symbol that has one."""
        return self.market.prices(self.time)

    def price(self, symbol: str) -> Decimal:
        """Return the current price; raises ``SymbolNotFound`` or ``NoPrice``."""
        return self.market.price(symbol, self.time)

    def candles(
        self, symbol: str, interval: str | int | None = None, limit: int = 100
    ) -> list[Candle]:
        """Return the latest complete candles, oldest first; see ``Market.candles``.

        ``interval`` defaults to the session's, or to the data's if that is coarser.
        """
        if interval is None:
            interval = interval_name(self.default_interval(symbol))
        return self.market.candles(symbol, self.time, interval, limit)

    def default_interval(self, symbol: str) -> int:
        """Return the session's candle interval in ms, or that of the data so far if coarser."""
        finest = self.market.candles_of(symbol).finest_complete(self.time)
        return max(finest or 0, self.config.clock.interval)

    def ticker(self, symbol: str) -> Ticker:
        """Return the last 24 hours; see ``Market.ticker``."""
        return self.market.ticker(symbol, self.time)

    def portfolio(self) -> Portfolio:
        """Return the account at current prices."""
        return self.account.portfolio(self.prices())

    def positions(self) -> tuple[Position, ...]:
        """Return the open positions at current prices."""
        return self.portfolio().positions

    def balances(self) -> list[Balance]:
        """Return the balance of the currency, then of the base asset of each open position."""
        account, currency = self.account, self.config.currency
        balances = [Balance(currency, account.available_cash, account.locked_cash)]
        for symbol, holding in sorted(account.open_holdings.items()):
            locked = account.locked_quantity(symbol)
            available = subtract(holding.quantity, locked)
            balances.append(Balance(symbol.removesuffix(currency) or symbol, available, locked))
        return balances

    def place_order(
        self,
        *,
        symbol: str,
        side: str,
        type: str,
        quantity: Number,
        price: Number | None = None,
        trigger_price: Number | None = None,
        client_order_id: str | None = None,
        oco_group: str | None = None,
        expires_at: Time | None = None,
    ) -> Order:
        """Place an order; a market order and a marketable limit fill before this returns.

        A ``client_order_id`` that was used before returns its order and places none. A refused
        order changes nothing, except that ``RiskLimitExceeded`` leaves a rejected one. Raises
        ``InvalidState``, ``InvalidParameter``, ``SymbolNotFound``, ``NoPrice``,
        ``InsufficientBalance``, ``RiskLimitExceeded``.
        """
        client_id = parse_name("client_order_id", client_order_id)
        if client_id is not None and client_id in self._client_orders:
            return self.order(self._client_orders[client_id])
        self._require_running("place an order")
        request = parse_request(
            now=self._exchange.now,
            symbol=symbol,
            side=side,
            type=type,
            quantity=quantity,
            price=price,
            trigger_price=trigger_price,
            client_order_id=client_id,
            oco_group=oco_group,
            expires_at=expires_at,
        )
        next_id = len(self._exchange.orders) + 1
        try:
            return self._exchange.place(request)
        finally:
            if client_id is not None and len(self._exchange.orders) == next_id:
                self._client_orders[client_id] = next_id

    def cancel_order(self, order_id: int) -> Order:
        """Cancel a pending order; raises ``OrderNotFound`` or ``InvalidState``."""
        self._require_running("cancel an order")
        return self._exchange.cancel(order_id)

    def affordable(
        self,
        *,
        symbol: str,
        cash: Number,
        type: str = "market",
        price: Number | None = None,
        trigger_price: Number | None = None,
    ) -> Decimal:
        """Return the quantity that a buy now gets for at most ``cash``, costs included; may be 0.

        ``type`` and the price that it needs describe the buy. It uses all of the cash except for a
        rounding remainder, which is larger where slippage grows with the quantity. Raises the
        errors of ``place_order`` except ``InsufficientBalance``.
        """
        request = parse_request(
            now=self._exchange.now,
            symbol=symbol,
            side="buy",
            type=type,
            quantity=1,
            price=price,
            trigger_price=trigger_price,
        )
        return self._exchange.affordable(request, parse_positive("cash", cash, AMOUNT_PLACES))

    def step(self, steps: int = 1) -> Step:
        """Advance by ``steps`` candles of the session, at most to its end.

        Every candle on the way is checked against the pending orders. Costs grow with the events
        on the way, not with the number of steps. Raises ``InvalidState`` after the end.
        """
        return self._advance(self._step_after(steps), len(self._exchange.fills))

    def step_to_change(self, steps: int) -> Step:
        """Advance like ``step``, but stop after the first step in which an order fills or closes.

        For an agent that waits until something happens to its orders.
        """
        last = self._step_after(steps)
        exchange, clock = self._exchange, self._clock
        reported_fills = len(exchange.fills)
        exchange.advance_to_change(clock.start + last * clock.interval)
        return self._advance(-(-(exchange.now - clock.start) // clock.interval), reported_fills)

    def cancel(self) -> Step:
        """End the session here: pending orders are cancelled, positions stay as they are."""
        self._require_running("cancel")
        self._exchange.cancel_all("session_end")
        self.status = "cancelled"
        return self._report(len(self._exchange.fills), 0)

    def snapshots(self) -> EquityCurve:
        """Return equity at the start, every 60 steps, at every instant with a fill, and at the end."""
        clock = self._clock
        spacing = SNAPSHOT_STEPS * clock.interval
        times = set(range(clock.start, self.time + 1, spacing))
        times.update(fill.time for fill in self._exchange.fills)
        if self.status != "running":
            times.add(self.time)
        return equity_curve(self._exchange.history, self.market, sorted(times))

    def equity_curve(self, steps: int = 1) -> EquityCurve:
        """Return equity at the start, every ``steps`` steps since, and now. Linear in their number."""
        return equity_curve(self._exchange.history, self.market, self._times(steps))

    def total_equity(self, steps: int = 1) -> tuple[Integers, Units]:
        """Return the times of ``equity_curve`` and total equity alone, in units of 1e-8: cheaper."""
        times = self._times(steps)
        return times, total_equity(self._exchange.history, self.market, times)

    def fork(self) -> "Session":
        """Return a session that shares this one's past and is independent from now on.

        Only references are copied, a few for each order: under a millisecond for thousands.
        """
        forked = copy(self)
        forked._exchange = self._exchange.copy()
        forked._client_orders = self._client_orders.copy()
        return forked

    def results(self) -> Results:
        """Return the outcome so far, or at the end, where it is computed only once."""
        if self._final_results is not None:
            return self._final_results
        results = compute_results(
            self.config,
            self.market,
            status=self.status,
            time=self.time,
            account=self._exchange.account,
            history=self._exchange.history,
            fills=self._exchange.fills,
        )
        if self.status != "running":
            self._final_results = results
        return results

    def _times(self, steps: int) -> Integers:
        """Return the start, every ``steps`` steps since, and now, in milliseconds."""
        if type(steps) is not int or steps < 1:
            raise _invalid_steps(steps)
        clock = self._clock
        times = np.arange(clock.start, self.time + 1, steps * clock.interval)
        return times if times[-1] == self.time else np.append(times, self.time)

    def _step_after(self, steps: int) -> int:
        """Return the number of the step that is ``steps`` after this one, at most the last."""
        if self.status != "running":
            self._require_running("step")
        if type(steps) is not int or steps < 1:
            raise _invalid_steps(steps)
        return min(self._step + steps, self._clock.total_steps)

    def _advance(self, after: int, reported_fills: int) -> Step:
        """Advance to the step ``after``, and report the fills from ``reported_fills`` on."""
        exchange, clock = self._exchange, self._clock
        before = self._step
        exchange.advance(clock.start + after * clock.interval)
        self._step = after
        if after == clock.total_steps:
            exchange.cancel_all("session_end")
            if self.config.liquidate_at_end:
                exchange.liquidate("liquidate_at_end")
            self.status = "completed"
        return self._report(reported_fills, after - before)

    def _report(self, reported_fills: int, steps_executed: int) -> Step:
        exchange = self._exchange
        filled: tuple[Order, ...] = ()
        if len(exchange.fills) > reported_fills:
            filled = tuple(
                exchange.orders[fill.order_id - 1] for fill in exchange.fills[reported_fills:]
            )
        closed: tuple[Order, ...] = ()
        if len(exchange.closed) > self._reported_closed:
            closed = tuple(exchange.closed[self._reported_closed :])
            self._reported_closed = len(exchange.closed)
        prices = self.market.prices(exchange.now)
        return Step(
            exchange.now,
            self._step,
            self._clock.total_steps,
            prices,
            filled,
            closed,
            exchange.account.portfolio(prices),
            self.status != "running",
            steps_executed,
        )

    def _require_running(self, action: str) -> None:
        if self.status != "running":
            raise InvalidState(
                f"cannot {action}: the session was {self.status} at {format_time(self.time)};"
                " create a new one",
                status=self.status,
            )


def _invalid_steps(steps: object) -> InvalidParameter:
    message = f"must be a whole number of at least 1, got {abbreviate(steps)}"
    return InvalidParameter("steps", message)
