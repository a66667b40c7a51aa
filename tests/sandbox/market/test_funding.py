"""Funding rates: rows are checked once, looked up by time, and what is missing is found."""

import pickle
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from candlestep.sandbox import FundingRates, InvalidParameter, Market
from candlestep.sandbox.clock import DAY, HOUR, MINUTE
from tests.support.candles import minutes


def rates(*hours: float, **columns: Any) -> FundingRates:
    times = np.array([int(hour * HOUR) for hour in hours], dtype=np.int64)
    return FundingRates("SOLUSDT-PERP", times, np.full(len(times), 0.0001), **columns)


def hours_missing(funding: FundingRates, end: float, candles_end: float | None = None) -> list[int]:
    last = end if candles_end is None else candles_end
    missing = funding.holes(0, int(end * HOUR), int(last * HOUR))
    return [int(time) for time in missing // HOUR]


def test_a_row_is_exact() -> None:
    funding = FundingRates("sol/usdt:usdt", [HOUR], [0.0001], mark=[60500.5])
    row = funding.row(0)
    assert (funding.symbol, row.time, row.interval) == ("SOLUSDT-PERP", HOUR, 8 * HOUR)
    assert (row.rate, row.mark) == (Decimal("0.0001"), Decimal("60500.5"))
    assert rates(1).row(0).mark is None
    assert [funding.first_after(time) for time in (HOUR - 1, HOUR)] == [0, 1]


@pytest.mark.parametrize(
    ("columns", "field"),
    [
        ({"time": [0, 0], "rate": [0.1, 0.1]}, "time: row 1"),
        ({"time": [2, 1], "rate": [0.1, 0.1]}, "time: row 1"),
        ({"time": [0], "rate": [1.0]}, "rate: row 0"),
        ({"time": [0], "rate": [float("nan")]}, "rate: row 0"),
        ({"time": [0], "rate": [0.1, 0.1]}, "rate: has 2 values for 1"),
        ({"time": [0], "rate": [0.1], "interval": [0]}, "interval: row 0"),
        ({"time": [0], "rate": [0.1], "interval": [0.5]}, "interval"),
        ({"time": [0], "rate": [0.1], "mark": [0.0]}, "mark: row 0"),
        ({"time": [0.5], "rate": [0.1]}, "time"),
    ],
)
def test_bad_rows_are_refused_by_name(columns: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidParameter, match=field):
        FundingRates("SOLUSDT-PERP", **columns)


def test_columns_are_read_only_and_the_rates_travel() -> None:
    times = np.array([0, 8 * HOUR])
    funding = FundingRates("A", times, [0.1, -0.1])
    times[0] = 5
    assert funding.time[0] == 0
    with pytest.raises(ValueError, match="read-only"):
        funding.rate[0] = 1
    again = pickle.loads(pickle.dumps(funding))
    assert again.fingerprint(DAY) == funding.fingerprint(DAY)
    assert funding.fingerprint(8 * HOUR - 1) != funding.fingerprint(8 * HOUR)
    assert funding.fingerprint(-1) == {}


def test_what_is_missing_between_two_rows_follows_the_interval_of_the_first() -> None:
    given = rates(8, 16, 40, 44, interval=np.array([8, 8, 4, 4]) * HOUR)
    assert hours_missing(given, 44) == [24, 32]
    assert hours_missing(rates(8, 16, 40, interval=np.array([8, 12, 8]) * HOUR), 40) == [28]


def test_what_is_missing_before_the_first_row_and_after_the_last() -> None:
    funding = rates(20, 24, interval=np.array([4, 8]) * HOUR)
    assert hours_missing(funding, 48) == [4, 8, 12, 16, 32, 40, 48]
    assert hours_missing(funding, 48, candles_end=39) == [4, 8, 12, 16, 32]
    assert hours_missing(funding, 10) == [4, 8]
    assert hours_missing(rates(), 24) == [8, 16, 24]


@pytest.mark.parametrize(
    ("hours", "missing"),
    [
        ([8, 16, 24, 32], []),
        ([8, 16, 32, 40], [24]),
        ([4, 8, 16, 24], []),  # 4 h become 8 h.
        ([8, 16, 20, 24], []),  # 8 h become 4 h.
        ([1, 2, 3, 5, 6], [4]),
    ],
)
def test_intervals_that_are_not_given_are_told_from_the_times(
    hours: list[int], missing: list[int]
) -> None:
    funding = rates(*hours)
    assert [hour for hour in hours_missing(funding, hours[-1]) if hour > hours[0]] == missing


def test_holes_are_filled_with_a_rate() -> None:
    funding = rates(8, 24)
    filled = rates(8, 24, interval=np.array([8, 8]) * HOUR).filled(np.array([16 * HOUR]), 0.0003)
    assert (filled.time // HOUR).tolist() == [8, 16, 24]
    assert filled.rate.tolist() == [0.0001, 0.0003, 0.0001]
    assert hours_missing(filled, 24) == []
    assert len(funding) == 2


def test_marks_make_a_line_on_the_grid_of_the_candles() -> None:
    candles = minutes("SOLUSDT-PERP", 10.0, 20.0, 30.0, 40.0)
    marks = minutes("SOLUSDT-PERP", 11.0, 21.0, start=MINUTE)
    market = Market([candles], marks=[marks])
    line = market.mark_line("SOLUSDT")
    assert line.completes_with(candles)
    assert line.close.tolist() == [10.0, 11.0, 21.0, 40.0]
    assert market.marks_of("SOL/USDT:USDT") is marks
    assert Market([candles]).mark_line("SOLUSDT") is candles
    copied = pickle.loads(pickle.dumps(market))
    assert copied.mark_line("SOLUSDT").close.tolist() == line.close.tolist()
    with pytest.raises(InvalidParameter, match="marks: has BTCUSDT-PERP, which has no candles"):
        Market([candles], marks=[minutes("BTCUSDT-PERP", 1.0)])
    with pytest.raises(InvalidParameter, match="funding: has A"):
        Market([candles], funding=[FundingRates("A", [0], [0.1])])
