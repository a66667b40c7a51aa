"""Lists of two orders, of which one cancels the other, and orders that replace others, by hand."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from candlestep.sandbox import (
    ClientOrderIdInUse,
    Filters,
    FilterViolated,
    Instrument,
    InsufficientBalance,
    InvalidParameter,
    InvalidState,
    OrderWouldMatch,
    RiskLimitExceeded,
    RiskProfile,
    Session,
)
from tests.sandbox.exchange.test_paths import FLAT, SYMBOL, fill_of, place, session
from tests.support.session_cases import MINUTE


def leg(side: str, type: str, quantity: int = 1, **terms: Any) -> Any:
    return {"symbol": SYMBOL, "side": side, "type": type, "quantity": quantity, **terms}


TARGET = leg("sell", "limit", price=110)
STOP = leg("sell", "stop_limit", trigger_price=95, price=94)


def state_of(trading: Session) -> Any:
    return trading.order_count, trading.open_orders(), trading.account.available_cash


def test_one_order_of_a_list_cancels_the_other() -> None:
    trading = session((100, 101, 93, 97), held=1)
    target, stop = trading.place_oco([TARGET, STOP])
    assert (target.list_id, stop.list_id, target.id) == (2, 2, 2)
    assert trading.account.locked_quantity(SYMBOL) == 1  # They share it.
    trading.step()
    assert fill_of(trading, stop) == (1, 95)
    assert (trading.order(target.id).status, trading.order(target.id).reason) == (
        "cancelled",
        "oco",
    )


def test_buys_of_a_list_share_the_larger_lock() -> None:
    # 8 at 90 take 720, 5 at 120 take 600; of 1,000 both fit only together.
    trading = session((100, 121, 99, 120))
    low, high = leg("buy", "limit", 8, price=90), leg("buy", "stop_loss", 5, trigger_price=120)
    trading.place_oco([low, high])
    assert trading.account.locked_cash == 720
    trading.step()
    assert fill_of(trading, trading.orders[1]) == (1, 120)
    assert (trading.account.available_cash, trading.account.locked_cash) == (400, 0)


@pytest.mark.parametrize(
    ("error", "second"),
    [
        (InsufficientBalance, STOP | {"quantity": 2}),
        (OrderWouldMatch, leg("sell", "limit", price=99)),
        (InvalidParameter, leg("buy", "limit", price=90)),
        (InvalidParameter, leg("sell", "market")),
        (InvalidParameter, leg("sell", "limit", price=110, time_in_force="ioc")),
        (InvalidParameter, STOP | {"oco_group": "g"}),
    ],
)
def test_if_the_second_order_is_refused_none_is_placed(error: type[Exception], second: Any) -> None:
    trading = session(FLAT, held=1)
    before = state_of(trading)
    with pytest.raises(error):
        trading.place_oco([TARGET, second])
    assert state_of(trading) == before
    with pytest.raises(InvalidParameter, match="two orders"):
        trading.place_oco([TARGET])


def test_a_risk_limit_records_the_order_that_it_refuses_alone() -> None:
    trading = session(FLAT, risk=RiskProfile(max_order_size_pct=Decimal(50)))
    small = leg("buy", "limit", 4, price=90, client_order_id="small")
    large = leg("buy", "stop_loss", 6, trigger_price=110, client_order_id="large")
    with pytest.raises(RiskLimitExceeded) as refusal:
        trading.place_oco([small, large])
    assert (refusal.value.details["order_id"], refusal.value.details["leg"]) == (1, 1)
    assert [(order.type, order.status) for order in trading.orders] == [("stop_loss", "rejected")]
    assert trading.order_of_client("small") is None
    assert trading.account.locked_cash == 0


def test_a_list_that_is_sent_again_is_the_same() -> None:
    trading = session(FLAT, FLAT, held=1)
    names = [TARGET | {"client_order_id": "a"}, STOP | {"client_order_id": "b"}]
    placed = trading.place_oco(names)
    trading.step()
    assert trading.place_oco(names) == placed
    assert trading.place_oco([leg | {"symbol": "BTC/USDT"} for leg in names]) == placed
    assert trading.order_count == 3
    with pytest.raises(ClientOrderIdInUse):
        trading.place_oco([names[0] | {"price": 111}, names[1]])
    with pytest.raises(ClientOrderIdInUse):
        trading.place_oco([names[0], STOP])


def test_a_replaced_order_is_last_in_time_and_keeps_its_name() -> None:
    # Both wait at 95. The first is replaced at the same price, so that the second one fills before.
    trading = session(FLAT, (100, 101, 90, 100))
    first = place(trading, "buy", "limit", price=95, client_order_id="mine")
    second = place(trading, "buy", "limit", price=95)
    trading.step()
    new = trading.replace_order(first.id, price=95)
    old = trading.order(first.id)
    assert (old.status, old.reason, new.id, new.created_at) == (
        "cancelled",
        "replaced",
        3,
        2 * MINUTE,
    )
    assert trading.order_of_client("mine") == new
    trading.step()
    assert [fill.order_id for fill in trading.fills] == [second.id, new.id]


def test_a_replacement_may_use_what_the_old_order_locked() -> None:
    trading = session(FLAT)
    order = place(trading, "buy", "limit", price=90)
    new = trading.replace_order(order.id, quantity=11)
    assert (new.locked_cash, trading.account.available_cash) == (990, 10)


def test_a_replacement_keeps_group_list_and_bracket() -> None:
    trading = session((100, 101, 93, 97), held=1)
    target, _ = trading.place_oco([TARGET, STOP])
    higher = trading.replace_order(target.id, price=120)
    assert higher.list_id == 2
    trading.step()
    assert trading.order(higher.id).reason == "oco"
    guarded = place(trading, "buy", "limit", price=90, oco_group="g", stop_loss=80)
    moved = trading.replace_order(guarded.id, price=91)
    assert (moved.oco_group, moved.stop_loss) == ("g", 80)


def test_a_triggered_stop_limit_is_replaced_by_a_limit_order() -> None:
    trading = session((90, 93, 89, 92), (92, 93, 91, 92), held=1)
    stop = place(trading, "sell", "stop_limit", trigger_price=95, price=94)
    trading.step()
    with pytest.raises(InvalidParameter, match="trigger_price"):
        trading.replace_order(stop.id, trigger_price=91)
    new = trading.replace_order(stop.id, price=93)
    assert (new.type, new.price, new.trigger_price) == ("limit", 93, None)
    trading.step()
    assert fill_of(trading, new) == (2, 93)


def test_a_refused_replacement_leaves_the_order_as_it_was() -> None:
    trading = session(FLAT, risk=RiskProfile(max_order_size_pct=Decimal(50)))
    order = place(trading, "buy", "limit", price=90, client_order_id="mine")
    before = state_of(trading)
    for changes in ({"quantity": 12}, {"trigger_price": 80}, {"price": 0}, {}):
        with pytest.raises((InsufficientBalance, InvalidParameter)):
            trading.replace_order(order.id, **changes)
        assert state_of(trading) == before
    with pytest.raises(RiskLimitExceeded):
        trading.replace_order(order.id, quantity=6)
    assert trading.order(2).status == "rejected"
    assert trading.order_of_client("mine") == trading.order(1) == order
    trading.cancel_order(order.id)
    with pytest.raises(InvalidState):
        trading.replace_order(order.id, price=91)


def test_stops_that_lock_their_quantity_leave_nothing_for_other_sells() -> None:
    trading = session((100, 101, 90, 92), held=2, locking_stops=True)
    stop = place(trading, "sell", "stop_loss", trigger_price=95)
    trail = place(trading, "sell", "trailing_stop", trail_amount=20)
    assert (stop.locked_quantity, trading.account.locked_quantity(SYMBOL)) == (1, 2)
    with pytest.raises(InsufficientBalance):
        place(trading, "sell", "market")
    trading.cancel_order(trail.id)
    place(trading, "sell", "market")
    trading.step()
    assert fill_of(trading, stop) == (1, 95)
    assert trading.account.locked_quantity(SYMBOL) == 0


def test_the_legs_of_a_bracket_share_one_lock() -> None:
    trading = session((100, 111, 99, 100), locking_stops=True)
    place(trading, "buy", "market", stop_loss=90, take_profit=110)
    assert trading.account.locked_quantity(SYMBOL) == 1
    trading.step()
    assert [order.reason for order in trading.orders[1:]] == ["oco", None]
    assert trading.account.locked_quantity(SYMBOL) == 0


def test_locking_stops_are_of_spot() -> None:
    with pytest.raises(InvalidParameter, match="locking_stops"):
        session(FLAT, locking_stops=True, market_type="perp")
    assert "locking_stops=True" in repr(session(FLAT, locking_stops=True).config)


@pytest.mark.parametrize(
    ("field", "terms"),
    [
        ("price", {"type": "stop_limit", "trigger_price": 95, "price": "94.3"}),
        ("activation_price", {"type": "trailing_stop", "trail_percent": 1, "activation_price": 99.8}),
        ("stop_loss", {"type": "market", "stop_loss": "90.1"}),
        ("take_profit", {"type": "limit", "price": 90, "take_profit": "110.2"}),
    ],
)  # fmt: skip
def test_a_price_that_is_not_on_a_tick_is_refused_with_the_nearest(
    field: str, terms: dict[str, Any]
) -> None:
    known = Instrument(SYMBOL, filters=Filters(tick_size=Decimal("0.5")))
    trading = session(FLAT, instruments=[known])
    with pytest.raises(FilterViolated) as refusal:
        place(trading, "buy", **terms)
    details = refusal.value.details
    nearest = {"price": "94.5", "activation_price": "100", "stop_loss": "90", "take_profit": "110"}
    assert (details["field"], details["filter"]) == (field, "tick_size")
    assert details["nearest"] == Decimal(nearest[field])
