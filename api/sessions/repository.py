"""Sessions on disk: started, rebuilt from their journals, forked and saved. Every method blocks.

A journal is written before the store: a session that the store calls running always has a
journal, and the journal knows the session's latest step.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import msgspec
import structlog

from candlestep.api.sessions.hosted_session import HostedSession
from candlestep.api.sessions.idempotency import IdempotencyKey, ReplyCache
from candlestep.api.sessions.player import CommandPlayer, recorded_config
from candlestep.api.sessions.recovery import config_of, rebuild_session, start_record
from candlestep.data.errors import StorageUnavailable
from candlestep.data.imports.importer import latest_import
from candlestep.data.journal.compaction import compacted, without_keys
from candlestep.data.journal.journal import Journal, JournalDamaged, Journals
from candlestep.data.journal.recording import Recording, encoded
from candlestep.data.journal.records import ForkRecord, Origin, Start
from candlestep.data.market.candle_cache import LOOK_BACK, CandleCache, CandleRequest
from candlestep.data.market.catalogue import effective_imports
from candlestep.data.records.results import save_results
from candlestep.data.records.sessions import (
    SessionRecord,
    fork_session,
    get_session,
    missing_sessions,
    running_sessions,
    save_failure,
    save_progress,
    save_start,
)
from candlestep.data.store.database import Store
from candlestep.sandbox import Market, NoPrice, Session

log = structlog.get_logger()


class InterruptedSessions(NamedTuple):
    """The sessions that an earlier process left running."""

    running: int
    """Their number."""
    to_save: list[SessionRecord]
    """Those that have ended in their journals, but not in the store."""


@dataclass(frozen=True)
class SessionRepository:
    """The store, the candles and the journals of a home, as sessions need them."""

    store: Store
    cache: CandleCache
    journals: Journals
    save_forks: Callable[..., list[SessionRecord]] = fork_session

    def record(self, account_id: str, session_id: str) -> SessionRecord:
        """Return the stored record of the account's session; raise ``SessionNotFound``."""
        return get_session(self.store, account_id, session_id)

    def start(self, record: SessionRecord, key: IdempotencyKey | None) -> HostedSession:
        """Load the market as it is now, and begin the journal.

        Raises ``NoPrice`` if no pair has candles, and the errors of ``CandleCache.candles``.
        """
        number = latest_import(self.store)
        market = self._market(record, number)
        config = recorded_config(config_of(record), record.risk_profile)
        player = CommandPlayer(Session(config, market))
        pinned = msgspec.structs.replace(record, import_number=number)
        journal = self.journals.create(start_record(pinned, player.session, LOOK_BACK, key))
        with self.store.transaction():
            if latest_import(self.store) != number:
                # Rows superseded since the market was loaded may have been pruned too.
                effective_imports(self.store, record.exchange, record.pairs, number)
            started = save_start(self.store, record.account_id, record.session_id, number)
        return HostedSession(started, player, journal, ReplyCache(), key)

    def load(self, record: SessionRecord) -> HostedSession:
        """Restore a session, running or ended, from its journal.

        Raises ``JournalDamaged``, ``CandlesDiffer`` or ``Diverged`` if the session cannot be restored
        as it was, ``StorageUnavailable``, and the errors of ``CandleCache.candles``.
        """
        try:
            recording = self.journals.read(record.session_id)
        except FileNotFoundError:
            path = self.journals.path(record.session_id)
            raise JournalDamaged(f"its journal {path.name} is missing") from None
        number = 0 if record.import_number is None else record.import_number
        hosted = restore_session(record, recording, self._market(record, number))
        if record.status == "running":
            hosted.journal = self.journals.open(record.session_id)
        return hosted

    def compact(self, journals: Iterable[tuple[Journal | None, ReplyCache]]) -> None:
        """Compact and close the journals of sessions that leave memory."""
        for journal, replies in journals:
            compact(journal, replies)

    def save(self, hosted: HostedSession) -> None:
        """Save a session that has ended; may be tried again.

        Raises ``InvalidParameter`` if its numbers are too large to be saved.
        """
        record, session = hosted.record, hosted.session
        save_results(
            self.store,
            record.account_id,
            record.session_id,
            results=session.results(),
            current_step=session.step_number,
            fills=session.fills,
            equity=session.snapshots(),
        )
        hosted.record = get_session(self.store, record.account_id, record.session_id)
        compact(hosted.journal, hosted.replies)

    def fail(self, record: SessionRecord, error: str) -> SessionRecord:
        """Mark a session as failed, because it can neither go on nor be saved."""
        return save_failure(self.store, record.account_id, record.session_id, error)

    def fork(self, hosted: HostedSession, fork: ForkRecord) -> list[tuple[SessionRecord, Journal]]:
        """Create the sessions of a fork, which is already in the journal of ``hosted``.

        Sessions that exist are left as they are. A fork that fails leaves nothing behind.
        """
        missing = missing_sessions(self.store, fork.sessions)
        start = start_record(hosted.record, hosted.session, LOOK_BACK, None)
        try:
            journals = [self.journals.create(forked_start(start, fork, id)) for id in missing]
            records = self.save_forks(
                self.store,
                hosted.record,
                missing,
                strategy_label=fork.strategy_label,
                step=fork.at,
                time=fork.forked_at,
            )
        except StorageUnavailable:
            for session_id in missing:
                self.journals.remove(session_id)
            raise
        return list(zip(records, journals, strict=True))

    def recording(self, session_id: str, size: int | None) -> bytes:
        """Return a session's recording, complete even where the session shares its past.

        ``size`` is the size of the journal of a session in memory. Raises as ``load`` does.
        """
        return whole_recording(self.journals.read(session_id, size))

    def interrupted_sessions(self) -> InterruptedSessions:
        """Read from their journals how far the sessions that were left running have come."""
        running = running_sessions(self.store)
        steps: dict[str, int] = {}
        to_save = []
        for record in running:
            try:
                step, is_cancelled = self.journals.last_step(record.session_id)
            except (JournalDamaged, StorageUnavailable, FileNotFoundError) as error:
                # The session's next command says so to its client.
                log.warning("journal_unreadable", session_id=record.session_id, error=str(error))
                continue
            if is_cancelled or step >= record.total_steps:
                to_save.append(record)
            elif step != record.current_step:
                steps[record.session_id] = step
        save_progress(self.store, steps)
        return InterruptedSessions(len(running), to_save)

    def _market(self, record: SessionRecord, import_number: int) -> Market:
        request = CandleRequest(
            record.exchange, record.pairs, import_number, record.start_time, record.end_time
        )
        candles = self.cache.candles(request)
        if not candles:
            raise NoPrice(
                "none of the session's pairs has candles in its period any more;"
                " GET /api/v1/market/data-range lists the candles that are available",
                pairs=record.pairs,
            )
        return Market(candles.values())


