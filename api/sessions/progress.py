"""The steps of running sessions: stored now and then, and known here where the store is behind."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress

import structlog

from candlestep.api.threads import Threads
from candlestep.data.errors import StorageUnavailable
from candlestep.data.records.sessions import save_progress
from candlestep.data.store.database import Store

PROGRESS_STEPS = 500
"""The number of steps after which a session's progress is stored."""

# Between two writes, so that fast sessions do not spend their time on them.
_PAUSE_SECONDS = 1.0

log = structlog.get_logger()


class SessionProgress:
    """Stores the steps of sessions. Call its methods on the event loop."""

    def __init__(
        self,
        store: Store,
        threads: Threads,
        save: Callable[[Store, Mapping[str, int]], None] = save_progress,
    ) -> None:
        self._store = store
        self._threads = threads
        self._save = save
        self._steps: dict[str, int] = {}
        """The latest steps that the store does not have."""
        self._writing = asyncio.Lock()
        self._storing: asyncio.Task[None] | None = None

    def advanced(self, session_id: str, before: int, after: int) -> None:
        """Note that a session has advanced; store it soon if it has advanced far enough."""
        if before // PROGRESS_STEPS == after // PROGRESS_STEPS:
            return
        self._steps[session_id] = after
        if self._storing is None or self._storing.done():
            self._storing = asyncio.create_task(self._keep_storing())

    def left(self, session_id: str, step: int) -> None:
        """Note the step of a session that leaves memory."""
        self._steps[session_id] = step

    def last_known(self, session_id: str) -> int | None:
        """Return the step of a session that has left memory, or None if the store has it."""
        return self._steps.get(session_id)

    def forget(self, session_id: str) -> None:
        """Forget the step of a session that is in memory again, or has ended."""
        self._steps.pop(session_id, None)

    async def store(self) -> None:
        """Store the noted steps; those that cannot be stored are tried again later."""
        async with self._writing:
            steps = dict(self._steps)
            try:
                await self._threads.run(self._save, self._store, steps)
            except StorageUnavailable as error:
                log.warning("progress_not_stored", error=str(error))
                return
            for session_id, step in steps.items():
                if self._steps.get(session_id) == step:
                    del self._steps[session_id]

    async def close(self) -> None:
        """Store the noted steps and stop the background task."""
        if self._storing is not None:
            self._storing.cancel()
            with suppress(asyncio.CancelledError):
                await self._storing
        await self.store()

    async def _keep_storing(self) -> None:
        while self._steps:
            await self.store()
            await asyncio.sleep(_PAUSE_SECONDS)
