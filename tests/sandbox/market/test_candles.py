"""Candles: refusals, the merging of several intervals, and every look-up."""

import gc
import math
import weakref
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from candlestep.sandbox import Candles, InvalidCandles, InvalidParameter
from candlestep.sandbox.clock import HOUR, MINUTE
from candlestep.sandbox.market.fixed_point import as_floats, fixed_point
from candlestep.sandbox.market.price_index import PriceIndex
from candlestep.sandbox.market.volumes import RecentVolume
from candlestep.sandbox.money import decimal_of, largest_float_up_to, smallest_float_from
from tests.support.candles import flat, minutes

GOOD: dict[str, Any] = {
    "symbol": "BTCUSDT",
    "interval": "1m",
    "open_time": [0, MINUTE, 2 * MINUTE],
    "open": [10.0, 11.0, 12.0],
    "high": [11.0, 12.0, 13.0],
    "low": [9.0, 10.0, 11.0],
    "close": [10.5, 11.5, 12.5],
    "volume": [1.0, 2.0, 3.0],
}


@pytest.mark.parametrize(
    ("change", "field", "row"),
    [
        ({"close": [10.5, float("nan"), 12.5]}, "close", 1),
        ({"high": [11.0, 12.0, float("inf")]}, "high", 2),
        ({"open": [0.0, 11.0, 12.0]}, "open", 0),
        ({"low": [9.0, -1.0, 11.0]}, "low", 1),
        ({"volume": [1.0, -2.0, 3.0]}, "volume", 1),
        ({"close": [10.5, 1e17, 12.5], "high": [11.0, 1e17, 13.0]}, "high", 1),
        ({"low": [9.0, 11.2, 11.0]}, "low", 1),
        ({"high": [11.0, 12.0, 12.2]}, "high", 2),
        ({"open_time": [0, MINUTE + 1, 2 * MINUTE]}, "open_time", 1),
        ({"open_time": [0, MINUTE, MINUTE]}, "open_time", 2),
        ({"interval": "3m", "open_time": [0, 3 * MINUTE, 5 * MINUTE]}, "open_time", 2),
        ({"interval": "1h", "open_time": [0, 30 * MINUTE, 60 * MINUTE]}, "open_time", 1),
        ({"open_time": [0, 2 * MINUTE, MINUTE]}, "open_time", 2),
        ({"open_time": [0, MINUTE, 10**18]}, "open_time", 2),
        ({"close": [10.5, 11.5]}, "close", 2),
    ],
)
def test_a_bad_row_is_named(change: dict[str, Any], field: str, row: int) -> None:
    with pytest.raises(InvalidCandles) as refusal:
        Candles(**(GOOD | change))
    assert refusal.value.details == {"field": field, "row": row}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"symbol": ""}, "symbol"),
        ({"interval": "2m"}, "interval"),
        ({"open_time": []}, "open_time"),
        ({"open_time": [0.5, 1.5, 2.5]}, "open_time"),
        ({"open": ["a", "b", "c"]}, "open"),
        ({"open": [[1.0], [2.0], [3.0]]}, "open"),
    ],
)
def test_what_is_no_column_is_named(change: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidParameter) as refusal:
        Candles(**(GOOD | change))
    assert refusal.value.details["field"] == field


def test_candles_do_not_change_with_the_arrays_they_were_made_of() -> None:
    closes = np.array(GOOD["close"])
    candles = Candles(**(GOOD | {"close": closes}))
    closes[0] = 10.9
    assert candles.price(MINUTE) == Decimal("10.5")
    with pytest.raises(ValueError, match="read-only"):
        candles.close[0] = 10.9


def test_read_only_arrays_are_shared() -> None:
    closes = np.array(GOOD["close"])
    closes.flags.writeable = False
    assert Candles(**(GOOD | {"close": closes})).close is closes


def test_open_times_may_be_datetimes() -> None:
    times = np.array(["1970-01-01T00:00", "1970-01-01T00:01", "1970-01-01T00:02"], "datetime64[s]")
    assert Candles(**(GOOD | {"open_time": times})).open_time.tolist() == GOOD["open_time"]


