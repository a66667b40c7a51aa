"""A step of many is many steps: however a span is split, the outcome is the same."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import (
    Case,
    Command,
    End,
    Refusal,
    Step,
    apply,
    cases,
    serialised,
    start_session,
)


@st.composite
def split(draw: st.DrawFn, case: Case) -> Case:
    """The same case, each of its steps taken in parts."""
    found: list[Command] = []
    left = case.config.total_steps
    for command in case.commands:
        if isinstance(command, Step) and min(command.steps, left) > 0:
            steps = min(command.steps, left)
            cuts = draw(st.lists(st.integers(0, steps), max_size=5))
            edges = sorted({0, steps, *cuts})
            found += [Step(b - a) for a, b in pairwise(edges)]
            left -= steps
        else:
            found.append(command)
            left = 0 if isinstance(command, End) else left
    return replace(case, commands=tuple(found))


def outcome(case: Case) -> dict[str, str]:
    """What a session leaves behind, and what its steps reported, one after the other."""
    session = start_session(case)
    filled: list[object] = []
    closed: list[object] = []
    refusals: list[object] = []
    for command in case.commands:
        answer: Any = apply(session, command)
        if isinstance(answer, Refusal):
            refusals.append(answer.code)
        elif isinstance(command, Step):
            filled += answer.orders_filled
            closed += answer.orders_closed
    return {
        "refusals": serialised(refusals),
        "filled": serialised(filled),
        "closed": serialised(closed),
        "orders": serialised(session.orders),
        "fills": serialised(session.fills),
        "snapshots": serialised(session.snapshots()),
        "portfolio": serialised(session.portfolio()),
        "results": serialised(session.results()),
        "status": serialised((session.status, session.time, session.step_number)),
    }


@given(st.data())
def test_any_split_of_a_span_gives_the_same_outcome(data: st.DataObject) -> None:
    case = data.draw(cases())
    assert outcome(data.draw(split(case))) == outcome(case)
