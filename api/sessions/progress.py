"""The steps of running sessions: stored from time to time, and known here in between."""

from collections.abc import Callable, Mapping

from candlestep.api.threads import ProgressWriter, Threads
from candlestep.data.records.sessions import save_progress
from candlestep.data.store.database import Store

PROGRESS_STEPS = 500
"""The number of steps after which a session's progress is stored."""


class SessionProgress:
    """Stores the steps of sessions. Call its methods on the event loop."""

    def __init__(
        self,
        store: Store,
        threads: Threads,
        save: Callable[[Store, Mapping[str, int]], None] = save_progress,
    ) -> None:
        async def write(steps: Mapping[str, int]) -> None:
            await threads.run(save, store, steps)

        self._writer = ProgressWriter(write)

    def advanced(self, session_id: str, before: int, after: int) -> None:
        """Note that a session has advanced; store it soon if it has advanced far enough."""
        if before // PROGRESS_STEPS != after // PROGRESS_STEPS:
            self._writer.note(session_id, after)

    def left(self, session_id: str, step: int) -> None:
        """Note the step of a session that leaves memory."""
        self._writer.note(session_id, step, soon=False)

    def last_known(self, session_id: str) -> int | None:
        """Return the step of a session that has left memory, or None if the store has it."""
        return self._writer.get(session_id)

    def forget(self, session_id: str) -> None:
        """Forget the step of a session that is in memory again, or has ended."""
        self._writer.forget(session_id)

    async def store(self) -> None:
        """Store the noted steps; those that cannot be stored now are kept for the next attempt."""
        await self._writer.flush()

    async def close(self) -> None:
        """Store the noted steps and stop the background task."""
        await self._writer.stop()
        await self.store()
