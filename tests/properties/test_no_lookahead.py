"""No look-ahead: changing every number after the virtual clock changes no earlier answer."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from hypothesis import given
from hypothesis import strategies as st

from candlestep.sandbox import Session
from tests.support.case_strategies import SYMBOLS, cases, other_futures
from tests.support.session_cases import (
    INTERVALS,
    Case,
    Command,
    answer_of,
    apply,
    serialised,
    start_session,
)


def readable(session: Session) -> object:
    """Return everything that can be read now."""
    market = [
        (
            answer_of(partial(session.price, symbol)),
            answer_of(partial(session.ticker, symbol)),
            answer_of(partial(session.candles, symbol)),
            [answer_of(partial(session.candles, symbol, name, 5)) for name in INTERVALS.values()],
        )
        for symbol in SYMBOLS
    ]
    account = (session.portfolio(), session.positions(), session.balances())
    record = (session.orders, session.open_orders(), session.fills, session.snapshots())
    clock = (session.status, session.time, session.step_number, session.prices())
    return (clock, market, account, record)


def answers(case: Case, commands: tuple[Command, ...]) -> tuple[list[str], int]:
    """Return the answers at the start and after each command, and the time of the last."""
    session = start_session(case)
    seen = [serialised(readable(session))]
    for command in commands:
        seen.append(serialised((apply(session, command), readable(session))))
    return [*seen, serialised(session.results())], session.time


@given(cases(richer=True), st.data())
def test_no_answer_depends_on_what_comes_later(case: Case, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(case.commands)), label="commands")
    commands = case.commands[:cut]
    before, now = answers(case, commands)
    other = replace(case, market=data.draw(other_futures(case, now), label="other market"))
    assert answers(other, commands) == (before, now)
