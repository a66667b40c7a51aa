"""The engine answers every command as a plain loop over every candle, to the last digit."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings

from candlestep.sandbox import Session
from tests.support import oracle
from tests.support.case_strategies import MIDNIGHT, cases
from tests.support.frequent import require_frequent
from tests.support.oracle import Oracle, Refused
from tests.support.session_cases import (
    MINUTE,
    Bar,
    Cancel,
    Case,
    Command,
    Config,
    End,
    Fees,
    Oco,
    Place,
    Refusal,
    Replace,
    Series,
    Step,
    apply,
    start_session,
    with_decimals,
)

CURRENCY = "USDT"
ORDER_FIELDS = (
    "id",
    "symbol",
    "side",
    "type",
    "quantity",
    "price",
    "trigger_price",
    "client_order_id",
    "oco_group",
    "created_at",
    "expires_at",
    "status",
    "reason",
    "filled_at",
    "closed_at",
    "time_in_force",
    "post_only",
    "quote_amount",
    "trail_percent",
    "trail_amount",
    "activation_price",
    "stop_loss",
    "take_profit",
    "list_id",
    "parent_id",
    "triggered_at",
    "best_price",
)
LOCK_FIELDS = ("locked_cash", "locked_quantity")
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
    "realized_pnl",
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


def start_oracle(case: Case) -> Oracle:
    config = case.config
    rows: list[oracle.Row] = [
        (
            series.symbol,
            series.interval,
            bar.open_time,
            *(bar.open, bar.high, bar.low, bar.close),
            bar.volume if series.has_volume else None,
        )
        for series in case.market
        for bar in series.bars
    ]
    return Oracle(
        rows,
        oracle.Config(
            start=config.start,
            end=config.end,
            interval=config.interval,
            balance=Decimal(config.balance),
            fee_rate=Decimal(config.fees.fee_rate or "0.001"),
            fee_model=config.fees.fee_model,
            fee_bps=Decimal(config.fees.fee_bps or 5),
            fee_schedule=tuple(
                oracle.FeePeriod(
                    period.start,
                    period.stop,
                    Decimal(period.maker),
                    Decimal(period.taker),
                    period.symbols,
                )
                for period in config.fees.fee_schedule or ()
            ),
            slippage=config.slippage,
            bps=Decimal(config.bps),
            trigger=config.trigger,
            liquidate_at_end=config.liquidate_at_end,
            locking_stops=config.locking_stops,
            max_order_size_pct=_decimal(config.max_order_size_pct),
            max_position_size_pct=_decimal(config.max_position_size_pct),
            daily_loss_limit_pct=_decimal(config.daily_loss_limit_pct),
        ),
    )


def _decimal(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


def expected(session: Oracle, command: Command) -> object:
    """Return the oracle's answers in the form of ``seen``."""
    try:
        match command:
            case Place():
                return fields_of_order(session.place_order(**with_decimals(command.instruction)))
            case Oco():
                pair = (with_decimals(one.instruction) for one in (command.first, command.second))
                return [fields_of_order(order) for order in session.place_oco(*pair)]
            case Replace():
                changes = with_decimals(command.changes)
                return fields_of_order(session.replace_order(command.order_id, **changes))
            case Cancel():
                return fields_of_order(session.cancel_order(command.order_id))
            case Step():
                events = session.step(command.steps)
                return {
                    "time": session.time,
                    "step": session.step_number,
                    "is_complete": session.status == "completed",
                    "remaining_steps": session.total_steps - session.step_number,
                    "progress_pct": oracle.rounded(
                        Fraction(100 * session.step_number, session.total_steps), 2
                    ),
                    "prices": session.prices(),
                    "orders_filled": [fields_of_order(order) for order in events.orders_filled],
                    "orders_closed": [fields_of_order(order) for order in events.orders_closed],
                    "portfolio": session.portfolio()._asdict(),
                }
            case End():
                session.cancel()
                return None
    except Refused as refused:
        return Refusal(refused.code)


def seen(session: Session, command: Command) -> object:
    answer = apply(session, command)
    if isinstance(answer, Refusal):
        return answer
    match command:
        case Place() | Cancel() | Replace():
            return fields_of_order(answer)
        case Oco():
            placed: Any = answer
            return [fields_of_order(order) for order in placed]
        case Step():
            step: Any = answer
            return {
                "time": step.time,
                "step": step.step,
                "is_complete": step.is_complete,
                "remaining_steps": step.remaining_steps,
                "progress_pct": step.progress_pct,
                "prices": step.prices,
                "orders_filled": [fields_of_order(order) for order in step.orders_filled],
                "orders_closed": [fields_of_order(order) for order in step.orders_closed],
                "portfolio": fields(step.portfolio, PORTFOLIO_FIELDS),
            }
        case End():
            return None


