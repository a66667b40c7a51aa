"""Housekeeping: ended sessions are saved, long journals compacted, idle sessions evicted."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import structlog

from candlestep.api.sessions.commands import SessionRef
from candlestep.api.sessions.hosted_session import HostedSession
from candlestep.api.sessions.pool import TICK_SECONDS, SessionPool
from candlestep.api.sessions.repository import SessionRepository
from candlestep.api.threads import ProgressWriter, Threads
from candlestep.data.errors import BudgetInUse, StorageUnavailable
from candlestep.data.records.sessions import SessionRecord
from candlestep.sandbox import SandboxError

log = structlog.get_logger()


@dataclass
class Housekeeping:
    """The background work on the sessions of a host. Call its methods on the event loop."""

    pool: SessionPool
    repository: SessionRepository
    progress: ProgressWriter[int]
    threads: Threads
    save_if_ended: Callable[[HostedSession], Awaitable[None]]
    _task: asyncio.Task[None] | None = None
    _to_save: list[SessionRecord] = field(default_factory=list)

    async def start(self, to_save: Sequence[SessionRecord]) -> None:
        """Save the sessions that an earlier process left unsaved, and begin the rounds."""
        self._to_save = list(to_save)
        await self._save_ended()
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """End the rounds, save what has ended, and evict all sessions."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        try:
            await self._save_ended()
            await self.pool.evict(self.pool.running)
        except Exception:
            log.exception("sessions_not_evicted")

    async def _run(self) -> None:
        while True:
            try:
                await self._save_ended()
                await self._compact_long_journals()
                await self.pool.evict(self.pool.idle() or await self.pool.excess())
                await self.progress.flush()
            except Exception:
                log.exception("housekeeping_failed")
            await asyncio.sleep(TICK_SECONDS)
            self.pool.ticks += 1

    async def _compact_long_journals(self) -> None:
        for hosted in self.pool.running:
            if hosted.journal is None or not hosted.journal.is_worth_compacting:
                continue
            for acquired in await self.pool.acquire_unused([hosted]):
                try:
                    journals = [(acquired.journal, acquired.replies)]
                    await self.threads.run(self.repository.compact, journals)
                finally:
                    self.pool.release(acquired)

    async def _save_ended(self) -> None:
        """Save sessions that have ended, but were not or could not be saved."""
        to_save, self._to_save = self._to_save, []
        for record in to_save:
            try:
                await self.pool.find(SessionRef(record.account_id, record.session_id))
            except (StorageUnavailable, BudgetInUse):
                self._to_save.append(record)
            except SandboxError as error:
                _log_unsaved(record, error)
        ended = [hosted for hosted in self.pool.running if hosted.final is not None]
        for hosted in await self.pool.acquire_unused(ended):
            try:
                await self.save_if_ended(hosted)
            except SandboxError as error:
                _log_unsaved(hosted.record, error)
            finally:
                self.pool.release(hosted)


def _log_unsaved(record: SessionRecord, error: SandboxError) -> None:
    log.warning("session_not_saved", session_id=record.session_id, error=str(error))
