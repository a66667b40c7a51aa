"""A step until a price is touched, and a turn: against steps and commands one by one."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from candlestep.sandbox import (
    InvalidParameter,
    InvalidState,
    Market,
    SandboxError,
    Session,
    SessionConfig,
    SymbolNotFound,
)
from candlestep.sandbox.clock import MINUTE
from candlestep.sandbox.money import PRICE_PLACES, rounded
from tests.support.candles import minutes
from tests.support.case_strategies import cases
from tests.support.coarser_candles import time_line
from tests.support.session_cases import (
    Cancel,
    Case,
    Place,
    Refusal,
    Step,
    apply,
    serialised,
    start_session,
)


def first_touch(case: Case, session: Session, symbol: str, side: str, level: Decimal) -> int:
    """Return the number of steps after which a plain loop over the candles meets the level."""
    now, interval = session.time, case.config.interval
    for candle in sorted(time_line(case.market, symbol), key=lambda candle: candle.complete):
        if candle.complete <= now:
            continue
        by_close = case.config.trigger == "close" or candle.open_time < now
        highest = candle.close if by_close else candle.high
        lowest = candle.close if by_close else candle.low
        if highest >= level if side == "above" else lowest <= level:
            return -(-(candle.complete - now) // interval)
    return 10**9


@given(cases(), st.data())
def test_a_step_ends_where_a_plain_loop_finds_the_price(case: Case, data: st.DataObject) -> None:
    session = start_session(case)
    for command in case.commands:
        if not isinstance(command, Step) or command.steps < 1 or session.status != "running":
            apply(session, command)
            continue
        symbol = data.draw(st.sampled_from(case.symbols))
        candle = data.draw(st.sampled_from(time_line(case.market, symbol)))
        side = data.draw(st.sampled_from(["above", "below"]))
        price = data.draw(st.sampled_from([candle.high, candle.low, candle.close]))
        level = rounded(price, PRICE_PLACES)  # As the session takes it.
        left = session.total_steps - session.step_number
        expected = min(command.steps, left, first_touch(case, session, symbol, side, level))
        stepwise = session.fork()
        step = session.step(command.steps, until={"symbol": symbol, side: level})
        assert step.steps_executed == expected
        assert serialised(step) == serialised(stepwise.step(expected))
        assert serialised(session.results()) == serialised(stepwise.results())


def two_minutes_up() -> Session:
    """Return a session over the closes 100, 100, 110, 90, 120, 120, at its start."""
    market = Market([minutes("BTCUSDT", 100, 100, 110, 90, 120, 120)])
    return Session(SessionConfig(start_time=0, end_time=6 * MINUTE), market)


@pytest.mark.parametrize(
    ("until", "step"),
    [
        ({"symbol": "BTCUSDT", "above": "109.99"}, 3),
        ({"symbol": "btc/usdt", "below": 90}, 4),
        ({"symbol": "BTCUSDT", "above": "120"}, 5),
        ({"symbol": "BTCUSDT", "above": "120.01"}, 6),
        ({"symbol": "BTCUSDT", "below": "100"}, 1),
        ("steps", 6),
        ("order_change", 6),
    ],
)
def test_the_step_after_which_it_stops(until: Any, step: int) -> None:
    assert two_minutes_up().step(10, until).step == step


@pytest.mark.parametrize(
    ("until", "field"),
    [
        ("price", "until"),
        (5, "until"),
        ({"symbol": "BTCUSDT"}, "until"),
        ({"symbol": "BTCUSDT", "above": 1, "below": 1}, "until"),
        ({"symbol": "BTCUSDT", "abov": 1}, "until"),
        ({"above": 1}, "until.symbol"),
        ({"symbol": "BTCUSDT", "above": -1}, "until.above"),
        ({"symbol": "BTCUSDT", "below": "x"}, "until.below"),
    ],
)
def test_a_condition_that_cannot_be_is_refused_and_nothing_moves(until: Any, field: str) -> None:
    session = two_minutes_up()
    order = {"symbol": "BTCUSDT", "side": "buy", "quantity": 1}
    for command in (lambda: session.step(2, until), lambda: session.turn([order], until=until)):
        with pytest.raises(InvalidParameter) as refusal:
            command()
        assert refusal.value.details["field"] == field
    with pytest.raises(SymbolNotFound):
        session.turn([order], until={"symbol": "ETHUSDT", "above": 1})
    assert (session.step_number, session.order_count) == (0, 0)


def one_by_one(session: Session, turn: list[Any], steps: int) -> list[str]:
    """Return the answers of commands one by one, up to the first refusal."""
    answers = []
    for command in turn:
        answer = apply(session, command)
        answers.append(serialised(answer))
        if isinstance(answer, Refusal):
            return answers
    return answers + ([serialised(session.step(steps))] if steps else [])


@given(cases())
def test_a_turn_is_its_commands_up_to_the_first_refusal(case: Case) -> None:
    session, separate = start_session(case), start_session(case)
    cancel: list[Cancel] = []
    orders: list[Place] = []
    for command in case.commands:
        match command:
            case Cancel():
                cancel.append(command)
            case Place():
                orders.append(command)
            case Step() if session.status == "running" and (cancel or orders or command.steps > 0):
                steps = max(0, command.steps)
                expected = one_by_one(separate, [*cancel, *orders], steps)
                turn = session.turn(
                    [vars(order) for order in orders],
                    [order.order_id for order in cancel],
                    steps,
                )
                done = [serialised(part) for part in (*turn.cancelled, *turn.orders)]
                if turn.refused is not None:
                    part = cancel if turn.refused.part == "cancel" else orders
                    assert turn.refused.index < len(part)
                    done.append(serialised(Refusal(turn.refused.error.code)))
                done += [] if turn.step is None else [serialised(turn.step)]
                assert done == expected
                assert serialised(session.orders) == serialised(separate.orders)
                cancel, orders = [], []
            case _:
                assert serialised(apply(session, command)) == serialised(apply(separate, command))


def test_a_turn_stops_at_a_refusal_and_says_where() -> None:
    session = two_minutes_up()
    buy = {"symbol": "BTCUSDT", "side": "buy", "quantity": "1"}
    turn = session.turn([buy, {**buy, "quantity": "1000"}, buy], steps=2)
    assert [order.status for order in turn.orders] == ["filled"]
    assert turn.refused is not None
    assert (turn.refused.part, turn.refused.index) == ("orders", 1)
    assert turn.refused.error.code == "INSUFFICIENT_BALANCE"
    assert turn.step is None
    assert session.step_number == 0
    turn = session.turn(cancel=[9], steps=1)
    assert turn.refused is not None
    assert (turn.refused.part, turn.refused.index) == ("cancel", 0)
    with pytest.raises(InvalidParameter):
        session.turn(steps=0)
    session.cancel()
    with pytest.raises(InvalidState):
        session.turn([buy], steps=0)


def test_a_turn_of_orders_alone_makes_no_step() -> None:
    session = two_minutes_up()
    limit = {"symbol": "BTCUSDT", "side": "buy", "type": "limit", "quantity": 1, "price": 95}
    turn = session.turn([limit], steps=0)
    assert turn.step is None
    assert turn.refused is None
    moved = session.turn([{**limit, "price": 91}], [turn.orders[0].id], 10, "order_change")
    assert [order.status for order in moved.cancelled] == ["cancelled"]
    assert moved.step is not None
    assert [order.price for order in moved.step.orders_filled] == [91]
    assert moved.step.step == 4


def test_a_step_until_a_price_refuses_what_step_refuses() -> None:
    session = two_minutes_up()
    session.step(6)
    with pytest.raises(SandboxError):
        session.step(1, {"symbol": "BTCUSDT", "above": 1})
