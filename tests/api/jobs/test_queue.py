"""The queue of jobs over real worker processes: turns, bounds, crashes, cancels and restarts."""

import asyncio
import os
import subprocess
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import candlestep.api.jobs.queue
import candlestep.api.jobs.worker_process
from candlestep.api.errors import RateLimited
from candlestep.api.jobs.executor import RunTask
from candlestep.api.jobs.run_errors import CANCELLED
from candlestep.api.jobs.worker_pool import WorkerPool
from candlestep.data.errors import JobNotFound, StorageUnavailable
from candlestep.data.market.candle_cache import CandleCache
from candlestep.data.records.jobs import JobRecord, get_job, save_job_end, unfinished_jobs
from candlestep.data.run_files.retention import delete_old_run_files
from candlestep.data.run_files.run_files import run_directory, run_file
from candlestep.data.store.database import now
from candlestep.sandbox import InvalidState
from candlestep.sandbox.clock import DAY
from tests.support.api_client import sample_home
from tests.support.job_queue import (
    END,
    GREEDY,
    HUGE,
    SLOW,
    START,
    STUCK,
    WRONG,
    Jobs,
    jobs,
    kill_workers,
    read_rows,
    spec,
    workers_of,
)

MINUTE = 60_000
SLOW_RUN = spec(SLOW, interval=MINUTE)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return sample_home(tmp_path / "home")


def with_jobs(home: Path, check: Callable[[Jobs], Awaitable[None]], **bounds: Any) -> None:
    """Run a check on a queue of its own, for two minutes at most."""

    async def run() -> None:
        async with jobs(home, **bounds) as made, asyncio.timeout(120):
            await check(made)

    asyncio.run(run())


async def submitted(made: Jobs, *specs: Any, account: str = "", **more: Any) -> JobRecord:
    return await made.queue.submit(account or made.ann, "backtests", specs, {}, **more)


async def ended(made: Jobs, job: JobRecord, seconds: float = 30) -> JobRecord:
    record = await made.queue.wait(job.account_id, job.job_id, seconds)
    assert record.has_ended, record.status
    return record


async def begun(made: Jobs, job: JobRecord) -> JobRecord:
    """The job when something of it is done, in the middle of its run."""
    for _ in range(1000):
        record = await made.queue.get(job.account_id, job.job_id)
        assert not record.has_ended
        if record.progress:
            return record
        await asyncio.sleep(0.01)
    raise AssertionError("it does not get on")


def test_a_job_goes_from_queued_to_done(home: Path) -> None:
    async def check(made: Jobs) -> None:
        job = await submitted(made, spec())
        assert (job.status, job.progress, job.started_at) == ("queued", 0, None)
        record = await ended(made, job)
        assert (record.status, record.progress, record.attempts) == ("done", 1, 1)
        assert record.started_at is not None
        assert record.finished_at is not None
        assert record.submitted_at <= record.started_at <= record.finished_at
        (outcome,) = record.outcomes
        assert outcome is not None
        assert outcome.summary is not None
        assert outcome.summary.fills == outcome.summary.metrics.total_trades
        assert outcome.files == ["equity", "trades"]
        rows = read_rows(run_directory(home, job.job_id, 0), "equity")
        assert rows is not None
        assert len(rows) == 31 * 24 + 1
        assert rows[-1]["equity"] == outcome.summary.final_equity
        with pytest.raises(JobNotFound):
            await made.queue.get(made.bob, job.job_id)

    with_jobs(home, check)


def test_a_sweep_is_one_job_whose_runs_each_have_their_own_outcome(home: Path) -> None:
    async def check(made: Jobs) -> None:
        good, bad = spec(store_signals=True), spec(WRONG)
        record = await ended(made, await submitted(made, good, bad, good, spec(pairs=["NOPE"])))
        assert record.status == "done"
        first, second, third, fourth = record.outcomes
        assert first
        assert second
        assert third
        assert fourth
        assert first.summary == third.summary
        assert first.files == ["equity", "trades", "signals"]
        assert second.error is not None
        assert second.error.code == "PROGRAM_FAILED"
        assert fourth.error is not None
        assert fourth.error.code == "NO_DATA"
        failed = await ended(made, await submitted(made, bad, bad))
        assert (failed.status, failed.error_code) == ("failed", "PROGRAM_FAILED")
        assert failed.progress < 1

    with_jobs(home, check)