def restore_session(record: SessionRecord, recording: Recording, market: Market) -> HostedSession:
    """Return the session that a journal records, without the journal.

    Raises as ``rebuild_session`` does.
    """
    replies = ReplyCache()
    player, final = rebuild_session(recording, market, replies)
    start = recording.start
    start_key = None
    if start.key is not None and start.body is not None:
        start_key = IdempotencyKey(start.key, start.body)
    hosted = HostedSession(record, player, None, replies, start_key)
    if record.status == "running":
        hosted.final = final
    return hosted


def forked_start(start: Start, fork: ForkRecord, session_id: str) -> Start:
    """Return the first line of a fork's journal, given its origin's, which has no key."""
    assert start.session_id is not None
    origin = Origin(start.session_id, fork.size, fork.digest)
    return msgspec.structs.replace(start, session_id=session_id, forked_from=origin, at=fork.at)


def whole_recording(recording: Recording) -> bytes:
    """Return a recording as it is downloaded: with the shared past, without forks and keys."""
    start = msgspec.structs.replace(recording.start, forked_from=None, at=0, key=None, body=None)
    commands = compacted(without_keys(recording.records), ())
    return encoded(start) + b"".join(map(encoded, commands))


def compact(journal: Journal | None, replies: ReplyCache) -> None:
    """Compact a session's journal where that is possible, and close its file."""
    if journal is None:
        return
    try:
        journal.compact(replies)
    except (JournalDamaged, StorageUnavailable, OSError) as error:
        log.warning("journal_not_compacted", path=str(journal.path), error=str(error))
        journal.compacted_size = journal.size  # Tried again when it has grown again.
    journal.close()
