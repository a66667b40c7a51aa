"""Worker processes that die, take too long, need too much memory, or cannot be started."""

import asyncio
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from candlestep.api.jobs.executor import RunTask
from candlestep.api.jobs.worker_pool import WorkerPool
from tests.support.job_queue import (
    GREEDY,
    HUGE,
    MINUTE,
    SLOW,
    SLOW_RUN,
    STUCK,
    Jobs,
    begun,
    ended,
    kill_workers,
    spec,
    submitted,
    with_jobs,
    workers_of,
)
from tests.support.patience import PATIENCE


def test_a_worker_that_is_killed_is_replaced_and_the_run_tried_again(home: Path) -> None:
    async def check(jobs: Jobs) -> None:
        job = await submitted(jobs, spec(SLOW, end_time=spec().start_time + 400 * 60 * MINUTE))
        await begun(jobs, job)
        assert kill_workers(os.getpid()) == 1
        record = await ended(jobs, job)
        assert (record.status, record.attempts) == ("done", 2)

    with_jobs(home, check, workers=1)


def test_a_run_that_kills_its_worker_twice_fails_and_no_other_does(home: Path) -> None:
    async def check(jobs: Jobs) -> None:
        job = await submitted(jobs, SLOW_RUN)
        waiting = await submitted(jobs, spec())
        for attempt in (1, 2):
            while (await begun(jobs, job)).attempts < attempt:
                await asyncio.sleep(0.01)
            kill_workers(os.getpid())
        failed = await ended(jobs, job)
        assert (failed.status, failed.error_code, failed.attempts) == ("failed", "WORKER_FAILED", 2)
        assert "ended unexpectedly, 2 times" in (failed.error_message or "")
        record = await ended(jobs, waiting)
        assert (record.status, record.attempts) == ("done", 1)

    with_jobs(home, check, workers=1)


def test_a_cancelled_run_whose_worker_is_killed_is_not_tried_again(home: Path) -> None:
    async def check(jobs: Jobs) -> None:
        await ended(jobs, await submitted(jobs, spec()))
        job = await submitted(jobs, spec(STUCK))
        while (await jobs.queue.get(jobs.ann, job.job_id)).status != "running":
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.3)
        cancelling = asyncio.create_task(jobs.queue.cancel(jobs.ann, job.job_id))
        await asyncio.sleep(0)
        assert kill_workers(os.getpid()) == 1
        record = await cancelling
        assert (record.status, record.attempts) == ("cancelled", 1)

    with_jobs(home, check, workers=1)


def test_a_run_that_takes_too_long_is_ended(home: Path) -> None:
    async def check(jobs: Jobs) -> None:
        record = await ended(jobs, await submitted(jobs, spec(STUCK)))
        assert (record.status, record.error_code, record.attempts) == ("failed", "RUN_TIMEOUT", 1)
        assert "2 seconds" in (record.error_message or "")
        await another_runs(jobs)

    with_jobs(home, check, workers=1, run_seconds=2)


async def another_runs(jobs: Jobs) -> None:
    """Check that the next run is done, however slow the machine is."""
    assert isinstance(jobs.executor, WorkerPool)
    jobs.executor.run_seconds = PATIENCE
    assert (await ended(jobs, await submitted(jobs, spec()))).status == "done"


@pytest.mark.parametrize("program", [GREEDY, HUGE], ids=["bit by bit", "at once"])
def test_a_run_that_takes_too_much_memory_is_ended(home: Path, program: dict[str, Any]) -> None:
    async def check(jobs: Jobs) -> None:
        greedy, other = await submitted(jobs, spec(program)), await submitted(jobs, spec())
        record = await ended(jobs, greedy)
        assert (record.status, record.error_code, record.attempts) == ("failed", "OUT_OF_MEMORY", 1)
        assert (await ended(jobs, other)).status == "done"

    with_jobs(home, check, workers=1, run_memory=300 << 20)


@pytest.mark.parametrize(
    "text", ["-" * 60_000 + "1", "1" + "+1" * 30_000, "[" * 30_000 + "]" * 30_000]
)
def test_a_program_may_be_nested_as_deeply_as_it_is_long(home: Path, text: str) -> None:
    async def check(jobs: Jobs) -> None:
        source = f"def on_candle(ctx):\n    pass\nx = {text}\n"
        record = await ended(jobs, await submitted(jobs, spec({"source": source})))
        assert (record.status, record.attempts) == ("done", 1)

    with_jobs(home, check, workers=1)


def test_a_worker_that_cannot_be_started_is_tried_again(home: Path) -> None:
    refusals = [OSError("no more processes")]

    def refuse_once(*args: Any, **kwargs: Any) -> Any:
        if refusals:
            raise refusals.pop()
        return subprocess.Popen(*args, **kwargs)

    async def check(jobs: Jobs) -> None:
        assert (await ended(jobs, await submitted(jobs, spec()))).status == "done"
        assert not refusals

    with_jobs(home, check, workers=1, spawn=refuse_once)


def test_a_worker_that_reads_nothing_is_ended_in_time(home: Path) -> None:
    """Its run is longer than what a socket takes before it is read."""
    deaf = """
import sys, time
from multiprocessing.connection import Connection
from candlestep.api.jobs.worker_messages import Ready, encode

connection = Connection(int(sys.argv[1]))
connection.send_bytes(encode(Ready()))
time.sleep(60)
"""
    deaf_workers = 1

    def spawn_deaf_first(command: list[str], **kwargs: Any) -> Any:
        nonlocal deaf_workers
        if deaf_workers:
            deaf_workers -= 1
            command = [*command[:1], "-c", deaf, *command[-2:]]
        return subprocess.Popen(command, **kwargs)

    async def check(jobs: Jobs) -> None:
        long = spec({"source": f"def on_candle(ctx):\n    pass\n#{'-' * 2_000_000}\n"})
        assert (await ended(jobs, await submitted(jobs, long))).error_code == "RUN_TIMEOUT"
        await another_runs(jobs)

    with_jobs(home, check, workers=1, run_seconds=2, spawn=spawn_deaf_first)


def test_an_idle_worker_that_is_killed_fails_no_run(home: Path) -> None:
    """Neither a run that comes before it is missed, nor one after it has been replaced."""

    async def check(jobs: Jobs) -> None:
        await ended(jobs, await submitted(jobs, spec()))
        for _ in range(5):
            assert kill_workers(os.getpid()) == 1
            assert (await ended(jobs, await submitted(jobs, spec()))).status == "done"
        assert kill_workers(os.getpid()) == 1
        while not workers_of(os.getpid()):
            await asyncio.sleep(0.01)

    with_jobs(home, check, workers=1)


def test_who_waits_for_a_worker_and_is_cancelled_takes_none(tmp_path: Path) -> None:
    async def check() -> None:
        pool = WorkerPool(1, run_seconds=30, run_memory=1 << 30)
        run = RunTask(spec(pairs=["NOPE"]), [], tmp_path)
        waiting = asyncio.create_task(pool.run(run, lambda _: None, asyncio.Event()))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        waiting.cancel()
        async with asyncio.timeout(PATIENCE):
            outcome = await pool.run(run, lambda _: None, asyncio.Event())
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
            async with asyncio.timeout(PATIENCE):
                await pool.close()
            assert not workers_of(os.getpid())

    asyncio.run(check())
