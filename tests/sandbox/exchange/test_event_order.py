"""Events in time: running candles, order of events at one instant, snapshots, lifecycle."""

import math
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from candlestep.sandbox import (
    Candles,
    Market,
    RiskLimitExceeded,
    RiskProfile,
    Session,
    SessionConfig,
    format_time,
    parse_time,
)
from candlestep.sandbox.clock import DAY, EARLIEST, HOUR, INTERVALS, LATEST, MINUTE, candle_span
from candlestep.sandbox.money import smallest_float_from


def bars(symbol: str, interval: str, rows: Sequence[tuple[float, ...]]) -> Candles:
    times, *columns = zip(*rows, strict=True)
    names = ("open", "high", "low", "close", "volume")
    return Candles(
        symbol=symbol,
        interval=interval,
        open_time=[int(time) for time in times],
        **dict(zip(names, columns, strict=False)),
    )


def session(candles: list[Candles], end: int, start: int = HOUR, **config: Any) -> Session:
    settings: dict[str, Any] = {"fee_rate": 0, "slippage": {"model": "none"}} | config
    return Session(
        SessionConfig(start_time=start, end_time=end, starting_balance=10_000, **settings),
        Market(candles),
    )


ROWS = [(0, 100, 100, 100, 100), (HOUR, 100, 120, 80, 90), (2 * HOUR, 90, 100, 85, 95)]


def test_an_order_placed_in_a_running_candle_is_checked_by_its_close_alone() -> None:
    made = session([bars("A", "1h", ROWS)], 3 * HOUR)
    made.step(30)
    low = made.place_order(symbol="A", side="buy", type="limit", quantity=1, price=85)
    worse = made.place_order(symbol="A", side="buy", type="limit", quantity=1, price=95)
    late = made.place_order(symbol="A", side="buy", type="stop_loss", quantity=1, trigger_price=110)
    made.step(30)
    assert made.order(low.id).status == "pending", "the low of 80 was before it, maybe"
    assert made.order(late.id).status == "pending"
    fill = made.order(worse.id).fill
    assert fill is not None
    assert (fill.price, fill.time) == (95, 2 * HOUR), "the close is 90: the limit is the worse"
    made.step(60)
    fill = made.order(low.id).fill
    assert fill is not None
    assert fill.price == 85


def test_a_stop_placed_in_a_running_candle_fills_at_the_close_if_that_is_worse() -> None:
    made = session([bars("A", "1h", ROWS)], 3 * HOUR)
    made.place_order(symbol="A", side="buy", type="market", quantity=1)
    made.step(30)
    stop = made.place_order(symbol="A", side="sell", type="stop_loss", quantity=1, trigger_price=95)
    made.step(30)
    fill = made.order(stop.id).fill
    assert fill is not None
    assert fill.price == 90


def test_close_only_looks_at_no_low_and_no_high() -> None:
    made = session([bars("A", "1h", ROWS)], 3 * HOUR, trigger="close")
    deep = made.place_order(symbol="A", side="buy", type="limit", quantity=1, price=85)
    near = made.place_order(symbol="A", side="buy", type="limit", quantity=1, price=92)
    made.step(60)
    assert made.order(deep.id).status == "pending"
    fill = made.order(near.id).fill
    assert fill is not None
    assert fill.price == 92


def test_of_candles_that_complete_together_the_one_that_opened_first_comes_first() -> None:
    minute = [(0, 50, 50, 50, 50), (119 * MINUTE, 50, 50, 40, 45)]
    made = session([bars("A", "1m", minute), bars("B", "1h", ROWS)], 3 * HOUR)
    made.place_order(symbol="A", side="buy", type="limit", quantity=100, price=41)
    made.place_order(symbol="B", side="buy", type="limit", quantity=60, price=90)
    filled = made.step(60).orders_filled
    assert [order.symbol for order in filled] == ["B", "A"]


def test_of_candles_alike_the_symbol_decides() -> None:
    made = session([bars("B", "1h", ROWS), bars("A", "1h", ROWS)], 3 * HOUR)
    for symbol in ("B", "A"):
        made.place_order(symbol=symbol, side="buy", type="limit", quantity=1, price=90)
    assert [order.symbol for order in made.step(60).orders_filled] == ["A", "B"]


def test_a_fill_carries_the_time_at_which_its_candle_was_complete() -> None:
    rows = [(m * MINUTE, 100, 100, min(100, 130 - m), 100) for m in range(120)]
    made = session([bars("A", "1m", rows)], 2 * HOUR, candle_interval="1h")
    made.place_order(symbol="A", side="buy", type="limit", quantity=1, price=60)
    (order,) = made.step().orders_filled
    assert order.filled_at == 71 * MINUTE
    assert order.fill is not None
    assert order.fill.price == 60


def test_an_order_does_not_fill_in_a_gap_and_a_market_order_fills_at_the_standing_price() -> None:
    made = session([bars("A", "1h", [ROWS[0], (5 * HOUR, 50, 50, 50, 50)])], 6 * HOUR)
    limit = made.place_order(symbol="A", side="buy", type="limit", quantity=1, price=90)
    made.step(120)
    assert made.order(limit.id).status == "pending"
    bought = made.place_order(symbol="A", side="buy", type="market", quantity=1)
    assert bought.fill is not None
    assert bought.fill.price == 100
    made.step(1000)
    fill = made.order(limit.id).fill
    assert fill is not None
    assert (fill.price, fill.time) == (50, 6 * HOUR)


