"""A session on a server, with the methods and the values of one in this process."""

import secrets
from collections.abc import Mapping, Sequence
from decimal import Decimal
from itertools import count
from typing import Any, NamedTuple, Unpack, cast
from urllib.parse import quote

import msgspec

from candlestep.api.client import answers, margin_answers, market_answers
from candlestep.api.client.connection import Answer, Connection, ConnectionLost, query, success
from candlestep.api.client.refusals import refusal_of
from candlestep.api.client.requests import body_of, plain_fields, plain_until
from candlestep.api.client.times import milliseconds
from candlestep.sandbox import (
    Balance,
    Candle,
    Fill,
    FundingPayment,
    Liquidation,
    MarginBalance,
    Order,
    Portfolio,
    Position,
    Results,
    SessionWarning,
    Snapshot,
    Step,
    Ticker,
    Turn,
)
from candlestep.sandbox.clock import parse_interval
from candlestep.sandbox.exchange.instructions import Instruction
from candlestep.sandbox.exchange.margin.account import MarginPortfolio
from candlestep.sandbox.market.frames import Table
from candlestep.sandbox.market.price_table import Prices
from candlestep.sandbox.money import Number, Whole, parse_count
from candlestep.sandbox.turn import RefusedPart
from candlestep.sandbox.until import Until

_PAGE = 1000
_MOST_TRADES = 100_000

_read_status = msgspec.json.Decoder(answers.StatusAnswer).decode
_read_step = msgspec.json.Decoder(answers.StepAnswer).decode
_read_turn = msgspec.json.Decoder(answers.TurnAnswer).decode
_read_order = msgspec.json.Decoder(answers.OrderAnswer).decode
_read_orders = msgspec.json.Decoder(answers.OrdersAnswer).decode
_read_pair = msgspec.json.Decoder(answers.PairOfOrdersAnswer).decode
_read_trades = msgspec.json.Decoder(answers.TradesAnswer).decode
_read_since = msgspec.json.Decoder(answers.SinceAnswer).decode
_read_portfolio = msgspec.json.Decoder(answers.PortfolioAnswer).decode
_read_balances = msgspec.json.Decoder(answers.BalancesAnswer).decode
_read_prices = msgspec.json.Decoder(market_answers.PricesAnswer).decode
_read_price = msgspec.json.Decoder(market_answers.PriceAnswer).decode
_read_ticker = msgspec.json.Decoder(market_answers.TickerAnswer).decode
_read_candles = msgspec.json.Decoder(market_answers.CandlesAnswer).decode
_read_equity = msgspec.json.Decoder(answers.EquityAnswer).decode
_read_results = msgspec.json.Decoder(answers.ResultsAnswer).decode
_read_margin = msgspec.json.Decoder(margin_answers.MarginAnswer).decode
_read_margin_positions = msgspec.json.Decoder(margin_answers.MarginPositionsAnswer).decode
_read_payments = msgspec.json.Decoder(margin_answers.PaymentsAnswer).decode
_read_liquidations = msgspec.json.Decoder(margin_answers.LiquidationsAnswer).decode
_read_forks = msgspec.json.Decoder(answers.ForksAnswer).decode

_encode = msgspec.json.Encoder().encode


class SessionTurn(NamedTuple):
    """The arguments of ``Session.turn``."""

    orders: Sequence[Mapping[str, Any]] = ()
    cancel: Sequence[Whole] = ()
    steps: Whole = 1
    until: Until | Mapping[str, Any] = "steps"


