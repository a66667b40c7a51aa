"""A queue of jobs with workers of its own, without a server, and programs that misbehave."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from subprocess import Popen
from typing import Any

import duckdb

from candlestep.api.jobs.candle_holder import CandleHolder
from candlestep.api.jobs.executor import Executor
from candlestep.api.jobs.queue import JobQueue
from candlestep.api.jobs.stored_jobs import StoredJobs
from candlestep.api.jobs.worker_pool import WorkerPool
from candlestep.api.jobs.worker_process import Spawn
from candlestep.data.clock import now
from candlestep.data.errors import StorageUnavailable
from candlestep.data.market.candle_cache import CandleCache
from candlestep.data.market.mapped_candles import MappedCandles
from candlestep.data.records.accounts import ensure_account
from candlestep.data.records.jobs import JobRecord, RunSpec
from candlestep.data.run_files.run_files import RunFileName, run_file
from candlestep.data.store.database import Store
from candlestep.sandbox import parse_time
from tests.support.patience import PATIENCE

START, END = parse_time("2025-01-05"), parse_time("2025-02-05")
MINUTE, HOUR = 60_000, 3_600_000
CROSS = {"template": "tpl_sma_cross", "parameters": {"fast": 10, "slow": 50}}
SLOW = {
    "source": """
def on_candle(ctx):
    for i in range(60000):
        last = i
"""
}
"""Takes some milliseconds for each candle."""
STUCK = {
    "source": """
def on_candle(ctx):
    max(range(1000000000))
"""
}
"""Spends its time in a call that cannot be interrupted."""
GREEDY = {
    "source": """
def on_candle(ctx):
    kept = []
    for i in range(1000000000):
        kept.append([i] * 1000)
"""
}
"""Keeps everything it creates."""
HUGE = {
    "source": """
def on_candle(ctx):
    ctx.state["kept"] = [0] * 2000000000
"""
}
"""Allocates gigabytes at once."""
WRONG = {
    "source": """
def on_candle(ctx):
    ctx.buy(equity_share=ctx.close / 0)
"""
}


def spec(strategy: dict[str, Any] = CROSS, **changes: Any) -> RunSpec:
    """Return a run over a month of the sample market, by the hour unless ``changes`` differ."""
    fields: dict[str, Any] = {
        "strategy": strategy,
        "pairs": ["BTCUSDT"],
        "start_time": START,
        "end_time": END,
        "interval": HOUR,
        "starting_balance": "10000",
    }
    return RunSpec(**fields | changes)


SLOW_RUN = spec(SLOW, interval=MINUTE)


class Jobs:
    """A queue for two accounts, its store and its executor."""

    def __init__(
        self,
        home: Path,
        executor: Executor,
        *,
        stored: type[StoredJobs] = StoredJobs,
        cache: type[CandleCache] = CandleCache,
        clock: Callable[[], int] = now,
        pause_seconds: float = 1.0,
    ) -> None:
        self.home = home
        self.executor = executor
        self.store = Store.open(home)
        self.ann = ensure_account(self.store, "ann").account_id
        self.bob = ensure_account(self.store, "bob").account_id
        self.unavailable: Callable[..., Any] | None = None
        """Work that the store refuses to do for now."""
        self.refusals = 0
        """The number of its refusals."""
        self._threads = ThreadPoolExecutor(4)
        self.candles = MappedCandles(cache(self.store, 1 << 30), home, 1 << 30)
        self.stored = stored(self.store, home, clock)
        self.queue = JobQueue(
            self.stored,
            CandleHolder(self.candles, self._in_thread),
            executor,
            self._in_thread,
            self._in_thread,
            result_days=90,
            pause_seconds=pause_seconds,
            clock=clock,
        )

    async def _in_thread(self, work: Any, *args: Any, **kwargs: Any) -> Any:
        if work == self.unavailable:
            self.refusals += 1
            raise StorageUnavailable("the disk is full")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, lambda: work(*args, **kwargs))

    async def close(self) -> None:
        await self.queue.close()
        self._threads.shutdown()
        self.store.close()


@asynccontextmanager
async def jobs(
    home: Path,
    workers: int = 2,
    run_seconds: float = 2 * PATIENCE,
    run_memory: int = 1 << 30,
    spawn: Spawn = Popen,
    **options: Any,
) -> AsyncIterator[Jobs]:
    """Yield a queue whose workers are processes of its own."""
    pool = WorkerPool(workers, run_seconds=run_seconds, run_memory=run_memory, spawn=spawn)
    queued = Jobs(home, pool, **options)
    try:
        await queued.queue.recover()
        yield queued
    finally:
        await queued.close()


def with_jobs(home: Path, check: Callable[[Jobs], Awaitable[None]], **options: Any) -> None:
    """Run a check on a queue of its own, and fail it if it hangs."""

    async def run() -> None:
        async with jobs(home, **options) as queued, asyncio.timeout(2 * PATIENCE):
            await check(queued)

    asyncio.run(run())


async def submitted(jobs: Jobs, *specs: Any, account: str = "", **more: Any) -> JobRecord:
    """Submit a job of these runs."""
    return await jobs.queue.submit(account or jobs.ann, "backtests", specs, {}, **more)


async def ended(jobs: Jobs, job: JobRecord) -> JobRecord:
    """Wait for a job and return it as it ended."""
    record = await jobs.queue.wait(job.account_id, job.job_id, PATIENCE)
    assert record.has_ended, record.status
    return record


async def begun(jobs: Jobs, job: JobRecord) -> JobRecord:
    """Return the job as soon as it is in the middle of a run."""
    async with asyncio.timeout(PATIENCE):
        while True:
            record = await jobs.queue.get(job.account_id, job.job_id)
            assert not record.has_ended
            if record.progress:
                return record
            await asyncio.sleep(0.01)


def read_rows(directory: Path, name: RunFileName) -> list[dict[str, Any]] | None:
    """Return the rows of a run's file in their order; None if there is no file."""
    path = run_file(directory, name)
    if not path.exists():
        return None
    with duckdb.connect() as connection:
        connection.execute("SELECT * FROM read_parquet(?)", [str(path)])
        names = [column[0] for column in connection.description or ()]
        return [dict(zip(names, row, strict=True)) for row in connection.fetchall()]


def workers_of(process: int) -> list[int]:
    """Return the ids of the worker processes that a process has started."""
    children: list[int] = []
    for task in Path(f"/proc/{process}/task").iterdir():
        with suppress(FileNotFoundError):  # A thread may end while the others are read.
            children += map(int, (task / "children").read_text().split())
    return [child for child in children if b"candlestep.api.jobs.worker" in _command(child)]


def kill_workers(process: int) -> int:
    """End the workers of a process as a crash would; return their number."""
    workers = workers_of(process)
    for worker in workers:
        os.kill(worker, signal.SIGKILL)
    return len(workers)


def _command(process: int) -> bytes:
    with suppress(FileNotFoundError, ProcessLookupError):  # It may end meanwhile.
        return Path(f"/proc/{process}/cmdline").read_bytes()
    return b""
