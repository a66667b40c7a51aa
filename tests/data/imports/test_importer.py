"""Imports: all or nothing, numbered, and without any change of the market as of earlier."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candlestep.data.errors import BadRows, MarketPruned, UnreadableFile
from candlestep.data.imports.importer import ImportSummary, import_file
from candlestep.data.imports.reading import ImportOptions
from candlestep.data.imports.storing.changes import find_gaps, latest_import
from candlestep.data.imports.storing.removal import prune, remove_candles
from candlestep.data.market.candle_cache import CandleCache, CandleRequest
from candlestep.data.market.catalogue import Catalogue
from candlestep.data.store.database import Store
from candlestep.sandbox import InvalidParameter, InvalidSymbol, NoPrice, SymbolNotFound
from tests.support.candle_files import MINUTE, START, Row, csv_text, real_file, rows, write

DAY = 1440 * MINUTE


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(tmp_path / "home")
    yield store
    store.close()


def import_rows(
    store: Store, tmp_path: Path, candles: list[Row], name: str = "BTCUSDT-1m.csv"
) -> ImportSummary:
    return import_file(store, write(tmp_path / name, csv_text(candles)))[0]


def market(store: Store, as_of: int, symbol: str = "BTCUSDT") -> list[Row]:
    loaded = CandleCache(store, 1 << 40).candles(
        CandleRequest("binance", [symbol], as_of, START, START + 3 * DAY, look_back=0)
    )
    if symbol not in loaded:
        return []
    candles = loaded[symbol]
    columns = (
        candles.open_time,
        candles.open,
        candles.high,
        candles.low,
        candles.close,
        candles.volume,
    )
    return list(zip(*(column.tolist() for column in columns), strict=True))


def fingerprint(store: Store) -> list[tuple[object, ...]]:
    tables = ("instruments", "imports", "candles", "gaps")
    return [row for table in tables for row in store.rows(f"FROM {table} ORDER BY ALL")]


def test_summary(store: Store, tmp_path: Path) -> None:
    candles = rows(100)
    del candles[10:15]
    summary = import_rows(store, tmp_path, candles)
    assert replace(summary, taken=None) == ImportSummary(
        exchange="binance", symbol="BTCUSDT", interval=MINUTE, rows=95, new=95, replaced=0,
        unchanged=0, start=START, end=START + 100 * MINUTE,
        gaps=((START + 10 * MINUTE, START + 15 * MINUTE),), import_number=1,
    )  # fmt: skip
    assert market(store, 1) == candles


def test_the_same_file_twice_changes_nothing(store: Store, tmp_path: Path) -> None:
    import_rows(store, tmp_path, rows(100))
    before = fingerprint(store)
    again = import_rows(store, tmp_path, rows(100), "btc_usdt-1m-other-name.csv.gz")
    assert (again.import_number, again.new, again.replaced, again.unchanged) == (None, 0, 0, 100)
    assert fingerprint(store) == before


def test_overlapping_files_leave_the_market_as_it_was(store: Store, tmp_path: Path) -> None:
    first, second = rows(100), rows(100, START + 50 * MINUTE, price=200.0)
    second[0] = first[50]
    import_rows(store, tmp_path, first)
    summary = import_rows(store, tmp_path, second)
    assert (summary.new, summary.replaced, summary.unchanged) == (50, 49, 1)
    assert summary.import_number == 2
    assert market(store, 1) == first
    assert market(store, 2) == market(store, 99) == first[:50] + second
    assert market(store, 0) == []


def test_going_back_to_earlier_values_is_a_change_like_any_other(
    store: Store, tmp_path: Path
) -> None:
    for price in (100.0, 200.0, 100.0):
        import_rows(store, tmp_path, rows(10, price=price))
    assert market(store, 1) == market(store, 3) == rows(10)
    assert market(store, 2) == rows(10, price=200.0)


def test_gaps_are_those_of_the_whole_series(store: Store, tmp_path: Path) -> None:
    first, hole, last = rows(10), rows(5, START + 10 * MINUTE), rows(10, START + 15 * MINUTE)
    assert import_rows(store, tmp_path, first).gaps == ()
    gap = (START + 10 * MINUTE, START + 15 * MINUTE)
    assert import_rows(store, tmp_path, last).gaps == (gap,)
    assert import_rows(store, tmp_path, hole).gaps == ()
    catalogue = Catalogue(store)
    assert [catalogue.series(n)[0].gaps for n in (1, 2, 3)] == [(), (gap,), ()]


def test_the_two_real_gaps_are_reported(store: Store) -> None:
    summary = import_file(store, real_file("BTCUSDT-1m-2021-03.csv.gz"))[0]
    assert (summary.rows, summary.new) == (50_000, 50_000)
    assert summary.gaps == (
        (1618884000000, 1618893000000),
        (1619323260000, 1619340300000),
    )
    assert Catalogue(store).data_range().data_gaps[0].symbol == "BTCUSDT"


def test_symbols_and_intervals_are_series_of_their_own(store: Store, tmp_path: Path) -> None:
    path = write(tmp_path / "candles.csv", csv_text(rows(30, interval=60 * MINUTE)))
    for symbol in ("BTC/USDT", "ETHUSDT"):
        assert import_file(store, path, ImportOptions(symbol=symbol))[0].interval == 60 * MINUTE
    import_file(store, path, ImportOptions(symbol="BTCUSDT"), exchange="kraken")
    import_rows(store, tmp_path, rows(30), "BTCUSDT-1m.csv")
    assert [(s.exchange, s.symbol, s.interval) for s in Catalogue(store).series()] == [
        ("binance", "BTCUSDT", MINUTE),
        ("binance", "BTCUSDT", 60 * MINUTE),
        ("binance", "ETHUSDT", 60 * MINUTE),
        ("kraken", "BTCUSDT", 60 * MINUTE),
    ]


def test_what_is_not_known_must_be_given(store: Store, tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match="--symbol"):
        import_rows(store, tmp_path, rows(30), "candles.csv")
    with pytest.raises(UnreadableFile, match="--interval"):
        import_rows(store, tmp_path, rows(1), "BTCUSDT.csv")
    assert fingerprint(store) == []


def test_a_bad_row_changes_nothing(store: Store, tmp_path: Path) -> None:
    import_rows(store, tmp_path, rows(10))
    before = fingerprint(store)
    bad = [*rows(20, price=200.0), (START + 20 * MINUTE, 1.0, 0.5, 2.0, 1.0, 1.0)]
    with pytest.raises(BadRows, match="line 22"):
        import_rows(store, tmp_path, bad)
    assert fingerprint(store) == before


def test_numbers_count_up_over_all_series(store: Store, tmp_path: Path) -> None:
    assert latest_import(store) == 0
    for number, name in enumerate(("BTCUSDT-1m.csv", "ETHUSDT-1m.csv", "SOLUSDT-1m.csv"), 1):
        assert import_rows(store, tmp_path, rows(10), name).import_number == number
        assert latest_import(store) == number


def test_the_shell_finds_the_current_candles(store: Store, tmp_path: Path) -> None:
    import_rows(store, tmp_path, rows(10))
    import_rows(store, tmp_path, rows(10, price=200.0))
    current = store.rows(
        "SELECT symbol, count(*), min(open), max(import_number) FROM current_candles GROUP BY ALL"
    )
    assert current == [("BTCUSDT", 10, 200.0, 2)]


@settings(max_examples=12, deadline=None)
@given(
    imports=st.lists(
        st.tuples(st.integers(0, 30), st.integers(1, 30), st.sampled_from([100.0, 200.0])),
        min_size=1,
        max_size=6,
    ),
    data=st.data(),
)
def test_every_market_as_of_a_pinned_number_stays_what_it_was(
    tmp_path_factory: pytest.TempPathFactory,
    imports: list[tuple[int, int, float]],
    data: st.DataObject,
) -> None:
    """The model is a dict per import number. Pruning may only drop what no pin needs."""
    tmp_path = tmp_path_factory.mktemp("imports")
    store = Store.open(tmp_path)
    try:
        markets: dict[int, dict[int, Row]] = {0: {}}
        for start, count, price in imports:
            candles = rows(count, START + start * MINUTE, price=price)
            current = markets[max(markets)] | {row[0]: row for row in candles}
            number = import_rows(store, tmp_path, candles).import_number
            assert (number is None) == (current == markets[max(markets)])
            if number is not None:
                markets[number] = current
        for number, expected in markets.items():
            assert market(store, number) == [expected[time] for time in sorted(expected)]
        pinned = data.draw(st.sets(st.sampled_from(sorted(markets))))
        prune(store, pinned)
        for number in {*pinned, max(markets)}:
            expected = markets[number]
            assert market(store, number) == [expected[time] for time in sorted(expected)]
        for number, expected in markets.items():
            with suppress(MarketPruned):
                assert market(store, number) == [expected[time] for time in sorted(expected)]
        assert prune(store, pinned) == 0
    finally:
        store.close()


def test_prune_drops_what_nothing_pins(store: Store, tmp_path: Path) -> None:
    for price in (100.0, 200.0, 300.0, 400.0):
        import_rows(store, tmp_path, rows(10, price=price))
    import_rows(store, tmp_path, rows(10), "ETHUSDT-1m.csv")
    assert prune(store, [2]) == 20
    assert market(store, 2) == rows(10, price=200.0)
    assert market(store, 5) == rows(10, price=400.0)
    assert market(store, 5, "ETHUSDT") == rows(10)
    for number in (1, 3):
        with pytest.raises(MarketPruned):
            market(store, number)
    assert store.rows("SELECT count(*) FROM candles") == [(30,)]


@settings(max_examples=12, deadline=None)
@given(
    kept=st.sets(st.integers(0, 40)),
    period=st.tuples(st.integers(-2, 42), st.integers(1, 45)),
    is_pinned=st.booleans(),
)
def test_removed_and_imported_again_is_as_never_removed(
    tmp_path_factory: pytest.TempPathFactory,
    kept: set[int],
    period: tuple[int, int],
    is_pinned: bool,
) -> None:
    """The model is a list of rows; the catalogue must describe what is left of it."""
    tmp_path = tmp_path_factory.mktemp("removals")
    store = Store.open(tmp_path)
    try:
        candles = [row for row in rows(41) if (row[0] - START) // MINUTE in kept | {0, 1}]
        import_rows(store, tmp_path, candles)
        before = described(store)
        start, end = (START + minute * MINUTE for minute in (period[0], sum(period)))
        gone = [row for row in candles if start <= row[0] < end]
        left = [row for row in candles if row not in gone]
        if gone:
            [removal] = remove_candles(store, "btc/usdt", start=start, end=end)
            assert (removal.rows, removal.rows_left) == (len(gone), len(left))
            assert (removal.start, removal.end) == (gone[0][0], gone[-1][0] + MINUTE)
            assert removal.import_number == latest_import(store) == 2
        else:
            with pytest.raises(NoPrice, match="no such candles"):
                remove_candles(store, "BTCUSDT", start=start, end=end)
        assert market(store, latest_import(store)) == left
        assert described(store) == ([description(left)] if left else [])
        assert market(store, 1) == candles
        assert prune(store, [1] if is_pinned else []) == (0 if is_pinned else len(gone))
        import_rows(store, tmp_path, candles)
        assert market(store, latest_import(store)) == candles
        assert described(store) == before
    finally:
        store.close()


def described(store: Store) -> list[tuple[object, ...]]:
    """Return what the catalogue says of each series now."""
    return [
        (series.symbol, series.rows, series.start, series.end, series.gaps, series.synthetic)
        for series in Catalogue(store).series()
    ]


def description(candles: list[Row]) -> tuple[object, ...]:
    """Return what the catalogue has to say of a series of minutes."""
    times = [row[0] for row in candles]
    gaps = tuple(
        (first + MINUTE, second) for first, second in pairwise(times) if second - first > MINUTE
    )
    return "BTCUSDT", len(candles), times[0], times[-1] + MINUTE, gaps, False


def test_a_removal_names_its_series_and_leaves_the_others(store: Store, tmp_path: Path) -> None:
    import_rows(store, tmp_path, rows(10))
    import_rows(store, tmp_path, rows(4, interval=60 * MINUTE), "BTCUSDT-1h.csv")
    import_rows(store, tmp_path, rows(10), "ETHUSDT-1m.csv")
    [hours] = remove_candles(store, "BTCUSDT", interval=60 * MINUTE)
    assert (hours.rows, hours.rows_left, hours.import_number) == (4, 0, 4)
    assert [(series.symbol, series.rows) for series in Catalogue(store).series()] == [
        ("BTCUSDT", 10),
        ("ETHUSDT", 10),
    ]
    import_rows(store, tmp_path, rows(4, interval=60 * MINUTE), "BTCUSDT-1h.csv")
    both = remove_candles(store, "BTCUSDT", start=START + 5 * MINUTE)
    assert [(one.interval, one.rows, one.import_number) for one in both] == [
        (MINUTE, 5, 6),
        (60 * MINUTE, 3, 7),
    ]


def test_a_removal_that_removes_nothing_is_refused(store: Store, tmp_path: Path) -> None:
    import_rows(store, tmp_path, rows(10))
    with pytest.raises(SymbolNotFound, match="data list"):
        remove_candles(store, "ETHUSDT")
    with pytest.raises(SymbolNotFound):
        remove_candles(store, "BTCUSDT", exchange="kraken")
    with pytest.raises(NoPrice):
        remove_candles(store, "BTCUSDT", interval=60 * MINUTE)
    with pytest.raises(InvalidParameter, match="after"):
        remove_candles(store, "BTCUSDT", start=START, end=START)
    with pytest.raises(InvalidSymbol, match="perpetual"):
        remove_candles(store, "BTC/USD:BTC")
    assert latest_import(store) == 1
    remove_candles(store, "BTCUSDT")
    with pytest.raises(SymbolNotFound):
        remove_candles(store, "BTCUSDT")


def test_gaps_between_open_times() -> None:
    assert find_gaps(np.array([0, 1, 2, 5, 6, 9]) * MINUTE, MINUTE) == [
        (3 * MINUTE, 5 * MINUTE),
        (7 * MINUTE, 9 * MINUTE),
    ]


KILLED = """
import os, signal, sys
from candlestep.data.imports.importer import import_file
from candlestep.data.imports.storing.row_tables import RowTable
from candlestep.data.store.database import Store
store = Store.open(sys.argv[1])
insert = RowTable._insert
def insert_and_die(*args):
    insert(*args)
    assert store.rows("SELECT count(*) FROM candles")[0][0] > 100
    os.kill(os.getpid(), signal.SIGKILL)
