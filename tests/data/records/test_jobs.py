"""Jobs, their files and stored strategies in the store; how long files are kept."""

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candlestep.data.errors import JobNotFound, StorageUnavailable, StrategyNotFound
from candlestep.data.imports.importer import latest_import
from candlestep.data.market.candle_cache import CandleCache
from candlestep.data.market.mapped_candles import MappedCandles, open_mapped, write_mapped
from candlestep.data.records.jobs import (
    JobRecord,
    RunError,
    RunOutcome,
    get_job,
    job_imports,
    list_jobs,
    save_job,
    save_job_end,
    save_job_progress,
    unfinished_jobs,
)
from candlestep.data.records.strategies import (
    create_strategy,
    delete_strategy,
    get_strategy,
    list_strategies,
    update_strategy,
)
from candlestep.data.run_files.retention import delete_old_run_files
from candlestep.data.run_files.run_files import (
    read_equity_json,
    read_run_file,
    read_trades_json,
    run_directory,
    run_file,
    write_equity,
    write_trades,
)
from candlestep.data.store.database import Store
from candlestep.sandbox import Candles, ClosedTrade, InvalidParameter
from candlestep.sandbox.clock import DAY
from tests.data.records.outcomes import done
from tests.support.api_client import sample_home
from tests.support.job_queue import END, START, read_rows, spec

PINNED = spec(import_number=2)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def store(home: Path) -> Iterator[Store]:
    opened = Store.open(home)
    yield opened
    opened.close()


def put(store: Store, account: str = "ann", job_id: str | None = None) -> JobRecord:
    return save_job(store, account, origin="jobs", specs=[PINNED], request={}, job_id=job_id)


def end(store: Store, job: JobRecord, finished_at: int) -> JobRecord:
    outcome = RunOutcome(error=RunError("NO_DATA", "none"))
    ended = msgspec.structs.replace(
        job, status="failed", finished_at=finished_at, error_code="NO_DATA", outcomes=[outcome]
    )
    save_job_end(store, ended)
    return ended


def test_a_job_is_read_as_it_was_written(store: Store) -> None:
    job = put(store)
    assert get_job(store, "ann", job.job_id) == job
    assert job.specs == [PINNED]
    save_job_progress(store, job.job_id, started_at=5, progress=0.5, attempts=1)
    running = get_job(store, "ann", job.job_id)
    assert (running.status, running.started_at, running.progress) == ("running", 5, 0.5)
    ended = end(store, running, 7)
    assert get_job(store, "ann", job.job_id) == ended
    save_job_progress(store, job.job_id, started_at=6, progress=0.6, attempts=2)
    assert get_job(store, "ann", job.job_id) == ended
    with pytest.raises(JobNotFound):
        get_job(store, "bob", job.job_id)


def test_a_job_is_found_by_the_api_that_it_came_by(store: Store) -> None:
    job = put(store)
    assert get_job(store, "ann", job.job_id, origin="jobs") == job
    with pytest.raises(JobNotFound, match=job.job_id):
        get_job(store, "ann", job.job_id, origin="runs")


def test_a_job_has_a_summary_when_it_is_done_and_an_error_when_it_failed(store: Store) -> None:
    job = put(store)
    assert (job.summary, job.error) == (None, None)
    assert end(store, job, 7).error == RunError("NO_DATA", "")
    cancelled = msgspec.structs.replace(job, status="cancelled", outcomes=[done()])
    assert cancelled.summary is None
    assert msgspec.structs.replace(cancelled, status="done").summary == done().summary


def test_an_id_belongs_to_one_account_and_is_a_name_of_a_directory(store: Store) -> None:
    put(store, job_id="one")
    anew = put(store, job_id="one")
    assert [job.number for job in list_jobs(store, "ann")] == [anew.number]
    with pytest.raises(InvalidParameter, match="taken"):
        put(store, "bob", "one")
    for hostile in ("../x", "a/b", "x" * 101, "a\0", "."):
        with pytest.raises(InvalidParameter):
            put(store, job_id=hostile)


def test_what_unfinished_jobs_run_on_is_not_pruned(store: Store) -> None:
    job = put(store)
    assert job_imports(store) == [2]
    assert unfinished_jobs(store) == [job]
    end(store, job, 1)
    assert job_imports(store) == []
    assert unfinished_jobs(store) == []