def test_the_same_id_is_the_same_job_until_it_fails(home: Path) -> None:
    async def check(made: Jobs) -> None:
        job = await ended(made, await submitted(made, spec(), job_id="same"))
        again = await submitted(made, spec(), job_id="same")
        assert again == job
        wrong = await ended(made, await submitted(made, spec(WRONG), job_id="wrong"))
        assert wrong.status == "failed"
        anew = await submitted(made, spec(), job_id="wrong")
        assert (anew.status, anew.error_code) == ("queued", None)
        assert (await ended(made, anew)).status == "done"

    with_jobs(home, check)


def test_what_an_earlier_attempt_has_written_is_gone_when_it_runs_anew(home: Path) -> None:
    async def check(made: Jobs) -> None:
        file = run_file(run_directory(home, "anew", 0), "equity")
        job = await submitted(made, spec(), SLOW_RUN, job_id="anew")
        while (await made.queue.get(made.ann, job.job_id)).outcomes[0] is None:
            await asyncio.sleep(0.01)
        await made.queue.cancel(made.ann, job.job_id)
        assert file.exists()
        await ended(made, await submitted(made, spec(WRONG), job_id="anew"))
        assert not file.exists()

    with_jobs(home, check, workers=1)


def test_an_account_has_five_jobs_at_most_and_others_are_not_held_up(home: Path) -> None:
    async def check(made: Jobs) -> None:
        hers = [await submitted(made, SLOW_RUN) for _ in range(5)]
        with pytest.raises(RateLimited):
            await submitted(made, spec())
        at_once = [submitted(made, spec(), account=made.bob) for _ in range(7)]
        made_or_not = await asyncio.gather(*at_once, return_exceptions=True)
        his = [job for job in made_or_not if isinstance(job, JobRecord)]
        assert len(his) == 5
        await made.queue.cancel(made.ann, hers[0].job_id)
        assert (await ended(made, his[0])).status == "done"
        another = await submitted(made, spec())
        for job in (*hers[1:], another):
            await made.queue.cancel(made.ann, job.job_id)

    with_jobs(home, check, workers=1)


def test_first_in_is_first_out_and_accounts_take_turns(home: Path) -> None:
    async def check(made: Jobs) -> None:
        first = await submitted(made, SLOW_RUN)
        hers = [await submitted(made, spec()) for _ in range(4)]
        his = [await submitted(made, spec(), account=made.bob) for _ in range(3)]
        await made.queue.cancel(made.ann, first.job_id)
        records = [await ended(made, job) for job in (*hers, *his)]
        order = sorted(records, key=lambda record: record.started_at or 0)
        names = [(record.account_id == made.ann, record.number) for record in order]
        assert names == [
            (False, 1), (True, 2), (False, 2), (True, 3), (False, 3), (True, 4), (True, 5),
        ]  # fmt: skip

    with_jobs(home, check, workers=1)


@pytest.mark.parametrize("program", [SLOW, STUCK], ids=["slow", "stuck"])
def test_a_cancelled_job_ends_within_a_second(home: Path, program: dict[str, Any]) -> None:
    async def check(made: Jobs) -> None:
        await ended(made, await submitted(made, spec()))
        job = await submitted(made, spec(program, interval=MINUTE))
        waiting = await submitted(made, spec())
        while (await made.queue.get(made.ann, job.job_id)).status != "running":
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.3)
        began = time.perf_counter()
        record = await made.queue.cancel(made.ann, job.job_id, "no longer wanted")
        assert time.perf_counter() - began < 1
        assert record.status == "cancelled"
        assert (record.error_code, record.error_message) == (CANCELLED.code, "no longer wanted")
        assert (await made.queue.get(made.ann, job.job_id)) == record
        assert (await ended(made, waiting)).status == "done"
        with pytest.raises(InvalidState):
            await made.queue.cancel(made.ann, job.job_id)

    with_jobs(home, check, workers=1)


def test_a_queued_job_is_cancelled_without_having_run(home: Path) -> None:
    async def check(made: Jobs) -> None:
        first, second = await submitted(made, SLOW_RUN), await submitted(made, spec())
        record = await made.queue.cancel(made.ann, second.job_id)
        assert (record.status, record.started_at, record.error_code) == ("cancelled", None, None)
        await made.queue.cancel(made.ann, first.job_id)

    with_jobs(home, check, workers=1)


def test_a_worker_that_is_killed_is_replaced_and_the_run_tried_again(home: Path) -> None:
    async def check(made: Jobs) -> None:
        job = await submitted(made, spec(SLOW, end_time=spec().start_time + 400 * 60 * MINUTE))
        await begun(made, job)
        assert kill_workers(os.getpid()) == 1
        record = await ended(made, job)
        assert (record.status, record.attempts) == ("done", 2)

    with_jobs(home, check, workers=1)


