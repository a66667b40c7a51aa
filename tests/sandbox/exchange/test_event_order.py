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


def open_session(candles: list[Candles], end: int, start: int = HOUR, **config: Any) -> Session:
    settings: dict[str, Any] = {"fee_rate": 0, "slippage": {"model": "none"}} | config
    return Session(
        SessionConfig(start_time=start, end_time=end, starting_balance=10_000, **settings),
        Market(candles),
    )


ROWS = [(0, 100, 100, 100, 100), (HOUR, 100, 120, 80, 90), (2 * HOUR, 90, 100, 85, 95)]


def test_an_order_placed_in_a_running_candle_is_checked_by_its_close_alone() -> None:
    session = open_session([bars("A", "1h", ROWS)], 3 * HOUR)
    session.step(30)
    low = session.place_order(symbol="A", side="buy", type="limit", quantity=1, price=85)
    worse = session.place_order(symbol="A", side="buy", type="limit", quantity=1, price=95)
    late = session.place_order(
        symbol="A", side="buy", type="stop_loss", quantity=1, trigger_price=110
    )
    session.step(30)
    assert session.order(low.id).status == "pending", "the low of 80 was before it, maybe"
    assert session.order(late.id).status == "pending"
    fill = session.order(worse.id).fill
    assert fill is not None
    assert (fill.price, fill.time) == (95, 2 * HOUR), "the close is 90: the limit is the worse"
    session.step(60)
    fill = session.order(low.id).fill
    assert fill is not None
    assert fill.price == 85


def test_a_stop_placed_in_a_running_candle_fills_at_the_close_if_that_is_worse() -> None:
    session = open_session([bars("A", "1h", ROWS)], 3 * HOUR)
    session.place_order(symbol="A", side="buy", type="market", quantity=1)
    session.step(30)
    stop = session.place_order(
        symbol="A", side="sell", type="stop_loss", quantity=1, trigger_price=95
    )
    session.step(30)
    fill = session.order(stop.id).fill
    assert fill is not None
    assert fill.price == 90


def test_close_only_looks_at_no_low_and_no_high() -> None:
    session = open_session([bars("A", "1h", ROWS)], 3 * HOUR, trigger="close")
    deep = session.place_order(symbol="A", side="buy", type="limit", quantity=1, price=85)
    near = session.place_order(symbol="A", side="buy", type="limit", quantity=1, price=92)
    session.step(60)
    assert session.order(deep.id).status == "pending"
    fill = session.order(near.id).fill
    assert fill is not None
    assert fill.price == 92


def test_of_candles_that_complete_together_the_one_that_opened_first_comes_first() -> None:
    minute = [(0, 50, 50, 50, 50), (119 * MINUTE, 50, 50, 40, 45)]
    session = open_session([bars("A", "1m", minute), bars("B", "1h", ROWS)], 3 * HOUR)
    session.place_order(symbol="A", side="buy", type="limit", quantity=100, price=41)
    session.place_order(symbol="B", side="buy", type="limit", quantity=60, price=90)
    filled = session.step(60).orders_filled
    assert [order.symbol for order in filled] == ["B", "A"]


def test_of_candles_alike_the_symbol_decides() -> None:
    session = open_session([bars("B", "1h", ROWS), bars("A", "1h", ROWS)], 3 * HOUR)
    for symbol in ("B", "A"):
        session.place_order(symbol=symbol, side="buy", type="limit", quantity=1, price=90)
    assert [order.symbol for order in session.step(60).orders_filled] == ["A", "B"]


def test_a_fill_carries_the_time_at_which_its_candle_was_complete() -> None:
    rows = [(m * MINUTE, 100, 100, min(100, 130 - m), 100) for m in range(120)]
    session = open_session([bars("A", "1m", rows)], 2 * HOUR, candle_interval="1h")
    session.place_order(symbol="A", side="buy", type="limit", quantity=1, price=60)
    (order,) = session.step().orders_filled
    assert order.filled_at == 71 * MINUTE
    assert order.fill is not None
    assert order.fill.price == 60


def test_an_order_does_not_fill_in_a_gap_and_a_market_order_fills_at_the_standing_price() -> None:
    session = open_session([bars("A", "1h", [ROWS[0], (5 * HOUR, 50, 50, 50, 50)])], 6 * HOUR)
    limit = session.place_order(symbol="A", side="buy", type="limit", quantity=1, price=90)
    session.step(120)
    assert session.order(limit.id).status == "pending"
    bought = session.place_order(symbol="A", side="buy", type="market", quantity=1)
    assert bought.fill is not None
    assert bought.fill.price == 100
    session.step(1000)
    fill = session.order(limit.id).fill
    assert fill is not None
    assert (fill.price, fill.time) == (50, 6 * HOUR)


