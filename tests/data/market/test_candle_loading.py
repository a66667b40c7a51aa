"""Candles read for many symbols at once: those of each symbol alone, as of any import."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candlestep.data.imports.importer import import_candles
from candlestep.data.imports.storing.changes import latest_import
from candlestep.data.imports.storing.day_digests import read_day_digests
from candlestep.data.imports.storing.removal import remove_candles
from candlestep.data.imports.validation import CandleColumns
from candlestep.data.market.candle_cache import CandleCache, CandleRequest
from candlestep.data.market.candle_loading import (
    Period,
    count_candles,
    instrument_ids,
    load_candles,
)
from candlestep.data.store.database import Store
from candlestep.data.symbols import parse_symbol
from candlestep.sandbox import Candles, SandboxError
from candlestep.sandbox.clock import DAY, HOUR, MINUTE
from candlestep.sandbox.market.candles import COLUMNS

START = 1_704_067_200_000  # 2024-01-01
SYMBOLS = ("AAAUSDT", "BBBUSDT", "CCCUSDT")
CHANGES = st.lists(
    st.tuples(
        st.sampled_from(SYMBOLS),
        st.sampled_from((HOUR, 4 * HOUR)),
        st.integers(0, 60),
        st.integers(1, 30),
        st.sampled_from((1.0, 2.0, 3.5)),
        st.booleans(),
    ),
    min_size=1,
    max_size=6,
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(tmp_path)
    yield store
    store.close()


def add(store: Store, symbol: str, interval: int, times: list[int], price: float) -> None:
    numbers = np.full(len(times), price)
    import_candles(
        store,
        CandleColumns(np.array(times, dtype=np.int64), *[numbers] * 5),
        parse_symbol(symbol),
        interval,
        source="test",
    )


def stored_rows(store: Store, symbol: str, as_of: int) -> list[tuple[Any, ...]]:
    """Return the candles of a symbol as of an import, by interval and time, by a plain query."""
    return store.rows(
        "SELECT interval_seconds, epoch_ms(open_time), open, high, low, close, volume FROM candles"
        " JOIN instruments USING (instrument_id) WHERE symbol = ? AND import_number <= ?"
        " AND (superseded_by IS NULL OR superseded_by > ?) ORDER BY ALL",
        symbol, as_of, as_of,
    )  # fmt: skip


def merged(symbol: str, rows: list[tuple[Any, ...]]) -> Candles:
    """Return candles that are checked and merged, and know no digests."""
    names = ("open_time", "open", "high", "low", "close", "volume")
    return Candles.merge(
        [
            Candles(
                symbol=symbol,
                interval=seconds,
                **dict(
                    zip(
                        names,
                        zip(*[row[1:] for row in rows if row[0] == seconds], strict=True),
                        strict=True,
                    )
                ),
            )
            for seconds in sorted({row[0] for row in rows})
        ]
    )


@given(CHANGES, st.integers(1, 40))
@settings(max_examples=12)
def test_any_changes_of_any_symbols_are_read_as_of_each(
    changes: list[tuple[str, int, int, int, float, bool]], portion: int
) -> None:
    with TemporaryDirectory() as home:
        store = Store.open(home)
        for symbol, interval, first, count, price, removes in changes:
            times = [START + (first + row) * interval for row in range(count)]
            if removes:
                with suppress(SandboxError):
                    remove_candles(store, symbol, start=times[0], end=times[-1] + 1)
            else:
                add(store, symbol, interval, times, price)
        symbols = instrument_ids(store, "binance", SYMBOLS)
        for number in range(1, latest_import(store) + 1):
            period = Period(number, START, START + 31 * DAY)
            counts = count_candles(store, list(symbols), period)
            wanted = {instrument_id: symbols[instrument_id] for instrument_id in counts}
            read = load_candles(store, wanted, counts, period, portion)
            loaded = {candles.symbol: candles for candles in read}
            rows = {symbol: stored_rows(store, symbol, number) for symbol in SYMBOLS}
            expected = {symbol: merged(symbol, rows[symbol]) for symbol in SYMBOLS if rows[symbol]}
            assert loaded.keys() == expected.keys()
            for symbol, candles in expected.items():
                for name in COLUMNS:
                    assert np.array_equal(getattr(loaded[symbol], name), getattr(candles, name))
                assert loaded[symbol].first_open == candles.first_open
                for end in (START + 5 * HOUR, START + DAY, START + 31 * DAY):
                    assert loaded[symbol].fingerprint(end) == candles.fingerprint(end)
        store.close()


def test_digests_of_whole_days_come_from_the_store(store: Store) -> None:
    add(store, "AAAUSDT", HOUR, [START + row * HOUR for row in range(60)], 1.0)
    add(store, "AAAUSDT", HOUR, [START + 30 * HOUR], 2.0)
    first, second = (
        read_day_digests(store, [1], number, START, START + 31 * DAY) for number in (1, 2)
    )
    days = [START // DAY + day for day in range(3)]
    assert list(first[1, 3600]) == list(second[1, 3600]) == days
    changed = [day for day in days if first[1, 3600][day] != second[1, 3600][day]]
    assert changed == [days[1]]
    with store.transaction("candles"):
        store.execute("UPDATE day_digests SET digest = 'other'::BLOB WHERE day = ?", days[0])
    request = CandleRequest("binance", ["AAAUSDT"], 2, START, START + DAY)
    candles = CandleCache(store, 1 << 30).candles(request)["AAAUSDT"]
    known = Candles.restore(candles.arrays)
    assert candles.fingerprint(START + 31 * DAY) != known.fingerprint(START + 31 * DAY)
    assert candles.fingerprint(START + 5 * HOUR) == known.fingerprint(START + 5 * HOUR)


def test_without_stored_digests_they_are_computed(store: Store) -> None:
    add(store, "AAAUSDT", HOUR, [START + row * HOUR for row in range(60)], 1.0)
    request = CandleRequest("binance", ["AAAUSDT"], 1, START, START + DAY)
    candles = CandleCache(store, 1 << 30).candles(request)["AAAUSDT"]
    with store.transaction("candles"):
        store.execute("DELETE FROM day_digests WHERE day = ?", START // DAY + 1)
    old = CandleCache(store, 1 << 30).candles(request)["AAAUSDT"]
    assert old.fingerprint(START + 31 * DAY) == candles.fingerprint(START + 31 * DAY)


def test_symbols_with_the_same_times_share_them(store: Store) -> None:
    times = [START + row * MINUTE for row in range(3)]
    for symbol in SYMBOLS[:2]:
        add(store, symbol, MINUTE, times, 1.0)
    add(store, SYMBOLS[2], MINUTE, [times[0], times[1] + 5 * MINUTE, times[2] + 9 * MINUTE], 1.0)
    request = CandleRequest("binance", SYMBOLS, 9, START, START + DAY)
    first, second, third = CandleCache(store, 1 << 30).candles(request).values()
    assert first.open_time is second.open_time
    assert first.completes_with(second)
    assert not first.completes_with(third)
    assert first.close.base is None
    assert not np.shares_memory(first.close, second.close)
