"""All sessions that this process keeps in memory, and the one place where they change.

A session is changed by one call at a time: each holds its session's lock while it works. Loading
and saving happen in threads, so that nothing long runs on the event loop.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import msgspec
import structlog

from api.access import Gate
from api.answers import StepTexts
from api.counters import Counters
from api.routing import Call
from api.settings import Settings
from data.candle_cache import CandleCache
from data.catalogue import Catalogue, effective_imports
from data.errors import StorageUnavailable
from data.importer import latest_import
from data.results import load_orders, save_results
from data.sessions import (
    SessionRecord,
    get_session,
    save_failure,
    save_progress,
    save_start,
    unfinished_sessions,
)
from data.store import Store
from sandbox import (
    EndedSession,
    InvalidParameter,
    InvalidState,
    Market,
    RiskProfile,
    SandboxError,
    Session,
    SessionConfig,
    Step,
)
from sandbox.errors import NoPrice

PROGRESS_STEPS = 500
"""Progress is stored every so many steps."""

# Between two writes, so that fast sessions do not spend their time on them.
_PROGRESS_PAUSE_SECONDS = 1.0
FIND_ERRORS = ("SESSION_NOT_FOUND", "INVALID_STATE", "NO_DATA", "RATE_LIMITED")
"""Codes with which a session is not found; the last two where an ended one cannot be loaded."""

_ENDED_KEPT = 64
_THREADS = 4

Result = TypeVar("Result")
log = structlog.get_logger()


class Live:
    """A session in memory: its record, its state, and the lock that calls take in turn."""

    __slots__ = ("account_id", "lock", "record", "session", "texts", "unsaved")

    def __init__(self, record: SessionRecord, session: Session | EndedSession) -> None:
        self.account_id = record.account_id
        self.record = record
        self.session = session
        self.lock = asyncio.Lock()
        self.texts = StepTexts()
        self.unsaved: Step | None = None
        """The last step of a session that has ended and is not saved yet."""

    @property
    def running(self) -> Session:
        """The session; raises ``InvalidState`` if it has ended."""
        if self.record.status != "running" or not isinstance(self.session, Session):
            raise _has_ended(self.record)
        return self.session


class Hub:
    """The sessions in memory, by id. Its methods are called on the event loop."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self.store = store
        self.settings = settings
        self.cache = CandleCache(store, settings.memory_budget)
        self.steps_made = 0
        """By all sessions since the server's start."""
        self._running: dict[str, Live] = {}
        self._ended: OrderedDict[str, Live] = OrderedDict()
        self._loading: dict[str, asyncio.Lock] = {}
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="storage")
        self._progress: dict[str, Live] = {}
        self._progress_task: asyncio.Task[None] | None = None

    async def in_thread(self, work: Callable[..., Result], *args: Any, **kwargs: Any) -> Result:
        """Do work that blocks off the event loop."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, lambda: work(*args, **kwargs))

    @property
    def open_sessions(self) -> int:
        """How many sessions are running."""
        return len(self._running)

    def in_memory(self, account_id: str, session_id: str) -> Live | None:
        """The account's session if it is in memory: the fast way to one that is running."""
        live = self._running.get(session_id) or self._ended.get(session_id)
        return live if live is not None and live.account_id == account_id else None

    async def find(self, account_id: str, session_id: str) -> Live:
        """The account's session, started or ended, from memory or from the store.

        Raises ``SessionNotFound``, and ``InvalidState`` if it has not been started.
        """
        return await self._find(account_id, session_id, load_ended=True)

    async def find_running(self, account_id: str, session_id: str) -> Live:
        """As ``find``, for a call that only a running session takes: no other is loaded for it."""
        return await self._find(account_id, session_id, load_ended=False)

    async def _find(self, account_id: str, session_id: str, *, load_ended: bool) -> Live:
        live = self.in_memory(account_id, session_id)
        if live is not None:
            return live
        async with self._loading_lock(session_id):
            live = self.in_memory(account_id, session_id)
            if live is None:
                record = await self.in_thread(get_session, self.store, account_id, session_id)
                _require_loadable(record)
                if not load_ended:
                    raise _has_ended(record)
                live = Live(record, await self.in_thread(self._load_ended, record))
                self._keep_ended(live)
            return live

    async def record(self, account_id: str, session_id: str) -> SessionRecord:
        """What is known of the account's session, in whatever state; raises ``SessionNotFound``."""
        live = self.in_memory(account_id, session_id)
        if live is not None:
            return self.up_to_date(live.record)
        return await self.in_thread(get_session, self.store, account_id, session_id)

    def up_to_date(self, record: SessionRecord) -> SessionRecord:
        """A stored record with the present step of the session, if it is in memory."""
        live = self._running.get(record.session_id)
        if live is None:
            return record
        return msgspec.structs.replace(live.record, current_step=live.session.step_number)

    async def start(self, account_id: str, session_id: str) -> Live:
        """Load the market and let the session run; again while at step 0, it changes nothing.

        Raises ``SessionNotFound``, ``InvalidState``, ``NoPrice`` if no pair has candles, and
        what the memory budget refuses.
        """
        async with self._loading_lock(session_id):
            live = self.in_memory(account_id, session_id)
            if live is not None and live.record.status == "running":
                if live.session.step_number == 0:
                    return live
                raise InvalidState(
                    f"the session is at step {live.session.step_number} already; step on",
                    status="running",
                    current_step=live.session.step_number,
                )
            record = await self.in_thread(get_session, self.store, account_id, session_id)
            if record.status != "created":
                raise InvalidState(
                    f"the session is {record.status}; create a new one", status=record.status
                )
            live = await self.in_thread(self._start, record)
            self._running[session_id] = live
            return live

    async def step(self, live: Live, steps: int) -> Step:
        """Advance a session; its last step is saved before this returns.

        A session that ended but could not be saved is saved now, and its last step returned.
        Raises ``InvalidState``, or ``StorageUnavailable`` when the end could not be saved.
        """
        async with live.lock:
            return self._step_on(live, steps) or await self._save(live)

    def step_at_once(self, live: Live, steps: int) -> Step | None:
        """``step`` without waiting, where nobody works on the session; else None, try ``step``."""
        return None if live.lock.locked() else self._step_on(live, steps)

    def _step_on(self, live: Live, steps: int) -> Step | None:
        """Advance a session; None if it has ended, and its last step is to be saved."""
        if live.unsaved is not None:
            return None
        session = live.running
        before = session.step_number
        try:
            step = session.step(steps)
        except SandboxError:
            raise
        except Exception:
            # Whatever it is, the session is not what it should be: nobody may go on with it.
            self._running.pop(live.record.session_id, None)
            raise
        self.steps_made += step.step - before
        if step.is_complete:
            live.unsaved = step
            return None
        if before // PROGRESS_STEPS != step.step // PROGRESS_STEPS:
            self._note_progress(live)
        return step

    async def cancel(self, live: Live, error: str | None = None) -> SessionRecord:
        """End a session here and save its partial results; raises as ``step`` does.

        ``error`` says why, if not by its agent's will.
        """
        async with live.lock:
            if live.unsaved is None:
                live.unsaved = live.running.cancel()
            elif live.session.step_number == live.session.total_steps:
                error = None  # It had come to its end before.
            await self._save(live, error)
            return live.record

    async def recover(self) -> None:
        """Mark the sessions that an earlier process left running: their state is gone."""
        for record in await self.in_thread(unfinished_sessions, self.store):
            if record.status == "running":
                await self.in_thread(
                    save_failure,
                    self.store,
                    record.account_id,
                    record.session_id,
                    "the server stopped while the session was running; create it again",
                )

    async def close(self) -> None:
        """Save the partial results of all running sessions, and stop the threads."""
        try:
            for live in list(self._running.values()):
                try:
                    await self.cancel(live, "the server was shut down before the session's end")
                except Exception:
                    log.exception("session_not_saved", session_id=live.record.session_id)
        finally:
            if self._progress_task is not None:
                self._progress_task.cancel()
            self._threads.shutdown()

    def _loading_lock(self, session_id: str) -> asyncio.Lock:
        """One load or start of a session at a time; the few locks left over are reused."""
        if len(self._loading) > _ENDED_KEPT:
            idle = [key for key, lock in self._loading.items() if not lock.locked()]
            for key in idle:
                del self._loading[key]
        return self._loading.setdefault(session_id, asyncio.Lock())

    def _start(self, record: SessionRecord) -> Live:
        number = latest_import(self.store)
        market = self._market(record, number)
        session = Session(session_config(record), market)
        with self.store.transaction():
            # What has been pruned since it was loaded could not be loaded again.
            effective_imports(self.store, record.exchange, record.pairs, number)
            started = save_start(self.store, record.account_id, record.session_id, number)
        return Live(started, session)

    def _load_ended(self, record: SessionRecord) -> EndedSession:
        number = 0 if record.import_number is None else record.import_number
        orders = load_orders(self.store, record.account_id, record.session_id)
        return EndedSession(
            session_config(record),
            self._market(record, number),
            steps=record.current_step,
            orders=orders,
        )

    def _market(self, record: SessionRecord, import_number: int) -> Market:
        candles = self.cache.candles(
            record.exchange, record.pairs, import_number, record.start_time, record.end_time
        )
        if not candles:
            raise NoPrice(
                "none of the session's pairs has candles in its time any more;"
                " GET /api/v1/market/data-range tells what there is",
                pairs=record.pairs,
            )
        return Market(candles.values())

    async def _save(self, live: Live, error: str | None = None) -> Step:
        """Save a session that has ended; it may be tried again. The caller holds its lock."""
        step = live.unsaved
        assert step is not None, "the session has ended"
        try:
            await self.in_thread(self._save_results, live, error)
        except InvalidParameter as refusal:
            await self._fail(live, refusal.message)
            raise _has_failed(live.record) from None
        live.unsaved = None
        self._running.pop(live.record.session_id, None)
        self._keep_ended(live)
        return step

    async def _fail(self, live: Live, error: str) -> None:
        """Give up a session that can neither go on nor be saved, and note why."""
        names = (live.record.account_id, live.record.session_id)
        await self.in_thread(save_failure, self.store, *names, error)
        live.record = await self.in_thread(get_session, self.store, *names)
        self._running.pop(live.record.session_id, None)

    def _save_results(self, live: Live, error: str | None) -> None:
        session, record = live.session, live.record
        assert isinstance(session, Session), "only a session that ran here is saved"
        save_results(
            self.store,
            record.account_id,
            record.session_id,
            results=session.results(),
            current_step=session.step_number,
            orders=session.orders,
            fills=session.fills,
            equity=session.snapshots(),
            error=error,
        )
        live.record = get_session(self.store, record.account_id, record.session_id)

    def _keep_ended(self, live: Live) -> None:
        self._ended[live.record.session_id] = live
        while len(self._ended) > _ENDED_KEPT:
            self._ended.popitem(last=False)

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
                if live.record.status == "running" and live.unsaved is None
            }
            self._progress.clear()
            try:
                await self.in_thread(save_progress, self.store, steps)
            except StorageUnavailable as error:
                log.warning("progress_not_stored", error=str(error))
            await asyncio.sleep(_PROGRESS_PAUSE_SECONDS)