def test_snapshots_at_the_start_every_sixty_steps_at_fills_and_at_the_end() -> None:
    rows = [(minute * MINUTE, 100, 100, 100, 100) for minute in range(200)]
    made = session([bars("A", "1m", rows)], 190 * MINUTE)
    made.step(7)
    made.place_order(symbol="A", side="buy", type="market", quantity=1)
    assert [snapshot.time // MINUTE for snapshot in made.snapshots()] == [60, 67]
    made.step(200)
    assert [snapshot.time // MINUTE for snapshot in made.snapshots()] == [60, 67, 120, 180, 190]
    assert [snapshot.position_value for snapshot in made.snapshots()] == [0, 100, 100, 100, 100]


def test_at_its_end_a_session_cancels_what_is_pending_and_sells_only_if_told_to() -> None:
    for liquidate, value in ((False, 95), (True, 0)):
        made = session([bars("A", "1h", ROWS)], 3 * HOUR, liquidate_at_end=liquidate)
        made.place_order(symbol="A", side="buy", type="market", quantity=1)
        made.place_order(symbol="A", side="sell", type="limit", quantity=1, price=500)
        step = made.step(1000)
        assert (step.is_complete, step.step, step.remaining_steps) == (True, 120, 0)
        assert [order.reason for order in step.orders_closed] == ["session_end"]
        assert [order.reason for order in step.orders_filled] == ["liquidate_at_end"] * liquidate
        assert step.portfolio.position_value == value
        assert step.portfolio.total_equity == 9995
        assert made.status == "completed"


def test_a_cancelled_session_keeps_its_positions_and_its_partial_results() -> None:
    made = session([bars("A", "1h", ROWS)], 3 * HOUR, liquidate_at_end=True)
    made.place_order(symbol="A", side="buy", type="market", quantity=1)
    made.step(60)
    made.cancel()
    assert made.status == "cancelled"
    assert made.portfolio().position_value == 90
    assert made.results().total_pnl == -10
    assert [snapshot.time for snapshot in made.snapshots()] == [HOUR, 2 * HOUR]


def test_a_loss_realized_at_midnight_belongs_to_the_new_day() -> None:
    rows = [(DAY - 2 * HOUR, 100, 100, 100, 100), (DAY - HOUR, 100, 100, 90, 90)]
    rows += [(DAY + hour * HOUR, 90, 90, 90, 90) for hour in range(30)]
    made = session(
        [bars("A", "1h", rows)],
        3 * DAY,
        start=DAY - HOUR,
        candle_interval="1h",
        risk=RiskProfile(daily_loss_limit_pct=Decimal(1)),
    )
    made.place_order(symbol="A", side="buy", type="market", quantity=20)
    made.place_order(symbol="A", side="sell", type="stop_loss", quantity=20, trigger_price=92)
    made.step()
    assert made.portfolio().realized_pnl == -160
    for _ in range(24):
        with pytest.raises(RiskLimitExceeded) as refusal:
            made.place_order(symbol="A", side="buy", type="market", quantity=1)
        assert refusal.value.details["limit"] == "daily_loss_limit_pct"
        # Equity at midnight, before the stop: 8,000 cash and 20 at 90.
        assert refusal.value.details["allowed"] == 98
        made.step()
    bought = made.place_order(symbol="A", side="buy", type="market", quantity=1)
    assert bought.status == "filled", "a new day"


@given(st.integers(EARLIEST, LATEST))
def test_a_time_is_read_as_it_was_written(time: int) -> None:
    assert parse_time(format_time(time)) == time


def test_times_are_utc_unless_they_say_otherwise() -> None:
    assert parse_time("1970-01-01T01:00:00+01:00") == 0
    assert parse_time("1970-01-01") == 0
    assert parse_time("1970-01-01 00:00:00.0019") == 1
    assert format_time(1) == "1970-01-01T00:00:00.001Z"


def test_an_order_that_every_candle_misses_by_less_than_a_float_costs_nothing() -> None:
    rows = [(m * MINUTE, 1.0, 1.0001, 1.0, 1.0) for m in range(1000)]
    made = session([bars("A", "1m", rows)], 990 * MINUTE)
    made.place_order(symbol="A", side="buy", type="market", quantity=1)
    order = made.place_order(
        symbol="A", side="sell", type="limit", quantity=1, price="1.0001000000000001"
    )
    candles = made.market.candles_of("A")
    above = smallest_float_from(order.trigger)
    assert candles.first_touch(-math.inf, above, 0, 1000) == 1000
    made.step(900)
    assert made.order(order.id).status == "pending"


def test_many_cancelled_expiries_are_forgotten() -> None:
    made = session([bars("A", "1h", ROWS)], 3 * HOUR)
    kept = made.place_order(
        symbol="A", side="buy", type="limit", quantity=1, price=50, expires_at=2 * HOUR
    )
    for _ in range(1000):
        order = made.place_order(
            symbol="A", side="buy", type="limit", quantity=1, price=50, expires_at=2 * HOUR
        )
        made.cancel_order(order.id)
    assert len(made._exchange._events.heap) < 200
    made.step(60)
    assert made.order(kept.id).status == "expired"


@given(
    start=st.integers(-3 * DAY, 3 * DAY),
    length=st.integers(0, 3 * DAY),
    interval=st.sampled_from([*INTERVALS.values()]),
)
def test_the_candles_of_a_time_are_those_that_lie_in_it(
    start: int, length: int, interval: int
) -> None:
    end = start + length
    opens = [
        time
        for time in range(-4 * DAY, 7 * DAY, interval)
        if start <= time and time + interval <= end
    ]

    first, last = candle_span(start, end, interval)

    if opens:
        assert (first, last) == (opens[0], opens[-1] + interval)
    else:
        assert first >= last