def test_a_run_that_kills_its_worker_twice_fails_and_no_other_does(home: Path) -> None:
    async def check(made: Jobs) -> None:
        job = await submitted(made, SLOW_RUN)
        waiting = await submitted(made, spec())
        for attempt in (1, 2):
            while (await begun(made, job)).attempts < attempt:
                await asyncio.sleep(0.01)
            kill_workers(os.getpid())
        failed = await ended(made, job)
        assert (failed.status, failed.error_code, failed.attempts) == ("failed", "WORKER_FAILED", 2)
        assert "ended unexpectedly, 2 times" in (failed.error_message or "")
        record = await ended(made, waiting)
        assert (record.status, record.attempts) == ("done", 1)

    with_jobs(home, check, workers=1)


def test_a_cancelled_run_whose_worker_is_killed_is_not_tried_again(home: Path) -> None:
    async def check(made: Jobs) -> None:
        await ended(made, await submitted(made, spec()))
        job = await submitted(made, spec(STUCK))
        while (await made.queue.get(made.ann, job.job_id)).status != "running":
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.3)
        cancelling = asyncio.create_task(made.queue.cancel(made.ann, job.job_id))
        await asyncio.sleep(0)
        assert kill_workers(os.getpid()) == 1
        record = await cancelling
        assert (record.status, record.attempts) == ("cancelled", 1)

    with_jobs(home, check, workers=1)


def test_a_run_that_takes_too_long_is_ended(home: Path) -> None:
    async def check(made: Jobs) -> None:
        stuck, other = await submitted(made, spec(STUCK)), await submitted(made, spec())
        record = await ended(made, stuck)
        assert (record.status, record.error_code, record.attempts) == ("failed", "RUN_TIMEOUT", 1)
        assert "2 seconds" in (record.error_message or "")
        assert (await ended(made, other)).status == "done"

    with_jobs(home, check, workers=1, run_seconds=2)


@pytest.mark.parametrize("program", [GREEDY, HUGE], ids=["bit by bit", "at once"])
def test_a_run_that_takes_too_much_memory_is_ended(home: Path, program: dict[str, Any]) -> None:
    async def check(made: Jobs) -> None:
        greedy, other = await submitted(made, spec(program)), await submitted(made, spec())
        record = await ended(made, greedy)
        assert (record.status, record.error_code, record.attempts) == ("failed", "OUT_OF_MEMORY", 1)
        assert (await ended(made, other)).status == "done"

    with_jobs(home, check, workers=1, run_memory=300 << 20)


def test_jobs_that_have_not_ended_are_taken_up_again(home: Path) -> None:
    """And what has been run of a sweep is not run again."""
    file = run_file(run_directory(home, "running", 0), "equity")
    written: list[int] = []

    async def leave(made: Jobs) -> None:
        await submitted(made, spec(), SLOW_RUN, job_id="running")
        await submitted(made, spec(), job_id="queued")
        while unfinished_jobs(made.store)[0].outcomes[0] is None:
            await asyncio.sleep(0.01)
        written.append(file.stat().st_mtime_ns)

    async def take_up(made: Jobs) -> None:
        running, queued = unfinished_jobs(made.store)
        assert (running.job_id, running.status) == ("running", "running")
        assert (queued.job_id, queued.status) == ("queued", "queued")
        assert running.outcomes[0] is not None
        async with asyncio.timeout(30):
            while (record := await made.queue.get(made.ann, "running")).progress <= 0.5:
                await asyncio.sleep(0.01)
        assert record.outcomes == running.outcomes
        assert file.stat().st_mtime_ns == written[0], "only the second run has been run on"
        await made.queue.cancel(made.ann, "running")
        assert (await ended(made, queued)).status == "done"

    with_jobs(home, leave, workers=1)
    with_jobs(home, take_up, workers=1)