def test_the_finest_candles_win_and_coarser_ones_fill_their_holes() -> None:
    minute = flat("X", "1m", t60=1.0, t61=2.0, t200=3.0)
    hour = flat("X", "1h", t0=10.0, t60=11.0, t120=12.0, t180=13.0, t240=14.0)
    merged = Candles.merge([hour, minute])
    opens = (merged.open_time // MINUTE).tolist()
    assert opens == [0, 60, 61, 120, 200, 240]
    assert merged.close.tolist() == [10.0, 1.0, 2.0, 12.0, 3.0, 14.0]
    assert (merged.complete_time // MINUTE).tolist() == [60, 61, 62, 180, 201, 300]


def test_three_granularities_form_one_time_line() -> None:
    merged = Candles.merge(
        [
            flat("X", "1d", t0=100.0, t1440=101.0),
            flat("X", "1h", t0=10.0),
            flat("X", "1m", t5=1.0),
        ]
    )
    assert (merged.open_time // MINUTE).tolist() == [5, 1440]


def test_a_coarser_candle_gives_way_to_any_finer_one_that_overlaps_it() -> None:
    half_past = flat("X", "1h", t30=10.0, t90=11.0, t150=12.0, t210=13.0)
    minute = flat("X", "1m", t29=1.0, t89=2.0, t210=3.0)
    assert (Candles.merge([half_past, minute]).open_time // MINUTE).tolist() == [
        29,
        89,
        90,
        150,
        210,
    ]
    days = flat("X", "1d", t0=100.0, t1440=101.0, t2880=102.0)
    over_midnight = flat("X", "1h", t1410=20.0)
    assert (Candles.merge([days, over_midnight]).open_time // MINUTE).tolist() == [1410, 2880]


def test_candles_may_open_at_any_minute_and_change_their_phase() -> None:
    """Hourly from 14:30 UTC, and an hour earlier after the change of the clocks at the weekend."""
    friday, monday = 14 * 60 + 30, 3 * 1440 + 13 * 60 + 30
    opens = [friday, friday + 60, monday, monday + 60]
    hours = flat("X", "1h", **{f"t{minute}": float(k) for k, minute in enumerate(opens, 1)})
    for minute, price in [
        (friday - 1, None), (friday, 1), (friday + 60, 1), (friday + 119, 1), (friday + 120, 2),
        (monday + 59, 2), (monday + 60, 3), (monday + 120, 4), (monday + 9999, 4),
    ]:  # fmt: skip
        assert hours.price(minute * MINUTE) == price
    assert [hours.last_complete((monday + m) * MINUTE) for m in (0, 59, 60, 119, 120)] == [
        1, 1, 2, 2, 3,
    ]  # fmt: skip
    assert hours.first_touch(-np.inf, 3.0, 0, 4) == 2
    assert hours.recent_volume(3, HOUR) == RecentVolume(Decimal(6), 3)
    assert not hours.has_any((friday + 120) * MINUTE, monday * MINUTE)
    assert hours.has_any((friday + 119) * MINUTE, (friday + 120) * MINUTE)


def test_only_different_granularities_of_one_symbol_can_be_merged() -> None:
    with pytest.raises(InvalidParameter, match="no two the same"):
        Candles.merge([flat("X", "1m", t0=1.0), flat("X", "1m", t1=1.0)])
    with pytest.raises(InvalidParameter, match="different symbols"):
        Candles.merge([flat("X", "1m", t0=1.0), flat("Y", "1h", t0=1.0)])


@given(st.sets(st.integers(0, 300), min_size=1, max_size=40), st.integers(-10, 330))
def test_the_price_is_the_close_of_the_latest_complete_candle(opens: set[int], now: int) -> None:
    candles = flat("X", "1m", **{f"t{minute}": 1.0 + minute for minute in sorted(opens)})
    complete = [minute for minute in sorted(opens) if minute + 1 <= now]
    opened = [minute for minute in sorted(opens) if minute <= now]
    expected = 1 + complete[-1] if complete else 1 + opened[0] if opened else None
    assert candles.price(now * MINUTE) == expected
    many = np.arange(-5, 320) * MINUTE
    assert candles.last_complete_at(many).tolist() == [candles.last_complete(int(t)) for t in many]


prices = st.floats(min_value=1e-320, max_value=1e16)


@given(st.lists(prices, min_size=1, max_size=20))
def test_fixed_point_is_the_shortest_decimal_exactly(values: list[float]) -> None:
    units, digits, largest = fixed_point(np.array(values))
    assert largest == max(units)
    assert [Decimal(f"{unit}e-{digits}") for unit in units.tolist()] == list(
        map(decimal_of, values)
    )


@given(st.lists(st.integers(1, 10**14), min_size=1, max_size=20), st.integers(0, 8))
def test_usual_prices_are_kept_as_machine_integers(units: list[int], digits: int) -> None:
    converted = fixed_point(np.array([float(f"{unit}e-{digits}") for unit in units]))
    assert converted.units.dtype == np.int64
    assert converted.digits <= digits


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 3)), min_size=1, max_size=1500),
    st.integers(-1, 31),
    st.integers(-1, 35),
    st.data(),
)
def test_first_touch_is_that_of_a_plain_scan(
    ranges: list[tuple[int, int]], below: int, above: int, data: st.DataObject
) -> None:
    low = np.array([float(low) for low, _ in ranges])
    high = np.array([float(low + width) for low, width in ranges])
    start = data.draw(st.integers(0, len(ranges)))
    stop = data.draw(st.integers(start, len(ranges)))
    reached = [i for i in range(start, stop) if low[i] <= below or high[i] >= above]
    first = PriceIndex(low, high).first_touch(below, above, start, stop)
    assert first == (reached[0] if reached else stop)


