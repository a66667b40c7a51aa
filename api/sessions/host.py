"""What is done with sessions: started, changed, forked, recorded, and saved when they end.

A session is changed by one call at a time, wholly or not at all; every change is in its journal
before it is answered.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

import msgspec
import structlog

from candlestep.api.http.route import JsonBytes, Request
from candlestep.api.sessions.hosted_session import HostedSession
from candlestep.api.sessions.idempotency import (
    IdempotencyKey,
    ReplyCache,
    asked,
    repeat_reply,
    require_same,
)
from candlestep.api.sessions.player import Reply
from candlestep.api.sessions.pool import TICK_SECONDS, SessionPool, require_started
from candlestep.api.sessions.progress import SessionProgress
from candlestep.api.sessions.repository import SessionRepository, compact
from candlestep.api.settings import Settings
from candlestep.api.threads import Threads
from candlestep.data.errors import BudgetInUse, StorageUnavailable
from candlestep.data.journal.journal import Journals
from candlestep.data.journal.records import ForkRecord
from candlestep.data.market.candle_cache import CandleCache
from candlestep.data.records.sessions import SessionRecord, new_session_id
from candlestep.data.store.database import Store, now
from candlestep.sandbox import InvalidParameter, InvalidState, SandboxError

_FILES_FOR_OTHERS = 256
"""Of the files that the process may have open, those that are not journals."""

Result = TypeVar("Result")
Act = Callable[[HostedSession, IdempotencyKey | None], Reply]
log = structlog.get_logger()


class SessionHost:
    """The sessions of a server. Its methods are called on the event loop."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        cache: CandleCache,
        threads: Threads,
        most_files: int = 1024,
    ) -> None:
        """``most_files``: how many files this process may have open."""
        self.steps_made = 0
        """By all sessions since the server's start."""
        self._threads = threads
        self._is_synced = settings.durability == "power"
        self._storage = SessionRepository(
            store, cache, Journals(settings.home, synced=self._is_synced)
        )
        self._progress = SessionProgress(store, threads)
        self.memory = SessionPool(
            self._storage,
            cache,
            threads,
            self._progress,
            budget=settings.memory_budget,
            most_sessions=max(1, most_files - _FILES_FOR_OTHERS),
            idle_seconds=settings.idle_seconds,
        )
        self._tidying: asyncio.Task[None] | None = None
        self._to_save: list[SessionRecord] = []

    async def record(self, account_id: str, session_id: str) -> SessionRecord:
        """What is known of the account's session, in whatever state; raises ``SessionNotFound``."""
        live = self.memory.get(account_id, session_id)
        if live is not None:
            return self.up_to_date(live.record)
        return self.up_to_date(
            await self._threads.run(self._storage.record, account_id, session_id)
        )

    def up_to_date(self, record: SessionRecord) -> SessionRecord:
        """A stored record with the present step of the session, if that is known better."""
        step = self.memory.step_of(record)
        if step == record.current_step:
            return record
        return msgspec.structs.replace(record, current_step=step)

    async def recording(self, account_id: str, session_id: str) -> bytes:
        """The session's recording up to now. Raises as ``SessionPool.find``, but for failed ones."""
        record = await self.record(account_id, session_id)
        if record.status == "created":
            require_started(record)
        async with self.memory.at_rest(session_id) as live:
            journal = None if live is None else live.journal
            size = None if journal is None else journal.size
            try:
                return await self._threads.run(self._storage.recording, session_id, size)
            except FileNotFoundError:
                raise InvalidState(
                    "the session's journal is missing", status=record.status
                ) from None

    async def start(self, call: Request) -> HostedSession:
        """Load the market and let the session run; again while at step 0, it changes nothing.

        Raises ``SessionNotFound``, ``InvalidState``, ``NoPrice`` if no pair has candles, and
        what the memory budget refuses.
        """
        session_id, request = call.path["session_id"], asked(call, "start")
        async with self.memory.loading_lock(session_id):
            record = await self.record(call.account_id, session_id)
            if record.status == "created":
                return await self.memory.start(record, request)
        require_started(record)
        if request is not None:
            live = await self.memory.find(call.account_id, session_id)
            if live.start_asked is not None and live.start_asked.key == request.key:
                require_same(request, live.start_asked.body)
                return live
        if record.status == "running":
            live = await self.memory.find(call.account_id, session_id)
            if live.session.step_number == 0 and live.final is None:
                return live
            raise InvalidState(
                f"the session is at step {live.session.step_number} already; step on",
                status="running",
                current_step=live.session.step_number,
            )
        raise InvalidState(
            f"the session is {record.status}; create a new one", status=record.status
        )

    def step_at_once(self, live: HostedSession) -> JsonBytes | None:
        """Make one step without waiting; None if it may have to wait, and ``perform`` is to do it.

        For requests without a key.
        """
        session = live.session
        before = session.step_number
        if self._is_synced or live.lock.locked() or before + 1 >= session.total_steps:
            return None
        try:
            played = live.step(1)
        except SandboxError as error:
            if isinstance(error, StorageUnavailable):
                self.memory.drop(live, before)
            raise
        except Exception:
            self.memory.drop(live, before)
            raise
        self.steps_made += 1
        self._progress.advanced(live.record.session_id, before, before + 1)
        return JsonBytes(played.answer, 200)

    async def perform(
        self, call: Request, what: str, act: Act, *, load_ended: bool = False
    ) -> JsonBytes:
        """Have ``act`` change the session that the call's path names, at most once for its key.

        The change is in the journal, and a session that it ends is saved, before this returns.
        Raises what ``act`` raises, ``StorageUnavailable`` with nothing changed, and as
        ``SessionPool.find``.
        """
        request = asked(call, what)
        live = await self._held(call, load_ended=load_ended or request is not None)
        try:
            kept = None if request is None else live.keys.find(request)
            if kept is not None:
                await self._settle(live)
                return repeat_reply(kept)
            played = await self._act(live, lambda: act(live, request), request)
            await self._settle(live)
        finally:
            self.memory.release(live)
        if played.refusal is not None:
            raise played.refusal
        return JsonBytes(played.answer, played.status)

    async def fork(self, call: Request, strategy_label: str | None, count: int) -> ForkRecord:
        """Make ``count`` running sessions that share the past of a running one.

        Raises as ``perform`` does.
        """
        request = asked(call, "fork")
        live = await self._held(call, load_ended=request is not None)
        try:
            kept = None if request is None else live.keys.find(request)
            if kept is not None:
                if kept.fork is None:
                    repeat_reply(kept)
                assert kept.fork is not None
                made = await self._threads.run(self._storage.fork, live, kept.fork)
                self.memory.open_sessions += len(made)
                return kept.fork
            label = live.record.strategy_label if strategy_label is None else strategy_label
            ids = [new_session_id() for _ in range(count)]
            fork = await self._act(live, lambda: live.fork(ids, label, now(), request), request)
            made = await self._threads.run(self._storage.fork, live, fork)
            self.memory.open_sessions += len(made)
            for record, journal in made:
                self.memory.add(
                    HostedSession(record, live.player.fork(), journal, ReplyCache(), None)
                )
            return fork
        finally:
            self.memory.release(live)

    async def recover(self) -> None:
        """Find the sessions that an earlier process left, save those that had ended, and begin to
        keep house.
        """
        interrupted_sessions = await self._threads.run(self._storage.interrupted_sessions)
        self.memory.open_sessions = interrupted_sessions.running
        self._to_save = interrupted_sessions.to_save
        await self._save_ended()
        self._tidying = asyncio.create_task(self._tidy_for_ever())

    async def close(self) -> None:
        """Put all sessions aside, to be found again."""
        if self._tidying is not None:
            self._tidying.cancel()
            with suppress(asyncio.CancelledError):
                await self._tidying
        try:
            await self._save_ended()
            await self.memory.passivate(self.memory.running)
        except Exception:
            log.exception("sessions_not_put_aside")
        await self._progress.close()

    async def _held(self, call: Request, *, load_ended: bool) -> HostedSession:
        """The session of the call's path, held."""
        while True:
            live = await self.memory.find(
                call.account_id, call.path["session_id"], load_ended=load_ended
            )
            await self.memory.hold(live)
            if not live.is_dropped:
                return live
            self.memory.release(live)

    async def _act(
        self, live: HostedSession, act: Callable[[], Result], request: IdempotencyKey | None
    ) -> Result:
        """Change a session that is held: wholly and as durably as is set, or not at all."""
        size = 0 if live.journal is None else live.journal.size
        before = live.session.step_number
        try:
            try:
                result = act()
            except StorageUnavailable:
                raise
            except SandboxError as refusal:
                live.keep_refusal(request, refusal)
                await self._sync(live, size)
                raise
            await self._sync(live, size)
        except StorageUnavailable:
            self.memory.drop(live, before)
            raise
        except SandboxError:
            raise
        except Exception:
            # Whatever it is, the session is not what it should be: its journal knows.
            self.memory.drop(live, before)
            raise
        self.steps_made += live.session.step_number - before
        self._progress.advanced(live.record.session_id, before, live.session.step_number)
        return result

    async def _sync(self, live: HostedSession, size: int) -> None:
        """Have what the journal grew by, from ``size`` on, on disk; or else take it back."""
        journal = live.journal
        if not self._is_synced or journal is None or journal.size == size:
            return
        try:
            await self._threads.run_syncing(journal.sync)
        except StorageUnavailable:
            journal.truncate(size)
            raise

    async def _settle(self, live: HostedSession) -> None:
        """Save a session that is held, if it has ended."""
        if live.final is None:
            return
        try:
            await self._threads.run(self._storage.save, live)
        except InvalidParameter as refusal:
            failed = await self.memory.fail(live.record, refusal.message)
            self.memory.drop(live, live.session.step_number)
            raise failed from None
        self.memory.end(live)

    async def _tidy_for_ever(self) -> None:
        while True:
            try:
                await self._tidy()
            except Exception:
                log.exception("not_tidied")
            await asyncio.sleep(TICK_SECONDS)
            self.memory.ticks += 1

    async def _tidy(self) -> None:
        """Save what has ended, compact long journals, and put aside what idles or is too much."""
        await self._save_ended()
        await self._compact_long()
        await self.memory.passivate(self.memory.idle() or await self.memory.surplus())
        await self._progress.store()

    async def _compact_long(self) -> None:
        for live in self.memory.running:
            if live.journal is not None and live.journal.is_worth_compacting:
                for taken in await self.memory.take([live]):
                    try:
                        await self._threads.run(compact, taken.journal, taken.keys)
                    finally:
                        self.memory.release(taken)

    async def _save_ended(self) -> None:
        """Save sessions that have ended but could not be saved, or had not been."""
        to_save, self._to_save = self._to_save, []
        for record in to_save:
            try:
                await self.memory.find(record.account_id, record.session_id)
            except (StorageUnavailable, BudgetInUse):
                self._to_save.append(record)
            except SandboxError as error:
                _not_saved(record, error)
        for live in await self.memory.take(
            [live for live in self.memory.running if live.final is not None]
        ):
            try:
                await self._settle(live)
            except SandboxError as error:
                _not_saved(live.record, error)
            finally:
                self.memory.release(live)


def _not_saved(record: SessionRecord, error: SandboxError) -> None:
    log.warning("session_not_saved", session_id=record.session_id, error=str(error))