class Loads:
    """Candles that are not there before a test says so."""

    def __init__(self, made: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wanted, self.go_on = threading.Event(), threading.Event()
        load = CandleCache.candles

        def candles(*args: Any) -> Any:
            self.wanted.set()
            assert self.go_on.wait(30)
            return load(*args)

        monkeypatch.setattr(CandleCache, "candles", candles)

    async def begin(self) -> None:
        while not self.wanted.is_set():
            await asyncio.sleep(0)


def test_a_job_is_cancelled_within_a_second_while_its_candles_are_loaded(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what nobody waits for any more does not stay held."""

    async def check(made: Jobs) -> None:
        loads = Loads(made, monkeypatch)
        job = await submitted(made, spec())
        await loads.begin()
        began = time.perf_counter()
        record = await made.queue.cancel(made.ann, job.job_id)
        assert time.perf_counter() - began < 1
        assert record.status == "cancelled"
        loads.go_on.set()
        assert (await ended(made, await submitted(made, spec()))).status == "done"
        assert not made.candles.held

    with_jobs(home, check, workers=1)


def test_candles_are_released_while_others_are_loaded(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event loop does that, and must not wait."""

    async def check(made: Jobs) -> None:
        paths = made.candles.hold("binance", ["BTCUSDT"], 1, START, END)
        loads = Loads(made, monkeypatch)
        job = await submitted(made, spec(pairs=["ETHUSDT"]))
        await loads.begin()
        began = time.perf_counter()
        made.candles.release(paths)
        assert time.perf_counter() - began < 1
        assert not made.candles.held
        loads.go_on.set()
        assert (await ended(made, job)).status == "done"

    with_jobs(home, check, workers=1)


def test_a_job_that_is_being_stored_as_ended_cannot_be_cancelled(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def check(made: Jobs) -> None:
        storing, go_on = threading.Event(), threading.Event()

        def stored(*args: Any) -> None:
            storing.set()
            assert go_on.wait(30)
            save_job_end(*args)

        monkeypatch.setattr(candlestep.api.jobs.queue, "save_job_end", stored)
        job = await submitted(made, spec(WRONG))
        while not storing.is_set():
            await asyncio.sleep(0)
        cancelling = asyncio.create_task(made.queue.cancel(made.ann, job.job_id))
        await asyncio.sleep(0)
        go_on.set()
        with pytest.raises(InvalidState, match="failed already"):
            await cancelling
        assert (await ended(made, job)).status == "failed"

    with_jobs(home, check, workers=1)


def test_a_job_whose_end_cannot_be_stored_at_all_does_not_keep_its_place(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any) -> None:
        raise ZeroDivisionError

    async def check(made: Jobs) -> None:
        monkeypatch.setattr(candlestep.api.jobs.queue, "save_job_end", broken)
        for _ in range(6):
            job = await submitted(made, spec())
            await made.queue.wait(made.ann, job.job_id, 30)
        assert unfinished_jobs(made.store), "the next process runs them again"

    with_jobs(home, check, workers=1)


def test_a_store_that_cannot_be_read_is_no_sign_that_a_job_is_not_there(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(*args: Any) -> None:
        raise StorageUnavailable("the disk is on fire")

    async def check(made: Jobs) -> None:
        job = await ended(made, await submitted(made, spec(), job_id="kept"))
        monkeypatch.setattr(candlestep.api.jobs.queue, "get_job", unreadable)
        with pytest.raises(StorageUnavailable):
            await submitted(made, spec(), job_id="kept")
        monkeypatch.undo()
        assert await made.queue.get(made.ann, "kept") == job
        assert read_rows(run_directory(home, "kept", 0), "equity") is not None

    with_jobs(home, check, workers=1)


def test_a_worker_that_cannot_be_started_is_tried_again(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusals = [OSError("no more processes")]

    def refused_once(*args: Any, **kwargs: Any) -> Any:
        if refusals:
            raise refusals.pop()
        return subprocess.Popen(*args, **kwargs)

    async def check(made: Jobs) -> None:
        monkeypatch.setattr(candlestep.api.jobs.worker_process, "Popen", refused_once)
        assert (await ended(made, await submitted(made, spec()))).status == "done"
        assert not refusals

    with_jobs(home, check, workers=1)


def test_an_idle_worker_that_is_killed_fails_no_run(home: Path) -> None:
    """Whether the next run comes before it is missed, or after it has been replaced."""

    async def check(made: Jobs) -> None:
        await ended(made, await submitted(made, spec()))
        for _ in range(5):
            assert kill_workers(os.getpid()) == 1
            assert (await ended(made, await submitted(made, spec()))).status == "done"
        assert kill_workers(os.getpid()) == 1
        while not workers_of(os.getpid()):
            await asyncio.sleep(0.01)


def test_who_waits_for_a_worker_and_is_cancelled_takes_none(tmp_path: Path) -> None:
    async def check() -> None:
        pool = WorkerPool(1, run_seconds=30, run_memory=1 << 30)
        run = RunTask(spec(pairs=["NOPE"]), [], tmp_path)
        waiting = asyncio.create_task(pool.perform(run, lambda _: None, asyncio.Event()))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        waiting.cancel()
        async with asyncio.timeout(30):
            outcome = await pool.perform(run, lambda _: None, asyncio.Event())
        assert outcome.error is not None
        assert outcome.error.code == "NO_DATA"
        await pool.close()

    asyncio.run(check())


def test_a_pool_can_be_closed_at_any_time_and_leaves_no_process() -> None:
    async def check() -> None:
        for turns in range(0, 200, 20):
            pool = WorkerPool(2, run_seconds=1, run_memory=1 << 30)
            await pool.start()
            for _ in range(turns):
                await asyncio.sleep(0.001)
            async with asyncio.timeout(30):
                await pool.close()
            assert not workers_of(os.getpid())

    asyncio.run(check())


def test_an_end_that_cannot_be_stored_is_not_seen_until_it_is(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candlestep.api.jobs.queue, "_PAUSE_SECONDS", 0.01)

    async def check(made: Jobs) -> None:
        made.unavailable = save_job_end
        job = await submitted(made, spec())
        async with asyncio.timeout(20):
            while made.refusals < 3:
                await asyncio.sleep(0.01)
        assert (await made.queue.get(made.ann, job.job_id)).status == "running"
        made.unavailable = None
        record = await ended(made, job)
        assert record.status == "done"
        assert get_job(made.store, made.ann, job.job_id) == record

    with_jobs(home, check, workers=1)


@pytest.mark.parametrize(
    "text", ["-" * 60_000 + "1", "1" + "+1" * 30_000, "[" * 30_000 + "]" * 30_000]
)
def test_a_program_may_be_nested_as_deeply_as_it_is_long(home: Path, text: str) -> None:
    async def check(made: Jobs) -> None:
        source = f"def on_candle(ctx):\n    pass\nx = {text}\n"
        record = await ended(made, await submitted(made, spec({"source": source})))
        assert (record.status, record.attempts) == ("done", 1)

    with_jobs(home, check, workers=1)


def test_jobs_are_listed_by_the_status_of_now(home: Path) -> None:
    async def check(made: Jobs) -> None:
        running = await submitted(made, SLOW_RUN)
        queued = await submitted(made, spec())
        await begun(made, running)
        for status, job in (("running", running), ("queued", queued)):
            listed = await made.queue.list(made.ann, status=status)
            assert [(each.job_id, each.status) for each in listed] == [(job.job_id, status)]
        await made.queue.cancel(made.ann, running.job_id)

    with_jobs(home, check, workers=1)


def test_outcomes_that_cannot_be_stored_are_stored_later(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candlestep.api.jobs.queue, "_PAUSE_SECONDS", 0.01)

    async def check(made: Jobs) -> None:
        made.unavailable = made.queue._save
        job = await submitted(made, spec(), SLOW_RUN)
        while (await made.queue.get(made.ann, job.job_id)).outcomes[0] is None:
            await asyncio.sleep(0.01)
        before = made.refusals
        while made.refusals < before + 3:
            await asyncio.sleep(0.01)
        assert get_job(made.store, made.ann, job.job_id).outcomes == [None, None]
        made.unavailable = None
        while get_job(made.store, made.ann, job.job_id).outcomes[0] is None:
            await asyncio.sleep(0.01)
        await made.queue.cancel(made.ann, job.job_id)

    with_jobs(home, check, workers=1)


def test_the_files_of_a_run_are_kept_for_so_many_days_after_its_end(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deleted: list[list[str]] = []

    def noted(*args: Any, **kwargs: Any) -> list[str]:
        deleted.append(delete_old_run_files(*args, **kwargs))
        return deleted[-1]

    async def run_one(made: Jobs) -> None:
        await ended(made, await submitted(made, spec(), job_id="old"))

    async def keep_house(made: Jobs) -> None:
        while not deleted:
            await asyncio.sleep(0.01)
        record = await made.queue.get(made.ann, "old")
        assert record.outcomes[0] is not None
        assert record.outcomes[0].summary is not None, "the summary stays"

    with_jobs(home, run_one)
    monkeypatch.setattr(candlestep.api.jobs.queue, "delete_old_payloads", noted)
    for days, expected in ((89, []), (91, ["old"])):
        deleted.clear()
        monkeypatch.setattr(candlestep.api.jobs.queue, "now", lambda days=days: now() + days * DAY)
        assert read_rows(run_directory(home, "old", 0), "equity") is not None
        with_jobs(home, keep_house)
        assert deleted == [expected]
    assert read_rows(run_directory(home, "old", 0), "equity") is None