class Session:
    """A session on a server, as ``candlestep.sandbox.Session`` is one in this process.

    ``status``, ``time`` and ``step_number`` are as of its latest answer. The fill of an order has
    the id 0, and what an order locks is not told. A session that runs has no ``results`` yet.
    """

    def __init__(self, connection: Connection, session_id: str) -> None:
        """Read where the session is; raises the server's error if there is no such session."""
        self.id = session_id
        self._connection = connection
        self._path = f"/api/v1/backtest/{quote(session_id, safe='')}"
        self._keys = (f"{secrets.token_hex(12)}-{number}" for number in count(1))
        self._single_step = connection.prepare("POST", f"{self._path}/step")
        self._reported: frozenset[int] = frozenset()
        """The ids of the orders that the latest step reported as closed."""
        self._known = _read_status(self._get("/status"))
        self._start = milliseconds(self._known.start_time)
        self._interval = self._known.interval
        self.status = self._known.status
        """``running``, ``completed`` or ``cancelled``."""
        self.step_number = self._known.current_step
        """Number of steps done."""
        self.total_steps = self._known.total_steps
        """Number of steps from start to end."""

    @property
    def time(self) -> int:
        """The virtual clock, in milliseconds."""
        return self._start + self.step_number * self._interval

    @property
    def warnings(self) -> tuple[SessionWarning, ...]:
        """The stretches of the session in which a symbol has no candles."""
        return tuple(warning.warning() for warning in self._known.warnings)

    @property
    def coverage(self) -> dict[str, float]:
        """By symbol, the share of the session's steps that have a candle."""
        return self._known.coverage

    # Commands

    def step(self, steps: Whole = 1, until: Until | Mapping[str, Any] = "steps") -> Step:
        """Advance by ``steps`` candles, or until a condition; see ``sandbox.Session.step``."""
        if type(steps) is int and steps == 1 and until == "steps":
            request = self._single_step
        else:
            request = self._step_request(steps, until)
        before = self.step_number
        try:
            answer = self._connection.exchange(request)
        except ConnectionLost:
            return self._step_again(steps, until)
        return self._take_step(_read_step(success(answer)), before)

    def step_to_change(self, steps: Whole) -> Step:
        """Advance like ``step``, but stop after the first step in which an order fills or closes."""
        return self.step(steps, "order_change")

    def place_order(self, **instruction: Unpack[Instruction]) -> Order:
        """Place an order; see ``sandbox.Session.place_order``."""
        return _read_order(self._command("/trade/order", body_of(instruction))).order()

    def place_oco(self, orders: Sequence[Instruction]) -> tuple[Order, Order]:
        """Place two orders of which one cancels the other; see ``sandbox.Session.place_oco``."""
        body = _encode({"orders": [plain_fields(order) for order in orders]})
        first, second = _read_pair(self._command("/trade/oco", body)).orders
        return first.order(), second.order()

    def replace_order(
        self,
        order_id: Whole,
        *,
        price: Number | None = None,
        trigger_price: Number | None = None,
        quantity: Number | None = None,
    ) -> Order:
        """Place a pending order with other numbers; see ``sandbox.Session.replace_order``."""
        changes = {"price": price, "trigger_price": trigger_price, "quantity": quantity}
        path = f"/trade/order/{quote(str(order_id), safe='')}"
        return _read_order(self._command(path, body_of(changes), method="PATCH")).order()

    def cancel_order(self, order_id: Whole) -> Order:
        """Cancel a pending order and return it; raises ``OrderNotFound`` or ``InvalidState``."""
        path = f"/trade/order/{quote(str(order_id), safe='')}"
        self._command(path, method="DELETE")
        return self.order(order_id)

    def set_leverage(self, symbol: str, leverage: Number) -> None:
        """Set the leverage of a perpetual; see ``sandbox.Session.set_leverage``."""
        self._command("/account/leverage", body_of({"symbol": symbol, "leverage": leverage}))

    def set_margin_mode(self, symbol: str, mode: str) -> None:
        """Set ``"cross"`` or ``"isolated"`` margin; see ``sandbox.Session.set_margin_mode``."""
        self._command("/account/margin-mode", body_of({"symbol": symbol, "margin_mode": mode}))

    def transfer_margin(self, symbol: str, amount: Number) -> None:
        """Move margin to an isolated wallet or back; see ``sandbox.Session.transfer_margin``."""
        self._command("/account/margin", body_of({"symbol": symbol, "amount": amount}))

    def turn(
        self,
        orders: Sequence[Mapping[str, Any]] = (),
        cancel: Sequence[Whole] = (),
        steps: Whole = 1,
        until: Until | Mapping[str, Any] = "steps",
    ) -> Turn[Order, Order, Step]:
        """Cancel orders, place ``orders``, then step, in one request; see ``sandbox.Session.turn``."""
        fields = turn_fields(SessionTurn(orders, cancel, steps, until))
        return self.take(_read_turn(self._command("/turn", _encode(fields))))

    def cancel(self) -> None:
        """End the session here."""
        self._command("/cancel")
        self.status = _read_status(self._get("/status")).status

    def fork(self) -> "Session":
        """Return a session that shares this one's past and is independent from now on."""
        forked = _read_forks(self._command("/fork")).forks[0]
        return Session(self._connection, forked.session_id)

    # Reads

    def order(self, order_id: Whole) -> Order:
        """Return the order with this id; raises ``OrderNotFound``."""
        path = f"/trade/order/{quote(str(order_id), safe='')}"
        return _read_order(self._get(path)).order()

    @property
    def orders(self) -> Table[Order]:
        """All orders by id, from 1, including those rejected by a risk limit."""
        return self._orders("/trade/orders")

    def open_orders(self) -> Table[Order]:
        """Return the pending orders, oldest first."""
        return self._orders("/trade/orders/open")

    @property
    def order_count(self) -> int:
        """Number of orders, which is also the id of the latest."""
        return _read_orders(self._get("/trade/orders?limit=1")).total

    @property
    def pending_count(self) -> int:
        """Number of pending orders."""
        return _read_orders(self._get("/trade/orders/open?limit=1")).total

    @property
    def fills(self) -> Table[Fill]:
        """All fills by id, from 1."""
        fills: list[Fill] = []
        while True:
            path = query("/trade/history", {"limit": _MOST_TRADES, "offset": len(fills)})
            page = _read_trades(self._get(path))
            fills += [trade.fill() for trade in page.trades]
            if len(fills) >= page.total or not page.trades:
                return Table(Fill, fills)

    def prices(self) -> dict[str, Decimal]:
        """Return the current price of each symbol that has one."""
        return _read_prices(self._get("/market/prices")).prices

    def price(self, symbol: str) -> Decimal:
        """Return the current price; raises ``SymbolNotFound`` or ``NoPrice``."""
        return _read_price(self._get(f"/market/price/{quote(symbol)}")).price

    def ticker(self, symbol: str) -> Ticker:
        """Return the last 24 hours."""
        return _read_ticker(self._get(f"/market/ticker/{quote(symbol)}")).ticker()

    def candles(
        self, symbol: str, interval: str | Whole | None = None, limit: Whole = 100
    ) -> Table[Candle]:
        """Return the latest complete candles, by default of the session's interval."""
        path = query(f"/market/candles/{quote(symbol)}", {"interval": interval, "limit": limit})
        answer = _read_candles(self._get(path))
        length = parse_interval(answer.interval)
        return Table(Candle, [candle.candle(length) for candle in answer.candles])

    def portfolio(self) -> Portfolio:
        """Return the account at current prices."""
        return _read_portfolio(self._get("/account/portfolio")).portfolio()

    def positions(self) -> tuple[Position, ...]:
        """Return the open positions at current prices; on perpetuals they are ``MarginPosition``."""
        portfolio = self.portfolio()
        if not isinstance(portfolio, MarginPortfolio):
            return portfolio.positions
        answer = _read_margin_positions(self._get("/account/positions"))
        return tuple(position.position() for position in answer.positions)

    def margin(self) -> MarginBalance:
        """Return the margin of the account; raises ``InvalidState`` in a spot session."""
        return _read_margin(self._get("/account/margin")).margin()

    @property
    def funding_payments(self) -> Table[FundingPayment]:
        """All funding paid and received, by id, from 1; none in a spot session."""
        payments: list[FundingPayment] = []
        while True:
            path = query("/account/funding", {"limit": _PAGE, "offset": len(payments)})
            page = _read_payments(self._get(path))
            payments += [payment.payment() for payment in page.payments]
            if len(payments) >= page.total or not page.payments:
                return Table(FundingPayment, payments)

    def liquidations(self) -> Table[Liquidation]:
        """Return the positions that were liquidated; raises ``InvalidState`` while it runs."""
        answer = _read_liquidations(self._get("/results/liquidations"))
        return Table(Liquidation, [one.liquidation() for one in answer.liquidations])

    def balances(self) -> list[Balance]:
        """Return the balance of the currency, then of each asset that is held."""
        answer = _read_balances(self._get("/account/balance"))
        return [balance.balance() for balance in answer.balances]

    def results(self) -> Results:
        """Return the outcome; raises ``InvalidState`` while the session runs."""
        return _read_results(self._get("/results")).results()

    def snapshots(self) -> Table[Snapshot]:
        """Return equity at the start, every 60 steps, at every fill and at the end.

        Raises ``InvalidState`` while the session runs.
        """
        answer = _read_equity(self._get("/results/equity-curve"))
        return Table(Snapshot, [snapshot.snapshot() for snapshot in answer.snapshots])

    def __repr__(self) -> str:
        return (
            f"Session({self.id}, {self.status}, step {self.step_number} of {self.total_steps},"
            f" on {self._connection.url})"
        )

    def take(self, answer: answers.TurnAnswer) -> Turn[Order, Order, Step]:
        """Return the turn that an answer tells of, after which the session is where it says."""
        before = self.step_number
        refused = None
        if answer.refused is not None:
            error = answer.refused.error
            refused = RefusedPart(
                answer.refused.part,
                answer.refused.index,
                refusal_of(error.code, error.message, error.details),
            )
        return Turn(
            tuple(order.order() for order in answer.cancelled),
            tuple(order.order() for order in answer.orders),
            refused,
            None if answer.step is None else self._take_step(answer.step, before),
        )

    # Steps

    def _step_request(
        self, steps: Whole, until: Until | Mapping[str, Any], from_step: int | None = None
    ) -> bytes:
        fields: dict[str, Any] = {"steps": parse_count("steps", steps)}
        if until != "steps":
            fields["until"] = plain_until(until)
        if from_step is not None:
            fields["from_step"] = from_step
        return self._connection.prepare("POST", f"{self._path}/step/batch", _encode(fields))

    def _take_step(self, answer: answers.StepAnswer, before: int) -> Step:
        """Return the step that an answer tells of, after which the session is where it says."""
        self.step_number = answer.step
        if answer.is_complete:
            self.status = "completed"
        closed = tuple([order.order() for order in answer.orders_closed])
        self._reported = frozenset([order.id for order in closed])
        return Step(
            self._start + answer.step * self._interval,
            answer.step,
            self.total_steps,
            cast(Prices, answer.prices),
            tuple([order.order() for order in answer.orders_filled]),
            closed,
            answer.portfolio.portfolio(),
            answer.is_complete,
            answer.step - before,
            tuple(payment.payment() for payment in answer.funding),
            tuple(one.liquidation() for one in answer.liquidations),
        )

    def _step_again(self, steps: Whole, until: Until | Mapping[str, Any]) -> Step:
        """Return the step of a request whose answer was lost: made already, or sent once more.

        It is sent with the step that it starts from, so that it is made at most once.
        """
        before = self.step_number
        request = self._step_request(steps, until, before)
        while True:
            known = _read_status(self._get("/status"))
            if known.current_step > before:
                return self._step_made(before)
            try:
                answer: Answer = self._connection.exchange(request)
            except ConnectionLost:
                continue
            return self._take_step(_read_step(success(answer)), before)

    def _step_made(self, before: int) -> Step:
        """Return the report of the steps after ``before``, which were made but not told of."""
        since = _read_since(self._get(f"/since?step={before}"))
        known_until = self._start + before * self._interval
        closed_orders = since.orders_closed
        trades = since.trades
        if since.is_truncated:
            closed_orders = self._order_answers("/trade/orders")
            trades = _read_trades(self._get(f"/trade/history?limit={_MOST_TRADES}")).trades
        orders = {order.id: order.order() for order in closed_orders}
        # Fills and closures at the time that was known are of commands since then.
        filled = [
            orders[trade.order_id]
            for trade in trades
            if milliseconds(trade.simulated_at) > known_until
        ]
        closed = [
            (order.closed_at, order.id)
            for order in orders.values()
            if order.status not in ("filled", "pending")
            and order.closed_at is not None
            and order.closed_at >= known_until
            and order.id not in self._reported
        ]
        self.step_number = since.step
        self.status = since.status
        self._reported = frozenset(order_id for _, order_id in closed)
        return Step(
            self.time,
            since.step,
            self.total_steps,
            cast(Prices, self.prices()),
            tuple(filled),
            tuple(orders[order_id] for _, order_id in sorted(closed)),
            self.portfolio(),
            since.status != "running",
            since.step - before,
        )

    # Requests

    def _get(self, path: str) -> bytes:
        return self._connection.repeat(self._connection.prepare("GET", self._path + path))

    def _command(self, path: str, body: bytes | None = None, *, method: str = "POST") -> bytes:
        """Send a command with a key, again until it is answered, and return the answer."""
        request = self._connection.prepare(method, self._path + path, body, next(self._keys))
        return self._connection.repeat(request)

    def _orders(self, path: str) -> Table[Order]:
        return Table(Order, [order.order() for order in self._order_answers(path)])

    def _order_answers(self, path: str) -> list[answers.OrderAnswer]:
        orders: list[answers.OrderAnswer] = []
        while True:
            page = _read_orders(self._get(query(path, {"limit": _PAGE, "offset": len(orders)})))
            orders += page.orders
            if len(orders) >= page.total or not page.orders:
                return orders


def turn_fields(turn: SessionTurn) -> dict[str, Any]:
    """Return the fields of a turn in a request."""
    fields: dict[str, Any] = {"steps": turn.steps}
    if turn.orders:
        fields["orders"] = [plain_fields(order) for order in turn.orders]
    if turn.cancel:
        fields["cancel"] = list(turn.cancel)
    if turn.until != "steps":
        fields["until"] = plain_until(turn.until)
    return fields
