"""The host of sessions: creates them, changes them, forks, records and saves them.

A command changes a session entirely or not at all, and is in the session's journal before its
reply is returned. Every caller changes sessions through ``SessionHost.apply``; ``try_step`` is a
shortcut for the plainest of commands.
"""

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Literal, NamedTuple, TypeVar

import msgspec

from candlestep.api.schemas.sessions import CreateRequest, fork_response
from candlestep.api.sessions.commands import (
    Command,
    ForkCommand,
    OcoCommand,
    OrderCommand,
    SessionRef,
    StartCommand,
    TurnCommand,
)
from candlestep.api.sessions.coverage import require_candles_of, session_coverage
from candlestep.api.sessions.creation import SessionCreator
from candlestep.api.sessions.hosted_session import HostedSession, PlayedCommand
from candlestep.api.sessions.housekeeping import Housekeeping
from candlestep.api.sessions.idempotency import IdempotencyKey, ReplyCache, repeat_reply
from candlestep.api.sessions.player import Reply, encode_start
from candlestep.api.sessions.pool import SessionPool, require_started
from candlestep.api.sessions.real_reading import RealReading
from candlestep.api.sessions.repository import SessionRepository
from candlestep.api.settings import Settings
from candlestep.api.threads import ProgressWriter, Threads
from candlestep.data.clock import now
from candlestep.data.errors import StorageUnavailable
from candlestep.data.journal.records import ForkRecord
from candlestep.data.market.candle_cache import CandleCache
from candlestep.data.market.catalogue import Catalogue
from candlestep.data.records.sessions import (
    JournalPosition,
    SessionPage,
    SessionRecord,
    list_sessions,
    new_session_id,
)
from candlestep.data.store.database import Store
from candlestep.sandbox import InvalidParameter, InvalidState, SandboxError
from candlestep.sandbox.market.coverage import Coverage

PROGRESS_STEPS = 500
"""The number of steps after which a session's progress is stored."""

_TURNS_AT_ONCE = 20
"""The turns of one request between two chances for other requests."""

_OTHER_FILES = 256
"""Open files kept for other uses than journals."""

Result = TypeVar("Result")

_encode = msgspec.json.Encoder().encode


Outcomes = list[Reply | SandboxError]


class SessionTurn(NamedTuple):
    """The turn of one of several sessions."""

    ref: SessionRef
    command: TurnCommand
    key: IdempotencyKey | None


