"""Jobs in the store: resumed by the next process, kept when it cannot be written, pruned."""

import asyncio
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest

from candlestep.api.jobs.stored_jobs import StoredJobs
from candlestep.data.clock import now
from candlestep.data.errors import StorageUnavailable
from candlestep.data.records.jobs import JobRecord, get_job, unfinished_jobs
from candlestep.data.run_files.run_files import run_directory, run_file
from candlestep.sandbox import InvalidState
from candlestep.sandbox.clock import DAY
from tests.support.job_queue import (
    SLOW_RUN,
    WRONG,
    Jobs,
    ended,
    read_rows,
    spec,
    submitted,
    with_jobs,
)
from tests.support.patience import PATIENCE


def test_jobs_that_have_not_ended_are_taken_up_again(home: Path) -> None:
    """And what has been run of a sweep is not run again."""
    file = run_file(run_directory(home, "running", 0), "equity")
    written: list[int] = []

    async def leave(jobs: Jobs) -> None:
        await submitted(jobs, spec(), SLOW_RUN, job_id="running")
        await submitted(jobs, spec(), job_id="queued")
        while unfinished_jobs(jobs.store)[0].outcomes[0] is None:
            await asyncio.sleep(0.01)
        written.append(file.stat().st_mtime_ns)

    async def take_up(jobs: Jobs) -> None:
        running, queued = unfinished_jobs(jobs.store)
        assert (running.job_id, running.status) == ("running", "running")
        assert (queued.job_id, queued.status) == ("queued", "queued")
        assert running.outcomes[0] is not None
        async with asyncio.timeout(PATIENCE):
            while (record := await jobs.queue.get(jobs.ann, "running")).progress <= 0.5:
                await asyncio.sleep(0.01)
        assert record.outcomes == running.outcomes
        assert file.stat().st_mtime_ns == written[0], "only the second run has been run on"
        await jobs.queue.cancel(jobs.ann, "running")
        assert (await ended(jobs, queued)).status == "done"

    with_jobs(home, leave, workers=1)
    with_jobs(home, take_up, workers=1)


def test_a_job_that_is_being_stored_as_ended_cannot_be_cancelled(home: Path) -> None:
    storing, go_on = threading.Event(), threading.Event()

    class SlowEnds(StoredJobs):
        def save_end(self, record: JobRecord) -> None:
            storing.set()
            assert go_on.wait(PATIENCE)
            super().save_end(record)

    async def check(jobs: Jobs) -> None:
        job = await submitted(jobs, spec(WRONG))
        while not storing.is_set():
            await asyncio.sleep(0)
        cancelling = asyncio.create_task(jobs.queue.cancel(jobs.ann, job.job_id))
        await asyncio.sleep(0)
        go_on.set()
        with pytest.raises(InvalidState, match="failed already"):
            await cancelling
        assert (await ended(jobs, job)).status == "failed"

    with_jobs(home, check, workers=1, stored=SlowEnds)


def test_a_job_whose_end_cannot_be_stored_at_all_does_not_keep_its_place(home: Path) -> None:
    class BrokenEnds(StoredJobs):
        def save_end(self, record: JobRecord) -> None:
            raise ZeroDivisionError

    async def check(jobs: Jobs) -> None:
        for _ in range(6):
            job = await submitted(jobs, spec())
            await jobs.queue.wait(jobs.ann, job.job_id, PATIENCE)
        assert unfinished_jobs(jobs.store), "the next process runs them again"

    with_jobs(home, check, workers=1, stored=BrokenEnds)


def test_a_store_that_cannot_be_read_is_no_sign_that_a_job_is_not_there(home: Path) -> None:
    async def check(jobs: Jobs) -> None:
        job = await ended(jobs, await submitted(jobs, spec(), job_id="kept"))
        jobs.unavailable = jobs.stored.get
        with pytest.raises(StorageUnavailable):
            await submitted(jobs, spec(), job_id="kept")
        jobs.unavailable = None
        assert await jobs.queue.get(jobs.ann, "kept") == job
        assert read_rows(run_directory(home, "kept", 0), "equity") is not None

    with_jobs(home, check, workers=1)


def test_an_end_that_cannot_be_stored_is_not_seen_until_it_is(home: Path) -> None:
    async def check(jobs: Jobs) -> None:
        jobs.unavailable = jobs.stored.save_end
        job = await submitted(jobs, spec())
        async with asyncio.timeout(PATIENCE):
            while jobs.refusals < 3:
                await asyncio.sleep(0.01)
        assert (await jobs.queue.get(jobs.ann, job.job_id)).status == "running"
        jobs.unavailable = None
        record = await ended(jobs, job)
        assert record.status == "done"
        assert get_job(jobs.store, jobs.ann, job.job_id) == record

    with_jobs(home, check, workers=1, pause_seconds=0.01)


def test_outcomes_that_cannot_be_stored_are_stored_later(home: Path) -> None:
    async def check(jobs: Jobs) -> None:
        jobs.unavailable = jobs.stored.save_progress
        job = await submitted(jobs, spec(), SLOW_RUN)
        while (await jobs.queue.get(jobs.ann, job.job_id)).outcomes[0] is None:
            await asyncio.sleep(0.01)
        before = jobs.refusals
        while jobs.refusals < before + 3:
            await asyncio.sleep(0.01)
        assert get_job(jobs.store, jobs.ann, job.job_id).outcomes == [None, None]
        jobs.unavailable = None
        while get_job(jobs.store, jobs.ann, job.job_id).outcomes[0] is None:
            await asyncio.sleep(0.01)
        await jobs.queue.cancel(jobs.ann, job.job_id)

    with_jobs(home, check, workers=1, pause_seconds=0.01)


def test_the_files_of_a_run_are_kept_for_so_many_days_after_its_end(home: Path) -> None:
    deletions: list[Sequence[str]] = []

    class NotedDeletions(StoredJobs):
        def delete_old_files(self, days: int) -> Sequence[str]:
            deletions.append(super().delete_old_files(days))
            return deletions[-1]

    async def run_one(jobs: Jobs) -> None:
        await ended(jobs, await submitted(jobs, spec(), job_id="old"))

    async def enforce_retention(jobs: Jobs) -> None:
        while not deletions:
            await asyncio.sleep(0.01)
        record = await jobs.queue.get(jobs.ann, "old")
        assert record.outcomes[0] is not None
        assert record.outcomes[0].summary is not None, "the summary stays"

    with_jobs(home, run_one)
    for days, expected in ((89, []), (91, ["old"])):
        deletions.clear()
        assert read_rows(run_directory(home, "old", 0), "equity") is not None
        later = partial(_after_days, days)
        with_jobs(home, enforce_retention, stored=NotedDeletions, clock=later)
        assert deletions == [expected]
    assert read_rows(run_directory(home, "old", 0), "equity") is None


def _after_days(days: int) -> int:
    return now() + days * DAY
