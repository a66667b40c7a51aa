"""Bad input: each refusal names field and remedy, and changes nothing."""

from decimal import Decimal, getcontext, localcontext
from typing import Any

import pytest

from candlestep.sandbox import (
    Candles,
    ClientOrderIdInUse,
    InvalidParameter,
    InvalidState,
    Market,
    RiskLimitExceeded,
    RiskProfile,
    SandboxError,
    Session,
    SessionConfig,
)
from candlestep.sandbox.clock import MINUTE
from tests.support.candles import minutes

CONFIG: dict[str, Any] = {
    "start_time": MINUTE,
    "end_time": 10 * MINUTE,
    "starting_balance": 10_000,
    "slippage": {"model": "none"},
}
BUY: dict[str, Any] = {"symbol": "A", "side": "buy", "type": "market", "quantity": 1}
LIMIT = BUY | {"type": "limit", "price": 90}


def a_session(**config: Any) -> Session:
    late = Candles(
        symbol="LATE", interval="1m", open_time=[8 * MINUTE], open=[1], high=[1], low=[1], close=[1]
    )
    return Session(SessionConfig(**(CONFIG | config)), Market([minutes("A", *[100.0] * 12), late]))


def state(session: Session) -> object:
    return session.orders, session.fills, session.portfolio(), session.balances(), session.time


NUMBERS: list[Any] = [
    "NaN",
    "Infinity",
    "-1",
    "0",
    "-0",
    "1e400",
    "1e-400",
    "1_000",
    "",
    " 1",
    "0x1",
    "١",
]
VALUES: list[Any] = [
    float("nan"),
    float("inf"),
    True,
    None,
    [],
    {},
    10**6000,
    Decimal("NaN"),
    b"1",
    10**17,
]


@pytest.mark.parametrize("quantity", NUMBERS + VALUES, ids=range(len(NUMBERS + VALUES)))
def test_a_quantity_is_a_positive_finite_number_of_sensible_size(quantity: object) -> None:
    session = a_session()
    before = state(session)
    with pytest.raises(InvalidParameter) as refusal:
        session.place_order(**(BUY | {"quantity": quantity}))
    assert refusal.value.details["field"] == "quantity"
    assert len(refusal.value.message) < 200
    assert state(session) == before


@pytest.mark.parametrize(
    ("order", "code", "field"),
    [
        (BUY | {"side": "hold"}, "INVALID_PARAMETER", "side"),
        (BUY | {"type": "iceberg"}, "INVALID_PARAMETER", "type"),
        (BUY | {"type": None}, "INVALID_PARAMETER", "type"),
        (BUY | {"symbol": None}, "INVALID_PARAMETER", "symbol"),
        (BUY | {"symbol": "B"}, "SYMBOL_NOT_FOUND", None),
        (BUY | {"symbol": "LATE"}, "NO_DATA", None),
        (BUY | {"price": 90}, "INVALID_PARAMETER", "price"),
        (BUY | {"trigger_price": 90}, "INVALID_PARAMETER", "trigger_price"),
        (BUY | {"expires_at": 2 * MINUTE}, "INVALID_PARAMETER", "expires_at"),
        (BUY | {"type": "limit"}, "INVALID_PARAMETER", "price"),
        (LIMIT | {"trigger_price": 90}, "INVALID_PARAMETER", "trigger_price"),
        (LIMIT | {"price": "1e-20"}, "INVALID_PARAMETER", "price"),
        (LIMIT | {"price": 1, "quantity": "1e-8", "side": "buy"}, None, None),
        (LIMIT | {"price": "0.4", "quantity": "1e-8"}, "INVALID_PARAMETER", "quantity"),
        (LIMIT | {"expires_at": MINUTE}, "INVALID_PARAMETER", "expires_at"),
        (LIMIT | {"expires_at": "soon"}, "INVALID_PARAMETER", "expires_at"),
        (LIMIT | {"client_order_id": ""}, "INVALID_PARAMETER", "client_order_id"),
        (LIMIT | {"oco_group": 7}, "INVALID_PARAMETER", "oco_group"),
        (BUY | {"type": "stop_loss"}, "INVALID_PARAMETER", "trigger_price"),
        (
            BUY | {"type": "stop_loss", "price": 1, "trigger_price": 1},
            "INVALID_PARAMETER",
            "price",
        ),
        (BUY | {"quantity": 101}, "INSUFFICIENT_BALANCE", None),
        (LIMIT | {"quantity": 112}, "INSUFFICIENT_BALANCE", None),
        (BUY | {"side": "sell"}, "INSUFFICIENT_BALANCE", None),
        (LIMIT | {"side": "sell", "price": 110}, "INSUFFICIENT_BALANCE", None),
    ],
)
def test_an_order_is_refused(order: dict[str, Any], code: str | None, field: str | None) -> None:
    session = a_session()
    before = state(session)
    if code is None:
        session.place_order(**order)
        return
    with pytest.raises(SandboxError) as refusal:
        session.place_order(**order)
    assert refusal.value.code == code
    assert refusal.value.details.get("field") == field
    assert state(session) == before