def test_files_are_deleted_when_their_days_are_over_and_summaries_stay(
    home: Path, store: Store
) -> None:
    finished = 1_000 * DAY
    old, young, running = put(store), put(store), put(store)
    old, young = end(store, old, finished), end(store, young, finished + 1)
    for job in (old, young, running):
        directory = run_directory(home, job.job_id, 0)
        write_equity(directory, np.array([0, 60_000]), np.array([10**12, 10**12 + 1]))

    assert delete_old_run_files(store, home, time=finished + 90 * DAY, days=90) == []
    due = finished + 90 * DAY + 1
    assert delete_old_run_files(store, home, time=due, days=90) == [old.job_id]
    assert delete_old_run_files(store, home, time=due, days=90) == []
    kept = get_job(store, "ann", old.job_id)
    assert kept == msgspec.structs.replace(old, payload_deleted_at=due)
    assert read_equity_json(run_directory(home, old.job_id, 0)) is None
    assert read_rows(run_directory(home, old.job_id, 0), "equity") is None
    for job in (young, running):
        assert run_file(run_directory(home, job.job_id, 0), "equity").exists()
    assert delete_old_run_files(store, home, time=due + 1, days=90) == [young.job_id]


@given(
    st.lists(st.integers(-(10**17), 10**17), min_size=1, max_size=20),
    st.booleans(),
)
@settings(max_examples=20)
def test_equity_is_read_to_the_last_digit(
    tmp_path_factory: pytest.TempPathFactory, units: list[int], is_large: bool
) -> None:
    directory = tmp_path_factory.mktemp("run")
    times = np.arange(len(units)) * 1500
    column = np.array(units, dtype=object if is_large else np.int64)
    write_equity(directory, times, column)
    rows = read_rows(directory, "equity")
    assert rows is not None
    assert [row["equity"] for row in rows] == [Decimal(unit).scaleb(-8) for unit in units]
    text = read_equity_json(directory)
    assert text is not None
    points = msgspec.json.decode(text)
    assert [Decimal(amount) for _, amount in points] == [Decimal(u).scaleb(-8) for u in units]
    assert all(len(amount.partition(".")[2]) >= 2 for _, amount in points)
    assert [at for at, _ in points[:3]] == [
        "1970-01-01T00:00:00Z", "1970-01-01T00:00:01.500Z", "1970-01-01T00:00:03Z",
    ][: len(points)]  # fmt: skip


def test_trades_are_read_to_the_last_digit(tmp_path: Path) -> None:
    trade = ClosedTrade(
        fill_id=2,
        symbol="BTCUSDT",
        side="buy",
        quantity=Decimal("0.10000000"),
        entry_time=60_000,
        entry_price=Decimal("12345.1234567890123456"),
        exit_time=120_000,
        exit_price=Decimal(2),
        pnl=Decimal("-0.00000001"),
        fee=Decimal("1.50000000"),
        return_pct=None,
    )
    write_trades(tmp_path, [trade])
    rows = read_rows(tmp_path, "trades")
    assert rows is not None
    (row,) = rows
    assert row == msgspec.structs.asdict(trade) | {
        "entry_time": datetime(1970, 1, 1, 0, 1),
        "exit_time": datetime(1970, 1, 1, 0, 2),
    }
    text = read_trades_json(tmp_path)
    assert text is not None
    assert msgspec.json.decode(text) == [
        {
            "id": 1,
            "side": "buy",
            "symbol": "BTCUSDT",
            "entry_time": "1970-01-01T00:01:00Z",
            "entry_price": "12345.1234567890123456",
            "exit_time": "1970-01-01T00:02:00Z",
            "exit_price": "2.00",
            "qty": "0.10",
            "pnl": "-0.00000001",
            "fee": "1.50",
        }
    ]
    write_trades(tmp_path, [])
    assert read_rows(tmp_path, "trades") == []
    assert msgspec.json.decode(read_trades_json(tmp_path) or b"") == []