def test_snapshots_at_the_start_every_sixty_steps_at_fills_and_at_the_end() -> None:
    rows = [(minute * MINUTE, 100, 100, 100, 100) for minute in range(200)]
    session = open_session([bars("A", "1m", rows)], 190 * MINUTE)
    session.step(7)
    session.place_order(symbol="A", side="buy", type="market", quantity=1)
    assert [snapshot.time // MINUTE for snapshot in session.snapshots()] == [60, 67]
    session.step(200)
    assert [snapshot.time // MINUTE for snapshot in session.snapshots()] == [60, 67, 120, 180, 190]
    assert [snapshot.position_value for snapshot in session.snapshots()] == [0, 100, 100, 100, 100]


def test_at_its_end_a_session_cancels_what_is_pending_and_sells_only_if_told_to() -> None:
    for liquidate, value in ((False, 95), (True, 0)):
        session = open_session([bars("A", "1h", ROWS)], 3 * HOUR, liquidate_at_end=liquidate)
        session.place_order(symbol="A", side="buy", type="market", quantity=1)
        session.place_order(symbol="A", side="sell", type="limit", quantity=1, price=500)
        step = session.step(1000)
        assert (step.is_complete, step.step, step.remaining_steps) == (True, 120, 0)
        assert [order.reason for order in step.orders_closed] == ["session_end"]
        assert [order.reason for order in step.orders_filled] == ["liquidate_at_end"] * liquidate
        assert step.portfolio.position_value == value
        assert step.portfolio.total_equity == 9995
        assert session.status == "completed"


def test_a_cancelled_session_keeps_its_positions_and_its_partial_results() -> None:
    session = open_session([bars("A", "1h", ROWS)], 3 * HOUR, liquidate_at_end=True)
    session.place_order(symbol="A", side="buy", type="market", quantity=1)
    session.step(60)
    session.cancel()
    assert session.status == "cancelled"
    assert session.portfolio().position_value == 90
    assert session.results().total_pnl == -10
    assert [snapshot.time for snapshot in session.snapshots()] == [HOUR, 2 * HOUR]


def test_a_loss_realized_at_midnight_belongs_to_the_new_day() -> None:
    rows = [(DAY - 2 * HOUR, 100, 100, 100, 100), (DAY - HOUR, 100, 100, 90, 90)]
    rows += [(DAY + hour * HOUR, 90, 90, 90, 90) for hour in range(30)]
    session = open_session(
        [bars("A", "1h", rows)],
        3 * DAY,
        start=DAY - HOUR,
        candle_interval="1h",
        risk=RiskProfile(daily_loss_limit_pct=Decimal(1)),
        allow_gaps=True,
    )
    session.place_order(symbol="A", side="buy", type="market", quantity=20)
    session.place_order(symbol="A", side="sell", type="stop_loss", quantity=20, trigger_price=92)
    session.step()
    assert session.portfolio().realized_pnl == -160
    for _ in range(24):
        with pytest.raises(RiskLimitExceeded) as refusal:
            session.place_order(symbol="A", side="buy", type="market", quantity=1)
        assert refusal.value.details["limit"] == "daily_loss_limit_pct"
        # Equity at midnight, before the stop: 8,000 cash and 20 at 90.
        assert refusal.value.details["allowed"] == 98
        session.step()
    bought = session.place_order(symbol="A", side="buy", type="market", quantity=1)
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
    session = open_session([bars("A", "1m", rows)], 990 * MINUTE)
    session.place_order(symbol="A", side="buy", type="market", quantity=1)
    order = session.place_order(
        symbol="A", side="sell", type="limit", quantity=1, price="1.0001000000000001"
    )
    candles = session.market.candles_of("A")
    above = smallest_float_from(order.trigger)
    assert candles.first_touch(-math.inf, above, 0, 1000) == 1000
    session.step(900)
    assert session.order(order.id).status == "pending"


def test_many_cancelled_expiries_are_forgotten() -> None:
    session = open_session([bars("A", "1h", ROWS)], 3 * HOUR)
    later = session.place_order(
        symbol="A", side="buy", type="limit", quantity=1, price=50, expires_at=2 * HOUR
    )
    for _ in range(1000):
        order = session.place_order(
            symbol="A", side="buy", type="limit", quantity=1, price=50, expires_at=2 * HOUR
        )
        session.cancel_order(order.id)
    assert len(session._exchange._events.heap) < 200
    session.step(60)
    assert session.order(later.id).status == "expired"


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
