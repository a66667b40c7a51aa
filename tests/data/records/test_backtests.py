"""Backtests in the store: they report the run of their job, except for fields set by hand."""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from candlestep.data.errors import BacktestNotFound
from candlestep.data.records.backtests import (
    BacktestRecord,
    BacktestSetup,
    change_backtest,
    create_backtests,
    delete_backtest,
    forget_execution,
    get_backtest,
    get_backtests,
    list_backtests,
    new_backtest_id,
    save_execution,
)
from candlestep.data.records.jobs import (
    JobRecord,
    JobStatus,
    RunError,
    RunOutcome,
    RunSpec,
    save_job,
    save_job_end,
    save_job_progress,
    save_outcomes,
    save_run_files_deleted,
)
from candlestep.data.store.database import Store
from candlestep.sandbox.clock import MINUTE
from tests.data.records.outcomes import done

SETUP = BacktestSetup(
    strategy_id="s1",
    engine="sandbox",
    initial_capital=Decimal("12345678901234567890.12345678"),
    commission=Decimal("0.0000000000000001"),
    slippage=Decimal("0.5"),
    config={"symbol": "BTCUSDT", "signal_plugin_params": {"fast": 0.1}},
)
SPEC = RunSpec(
    strategy={},
    pairs=["BTCUSDT"],
    start_time=0,
    end_time=MINUTE,
    interval=MINUTE,
    starting_balance="1",
    import_number=1,
)
FAILED = RunOutcome(error=RunError("X", "it broke"))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(tmp_path)
    yield store
    store.close()


def create(store: Store, account: str = "ann", setup: BacktestSetup = SETUP) -> BacktestRecord:
    return create_backtests(store, account, {new_backtest_id(): setup})[0]


def job(store: Store, runs: int = 1) -> JobRecord:
    return save_job(store, "ann", origin="backtests", specs=[SPEC] * runs, request={})


def end(store: Store, record: JobRecord, status: JobStatus, *outcomes: RunOutcome | None) -> None:
    ended = msgspec.structs.replace(
        record, status=status, started_at=1, finished_at=4_102_444_800_000, outcomes=list(outcomes)
    )
    save_job_end(store, ended)


def test_what_is_kept_is_read_back_to_the_digit(store: Store) -> None:
    backtest = create(store)
    assert get_backtest(store, "ann", backtest.backtest_id) == backtest
    for name in BacktestSetup.__struct_fields__:
        assert getattr(backtest, name) == getattr(SETUP, name)
    assert (backtest.status, backtest.error, backtest.has_files) == ("pending", None, False)
    assert backtest.created_at == backtest.updated_at


def test_a_backtest_follows_its_run(store: Store) -> None:
    backtest_id = create(store).backtest_id
    first = job(store)
    queued = save_execution(store, "ann", backtest_id, first)
    assert (queued.status, queued.is_under_way) == ("running", True)
    assert queued.updated_at == first.submitted_at
    save_job_progress(store, first.job_id, started_at=1, progress=0.5, attempts=1)
    assert get_backtest(store, "ann", backtest_id).status == "running"
    end(store, first, "done", done())
    backtest = get_backtest(store, "ann", backtest_id)
    assert (backtest.status, backtest.is_under_way, backtest.has_files) == (
        "completed",
        False,
        True,
    )
    assert backtest.run is not None
    assert backtest.run.outcome == done()
    assert backtest.updated_at == 4_102_444_800_000
    save_run_files_deleted(store, first.job_id, 5)
    assert not get_backtest(store, "ann", backtest_id).has_files

    second = job(store)
    again = save_execution(store, "ann", backtest_id, second)
    assert again.run is not None
    assert (again.status, again.run.outcome) == ("running", None)
    end(store, second, "failed", FAILED)
    failed = get_backtest(store, "ann", backtest_id)
    assert (failed.status, failed.error, failed.has_files) == ("failed", "it broke", False)
    forgotten = forget_execution(store, "ann", backtest_id)
    assert (forgotten.status, forgotten.error) == ("pending", None)


def test_a_run_that_was_cancelled_before_it_began_has_failed(store: Store) -> None:
    backtest_id = create(store).backtest_id
    record = job(store)
    save_execution(store, "ann", backtest_id, record)
    end(store, record, "cancelled", None)
    backtest = get_backtest(store, "ann", backtest_id)
    assert (backtest.status, backtest.error) == ("failed", "the run was cancelled")


def test_each_backtest_of_a_sweep_follows_its_own_run(store: Store) -> None:
    record = job(store, 3)
    ids = [new_backtest_id() for _ in range(3)]
    backtests = create_backtests(store, "ann", dict.fromkeys(ids, SETUP), record.job_id)
    assert [backtest.run and backtest.run.run_number for backtest in backtests] == [0, 1, 2]
    save_outcomes(store, record.job_id, {1: FAILED, 2: done()})
    statuses = [backtest.status for backtest in get_backtests(store, "ann", ids)]
    assert statuses == ["running", "failed", "completed"]


def test_what_is_set_by_hand_stays_until_the_next_execution(store: Store) -> None:
    backtest_id = create(store).backtest_id
    unchanged = change_backtest(store, "ann", backtest_id)
    assert unchanged.status == "pending"
    changed = change_backtest(
        store, "ann", backtest_id, status="completed", metrics={"own": 0.1}, hides_trades=True
    )
    assert (changed.status, changed.set_metrics) == ("completed", {"own": 0.1})
    assert (changed.hides_trades, changed.hides_equity) == (True, False)
    executed = save_execution(store, "ann", backtest_id, job(store))
    assert (executed.set_status, executed.set_metrics, executed.hides_trades) == (None, None, False)


def test_backtests_are_listed_the_newest_first_and_of_one_account(store: Store) -> None:
    ids = [create(store).backtest_id for _ in range(3)]
    other = create(store, "bob")
    listed = list_backtests(store, "ann", skip=0, limit=10)
    assert [backtest.backtest_id for backtest in listed] == ids[::-1]
    assert [backtest.number for backtest in listed] == [3, 2, 1]
    page = list_backtests(store, "ann", strategy_id="s1", skip=1, limit=1)
    assert [backtest.backtest_id for backtest in page] == [ids[1]]
    assert list_backtests(store, "ann", strategy_id="s2", skip=0, limit=10) == []
    assert [backtest.backtest_id for backtest in get_backtests(store, "ann", ids)] == ids
    other_job = job(store)
    for missing in (other.backtest_id, "none"):
        for attempt in (
            lambda id: get_backtest(store, "ann", id),
            lambda id: change_backtest(store, "ann", id, status="failed"),
            lambda id: save_execution(store, "ann", id, other_job),
            lambda id: delete_backtest(store, "ann", id),
            lambda id: get_backtests(store, "ann", [ids[0], id]),
        ):
            with pytest.raises(BacktestNotFound):
                attempt(missing)
    assert get_backtest(store, "bob", other.backtest_id) == other
    delete_backtest(store, "ann", ids[0])
    with pytest.raises(BacktestNotFound):
        get_backtest(store, "ann", ids[0])
    assert [backtest.number for backtest in list_backtests(store, "ann", skip=0, limit=9)] == [3, 2]
