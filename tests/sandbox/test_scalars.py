"""Numbers and times of other libraries mean what they show, wherever a number or a time is."""

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from candlestep.sandbox import (
    Candles,
    InvalidParameter,
    Market,
    OrderNotFound,
    RiskProfile,
    Session,
    SessionConfig,
    parse_interval,
    parse_time,
)
from candlestep.sandbox.clock import HOUR, MINUTE
from candlestep.sandbox.money import parse_number
from candlestep.sandbox.strategies import compile_strategy
from tests.support.candles import minutes

NEW_YEAR = 1_735_689_600_000


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_a_float32_is_its_own_shortest_decimal(value: float) -> None:
    number = np.float32(value)
    parsed = parse_number("quantity", number)
    assert parsed == Decimal(str(number))
    assert np.float32(parsed) == number


@given(st.lists(st.floats(2**-20, 2**20, width=32), min_size=1, max_size=50))
def test_a_column_of_float32_is_its_own_shortest_decimals(values: list[float]) -> None:
    column = np.array(values, np.float32)
    times = np.arange(len(column)) * MINUTE
    candles = Candles(
        symbol="A", interval="1m", open_time=times, open=column, high=column, low=column,
        close=column, volume=column,
    )  # fmt: skip
    shown = [Decimal(str(number)) for number in column]
    assert [candles.candle(i).close for i in range(len(column))] == shown
    assert [candles.candle(i).volume for i in range(len(column))] == shown


@given(st.integers(-(2**63), 2**63 - 1))
def test_whole_numbers_of_numpy_are_exact(value: int) -> None:
    assert parse_number("quantity", np.int64(value)) == value


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float32(0.01), "0.01"),
        (np.float16(0.1), "0.1"),
        (np.float64(0.1), "0.1"),
        (np.longdouble("0.25"), "0.25"),
        (np.float32(67500), "67500"),
        (np.uint8(200), "200"),
        (np.int64(1), "1"),
        (np.str_("0.125"), "0.125"),
    ],
)
def test_a_number_of_numpy_is_what_it_shows(value: Any, expected: str) -> None:
    assert str(parse_number("quantity", value)) == expected


@pytest.mark.parametrize(
    "value",
    [
        np.float32("nan"), np.float64("nan"), np.float16("inf"), np.bool_(True), True, pd.NaT, pd.NA,
        np.datetime64("2025-01-01"), np.timedelta64(1, "s"), np.complex64(1), np.array(1),
        np.array([0.1]), Fraction(1, 3), None,
    ],
)  # fmt: skip
def test_what_is_no_number_is_refused_by_its_field(value: Any) -> None:
    with pytest.raises(InvalidParameter, match="finite number") as refusal:
        parse_number("quantity", value)
    assert refusal.value.details == {"field": "quantity"}


@pytest.mark.parametrize(
    "value",
    [
        "2025-01-01",
        "2025-01-01T01:00:00+01:00",
        date(2025, 1, 1),
        datetime(2025, 1, 1),
        datetime(2025, 1, 1, tzinfo=UTC),
        datetime(2025, 1, 1, 1, tzinfo=timezone(timedelta(hours=1))),
        np.datetime64("2025-01-01"),
        np.datetime64("2025-01"),
        np.datetime64("2025-01-01T00:00:00.000000999", "ns"),
        pd.Timestamp("2025-01-01"),
        pd.Timestamp("2024-12-31T19:00", tz="America/New_York"),
        NEW_YEAR,
        np.int64(NEW_YEAR),
    ],
)
def test_a_time_of_any_library_is_the_same_time(value: Any) -> None:
    assert parse_time(value) == NEW_YEAR