RowTable._insert = insert_and_die
import_file(store, sys.argv[2])
"""
KILLED_REMOVAL = """
import os, signal, sys
from candlestep.data.imports.storing import removal
from candlestep.data.store.database import Store
store = Store.open(sys.argv[1])
record = removal.record_candles
def record_and_die(*args):
    record(*args)
    left = "SELECT count(*) FROM candles WHERE superseded_by IS NULL"
    assert store.rows(left)[0][0] == 0
    os.kill(os.getpid(), signal.SIGKILL)
removal.record_candles = record_and_die
removal.remove_candles(store, "BTCUSDT")
"""


def test_killed_half_way_leaves_the_store_as_it_was(tmp_path: Path) -> None:
    home = tmp_path / "home"
    store = Store.open(home)
    import_rows(store, tmp_path, rows(100))
    before = fingerprint(store)
    store.close()
    many = write(tmp_path / "BTCUSDT-1m-more.csv", csv_text(rows(40_000, price=150.0)))
    killed = subprocess.run([sys.executable, "-c", KILLED, home, many], check=False)
    assert killed.returncode == -9
    store = Store.open(home)
    try:
        assert fingerprint(store) == before
        assert import_file(store, many)[0].import_number == 2
    finally:
        store.close()


def test_a_removal_that_is_killed_leaves_the_store_as_it_was(tmp_path: Path) -> None:
    home = tmp_path / "home"
    store = Store.open(home)
    import_rows(store, tmp_path, rows(100))
    before = fingerprint(store)
    store.close()
    killed = subprocess.run([sys.executable, "-c", KILLED_REMOVAL, home], check=False)
    assert killed.returncode == -9
    store = Store.open(home)
    try:
        assert fingerprint(store) == before
        assert remove_candles(store, "BTCUSDT")[0].import_number == 2
    finally:
        store.close()


def test_a_copy_under_another_name_changes_nothing(store: Store, tmp_path: Path) -> None:
    path = write(tmp_path / "BTCUSDT-1m.csv", csv_text(rows(60_000)))
    assert import_file(store, path)[0].new == 60_000
    assert import_file(store, path)[0].unchanged == 60_000
    copy = shutil.copy(path, tmp_path / "BTCUSDT-1m-copy.csv")
    assert import_file(store, copy)[0].import_number is None
