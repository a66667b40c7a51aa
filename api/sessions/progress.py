"""How far running sessions are: stored now and then, and known here where the store lags."""

import asyncio
from contextlib import suppress

import structlog

from candlestep.api.threads import Threads
from candlestep.data.errors import StorageUnavailable
from candlestep.data.records.sessions import save_progress
from candlestep.data.store.database import Store

PROGRESS_STEPS = 500
"""Progress is stored every so many steps."""

# Between two writes, so that fast sessions do not spend their time on them.
_PAUSE_SECONDS = 1.0

log = structlog.get_logger()


class SessionProgress:
    """Stores the steps of sessions. Its methods are called on the event loop."""

    def __init__(self, store: Store, threads: Threads) -> None:
        self._store = store
        self._threads = threads
        self._noted: dict[str, int] = {}
        """The latest steps that the store does not know."""
        self._writing = asyncio.Lock()
        self._storing: asyncio.Task[None] | None = None

    def advanced(self, session_id: str, before: int, after: int) -> None:
        """Note that a session has stepped on; it is stored soon, and seldom."""
        if before // PROGRESS_STEPS == after // PROGRESS_STEPS:
            return
        self._noted[session_id] = after
        if self._storing is None or self._storing.done():
            self._storing = asyncio.create_task(self._keep_storing())

    def left(self, session_id: str, step: int) -> None:
        """Note the step of a session that leaves memory."""
        self._noted[session_id] = step

    def left_at(self, session_id: str) -> int | None:
        """The step of a session that has left memory, if the store may not know it."""
        return self._noted.get(session_id)

    def forget(self, session_id: str) -> None:
        """Of a session that is in memory again, or has ended, others know better."""
        self._noted.pop(session_id, None)

    async def store(self) -> None:
        """Store what is noted, after what is being stored; what cannot be is tried again."""
        async with self._writing:
            steps = dict(self._noted)
            try:
                await self._threads.run(save_progress, self._store, steps)
            except StorageUnavailable as error:
                log.warning("progress_not_stored", error=str(error))
                return
            for session_id, step in steps.items():
                if self._noted.get(session_id) == step:
                    del self._noted[session_id]

    async def close(self) -> None:
        """Store what is noted, and end what goes on in the background."""
        if self._storing is not None:
            self._storing.cancel()
            with suppress(asyncio.CancelledError):
                await self._storing
        await self.store()

    async def _keep_storing(self) -> None:
        while self._noted:
            await self.store()
            await asyncio.sleep(_PAUSE_SECONDS)
