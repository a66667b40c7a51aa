"""How far running sessions are: stored now and then, and known here where the store lags."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress

import structlog

from api.live import Live
from api.threads import Threads
from data.errors import StorageUnavailable
from data.sessions import save_progress
from data.store import Store

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
        self._left: dict[str, int] = {}
        """The steps of sessions that have left memory, where the store does not know them."""
        self._advanced: dict[str, Live] = {}
        self._storing: asyncio.Task[None] | None = None

    def advanced(self, live: Live, before: int) -> None:
        """Note that a session has stepped on from step ``before``; it is stored soon, and seldom."""
        if before // PROGRESS_STEPS == live.session.step_number // PROGRESS_STEPS:
            return
        self._advanced[live.record.session_id] = live
        if self._storing is None or self._storing.done():
            self._storing = asyncio.create_task(self._store_advanced())

    def left_at(self, session_id: str) -> int | None:
        """The step of a session that has left memory, if the store may not know it."""
        return self._left.get(session_id)

    def leave(self, steps: Mapping[str, int]) -> None:
        """Note the steps of sessions that leave memory, which the store does not know yet."""
        self._left |= steps

    def forget(self, session_id: str) -> None:
        """Of a session that is in memory again, or has ended, others know better."""
        self._left.pop(session_id, None)

    async def store_left(self) -> None:
        """Store what is noted of sessions that have left; what cannot be is tried again."""
        steps = dict(self._left)
        if not await self._stored(steps):
            return
        for session_id, step in steps.items():
            if self._left.get(session_id) == step:
                del self._left[session_id]

    async def close(self) -> None:
        """End what goes on in the background."""
        if self._storing is not None:
            self._storing.cancel()
            with suppress(asyncio.CancelledError):
                await self._storing

    async def _store_advanced(self) -> None:
        while self._advanced:
            steps = {
                session_id: live.session.step_number
                for session_id, live in self._advanced.items()
                if live.record.status == "running" and live.final is None
            }
            self._advanced.clear()
            await self._stored(steps)
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _stored(self, steps: Mapping[str, int]) -> bool:
        try:
            await self._threads.run(save_progress, self._store, steps)
        except StorageUnavailable as error:
            log.warning("progress_not_stored", error=str(error))
            return False
        return True