@pytest.mark.parametrize("order_id", [0, 2, -1, "1", True, 1.0, None])
def test_an_unknown_order_cannot_be_cancelled(order_id: Any) -> None:
    session = a_session()
    session.place_order(**LIMIT)
    with pytest.raises(SandboxError) as refusal:
        session.cancel_order(order_id)
    assert refusal.value.code == "ORDER_NOT_FOUND"


def test_an_order_that_is_no_longer_pending_cannot_be_cancelled() -> None:
    session = a_session()
    order = session.place_order(**BUY)
    with pytest.raises(InvalidState) as refusal:
        session.cancel_order(order.id)
    assert refusal.value.details == {"order_id": 1, "status": "filled"}


@pytest.mark.parametrize("steps", [0, -1, 1.0, "1", True, None])
def test_steps_are_a_positive_whole_number(steps: Any) -> None:
    session = a_session()
    with pytest.raises(InvalidParameter):
        session.step(steps)
    assert session.step_number == 0


def test_after_its_end_a_session_answers_reads_and_nothing_else() -> None:
    session = a_session()
    order = session.place_order(**LIMIT, client_order_id="mine")
    assert session.step(10**9).is_complete
    for command in (
        lambda: session.step(),
        lambda: session.place_order(**BUY),
        lambda: session.cancel_order(order.id),
        lambda: session.cancel(),
    ):
        with pytest.raises(InvalidState) as refusal:
            command()
        assert refusal.value.details == {"status": "completed"}
    assert session.order(order.id).reason == "session_end"
    assert session.place_order(**LIMIT, client_order_id="mine").id == order.id
    assert session.results() is session.results()
    assert session.portfolio().total_equity == 10_000


def test_an_order_sent_again_is_the_same_order() -> None:
    session = a_session()
    order = session.place_order(**BUY, client_order_id="once")
    for same in (BUY, BUY | {"quantity": "1.000000001"}, BUY | {"type": "market"}):
        assert session.place_order(**same, client_order_id="once") == order
    session.step(10_000)
    assert session.place_order(**BUY, client_order_id="once") == order, "at the end too"
    assert len(session.orders) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"quantity": 3},
        {"side": "sell"},
        {"type": "limit", "price": 90},
        {"oco_group": "g"},
    ],
)
def test_another_order_with_a_known_client_order_id_is_refused(other: dict[str, Any]) -> None:
    session = a_session()
    order = session.place_order(**BUY, client_order_id="once")
    with pytest.raises(ClientOrderIdInUse, match="'once' is that of order 1, whose") as caught:
        session.place_order(**(BUY | other), client_order_id="once")
    assert caught.value.details["order_id"] == order.id
    assert set(other) <= set(caught.value.details["different"])
    assert session.orders == [order]


def test_an_order_that_has_expired_may_be_sent_again() -> None:
    session = a_session()
    expiring = LIMIT | {"expires_at": session.time + 60_000, "client_order_id": "mine"}
    order = session.place_order(**expiring)
    session.step(5)
    assert session.place_order(**expiring).id == order.id
    later = expiring | {"expires_at": session.time + 60_000}
    with pytest.raises(ClientOrderIdInUse, match="expires_at"):
        session.place_order(**later)


def test_a_refused_order_leaves_its_client_order_id_free() -> None:
    session = a_session()
    with pytest.raises(SandboxError):
        session.place_order(**(BUY | {"quantity": 1000}), client_order_id="once")
    assert session.place_order(**BUY, client_order_id="once").id == 1


