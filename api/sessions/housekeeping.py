"""Housekeeping: ended sessions are saved, journals compacted and archived, idle sessions evicted."""

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
from candlestep.data.journal.journal import Journal
from candlestep.data.records.sessions import JournalPosition, SessionRecord
from candlestep.sandbox import SandboxError

_ARCHIVE_SECONDS = 3600
"""The time between two looks for journals to archive."""

log = structlog.get_logger()


@dataclass
class Housekeeping:
    """The background work on the sessions of a host. Call its methods on the event loop."""

    pool: SessionPool
    repository: SessionRepository
    progress: ProgressWriter[JournalPosition]
    threads: Threads
    save_if_ended: Callable[[HostedSession], Awaitable[None]]
    keep_days: int
    """The days after the end of a session when its journal is archived."""
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _to_save: list[SessionRecord] = field(default_factory=list)

    async def start(self, to_save: Sequence[SessionRecord]) -> None:
        """Save the sessions that an earlier process left unsaved, and begin the rounds."""
        self._to_save = list(to_save)
        await self._save_ended()
        rounds = (self._run(), self._archive_old_journals())
        self._tasks = [asyncio.create_task(round) for round in rounds]

    async def stop(self) -> None:
        """End the rounds, save what has ended, and evict all sessions."""
        for task in self._tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        try:
            await self._save_ended()
            await self.pool.evict(self.pool.running)
        except Exception:
            log.exception("sessions_not_evicted")

    async def _run(self) -> None:
        while True:
            try:
                await self._save_ended()
                await self._fail_without_journals()
                await self._compact_long_journals()
                await self.pool.evict(self.pool.idle() or await self.pool.excess())
                await self.progress.flush()
            except Exception:
                log.exception("housekeeping_failed")
            await asyncio.sleep(TICK_SECONDS)
            self.pool.ticks += 1

    async def _archive_old_journals(self) -> None:
        """Compress the journals of sessions that ended long ago, at regular intervals."""
        while True:
            try:
                await self._archive()
            except (StorageUnavailable, OSError) as error:
                log.warning("journals_not_archived", error=str(error))
            await asyncio.sleep(_ARCHIVE_SECONDS)

    async def _archive(self) -> None:
        archived = 0
        for session_id in await self.threads.run(
            self.repository.sessions_to_archive, self.keep_days
        ):
            # One at a time: other work need not wait, and the server may stop in between.
            try:
                await self.threads.run(self.repository.archive, session_id)
                archived += 1
            except (StorageUnavailable, OSError) as error:
                log.warning("journal_not_archived", session_id=session_id, error=str(error))
        if archived:
            log.info("journals_archived", sessions=archived)

    async def _fail_without_journals(self) -> None:
        """Fail the sessions whose open journals were deleted, before they go on for longer."""
        # In a thread, because each is a system call; what it finds is looked at again. It gets no
        # sessions: one that is evicted meanwhile would stay in memory.
        journals = [hosted.journal for hosted in self.pool.running if hosted.journal is not None]
        deleted = await self.threads.read(_deleted, journals)
        without = [hosted for hosted in self.pool.running if hosted.journal in deleted]
        for hosted in await self.pool.acquire_unused(without):
            try:
                if hosted.journal is None or not _deleted([hosted.journal]):
                    continue
                self.pool.discard(hosted, hosted.position)
            finally:
                self.pool.release(hosted)
            # Its journal is missing, so this fails it, unless another one stands in its place.
            with suppress(SandboxError):
                await self.pool.find(SessionRef(hosted.record.account_id, hosted.record.session_id))

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


def _deleted(journals: Sequence[Journal]) -> list[Journal]:
    """Return the open journals whose files were deleted."""
    found = []
    for journal in journals:
        # Another thread may close the file meanwhile.
        with suppress(OSError):
            if journal.is_deleted:
                found.append(journal)
    return found


def _log_unsaved(record: SessionRecord, error: SandboxError) -> None:
    log.warning("session_not_saved", session_id=record.session_id, error=str(error))
