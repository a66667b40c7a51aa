"""Jobs on a queue with two workers: a sweep, against the same runs one after the other."""

import asyncio
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from candlestep.api.jobs.run import execute_run
from candlestep.data.records.jobs import JobRecord, RunSpec
from tests.benchmarks.market import END, MINUTE, START, synthetic_year
from tests.benchmarks.over_http import fill_store
from tests.benchmarks.table import Row
from tests.support.job_queue import Jobs, jobs

RUNS = 50
WORKERS = 2
SLOW_AVERAGES = (120, 180, 240, 300, 360)
FAST_AVERAGES = (10, 20, 30, 40, 50, 60, 70, 80, 90, 100)


def rows() -> list[Row]:
    """Return the rows of the speed table about jobs."""
    with tempfile.TemporaryDirectory() as home:
        return asyncio.run(_rows(Path(home)))


async def _rows(home: Path) -> list[Row]:
    async with jobs(home, WORKERS) as server_jobs:
        fill_store(server_jobs.store, synthetic_year("BTCUSDT"))
        one_by_one = await asyncio.to_thread(seconds_in_turn)
        await run_job(server_jobs, specs()[:1])  # Warms the workers up and maps the year.
        first = [await seconds_to_progress(server_jobs) for _ in range(5)]
        began = time.perf_counter()
        record = await run_job(server_jobs, specs())
        sweep = time.perf_counter() - began
    best = leaderboard(record)[0]
    assert best >= max(leaderboard(record))
    cores = min(WORKERS, os.cpu_count() or 1)
    return [
        Row(
            f"a sweep of {RUNS} SMA crosses over a year of minutes on {cores} cores, to the ranking",
            f"{sweep:.1f} s",
            f"{one_by_one:.1f} s, one after the other in one process",
            f"{sweep / one_by_one:.2f} ×",
            "≤ 0.6 ×",
            sweep <= 0.6 * one_by_one,
        ),
        Row(
            "a job's submission to its first progress, workers warm",
            f"{np.median(first) * 1e3:.0f} ms",
            "",
            "",
            "≤ 100 ms",
            bool(np.median(first) <= 0.1),
        ),
    ]


def contents() -> list[dict[str, Any]]:
    """Return the strategies of the sweep."""
    return [
        {"template": "tpl_sma_cross", "parameters": {"fast": fast, "slow": slow}}
        for fast in FAST_AVERAGES
        for slow in SLOW_AVERAGES
    ]


def specs() -> list[RunSpec]:
    """Return the runs of the sweep."""
    return [
        RunSpec(
            strategy=content,
            pairs=["BTCUSDT"],
            start_time=START,
            end_time=END,
            interval=MINUTE,
            starting_balance="1000000",
        )
        for content in contents()
    ]


def seconds_in_turn() -> float:
    """Return the seconds that the runs take one after the other in this process, files included."""
    candles = [synthetic_year("BTCUSDT")]
    candles[0].prepare()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as directory:
        for number, spec in enumerate(specs()):
            folder = Path(directory) / str(number)
            outcome = execute_run(spec, candles, folder, _ignore, _never)
            assert outcome.error is None
        return time.perf_counter() - began


def _ignore(fraction: float) -> None:
    """Ignore progress."""


def _never() -> bool:
    """Never stop a run."""
    return False


async def run_job(jobs: Jobs, runs: list[RunSpec]) -> JobRecord:
    """Run a job and return it when it has ended."""
    job = await jobs.queue.submit(jobs.ann, "backtests", runs, {})
    record = await jobs.queue.wait(jobs.ann, job.job_id, 600)
    assert record.status == "done", record.error_message
    return record


def leaderboard(record: JobRecord) -> list[float]:
    """Return the Sharpe ratios of a sweep, the best first."""
    ratios = [
        outcome.summary.metrics.sharpe_ratio or -np.inf
        for outcome in record.outcomes
        if outcome is not None and outcome.summary is not None
    ]
    return sorted(ratios, reverse=True)


async def seconds_to_progress(jobs: Jobs) -> float:
    """Return the seconds from the submission of a job to its first visible progress."""
    began = time.perf_counter()
    job = await jobs.queue.submit(jobs.ann, "jobs", specs()[:1], {})
    while not (await jobs.queue.get(jobs.ann, job.job_id)).progress:
        await asyncio.sleep(0.001)
    duration = time.perf_counter() - began
    await jobs.queue.wait(jobs.ann, job.job_id, 600)
    return duration


if __name__ == "__main__":
    from tests.benchmarks.table import print_table

    print_table(rows())
