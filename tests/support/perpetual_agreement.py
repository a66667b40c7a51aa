"""Agreement of a perpetual session with its oracle, field by field and to the last digit."""

from __future__ import annotations

from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any

import pytest

from candlestep.sandbox import Session
from tests.support import oracle as spot
from tests.support.perpetual_cases import Case, Command, ask_oracle
from tests.support.perpetual_oracle.exchange import Exchange
from tests.support.perpetual_oracle.oracle import Oracle
from tests.support.perpetual_oracle.values import Events
from tests.support.perpetual_sessions import apply, start_session
from tests.support.session_cases import Refusal, Step

ORDER_FIELDS = (
    "id",
    "symbol",
    "side",
    "type",
    "quantity",
    "price",
    "trigger_price",
    "reduce_only",
    "oco_group",
    "created_at",
    "expires_at",
    "status",
    "reason",
    "filled_at",
    "closed_at",
    "is_liquidation",
    "list_id",
    "parent_id",
    "triggered_at",
    "best_price",
)
FILL_FIELDS = (
    "id",
    "order_id",
    "symbol",
    "side",
    "type",
    "quantity",
    "price",
    "quote_amount",
    "fee",
    "slippage",
    "closed_pnl",
    "closed_quantity",
    "realized_pnl",
    "is_liquidation",
    "time",
)
PAYMENT_FIELDS = ("symbol", "time", "rate", "mark_price", "quantity", "notional", "amount")
LIQUIDATION_FIELDS = (
    "order_id",
    "symbol",
    "side",
    "quantity",
    "price",
    "fee",
    "insurance",
    "margin_mode",
    "time",
)
PORTFOLIO_FIELDS = (
    "total_equity",
    "available_cash",
    "locked_cash",
    "position_value",
    "unrealized_pnl",
    "realized_pnl",
)
CODES = {"REDUCE_ONLY": "INVALID_PARAMETER"}
"""The public codes of what the oracle refuses by a name of its own."""


def fields(value: Any, names: tuple[str, ...]) -> dict[str, object]:
    return {name: getattr(value, name) for name in names}


def fields_of_order(order: Any) -> dict[str, object]:
    fill = None if order.fill is None else fields(order.fill, FILL_FIELDS)
    return {**fields(order, ORDER_FIELDS), "fill": fill}


def fields_of_all(values: Any, names: tuple[str, ...]) -> list[dict[str, object]]:
    return [fields(value, names) for value in values]


def as_seen(answer: Any) -> object:
    """Return an answer of the oracle in the form of ``seen``."""
    if isinstance(answer, Refusal):
        return Refusal(CODES.get(answer.code, answer.code))
    return step_of(answer) if isinstance(answer, Events) else None


def seen(session: Session, command: Command) -> object:
    answer: Any = apply(session, command)
    if isinstance(answer, Refusal) or not isinstance(command, Step):
        return answer if isinstance(answer, Refusal) else None
    return step_of(answer)


def step_of(step: Any) -> dict[str, object]:
    """Return what happened since the last step, as both sides name it."""
    is_plain = isinstance(step, Events)
    filled = step.filled if is_plain else step.orders_filled
    closed = step.closed if is_plain else step.orders_closed
    return {
        "filled": [fields_of_order(order) for order in filled],
        "closed": [fields_of_order(order) for order in closed],
        "funding": fields_of_all(step.payments if is_plain else step.funding, PAYMENT_FIELDS),
        "liquidations": fields_of_all(step.liquidations, LIQUIDATION_FIELDS),
    }


def assert_same_state(session: Session, plain: Oracle) -> None:
    exchange = plain.exchange
    assert (session.status, session.time) == (plain.status, exchange.time)
    assert [fields_of_order(o) for o in session.orders] == [
        fields_of_order(o) for o in exchange.orders
    ]
    assert [o.id for o in session.open_orders()] == [o.id for o in exchange.pending]
    assert fields_of_all(session.fills, FILL_FIELDS) == fields_of_all(exchange.fills, FILL_FIELDS)
    assert fields_of_all(session.funding_payments, PAYMENT_FIELDS) == fields_of_all(
        exchange.payments, PAYMENT_FIELDS
    )
    assert fields_of_all(session.liquidations, LIQUIDATION_FIELDS) == fields_of_all(
        exchange.liquidations, LIQUIDATION_FIELDS
    )
    assert fields(session.portfolio(), PORTFOLIO_FIELDS) == exchange.portfolio()._asdict()
    assert session.prices() == exchange.prices()
    assert_same_positions(session, plain)
    portfolio: Any = session.portfolio()
    payments = [payment.amount for payment in exchange.payments]
    with localcontext(spot.EXACT):
        assert portfolio.funding == sum(payments, Decimal(0))
    margin = session.margin()
    assert margin.wallet_balance == exchange.account.wallet
    assert margin.cross_wallet == exchange.account.cross
    available = exchange.account.available(exchange.marks(), exchange.pending)
    assert margin.available_balance == max(available, Decimal(0))


