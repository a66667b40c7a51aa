"""Sessions on disk: started, rebuilt from their journals, forked and saved. Every method blocks.

A journal is written before the store: a session that the store calls running always has a
journal, and the journal knows the session's latest step.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec
import structlog

from candlestep.api.sessions.blind import (
    candle_request,
    hidden_instruments,
    hidden_of,
    readable_part,
)
from candlestep.api.sessions.hosted_session import HostedSession
from candlestep.api.sessions.idempotency import IdempotencyKey, ReplyCache
from candlestep.api.sessions.player import CommandPlayer, recorded_config
from candlestep.api.sessions.real_reading import RealReading
from candlestep.api.sessions.recovery import (
    candle_request as recorded_request,
)
from candlestep.api.sessions.recovery import (
    config_of,
    look_back_of,
    rebuild_session,
    recorded_market,
    start_record,
)
from candlestep.data.clock import now
from candlestep.data.errors import MarketPruned, StorageUnavailable
from candlestep.data.imports.storing.changes import latest_import
from candlestep.data.journal.compaction import compacted, without_keys
from candlestep.data.journal.journal import Journal, JournalDamaged, Journals
from candlestep.data.journal.recording import Recording, command_count, encoded
from candlestep.data.journal.records import ForkRecord, Origin, Start
from candlestep.data.market.candle_cache import LOOK_BACK, CandleCache, CandleRequest
from candlestep.data.market.catalogue import effective_imports
from candlestep.data.market.day_fingerprints import day_fingerprints
from candlestep.data.records.instruments import instruments_to_copy
from candlestep.data.records.margin_results import margin_record
from candlestep.data.records.results import save_results
from candlestep.data.records.sessions import (
    JournalPosition,
    SessionRecord,
    ended_sessions,
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
from candlestep.sandbox.clock import DAY

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
        """Load the market as it is now, copy the instruments, and begin the journal.

        Raises ``NoPrice`` if no pair has candles, and the errors of ``CandleCache.candles``.
        """
        number = latest_import(self.store)
        look_back = self.cache.fitting_look_back(candle_request(record, number, LOOK_BACK))
        request = candle_request(record, number, look_back)
        real = self._market(record, request)
        market, instruments = self._shown(record, request, real)
        config = recorded_config(
            config_of(record) | {"instruments": instruments}, record.risk_profile
        )
        player = CommandPlayer(Session(config, market))
        pinned = msgspec.structs.replace(record, import_number=number, look_back=look_back)
        journal = self.journals.create(start_record(pinned, player.session, key))
        with self.store.transaction():
            if latest_import(self.store) != number:
                # Rows superseded since the market was loaded may have been pruned too.
                effective_imports(self.store, request.exchange, request.symbols, number)
            started = save_start(
                self.store, record.account_id, record.session_id, number, look_back
            )
        return HostedSession(started, player, journal, 0, ReplyCache(), key)

    def load(self, record: SessionRecord) -> HostedSession:
        """Restore a session, running or ended, from its journal.

        Raises ``JournalDamaged``, ``CandlesDiffer`` or ``Diverged`` if the session cannot be restored
        as it was, ``StorageUnavailable``, and the errors of ``CandleCache.candles``.
        """
        hosted = self.replay(record)
        require_reached(hosted.position, record.position)
        if record.status == "running":
            hosted.journal = self.journals.open(record.session_id)
        return hosted

    def replay(self, record: SessionRecord) -> HostedSession:
        """Restore a session as its journal has it now, without a journal to change it by.

        Raises as ``load`` does.
        """
        try:
            recording = self.journals.read(record.session_id)
        except FileNotFoundError:
            path = self.journals.path(record.session_id)
            hint = "" if record.status == "running" else "; its results are kept"
            raise JournalDamaged(f"its journal {path.name} is missing{hint}") from None
        number = 0 if record.import_number is None else record.import_number
        request = candle_request(record, number, look_back_of(recording.start))
        market = recorded_market(recording.start, self._market(record, request), request)
        if market is None:
            raise _no_candles(record)
        return restore_session(record, recording, market)

    def real_reading(self, record: SessionRecord) -> RealReading | None:
        """Return the real reading of a session that has ended; None if it is not blind.

        Raises the errors of ``CandleCache.candles``.
        """
        hidden = hidden_of(record.blind)
        if hidden is None:
            return None
        look_back = LOOK_BACK if record.look_back is None else record.look_back
        request = candle_request(record, record.import_number or 0, look_back)
        part = readable_part(self._market(record, request), request)
        if part is None:
            raise _no_candles(record)
        return RealReading(record, hidden, part)

    def journal_size(self, session_id: str) -> int:
        """Return the size of a session's journal in bytes; 0 if it is archived or missing."""
        try:
            return self.journals.path(session_id).stat().st_size
        except OSError:
            return 0

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
            margin=margin_record(session),
        )
        hosted.record = get_session(self.store, record.account_id, record.session_id)
        compact(hosted.journal, hosted.replies)

    def fail(self, record: SessionRecord, error: str) -> SessionRecord:
        """Mark a session as failed at its position, because it can neither go on nor be saved."""
        names = record.account_id, record.session_id
        return save_failure(self.store, *names, error, record.position)

    def fork(self, hosted: HostedSession, fork: ForkRecord) -> list[tuple[SessionRecord, Journal]]:
        """Create the sessions of a fork, which is already in the journal of ``hosted``.

        Sessions that exist are left as they are. A fork that fails leaves nothing behind.
        """
        missing = missing_sessions(self.store, fork.sessions)
        start = start_record(hosted.record, hosted.session, None)
        try:
            journals = [self.journals.create(forked_start(start, fork, id)) for id in missing]
            records = self.save_forks(
                self.store,
                hosted.record,
                missing,
                strategy_label=fork.strategy_label,
                position=JournalPosition(fork.at, hosted.commands),
                time=fork.forked_at,
            )
        except StorageUnavailable:
            for session_id in missing:
                self.journals.remove(session_id)
            raise
        return list(zip(records, journals, strict=True))

    def recording(self, session_id: str, size: int | None) -> bytes:
        """Return a session's recording, complete even where the session shares its past.

        Its start has the digests of the candles of each day, unless there are too many. ``size`` is
        the size of the journal of a session in memory. Raises as ``load`` does.
        """
        recording = self.journals.read(session_id, size)
        start = recording.start
        if start.import_number is not None and start.blind is None:
            days = day_fingerprints(self.store, recorded_request(start, start.import_number))
            start = msgspec.structs.replace(start, days=days)
        return whole_recording(msgspec.structs.replace(recording, start=start))

    def interrupted_sessions(self) -> InterruptedSessions:
        """Read from their journals how far the sessions that were left running have come."""
        running = running_sessions(self.store)
        positions: dict[str, JournalPosition] = {}
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
            elif step > record.current_step:
                positions[record.session_id] = record.position._replace(step=step)
        self.save_progress(positions)
        return InterruptedSessions(len(running), to_save)

    def sessions_to_archive(self, days: int) -> list[str]:
        """Return the sessions that ended more than ``days`` ago and whose journals are not archived."""
        ended = ended_sessions(self.store, now() - days * DAY)
        return [session_id for session_id in ended if self.journals.path(session_id).exists()]

    def archive(self, session_id: str) -> None:
        """Compress the journal of a session that ended long ago."""
        self.journals.archive(session_id)

    def save_progress(self, positions: Mapping[str, JournalPosition]) -> None:
        """Store how far sessions have come, once their journals are on disk.

        A loss of power thus never leaves a journal that is shorter than the store says.
        """
        self.journals.sync(positions)
        save_progress(self.store, positions)

    def _market(self, record: SessionRecord, request: CandleRequest) -> Market:
        """Return the real market of a session, the errors in the names that the session shows."""
        try:
            market = self.cache.market(request)
        except MarketPruned as error:
            if record.blind is None:
                raise
            raise MarketPruned("the candles of the session have been pruned") from error
        if market is None:
            raise _no_candles(record)
        return market

    def _shown(
        self, record: SessionRecord, request: CandleRequest, real: Market
    ) -> tuple[Market, list[dict[str, Any]]]:
        """Return the market and the instruments of a session as it shows them."""
        instruments = _with_filters(
            instruments_to_copy(self.store, request.exchange, request.symbols, request.start),
            record.config.get("instruments", ()),
        )
        hidden = hidden_of(record.blind)
        if hidden is None:
            return real, instruments
        disguise = hidden.disguise(record.pairs, record.start_time)
        part = readable_part(real, request)
        if part is None:
            raise _no_candles(record)
        scales = part.scales(disguise)
        return part.disguised(disguise), hidden_instruments(instruments, disguise, scales)


