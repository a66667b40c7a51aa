"""Conditions of an order: time in force, post_only, and amounts in quote currency."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from candlestep.sandbox import (
    Candles,
    ClientOrderIdInUse,
    Filters,
    FilterViolated,
    Instrument,
    InsufficientBalance,
    InvalidParameter,
    Market,
    OrderWouldMatch,
    Session,
    SessionConfig,
)
from tests.support.session_cases import MINUTE

SYMBOL = "BTCUSDT"


def session(fee: str = "0", bps: str = "0", **settings: Any) -> Session:
    """Return a session of 1,000 USDT at a price of 100."""
    flat = [100.0] * 10
    candles = Candles(
        symbol=SYMBOL,
        interval="1m",
        open_time=[minute * MINUTE for minute in range(10)],
        open=flat,
        high=flat,
        low=flat,
        close=flat,
    )
    config = SessionConfig(
        start_time=MINUTE,
        end_time=9 * MINUTE,
        starting_balance=1_000,
        fee_rate=fee,
        slippage={"model": "fixed_bps", "bps": bps},
        **settings,
    )
    return Session(config, Market([candles]))


def test_a_market_order_needs_no_type() -> None:
    assert session().place_order(symbol=SYMBOL, side="buy", quantity=1).type == "market"


@pytest.mark.parametrize("time_in_force", ["ioc", "fok"])
def test_a_limit_that_would_wait_expires_and_one_that_would_not_fills(time_in_force: str) -> None:
    trading = session()
    terms: dict[str, Any] = {"type": "limit", "quantity": 1, "time_in_force": time_in_force}
    expired = trading.place_order(symbol=SYMBOL, side="buy", price=99, **terms)
    filled = trading.place_order(symbol=SYMBOL, side="buy", price=101, **terms)
    assert (expired.status, expired.reason, expired.closed_at) == ("expired", None, MINUTE)
    assert (filled.status, filled.id) == ("filled", 2)
    assert (trading.account.locked_cash, trading.pending_count) == (0, 0)
    assert [order.id for order in trading.step().orders_closed] == [1]


def test_post_only_refuses_a_limit_that_would_fill_at_once() -> None:
    trading = session()
    terms: dict[str, Any] = {"symbol": SYMBOL, "side": "buy", "type": "limit", "quantity": 1}
    with pytest.raises(OrderWouldMatch) as refusal:
        trading.place_order(**terms, price=100, post_only=True)
    assert refusal.value.code == "ORDER_WOULD_MATCH"
    assert "the buy limit at 100 would fill at once at 100;" in refusal.value.message
    assert trading.order_count == 0
    assert trading.place_order(**terms, price=99, post_only=True).status == "pending"


def test_a_buy_for_an_amount_costs_at_most_that_with_its_fee() -> None:
    # 100 / 100.1 (fee 0.1 %) = 0.99900099 ; with 0.99900100 it would cost 100.0000001.
    trading = session(fee="0.001")
    order = trading.place_order(symbol=SYMBOL, side="buy", quote_amount=100)
    assert order.quantity == Decimal("0.99900099")
    assert order.fill is not None
    assert (order.fill.quote_amount, order.fill.fee) == (Decimal("99.900099"), Decimal("0.0999001"))


def test_a_sell_for_an_amount_brings_at_least_that_after_slippage_and_fee() -> None:
    # 100 less 1 % is 99, less 1 % of it 98.01; 50 / 98.01 = 0.510152025...
    trading = session(fee="0.01", bps="100")
    trading.place_order(symbol=SYMBOL, side="buy", quantity=5)
    order = trading.place_order(symbol=SYMBOL, side="sell", quote_amount=50)
    assert order.quantity == Decimal("0.51015203")
    assert order.fill is not None
    assert order.fill.quote_amount - order.fill.fee == Decimal("50.00000046")


def test_amounts_are_of_whole_steps_down_for_a_buy_and_up_for_a_sell() -> None:
    known = Instrument(SYMBOL, filters=Filters(step_size="0.1", min_notional=20))  # type: ignore[arg-type]
    trading = session(instruments=[known])
    buy = trading.place_order(symbol=SYMBOL, side="buy", quote_amount=155)
    sell = trading.place_order(symbol=SYMBOL, side="sell", quote_amount=41)
    assert (buy.quantity, sell.quantity) == (Decimal("1.5"), Decimal("0.5"))
    with pytest.raises(InvalidParameter, match="quote_amount"):
        trading.place_order(symbol=SYMBOL, side="buy", quote_amount=15)
    with pytest.raises(FilterViolated, match="min_notional"):
        trading.place_order(symbol=SYMBOL, side="sell", quote_amount=5)


def test_a_sell_for_more_than_is_held_is_refused() -> None:
    trading = session()
    trading.place_order(symbol=SYMBOL, side="buy", quantity=1)
    with pytest.raises(InsufficientBalance) as refusal:
        trading.place_order(symbol=SYMBOL, side="sell", quote_amount=101)
    assert refusal.value.details == {"required": Decimal("1.01"), "available": 1}


def test_an_order_by_amount_sent_again_is_the_same_although_the_price_has_moved() -> None:
    trading = session()
    terms: dict[str, Any] = {"symbol": SYMBOL, "side": "buy", "client_order_id": "a"}
    placed = trading.place_order(**terms, quote_amount=100)
    trading.step()
    assert trading.place_order(**terms, quote_amount="100.0") == placed
    with pytest.raises(ClientOrderIdInUse):
        trading.place_order(**terms, quote_amount=101)
    with pytest.raises(ClientOrderIdInUse):
        trading.place_order(**terms, quantity=1)


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("quote_amount", {"quantity": 1, "quote_amount": 1}),
        ("quote_amount", {"type": "limit", "price": 90, "quote_amount": 1}),
        ("quote_amount", {"quote_amount": 0}),
        ("quantity", {}),
        ("time_in_force", {"quantity": 1, "time_in_force": "day"}),
        ("time_in_force", {"type": "stop_loss", "trigger_price": 110, "time_in_force": "ioc"}),
        ("expires_at", {"type": "limit", "price": 90, "time_in_force": "ioc", "expires_at": MINUTE * 2}),
        ("post_only", {"quantity": 1, "post_only": True}),
        ("post_only", {"type": "stop_loss", "trigger_price": 110, "post_only": True}),
        ("post_only", {"type": "limit", "price": 90, "post_only": True, "time_in_force": "fok"}),
        ("post_only", {"type": "limit", "price": 90, "post_only": "yes"}),
    ],
)  # fmt: skip
def test_conditions_that_contradict_an_order_are_refused_by_name(
    field: str, wrong: dict[str, Any]
) -> None:
    if "quote_amount" not in wrong and wrong:
        wrong = {"quantity": 1} | wrong
    with pytest.raises(InvalidParameter) as refusal:
        session().place_order(symbol=SYMBOL, side="buy", **wrong)
    assert refusal.value.details["field"] == field
