"""The session: one account on one market between two times, stepped by one agent."""

from collections.abc import Mapping, Sequence
from copy import copy
from decimal import Decimal
from functools import cached_property
from typing import Any, Unpack

from candlestep.sandbox.clock import format_time, interval_name
from candlestep.sandbox.config import SessionConfig, Time
from candlestep.sandbox.errors import InvalidState
from candlestep.sandbox.exchange.account import Balance, Ledger, Portfolio, Position, balances_of
from candlestep.sandbox.exchange.clearing import Liquidation
from candlestep.sandbox.exchange.instructions import Instruction
from candlestep.sandbox.exchange.instruments import Instrument
from candlestep.sandbox.exchange.margin.commands import (
    require_margin,
    set_leverage,
    set_margin_mode,
    transfer_margin,
)
from candlestep.sandbox.exchange.margin.funding import FundingPayment
from candlestep.sandbox.exchange.margin.reports import MarginBalance, margin_balance, positions_of
from candlestep.sandbox.exchange.order_entry import OrderEntry
from candlestep.sandbox.exchange.orders import Fill, Order
from candlestep.sandbox.market.aggregation import shown_interval
from candlestep.sandbox.market.candles import PRICES, Candle, Floats, Integers
from candlestep.sandbox.market.coverage import Coverage, SessionWarning, market_coverage
from candlestep.sandbox.market.fixed_point import Units
from candlestep.sandbox.market.frames import Table
from candlestep.sandbox.market.market import Market, Ticker
from candlestep.sandbox.market.price_table import Prices
from candlestep.sandbox.money import Number, Whole, parse_count
from candlestep.sandbox.performance.equity import (
    EquityCurve,
    equity_curve,
    snapshot_times,
    times_of_steps,
    total_equity,
)
from candlestep.sandbox.performance.results import Results, SessionStatus, session_results
from candlestep.sandbox.performance.trading_record import TradingRecord
from candlestep.sandbox.step import Step, StepReports
from candlestep.sandbox.turn import Turn, take_turn
from candlestep.sandbox.until import Until, parse_level, parse_until