@given(st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 31)))
def test_a_datetime64_is_the_datetime_that_it_shows(moment: datetime) -> None:
    assert parse_time(np.datetime64(moment)) == parse_time(moment)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (pd.NaT, "missing"),
        (np.datetime64("NaT"), "missing"),
        (np.timedelta64(1, "s"), "timedelta64"),
        (np.float64(1.7e12), "float64"),
        (np.bool_(True), "bool"),
        (True, "bool"),
        (None, "NoneType"),
        (np.datetime64("10000-01-01"), "years 1 to 9999"),
    ],
)
def test_what_is_no_time_is_refused_in_words(value: Any, words: str) -> None:
    with pytest.raises(InvalidParameter, match=words) as refusal:
        parse_time(value, "end_time")
    assert refusal.value.details == {"field": "end_time"}


def test_intervals_may_be_whole_numbers_of_numpy() -> None:
    assert parse_interval(np.int32(3600)) == HOUR
    with pytest.raises(InvalidParameter):
        parse_interval(np.bool_(True))


def traded(market: Market, settings: dict[str, Any], order: dict[str, Any], steps: Any) -> Session:
    """Return a session that has placed a market order and a limit of these values."""
    session = Session(SessionConfig(**settings), market)
    quantity = order["quantity"]
    session.place_order(symbol="A", side="buy", type="market", quantity=quantity)
    session.place_order(symbol="A", side="buy", type="limit", **order)
    session.step(steps)
    session.step_to_change(steps)
    return session


def test_a_session_of_numpy_is_that_of_text() -> None:
    market = Market([minutes("A", *[10.0 + i % 3 for i in range(120)])])
    percent: Any = np.float32(50)
    texts = traded(
        market,
        {
            "start_time": 0,
            "end_time": "1970-01-01T02:00:00Z",
            "starting_balance": "1000",
            "fee_rate": "0.001",
            "slippage": {"model": "fixed_bps", "bps": "2.5"},
            "risk": RiskProfile(Decimal(50)),
        },
        {"quantity": "0.1", "price": Decimal("10.5"), "expires_at": HOUR},
        30,
    )
    scalars = traded(
        market,
        {
            "start_time": np.datetime64(0, "ms"),
            "end_time": pd.Timestamp(0) + pd.Timedelta("2h"),
            "starting_balance": np.int32(1000),
            "fee_rate": np.float32(0.001),
            "slippage": {"model": "fixed_bps", "bps": np.float16(2.5)},
            "risk": RiskProfile(percent),
        },
        {
            "quantity": np.float32(0.1),
            "price": np.float64(10.5),
            "expires_at": np.datetime64(HOUR, "ms"),
        },
        np.int64(30),
    )
    assert scalars.orders == texts.orders
    assert scalars.portfolio() == texts.portfolio()
    assert repr(scalars.config) == repr(texts.config)
    assert scalars.order(np.int64(1)) == texts.order(1)
    assert scalars.candles("A", np.int64(60), np.int64(5)) == texts.candles("A", "1m", 5)
    assert list(scalars.equity_curve(np.int64(7))) == list(texts.equity_curve(7))
    unknown: Any
    for unknown in (np.bool_(True), np.float64(1), np.int64(9)):
        with pytest.raises(OrderNotFound):
            scalars.order(unknown)
    wrong: Any
    for wrong in (np.float64(1), np.bool_(True), np.int64(0)):
        with pytest.raises(InvalidParameter, match="whole number"):
            scalars.step(wrong)


def test_the_starting_balance_is_that_of_a_session_over_http() -> None:
    assert SessionConfig(start_time=0, end_time=HOUR).starting_balance == 10_000


def test_strategies_take_the_numbers_of_numpy() -> None:
    def card(period: Any, share: Any) -> dict[str, Any]:
        crossed = {"left": "close", "op": ">", "right": "mean"}
        return {
            "timeframe": "1h",
            "symbols": ["A"],
            "indicators": {"mean": {"kind": "sma", "period": period}},
            "entries": [{"when": crossed, "size": {"equity_share": share}}],
        }

    plain = compile_strategy(card(20, 0.1))
    assert compile_strategy(card(np.int64(20), np.float32(0.1))) == plain
    for wrong in (np.bool_(True), np.float32("nan"), np.timedelta64(1, "s")):
        with pytest.raises(InvalidParameter, match="period"):
            compile_strategy(card(wrong, 0.1))
