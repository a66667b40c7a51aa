"""What tests of jobs share: a queue with workers of its own, without a server, and programs that
misbehave."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import duckdb

from candlestep.api.jobs.executor import Executor
from candlestep.api.jobs.queue import JobQueue
from candlestep.api.jobs.worker_pool import WorkerPool
from candlestep.data.errors import StorageUnavailable
from candlestep.data.market.candle_cache import CandleCache
from candlestep.data.market.mapped_candles import MappedCandles
from candlestep.data.records.accounts import ensure_account
from candlestep.data.records.jobs import RunSpec
from candlestep.data.run_files.run_files import Payload, run_file
from candlestep.data.store.database import Store
from candlestep.sandbox import parse_time

START, END = parse_time("2025-01-05"), parse_time("2025-02-05")
HOUR = 3_600_000
CROSS = {"template": "tpl_sma_cross", "parameters": {"fast": 10, "slow": 50}}
SLOW = {
    "source": """
def on_candle(ctx):
    for i in range(60000):
        last = i
"""
}
"""Takes some milliseconds for each candle: half a minute for a month of minutes, and minutes."""
STUCK = {
    "source": """
def on_candle(ctx):
    max(range(1000000000))
"""
}
"""Spends its time where it cannot be asked to stop."""
GREEDY = {
    "source": """
def on_candle(ctx):
    kept = []
    for i in range(1000000000):
        kept.append([i] * 1000)
"""
}
"""Keeps whatever it makes."""
HUGE = {
    "source": """
def on_candle(ctx):
    ctx.state["kept"] = [0] * 2000000000
"""
}
"""Asks for gigabytes at once."""
WRONG = {
    "source": """
def on_candle(ctx):
    ctx.buy(equity_share=ctx.close / 0)
"""
}


def spec(strategy: dict[str, Any] = CROSS, **changes: Any) -> RunSpec:
    """A run over a month of the sample market, by the hour unless it says otherwise."""
    fields: dict[str, Any] = {
        "strategy": strategy,
        "pairs": ["BTCUSDT"],
        "start_time": START,
        "end_time": END,
        "interval": HOUR,
        "starting_balance": "10000",
    }
    return RunSpec(**fields | changes)


class Jobs:
    """A queue of two accounts, and its store."""

    def __init__(self, home: Path, executor: Executor) -> None:
        self.home = home
        self.store = Store.open(home)
        self.ann = ensure_account(self.store, "ann").account_id
        self.bob = ensure_account(self.store, "bob").account_id
        self.unavailable: Callable[..., Any] | None = None
        """Work that the store does not do for now."""
        self.refusals = 0
        """How often it has not."""
        self._threads = ThreadPoolExecutor(4)
        cache = CandleCache(self.store, 1 << 30)
        self.candles = MappedCandles(cache, home, 1 << 30)
        self.queue = JobQueue(
            self.store,
            self.candles,
            executor,
            self._in_thread,
            self._in_thread,
            home=home,
            result_days=90,
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
    home: Path, workers: int = 2, run_seconds: float = 60, run_memory: int = 1 << 30
) -> AsyncIterator[Jobs]:
    """A queue whose workers are processes of their own."""
    pool = WorkerPool(workers, run_seconds=run_seconds, run_memory=run_memory)
    made = Jobs(home, pool)
    try:
        await made.queue.recover()
        yield made
    finally:
        await made.close()


def read_rows(directory: Path, payload: Payload) -> list[dict[str, Any]] | None:
    """The rows of a file of a run, by column, in order; None if it is not there."""
    path = run_file(directory, payload)
    if not path.exists():
        return None
    with duckdb.connect() as connection:
        connection.execute("SELECT * FROM read_parquet(?)", [str(path)])
        names = [column[0] for column in connection.description or ()]
        return [dict(zip(names, row, strict=True)) for row in connection.fetchall()]


def workers_of(process: int) -> list[int]:
    """The ids of the worker processes that a process has started."""
    children: list[int] = []
    for task in Path(f"/proc/{process}/task").iterdir():
        children += map(int, (task / "children").read_text().split())
    return [child for child in children if b"candlestep.api.jobs.worker" in _command(child)]


def kill_workers(process: int) -> int:
    """End the workers of a process as a crash would; how many there were."""
    found = workers_of(process)
    for worker in found:
        os.kill(worker, signal.SIGKILL)
    return len(found)


def _command(process: int) -> bytes:
    return Path(f"/proc/{process}/cmdline").read_bytes()
