"""Invariants of every perpetual session: identities, mirror, batches, and no look-ahead."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from decimal import Decimal, localcontext
from functools import partial
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from candlestep.sandbox import Session
from tests.support.frequent import require_frequent
from tests.support.oracle import EXACT
from tests.support.perpetual_books import (
    Books,
    Held,
    assert_adds_up,
    assert_funding_is_explained,
)
from tests.support.perpetual_cases import (
    Case,
    Command,
    Place,
    SetLeverage,
)
from tests.support.perpetual_sessions import apply, start_session
from tests.support.perpetual_strategies import cases, other, other_futures, splits
from tests.support.session_cases import MINUTE, Refusal, Step, answer_of, serialised


def books_of(session: Session) -> Books:
    margin: Any = session.margin()
    positions: Any = session.positions()
    portfolio = session.portfolio()
    closed = sum(
        (-fill.fee if fill.realized_pnl is None else fill.realized_pnl for fill in session.fills),
        Decimal(0),
    )
    funding = sum((payment.amount for payment in session.funding_payments), Decimal(0))
    return Books(
        time=session.time,
        fills=list(session.fills),
        orders=list(session.orders),
        payments=list(session.funding_payments),
        held=[
            Held(
                symbol=position.symbol,
                quantity=position.quantity,
                cost=abs(position.cost_basis),
                isolated_wallet=position.isolated_wallet,
                is_isolated=position.margin_mode == "isolated",
                mark=position.mark_price,
                unrealized_pnl=position.unrealized_pnl,
            )
            for position in positions
        ],
        wallet=margin.wallet_balance,
        cross=margin.cross_wallet,
        # All that realized PnL has of it; the wallet must then be explained.
        insurance=portfolio.realized_pnl - closed - funding,
        insured=[one.insurance for one in session.liquidations],
        portfolio=portfolio,
    )


def minute_by_minute(case: Case) -> Case:
    """Return the case with steps of a minute."""
    config = case.config
    commands: list[Command] = []
    left = config.total_steps
    for command in case.commands:
        if isinstance(command, Step):
            steps = min(command.steps, left)
            commands += [Step(1)] * (steps * config.interval // MINUTE)
            left -= steps
        else:
            commands.append(command)
    return replace(case, config=replace(config, interval=MINUTE), commands=tuple(commands))


def test_the_money_adds_up_after_every_command_and_every_minute() -> None:
    """All that happens does so at a whole minute, and often enough in what is generated."""
    happened: Counter[str] = Counter()

    @given(cases())
    def adds_up(case: Case) -> None:
        case = minute_by_minute(case.with_default_rate())
        session = start_session(case)
        with localcontext(EXACT):
            assert_adds_up(case, books_of(session))
            for command in case.commands:
                apply(session, command)
                assert_adds_up(case, books_of(session))
            if case.config.funding:
                assert_funding_is_explained(case, books_of(session))
        happened.update(counts_of(session))

    examples = settings().max_examples
    least = {"fills": 2 * examples, "payments": examples}
    least |= dict.fromkeys(("flips", "liquidations"), examples // 16)
    require_frequent(adds_up, happened, least)


def counts_of(session: Session) -> Counter[str]:
    flips = (0 < (fill.closed_quantity or 0) < fill.quantity for fill in session.fills)
    return Counter(
        {
            "sessions": 1,
            "fills": len(session.fills),
            "flips": sum(flips),
            "payments": len(session.funding_payments),
            "liquidations": len(session.liquidations),
        }
    )


def only_at_once(case: Case) -> Case:
    """Return the case with orders at the market alone, in an account that nothing threatens.

    Brackets are left out: on the other side of the price they would be refused.
    """
    balance = str(Decimal(case.config.balance) * 1000)
    config = replace(
        case.config,
        balance=balance,
        margin_mode="cross",
        slippage="none",
        bps="0",
        default_rate="0.0003",
    )
    kept = tuple(
        replace(command, stop_loss=None, take_profit=None)
        if isinstance(command, Place)
        else command
        for command in case.commands
        if isinstance(command, Step | SetLeverage)
        or (isinstance(command, Place) and command.type == "market")
    )
    return replace(
        case.with_default_rate(), config=replace(config, default_rate="0"), commands=kept
    )


def mirrored(case: Case) -> Case:
    commands = tuple(
        replace(command, side=other(command.side)) if isinstance(command, Place) else command
        for command in case.commands
    )
    return replace(case, commands=commands)


@given(cases())
def test_long_and_short_mirror(case: Case) -> None:
    case = only_at_once(case)
    session, mirror = start_session(case), start_session(mirrored(case))
    for command, opposite in zip(case.commands, mirrored(case).commands, strict=True):
        answers = apply(session, command), apply(mirror, opposite)
        assert isinstance(answers[0], Refusal) == isinstance(answers[1], Refusal)
    assert len(session.fills) == len(mirror.fills)
    for fill, other_fill in zip(session.fills, mirror.fills, strict=True):
        assert fill.side == other(other_fill.side)
        for name in ("symbol", "quantity", "price", "fee", "time", "closed_quantity"):
            assert getattr(fill, name) == getattr(other_fill, name)
        assert negated(fill.closed_pnl) == other_fill.closed_pnl
    payments = zip(session.funding_payments, mirror.funding_payments, strict=True)
    for payment, other_payment in payments:
        assert (payment.time, payment.symbol) == (other_payment.time, other_payment.symbol)
        assert negated(payment.amount) == other_payment.amount


def negated(amount: Decimal | None) -> Decimal | None:
    return None if amount is None else amount.copy_negate()


def outcome(case: Case) -> dict[str, str]:
    """Return the outcome of a session, and the reports of its steps in sequence."""
    session = start_session(case)
    reported: dict[str, list[object]] = {
        name: [] for name in ("orders_filled", "orders_closed", "funding", "liquidations")
    }
    refusals: list[object] = []
    for command in case.commands:
        answer: Any = apply(session, command)
        if isinstance(answer, Refusal):
            refusals.append(answer.code)
        elif isinstance(command, Step):
            for name, values in reported.items():
                values += getattr(answer, name)
    return {name: serialised(values) for name, values in reported.items()} | {
        "refusals": serialised(refusals),
        "record": serialised(record_of(session)),
        "state": serialised(state_of(session)),
        "results": serialised(session.results()),
    }


def record_of(session: Session) -> object:
    return (
        session.orders,
        session.open_orders(),
        session.fills,
        session.funding_payments,
        session.liquidations,
        session.snapshots(),
    )


def state_of(session: Session) -> object:
    clock = (session.status, session.time, session.step_number, session.prices())
    return (clock, session.portfolio(), session.positions(), session.margin())


@given(st.data())
def test_any_split_of_a_span_gives_the_same_outcome(data: st.DataObject) -> None:
    case = data.draw(cases()).with_default_rate()
    assert outcome(data.draw(splits(case))) == outcome(case)


def answers(case: Case, commands: tuple[Command, ...]) -> tuple[list[str], int]:
    """Return everything that can be read at the start and after each command, and the time."""
    session = start_session(case)

    def readable() -> object:
        prices = [answer_of(partial(session.price, symbol)) for symbol in case.symbols]
        return (prices, record_of(session), state_of(session))

    seen = [serialised(readable())]
    for command in commands:
        seen.append(serialised((apply(session, command), readable())))
    return [*seen, serialised(session.results())], session.time


@given(cases(), st.data())
def test_no_answer_depends_on_what_comes_later(case: Case, data: st.DataObject) -> None:
    case = case.with_default_rate()
    cut = data.draw(st.integers(0, len(case.commands)), label="commands")
    commands = case.commands[:cut]
    before, now = answers(case, commands)
    another = data.draw(other_futures(case, now), label="other market")
    assert answers(another, commands) == (before, now)