def fields(value: Any, names: tuple[str, ...]) -> dict[str, object]:
    return {name: getattr(value, name) for name in names}


def fields_of_order(order: Any) -> dict[str, object]:
    """Return an order as both sides show it; its lock counts while it is pending."""
    locks = LOCK_FIELDS if order.status == "pending" else ()
    fill = None if order.fill is None else fields(order.fill, FILL_FIELDS)
    return {**fields(order, ORDER_FIELDS + locks), "fill": fill}


def assert_same_state(session: Session, plain: Oracle) -> None:
    assert session.status == plain.status
    assert session.time == plain.time
    assert session.step_number == plain.step_number
    assert [fields_of_order(o) for o in session.orders] == [
        fields_of_order(o) for o in plain.orders
    ]
    assert [o.id for o in session.open_orders()] == [o.id for o in plain.pending]
    assert [fields(f, FILL_FIELDS) for f in session.fills] == [
        fields(f, FILL_FIELDS) for f in plain.fills
    ]
    assert fields(session.portfolio(), PORTFOLIO_FIELDS) == plain.portfolio()._asdict()
    assert session.prices() == plain.prices()
    assert_same_positions(session, plain)
    assert_same_balances(session, plain)


def assert_same_positions(session: Session, plain: Oracle) -> None:
    positions = {p.symbol: p for p in session.positions()}
    held = {symbol: p for symbol, p in plain.positions.items() if p.quantity}
    assert sorted(positions) == sorted(held)
    for symbol, position in held.items():
        names = ("quantity", "cost_basis", "realized_pnl")
        assert fields(positions[symbol], names) == fields(position, names)
        average = Fraction(position.cost_basis) / Fraction(position.quantity)
        assert positions[symbol].avg_entry_price == oracle.rounded(average, 16)
        assert positions[symbol].current_price == plain.price(symbol)


def assert_same_balances(session: Session, plain: Oracle) -> None:
    """Assert equal balances of the currency and of every holding, with their locks."""
    balances = {b.asset: (b.available, b.locked, b.total) for b in session.balances()}
    expected = {CURRENCY: (plain.available_cash(), plain.locked_cash(), plain.cash)}
    for symbol, position in plain.positions.items():
        if position.quantity:
            locked = plain.locked_quantity(symbol)
            available = exactly(position.quantity, -locked)
            expected[symbol.removesuffix(CURRENCY)] = (available, locked, position.quantity)
    assert balances == expected


def exactly(a: Decimal, b: Decimal) -> Decimal:
    return oracle.EXACT.add(a, b)


def assert_same_snapshots(session: Session, plain: Oracle) -> None:
    snapshots = session.snapshots()
    assert [int(time) for time in snapshots.time] == sorted(plain.snapshots)
    for name in PORTFOLIO_FIELDS:
        values = [getattr(plain.snapshots[time], name) for time in sorted(plain.snapshots)]
        assert [_from_units(units) for units in getattr(snapshots, name)] == values


def _from_units(units: int) -> Decimal:
    """Convert an amount of a snapshot from units of 1e-8."""
    return Decimal(int(units)).scaleb(-8, oracle.EXACT)


def assert_same_results(session: Session, plain: Oracle) -> None:
    results = session.results()
    metrics = results.metrics
    portfolio = plain.portfolio()
    assert results.final_equity == portfolio.total_equity
    assert results.total_pnl == exactly(portfolio.realized_pnl, portfolio.unrealized_pnl)
    assert results.total_trades == metrics.total_trades == len(plain.fills)
    with localcontext(oracle.EXACT):
        assert results.total_fees == sum((fill.fee for fill in plain.fills), Decimal(0))

    assert {pair.symbol: (pair.trades, pair.net_pnl) for pair in results.by_pair} == {
        symbol: (len(fills), plain.net_pnl(symbol))
        for symbol in plain.symbols
        if (fills := [fill for fill in plain.fills if fill.symbol == symbol])
    }

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


