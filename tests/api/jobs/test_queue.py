"""Turns, bounds, ids and listings of a queue over real worker processes."""

import asyncio
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from candlestep.api.errors import RateLimited
from candlestep.api.jobs.run_errors import CANCELLED
from candlestep.data.errors import JobNotFound
from candlestep.data.market.candle_cache import CandleCache, CandleRequest
from candlestep.data.records.jobs import JobRecord
from candlestep.data.run_files.run_files import run_directory, run_file
from candlestep.sandbox import InvalidState
from tests.support.job_queue import (
    END,
    MINUTE,
    SLOW,
    SLOW_RUN,
    START,
    STUCK,
    WRONG,
    Jobs,
    begun,
    ended,
    read_rows,
    spec,
    submitted,
    with_jobs,
    workers_of,
)
from tests.support.patience import PATIENCE
from tests.support.server_process import cpu_seconds


def test_a_job_goes_from_queued_to_done(home: Path) -> None:
    async def check(jobs: Jobs) -> None:
        job = await submitted(jobs, spec())
        assert (job.status, job.progress, job.started_at) == ("queued", 0, None)
        record = await ended(jobs, job)
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
            await jobs.queue.get(jobs.bob, job.job_id)

    with_jobs(home, check)


def test_a_sweep_is_one_job_whose_runs_each_have_their_own_outcome(home: Path) -> None:
    async def check(jobs: Jobs) -> None:
        good, bad = spec(store_signals=True), spec(WRONG)
        record = await ended(jobs, await submitted(jobs, good, bad, good, spec(pairs=["NOPE"])))
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
        failed = await ended(jobs, await submitted(jobs, bad, bad))
        assert (failed.status, failed.error_code) == ("failed", "PROGRAM_FAILED")
        assert failed.progress < 1

    with_jobs(home, check)


def test_the_same_id_is_the_same_job_until_it_fails(home: Path) -> None:
    async def check(jobs: Jobs) -> None:
        job = await ended(jobs, await submitted(jobs, spec(), job_id="same"))
        again = await submitted(jobs, spec(), job_id="same")
        assert again == job
        wrong = await ended(jobs, await submitted(jobs, spec(WRONG), job_id="wrong"))
        assert wrong.status == "failed"
        anew = await submitted(jobs, spec(), job_id="wrong")
        assert (anew.status, anew.error_code) == ("queued", None)
        assert (await ended(jobs, anew)).status == "done"

    with_jobs(home, check)


def test_what_an_earlier_attempt_has_written_is_gone_when_it_runs_anew(home: Path) -> None:
    async def check(jobs: Jobs) -> None:
        file = run_file(run_directory(home, "anew", 0), "equity")
        job = await submitted(jobs, spec(), SLOW_RUN, job_id="anew")
        while (await jobs.queue.get(jobs.ann, job.job_id)).outcomes[0] is None:
            await asyncio.sleep(0.01)
        await jobs.queue.cancel(jobs.ann, job.job_id)
        assert file.exists()
        await ended(jobs, await submitted(jobs, spec(WRONG), job_id="anew"))
        assert not file.exists()

    with_jobs(home, check, workers=1)


def test_an_account_has_five_jobs_at_most_and_others_are_not_held_up(home: Path) -> None:
    async def check(jobs: Jobs) -> None:
        hers = [await submitted(jobs, SLOW_RUN) for _ in range(5)]
        with pytest.raises(RateLimited):
            await submitted(jobs, spec())
        at_once = [submitted(jobs, spec(), account=jobs.bob) for _ in range(7)]
        results = await asyncio.gather(*at_once, return_exceptions=True)
        his = [job for job in results if isinstance(job, JobRecord)]
        assert len(his) == 5
        await jobs.queue.cancel(jobs.ann, hers[0].job_id)
        assert (await ended(jobs, his[0])).status == "done"
        another = await submitted(jobs, spec())
        for job in (*hers[1:], another):
            await jobs.queue.cancel(jobs.ann, job.job_id)

    with_jobs(home, check, workers=1)


def test_first_in_is_first_out_and_accounts_take_turns(home: Path) -> None:
    async def check(jobs: Jobs) -> None:
        first = await submitted(jobs, SLOW_RUN)
        hers = [await submitted(jobs, spec()) for _ in range(4)]
        his = [await submitted(jobs, spec(), account=jobs.bob) for _ in range(3)]
        await jobs.queue.cancel(jobs.ann, first.job_id)
        records = [await ended(jobs, job) for job in (*hers, *his)]
        order = sorted(records, key=lambda record: record.started_at or 0)
        names = [(record.account_id == jobs.ann, record.number) for record in order]
        assert names == [
            (False, 1), (True, 2), (False, 2), (True, 3), (False, 3), (True, 4), (True, 5),
        ]  # fmt: skip

    with_jobs(home, check, workers=1)


@pytest.mark.parametrize("program", [SLOW, STUCK], ids=["slow", "stuck"])
def test_a_job_is_cancelled_in_the_middle_of_its_run(home: Path, program: dict[str, Any]) -> None:
    """The worker of one that cannot be interrupted is killed."""

    async def check(jobs: Jobs) -> None:
        await ended(jobs, await submitted(jobs, spec()))
        (worker,) = workers_of(os.getpid())
        before = cpu_seconds(worker)
        job = await submitted(jobs, spec(program, interval=MINUTE))
        waiting = await submitted(jobs, spec())
        while cpu_seconds(worker) < before + 0.3:
            await asyncio.sleep(0.01)
        record = await jobs.queue.cancel(jobs.ann, job.job_id, "no longer wanted")
        assert program is SLOW or worker not in workers_of(os.getpid())
        assert record.status == "cancelled"
        assert (record.error_code, record.error_message) == (CANCELLED.code, "no longer wanted")
        assert (await jobs.queue.get(jobs.ann, job.job_id)) == record
        assert (await ended(jobs, waiting)).status == "done"
        with pytest.raises(InvalidState):
            await jobs.queue.cancel(jobs.ann, job.job_id)

    with_jobs(home, check, workers=1)


