"""Threads for blocking work, so that the event loop never blocks: a pool for each kind of work.

Work that may take minutes has a thread of its own and can be stopped.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import structlog

from candlestep.data.errors import StorageUnavailable

_READING_THREADS = 4
WRITING_THREADS = 4
_LOADING_THREADS = 2
"""Few, because they compute: with four, creations beside many starts wait twice as long."""
_SYNC_THREADS = 16
_INTERRUPT_SECONDS = 0.05
"""The time between two interruptions of work that is to stop."""

Result = TypeVar("Result")
Value = TypeVar("Value")

log = structlog.get_logger()


class InThread(Protocol):
    """Runs work that blocks off the event loop."""

    def __call__(
        self, work: Callable[..., Result], *args: Any, **kwargs: Any
    ) -> Coroutine[Any, Any, Result]: ...


class WorkStopped(Exception):
    """Raised in long work that nobody waits for any more; no error of the exchange."""


class LongWork:
    """Work in a thread of its own, which asks whether it is still wanted."""

    def __init__(
        self, work: Callable[["LongWork"], None], interrupt: Callable[[int], None]
    ) -> None:
        """Prepare to run ``work``; ``interrupt`` breaks off what a thread waits for, by its id."""
        self._thread = threading.Thread(target=work, args=(self,), name="long")
        self._interrupt = interrupt
        self._is_stopping = threading.Event()
        self._interrupting = threading.Lock()
        self._may_be_interrupted = False

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    @property
    def is_running(self) -> bool:
        """True until the thread has ended."""
        return self._thread.is_alive()

    @property
    def is_wanted(self) -> bool:
        """False once the work is to stop."""
        return not self._is_stopping.is_set()

    def require_wanted(self) -> None:
        """Raise ``WorkStopped`` if the work is to stop."""
        if not self.is_wanted:
            raise WorkStopped

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Let what the thread waits for within the context be broken off."""
        self.require_wanted()
        with self._interrupting:
            self._may_be_interrupted = True
        try:
            yield
        finally:
            with self._interrupting:
                self._may_be_interrupted = False

    async def stop(self) -> None:
        """Ask the work to stop, and interrupt it until it does."""
        self._is_stopping.set()
        while self.is_running:
            with self._interrupting:
                if self._may_be_interrupted and self._thread.ident is not None:
                    self._interrupt(self._thread.ident)
            await asyncio.sleep(_INTERRUPT_SECONDS)

    def wait(self) -> None:
        """Wait until the work has ended. Blocks."""
        self._thread.join()


class Threads:
    """The thread pools of a server. Call its methods on the event loop."""

    def __init__(self) -> None:
        # Pools of their own, because writers wait for each other, and loads are long.
        self._reads = ThreadPoolExecutor(_READING_THREADS, thread_name_prefix="reads")
        self._storage = ThreadPoolExecutor(WRITING_THREADS, thread_name_prefix="storage")
        self._loads = ThreadPoolExecutor(_LOADING_THREADS, thread_name_prefix="loads")
        self._long: dict[LongWork, asyncio.Task[None] | None] = {}
        """The long work under way, each with the task that stops it."""
        self._is_closing = False
        self._candles = ThreadPoolExecutor(1, thread_name_prefix="candles")
        self._sync = ThreadPoolExecutor(_SYNC_THREADS, thread_name_prefix="sync")

    async def read(self, work: Callable[..., Result], *args: Any, **kwargs: Any) -> Result:
        """Run work that only reads, for milliseconds; it never waits for work that writes."""
        return await _run_in(self._reads, lambda: work(*args, **kwargs))

    async def run(self, work: Callable[..., Result], *args: Any, **kwargs: Any) -> Result:
        """Run work that may write to the store or to files, for milliseconds."""
        return await _run_in(self._storage, lambda: work(*args, **kwargs))

    async def load(self, work: Callable[..., Result], *args: Any, **kwargs: Any) -> Result:
        """Run work that reads the candles and the journal of a session, for seconds perhaps.

        Raises ``StorageUnavailable`` if the server is about to end before it begins.
        """

        def work_unless_closing() -> Result:
            if self._is_closing:
                raise StorageUnavailable(
                    "the server stops; nothing was changed: send it again when the server is back"
                )
            return work(*args, **kwargs)

        return await _run_in(self._loads, work_unless_closing)

    def start_long(
        self, work: Callable[[LongWork], None], interrupt: Callable[[int], None]
    ) -> LongWork:
        """Start a command of the command line or an import, which may take minutes."""
        self._long = {long: task for long, task in self._long.items() if long.is_running}
        long = LongWork(work, interrupt)
        long.start()
        self._long[long] = None
        if self._is_closing:
            self.stop_long(long)
        return long

    def stop_long(self, long: LongWork) -> None:
        """Stop long work that nobody waits for any more."""
        if self._long.get(long) is None and long.is_running:
            self._long[long] = asyncio.create_task(long.stop())

    def stop_all_long(self) -> None:
        """Stop all long work and begin no load, now and from now on: the server is about to end."""
        self._is_closing = True
        for long in list(self._long):
            self.stop_long(long)

    async def run_loading(self, work: Callable[..., Result], *args: Any, **kwargs: Any) -> Result:
        """Load the candles of jobs, one after the other, which takes seconds."""
        return await _run_in(self._candles, lambda: work(*args, **kwargs))

    async def run_syncing(self, work: Callable[[], Result]) -> Result:
        """Wait for the disk to sync; many journals can do so at a time."""
        return await _run_in(self._sync, work)

    def close(self) -> None:
        """Wait for all work that has begun. Blocks."""
        for long in self._long:
            long.wait()
        for pool in (self._reads, self._loads, self._storage, self._candles, self._sync):
            pool.shutdown()


