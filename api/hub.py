"""All sessions that this process keeps in memory, and how they come and go.

A session is changed by one call at a time: each holds its session's lock while it works. What
is long (loading, rebuilding, saving, syncing) happens in threads, not on the event loop.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import msgspec
import structlog

from api.fingerprints import CandlesDiffer
from api.live import Diverged, Live, has_ended
from api.playing import Played
from api.retries import Asked, Keys, asked, repeated, require_same
from api.routing import Call, Encoded
from api.settings import Settings
from api.storage import SessionStorage, compact
from data.candle_cache import CandleCache
from data.errors import BudgetInUse, StorageUnavailable
from data.journal import JournalDamaged, Journals
from data.recording import ForkRecord
from data.sessions import SessionRecord, get_session, new_session_id, save_progress
from data.store import Store, now
from sandbox import InvalidParameter, InvalidState, SandboxError

PROGRESS_STEPS = 500
"""Progress is stored every so many steps."""

# Between two writes, so that fast sessions do not spend their time on them.
_PROGRESS_PAUSE_SECONDS = 1.0
FIND_ERRORS = ("SESSION_NOT_FOUND", "INVALID_STATE", "NO_DATA", "RATE_LIMITED")
"""Codes with which a session is not found; the last two where its candles cannot be loaded."""

_ENDED_KEPT = 64
_PASSIVATED_TOGETHER = 200
_THREADS = 4
_SYNC_THREADS = 16
_TICK_SECONDS = 1.0
_ROOM_TRIES = 20
_ROOM_SECONDS = 0.5
_FILES_FOR_OTHERS = 256
"""Of the files that the process may have open, those that are not journals."""

Result = TypeVar("Result")
Act = Callable[[Live, Asked | None], Played]
log = structlog.get_logger()


class Hub:
    """The sessions in memory, by id. Its methods are called on the event loop."""

    def __init__(self, settings: Settings, store: Store, most_files: int = 1024) -> None:
        """``most_files``: how many files this process may have open."""
        self.store = store
        self.settings = settings
        self.cache = CandleCache(store, settings.memory_budget)
        self.steps_made = 0
        """By all sessions since the server's start."""
        self.open_sessions = 0
        """How many sessions are running, in memory or passivated."""
        self._synced = settings.durability == "power"
        journals = Journals(settings.home, synced=self._synced)
        self._storage = SessionStorage(store, self.cache, journals)
        self._most_in_memory = max(1, most_files - _FILES_FOR_OTHERS)
        self._ticks = 0
        self._running: dict[str, Live] = {}
        self._ended: OrderedDict[str, Live] = OrderedDict()
        self._loading: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._loads = 0
        self._freed = asyncio.Event()
        """Set when a session is loaded, or is no longer in use."""
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="storage")
        self._command_threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="command")
        self._sync_threads = ThreadPoolExecutor(_SYNC_THREADS, thread_name_prefix="sync")
        self._steps_unstored: dict[str, int] = {}
        """Of sessions that have left memory, how far they are, where the store does not know."""
        self._progress: dict[str, Live] = {}
        self._progress_task: asyncio.Task[None] | None = None
        self._tidy_task: asyncio.Task[None] | None = None
        self._to_save: list[SessionRecord] = []

    async def in_thread(self, work: Callable[..., Result], *args: Any, **kwargs: Any) -> Result:
        """Do work that blocks off the event loop."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, lambda: work(*args, **kwargs))

    async def in_command_thread(self, work: Callable[[], Result]) -> Result:
        """As ``in_thread``, for what may take minutes: sessions do not wait for it."""
        return await asyncio.get_running_loop().run_in_executor(self._command_threads, work)

    @property
    def sessions_in_memory(self) -> int:
        """How many of the running sessions are in memory."""
        return len(self._running)

    def in_memory(self, account_id: str, session_id: str) -> Live | None:
        """The account's session if it is in memory: the fast way to one that is running."""
        live = self._running.get(session_id) or self._ended.get(session_id)
        if live is None or live.account_id != account_id:
            return None
        live.used_at = self._ticks
        return live

    async def find(self, account_id: str, session_id: str, *, load_ended: bool = True) -> Live:
        """The account's session, started or ended, from memory or rebuilt from its journal.

        Raises ``SessionNotFound``, and ``InvalidState`` if it has not been started, has failed,
        or, without ``load_ended``, has ended and is not in memory.
        """
        live = self.in_memory(account_id, session_id)
        if live is not None:
            return live
        async with self._loading_lock(session_id):
            live = self.in_memory(account_id, session_id)
            if live is None:
                record = await self.in_thread(get_session, self.store, account_id, session_id)
                _require_started(record)
                if record.status != "running" and not load_ended:
                    raise has_ended(record.status)
                live = await self._load(record)
            return live

    async def record(self, account_id: str, session_id: str) -> SessionRecord:
        """What is known of the account's session, in whatever state; raises ``SessionNotFound``."""
        live = self.in_memory(account_id, session_id)
        if live is not None:
            return self.up_to_date(live.record)
        record = await self.in_thread(get_session, self.store, account_id, session_id)
        return self.up_to_date(record)

    def up_to_date(self, record: SessionRecord) -> SessionRecord:
        """A stored record with the present step of the session, if that is known better."""
        live = self._running.get(record.session_id)
        if live is not None:
            return msgspec.structs.replace(live.record, current_step=live.session.step_number)
        step = self._steps_unstored.get(record.session_id)
        return record if step is None else msgspec.structs.replace(record, current_step=step)

    async def recording(self, account_id: str, session_id: str) -> bytes:
        """The session's recording up to now. Raises as ``find`` does, but for failed ones."""
        record = await self.record(account_id, session_id)
        if record.status == "created":
            _require_started(record)
        # Nobody loads the session, writes to its journal or compacts it while that is read.
        async with self._loading_lock(session_id):
            live = self._running.get(session_id)
            if live is None:
                return await self._recording(record, None)
            await self._hold(live)
            try:
                journal = None if live.is_dropped else live.journal
                return await self._recording(record, None if journal is None else journal.size)
            finally:
                self._release(live)

    async def _recording(self, record: SessionRecord, size: int | None) -> bytes:
        try:
            return await self.in_thread(self._storage.recording, record.session_id, size)
        except FileNotFoundError:
            raise InvalidState("the session's journal is missing", status=record.status) from None

    async def start(self, call: Call) -> Live:
        """Load the market and let the session run; again while at step 0, it changes nothing.

        Raises ``SessionNotFound``, ``InvalidState``, ``NoPrice`` if no pair has candles, and
        what the memory budget refuses.
        """
        session_id, request = call.path["session_id"], asked(call, "start")
        async with self._loading_lock(session_id):
            record = await self.record(call.account_id, session_id)
            if record.status == "created":
                live = await self._within_budget(self._storage.start, record, request)
                self.open_sessions += 1
                return live
        _require_started(record)
        if request is not None:
            live = await self.find(call.account_id, session_id)
            if live.start_asked is not None and live.start_asked.key == request.key:
                require_same(request, live.start_asked.body)
                return live
        if record.status == "running":
            live = await self.find(call.account_id, session_id)
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

    def step_at_once(self, live: Live) -> Encoded | None:
        """Make one step without waiting; None if it may have to wait, and ``perform`` is to do it.

        For requests without a key.
        """
        session = live.session
        step = session.step_number + 1
        if self._synced or live.lock.locked() or step >= session.total_steps:
            return None
        try:
            played = live.step(1)
        except SandboxError as error:
            if isinstance(error, StorageUnavailable):
                self._drop(live, step - 1)
            raise
        except Exception:
            self._drop(live, step - 1)
            raise
        self.steps_made += 1
        if not step % PROGRESS_STEPS:
            self._note_progress(live)
        return Encoded(played.answer, 200)

    async def perform(
        self, call: Call, what: str, act: Act, *, load_ended: bool = False
    ) -> Encoded:
        """Have ``act`` change the session that the call's path names, at most once for its key.

        The change is in the journal, and a session that it ends is saved, before this returns.
        Raises what ``act`` raises, ``StorageUnavailable`` with nothing changed, and as ``find``.
        """
        request = asked(call, what)
        live = await self._acquire(call, load_ended=load_ended or request is not None)
        try:
            kept = None if request is None else live.keys.find(request)
            if kept is not None:
                await self._settle(live)
                return repeated(kept)
            played = await self._act(live, lambda: act(live, request), request)
            await self._settle(live)
        finally:
            self._release(live)
        if played.refusal is not None:
            raise played.refusal
        return Encoded(played.answer, played.status)

    async def fork(self, call: Call, strategy_label: str | None, count: int) -> ForkRecord:
        """Make ``count`` running sessions that share the past of a running one.

        Raises as ``perform`` does.
        """
        request = asked(call, "fork")
        live = await self._acquire(call, load_ended=request is not None)
        try:
            kept = None if request is None else live.keys.find(request)
            if kept is not None:
                if kept.fork is None:
                    repeated(kept)
                assert kept.fork is not None
                made = await self.in_thread(self._storage.fork, live, kept.fork)
                self.open_sessions += len(made)
                return kept.fork
            label = live.record.strategy_label if strategy_label is None else strategy_label
            ids = [new_session_id() for _ in range(count)]
            fork = await self._act(live, lambda: live.fork(ids, label, now(), request), request)
            for record, journal in await self.in_thread(self._storage.fork, live, fork):
                forked = Live(record, live.player.fork(), journal, Keys(), None)
                forked.used_at = self._ticks
                self._running[record.session_id] = forked
                self.open_sessions += 1
            return fork
        finally:
            self._release(live)

    async def recover(self) -> None:
        """Find the sessions that an earlier process left, save those that had ended, and begin to
        keep house.
        """
        unfinished = await self.in_thread(self._storage.unfinished)
        self.open_sessions = unfinished.running
        self._to_save = unfinished.to_save
        await self._save_ended()
        self._tidy_task = asyncio.create_task(self._tidy_for_ever())

    async def close(self) -> None:
        """Put all sessions aside, to be found again, and stop the threads."""
        tasks = [task for task in (self._tidy_task, self._progress_task) if task is not None]
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task
        try:
            await self._save_ended()
            await self._passivate(list(self._running.values()))
        except Exception:
            log.exception("sessions_not_put_aside")
        finally:
            for threads in (self._threads, self._command_threads, self._sync_threads):
                threads.shutdown()

    async def _acquire(self, call: Call, *, load_ended: bool) -> Live:
        """The session of the call's path, with its lock taken."""
        while True:
            live = await self.find(call.account_id, call.path["session_id"], load_ended=load_ended)
            await self._hold(live)
            if not live.is_dropped:
                return live
            self._release(live)

    async def _hold(self, live: Live) -> None:
        """Take a session's lock, after those who wait for it already; ``_release`` gives it back."""
        live.users += 1
        try:
            await live.lock.acquire()
        except BaseException:
            live.users -= 1
            raise

    def _release(self, live: Live) -> None:
        live.lock.release()
        live.users -= 1
        self._freed.set()

    async def _take(self, lives: Sequence[Live]) -> list[Live]:
        """Of these sessions those that nobody uses, with their locks: there is nothing to wait
        for. ``_release`` gives each back.
        """
        taken = [live for live in lives if not live.users and not live.is_dropped]
        for live in taken:
            await self._hold(live)
        return taken

    async def _act(self, live: Live, act: Callable[[], Result], request: Asked | None) -> Result:
        """Change a session whose lock is held: wholly and as durably as is set, or not at all."""
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
            self._drop(live, before)
            raise
        except SandboxError:
            raise
        except Exception:
            # Whatever it is, the session is not what it should be: its journal knows.
            self._drop(live, before)
            raise
        after = live.session.step_number
        self.steps_made += after - before
        if before // PROGRESS_STEPS != after // PROGRESS_STEPS:
            self._note_progress(live)
        return result

    async def _sync(self, live: Live, size: int) -> None:
        """Have what the journal grew by, from ``size`` on, on disk; or else take it back."""
        journal = live.journal
        if not self._synced or journal is None or journal.size == size:
            return
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._sync_threads, journal.sync)
        except StorageUnavailable:
            journal.truncate(size)
            raise

    async def _settle(self, live: Live) -> None:
        """Save a session if it has ended. The caller holds its lock."""
        if live.final is None:
            return
        try:
            await self.in_thread(self._storage.save, live)
        except InvalidParameter as refusal:
            failed = await self._fail(live.record, refusal.message)
            self._drop(live, live.session.step_number)
            raise _has_failed(failed) from None
        live.final = None
        live.journal = None
        self._running.pop(live.record.session_id, None)
        self.open_sessions -= 1
        self._keep_ended(live)

    async def _load(self, record: SessionRecord) -> Live:
        """Rebuild a session; one that cannot be rebuilt has failed."""
        try:
            live = await self._within_budget(self._storage.load, record)
        except (JournalDamaged, CandlesDiffer, Diverged) as error:
            if record.status == "running":
                raise _has_failed(await self._fail(record, error.message)) from None
            raise InvalidState(error.message, status=record.status, **error.details) from None
        return live

    async def _within_budget(self, load: Callable[..., Live], *args: Any) -> Live:
        """Load a session and keep it; others make room for its candles, if there is none.

        Raises ``BudgetInUse`` if in a few seconds none of those that are in use leaves.
        """
        patience = _ROOM_TRIES
        self._loads += 1
        try:
            while True:
                try:
                    live = await self.in_thread(load, *args)
                    break
                except BudgetInUse:
                    if await self._make_room():
                        continue
                    patience -= 1
                    if not patience or not await self._somebody_may_leave():
                        raise
        finally:
            self._loads -= 1
            self._freed.set()
        live.used_at = self._ticks
        self._steps_unstored.pop(live.record.session_id, None)
        if live.journal is not None:
            assert live.record.session_id not in self._running, "a session is loaded once"
            self._running[live.record.session_id] = live
        else:
            self._keep_ended(live)
        return live

    async def _make_room(self) -> bool:
        """Put sessions aside until candles are freed, those first that have not been used for
        the longest; whether any was.
        """
        before = self.cache.bytes_in_memory()
        left = len(self._ended)
        self._ended.clear()
        idle = sorted(self._running.values(), key=lambda live: live.used_at)
        while idle and self.cache.bytes_in_memory() >= before:
            left += await self._passivate(idle[:_PASSIVATED_TOGETHER])
            del idle[:_PASSIVATED_TOGETHER]
        return left > 0

    async def _somebody_may_leave(self) -> bool:
        """Wait until a session is loaded or no longer in use; False if there is none such."""
        if self._loads == 1 and not any(live.users for live in self._running.values()):
            return False
        self._freed.clear()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._freed.wait(), _ROOM_SECONDS)
        return True

    async def _fail(self, record: SessionRecord, error: str) -> SessionRecord:
        """Give up a session that can neither go on nor be saved."""
        failed = await self.in_thread(self._storage.fail, record, error)
        self.open_sessions -= 1
        return failed

    def _drop(self, live: Live, step: int) -> None:
        """Let go of a session that is at ``step``, and not what it should be."""
        self._steps_unstored[live.record.session_id] = step
        self._let_go(live)

    def _let_go(self, live: Live) -> None:
        """Forget a session; whoever asks for it next gets it from its journal."""
        live.is_dropped = True
        if live.journal is not None:
            live.journal.close()
        if self._running.get(live.record.session_id) is live:
            del self._running[live.record.session_id]

    def _keep_ended(self, live: Live) -> None:
        self._ended[live.record.session_id] = live
        while len(self._ended) > _ENDED_KEPT:
            self._ended.popitem(last=False)

    def _loading_lock(self, session_id: str) -> asyncio.Lock:
        """One load or start of a session at a time; it is there as long as anybody holds it."""
        lock = self._loading.get(session_id)
        if lock is None:
            lock = self._loading[session_id] = asyncio.Lock()
        return lock

    async def _passivate(self, lives: Sequence[Live]) -> int:
        """Have sessions leave memory, but for those that are in use or have ended unsaved; how
        many did.
        """
        taken = await self._take([live for live in lives if live.final is None])
        try:
            # The thread may hold on to what it is given for a moment: not to the candles.
            journals = [(live.journal, live.keys) for live in taken]
            steps = {live.record.session_id: live.session.step_number for live in taken}
            try:
                await self.in_thread(self._storage.put_aside, journals, steps)
            except StorageUnavailable as error:
                log.warning("progress_not_stored", error=str(error))
                self._steps_unstored |= steps
            for live in taken:
                self._let_go(live)
        finally:
            for live in taken:
                self._release(live)
        return len(taken)

    async def _tidy_for_ever(self) -> None:
        while True:
            try:
                await self._tidy()
            except Exception:
                log.exception("not_tidied")
            await asyncio.sleep(_TICK_SECONDS)
            self._ticks += 1

    async def _tidy(self) -> None:
        """Save what has ended, compact long journals, and put aside what idles or is too much."""
        await self._save_ended()
        for live in list(self._running.values()):
            if live.journal is not None and live.journal.is_worth_compacting:
                for taken in await self._take([live]):
                    try:
                        await self.in_thread(compact, taken.journal, taken.keys)
                    finally:
                        self._release(taken)
        leaving = self._idle() or await self._surplus()
        for start in range(0, len(leaving), _PASSIVATED_TOGETHER):
            await self._passivate(leaving[start : start + _PASSIVATED_TOGETHER])

    async def _save_ended(self) -> None:
        """Save sessions that have ended but could not be saved, or had not been."""
        to_save, self._to_save = self._to_save, []
        for record in to_save:
            try:
                await self.find(record.account_id, record.session_id)
            except (StorageUnavailable, BudgetInUse):
                self._to_save.append(record)
            except SandboxError as error:
                log.warning("session_not_saved", session_id=record.session_id, error=str(error))
        ended = [live for live in self._running.values() if live.final is not None]
        for live in await self._take(ended):
            try:
                await self._settle(live)
            except SandboxError as error:
                session_id = live.record.session_id
                log.warning("session_not_saved", session_id=session_id, error=str(error))
            finally:
                self._release(live)

    def _idle(self) -> list[Live]:
        """The sessions that nobody has asked for in a while."""
        latest = self._ticks - self.settings.idle_seconds / _TICK_SECONDS
        return [live for live in self._running.values() if live.used_at < latest]

    async def _surplus(self) -> list[Live]:
        """The sessions, of those not in use, that are more than memory and files allow."""
        sizes = {session_id: live.size for session_id, live in self._running.items()}
        await self.in_thread(self.cache.keep_free, sum(sizes.values()))
        too_much = sum(sizes.values()) + self.cache.bytes_in_memory() - self.settings.memory_budget
        too_many = len(sizes) - self._most_in_memory
        surplus = []
        if too_much > 0 or too_many > 0:
            for live in sorted(self._running.values(), key=lambda each: each.used_at):
                if live.used_at >= self._ticks - 1 or (too_much <= 0 and too_many <= 0):
                    break
                surplus.append(live)
                too_much -= sizes.get(live.record.session_id, 0)
                too_many -= 1
        return surplus

    def _note_progress(self, live: Live) -> None:
        """Store how far the session is, soon: one task writes for all."""
        self._progress[live.record.session_id] = live
        if self._progress_task is None or self._progress_task.done():
            self._progress_task = asyncio.create_task(self._store_progress())

    async def _store_progress(self) -> None:
        while self._progress:
            steps = {
                session_id: live.session.step_number
                for session_id, live in self._progress.items()
                if live.record.status == "running" and live.final is None
            }
            self._progress.clear()
            try:
                await self.in_thread(save_progress, self.store, steps)
            except StorageUnavailable as error:
                log.warning("progress_not_stored", error=str(error))
            await asyncio.sleep(_PROGRESS_PAUSE_SECONDS)


def _require_started(record: SessionRecord) -> None:
    """Raise ``InvalidState`` if the session was never started, or has failed."""
    if record.status == "created":
        raise InvalidState(
            f"the session is not started; POST /api/v1/backtest/{record.session_id}/start first",
            status=record.status,
        )
    if record.status == "failed":
        raise _has_failed(record)


def _has_failed(record: SessionRecord) -> InvalidState:
    return InvalidState(
        f"the session has failed: {record.error}; create a new one", status="failed"
    )