def test_first_touch_in_a_long_series() -> None:
    low = np.full(300_000, 100.0)
    low[250_001] = 50.0
    index = PriceIndex(low, low + 1)
    assert index.first_touch(50.0, np.inf, 3, 300_000) == 250_001
    assert index.first_touch(50.0, np.inf, 250_002, 300_000) == 300_000
    assert index.first_touch(50.0, np.inf, 3, 250_001) == 250_001
    assert index.first_touch(-np.inf, 102.0, 0, 300_000) == 300_000


def test_recent_volume_is_the_exact_sum_of_the_last_sixty_of_a_granularity() -> None:
    minutes = {f"t{minute}": 0.1 for minute in range(60, 180)}
    merged = Candles.merge([flat("X", "1m", **minutes), flat("X", "1h", t0=7.0, t180=8.0)])
    assert merged.recent_volume(100, MINUTE) == RecentVolume(Decimal("6.0"), 60)
    assert merged.recent_volume(11, MINUTE) == RecentVolume(Decimal("1.0"), 10)
    assert merged.recent_volume(100, HOUR) == RecentVolume(Decimal("7.0"), 1)
    assert merged.recent_volume(0, MINUTE) is None


def test_no_volume_yet_is_told_from_none_lately() -> None:
    candles = Candles(**(GOOD | {"volume": [0.0, 2.0, 0.0]}))
    assert candles.recent_volume(1, MINUTE) is None
    assert candles.recent_volume(2, MINUTE) == RecentVolume(Decimal("2.0"), 2)
    assert Candles(**(GOOD | {"volume": None})).recent_volume(3, MINUTE) is None


def test_enormous_volumes_are_refused_and_large_ones_add_up() -> None:
    with pytest.raises(InvalidCandles, match="1e24"):
        Candles(**(GOOD | {"volume": [1.0, 1e25, 1.0]}))
    large = Candles(**(GOOD | {"volume": [1e24, 0.1, 1e24]}))
    assert large.recent_volume(3, MINUTE) == RecentVolume(
        Decimal("2" + "0" * 24) + Decimal("0.1"), 3
    )


@given(st.integers(1, 10**16), st.integers(0, 16))
def test_triggers_become_exactly_the_floats_that_reach_them(units: int, digits: int) -> None:
    trigger = Decimal(f"{units}e-{digits}")
    below, above = largest_float_up_to(trigger), smallest_float_from(trigger)
    assert decimal_of(below) <= trigger < decimal_of(math.nextafter(below, math.inf))
    assert decimal_of(math.nextafter(above, -math.inf)) < trigger <= decimal_of(above)


def test_floats_do_not_depend_on_how_units_are_kept() -> None:
    units = [2**53 + 1, 123_456_789_012_345_678, -7, 0]
    expected = [value / 10**8 for value in units]
    assert as_floats(np.array(units), 8).tolist() == expected
    assert as_floats(np.array(units, dtype=object), 8).tolist() == expected


def test_candles_are_freed_as_soon_as_nobody_uses_them() -> None:
    candles = minutes("A", 1.0, 2.0)
    candles.prepare()
    candles.fingerprint(2 * MINUTE)
    reference = weakref.ref(candles)
    gc.disable()
    try:
        del candles
        assert reference() is None
    finally:
        gc.enable()
