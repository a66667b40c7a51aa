"""The catalogue: the series that it lists, and the gaps that it reports."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candlestep.data.imports.importer import import_file
from candlestep.data.imports.storing.changes import find_gaps
from candlestep.data.market.catalogue import (
    Catalogue,
    DataRange,
    Gap,
    Series,
    by_symbol,
    covered_periods,
    has_candle,
    merged_gaps,
    straddling_interval,
)
from candlestep.data.market.time_line import makes, time_line
from candlestep.data.store.database import Store
from candlestep.sandbox import INTERVALS, Candles, InvalidParameter
from candlestep.sandbox.clock import bucket_start
from candlestep.sandbox.indicators.bars import aggregate_bars
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
    groups = by_symbol(catalogue.series())
    return sorted(symbol for (_, symbol), group in groups.items() if has_candle(group, start, end))


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
        intervals_available=tuple(INTERVALS),
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
    assert Catalogue(store).data_range().intervals_available == (
        "1h", "2h", "4h", "6h", "8h", "12h", "1d", "1w",
    )  # fmt: skip


def test_intervals_that_candles_straddle_are_not_available(store: Store, tmp_path: Path) -> None:
    half_past = rows(48, START + 30 * MINUTE, interval=HOUR)
    import_file(store, write(tmp_path / "BTCUSDT-1h.csv", csv_text(half_past)))
    assert Catalogue(store).data_range().intervals_available == ("1h", "1w")
    import_file(
        store, write(tmp_path / "BTCUSDT-1d.csv", csv_text(rows(9, START + 9 * DAY, interval=DAY)))
    )
    catalogue = Catalogue(store)
    assert catalogue.data_range().intervals_available == ("1h", "1d", "1w")
    group = catalogue.series()
    assert covered_periods(group, DAY) == [(START + 9 * DAY, START + 18 * DAY)]
    assert straddling_interval(group, DAY, START, START + 5 * DAY) == HOUR
    assert straddling_interval(group, DAY, START + 9 * DAY, START + 18 * DAY) is None
    assert straddling_interval(group, HOUR, START, START + 5 * DAY) is None


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


@st.composite
def lines(draw: st.DrawFn) -> dict[int, list[int]]:
    """Draw the open times of one to three series, each with a phase that may change."""
    drawn = {}
    for name in draw(st.sampled_from(NAMES)):
        interval = INTERVALS[name]
        phases = st.sampled_from([0, 0, 0, 0, 1, 30, 90, 960])
        first, second = (draw(phases) * MINUTE % interval for _ in range(2))
        numbers = sorted(draw(st.sets(st.integers(0, 40), min_size=1, max_size=30)))
        begin = draw(st.integers(0, 20)) * interval + 3 * DAY
        half = len(numbers) // 2
        early = [begin + number * interval + first for number in numbers[:half]]
        late = [begin + number * interval + first + second for number in numbers[half:]]
        drawn[interval] = early + late
    return drawn


NAMES = [
    ("1m", "15m", "1h"), ("1m", "3m", "5m"), ("1h",), ("30m", "2h"), ("1h", "1d"), ("4h", "6h"),
    ("8h", "12h", "1w"), ("1d",), ("1d", "1w"), ("3m",),
]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(lines())
def test_the_time_line_is_that_of_the_merged_candles(opens: dict[int, list[int]]) -> None:
    """The exchange merges the same candles, so it leaves the same gaps."""
    merged = Candles.merge([candles(interval, times) for interval, times in opens.items()])
    group = [series(interval, times) for interval, times in opens.items()]
    members = list(zip(merged.open_time.tolist(), merged.complete_time.tolist(), strict=True))
    assert [
        (start, start + stretch.interval)
        for stretch in time_line(group)
        for start in range(stretch.start, stretch.end, stretch.interval)
    ] == members
    reached = min(times[0] for times in opens.values())
    end = max(times[-1] + interval for interval, times in opens.items())
    open_spans = []
    for open_time, complete_time in [*members, (end, end)]:
        if open_time > reached:
            open_spans.append((reached, open_time))
        reached = max(reached, complete_time)
    assert merged_gaps(group) == open_spans
    for start, stop in [(reached - DAY, reached), (members[0][0] - 1, members[0][0]), (0, end)]:
        assert has_candle(group, start, stop) == merged.has_any(start, stop)


@settings(max_examples=300, deadline=None)
@given(lines(), st.sampled_from(list(INTERVALS.values())))
def test_periods_are_those_of_the_candles_that_a_strategy_gets(
    opens: dict[int, list[int]], interval: int
) -> None:
    merged = Candles.merge([candles(length, times) for length, times in opens.items()])
    group = [series(length, times) for length, times in opens.items()]
    covered = [
        start for a, b in covered_periods(group, interval) for start in range(a, b, interval)
    ]
    lengths = merged.complete_time - merged.open_time
    is_used = lengths <= interval
    if not is_used.any():
        assert covered == []
        assert not makes(time_line(group), interval)
        return
    ends = bucket_start(merged.open_time, interval) + interval
    straddling = (lengths < interval) & (merged.complete_time > ends)
    end = int(merged.complete_time[is_used].max())
    if not straddling.any():
        completions = aggregate_bars(merged, interval).complete_time
        assert covered == [time - interval for time in completions.tolist() if time <= end]
        assert straddling_interval(group, interval, 0, end) is None
        assert makes(time_line(group), interval)
        return
    with pytest.raises(InvalidParameter, match="lies in two periods"):
        aggregate_bars(merged, interval)
    assert straddling_interval(group, interval, 0, end) in lengths[straddling].tolist()
    touched = {
        int(bucket_start(time, interval))
        for time in [*merged.open_time[straddling], *(merged.complete_time[straddling] - 1)]
    }
    assert not touched & set(covered)
