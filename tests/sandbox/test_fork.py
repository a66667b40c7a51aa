"""A fork shares the past of its session, and nothing of its future."""

from hypothesis import given
from hypothesis import strategies as st

from candlestep.sandbox import Session
from tests.support.case_strategies import cases
from tests.support.session_cases import Case, Command, apply, serialised, start_session


def everything(session: Session) -> str:
    """Return everything that can be read of a session."""
    return serialised(
        (
            session.status,
            session.time,
            session.orders,
            session.open_orders(),
            session.fills,
            session.portfolio(),
            session.balances(),
            session.snapshots(),
            session.results(),
        )
    )


def run(session: Session, commands: tuple[Command, ...]) -> list[str]:
    """Return the session's answer to each command, and then everything."""
    return [*(serialised(apply(session, command)) for command in commands), everything(session)]


@given(cases(richer=True), cases(richer=True), st.data())
def test_a_fork_goes_on_as_its_session_would_and_leaves_it_alone(
    case: Case, other: Case, data: st.DataObject
) -> None:
    cut = data.draw(st.integers(0, len(case.commands)), label="forked after")
    session, undisturbed = start_session(case), start_session(case)
    run(session, case.commands[:cut])
    run(undisturbed, case.commands[:cut])
    expected = run(undisturbed, case.commands[cut:])

    stray, twin = session.fork(), session.fork()
    run(stray, other.commands)
    assert run(twin, case.commands[cut:]) == expected
    assert run(session, case.commands[cut:]) == expected
