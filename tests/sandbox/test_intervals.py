"""Steps of every length over candles of every length: the prices that a session sees, by hand."""

import pytest

from candlestep.sandbox import INTERVALS, Candles, Market, Session, SessionConfig
from candlestep.sandbox.clock import DAY, HOUR, MINUTE, WEEK
from tests.support.candles import flat, minutes

MONDAY = 4 * DAY


def session(candles: Candles, start: int, end: int, interval: str) -> Session:
    config = SessionConfig(
        start_time=start,
        end_time=end,
        starting_balance="1000",
        candle_interval=interval,
        fee_rate=0,
        allow_gaps=True,
        slippage={"model": "none"},
    )
    return Session(config, Market([candles]))


def days(count: int) -> Candles:
    return flat("A", "1d", **{f"t{day * 1440}": 1.0 + day for day in range(count)})


def test_weeks_over_days() -> None:
    weekly = session(days(30), MONDAY, MONDAY + 3 * WEEK, "1w")
    assert weekly.price("A") == 4
    assert [weekly.step().prices["A"] for _ in range(3)] == [11, 18, 25]
    assert [candle.open for candle in weekly.candles("A")] == [1, 5, 12, 19]
    assert weekly.results().metrics.returns_grid == "1w"


def test_a_week_is_filled_within() -> None:
    weekly = session(days(30), MONDAY, MONDAY + 3 * WEEK, "1w")
    weekly.place_order(symbol="A", side="buy", type="stop_loss", quantity="1", trigger_price="14")
    assert weekly.step().orders_filled == ()
    (order,) = weekly.step().orders_filled
    assert order.fill is not None
    # Day 13 opens at 14, ten days after the start, and is complete a day later.
    assert (order.fill.price, order.fill.time) == (14, 14 * DAY)


def test_three_minutes_over_minutes() -> None:
    by_three = session(minutes("A", *map(float, range(1, 11))), 0, 10 * MINUTE, "3m")
    assert by_three.total_steps == 3
    assert [by_three.step().prices["A"] for _ in range(3)] == [3, 6, 9]
    assert [(c.open, c.high, c.low, c.close) for c in by_three.candles("A")] == [
        (1, 3, 1, 3), (3, 6, 3, 6), (6, 9, 6, 9),
    ]  # fmt: skip


def test_hours_over_hours_that_open_at_half_past() -> None:
    """A step sees the candle that was complete half an hour before."""
    hours = flat("A", "1h", t30=5.0, t90=6.0, t150=7.0, t210=8.0)
    hourly = session(hours, 0, 5 * HOUR, "1h")
    assert hourly.prices() == {}
    assert [hourly.step().prices["A"] for _ in range(5)] == [5, 5, 6, 7, 8]
    assert [candle.open_time // MINUTE for candle in hourly.candles("A")] == [30, 90, 150, 210]


def test_an_order_in_a_candle_that_is_running_sees_its_close_alone() -> None:
    hours = Candles(
        symbol="A", interval="1h", open_time=[30 * MINUTE, 90 * MINUTE, 150 * MINUTE],
        open=[10, 10, 10], high=[10, 15, 15], low=[10, 5, 5], close=[10, 10, 9],
    )  # fmt: skip
    hourly = session(hours, 90 * MINUTE, 210 * MINUTE, "30m")
    hourly.step()
    # It is 02:00, and the candle from 01:30 to 02:30 is running.
    hourly.place_order(symbol="A", side="buy", type="limit", quantity="1", price="6")
    assert hourly.step().orders_filled == ()
    assert hourly.step().orders_filled == ()
    (order,) = hourly.step().orders_filled
    assert order.fill is not None
    assert (order.fill.price, order.fill.time) == (6, 210 * MINUTE)


@pytest.mark.parametrize("interval", list(INTERVALS))
def test_a_step_of_every_interval_by_name_and_in_seconds(interval: str) -> None:
    for spelling in (interval, str(INTERVALS[interval] // 1000)):
        one = session(days(15), DAY, DAY + WEEK, spelling)
        assert one.total_steps == WEEK // INTERVALS[interval]
        assert one.step().time == DAY + INTERVALS[interval]
