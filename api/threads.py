"""Threads for what blocks, so that the event loop does not: a pool for each kind of work."""

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

_STORAGE_THREADS = 4
_LONG_THREADS = 4
_SYNC_THREADS = 16

Result = TypeVar("Result")


class InThread(Protocol):
    """Does work that blocks off the event loop."""

    def __call__(
        self, work: Callable[..., Result], *args: Any, **kwargs: Any
    ) -> Coroutine[Any, Any, Result]: ...


class Threads:
    """The pools of a server. Its methods are called on the event loop."""

    def __init__(self) -> None:
        self._storage = ThreadPoolExecutor(_STORAGE_THREADS, thread_name_prefix="storage")
        self._long = ThreadPoolExecutor(_LONG_THREADS, thread_name_prefix="long")
        self._candles = ThreadPoolExecutor(1, thread_name_prefix="candles")
        self._sync = ThreadPoolExecutor(_SYNC_THREADS, thread_name_prefix="sync")

    async def run(self, work: Callable[..., Result], *args: Any, **kwargs: Any) -> Result:
        """Do what takes milliseconds, of the store and of journals."""
        return await _done(self._storage, lambda: work(*args, **kwargs))

    async def run_long(self, work: Callable[[], Result]) -> Result:
        """Do what may take minutes: a command of the command line."""
        return await _done(self._long, work)

    async def run_loading(self, work: Callable[..., Result], *args: Any, **kwargs: Any) -> Result:
        """Load the candles of jobs, which takes seconds, of one after the other."""
        return await _done(self._candles, lambda: work(*args, **kwargs))

    async def run_syncing(self, work: Callable[[], Result]) -> Result:
        """Wait for the disk, for many journals at a time."""
        return await _done(self._sync, work)

    def close(self) -> None:
        """Wait for all work that has begun; blocks."""
        for pool in (self._storage, self._long, self._candles, self._sync):
            pool.shutdown()


async def _done(pool: ThreadPoolExecutor, work: Callable[[], Result]) -> Result:
    return await asyncio.get_running_loop().run_in_executor(pool, work)