class Server:
    """What handlers work with: the settings, the store and what is known of it, the sessions."""

    def __init__(self, settings: Settings, store: Store, gate: Gate) -> None:
        self.settings = settings
        self.store = store
        self.gate = gate
        self.catalogue = Catalogue(store)
        self.hub = Hub(settings, store)
        self.counters = Counters()

    async def live(self, call: Call) -> Live:
        """The session that the call's path names; raises as ``Hub.find`` does."""
        session_id = call.path["session_id"]
        live = self.hub.in_memory(call.account_id, session_id)
        return live or await self.hub.find(call.account_id, session_id)

    async def running(self, call: Call) -> Live:
        """As ``live``, for a call that only a running session takes: no other is loaded for it."""
        return await self.hub.find_running(call.account_id, call.path["session_id"])

    async def in_thread(self, work: Callable[..., Result], *args: Any, **kwargs: Any) -> Result:
        """Do work that blocks off the event loop."""
        return await self.hub.in_thread(work, *args, **kwargs)


def session_config(record: SessionRecord) -> SessionConfig:
    """The configuration that a stored session is run with."""
    return SessionConfig(
        start_time=record.start_time,
        end_time=record.end_time,
        starting_balance=record.starting_balance,
        candle_interval=record.interval // 1000,
        risk=RiskProfile(**record.risk_profile),
        **record.config,
    )


def _has_ended(record: SessionRecord) -> InvalidState:
    return InvalidState(
        f"the session is {record.status}; create a new one to go on", status=record.status
    )


def _has_failed(record: SessionRecord) -> InvalidState:
    why = record.error or "a fault of the server lost its state"
    return InvalidState(f"the session has failed: {why}; create a new one", status="failed")


def _require_loadable(record: SessionRecord) -> None:
    """Raise ``InvalidState`` unless the session has ended whole; it is not in memory."""
    if record.status == "created":
        raise InvalidState(
            f"the session is not started; POST /api/v1/backtest/{record.session_id}/start first",
            status=record.status,
        )
    if record.status in ("running", "failed"):
        raise _has_failed(record)