class SessionHost:
    """The sessions of a server. Call its methods on the event loop."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        catalogue: Catalogue,
        cache: CandleCache,
        threads: Threads,
        repository: SessionRepository,
        max_files: int = 1024,
    ) -> None:
        """Host sessions in a process that may have ``max_files`` files open."""
        self.steps_made = 0
        """The steps of all sessions since the start of the server."""
        self._threads = threads
        self._store = store
        self._catalogue = catalogue
        self._is_synced = settings.durability == "power"
        self._server_name = settings.server_name
        self._max_pending = settings.max_pending_orders
        self._creator = SessionCreator(settings, store, catalogue)
        self._repository = repository
        self._progress = ProgressWriter[JournalPosition](
            partial(threads.run, repository.save_progress)
        )
        self.pool = SessionPool(
            repository,
            cache,
            threads,
            self._progress,
            budget=settings.memory_budget,
            max_sessions=max(1, max_files - _OTHER_FILES),
            idle_seconds=settings.idle_seconds,
        )
        self._housekeeping = Housekeeping(
            self.pool,
            repository,
            self._progress,
            threads,
            self._save_if_ended,
            settings.result_days,
        )

    async def create(
        self, account_id: str, agent_id: str, request: CreateRequest, key: IdempotencyKey | None
    ) -> SessionRecord:
        """Create a session, or return the one that the same key created before.

        It belongs to the agent ``agent_id`` unless the request names another. Raises the errors of
        ``plan_session``, ``AgentNotFound``, and ``InvalidParameter`` for a key used otherwise.
        """
        return await self._threads.run(self._creator.create, account_id, agent_id, request, key)

    async def coverage(self, record: SessionRecord) -> Coverage:
        """Return the coverage of a session's pairs by the candles that it has, or would start with."""
        return await self._threads.read(session_coverage, self._catalogue, record)

    async def record(self, ref: SessionRef) -> SessionRecord:
        """Return the record of a session in any state; raises ``SessionNotFound``."""
        hosted = self.pool.get(ref)
        if hosted is not None:
            return self.pool.up_to_date(hosted.record)
        return await self.pool.record(ref)

    async def reading(
        self, record: SessionRecord, name: Literal["blind", "real"]
    ) -> RealReading | None:
        """Return the real reading, or None for the one that the session itself shows.

        Raises as ``real_reading`` does.
        """
        return await self.real_reading(record) if name == "real" else None

    async def real_reading(self, record: SessionRecord) -> RealReading:
        """Return the real reading of a blind session that has ended.

        Raises ``InvalidState`` for one that is not blind or has not ended, and the errors of
        ``CandleCache.candles``.
        """
        if record.blind is None:
            raise InvalidState(
                "the session is not blind: what it shows is real", status=record.status
            )
        if record.status not in ("completed", "cancelled"):
            raise InvalidState(
                "what was real of a blind session is told when it has ended", status=record.status
            )
        reading = await self.pool.with_room(
            self._threads.load, self._repository.real_reading, record
        )
        assert reading is not None, "it is blind"
        return reading

    async def list(self, account_id: str, **filters: Any) -> SessionPage:
        """Return a page of the account's sessions, and the count of all pages; see ``list_sessions``."""
        return await self.as_of_now(list_sessions, self._store, account_id, **filters)

    async def as_of_now(
        self, read: Callable[..., SessionPage], *args: Any, **kwargs: Any
    ) -> SessionPage:
        """Return what ``read`` reads of the store, with the positions that memory knows."""
        with self._progress.reading():
            records, total = await self._threads.read(read, *args, **kwargs)
            return [self.pool.up_to_date(record) for record in records], total

    async def find(self, ref: SessionRef) -> HostedSession:
        """Return a started session to read from; raises as ``SessionPool.find`` does."""
        return self.pool.get(ref) or await self.pool.find(ref)

    async def recording(self, ref: SessionRef) -> bytes:
        """Return the session's recording up to now.

        Raises as ``SessionPool.find`` does, except that failed sessions have recordings too.
        """
        record = await self.record(ref)
        if record.status == "created":
            require_started(record)
        if record.is_sealed and record.status == "running":
            raise InvalidState(
                "the session is sealed: its recording is there when it has ended",
                status=record.status,
            )
        async with self.pool.at_rest(ref.session_id) as hosted:
            journal = None if hosted is None else hosted.journal
            size = None if journal is None else journal.size
            try:
                return await self._threads.load(self._repository.recording, ref.session_id, size)
            except FileNotFoundError:
                raise InvalidState(
                    "the session's journal is missing", status=record.status
                ) from None

    def try_step(self, ref: SessionRef, steps: int = 1, holder: str | None = None) -> Reply | None:
        """Make steps if that needs no waiting; return None if ``apply`` has to make them.

        A shortcut for the most frequent command, sent without a key. ``holder`` is the driver that
        makes them.
        """
        hosted = self.pool.get(ref)
        if hosted is None or self._is_synced or hosted.lock.locked():
            return None
        if hosted.hold is not None and hosted.hold.holder != holder:
            return None
        session = hosted.session
        before = session.step_number
        if before + steps >= session.total_steps:
            return None
        commands = hosted.commands
        try:
            reply = hosted.step(steps)
        except Exception as error:
            self._discard_changed(hosted, JournalPosition(before, commands), error)
            raise
        self._advanced(hosted, before, session.step_number)
        return reply

    async def apply(
        self, ref: SessionRef, command: Command, key: IdempotencyKey | None = None
    ) -> Reply:
        """Change a session by a command, at most once for its key, and return the reply.

        The change is in the journal, and a session that it ends is saved, before this returns.
        Raises the refusal of a command, and as ``SessionPool.find`` does; ``StorageUnavailable``
        with nothing changed, or, with ``applied`` true in its details, with the session ended and
        yet to be saved.
        """
        match command:
            case StartCommand():
                return await self._start(ref, key)
            case ForkCommand():
                return await self._fork(ref, command, key)
            case _:
                return await self._play(ref, command, key)

    async def take_turns(self, turns: Iterable[SessionTurn]) -> Outcomes:
        """Apply a turn to each of some sessions, one after the other.

        Return the replies and the errors, each in its turn's place.
        """
        outcomes: Outcomes = []
        for number, turn in enumerate(turns, 1):
            try:
                outcomes.append(await self.apply(turn.ref, turn.command, turn.key))
            except SandboxError as error:
                outcomes.append(error)
            if number % _TURNS_AT_ONCE == 0:
                await asyncio.sleep(0)  # Requests of others may come between.
        return outcomes

    async def recover(self) -> None:
        """Find the sessions that an earlier process left behind, save those that have ended, and
        start the housekeeping. The others are rebuilt from their journals on first use.
        """
        interrupted = await self._threads.run(self._repository.interrupted_sessions)
        self.pool.open_count = interrupted.running
        await self._housekeeping.start(interrupted.to_save)

    async def close(self) -> None:
        """Evict all sessions; the next process finds them again."""
        await self._housekeeping.stop()
        await self._progress.stop()
        await self._progress.flush()

    async def _start(self, ref: SessionRef, key: IdempotencyKey | None) -> Reply:
        """Load the market and let the session run; if it runs already, at step 0, change nothing."""
        async with self.pool.loading_lock(ref.session_id):
            record = await self.record(ref)
            if record.status == "created":
                await self._threads.read(require_candles_of, self._catalogue, record)
                hosted = await self.pool.start(record, key)
                return await self._start_reply(hosted)
        require_started(record)
        if key is not None:
            hosted = await self.pool.find(ref)
            if hosted.start_key is not None and hosted.start_key.key == key.key:
                key.require_same(hosted.start_key.digest)
                return await self._start_reply(hosted)
        if record.status == "running":
            hosted = await self.pool.find(ref)
            step = hosted.session.step_number
            if step == 0 and hosted.final is None:
                return await self._start_reply(hosted)
            raise InvalidState(
                f"the session is at step {step} already; step on",
                status="running",
                current_step=step,
            )
        raise InvalidState(
            f"the session is {record.status}; create a new one", status=record.status
        )

    async def _start_reply(self, hosted: HostedSession) -> Reply:
        coverage = await self.coverage(hosted.record)
        return Reply(encode_start(hosted.record.session_id, hosted.session, coverage))

    async def _play(
        self, ref: SessionRef, command: PlayedCommand, key: IdempotencyKey | None
    ) -> Reply:
        load_ended = key is not None or isinstance(command, OrderCommand | OcoCommand)
        hosted = await self._acquire(ref, load_ended=load_ended)
        try:
            stored = None if key is None else hosted.replies.find(key)
            if stored is not None:
                await self._save_if_ended(hosted)
                return repeat_reply(stored)
            reply = await self._change(
                hosted, lambda: hosted.apply(command, key, self._max_pending), key
            )
            await self._save_if_ended(hosted)
        finally:
            self.pool.release(hosted)
        if reply.refusal is not None:
            raise reply.refusal
        return reply

    async def _fork(
        self, ref: SessionRef, command: ForkCommand, key: IdempotencyKey | None
    ) -> Reply:
        """Create running sessions that share the past of a running one."""
        hosted = await self._acquire(ref, load_ended=key is not None)
        try:
            if hosted.record.is_sealed:
                raise InvalidState("the session is sealed: it has no forks", status="running")
            stored = None if key is None else hosted.replies.find(key)
            if stored is None:
                label = command.strategy_label
                if label is None:
                    label = hosted.record.strategy_label
                ids = [new_session_id(self._server_name) for _ in range(command.count)]
                fork = await self._change(hosted, lambda: hosted.fork(ids, label, now(), key), key)
                await self._create_forks(hosted, fork, keep=True)
            elif stored.fork is None:
                return repeat_reply(stored)
            else:
                fork = stored.fork
                await self._create_forks(hosted, fork, keep=False)
            return Reply(_encode(fork_response(hosted.record, fork)), 201)
        finally:
            self.pool.release(hosted)

    async def _create_forks(self, hosted: HostedSession, fork: ForkRecord, *, keep: bool) -> None:
        """Create the sessions of a fork that do not exist yet, and ``keep`` them in memory."""
        created = await self._threads.run(self._repository.fork, hosted, fork)
        self.pool.open_count += len(created)
        if keep:
            for record, journal in created:
                player = hosted.player.fork()
                forked = HostedSession(record, player, journal, hosted.commands, ReplyCache(), None)
                self.pool.add(forked)

    async def _acquire(self, ref: SessionRef, *, load_ended: bool) -> HostedSession:
        """Return a session, acquired."""
        while True:
            hosted = await self.pool.find(ref, load_ended=load_ended)
            await self.pool.acquire(hosted)
            if not hosted.is_discarded:
                return hosted
            self.pool.release(hosted)

    async def _change(
        self, hosted: HostedSession, change: Callable[[], Result], key: IdempotencyKey | None
    ) -> Result:
        """Change an acquired session: entirely, and as durably as the settings say, or not at all."""
        size = 0 if hosted.journal is None else hosted.journal.size
        before = hosted.position
        try:
            try:
                result = change()
            except StorageUnavailable:
                raise
            except SandboxError as refusal:
                hosted.keep_refusal(key, refusal)
                await self._sync(hosted, size)
                raise
            await self._sync(hosted, size)
        except Exception as error:
            self._discard_changed(hosted, before, error)
            raise
        self._advanced(hosted, before.step, hosted.session.step_number)
        return result

    def _discard_changed(
        self, hosted: HostedSession, before: JournalPosition, error: Exception
    ) -> None:
        """Discard a session after an error, unless that is a refusal, which changes nothing.

        The session may be half changed; its journal is intact, and the next use rebuilds it.
        """
        if isinstance(error, StorageUnavailable) or not isinstance(error, SandboxError):
            self.pool.discard(hosted, before)

    def _advanced(self, hosted: HostedSession, before: int, after: int) -> None:
        """Count the steps of a session that has advanced; have them stored soon if they are enough."""
        self.steps_made += after - before
        if before // PROGRESS_STEPS != after // PROGRESS_STEPS:
            self._progress.note(hosted.record.session_id, hosted.position)

    async def _sync(self, hosted: HostedSession, size: int) -> None:
        """Sync what the journal has beyond ``size`` bytes to disk; cut it off if that fails."""
        journal = hosted.journal
        if not self._is_synced or journal is None or journal.size == size:
            return
        try:
            await self._threads.run_syncing(journal.sync)
        except StorageUnavailable:
            journal.truncate(size)
            raise

    async def _save_if_ended(self, hosted: HostedSession) -> None:
        """Save an acquired session, if it has ended."""
        if hosted.final is None:
            return
        try:
            await self._threads.run(self._repository.save, hosted)
        except StorageUnavailable as failure:
            raise StorageUnavailable(
                f"the session is {hosted.session.status}, and its results could not be saved"
                f" ({failure.message}); it is done and will be saved: do not send it again",
                applied=True,
            ) from None
        except InvalidParameter as refusal:
            error = await self.pool.fail(hosted.record, refusal.message)
            self.pool.discard(hosted, hosted.position)
            raise error from None
        self.pool.end(hosted)
