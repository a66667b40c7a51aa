"""The sessions in memory: loaded on first use, locked while in use, evicted when idle.

A session is changed by one command at a time, which holds the session's lock. Slow work (loading,
rebuilding, saving) happens in threads.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import msgspec

from candlestep.api.sessions.commands import SessionRef
from candlestep.api.sessions.hosted_session import HostedSession, ended_error
from candlestep.api.sessions.idempotency import IdempotencyKey
from candlestep.api.sessions.recovery import Diverged
from candlestep.api.sessions.repository import SessionRepository
from candlestep.api.threads import InThread, ProgressWriter, Threads
from candlestep.data.errors import BudgetInUse
from candlestep.data.journal.candle_fingerprints import CandlesDiffer
from candlestep.data.journal.journal import JournalDamaged
from candlestep.data.market.candle_cache import CandleCache
from candlestep.data.records.sessions import JournalPosition, SessionRecord
from candlestep.sandbox import InvalidState

TICK_SECONDS = 1.0
"""The unit of ``SessionPool.ticks``."""

ROOM_SECONDS = 10.0
"""The time that a load waits for other sessions to free memory."""

_ENDED_IN_MEMORY = 64
_EVICTION_BATCH = 200
_ROOM_PAUSE_SECONDS = 0.5

Result = TypeVar("Result")


@dataclass(eq=False)
class SessionPool:
    """The sessions in memory, by id. Call its methods on the event loop."""

    repository: SessionRepository
    cache: CandleCache
    threads: Threads
    progress: ProgressWriter[JournalPosition]
    _: KW_ONLY
    budget: int
    """The most bytes of memory that the sessions and their candles take."""
    max_sessions: int
    """The most running sessions in memory."""
    idle_seconds: float
    """Sessions unused for longer may be evicted."""
    room_seconds: float = ROOM_SECONDS
    open_count: int = 0
    """The number of running sessions, in memory or on disk."""
    ticks: int = 0
    """A clock that counts housekeeping rounds, for the idle times of sessions."""
    _running: dict[str, HostedSession] = field(default_factory=dict)
    _ended: OrderedDict[str, HostedSession] = field(default_factory=OrderedDict)
    _loading: WeakValueDictionary[str, asyncio.Lock] = field(default_factory=WeakValueDictionary)
    _loads: int = 0
    _freed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a session is loaded, or no longer in use."""

    @property
    def running(self) -> list[HostedSession]:
        """The running sessions in memory, and those that have ended unsaved."""
        return list(self._running.values())

    @property
    def is_loading(self) -> bool:
        """True while candles are being loaded."""
        return self._loads > 0

    def get(self, ref: SessionRef) -> HostedSession | None:
        """Return the account's session if it is in memory, without waiting."""
        account_id, session_id = ref
        hosted = self._running.get(session_id) or self._ended.get(session_id)
        if hosted is None or hosted.record.account_id != account_id:
            return None
        hosted.used_at = self.ticks
        return hosted

    def peek(self, ref: SessionRef) -> HostedSession | None:
        """Return the account's session if it is in memory, without counting this as a use of it."""
        account_id, session_id = ref
        hosted = self._running.get(session_id) or self._ended.get(session_id)
        return None if hosted is None or hosted.record.account_id != account_id else hosted

    async def record(self, ref: SessionRef) -> SessionRecord:
        """Return the stored record of a session as of now; raises ``SessionNotFound``."""
        with self.progress.reading():
            return self.up_to_date(await self.threads.read(self.repository.record, *ref))

    def up_to_date(self, record: SessionRecord) -> SessionRecord:
        """Return a stored record with the position of its session, where memory knows a later one.

        A record that was read in a thread has to be read within ``progress.reading()``. One that
        was read before its session was started stays as it was then.
        """
        if record.status == "created":
            return record
        hosted = self._running.get(record.session_id)
        known = self.progress.get(record.session_id) if hosted is None else hosted.position
        if known is None or known <= record.position:
            return record
        return msgspec.structs.replace(
            record, current_step=known.step, command_count=known.commands
        )

    async def find(self, ref: SessionRef, *, load_ended: bool = True) -> HostedSession:
        """Return the account's session, started or ended, from memory or from its journal.

        Raises ``SessionNotFound``, and ``InvalidState`` if the session has not been started, has
        failed, or, without ``load_ended``, has ended and is not in memory.
        """
        hosted = self.get(ref)
        if hosted is not None:
            return hosted
        async with self.loading_lock(ref.session_id):
            hosted = self.get(ref)
            if hosted is None:
                record = await self.record(ref)
                require_started(record)
                if record.status != "running" and not load_ended:
                    raise ended_error(record.status)
                hosted = await self._load(record)
            return hosted

    def loading_lock(self, session_id: str) -> asyncio.Lock:
        """Return the lock of a session's loads and start; it exists while anybody holds it."""
        lock = self._loading.get(session_id)
        if lock is None:
            lock = self._loading[session_id] = asyncio.Lock()
        return lock

    async def start(self, record: SessionRecord, key: IdempotencyKey | None) -> HostedSession:
        """Start a created session whose ``loading_lock`` the caller holds."""
        hosted = await self._load_into_memory(self.repository.start, record, key)
        self.open_count += 1
        return hosted

    def add(self, hosted: HostedSession) -> HostedSession:
        """Keep a running session, and return it, or the one that is already in memory."""
        in_memory = self._running.setdefault(hosted.record.session_id, hosted)
        in_memory.used_at = self.ticks
        return in_memory

    async def acquire(self, hosted: HostedSession) -> None:
        """Take a session's lock, after the callers that are already waiting for it."""
        hosted.users += 1
        try:
            await hosted.lock.acquire()
        except BaseException:
            hosted.users -= 1
            raise

    def release(self, hosted: HostedSession) -> None:
        """Give back a session's lock."""
        hosted.lock.release()
        hosted.users -= 1
        self._freed.set()

    async def acquire_unused(self, sessions: Iterable[HostedSession]) -> list[HostedSession]:
        """Acquire those of the sessions that are not in use, and return them; never wait."""
        unused = [hosted for hosted in sessions if not hosted.users and not hosted.is_discarded]
        for hosted in unused:
            await self.acquire(hosted)
        return unused

    @asynccontextmanager
    async def at_rest(self, session_id: str) -> AsyncIterator[HostedSession | None]:
        """Within the context, let nobody else load a session or write its journal.

        The context is the session, acquired, if it is in memory.
        """
        async with self.loading_lock(session_id):
            hosted = self._running.get(session_id)
            if hosted is None:
                yield None
                return
            await self.acquire(hosted)
            try:
                yield None if hosted.is_discarded else hosted
            finally:
                self.release(hosted)

    async def with_room(
        self, in_thread: InThread, load: Callable[..., Result], *args: Any
    ) -> Result:
        """Load something that has candles, evicting sessions if memory has no room for them.

        Raises ``BudgetInUse`` if no room becomes free within ``room_seconds``.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.room_seconds
        was_hopeless = False
        self._loads += 1
        try:
            while True:
                try:
                    return await in_thread(load, *args)
                except BudgetInUse:
                    is_hopeless = not self._may_be_freed or loop.time() > deadline
                    if await self.make_room():
                        continue
                    if is_hopeless and was_hopeless:
                        raise
                    was_hopeless = is_hopeless
                if is_hopeless:
                    # Somebody may have held a session that was evicted for a moment longer.
                    await asyncio.sleep(self._pause_seconds)
                else:
                    await self._wait_for_room()
        finally:
            self._loads -= 1
            self._freed.set()

    async def make_room(self) -> bool:
        """Evict sessions until candles are freed; return whether any session was evicted."""
        before = self.cache.bytes_in_memory()
        evicted = len(self._ended)
        self._ended.clear()
        sessions = self._longest_unused()
        while sessions and self.cache.bytes_in_memory() >= before:
            evicted += await self._evict(sessions[:_EVICTION_BATCH])
            del sessions[:_EVICTION_BATCH]
        return evicted > 0

    def discard(self, hosted: HostedSession, position: JournalPosition) -> None:
        """Drop a session; its next user gets it from its journal, which is at ``position``."""
        self.progress.note(hosted.record.session_id, position, soon=False)
        hosted.is_discarded = True
        if hosted.journal is not None:
            hosted.journal.close()
        if self._running.get(hosted.record.session_id) is hosted:
            del self._running[hosted.record.session_id]

    def end(self, hosted: HostedSession) -> None:
        """Move a session that has ended, and is saved, from the running ones to the ended ones."""
        hosted.final = None
        hosted.journal = None
        self._running.pop(hosted.record.session_id, None)
        self.open_count -= 1
        self.progress.forget(hosted.record.session_id, hosted.position)
        self._keep_ended(hosted)

    async def fail(self, record: SessionRecord, error: str) -> InvalidState:
        """Mark a session as failed, and return the error for its client."""
        failed = await self.threads.run(self.repository.fail, self.up_to_date(record), error)
        self.open_count -= 1
        self.progress.forget(record.session_id)
        return failed_error(failed)

    async def evict(self, sessions: Sequence[HostedSession]) -> int:
        """Evict sessions, except those in use or ended unsaved; return how many were evicted.

        Notes their steps, which the caller has to have stored.
        """
        return sum(
            [
                await self._evict(sessions[start : start + _EVICTION_BATCH])
                for start in range(0, len(sessions), _EVICTION_BATCH)
            ]
        )

    def idle(self) -> list[HostedSession]:
        """Return the sessions that have been unused for longer than the idle time."""
        latest = self.ticks - self.idle_seconds / TICK_SECONDS
        return [hosted for hosted in self._running.values() if hosted.used_at < latest]

    async def excess(self) -> list[HostedSession]:
        """Return the unused sessions that memory or open files have no room for."""
        sizes = {session_id: hosted.size for session_id, hosted in self._running.items()}
        await self.threads.run(self.cache.keep_free, sum(sizes.values()))
        excess_bytes = sum(sizes.values()) + self.cache.bytes_in_memory() - self.budget
        excess_count = len(sizes) - self.max_sessions
        excess = []
        if excess_bytes > 0 or excess_count > 0:
            for hosted in self._longest_unused():
                if hosted.used_at >= self.ticks - 1 or (excess_bytes <= 0 and excess_count <= 0):
                    break
                excess.append(hosted)
                excess_bytes -= sizes.get(hosted.record.session_id, 0)
                excess_count -= 1
        return excess

    async def _load(self, record: SessionRecord) -> HostedSession:
        """Rebuild a session; mark it as failed if that is not possible."""
        try:
            return await self._load_into_memory(self.repository.load, record)
        except (JournalDamaged, CandlesDiffer, Diverged) as error:
            if record.status == "running":
                raise await self.fail(record, error.message) from None
            raise InvalidState(error.message, status=record.status, **error.details) from None

    async def _load_into_memory(
        self, load: Callable[..., HostedSession], *args: Any
    ) -> HostedSession:
        hosted = await self.with_room(self.threads.load, load, *args)
        self.progress.forget(hosted.record.session_id)
        if hosted.journal is not None:
            return self.add(hosted)
        hosted.used_at = self.ticks
        self._keep_ended(hosted)
        return hosted

    def _keep_ended(self, hosted: HostedSession) -> None:
        self._ended[hosted.record.session_id] = hosted
        while len(self._ended) > _ENDED_IN_MEMORY:
            self._ended.popitem(last=False)

    @property
    def _may_be_freed(self) -> bool:
        """True if another session is being loaded, or one is in use."""
        return self._loads > 1 or any(hosted.users for hosted in self._running.values())

    @property
    def _pause_seconds(self) -> float:
        return min(_ROOM_PAUSE_SECONDS, self.room_seconds)

    async def _wait_for_room(self) -> None:
        """Wait until a session is loaded or no longer in use, but not for long."""
        self._freed.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._pause_seconds):
                await self._freed.wait()

    def _longest_unused(self) -> list[HostedSession]:
        return sorted(self._running.values(), key=lambda hosted: hosted.used_at)

    async def _evict(self, sessions: Sequence[HostedSession]) -> int:
        acquired = await self.acquire_unused(
            [hosted for hosted in sessions if hosted.final is None]
        )
        if not acquired:
            return 0
        try:
            # The thread may keep its arguments alive for a moment: not the candles with them.
            journals = [(hosted.journal, hosted.replies) for hosted in acquired]
            await self.threads.run(self.repository.compact, journals)
            for hosted in acquired:
                self.discard(hosted, hosted.position)
        finally:
            for hosted in acquired:
                self.release(hosted)
        return len(acquired)


def require_started(record: SessionRecord) -> None:
    """Raise ``InvalidState`` if the session was never started, or has failed."""
    if record.status == "created":
        raise InvalidState(
            f"the session is not started; POST /api/v1/backtest/{record.session_id}/start first",
            status=record.status,
        )
    if record.status == "failed":
        raise failed_error(record)


def failed_error(record: SessionRecord) -> InvalidState:
    """Return the error for the commands of a session that has failed."""
    return InvalidState(
        f"the session has failed: {record.error}; create a new one", status="failed"
    )
