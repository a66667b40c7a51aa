"""Jobs on a queue with two workers: a sweep against the same runs one after the other."""

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
    """The rows of the speed table that are about jobs."""
    with tempfile.TemporaryDirectory() as home:
        return asyncio.run(_rows(Path(home)))


async def _rows(home: Path) -> list[Row]:
    async with jobs(home, WORKERS) as made:
        fill_store(made.store, synthetic_year("BTCUSDT"))
        one_by_one = await asyncio.to_thread(in_turn)
        await swept(made, [specs()[0]])  # The workers are warm, and the year is mapped.
        first = [await to_progress(made) for _ in range(5)]
        began = time.perf_counter()
        record = await swept(made, specs())
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
    """The strategies of the sweep."""
    return [
        {"template": "tpl_sma_cross", "parameters": {"fast": fast, "slow": slow}}
        for fast in FAST_AVERAGES
        for slow in SLOW_AVERAGES
    ]


def specs() -> list[RunSpec]:
    """The runs of the sweep."""
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


def in_turn() -> float:
    """Seconds that the same runs take one after the other, in one process, files included."""
    candles = [synthetic_year("BTCUSDT")]
    candles[0].prepare()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as directory:
        for number, each in enumerate(specs()):
            done = execute_run(each, candles, Path(directory) / str(number), _ignore, _never)
            assert done.error is None
        return time.perf_counter() - began


def _ignore(fraction: float) -> None:
    """Progress is not looked at."""


def _never() -> bool:
    """A run is not stopped."""
    return False


async def swept(made: Jobs, runs: list[RunSpec]) -> JobRecord:
    """The job of these runs, when it has ended."""
    job = await made.queue.submit(made.ann, "backtests", runs, {})
    record = await made.queue.wait(made.ann, job.job_id, 600)
    assert record.status == "done", record.error_message
    return record


def leaderboard(record: JobRecord) -> list[float]:
    """The Sharpe ratios of a sweep, the best first."""
    ratios = [
        outcome.summary.metrics.sharpe_ratio or -np.inf
        for outcome in record.outcomes
        if outcome is not None and outcome.summary is not None
    ]
    return sorted(ratios, reverse=True)


async def to_progress(made: Jobs) -> float:
    """Seconds from the submission of a job to the first progress that can be seen of it."""
    began = time.perf_counter()
    job = await made.queue.submit(made.ann, "jobs", specs()[:1], {})
    while not (await made.queue.get(made.ann, job.job_id)).progress:
        await asyncio.sleep(0.001)
    taken = time.perf_counter() - began
    await made.queue.wait(made.ann, job.job_id, 600)
    return taken


if __name__ == "__main__":
    from tests.benchmarks.table import print_table

    print_table(rows())