def test_a_queued_job_is_cancelled_without_having_run(home: Path) -> None:
    async def check(jobs: Jobs) -> None:
        first, second = await submitted(jobs, SLOW_RUN), await submitted(jobs, spec())
        record = await jobs.queue.cancel(jobs.ann, second.job_id)
        assert (record.status, record.started_at, record.error_code) == ("cancelled", None, None)
        await jobs.queue.cancel(jobs.ann, first.job_id)

    with_jobs(home, check, workers=1)


class Loads:
    """A load of candles that begins and then waits until a test lets it go on."""

    def __init__(self) -> None:
        self.is_held = False
        self._begun, self._go_on = threading.Event(), threading.Event()
        loads = self

        class HeldCache(CandleCache):
            def parts(self, *args: Any) -> Any:
                if loads.is_held:
                    loads._begun.set()
                    assert loads._go_on.wait(PATIENCE)
                return super().parts(*args)

        self.cache = HeldCache

    async def begin(self) -> None:
        while not self._begun.is_set():
            await asyncio.sleep(0)

    def go_on(self) -> None:
        self._go_on.set()


def test_a_job_is_cancelled_while_its_candles_are_loaded(home: Path) -> None:
    """And candles that nobody waits for any more do not stay held."""
    loads = Loads()

    async def check(jobs: Jobs) -> None:
        loads.is_held = True
        job = await submitted(jobs, spec())
        await loads.begin()
        record = await jobs.queue.cancel(jobs.ann, job.job_id)
        assert record.status == "cancelled"
        loads.go_on()
        assert (await ended(jobs, await submitted(jobs, spec()))).status == "done"
        assert not jobs.candles.in_use

    with_jobs(home, check, workers=1, cache=loads.cache)


def test_candles_are_released_while_others_are_loaded(home: Path) -> None:
    """The event loop releases them, and must not wait."""
    loads = Loads()

    async def check(jobs: Jobs) -> None:
        paths = jobs.candles.acquire(CandleRequest("binance", ["BTCUSDT"], 1, START, END))
        loads.is_held = True
        job = await submitted(jobs, spec(pairs=["ETHUSDT"]))
        await loads.begin()
        jobs.candles.release(paths)
        assert not jobs.candles.in_use
        loads.go_on()
        assert (await ended(jobs, job)).status == "done"

    with_jobs(home, check, workers=1, cache=loads.cache)


def test_jobs_are_listed_by_the_status_of_now(home: Path) -> None:
    async def check(jobs: Jobs) -> None:
        running = await submitted(jobs, SLOW_RUN)
        queued = await submitted(jobs, spec())
        await begun(jobs, running)
        for status, job in (("running", running), ("queued", queued)):
            listed = await jobs.queue.list(jobs.ann, status=status)
            assert [(record.job_id, record.status) for record in listed] == [(job.job_id, status)]
        await jobs.queue.cancel(jobs.ann, running.job_id)

    with_jobs(home, check, workers=1)


def test_a_job_that_begins_while_the_queued_are_read_is_listed_as_it_was(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def check(jobs: Jobs) -> None:
        running, queued = await submitted(jobs, SLOW_RUN), await submitted(jobs, SLOW_RUN)
        await begun(jobs, running)
        read = jobs.queue._read

        async def read_and_begin(work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            found = await read(work, *args, **kwargs)
            await jobs.queue.cancel(jobs.ann, running.job_id)
            await begun(jobs, queued)
            return found

        monkeypatch.setattr(jobs.queue, "_read", read_and_begin)
        [listed] = await jobs.queue.list(jobs.ann, status="queued")
        assert (listed.job_id, listed.status) == (queued.job_id, "queued")
        await jobs.queue.cancel(jobs.ann, queued.job_id)

    with_jobs(home, check, workers=1)


def test_a_job_that_has_ended_in_the_meantime_need_not_be_cancelled(home: Path) -> None:
    async def check(jobs: Jobs) -> None:
        job = await ended(jobs, await submitted(jobs, spec()))
        await jobs.queue.cancel_if_running(jobs.ann, job.job_id)
        assert await jobs.queue.get(jobs.ann, job.job_id) == job
        with pytest.raises(JobNotFound):
            await jobs.queue.cancel_if_running(jobs.bob, job.job_id)

    with_jobs(home, check, workers=1)


def test_a_job_of_another_api_is_not_there(home: Path) -> None:
    async def check(jobs: Jobs) -> None:
        job = await submitted(jobs, SLOW_RUN)
        for operation in (jobs.queue.get, jobs.queue.cancel):
            with pytest.raises(JobNotFound):
                await operation(jobs.ann, job.job_id, origin="runs")
        await jobs.queue.cancel(jobs.ann, job.job_id, origin="backtests")
        with pytest.raises(JobNotFound):
            await jobs.queue.get(jobs.ann, job.job_id, origin="runs")

    with_jobs(home, check, workers=1)
