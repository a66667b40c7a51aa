"""Digests of the days that a session can read: of its candles alone, however they came in."""

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from candlestep.data.imports.importer import import_candles
from candlestep.data.imports.storing.changes import latest_import
from candlestep.data.imports.storing.removal import remove_candles
from candlestep.data.imports.validation import CandleColumns
from candlestep.data.market import day_fingerprints as module
from candlestep.data.market.candle_cache import CandleRequest
from candlestep.data.market.day_fingerprints import day_fingerprints
from candlestep.data.store.database import Store
from candlestep.data.symbols import parse_symbol
from candlestep.sandbox.clock import DAY, HOUR, MINUTE

START = 1_704_067_200_000  # 2024-01-01


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(tmp_path)
    yield store
    store.close()


def add(
    store: Store, day: int, *, days: int = 1, interval: int = HOUR, price: float = 5.0,
    symbol: str = "BTCUSDT", phase: int = 0,
) -> None:  # fmt: skip
    times = np.arange(START + day * DAY + phase, START + (day + days) * DAY, interval)
    columns = [np.full(len(times), price) for _ in range(5)]
    import_candles(
        store, CandleColumns(times, *columns), parse_symbol(symbol), interval, source="test"
    )


def request(
    store: Store, end: int = 5 * DAY, symbols: tuple[str, ...] = ("BTCUSDT",)
) -> CandleRequest:
    return CandleRequest("binance", symbols, latest_import(store), START, START + end, 0)


def days(store: Store, **changes: object) -> dict[str, dict[str, str]]:
    found = day_fingerprints(store, request(store, **changes))  # type: ignore[arg-type]
    assert found is not None
    return found


def by_hand(day: int, price: float = 5.0, interval: int = HOUR) -> bytes:
    """The oracle: open times, completions, prices and volume as numbers of 64 bits."""
    times = np.arange(START + day * DAY, START + (day + 1) * DAY, interval, dtype="<i8")
    numbers = np.full(len(times), price, dtype="<f8").tobytes() * 5
    return sha256(times.tobytes() + (times + interval).tobytes() + numbers).digest()


def test_a_day_has_the_digest_of_its_candles(store: Store) -> None:
    add(store, 0, days=3)
    add(store, 1, price=6.0)
    assert days(store) == {
        "BTCUSDT": {
            "2024-01-01": by_hand(0).hex()[:16],
            "2024-01-02": by_hand(1, 6.0).hex()[:16],
            "2024-01-03": by_hand(2).hex()[:16],
        }
    }


def test_only_whole_days_up_to_the_end_count(store: Store) -> None:
    add(store, 0, days=3)
    assert list(days(store, end=2 * DAY)["BTCUSDT"]) == ["2024-01-01", "2024-01-02"]
    assert list(days(store, end=2 * DAY - MINUTE)["BTCUSDT"]) == ["2024-01-01"]


@pytest.mark.parametrize("is_stored", [True, False])
def test_a_candle_that_is_not_complete_at_the_end_counts_to_no_day(
    store: Store, is_stored: bool
) -> None:
    add(store, 0, days=4, interval=DAY, phase=16 * HOUR)
    add(store, 0, days=14, interval=7 * DAY, symbol="ETHUSDT")
    add(store, 0, days=4, phase=HOUR // 2, symbol="XRPUSDT")
    if not is_stored:
        with store.transaction("candles"):
            store.execute("DELETE FROM day_digests")
    symbols = ("BTCUSDT", "ETHUSDT", "XRPUSDT")
    found = days(store, end=2 * DAY, symbols=symbols)
    assert {symbol: list(digests) for symbol, digests in found.items()} == {
        "BTCUSDT": ["2024-01-01"],
        "XRPUSDT": ["2024-01-01", "2024-01-02"],
    }
    later = days(store, end=2 * DAY + HOUR // 2, symbols=symbols)
    assert later["XRPUSDT"]["2024-01-01"] == found["XRPUSDT"]["2024-01-01"]
    assert later["XRPUSDT"]["2024-01-02"] != found["XRPUSDT"]["2024-01-02"]
    add(store, 1, interval=DAY, phase=16 * HOUR, price=9.0)
    add(store, 0, days=7, interval=7 * DAY, price=9.0, symbol="ETHUSDT")
    assert days(store, end=2 * DAY, symbols=symbols) == found
    whole = days(store, end=7 * DAY, symbols=symbols)
    assert (list(whole["BTCUSDT"]), list(whole["ETHUSDT"])) == (
        ["2024-01-01", "2024-01-02", "2024-01-03", "2024-01-04"],
        ["2024-01-01"],
    )


def test_an_earlier_import_keeps_its_days(store: Store) -> None:
    add(store, 0, days=2)
    before, expected = request(store), days(store)
    add(store, 1, price=7.0)
    assert days(store) != expected
    assert day_fingerprints(store, before) == expected


def test_a_day_whose_candles_were_removed_has_none(store: Store) -> None:
    add(store, 0, days=2)
    remove_candles(store, "BTCUSDT", start=START, end=START + DAY)
    assert list(days(store)["BTCUSDT"]) == ["2024-01-02"]


def test_candles_of_two_intervals_have_one_digest_a_day(store: Store) -> None:
    add(store, 0, days=2)
    add(store, 0, interval=MINUTE)
    both = sha256(by_hand(0, interval=MINUTE) + by_hand(0)).hexdigest()[:16]
    assert list(days(store)["BTCUSDT"].values()) == [both, by_hand(1).hex()[:16]]


def test_a_store_of_an_earlier_version_has_the_same_digests(store: Store) -> None:
    add(store, 0, days=3)
    add(store, 1, price=6.0)
    expected = days(store)
    with store.transaction("candles"):
        store.execute("DELETE FROM day_digests")
    assert days(store) == expected


def test_a_recording_does_not_carry_too_many(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    add(store, 0, days=2)
    add(store, 0, days=2, symbol="ETHUSDT")
    of_both = request(store, symbols=("BTCUSDT", "ETHUSDT"))
    monkeypatch.setattr(module, "MOST_DIGESTS", 10)
    assert day_fingerprints(store, of_both) is not None
    monkeypatch.setattr(module, "MOST_DIGESTS", 9)
    assert day_fingerprints(store, of_both) is None