def _with_filters(
    stored: Iterable[Mapping[str, Any]], given: Iterable[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return the stored instruments with the filters that were given when a session was created."""
    instruments = {one["symbol"]: dict(one) for one in stored}
    for one in given:
        known = instruments.get(one["symbol"], dict(one))
        filters = {**known["filters"], **one["filters"]}
        instruments[one["symbol"]] = known | {"filters": filters}
    return sorted(instruments.values(), key=lambda instrument: str(instrument["symbol"]))


def _no_candles(record: SessionRecord) -> NoPrice:
    return NoPrice(
        "none of the session's pairs has candles in its period any more;"
        " GET /api/v1/market/data-range lists the candles that are available",
        pairs=list(record.pairs),
    )


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
    commands = command_count(recording.records)
    hosted = HostedSession(record, player, None, commands, replies, start_key)
    if record.status == "running":
        hosted.final = final
    return hosted


def require_reached(reached: JournalPosition, known: JournalPosition) -> None:
    """Raise ``JournalDamaged`` if a journal ends before the position that it is known to have had."""
    if reached.step < known.step or reached.commands < known.commands:
        raise JournalDamaged(
            f"its journal was cut: it ends at step {reached.step} after {reached.commands}"
            f" commands, and had step {known.step} and {known.commands} commands",
            step=reached.step,
            commands=reached.commands,
            known_step=known.step,
            known_commands=known.commands,
        )


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