def test_pending_buys_count_towards_the_size_of_a_position() -> None:
    """40 wait at 90, which is 3600; 14 more at 100 are all that half of 10,000 allows."""
    session = a_session(fee_rate=0, risk=RiskProfile(max_position_size_pct=Decimal(50)))
    waiting = session.place_order(**(LIMIT | {"quantity": 40}))
    with pytest.raises(RiskLimitExceeded) as refusal:
        session.place_order(**(BUY | {"quantity": "14.01"}))
    assert refusal.value.details["limit"] == "max_position_size_pct"
    assert (refusal.value.details["allowed"], refusal.value.details["attempted"]) == (5000, 5001)
    assert session.place_order(**(BUY | {"quantity": 14})).status == "filled"
    session.cancel_order(waiting.id)
    assert session.place_order(**(BUY | {"quantity": 36})).status == "filled"


def test_a_refusal_by_risk_is_recorded_and_consumes_an_id() -> None:
    session = a_session(risk=RiskProfile(max_order_size_pct=Decimal(5)))
    with pytest.raises(RiskLimitExceeded) as refusal:
        session.place_order(**(BUY | {"quantity": 6}), client_order_id="big")
    assert refusal.value.details == {
        "limit": "max_order_size_pct",
        "allowed": Decimal(500),
        "attempted": Decimal("600.6"),
        "order_id": 1,
    }
    assert (session.order(1).status, session.order(1).reason) == ("rejected", "max_order_size_pct")
    assert session.place_order(**(BUY | {"quantity": 6}), client_order_id="big").id == 1
    assert session.place_order(**(BUY | {"quantity": "4.9"})).id == 2
    assert [order.id for order in session.step().orders_closed] == [1]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"start_time": "yesterday"}, "start_time"),
        ({"end_time": MINUTE}, "end_time"),
        ({"end_time": 2 * MINUTE - 1}, "end_time"),
        ({"starting_balance": 0}, "starting_balance"),
        ({"starting_balance": "1e17"}, "starting_balance"),
        ({"candle_interval": "2m"}, "candle_interval"),
        ({"candle_interval": 61}, "candle_interval"),
        ({"fee_rate": -1}, "fee_rate"),
        ({"fee_rate": 2}, "fee_rate"),
        ({"slippage": {"model": "magic"}}, "slippage"),
        ({"slippage": {"model": "fixed_bps"}}, "slippage"),
        ({"slippage": {"model": "none", "bps": 5}}, "slippage"),
        ({"slippage": {"model": "fixed_bps", "bps": 6000}}, "slippage.bps"),
        ({"trigger": "open"}, "trigger"),
        ({"liquidate_at_end": 1}, "liquidate_at_end"),
        ({"currency": ""}, "currency"),
    ],
)
def test_a_configuration_is_refused(change: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidParameter) as refusal:
        a_session(**change)
    assert refusal.value.details["field"] == field


@pytest.mark.parametrize("limit", ["max_order_size_pct", "daily_loss_limit_pct"])
@pytest.mark.parametrize("value", [-1, 101, "NaN", True])
def test_a_risk_limit_is_a_percentage(limit: str, value: Any) -> None:
    with pytest.raises(InvalidParameter) as refusal:
        RiskProfile(**{limit: value})
    assert refusal.value.details["field"] == limit


def test_numbers_may_come_in_any_form() -> None:
    for quantity in (1, 1.0, "1", "1.0", "1e0", "+1", "10E-1", Decimal(1), "1." + "0" * 300):
        assert a_session().place_order(**(BUY | {"quantity": quantity})).quantity == 1


def test_the_callers_decimal_context_does_not_matter() -> None:
    def run() -> object:
        session = a_session(fee_rate="0.00123", slippage={"model": "fixed_bps", "bps": 3})
        session.place_order(**(BUY | {"quantity": "1.23456789"}))
        session.place_order(**(LIMIT | {"price": "99.999999999", "quantity": "0.77777777"}))
        session.step(3)
        session.place_order(**(BUY | {"side": "sell", "quantity": "0.33333333"}))
        session.step(100)
        return state(session), session.results(), list(session.snapshots()), session.ticker("A")

    expected = run()
    with localcontext() as context:
        context.prec = 3
        context.rounding = "ROUND_CEILING"
        for signal in context.traps:
            context.traps[signal] = True
        assert run() == expected
    assert getcontext().prec == 28


def test_a_field_that_no_order_has_is_named() -> None:
    order: dict[str, Any] = {"symbol": "A", "side": "buy", "quantty": 1}
    with pytest.raises(
        TypeError, match=r"an order has no field 'quantty'; its fields are .*quantity"
    ):
        a_session().place_order(**order)