def test_a_strategy_is_kept_changed_and_deleted_by_its_account(store: Store) -> None:
    content = {"template": "tpl_rsi", "parameters": {}}
    made = create_strategy(store, "ann", name="one", universe=["BTCUSDT"], content=content)
    assert (made.status, made.version, made.content) == ("draft", 1, content)
    assert get_strategy(store, "ann", made.strategy_id) == made
    changed = update_strategy(store, "ann", made.strategy_id, name="two", universe=[])
    assert (changed.name, changed.universe, changed.version) == ("two", [], 2)
    assert changed.content == content
    other = create_strategy(store, "ann", name="three", content={})
    assert list_strategies(store, "ann") == [changed, other]
    assert list_strategies(store, "ann", skip=1, limit=1) == [other]
    assert list_strategies(store, "bob") == []
    for refused in (get_strategy, delete_strategy, update_strategy):
        with pytest.raises(StrategyNotFound):
            refused(store, "bob", made.strategy_id)
    delete_strategy(store, "ann", made.strategy_id)
    assert list_strategies(store, "ann") == [other]


def series(interval: str, count: int, first: int = 0) -> Candles:
    seconds = {"1m": 60, "1h": 3600}[interval]
    prices = np.arange(1, count + 1) + 0.25
    return Candles(
        symbol="BTCUSDT",
        interval=interval,
        open_time=(first + np.arange(count)) * seconds * 1000,
        open=prices,
        high=prices + 1,
        low=prices - 1,
        close=prices + 0.5,
        volume=prices,
    )


@pytest.mark.parametrize(
    "candles",
    [series("1m", 1), series("1m", 500), Candles.merge([series("1m", 90, 30), series("1h", 5)])],
    ids=["one", "many", "of two intervals"],
)
def test_mapped_candles_are_the_same(tmp_path: Path, candles: Candles) -> None:
    path = tmp_path / "some.candles"
    write_mapped(path, candles)
    mapped = open_mapped(path)
    path.unlink()
    end = int(candles.complete_time[-1])
    assert mapped.fingerprint(end) == candles.fingerprint(end)
    assert mapped.arrays[:3] == candles.arrays[:3]
    assert repr(mapped) == repr(candles)
    times = [-1, 0, 59_999, 60_000, 3_600_000, 10**9]
    assert [mapped.price(time) for time in times] == [candles.price(time) for time in times]
    assert [mapped.finest_complete(t) for t in times] == [candles.finest_complete(t) for t in times]
    with pytest.raises(ValueError, match="read-only"):
        mapped.close[0] = 1


def test_files_of_candles_are_made_once_and_dropped_when_nobody_holds_them(home: Path) -> None:
    sample_home(home)
    store = Store.open(home)
    cache = CandleCache(store, 1 << 30)
    leftover = home / "mapped" / "other.candles"
    leftover.parent.mkdir()
    leftover.touch()
    mapped = MappedCandles(cache, home, most_bytes=1)
    assert not leftover.exists()

    asked = ("binance", ["BTCUSDT", "NOPE"], latest_import(store), START, END)
    (path,) = mapped.hold(*asked)
    written = path.stat().st_mtime_ns
    assert mapped.hold(*asked) == [path]
    assert path.stat().st_mtime_ns == written
    mapped.release([path])
    (other,) = mapped.hold("binance", ["ETHUSDT"], latest_import(store), START, END)
    assert path.exists()
    mapped.release([other])
    assert mapped.hold_again([path])
    mapped.release([path])
    assert mapped.held == [path]
    mapped.release(mapped.hold("binance", ["ETHUSDT"], latest_import(store), START, END))
    assert path.exists()
    mapped.release([path])
    mapped.release(mapped.hold("binance", ["ETHUSDT"], latest_import(store), START, END))
    assert not path.exists()
    assert not mapped.hold_again([path])
    assert not mapped.hold_again([other, path])
    assert other.exists()
    assert mapped.hold(*asked) == [path]
    assert path.exists()
    store.close()


def test_a_file_that_is_deleted_while_it_is_read_is_there_no_more(tmp_path: Path) -> None:
    write_trades(tmp_path, [])
    assert bytes(read_trades_json(tmp_path) or b"") == b"[]"

    def broken(path: Path) -> None:
        raise OSError("no such sector")

    with pytest.raises(StorageUnavailable, match="trades of the run cannot be read: no such"):
        read_run_file(tmp_path, "trades", broken)

    def deleted(path: Path) -> None:
        path.unlink()
        raise OSError("no such file")

    assert read_run_file(tmp_path, "trades", deleted) is None
    assert read_run_file(tmp_path, "equity", broken) is None
