"""The sessions in memory, and how they come and go: loaded, held while in use, put aside.

A session is changed by one call at a time: each holds its session's lock while it works. What is
long (loading, rebuilding, saving) happens in threads.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from candlestep.api.sessions.hosted_session import HostedSession, ended_error
from candlestep.api.sessions.idempotency import IdempotencyKey
from candlestep.api.sessions.progress import SessionProgress
from candlestep.api.sessions.recovery import Diverged
from candlestep.api.sessions.repository import SessionRepository
from candlestep.api.threads import InThread, Threads
from candlestep.data.errors import BudgetInUse
from candlestep.data.journal.candle_fingerprints import CandlesDiffer
from candlestep.data.journal.journal import JournalDamaged
from candlestep.data.market.candle_cache import CandleCache
from candlestep.data.records.sessions import SessionRecord
from candlestep.sandbox import InvalidState

FIND_ERRORS = ("SESSION_NOT_FOUND", "INVALID_STATE", "NO_DATA", "RATE_LIMITED")
"""Codes with which a session is not found; the last two where its candles cannot be loaded."""

TICK_SECONDS = 1.0
"""The unit of ``SessionPool.ticks``."""

_ENDED_KEPT = 64
_PASSIVATED_TOGETHER = 200
_ROOM_SECONDS = 10.0
_ROOM_PAUSE = 0.5

Result = TypeVar("Result")


class SessionPool:
    """The sessions in memory, by id. Its methods are called on the event loop."""

    def __init__(
        self,
        storage: SessionRepository,
        cache: CandleCache,
        threads: Threads,
        progress: SessionProgress,
        *,
        budget: int,
        most_sessions: int,
        idle_seconds: float,
    ) -> None:
        """``budget``: bytes of sessions and candles together. Ended sessions do not count in
        ``most_sessions``.
        """
        self.open_sessions = 0
        """How many sessions are running, in memory or passivated."""
        self.ticks = 0
        """The time, by which sessions idle."""
        self._storage = storage
        self._cache = cache
        self._threads = threads
        self._progress = progress
        self._budget = budget
        self._most_sessions = most_sessions
        self._idle_ticks = idle_seconds / TICK_SECONDS
        self._running: dict[str, HostedSession] = {}
        self._ended: OrderedDict[str, HostedSession] = OrderedDict()
        self._loading: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._loads = 0
        self._freed = asyncio.Event()
        """Set when a session is loaded, or is no longer in use."""

    @property
    def running(self) -> list[HostedSession]:
        """The running sessions in memory, and those that have ended unsaved."""
        return list(self._running.values())

    def get(self, account_id: str, session_id: str) -> HostedSession | None:
        """The account's session if it is in memory: the fast way to one that is running."""
        live = self._running.get(session_id) or self._ended.get(session_id)
        if live is None or live.account_id != account_id:
            return None
        live.used_at = self.ticks
        return live

    def step_of(self, record: SessionRecord) -> int:
        """How far a session is, where that is known better than by the store."""
        live = self._running.get(record.session_id)
        if live is not None:
            return live.session.step_number
        step = self._progress.left_at(record.session_id)
        return record.current_step if step is None else step

    async def find(
        self, account_id: str, session_id: str, *, load_ended: bool = True
    ) -> HostedSession:
        """The account's session, started or ended, from memory or rebuilt from its journal.

        Raises ``SessionNotFound``, and ``InvalidState`` if it has not been started, has failed,
        or, without ``load_ended``, has ended and is not in memory.
        """
        live = self.get(account_id, session_id)
        if live is not None:
            return live
        async with self.loading_lock(session_id):
            live = self.get(account_id, session_id)
            if live is None:
                record = await self._threads.run(self._storage.record, account_id, session_id)
                require_started(record)
                if record.status != "running" and not load_ended:
                    raise ended_error(record.status)
                live = await self._load(record)
            return live

    def loading_lock(self, session_id: str) -> asyncio.Lock:
        """One load or start of a session at a time; it is there as long as anybody holds it."""
        lock = self._loading.get(session_id)
        if lock is None:
            lock = self._loading[session_id] = asyncio.Lock()
        return lock

    async def start(self, record: SessionRecord, request: IdempotencyKey | None) -> HostedSession:
        """Start a session that is created, whose ``loading_lock`` the caller holds."""
        live = await self._kept(self._storage.start, record, request)
        self.open_sessions += 1
        return live

    def add(self, live: HostedSession) -> HostedSession:
        """Keep a session that runs, unless it is here already; which one is here."""
        kept = self._running.setdefault(live.record.session_id, live)
        kept.used_at = self.ticks
        return kept

    async def hold(self, live: HostedSession) -> None:
        """Take a session's lock, after those who wait for it; ``release`` gives it back."""
        live.users += 1
        try:
            await live.lock.acquire()
        except BaseException:
            live.users -= 1
            raise

    def release(self, live: HostedSession) -> None:
        """Give back a session that was held or taken."""
        live.lock.release()
        live.users -= 1
        self._freed.set()

    async def take(self, lives: Iterable[HostedSession]) -> list[HostedSession]:
        """Hold those of the sessions that nobody uses: there is nothing to wait for."""
        taken = [live for live in lives if not live.users and not live.is_dropped]
        for live in taken:
            await self.hold(live)
        return taken

    @asynccontextmanager
    async def at_rest(self, session_id: str) -> AsyncIterator[HostedSession | None]:
        """The session if it is in memory; meanwhile nobody loads it, or writes its journal."""
        async with self.loading_lock(session_id):
            live = self._running.get(session_id)
            if live is None:
                yield None
                return
            await self.hold(live)
            try:
                yield None if live.is_dropped else live
            finally:
                self.release(live)

    async def with_room(
        self, in_thread: InThread, load: Callable[..., Result], *args: Any
    ) -> Result:
        """Have something loaded with candles; sessions make room for them, if there is none.

        Raises ``BudgetInUse`` if in a few seconds none of those that are in use leaves.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + _ROOM_SECONDS
        self._loads += 1
        try:
            while True:
                try:
                    return await in_thread(load, *args)
                except BudgetInUse:
                    is_hopeless = not self._somebody_may_leave or loop.time() > until
                    if await self._make_room():
                        continue
                    if is_hopeless:
                        raise
                await self._wait_for_room()
        finally:
            self._loads -= 1
            self._freed.set()

    def drop(self, live: HostedSession, step: int) -> None:
        """Let go of a session that is at ``step``, and not what it should be."""
        self._progress.left(live.record.session_id, step)
        self._let_go(live)

    def end(self, live: HostedSession) -> None:
        """Keep a session, which has ended and is saved, among the ended ones."""
        live.final = None
        live.journal = None
        self._running.pop(live.record.session_id, None)
        self.open_sessions -= 1
        self._progress.forget(live.record.session_id)
        self._keep_ended(live)

    async def fail(self, record: SessionRecord, error: str) -> InvalidState:
        """Give up a session that can neither go on nor be saved; what to tell who asks for it."""
        failed = await self._threads.run(self._storage.fail, record, error)
        self.open_sessions -= 1
        self._progress.forget(record.session_id)
        return failed_error(failed)

    async def passivate(self, lives: Sequence[HostedSession]) -> int:
        """Have sessions leave memory, but for those that are in use or have ended unsaved; how
        many did. How far they are is to be stored.
        """
        return sum(
            [
                await self._passivate(lives[start : start + _PASSIVATED_TOGETHER])
                for start in range(0, len(lives), _PASSIVATED_TOGETHER)
            ]
        )

    def idle(self) -> list[HostedSession]:
        """The sessions that nobody has asked for in a while."""
        latest = self.ticks - self._idle_ticks
        return [live for live in self._running.values() if live.used_at < latest]

    async def surplus(self) -> list[HostedSession]:
        """The sessions, of those not in use, that are more than memory and files allow."""
        sizes = {session_id: live.size for session_id, live in self._running.items()}
        await self._threads.run(self._cache.keep_free, sum(sizes.values()))
        too_much = sum(sizes.values()) + self._cache.bytes_in_memory() - self._budget
        too_many = len(sizes) - self._most_sessions
        surplus = []
        if too_much > 0 or too_many > 0:
            for live in self._longest_unused():
                if live.used_at >= self.ticks - 1 or (too_much <= 0 and too_many <= 0):
                    break
                surplus.append(live)
                too_much -= sizes.get(live.record.session_id, 0)
                too_many -= 1
        return surplus

    async def _load(self, record: SessionRecord) -> HostedSession:
        """Rebuild a session; one that cannot be rebuilt has failed."""
        try:
            return await self._kept(self._storage.load, record)
        except (JournalDamaged, CandlesDiffer, Diverged) as error:
            if record.status == "running":
                raise await self.fail(record, error.message) from None
            raise InvalidState(error.message, status=record.status, **error.details) from None

    async def _kept(self, load: Callable[..., HostedSession], *args: Any) -> HostedSession:
        """Load a session, and keep it."""
        live = await self.with_room(self._threads.run, load, *args)
        self._progress.forget(live.record.session_id)
        if live.journal is not None:
            return self.add(live)
        live.used_at = self.ticks
        self._keep_ended(live)
        return live

    def _keep_ended(self, live: HostedSession) -> None:
        self._ended[live.record.session_id] = live
        while len(self._ended) > _ENDED_KEPT:
            self._ended.popitem(last=False)

    def _let_go(self, live: HostedSession) -> None:
        """Forget a session; whoever asks for it next gets it from its journal."""
        live.is_dropped = True
        if live.journal is not None:
            live.journal.close()
        if self._running.get(live.record.session_id) is live:
            del self._running[live.record.session_id]

    async def _make_room(self) -> bool:
        """Put sessions aside until candles are freed; whether any was."""
        before = self._cache.bytes_in_memory()
        left = len(self._ended)
        self._ended.clear()
        idle = self._longest_unused()
        while idle and self._cache.bytes_in_memory() >= before:
            left += await self._passivate(idle[:_PASSIVATED_TOGETHER])
            del idle[:_PASSIVATED_TOGETHER]
        return left > 0

    @property
    def _somebody_may_leave(self) -> bool:
        """Whether another session is being loaded, or one is in use."""
        return self._loads > 1 or any(live.users for live in self._running.values())

    async def _wait_for_room(self) -> None:
        """Wait until a session is loaded or no longer in use, but not for long."""
        self._freed.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(_ROOM_PAUSE):
                await self._freed.wait()

    def _longest_unused(self) -> list[HostedSession]:
        return sorted(self._running.values(), key=lambda live: live.used_at)

    async def _passivate(self, lives: Sequence[HostedSession]) -> int:
        taken = await self.take([live for live in lives if live.final is None])
        try:
            # The thread may hold on to what it is given for a moment: not to the candles.
            journals = [(live.journal, live.keys) for live in taken]
            await self._threads.run(self._storage.put_aside, journals)
            for live in taken:
                self.drop(live, live.session.step_number)
        finally:
            for live in taken:
                self.release(live)
        return len(taken)


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
    """What is told of a session that has failed."""
    return InvalidState(
        f"the session has failed: {record.error}; create a new one", status="failed"
    )
