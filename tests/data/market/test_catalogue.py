"""The catalogue: the series that it lists, and the gaps that it reports."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candlestep.data.imports.importer import find_gaps, import_file
from candlestep.data.market.catalogue import (
    Catalogue,
    DataRange,
    Gap,
    Series,
    has_candle,
    merged_gaps,
)
from candlestep.data.store.database import Store
from candlestep.sandbox import INTERVALS, Candles
from tests.support.candle_files import MINUTE, START, csv_text, rows, write

HOUR = 60 * MINUTE
DAY = 24 * HOUR


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(tmp_path / "home")
    yield store
    store.close()


def series(interval: int, opens: Sequence[int]) -> Series:
    times = np.array(opens, dtype=np.int64)
    gaps = tuple(find_gaps(times, interval))
    start, end = int(times[0]), int(times[-1]) + interval
    return Series("x", "AB", "A", "B", interval, start, end, len(times), gaps, 1, False)


def candles(interval: int, opens: Sequence[int]) -> Candles:
    ones = np.ones(len(opens))
    return Candles(
        symbol="AB", interval=interval // 1000, open_time=np.array(opens, dtype=np.int64),
        open=ones, high=ones, low=ones, close=ones,
    )  # fmt: skip


def pairs(catalogue: Catalogue, start: int, end: int) -> list[str]:
    """Return the symbols that have a candle between two times, sorted."""
    return sorted(
        {series.symbol for series in catalogue.series() if has_candle(series, start, end)}
    )


def test_nothing_there(store: Store) -> None:
    catalogue = Catalogue(store)
    assert catalogue.series() == ()
    assert catalogue.data_range() == DataRange(None, None, 0, (), ())


def test_series_and_range(store: Store, tmp_path: Path) -> None:
    minutes = rows(60, START + DAY)
    del minutes[20:30]
    import_file(store, write(tmp_path / "BTCUSDT-1m.csv", csv_text(minutes)))
    import_file(store, write(tmp_path / "BTCUSDT-1h.csv", csv_text(rows(24, interval=HOUR))))
    import_file(store, write(tmp_path / "ETHBTC-1h.csv", csv_text(rows(2, interval=HOUR))))
    catalogue = Catalogue(store)
    gap = (START + DAY + 20 * MINUTE, START + DAY + 30 * MINUTE)
    start, end = START + DAY, START + DAY + HOUR
    assert catalogue.series() == (
        Series("binance", "BTCUSDT", "BTC", "USDT", MINUTE, start, end, 50, (gap,), 1, False),
        Series("binance", "BTCUSDT", "BTC", "USDT", HOUR, START, START + DAY, 24, (), 2, False),
        Series("binance", "ETHBTC", "ETH", "BTC", HOUR, START, START + 2 * HOUR, 2, (), 3, False),
    )
    assert catalogue.data_range() == DataRange(
        earliest=START,
        latest=end - 1000,
        total_pairs=2,
        intervals_available=("1m", "5m", "15m", "1h", "4h", "1d"),
        data_gaps=(Gap("binance", "BTCUSDT", *gap),),
    )
    assert catalogue.data_range(2).total_pairs == 1
    assert len(catalogue.series(1)) == 1
    assert pairs(catalogue, START, START + HOUR) == ["BTCUSDT", "ETHBTC"]
    assert pairs(catalogue, START + 2 * HOUR, START + 3 * HOUR) == ["BTCUSDT"]


def test_a_range_that_lies_in_a_gap_has_no_pairs(store: Store, tmp_path: Path) -> None:
    candles = rows(60)
    del candles[20:30]
    import_file(store, write(tmp_path / "BTCUSDT-1m.csv", csv_text(candles)))
    catalogue = Catalogue(store)
    inside = START + 20 * MINUTE, START + 30 * MINUTE
    assert pairs(catalogue, *inside) == []
    assert pairs(catalogue, inside[0], inside[1] + 1) == ["BTCUSDT"]


def test_only_coarse_data_has_only_coarse_intervals(store: Store, tmp_path: Path) -> None:
    import_file(store, write(tmp_path / "BTCUSDT-1h.csv", csv_text(rows(24, interval=HOUR))))
    assert Catalogue(store).data_range().intervals_available == ("1h", "4h", "1d")


def test_answers_are_kept_per_import(store: Store, tmp_path: Path) -> None:
    catalogue = Catalogue(store)
    for number in range(1, 12):
        price = 100.0 + number
        import_file(store, write(tmp_path / "BTCUSDT-1m.csv", csv_text(rows(9, price=price))))
        assert catalogue.series()[0].import_number == number
        assert catalogue.series() is catalogue.series(number)
        assert catalogue.data_range() is catalogue.data_range(number)


def test_a_coarse_candle_covers_a_hole_only_as_a_whole() -> None:
    minutes = [*range(0, 90 * MINUTE, MINUTE), *range(4 * HOUR, 5 * HOUR, MINUTE)]
    hours = range(0, 5 * HOUR, HOUR)
    both = [series(MINUTE, minutes), series(HOUR, hours)]
    assert merged_gaps(both) == [(90 * MINUTE, 2 * HOUR)]
    assert merged_gaps(both[:1]) == [(90 * MINUTE, 4 * HOUR)]
    assert merged_gaps(both[1:]) == []


@settings(max_examples=200, deadline=None)
@given(
    st.sets(st.integers(0, 400), min_size=1, max_size=60),
    st.sets(st.integers(0, 26), min_size=1, max_size=20),
    st.sets(st.integers(0, 6), min_size=1, max_size=6),
)
def test_holes_are_what_the_merged_time_line_leaves_open(
    fine: set[int], middle: set[int], coarse: set[int]
) -> None:
    """The exchange merges the same candles, so it leaves the same gaps."""
    lines = {
        interval: sorted(number * interval for number in numbers)
        for interval, numbers in zip(
            (INTERVALS["1m"], INTERVALS["15m"], INTERVALS["1h"]),
            (fine, middle, coarse),
            strict=True,
        )
    }
    merged = Candles.merge([candles(interval, opens) for interval, opens in lines.items()])
    covered_periods = list(
        zip(merged.open_time.tolist(), merged.complete_time.tolist(), strict=True)
    )
    start = min(opens[0] for opens in lines.values())
    end = max(opens[-1] + interval for interval, opens in lines.items())
    open_spans, reached = [], start
    for open_time, complete_time in covered_periods:
        if open_time > reached:
            open_spans.append((reached, open_time))
        reached = max(reached, complete_time)
    if reached < end:
        open_spans.append((reached, end))
    assert merged_gaps([series(interval, opens) for interval, opens in lines.items()]) == open_spans
