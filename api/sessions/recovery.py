"""A session from its journal: what its first line says, and how the commands are played again."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from candlestep import __version__
from candlestep.api.sessions.hosted_session import FinalReply
from candlestep.api.sessions.idempotency import IdempotencyKey, ReplyCache, StoredReply
from candlestep.api.sessions.player import (
    CommandPlayer,
    Reply,
    cancel_answer,
    fast_answer,
    recorded_config,
    start_digest,
)
from candlestep.data.journal.candle_fingerprints import fingerprint, require_same_candles
from candlestep.data.journal.recording import Recording
from candlestep.data.journal.records import (
    AnswerRecord,
    CancelOrderRecord,
    CancelRecord,
    ForkRecord,
    Origin,
    Record,
    Start,
    StepRecord,
)
from candlestep.data.records.sessions import SessionRecord
from candlestep.sandbox import Market, SandboxError, Session, format_time


class Diverged(SandboxError):
    """A session rebuilt from its journal that answers differently than it did."""

    code = "INVALID_STATE"


def start_record(
    record: SessionRecord, session: Session, look_back: int, asked: IdempotencyKey | None
) -> Start:
    """The first line of a session's journal."""
    config: dict[str, Any] = {
        "start_time": format_time(record.start_time),
        "end_time": format_time(record.end_time),
        "starting_balance": f"{record.starting_balance:f}",
        "candle_interval": record.interval // 1000,
        **record.config,
    }
    return Start(
        config=config,
        pairs=record.pairs,
        exchange=record.exchange,
        risk_profile=record.risk_profile,
        engine=__version__,
        session_id=record.session_id,
        import_number=record.import_number,
        look_back=look_back,
        candles=fingerprint(session.config, session.market),
        key=None if asked is None else asked.key,
        body=None if asked is None else asked.body,
        digest=start_digest(session).decode(),
    )


def rebuild_session(
    recording: Recording, market: Market, keys: ReplyCache
) -> tuple[CommandPlayer, FinalReply | None]:
    """The session that a journal records, with its latest keys, and how it ended if it has.

    Every answer with orders or fills, and the last of each run of quiet steps, is made again and
    compared. Raises ``CandlesDiffer``, and ``Diverged`` where an answer is another one.
    """
    start = recording.start
    config = recorded_config(start.config, start.risk_profile)
    if start.candles is not None:
        require_same_candles(start.candles, fingerprint(config, market))
    player = CommandPlayer(Session(config, market))
    _compare(player, start.digest, start)
    _replay_all(player, recording.records[: recording.shared], start, keys)
    if start.forked_from is not None:
        _require_fork_point(player, start, start.forked_from)
    final = _replay_all(player, recording.records[recording.shared :], start, keys)
    return player, final


def _replay_all(
    player: CommandPlayer, records: Sequence[Record], start: Start, keys: ReplyCache
) -> FinalReply | None:
    """Play records; how they ended the session, if they did."""
    final = None
    for skipped, record in skip_quiet_runs(records):
        if skipped is not None:
            steps, digest = skipped
            if not player.skip(steps, digest.encode()):
                raise _diverged(player, start)
        before = player.session.step_number
        played = _replay(player, record, start, keys)
        if played is not None and player.session.status != "running":
            final = FinalReply(played.answer, player.session.step_number - before)
    return final


def _require_fork_point(player: CommandPlayer, start: Start, origin: Origin) -> None:
    """Raise ``Diverged`` unless the past that a fork shares is what it was when it was forked."""
    if (player.digest.decode(), player.session.step_number) != (origin.digest, start.at):
        raise Diverged(
            f"the past that it shares with session {origin.session_id} is not what it was",
            step=player.session.step_number,
        )


def _replay(player: CommandPlayer, record: Record, start: Start, keys: ReplyCache) -> Reply | None:
    """Play a record; None if it is none of a command."""
    match record:
        case ForkRecord():
            if record.key is not None and record.body is not None:
                keys.keep(record.key, StoredReply(record.body, 200, b"", record))
            return None
        case AnswerRecord():
            keys.keep(record.key, StoredReply(record.body, record.status, bytes(record.answer)))
            return None
    before = player.session.step_number
    try:
        played = player.play(record)
    except SandboxError as error:
        raise _diverged(player, start, f": {error.message}") from None
    _compare(player, record.digest, start)
    if isinstance(record, CancelOrderRecord) or record.key is None or record.body is None:
        return played
    answer = played.answer
    if isinstance(record, StepRecord) and record.fast:
        answer = fast_answer(answer, player.session.step_number - before)
    elif isinstance(record, CancelRecord) and start.session_id is not None:
        answer = cancel_answer(start.session_id, player.session)
    keys.keep(record.key, StoredReply(record.body, played.status, answer))
    return played


def skip_quiet_runs(
    records: Iterable[Record],
) -> Iterator[tuple[tuple[int, str] | None, Record]]:
    """Each record, but of a run of quiet steps only the last, with how many to skip before it."""
    skipped = 0
    digest = ""
    held: StepRecord | None = None
    for record in records:
        if isinstance(record, StepRecord) and record.is_quiet and record.key is None:
            if held is not None:
                skipped += held.steps * held.times
                digest = held.digest or ""
            held = record
            continue
        if held is not None:
            yield (skipped, digest) if skipped else None, held
            skipped, held = 0, None
        yield None, record
    if held is not None:
        yield (skipped, digest) if skipped else None, held


def _compare(player: CommandPlayer, digest: str | None, start: Start) -> None:
    if player.digest.decode() != digest:
        raise _diverged(player, start)


def _diverged(player: CommandPlayer, start: Start, why: str = "") -> Diverged:
    return Diverged(
        f"version {__version__} answers otherwise at step {player.session.step_number} than version"
        f" {start.engine}, which recorded the session{why}; its recording shows what it answered",
        step=player.session.step_number,
    )
