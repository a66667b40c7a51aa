"""Watchers, which look at sessions and are not their agents: nothing that they do is a use.

A watcher of a session in memory gets a fork, taken between two commands. Any other session is
replayed from its journal, one at a time and within the budget of candles, outside the pool.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from functools import cached_property
from time import monotonic
from typing import Any, NamedTuple, TypeVar

from candlestep.api.errors import RateLimited
from candlestep.api.sessions.commands import SessionRef
from candlestep.api.sessions.pool import SessionPool, require_started
from candlestep.api.sessions.recovery import Diverged
from candlestep.api.sessions.repository import SessionRepository
from candlestep.api.threads import Threads
from candlestep.data.errors import MarketPruned
from candlestep.data.journal.candle_fingerprints import CandlesDiffer
from candlestep.data.journal.journal import JournalDamaged
from candlestep.data.records.sessions import SessionRecord
from candlestep.sandbox import InvalidState, NoPrice, Session
from candlestep.sandbox.performance.trading_record import TradingRecord

_MOST_KEPT = 8
"""The sessions that watchers have looked at and that stay in memory for the next look."""
_RECENT_SECONDS = 1.0
"""The time for which all watchers of a session share one fork of it."""
_MOST_MADE = 32
"""The pages, charts and results of a state of a session that stay for the next look."""
_REPLAY_SECONDS = 20.0
"""The time that a watcher waits for the replays before its own."""

Kept = TypeVar("Kept")


class WatchedSession:
    """A session as it was when a watcher looked: nothing changes it any more."""

    def __init__(self, record: SessionRecord, session: Session, taken_at: float) -> None:
        self.record = record
        self.session = session
        self.taken_at = taken_at
        self._kept: dict[Any, Any] = {}

    @cached_property
    def trading(self) -> TradingRecord:
        """The trading of the session so far, for charts."""
        return self.session.record()

    def keep(self, key: Any, make: Callable[[], Kept]) -> Kept:
        """Return what ``make`` returned for this key, calling it the first time. Any thread.

        Only the latest are kept: every zoom makes another chart.
        """
        found: Kept | None = self._kept.get(key)
        if found is None:
            found = self._kept[key] = make()
            for earlier in list(self._kept)[:-_MOST_MADE]:
                self._kept.pop(earlier, None)
        return found


class _Key(NamedTuple):
    """The state of a session; another state has another key."""

    session_id: str
    step: int
    commands: int
    """Number of commands of a session in memory; size of the journal of another."""
    is_in_memory: bool


class Watchers:
    """The sessions that are looked at. Call its methods on the event loop."""

    def __init__(self, pool: SessionPool, repository: SessionRepository, threads: Threads) -> None:
        self._pool = pool
        self._repository = repository
        self._threads = threads
        self._kept: OrderedDict[_Key, WatchedSession] = OrderedDict()
        self._replaying = asyncio.Lock()

    async def record(self, ref: SessionRef) -> SessionRecord:
        """Return the record of a session in any state; raises ``SessionNotFound``."""
        hosted = self._pool.peek(ref)
        if hosted is not None:
            return self._pool.up_to_date(hosted.record)
        return await self._pool.record(ref)

    async def watch(self, ref: SessionRef, *, recent: bool = False) -> WatchedSession:
        """Return the account's session as it is now, or, with ``recent``, was within a second.

        Raises as ``SessionPool.find`` does, and ``RateLimited`` while other sessions are replayed.
        """
        found = self._latest(ref)
        is_recent = found is not None and monotonic() - found.taken_at < _RECENT_SECONDS
        if found is not None and recent and is_recent:
            return found
        hosted = self._pool.peek(ref)
        if hosted is not None and not hosted.is_discarded:
            key = _Key(ref.session_id, hosted.session.step_number, hosted.commands, True)
            watched = self._kept.get(key)
            if watched is None:
                record = self._pool.up_to_date(hosted.record)
                fork = hosted.session.fork()
                if is_recent:
                    # What was made of the recent one is still there for those who take it.
                    return WatchedSession(record, fork, monotonic())
                watched = self._keep(key, record, fork)
            watched.taken_at = monotonic()
            self._kept.move_to_end(key)
            return watched
        record = await self._pool.record(ref)
        require_started(record)
        try:
            async with asyncio.timeout(_REPLAY_SECONDS):
                await self._replaying.acquire()
        except TimeoutError:
            raise RateLimited("other sessions are being replayed; try again in a moment") from None
        try:
            return await self._replayed(record)
        finally:
            self._replaying.release()

    async def _replayed(self, record: SessionRecord) -> WatchedSession:
        size = await self._threads.read(self._repository.journal_size, record.session_id)
        key = _Key(record.session_id, record.current_step, size, False)
        watched = self._kept.get(key)
        if watched is None:
            try:
                hosted = await self._threads.load(self._repository.replay, record)
            except (JournalDamaged, CandlesDiffer, Diverged, MarketPruned, NoPrice) as error:
                raise InvalidState(error.message, status=record.status) from None
            watched = self._keep(key, record, hosted.session)
        watched.taken_at = monotonic()
        self._kept.move_to_end(key)
        return watched

    def _latest(self, ref: SessionRef) -> WatchedSession | None:
        """Return the latest state of the account's session that is kept."""
        for key in reversed(self._kept):
            if key.session_id == ref.session_id:
                watched = self._kept[key]
                return watched if watched.record.account_id == ref.account_id else None
        return None

    def _keep(self, key: _Key, record: SessionRecord, session: Session) -> WatchedSession:
        """Keep a state of a session, instead of an earlier one."""
        for other in [other for other in self._kept if other.session_id == key.session_id]:
            del self._kept[other]
        watched = self._kept[key] = WatchedSession(record, session, monotonic())
        while len(self._kept) > _MOST_KEPT:
            self._kept.popitem(last=False)
        return watched
