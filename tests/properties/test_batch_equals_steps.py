"""A step of n is n steps: a span has the same outcome, whatever its parts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from candlestep.sandbox import InvalidParameter, InvalidState, Session
from tests.support.case_strategies import cases
from tests.support.session_cases import (
    Case,
    Command,
    End,
    Refusal,
    Step,
    apply,
    serialised,
    start_session,
)


@st.composite
def split(draw: st.DrawFn, case: Case) -> Case:
    """Return the same case with each of its steps split into parts."""
    commands: list[Command] = []
    left = case.config.total_steps
    for command in case.commands:
        if isinstance(command, Step) and min(command.steps, left) > 0:
            steps = min(command.steps, left)
            cuts = draw(st.lists(st.integers(0, steps), max_size=5))
            edges = sorted({0, steps, *cuts})
            commands += [Step(b - a) for a, b in pairwise(edges)]
            left -= steps
        else:
            commands.append(command)
            left = 0 if isinstance(command, End) else left
    return replace(case, commands=tuple(commands))


def at_once(session: Session, command: Command) -> Iterator[Any]:
    """Return the session's answer to a command."""
    yield apply(session, command)


def from_change_to_change(session: Session, command: Command) -> Iterator[Any]:
    """Return its answers if a step is taken as ``step_to_change``, repeatedly."""
    if not isinstance(command, Step):
        yield apply(session, command)
        return
    left = command.steps
    while True:
        try:
            step = session.step_to_change(left)
        except (InvalidParameter, InvalidState) as error:
            yield Refusal(error.code)
            return
        stopped_early = step.steps_executed < left and not step.is_complete
        assert not stopped_early or step.orders_filled or step.orders_closed
        yield step
        left -= step.steps_executed
        if not left or step.is_complete:
            return


def outcome(case: Case, answers: Any = at_once) -> dict[str, str]:
    """Return the outcome of a session, and the reports of its steps in sequence."""
    session = start_session(case)
    filled: list[object] = []
    closed: list[object] = []
    refusals: list[object] = []
    for command in case.commands:
        for answer in answers(session, command):
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
    case = data.draw(cases(richer=True))
    assert outcome(data.draw(split(case))) == outcome(case)


@given(cases(richer=True))
def test_stepping_from_change_to_change_gives_the_same_outcome(case: Case) -> None:
    assert outcome(case, from_change_to_change) == outcome(case)
