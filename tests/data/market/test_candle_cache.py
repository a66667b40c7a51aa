"""Candles in memory: shared, read-only, within the budget, the same whenever they are loaded."""

import gc
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from candlestep.data.errors import BudgetInUse, OverBudget
from candlestep.data.imports.importer import import_file
from candlestep.data.market.candle_cache import (
    BYTES_PER_CANDLE,
    LOOK_BACK,
    CandleCache,
    CandleRequest,
    month_start,
)
from candlestep.data.store.database import Store
from candlestep.sandbox import parse_time
from tests.support.candle_files import MINUTE, START, csv_text, real_file, rows, write

HOUR = 60 * MINUTE
DAY = 24 * HOUR
AMPLE = 1 << 40


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(tmp_path / "home")
    for symbol in ("BTCUSDT", "ETHUSDT", "SOLUSDT"):
        import_file(store, write(tmp_path / f"{symbol}-1m.csv", csv_text(rows(1000))))
    yield store
    store.close()


def size(candles: int) -> int:
    return candles * BYTES_PER_CANDLE


def test_sessions_over_the_same_months_share(store: Store) -> None:
    cache = CandleCache(store, AMPLE)
    candles = cache.candles(CandleRequest("binance", ["BTCUSDT"], 3, START, START + DAY))["BTCUSDT"]
    other = cache.candles(
        CandleRequest("binance", ["BTCUSDT", "ETHUSDT"], 99, START + HOUR, START + 2 * DAY)
    )
    assert other["BTCUSDT"] is candles
    assert list(other) == ["BTCUSDT", "ETHUSDT"]
    assert not candles.close.flags.writeable
    assert cache.bytes_in_memory() == size(2000)


def test_sessions_over_the_same_candles_share_their_market(store: Store) -> None:
    cache = CandleCache(store, AMPLE)
    request = CandleRequest("binance", ["BTCUSDT", "XRPUSDT"], 3, START, START + DAY)
    market = cache.market(request)
    assert market is not None
    assert market.symbols == ("BTCUSDT",)
    assert cache.market(request._replace(as_of=99, start=START + HOUR)) is market
    assert cache.market(request._replace(symbols=["BTCUSDT", "ETHUSDT"])) is not market
    assert cache.market(request._replace(symbols=["XRPUSDT"])) is None


def test_a_pair_without_candles_is_left_out(store: Store) -> None:
    cache = CandleCache(store, AMPLE)
    assert cache.candles(CandleRequest("binance", ["XRPUSDT"], 3, START, START + DAY)) == {}
    assert cache.candles(CandleRequest("kraken", ["BTCUSDT"], 3, START, START + DAY)) == {}
    assert cache.candles(CandleRequest("binance", ["BTCUSDT"], 0, START, START + DAY)) == {}
    later = START + 400 * DAY
    assert cache.candles(CandleRequest("binance", ["BTCUSDT"], 3, later, later + DAY)) == {}
    assert list(
        cache.candles(CandleRequest("binance", ["XRPUSDT", "ETHUSDT"], 3, START, START + DAY))
    ) == ["ETHUSDT"]


def test_granularities_are_merged(store: Store, tmp_path: Path) -> None:
    path = write(tmp_path / "BTCUSDT-1h.csv", csv_text(rows(48, interval=HOUR)))
    import_file(store, path)
    cache = CandleCache(store, AMPLE)
    merged = cache.candles(CandleRequest("binance", ["BTCUSDT"], 4, START, START + DAY))["BTCUSDT"]
    assert merged.intervals == (MINUTE, HOUR)
    assert len(merged) == 1000 + 48 - 17
    before = cache.candles(CandleRequest("binance", ["BTCUSDT"], 3, START, START + DAY))["BTCUSDT"]
    assert before.intervals == (MINUTE,)


def test_history_before_the_start_and_whole_months(store: Store, tmp_path: Path) -> None:
    days = rows(1200, START - 600 * DAY, interval=DAY)
    import_file(store, write(tmp_path / "XRPUSDT-1d.csv", csv_text(days)))
    cache = CandleCache(store, AMPLE)
    line = cache.candles(CandleRequest("binance", ["XRPUSDT"], 4, START + DAY, START + 2 * DAY))[
        "XRPUSDT"
    ]
    assert line.open_time[0] == parse_time("2023-11-01") == month_start(START + DAY - LOOK_BACK)
    assert line.complete_time[-1] == parse_time("2024-02-01")
    short = cache.candles(
        CandleRequest("binance", ["XRPUSDT"], 4, START, START + DAY, look_back=0)
    )["XRPUSDT"]
    assert short.open_time[0] == START


