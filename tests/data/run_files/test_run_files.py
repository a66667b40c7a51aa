"""Files of runs: exact to the last digit, and deleted after some days."""

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candlestep.data.errors import StorageUnavailable
from candlestep.data.records.jobs import (
    JobRecord,
    RunError,
    RunOutcome,
    get_job,
    save_job,
    save_job_end,
)
from candlestep.data.run_files.run_files import (
    delete_old_run_files,
    read_equity_json,
    read_run_file,
    read_trades_json,
    run_directory,
    run_file,
    write_equity,
    write_trades,
)
from candlestep.data.store.database import Store
from candlestep.sandbox import ClosedTrade
from candlestep.sandbox.clock import DAY
from tests.support.job_queue import read_rows, spec

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
    record = get_job(store, "ann", old.job_id)
    assert record == msgspec.structs.replace(old, files_deleted_at=due)
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
