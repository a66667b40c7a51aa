"""Threads for blocking work, so that the event loop never blocks: a pool for each kind of work."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import structlog

from candlestep.data.errors import StorageUnavailable

_STORAGE_THREADS = 4
_LONG_THREADS = 4
_SYNC_THREADS = 16

Result = TypeVar("Result")
Value = TypeVar("Value")

log = structlog.get_logger()


class InThread(Protocol):
    """Runs work that blocks off the event loop."""

    def __call__(
        self, work: Callable[..., Result], *args: Any, **kwargs: Any
    ) -> Coroutine[Any, Any, Result]: ...


class Threads:
    """The thread pools of a server. Call its methods on the event loop."""

    def __init__(self) -> None:
        self._storage = ThreadPoolExecutor(_STORAGE_THREADS, thread_name_prefix="storage")
        self._long = ThreadPoolExecutor(_LONG_THREADS, thread_name_prefix="long")
        self._candles = ThreadPoolExecutor(1, thread_name_prefix="candles")
        self._sync = ThreadPoolExecutor(_SYNC_THREADS, thread_name_prefix="sync")

    async def run(self, work: Callable[..., Result], *args: Any, **kwargs: Any) -> Result:
        """Run work on the store and on journals, which takes milliseconds."""
        return await _run_in(self._storage, lambda: work(*args, **kwargs))

    async def run_long(self, work: Callable[[], Result]) -> Result:
        """Run an operation of the command line, which may take minutes."""
        return await _run_in(self._long, work)

    async def run_loading(self, work: Callable[..., Result], *args: Any, **kwargs: Any) -> Result:
        """Load the candles of jobs, one after the other, which takes seconds."""
        return await _run_in(self._candles, lambda: work(*args, **kwargs))

    async def run_syncing(self, work: Callable[[], Result]) -> Result:
        """Wait for the disk to sync; many journals can do so at a time."""
        return await _run_in(self._sync, work)

    def close(self) -> None:
        """Wait for all work that has begun. Blocks."""
        for pool in (self._storage, self._long, self._candles, self._sync):
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
    _writing: asyncio.Lock = field(default_factory=asyncio.Lock)
    _background: asyncio.Task[None] | None = None

    def note(self, key: str, value: Value, *, soon: bool = True) -> None:
        """Set the value of a key; without ``soon`` it is written with the next one."""
        self._values[key] = value
        if soon and (self._background is None or self._background.done()):
            self._background = asyncio.create_task(self._keep_writing())

    def get(self, key: str) -> Value | None:
        """Return the value of a key that is not written yet."""
        return self._values.get(key)

    def forget(self, key: str) -> None:
        """Drop the value of a key, which need no longer be written."""
        self._values.pop(key, None)

    async def flush(self) -> None:
        """Write all new values now, after a write that is under way."""
        async with self._writing:
            values = dict(self._values)
            try:
                await self.write(values)
            except StorageUnavailable as error:
                log.warning("progress_not_stored", error=str(error))
                return
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