def assert_same_positions(session: Session, plain: Oracle) -> None:
    account, marks = plain.exchange.account, plain.exchange.marks()
    positions: dict[str, Any] = {one.symbol: one for one in session.positions()}
    held = {position.symbol: position for position in account.open_positions()}
    assert sorted(positions) == sorted(held)
    for symbol, position in held.items():
        mark = marks[symbol]
        assert fields(positions[symbol], POSITION_FIELDS) == {
            "quantity": position.quantity,
            "entry_price": position.entry_price,
            "mark_price": mark,
            "notional": position.notional(mark),
            "unrealized_pnl": position.unrealized_pnl(mark),
            "isolated_wallet": position.isolated_wallet,
            "leverage": position.leverage,
            "margin_mode": "isolated" if position.is_isolated else "cross",
            "max_notional": position.largest_notional,
            "funding_paid": -position.funding,
        }
        threshold = account.liquidation_price(position, marks)
        shown = positions[symbol].liquidation_price
        assert (shown is None) == (threshold is None)
        if threshold is not None:
            assert spot.rounded(shown, 8) == spot.rounded(threshold, 8)


POSITION_FIELDS = (
    "quantity",
    "entry_price",
    "mark_price",
    "notional",
    "unrealized_pnl",
    "isolated_wallet",
    "leverage",
    "margin_mode",
    "max_notional",
    "funding_paid",
)


def assert_same_snapshots(session: Session, plain: Oracle) -> None:
    snapshots, expected = session.snapshots(), plain.exchange.snapshots
    assert [int(time) for time in snapshots.time] == sorted(expected)
    for name in PORTFOLIO_FIELDS:
        values = [getattr(expected[time], name) for time in sorted(expected)]
        assert [_from_units(units) for units in getattr(snapshots, name)] == values


def _from_units(units: int) -> Decimal:
    """Convert an amount of a snapshot from units of 1e-8."""
    return Decimal(int(units)).scaleb(-8, spot.EXACT)


def assert_same_results(session: Session, plain: Oracle) -> None:
    results: Any = session.results()
    exchange = plain.exchange
    with localcontext(spot.EXACT):
        assert results.final_equity == exchange.portfolio().total_equity
        assert results.total_trades == len(exchange.fills)
        assert results.total_fees == sum((fill.fee for fill in exchange.fills), Decimal(0))
        assert results.total_funding == sum((one.amount for one in exchange.payments), Decimal(0))
        assert results.insurance == exchange.account.total(lambda position: position.insurance)
        fees = sum((one.fee for one in exchange.liquidations), Decimal(0))
        assert results.total_liquidation_fees == fees
        assert results.liquidations == len(exchange.liquidations)
        marks = exchange.marks()
        for pair in results.by_pair:
            position = exchange.account.positions[pair.symbol]
            mark = marks[pair.symbol]
            assert pair.net_pnl == position.realized_pnl + position.unrealized_pnl(mark)
    assert_same_metrics(results.metrics, plain)


def assert_same_metrics(metrics: Any, plain: Oracle) -> None:
    deepest, days = plain.drawdown()
    assert metrics.max_drawdown_pct == pytest.approx(float(deepest * 100), rel=1e-12, abs=1e-12)
    assert metrics.max_drawdown_duration_days == days
    trades = plain.trade_metrics()
    assert (metrics.best_trade, metrics.worst_trade) == (trades.best_trade, trades.worst_trade)
    for name in ("win_rate", "profit_factor"):
        assert_close(getattr(metrics, name), getattr(trades, name), 1e-12)
    for name in ("avg_win", "avg_loss", "expectancy"):
        assert_close(getattr(metrics, name), getattr(trades, name), 1e-8)


def assert_close(value: float | Decimal | None, true: Fraction | None, tolerance: float) -> None:
    if true is None:
        assert value is None
    else:
        assert value is not None
        scale = max(Fraction(1), abs(true))
        assert abs(Fraction(value) - true) <= Fraction(tolerance) * scale


class Pair:
    """A session and its oracle, which must give the same answer to every command."""

    def __init__(self, case: Case, plain: Oracle) -> None:
        self.plain, self.session = plain, start_session(case)
        assert_same_state(self.session, self.plain)

    @property
    def exchange(self) -> Exchange:
        """The oracle's account."""
        return self.plain.exchange

    def ask(self, command: Command) -> object:
        """Return the oracle's answer, which is the session's."""
        answer: Any = ask_oracle(self.plain, command)
        here, there = seen(self.session, command), as_seen(answer)
        assert here == there, f"{command}\nsession: {here}\noracle:  {there}"
        assert_same_state(self.session, self.plain)
        return answer

    def end(self) -> None:
        assert_same_snapshots(self.session, self.plain)
        assert_same_results(self.session, self.plain)