class Session:
    """An agent's account on a market, from its first step to its last.

    >>> session = Session(config, market)
    >>> session.place_order(symbol="BTCUSDT", side="buy", type="market", quantity="0.1")
    >>> step = session.step(60)
    >>> step.portfolio.total_equity
    """

    def __init__(self, config: SessionConfig, market: Market) -> None:
        """Start a session at step 0. The market may have candles before and after it.

        Of a mixed market it takes the symbols of its ``market_type``. Raises the errors of
        ``SessionConfig.require_candles``, ``Market.part`` and ``SessionConfig.open_exchange``.
        """
        market = market.part(config.market_type)
        config.require_candles(market)
        self.config = config
        self.market = market
        self.status: SessionStatus = "running"
        self._step = 0
        self._clock = config.clock
        self._exchange = config.open_exchange(market)
        self._entry = OrderEntry(self._exchange)
        self._reports = StepReports()
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
    def warnings(self) -> tuple[SessionWarning, ...]:
        """The stretches of the session in which a symbol has no candles; see ``Coverage``."""
        return self._coverage.warnings

    @property
    def coverage(self) -> dict[str, float]:
        """By symbol, the share of the session's steps that have a candle; see ``Coverage``."""
        return self._coverage.shares

    @property
    def orders(self) -> Table[Order]:
        """All orders by id, from 1, including those rejected by a risk limit."""
        return Table(Order, self._exchange.orders)

    @property
    def fills(self) -> Table[Fill]:
        """All fills by id, from 1."""
        return Table(Fill, self._exchange.fills)

    @property
    def order_count(self) -> int:
        """Number of orders, which is also the id of the latest."""
        return len(self._exchange.orders)

    @property
    def pending_count(self) -> int:
        """Number of pending orders."""
        return self._exchange.pending_count

    @property
    def most_pending(self) -> int:
        """The most orders that are pending at a time, once entries have placed their brackets."""
        return self._exchange.clearing.pending.most

    @property
    def account(self) -> Ledger:
        """The ledger; do not change it."""
        return self._exchange.account

    def order(self, order_id: Whole) -> Order:
        """Return the order with this id; raises ``OrderNotFound``."""
        return self._exchange.order(order_id)

    def trailing_trigger(self, order_id: Whole) -> Decimal | None:
        """Return where a pending trailing stop would trigger now; None before its activation.

        None too for an order that is no pending trailing stop. Raises ``OrderNotFound``.
        """
        return self._entry.trailing_trigger(order_id)

    def open_orders(self) -> Table[Order]:
        """Return the pending orders, oldest first."""
        return Table(Order, self._exchange.open_orders())

    def prices(self) -> dict[str, Decimal]:
        """Return the current price of each symbol that has one."""
        return self.market.prices(self.time)

    def price(self, symbol: str) -> Decimal:
        """Return the current price; raises ``SymbolNotFound`` or ``NoPrice``."""
        return self.market.price(symbol, self.time)

    def candles(
        self, symbol: str, interval: str | Whole | None = None, limit: Whole = 100
    ) -> Table[Candle]:
        """Return the latest complete candles, of ``default_interval``; see ``Market.candles``."""
        if interval is None:
            interval = interval_name(self.default_interval(symbol))
        return self.market.candles(symbol, self.time, interval, limit)

    def window(
        self,
        symbol: str,
        n: Whole,
        fields: Sequence[str] = PRICES,
        interval: str | Whole | None = None,
    ) -> Floats:
        """Return the last ``n`` complete candles as a read-only array; see ``Market.window``.

        A row is a candle, oldest first, the last one complete now; the running candle is never
        among them. ``interval`` defaults as in ``candles``.
        """
        if interval is None:
            interval = interval_name(self.default_interval(symbol))
        return self.market.window(symbol, self.time, n, fields, interval)

    def default_interval(self, symbol: str) -> int:
        """Return the session's candle interval in ms, or that of the data so far.

        That is so if the data is coarser, or cannot be aggregated to the session's.
        """
        candles = self.market.candles_of(symbol)
        return shown_interval(candles, self.config.clock.interval, self.time)

    def instrument(self, symbol: str) -> Instrument:
        """Return what the session knows of an instrument; raises ``SymbolNotFound``."""
        symbol = self.market.candles_of(symbol).symbol
        return self.config.instruments.get(symbol) or Instrument(symbol)

    def ticker(self, symbol: str) -> Ticker:
        """Return the last 24 hours; see ``Market.ticker``."""
        return self.market.ticker(symbol, self.time)

    def portfolio(self) -> Portfolio:
        """Return the account at current prices."""
        prices = Prices(self.market.price_table, self.time)
        return self._exchange.clearing.portfolio(prices, self.time)

    def positions(self) -> tuple[Position, ...]:
        """Return the open positions at current prices; on perpetuals they are ``MarginPosition``."""
        return positions_of(self._exchange.clearing, self.portfolio(), self.time)

    def margin(self) -> MarginBalance:
        """Return the margin of the account; raises ``InvalidState`` in a spot session."""
        return margin_balance(require_margin(self._exchange.clearing, "read the margin"), self.time)

    @property
    def funding_payments(self) -> Table[FundingPayment]:
        """All funding paid and received, by id, from 1; none in a spot session."""
        return Table(FundingPayment, self._exchange.clearing.payments)

    @property
    def liquidations(self) -> Table[Liquidation]:
        """All positions that were liquidated, in order; none in a spot session."""
        return Table(Liquidation, self._exchange.clearing.liquidations)

    def set_leverage(self, symbol: str, leverage: Number) -> None:
        """Set the leverage of a perpetual: a whole number, at most that of its tiers.

        Raises ``InvalidParameter``, ``InvalidState`` (lowered with an isolated position),
        ``LeverageLimit`` and ``InsufficientMargin``.
        """
        self._require_running("set the leverage")
        set_leverage(self._exchange, symbol, leverage)

    def set_margin_mode(self, symbol: str, mode: str) -> None:
        """Set ``"cross"`` or ``"isolated"`` margin; raises ``InvalidState`` with a position or order."""
        self._require_running("set the margin mode")
        set_margin_mode(self._exchange, symbol, mode)

    def transfer_margin(self, symbol: str, amount: Number) -> None:
        """Move ``amount`` from the cross wallet to an isolated one, or a negative one back.

        Raises ``InvalidParameter``, ``InvalidState`` without an isolated position, and
        ``InsufficientMargin``, which names how much can be moved.
        """
        self._require_running("transfer margin")
        transfer_margin(self._exchange, symbol, amount)

    def balances(self) -> list[Balance]:
        """Return the balance of the currency, then of each asset that is held."""
        return balances_of(self.account, self.config.currency)

    def place_order(self, **instruction: Unpack[Instruction]) -> Order:
        """Place an order; a market order and a marketable limit fill before this returns.

        An instruction has ``symbol``, ``side``, ``quantity``, and ``type``, which is ``"market"``
        unless it is given; a limit order has a ``price``, a stop_loss or take_profit a
        ``trigger_price``, a stop_limit or take_profit_limit both, and a trailing_stop
        ``trail_percent`` or ``trail_amount``, and perhaps an ``activation_price`` from which on it
        follows the price. ``client_order_id``, ``oco_group`` and ``expires_at`` are optional.
        ``stop_loss`` and ``take_profit`` are the triggers of two orders that guard what an entry
        has opened; one cancels the other. A market order may have a ``quote_amount`` instead of the quantity: it buys for at most so
        much, costs included, or sells for at least so much; on perpetuals it is the notional.
        A limit with ``time_in_force`` ``"ioc"`` or ``"fok"`` expires unless it fills at once, and
        with ``post_only`` it is refused if it would. On perpetuals ``reduce_only`` lets the order
        close a position and never open one; it is the default of all types that have a trigger.

        The same order with the same ``client_order_id`` returns the one that was placed before and
        places none. A refused order changes nothing, except that ``RiskLimitExceeded`` leaves a
        rejected one. Raises ``InvalidState``, ``InvalidParameter``, ``InvalidSymbol``,
        ``SymbolNotFound``, ``NoPrice``, ``InsufficientBalance`` (``InsufficientMargin`` on
        perpetuals), ``LeverageLimit``, ``OrderWouldMatch``, ``RiskLimitExceeded``, and
        ``ClientOrderIdInUse`` for the id of another order.
        """
        placed = self._entry.placed_before(instruction.get("client_order_id"))
        if placed is None:
            self._require_running("place an order")
        return self._entry.place(placed, instruction)

    def order_of_client(self, client_order_id: str | None) -> Order | None:
        """Return the order that was placed with a ``client_order_id``; None if there is none."""
        return self._entry.placed_as(client_order_id)

    def place_oco(self, orders: Sequence[Instruction]) -> tuple[Order, Order]:
        """Place two orders, of which one cancels the other when it fills; or neither.

        Both are as in ``place_order``, of one symbol and side, and have to wait. They share the
        larger lock, and ``list_id``, the id of the first. If one is refused, none is placed, but
        ``RiskLimitExceeded`` leaves that one rejected; ``details["leg"]`` is 0 or 1. Raises as
        ``place_order``, and ``OrderWouldMatch`` for a limit that would fill at once.
        """
        placed = self._entry.list_placed_before(orders)
        if placed is None:
            self._require_running("place orders")
        return self._entry.place_oco(placed, orders)

    def replace_order(
        self,
        order_id: Whole,
        *,
        price: Number | None = None,
        trigger_price: Number | None = None,
        quantity: Number | None = None,
    ) -> Order:
        """Cancel a pending order and place it with other numbers; return the new order.

        It has a new id and is the last in time; ``client_order_id``, group, list and bracket move
        to it. The old one is cancelled (``replaced``), and stays as it was if the new one is
        refused. Raises as ``cancel_order`` and ``place_order``.
        """
        self._require_running("replace an order")
        return self._entry.replace(order_id, price, trigger_price, quantity)

    def cancel_order(self, order_id: Whole) -> Order:
        """Cancel a pending order; raises ``OrderNotFound`` or ``InvalidState``."""
        self._require_running("cancel an order")
        return self._exchange.cancel(order_id)

    def affordable(
        self,
        *,
        symbol: str,
        cash: Number,
        side: str = "buy",
        type: str = "market",
        price: Number | None = None,
        trigger_price: Number | None = None,
    ) -> Decimal:
        """Return the quantity that a buy now gets for at most ``cash``, costs included; may be 0.

        ``type`` and the price that it needs describe the buy. It uses all of the cash except for a
        rounding remainder, which is larger where slippage grows with the quantity. On perpetuals
        ``cash`` is initial margin with the fee, ``side`` may be ``"sell"`` for a short, and the
        quantity, which opens a position or adds to one, keeps to the bound of the leverage. Raises
        the errors of ``place_order`` except ``InsufficientBalance``.
        """
        return self._entry.affordable(
            cash,
            symbol=symbol,
            side=side,
            type=type,
            quantity=1,
            price=price,
            trigger_price=trigger_price,
        )

    def spendable(self, symbol: str) -> Decimal:
        """Return the cash that a new position in ``symbol`` may take now, with its costs."""
        return self._exchange.clearing.spendable(self.market.candles_of(symbol).symbol, self.time)

    def step(self, steps: Whole = 1, until: Until | Mapping[str, Any] = "steps") -> Step:
        """Advance by ``steps`` candles of the session, at most to its end.

        Costs grow with the events on the way, not with the number of steps. ``until`` stops after
        the first step in which an order fills or closes (``"order_change"``), or in which a price
        is touched (``{"symbol": …, "above": …}`` or ``"below"``). Raises ``InvalidState`` after the
        end.
        """
        last, reported_fills = self._step_after(steps), len(self._exchange.fills)
        if until != "steps":
            last = self._first_step_of(until, last)
        return self._advance(last, reported_fills)

    def step_to_change(self, steps: Whole) -> Step:
        """Advance like ``step``, but stop after the first step in which an order fills or closes."""
        return self.step(steps, "order_change")

    def turn(
        self,
        orders: Sequence[Mapping[str, Any]] = (),
        cancel: Sequence[Whole] = (),
        steps: Whole = 1,
        until: Until | Mapping[str, Any] = "steps",
    ) -> Turn[Order, Order, Step]:
        """Cancel orders by id, then place ``orders``, then step (0: not at all), in one command.

        Each order has the arguments of ``place_order``. The first refusal ends the turn, and is in
        its ``refused``: see ``take_turn``. Raises ``InvalidState`` after the end.
        """
        self._step_after(1 if steps == 0 else steps)
        until = parse_until(until, self.market)
        return take_turn(
            cancel,
            orders,
            cancel_order=self.cancel_order,
            place_order=lambda order: self.place_order(**order),
            advance=None if steps == 0 else lambda: self.step(steps, until),
        )

    def cancel(self) -> Step:
        """End the session here: pending orders are cancelled, positions stay as they are."""
        self._require_running("cancel")
        self._exchange.cancel_all("session_end")
        self.status = "cancelled"
        exchange, clock = self._exchange, self._clock
        return self._reports.next(exchange, clock, self._step, self.status, len(exchange.fills), 0)

    def snapshots(self) -> EquityCurve:
        """Return equity at the start, every 60 steps, at every instant with a fill, and at the end."""
        exchange, is_over = self._exchange, self.status != "running"
        times = snapshot_times(self._clock, self.time, exchange.fills, is_over=is_over)
        return equity_curve(exchange.history, self.market, times)

    def equity_curve(self, steps: Whole = 1) -> EquityCurve:
        """Return equity at the start, every ``steps`` steps since, and now. Linear in their number."""
        times = times_of_steps(self._clock, self.time, steps)
        return equity_curve(self._exchange.history, self.market, times)

    def total_equity(self, steps: Whole = 1) -> tuple[Integers, Units]:
        """Return the times of ``equity_curve`` and total equity alone, in units of 1e-8: cheaper."""
        times = times_of_steps(self._clock, self.time, steps)
        return times, total_equity(self._exchange.history, self.market, times)

    def fork(self) -> "Session":
        """Return a session that shares this one's past and is independent from now on.

        Only references are copied, a few for each order: under a millisecond for thousands.
        """
        forked = Session.__new__(Session)
        forked.__dict__.update(self.__dict__)
        forked._exchange = self._exchange.copy()
        forked._entry = self._entry.copy(forked._exchange)
        forked._reports = copy(self._reports)
        return forked

    def __deepcopy__(self, memo: dict[int, Any]) -> "Session":
        return self.fork()

    __copy__ = fork

    def __repr__(self) -> str:
        return f"Session({self.record().text(self.status, self._step, self.portfolio())})"

    def results(self) -> Results:
        """Return the outcome so far, or at the end, where it is computed only once."""
        if self._final_results is not None:
            return self._final_results
        results = session_results(self.config, self._exchange, self.status)
        if self.status != "running":
            self._final_results = results
        return results

    def record(self) -> TradingRecord:
        """Return what the session has done so far, which charts are made of."""
        return TradingRecord(self.config, self._exchange)

    def plot(
        self, symbol: str | None = None, start: Time | None = None, end: Time | None = None
    ) -> Any:
        """Return a Plotly figure of candles, fills and equity; see ``TradingRecord.plot``."""
        return self.record().plot(symbol, start, end)

    def _repr_html_(self) -> str:
        return self.record().html_table(self.status, self.portfolio())

    @cached_property
    def _coverage(self) -> Coverage:
        return market_coverage(self._clock, self.market)

    def _step_after(self, steps: Whole) -> int:
        """Return the number of the step that is ``steps`` after this one, at most the last."""
        if self.status != "running":
            self._require_running("step")
        if type(steps) is not int or steps < 1:
            steps = parse_count("steps", steps)
        return min(self._step + steps, self._clock.total_steps)

    def _first_step_of(self, until: Until | Mapping[str, Any], last: int) -> int:
        """Return the step after which a condition is met, or ``last``; time may pass on the way."""
        clock = self._clock
        end = clock.start + last * clock.interval
        if until == "order_change":
            self._exchange.advance_to_change(end)
            reached = self.time
        else:
            level = parse_level(until, self.market)
            close_only = self.config.trigger == "close"
            reached = level.first_touch(self.market, self.time, end, close_only=close_only)
        return -(-(reached - clock.start) // clock.interval)

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
        return self._reports.next(
            exchange, clock, after, self.status, reported_fills, after - before
        )

    def _require_running(self, action: str) -> None:
        if self.status != "running":
            raise InvalidState(
                f"cannot {action}: the session was {self.status} at {format_time(self.time)};"
                " create a new one",
                status=self.status,
            )