def losing(day_loss_limit: str, first_loss: int, *lows: float) -> Case:
    """Return the case of an account of 1000 whose positions of 500 are stopped out.

    One is stopped out a minute around midnight; each buy shows whether the day's loss was within
    the limit.
    """
    first = MIDNIGHT + (first_loss - 2) * MINUTE
    bars = tuple(
        Bar(first + index * MINUTE, 100.0, 100.0, low, 100.0, 0.0)
        for index, low in enumerate((100.0, *lows))
    )
    start = first + MINUTE
    config = Config(
        start=start,
        end=start + len(lows) * MINUTE,
        interval=MINUTE,
        balance="1000",
        fees=Fees(fee_rate="0"),
        slippage="none",
        daily_loss_limit_pct=day_loss_limit,
    )
    commands: list[Command] = []
    for low in lows:
        buy = Place("AAAUSDT", "buy", "market", "5")
        stop = Place("AAAUSDT", "sell", "stop_loss", "5", trigger_price=str(low))
        commands += [buy, stop, Step(1)]
    return Case((Series("AAAUSDT", MINUTE, bars, has_volume=False),), config, tuple(commands))


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(losing("10.5", 0, 80.0, 80.0, 80.0), id="of the equity before midnight"),
        pytest.param(losing("10", -1, 80.0, 81.6, 99.0, 99.0), id="of the equity at midnight"),
        pytest.param(losing("10", 0, 90.0, 90.0, 90.0, 90.0, 90.0), id="of exactly the limit"),
    ],
)
def test_engine_and_plain_loop_agree_on_the_loss_of_a_day(case: Case) -> None:
    assert_agreement(case)


def test_engine_and_plain_loop_agree_after_every_command() -> None:
    examples = settings().max_examples
    total: Counter[str] = Counter()

    @given(cases(richer=True))
    def agree(case: Case) -> None:
        total.update(counts_of(assert_agreement(case)))

    least = {name: max(1, examples * share // 100) for name, share in LEAST.items()}
    require_frequent(agree, total, least)


LEAST = {
    "fill": 200,
    "triggered": 70,
    "triggered with another": 30,
    "trailing stop": 15,
    "trailing stop at the open": 2,
    "activated": 3,
    "became a limit": 2,
    "gapped": 5,
    "leg": 15,
    "leg in the candle of its entry": 7,
    "of a list": 8,
    "replaced": 10,
    "expired at once": 10,
}
"""The least number in a hundred cases: about half or less of the least in six runs of 80 cases."""


def counts_of(session: Session) -> Counter[str]:
    """Count what the orders of a session met that are more than four types."""
    counts: Counter[str] = Counter()
    for order in session.orders:
        fill = order.fill
        met = {
            "became a limit": order.triggered_at is not None,
            "replaced": order.reason == "replaced",
            "expired at once": order.status == "expired" and order.closed_at == order.created_at,
        }
        if fill is not None:
            candles = session.market.candles_of(order.symbol)
            opened = candles.candle(candles.last_complete(fill.time)).open
            worse = fill.slippage if order.side == "buy" else -fill.slippage
            is_at_open = fill.price == oracle.rounded(Fraction(opened) * (1 + Fraction(worse)), 16)
            is_trailing = order.type == "trailing_stop"
            met |= {
                "fill": True,
                "triggered": fill.time > order.created_at,
                "trailing stop": is_trailing,
                "gapped": order.trigger_price is not None and is_at_open,
                "trailing stop at the open": is_trailing and is_at_open,
                "activated": is_trailing and order.activation_price is not None,
                "leg": order.parent_id is not None,
                "leg in the candle of its entry": order.parent_id is not None
                and fill.time == order.created_at,
                "of a list": order.list_id is not None and order.parent_id is None,
            }
        counts.update(name for name, is_so in met.items() if is_so)
    triggered = Counter(
        (order.symbol, order.filled_at)
        for order in session.orders
        if order.filled_at is not None and order.filled_at > order.created_at
    )
    counts["triggered with another"] += sum(many for many in triggered.values() if many > 1)
    return counts


def assert_agreement(case: Case) -> Session:
    """Run a case on both sides, assert that they agree, and return the session."""
    session, plain = start_session(case), start_oracle(case)
    assert session.total_steps == plain.total_steps
    assert_same_state(session, plain)
    for command in case.commands:
        assert seen(session, command) == expected(plain, command)
        assert_same_state(session, plain)
    assert_same_snapshots(session, plain)
    assert_same_results(session, plain)
    return session