async def _run_in(pool: ThreadPoolExecutor, work: Callable[[], Result]) -> Result:
    return await asyncio.get_running_loop().run_in_executor(pool, work)


@dataclass
class ProgressWriter(Generic[Value]):
    """Writes the latest value of each key in the background, so that fast work need not wait.

    Values stay readable until they are written. Call its methods on the event loop.
    """

    write: Callable[[Mapping[str, Value]], Awaitable[None]]
    """Called with all new values, again after each pause as long as there are new ones.

    When it raises ``StorageUnavailable``, the values are written again later.
    """
    pause_seconds: float = 1.0
    _values: dict[str, Value] = field(default_factory=dict)
    _written: dict[str, Value] = field(default_factory=dict)
    """Values written or dropped since a reader began that has not ended."""
    _readers: int = 0
    _writing: asyncio.Lock = field(default_factory=asyncio.Lock)
    _background: asyncio.Task[None] | None = None

    def note(self, key: str, value: Value, *, soon: bool = True) -> None:
        """Set the value of a key; without ``soon`` it is written with the next one."""
        self._values[key] = value
        if soon and (self._background is None or self._background.done()):
            self._background = asyncio.create_task(self._keep_writing())

    def get(self, key: str) -> Value | None:
        """Return the value of a key that is not written yet, or was until now, during a read."""
        return self._values.get(key, self._written.get(key))

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Keep values that are written or dropped within the context for ``get``.

        What was read from the store meanwhile may be older than they are.
        """
        self._readers += 1
        try:
            yield
        finally:
            self._readers -= 1
            if not self._readers:
                self._written.clear()

    def forget(self, key: str, latest: Value | None = None) -> None:
        """Drop the value of a key, which need no longer be written.

        Readers keep it, or ``latest``: what they have read may be older.
        """
        if latest is None:
            latest = self.get(key)
        self._values.pop(key, None)
        if self._readers and latest is not None:
            self._written[key] = latest

    async def flush(self) -> None:
        """Write all new values now, after a write that is under way."""
        async with self._writing:
            values = dict(self._values)
            try:
                await self.write(values)
            except StorageUnavailable as error:
                log.warning("progress_not_stored", error=str(error))
                return
            if self._readers:
                self._written.update(values)
            for key, value in values.items():
                if self._values.get(key) is value:
                    del self._values[key]

    async def stop(self) -> None:
        """Stop writing in the background; values that are not written yet stay."""
        if self._background is not None:
            self._background.cancel()
            await asyncio.gather(self._background, return_exceptions=True)

    async def _keep_writing(self) -> None:
        while self._values:
            await self.flush()
            await asyncio.sleep(self.pause_seconds)
