"""The services that handlers use, created once when the server starts."""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from candlestep.api.http.auth import Authenticator
from candlestep.api.http.metrics import Metrics, Reading
from candlestep.api.http.route import Request
from candlestep.api.jobs.candle_holder import CandleHolder
from candlestep.api.jobs.executor import Executor
from candlestep.api.jobs.queue import JobQueue
from candlestep.api.jobs.stored_jobs import StoredJobs
from candlestep.api.jobs.worker_pool import WorkerPool
from candlestep.api.sessions.host import SessionHost
from candlestep.api.sessions.repository import SessionRepository
from candlestep.api.settings import Settings
from candlestep.api.threads import Threads
from candlestep.data.errors import StorageUnavailable
from candlestep.data.journal.journal import Journals
from candlestep.data.market.candle_cache import CandleCache
from candlestep.data.market.catalogue import Catalogue
from candlestep.data.market.mapped_candles import MappedCandles
from candlestep.data.records.jobs import count_ended_jobs
from candlestep.data.store.database import Store
from candlestep.sandbox import InvalidParameter

Result = TypeVar("Result")


class Services:
    """The settings, the store, the sessions and the jobs of a server."""

    def __init__(
        self, settings: Settings, store: Store, authenticator: Authenticator, max_files: int
    ) -> None:
        """Serve from a process that may have ``max_files`` files open."""
        self.metrics = Metrics(self._readings)
        store.on_write = self.metrics.histogram(
            "candlestep_store_write_seconds", "Duration of transactions that write to the store."
        )
        self._journals = Journals(
            settings.home,
            synced=settings.durability == "power",
            on_write=self.metrics.histogram(
                "candlestep_journal_write_seconds",
                "Duration of system calls that begin, extend, sync or compact a journal.",
            ),
        )
        self.settings = settings
        self.store = store
        self.authenticator = authenticator
        self.catalogue = Catalogue(store)
        self.threads = Threads()
        self.in_thread = self.threads.run
        """Runs work that blocks for milliseconds off the event loop."""
        self.cache = CandleCache(store, settings.memory_budget)
        self.sessions = SessionHost(
            settings,
            store,
            self.catalogue,
            self.cache,
            self.threads,
            SessionRepository(store, self.cache, self._journals),
            max_files,
        )
        candles = MappedCandles(self.cache, settings.home, settings.memory_budget)
        load = partial(self.sessions.pool.with_room, self.threads.run_loading)
        self.jobs = JobQueue(
            StoredJobs(store, settings.home),
            CandleHolder(candles, load),
            _executor(settings),
            self.threads.run,
            result_days=settings.result_days,
        )
        self.executing: set[str] = set()
        """The ids of backtests whose execution is just being queued."""

    async def on_record(
        self, work: Callable[..., Result], request: Request, parameter: str, **changes: Any
    ) -> Result:
        """Do work of the store on the account's record whose id is a parameter of the path."""
        record_id = request.path[parameter]
        return await self.in_thread(work, self.store, request.account_id, record_id, **changes)

    async def recover(self) -> None:
        """Recover the sessions and jobs that an earlier process left behind."""
        await self.sessions.recover()
        await self.jobs.recover()

    async def close(self) -> None:
        """Store everything, to be recovered by the next process."""
        await self.jobs.close()
        await self.sessions.close()
        self.threads.close()

    def _readings(self) -> Iterator[Reading]:
        """Yield the values that are read whenever the metrics are requested. Blocks; any thread."""
        pool, cache = self.sessions.pool, self.cache
        steps = self.sessions.steps_made
        yield Reading("candlestep_steps_total", "Steps of all sessions.", steps, kind="counter")
        yield Reading("candlestep_open_sessions", "Sessions that have not ended.", pool.open_count)
        yield Reading("candlestep_sessions_in_memory", "Sessions in memory.", len(pool.running))
        yield Reading("candlestep_candle_bytes", "Memory used by candles.", cache.bytes_in_memory())
        load = self.jobs.load()
        jobs = {"queued": load.queued_jobs, "running": load.running_jobs}
        # While storage fails, the other metrics matter all the more.
        with suppress(StorageUnavailable):
            jobs |= count_ended_jobs(self.store)
        yield Reading("candlestep_jobs", "Jobs, by status.", jobs, "status")
        yield Reading("candlestep_queue_length", "Runs that wait for a worker.", load.waiting_runs)
        yield Reading("candlestep_workers", "Runs that can be under way at a time.", load.slots)
        yield Reading("candlestep_workers_busy", "Runs under way.", load.running_runs)
        with suppress(OSError):
            store_bytes, journal_bytes = self.store.file_bytes(), self._journals.file_bytes()
            yield Reading("candlestep_store_bytes", "Size of the store.", store_bytes)
            yield Reading("candlestep_journal_bytes", "Size of all journals.", journal_bytes)


def _executor(settings: Settings) -> Executor:
    """Return the executor that the settings name; raises ``InvalidParameter`` without Ray."""
    limits: dict[str, Any] = {
        "run_seconds": settings.run_seconds,
        "run_memory": settings.run_memory,
    }
    if settings.executor == "local":
        return WorkerPool(settings.workers or os.cpu_count() or 1, **limits)
    try:
        from candlestep.api.jobs.ray_executor import RayExecutor
    except ImportError as error:
        raise InvalidParameter(
            "--executor", f"ray cannot be used ({error}); pip install 'candlestep[ray]'"
        ) from None
    return RayExecutor.connect(settings.ray_address, settings.workers, **limits)
