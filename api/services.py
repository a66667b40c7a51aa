"""The services that handlers use, created once when the server starts."""

import asyncio
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from candlestep.api.admin.file_imports import FileImports
from candlestep.api.admin.operation import OpenHome
from candlestep.api.dialects.keys import Dialects
from candlestep.api.http.auth import Authenticator
from candlestep.api.http.metrics import Metrics, Reading
from candlestep.api.http.refusals import Refusals
from candlestep.api.http.route import Request
from candlestep.api.jobs.candle_holder import CandleHolder
from candlestep.api.jobs.executor import Executor
from candlestep.api.jobs.queue import JobQueue
from candlestep.api.jobs.stored_jobs import StoredJobs
from candlestep.api.jobs.worker_pool import WorkerPool
from candlestep.api.sessions.host import SessionHost
from candlestep.api.sessions.repository import SessionRepository
from candlestep.api.sessions.watching import Watchers
from candlestep.api.settings import Settings
from candlestep.api.threads import Threads
from candlestep.data.errors import BudgetInUse, StorageUnavailable
from candlestep.data.journal.journal import Journals
from candlestep.data.market.candle_cache import CandleArraysKey, CandleCache, CandleRequest
from candlestep.data.market.catalogue import Catalogue
from candlestep.data.market.mapped_candles import MappedCandles
from candlestep.data.market.parts import Part
from candlestep.data.records.jobs import count_ended_jobs
from candlestep.data.records.sessions import SessionPage
from candlestep.data.store.database import Store
from candlestep.sandbox import InvalidParameter

Result = TypeVar("Result")


class Services:
    """The settings, the store, the sessions and the jobs of a server."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        authenticator: Authenticator,
        max_files: int,
        host: type[SessionHost] = SessionHost,
    ) -> None:
        """Serve from a process that may have ``max_files`` files open; ``host`` hosts sessions."""
        self.metrics = Metrics(self._readings)
        store.on_write = self.metrics.histogram(
            "candlestep_store_write_seconds", "Duration of transactions that write to the store."
        )
        self._journals = Journals(
            settings.home,
            synced=settings.durability == "power",
            on_write=self.metrics.histogram(
                "candlestep_journal_write_seconds",
                "Duration of system calls that begin, sync or compact a journal.",
            ),
        )
        self.settings = settings
        self.store = store
        self.authenticator = authenticator
        self.refusals = Refusals()
        self.catalogue = Catalogue(store)
        self.threads = Threads()
        self.read = self.threads.read
        """Runs work that only reads off the event loop."""
        self.in_thread = self.threads.run
        """Runs work that may write, for milliseconds, off the event loop."""
        self.cache = CandleCache(store, settings.memory_budget)
        repository = SessionRepository(store, self.cache, self._journals)
        self.sessions = host(
            settings, store, self.catalogue, self.cache, self.threads, repository, max_files
        )
        self.dialects = Dialects(
            store, self.threads, authenticator.derived_secret, authenticator.has_key
        )
        self.watchers = Watchers(self.sessions.pool, repository, self.threads)
        candles = MappedCandles(self.cache, settings.home, settings.memory_budget)
        load = partial(self.sessions.pool.with_room, self.threads.run_loading)
        self.candle_holder = CandleHolder(candles, load)
        self.jobs = JobQueue(
            StoredJobs(store, settings.home),
            self.candle_holder,
            _executor(settings),
            self.threads.run,
            self.threads.read,
            result_days=settings.result_days,
        )
        self.imports = FileImports(
            OpenHome(store, self.cache.parts),
            settings.home,
            self.threads.run,
            lambda work: self.threads.start_long(work, store.interrupt),
        )
        self.executing: set[str] = set()
        """The ids of backtests whose execution is just being queued."""

    def sessions_as_of_now(
        self, loop: asyncio.AbstractEventLoop, read: Callable[[], SessionPage]
    ) -> SessionPage:
        """Return stored sessions with the positions that memory knows. Blocks; not on the event loop."""
        return asyncio.run_coroutine_threadsafe(self.sessions.as_of_now(read), loop).result()

    def load_parts(
        self, loop: asyncio.AbstractEventLoop, request: CandleRequest
    ) -> Mapping[CandleArraysKey, Part]:
        """Load the parts of a market, evicting sessions if memory has no room. Blocks; not on the event loop.

        Raises the errors of ``CandleCache.parts``.
        """
        while True:
            try:
                return self.cache.parts(request)
            except BudgetInUse:
                made_room = self.sessions.pool.make_room()
                if not asyncio.run_coroutine_threadsafe(made_room, loop).result():
                    raise

    async def read_for_account(
        self, work: Callable[..., Result], request: Request, *arguments: Any, **options: Any
    ) -> Result:
        """Read from the store for the account of a request."""
        return await self.read(work, self.store, request.account_id, *arguments, **options)

    async def read_record(
        self, work: Callable[..., Result], request: Request, parameter: str
    ) -> Result:
        """Read the account's record whose id is a parameter of the path."""
        return await self.read_for_account(work, request, request.path[parameter])

    async def for_account(
        self, work: Callable[..., Result], request: Request, *arguments: Any, **options: Any
    ) -> Result:
        """Write to the store for the account of a request."""
        return await self.in_thread(work, self.store, request.account_id, *arguments, **options)

    async def on_record(
        self, work: Callable[..., Result], request: Request, parameter: str, **changes: Any
    ) -> Result:
        """Change the account's record whose id is a parameter of the path."""
        return await self.for_account(work, request, request.path[parameter], **changes)

    async def recover(self) -> None:
        """Recover the sessions and jobs that an earlier process left behind."""
        await self.in_thread(self.imports.remove_left_over)
        await self.sessions.recover()
        await self.jobs.recover()

    async def close(self) -> None:
        """Store everything, to be recovered by the next process."""
        self.threads.stop_all_long()
        await self.imports.close()
        await self.jobs.close()
        await self.sessions.close()
        await asyncio.to_thread(self.threads.close)

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