def test_the_least_recently_used_goes_first(store: Store) -> None:
    cache = CandleCache(store, size(2000))

    def load(symbol: str) -> int:
        return id(cache.candles(CandleRequest("binance", [symbol], 3, START, START + DAY))[symbol])

    bitcoin = load("BTCUSDT")
    load("ETHUSDT")
    assert load("BTCUSDT") == bitcoin
    load("SOLUSDT")
    assert load("BTCUSDT") == bitcoin
    gc.collect()
    assert cache.bytes_in_memory() == size(2000)


def test_what_sessions_hold_counts(store: Store) -> None:
    cache = CandleCache(store, size(2500))
    held = cache.candles(CandleRequest("binance", ["BTCUSDT", "ETHUSDT"], 3, START, START + DAY))
    with pytest.raises(BudgetInUse) as caught:
        cache.candles(CandleRequest("binance", ["SOLUSDT"], 3, START, START + DAY))
    assert caught.value.code == "RATE_LIMITED"
    again = cache.candles(CandleRequest("binance", ["BTCUSDT"], 3, START, START + DAY))
    assert again["BTCUSDT"] is held["BTCUSDT"]
    del held, again
    assert list(cache.candles(CandleRequest("binance", ["SOLUSDT"], 3, START, START + DAY))) == [
        "SOLUSDT"
    ]


def test_more_than_the_budget_is_refused(store: Store) -> None:
    cache = CandleCache(store, size(1500))
    with pytest.raises(OverBudget) as caught:
        cache.candles(CandleRequest("binance", ["BTCUSDT", "ETHUSDT"], 3, START, START + DAY))
    assert caught.value.code == "INVALID_PARAMETER"
    assert caught.value.details == {"needed_bytes": size(2000), "budget_bytes": size(1500)}
    assert cache.candles(CandleRequest("binance", ["BTCUSDT"], 3, START, START + DAY))


def test_threads_get_the_same(store: Store) -> None:
    cache = CandleCache(store, AMPLE)
    loaded: list[int] = []

    def load() -> None:
        loaded.append(
            id(
                cache.candles(CandleRequest("binance", ["BTCUSDT"], 3, START, START + DAY))[
                    "BTCUSDT"
                ]
            )
        )

    threads = [threading.Thread(target=load) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loaded) == 8
    assert len(set(loaded)) == 1


def test_an_import_while_a_session_runs_changes_nothing_for_it(
    store: Store, tmp_path: Path
) -> None:
    cache = CandleCache(store, AMPLE)
    held = cache.candles(CandleRequest("binance", ["BTCUSDT"], 3, START, START + DAY))["BTCUSDT"]
    prices = held.close.copy()
    import_file(store, write(tmp_path / "BTCUSDT-1m.csv", csv_text(rows(2000, price=500.0))))
    assert (held.close == prices).all()
    assert (
        cache.candles(CandleRequest("binance", ["BTCUSDT"], 3, START, START + DAY))["BTCUSDT"]
        is held
    )
    anew = CandleCache(store, AMPLE).candles(
        CandleRequest("binance", ["BTCUSDT"], 3, START, START + DAY)
    )
    assert (anew["BTCUSDT"].close == prices).all()
    now = cache.candles(CandleRequest("binance", ["BTCUSDT"], 4, START, START + DAY))["BTCUSDT"]
    assert len(now) == 2000


def test_real_candles_come_back_to_the_digit(store: Store) -> None:
    path = real_file("ADABTC-1m-2021-11-27.csv")
    summary = import_file(store, path)[0]
    assert summary.import_number == 4
    request = CandleRequest("binance", ["ADABTC"], 4, summary.start, summary.end)
    line = CandleCache(store, AMPLE).candles(request)["ADABTC"]
    texts = [text.split(",") for text in path.read_text().splitlines()]
    assert line.open_time.tolist() == [int(text[0]) for text in texts]
    for index, column in enumerate((line.open, line.high, line.low, line.close, line.volume), 1):
        assert column.tolist() == [float(text[index]) for text in texts]


def test_months() -> None:
    leap_day = parse_time("2024-02-29T23:59:59.999Z")
    assert month_start(leap_day) == parse_time("2024-02-01")
    assert month_start(leap_day, later=1) == parse_time("2024-03-01")
    assert month_start(parse_time("2024-12-31"), later=1) == parse_time("2025-01-01")
    assert month_start(parse_time("2024-03-01")) == parse_time("2024-03-01")
