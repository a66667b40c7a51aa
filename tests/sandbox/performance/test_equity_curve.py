"""The equity curve at the steps of a session, or at every n-th of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from candlestep.sandbox import InvalidParameter
from tests.support.case_strategies import cases
from tests.support.runs import FEWER
from tests.support.session_cases import Case, apply, one_candle_at_a_time, start_session


@FEWER
@given(cases(), st.integers(1, 7))
def test_it_is_what_the_portfolio_was_at_each_step(case: Case, every: int) -> None:
    session = start_session(one_candle_at_a_time(case))
    seen = {session.time: session.portfolio()}
    for command in one_candle_at_a_time(case).commands:
        apply(session, command)
        seen[session.time] = session.portfolio()
    times = list(seen)
    expected = times[::every]
    if expected[-1] != times[-1]:
        expected.append(times[-1])
    snapshots = list(session.equity_curve(every))
    assert [snapshot.time for snapshot in snapshots] == expected
    for snapshot in snapshots:
        for name in ("total_equity", "available_cash", "position_value", "realized_pnl"):
            assert getattr(snapshot, name) == getattr(seen[snapshot.time], name)


@FEWER
@given(cases())
def test_how_many_steps_is_a_whole_number(case: Case) -> None:
    session = start_session(case)
    for steps in (0, -1, 1.5, True, "2"):
        with pytest.raises(InvalidParameter, match="steps"):
            session.equity_curve(steps)  # type: ignore[arg-type]
