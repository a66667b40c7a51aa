"""Orders along the path of a candle: stops with limits, trailing stops and brackets, by hand.

A candle is open, high, low, close; the price goes from the open to the nearer extreme, to the other
one, and to the close.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from candlestep.sandbox import Candles, InvalidParameter, Market, Order, Session, SessionConfig
from candlestep.sandbox.market.price_index import PriceIndex, Retreat
from tests.support.session_cases import MINUTE

SYMBOL = "BTCUSDT"
FLAT = (100.0, 100.0, 100.0, 100.0)
Row = tuple[float, float, float, float]


def session(*rows: Row, held: int = 0, **settings: Any) -> Session:
    """Return a session of 1,000 USDT that begins at a price of 100, before ``rows``."""
    opens, highs, lows, closes = zip(FLAT, *rows, FLAT, strict=True)
    candles = Candles(
        symbol=SYMBOL,
        interval="1m",
        open_time=[minute * MINUTE for minute in range(len(opens))],
        open=opens,
        high=highs,
        low=lows,
        close=closes,
    )
    config = SessionConfig(
        start_time=MINUTE,
        end_time=len(opens) * MINUTE,
        starting_balance=1_000,
        fee_rate=0,
        slippage={"model": "none"},
        **settings,
    )
    new = Session(config, Market([candles]))
    if held:
        new.place_order(symbol=SYMBOL, side="buy", quantity=held)
    return new


def place(trading: Session, side: str, type: str, **terms: Any) -> Order:
    return trading.place_order(symbol=SYMBOL, side=side, type=type, quantity=1, **terms)


def fill_of(trading: Session, order: Order) -> tuple[int, Decimal] | None:
    """Return in which candle after the start an order has filled, and at what price."""
    fill = trading.order(order.id).fill
    return None if fill is None else (fill.time // MINUTE - 1, fill.price)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        # The stop is at 90, and 95 does not reach it; from 112 it follows to 102, and 101 is below.
        ([(98, 112, 95, 101)], (1, 102)),
        # 103 is not below 102; the next candle opens below it.
        ([(98, 112, 95, 103), (99, 105, 98, 104)], (2, 99)),
        # Two peaks in one candle: 108 at the open, from which 98 is reached before the high.
        ([(108, 120, 98, 119)], (1, 98)),
        # The same, but the first fall ends above 98; from the second peak of 120 it is 110.
        ([(108, 120, 99, 109)], (1, 110)),
        # The high comes first, 4 from the open, and then the low, which falls through 94.
        ([(100, 104, 90, 103)], (1, 94)),
        # It never falls by 10 from a peak.
        ([(100, 109, 100, 108), (108, 117, 108, 109)], None),
    ],
)
def test_a_trailing_sell_stop_follows_the_best_price(
    rows: list[Row], expected: tuple[int, int] | None
) -> None:
    trading = session(*rows, held=1)
    stop = place(trading, "sell", "trailing_stop", trail_amount=10)
    trading.step(len(rows))
    assert fill_of(trading, stop) == expected


def test_a_trailing_buy_stop_mirrors_it_and_locks_where_it_would_buy() -> None:
    # Lowest 80, and 10 % more is 88; 110 is locked when it is placed at 100.
    trading = session((100, 101, 80, 85), (85, 90, 84, 86))
    stop = place(trading, "buy", "trailing_stop", trail_percent=10)
    assert stop.locked_cash == 110
    assert trading.trailing_trigger(stop.id) == 110
    trading.step()
    assert trading.trailing_trigger(stop.id) == 88
    trading.step()
    assert fill_of(trading, stop) == (2, 88)


def test_an_activation_in_the_candle_that_then_reverses() -> None:
    # Down to 98 first, then up to 106, past 105: the stop is at 101, and 99 is below it.
    trading = session((100, 104, 100, 101), (100, 106, 98, 99), held=1)
    stop = place(trading, "sell", "trailing_stop", trail_amount=5, activation_price=105)
    assert stop.best_price is None
    trading.step()
    assert trading.trailing_trigger(stop.id) is None
    trading.step()
    assert fill_of(trading, stop) == (2, 101)


def test_an_activation_price_that_has_been_reached_is_no_condition() -> None:
    trading = session((100, 102, 97, 98), held=1)
    stop = place(trading, "sell", "trailing_stop", trail_amount=4, activation_price=100)
    trading.step()
    assert fill_of(trading, stop) == (1, 98)


def test_of_a_candle_that_was_running_a_trailing_stop_sees_the_close_alone() -> None:
    hours = Candles(
        symbol=SYMBOL,
        interval="1h",
        open_time=[0, 60 * MINUTE, 120 * MINUTE],
        open=[100, 100, 105],
        high=[100, 130, 106],
        low=[100, 60, 95],
        close=[100, 105, 96],
    )
    config = SessionConfig(
        start_time=60 * MINUTE, end_time=180 * MINUTE, fee_rate=0, slippage={"model": "none"}
    )
    trading = Session(config, Market([hours]))
    trading.place_order(symbol=SYMBOL, side="buy", quantity=1)
    trading.step(30)
    stop = place(trading, "sell", "trailing_stop", trail_amount=8)
    trading.step(30)
    assert trading.trailing_trigger(stop.id) == 97  # 8 below the close of 105, not below 130.
    trading.step(60)
    assert fill_of(trading, stop) == (179, 98)  # 106 comes first.


@pytest.mark.parametrize(
    ("limit", "rows", "expected"),
    [
        # Reached at 95, where a stop would fill, within the limit.
        (94, [(100, 101, 93, 97)], (1, 95)),
        # It opens between trigger and limit.
        (94, [(94.5, 95, 93, 94)], (1, Decimal("94.5"))),
        # It opens beyond its limit and rests; the high comes back to 94 in the same candle.
        (94, [(90, 96, 89, 93)], (1, 94)),
        # Triggered at 95, below the limit, which the last leg comes back to.
        (96, [(100, 101, 92, 97)], (1, 96)),
        # It comes back in a later candle, or never.
        (94, [(90, 93, 89, 92), (92, 95, 91, 93)], (2, 94)),
        (94, [(90, 93, 89, 92), (92, 93, 90, 91)], None),
    ],
)
def test_a_stop_limit_fills_within_its_limit_or_rests_there(
    limit: int, rows: list[Row], expected: tuple[int, Decimal] | None
) -> None:
    trading = session(*rows, held=1)
    stop = place(trading, "sell", "stop_limit", trigger_price=95, price=limit)
    assert stop.locked_quantity == 1
    trading.step(len(rows))
    assert fill_of(trading, stop) == expected


def test_a_stop_limit_that_rests_is_a_limit_order_from_then_on() -> None:
    trading = session(
        (90, 93, 89, 92),
        (92, 94, 91, 93),
        held=1,
    )
    stop = place(trading, "sell", "stop_limit", trigger_price=95, price=94)
    trading.step()
    assert (trading.order(stop.id).status, trading.order(stop.id).triggered_at) == (
        "pending",
        2 * MINUTE,
    )
    trading.step()
    assert fill_of(trading, stop) == (2, 94)


@pytest.mark.parametrize("time_in_force", ["ioc", "fok"])
def test_a_stop_limit_that_may_not_wait_expires_at_its_trigger(time_in_force: str) -> None:
    trading = session((90, 96, 89, 93), held=1)
    terms: dict[str, Any] = {"trigger_price": 95, "price": 94, "time_in_force": time_in_force}
    stop = place(trading, "sell", "stop_limit", **terms)
    trading.step()
    assert (trading.order(stop.id).status, trading.account.locked_quantity(SYMBOL)) == (
        "expired",
        0,
    )


def test_a_take_profit_limit_buys_on_a_fall_and_waits_lower_for_its_limit() -> None:
    # At 95 the price is worse than the limit of 94, which the same fall reaches.
    trading = session((100, 101, 93, 97))
    order = place(trading, "buy", "take_profit_limit", trigger_price=95, price=94)
    assert order.locked_cash == 94
    trading.step()
    assert fill_of(trading, order) == (1, 94)


@pytest.mark.parametrize(
    ("entry", "rows", "expected"),
    [
        # Bought at 95 on the fall to 92, which goes on through the stop at 93.
        (("limit", {"price": 95}), [(100, 101, 92, 100)], [(1, 95), (1, 93), None]),
        # The low of 92 lies before the entry on a breakout of 105: the stop waits.
        (("stop_loss", {"trigger_price": 105}), [(100, 109, 92, 107)], [(1, 105), None, None]),
        # Bought at 95 on the fall to the nearer extreme, and sold at 110 on the rise after it.
        (("limit", {"price": 95}), [(100, 112, 94, 105)], [(1, 95), None, (1, 110)]),
        # It opens below the entry and the stop: both fill at the open.
        (("limit", {"price": 95}), [(91, 99, 90, 98)], [(1, 91), (1, 91), None]),
        # Bought at once; the stop is for the next candle.
        (("market", {}), [(100, 101, 92, 100)], [(0, 100), (1, 93), None]),
    ],
)
def test_the_legs_of_a_bracket_see_what_comes_after_the_entry(
    entry: tuple[str, dict[str, Any]], rows: list[Row], expected: list[tuple[int, int] | None]
) -> None:
    trading = session(*rows)
    type, terms = entry
    place(trading, "buy", type, **terms, stop_loss=93, take_profit=110)
    assert trading.order_count == (1 if expected[0] != (0, 100) else 3)
    trading.step()
    stop, target = trading.orders[1], trading.orders[2]
    assert [fill_of(trading, order) for order in trading.orders] == expected
    assert (stop.type, target.type, stop.parent_id, target.list_id) == (
        "stop_loss",
        "take_profit",
        1,
        2,
    )
    if expected[1:] != [None, None]:
        assert {stop.reason, target.reason} == {None, "oco"}


def test_a_leg_that_the_price_is_beyond_sells_at_once() -> None:
    trading = session(FLAT)
    place(trading, "buy", "market", stop_loss=101)
    assert [fill_of(trading, order) for order in trading.orders] == [(0, 100), (0, 100)]
    assert not trading.account.open_holdings


def test_a_bracket_ends_with_its_entry() -> None:
    trading = session(FLAT)
    order = place(trading, "buy", "limit", price=90, stop_loss=80)
    trading.cancel_order(order.id)
    assert trading.order_count == 1


@pytest.mark.parametrize(
    ("field", "side", "type", "wrong"),
    [
        ("trail_percent", "sell", "trailing_stop", {}),
        ("trail_amount", "sell", "trailing_stop", {"trail_percent": 1, "trail_amount": 1}),
        ("trail_percent", "sell", "trailing_stop", {"trail_percent": 100}),
        ("trail_amount", "sell", "trailing_stop", {"trail_amount": 100}),
        ("trail_amount", "sell", "stop_loss", {"trigger_price": 90, "trail_amount": 1}),
        ("price", "sell", "trailing_stop", {"price": 90, "trail_amount": 1}),
        ("price", "sell", "stop_limit", {"trigger_price": 90}),
        ("trigger_price", "sell", "stop_limit", {"price": 90}),
        ("post_only", "sell", "stop_limit", {"trigger_price": 9, "price": 9, "post_only": True}),
        ("stop_loss", "sell", "limit", {"price": 110, "stop_loss": 120}),
        ("stop_loss", "buy", "market", {"stop_loss": 110, "take_profit": 110}),
        ("take_profit", "buy", "market", {"take_profit": 0}),
    ],
)
def test_terms_that_an_order_cannot_have_are_refused_by_name(
    field: str, side: str, type: str, wrong: dict[str, Any]
) -> None:
    trading = session(FLAT, held=1)
    with pytest.raises(InvalidParameter) as refusal:
        place(trading, side, type, **wrong)
    assert refusal.value.details["field"] == field
    assert trading.order_count == 1


@given(
    seed=st.integers(0, 2**32),
    start=st.integers(0, 1500),
    share=st.sampled_from([1.0, 0.99, 0.98, 0.95, 0.9, 0.7]),
    amount=st.sampled_from([0.0, 0.5, 2.0, 10.0]),
    falls=st.booleans(),
)
def test_the_first_retreat_of_blocks_is_that_of_a_loop(
    seed: int, start: int, share: float, amount: float, falls: bool
) -> None:
    random = np.random.default_rng(seed)
    middle = 100 * np.exp(np.cumsum(random.normal(0, 0.002, 1500)))
    width = random.random(1500) * 0.2
    lows, highs = middle - width, middle + width
    retreat = Retreat(share if falls else 2 - share, amount, falls)
    first, best = PriceIndex(lows, highs).first_retreat(float(middle[0]), retreat, start)
    before = float(middle[0])
    for index in range(start, 1500):
        now = max(before, highs[index]) if falls else min(before, lows[index])
        if falls and lows[index] <= now * share - amount:
            break
        if not falls and highs[index] >= now * (2 - share) + amount:
            break
        before = now
    else:
        index = 1500
    assert (first, best) == (max(start, index) if start < 1500 else 1500, before)
