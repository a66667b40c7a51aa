"""Recovery: how a session's journal begins, and how its commands are played again."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from candlestep import __version__
from candlestep.api.sessions.hosted_session import FinalReply
from candlestep.api.sessions.idempotency import IdempotencyKey, ReplyCache, StoredReply
from candlestep.api.sessions.player import (
    CommandPlayer,
    Reply,
    encode_cancel,
    recorded_config,
    start_digest,
    with_steps_executed,
)
from candlestep.data.journal.candle_fingerprints import fingerprint, require_same_candles
from candlestep.data.journal.compaction import quiet_runs
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
    """A session, rebuilt from its journal, whose replies differ from those recorded."""

    code = "INVALID_STATE"


def config_of(record: SessionRecord) -> dict[str, Any]:
    """Return the configuration of a stored session, as its journal has it."""
    return {
        "start_time": format_time(record.start_time),
        "end_time": format_time(record.end_time),
        "starting_balance": f"{record.starting_balance:f}",
        "candle_interval": record.interval // 1000,
        **record.config,
    }


def start_record(
    record: SessionRecord, session: Session, look_back: int, key: IdempotencyKey | None
) -> Start:
    """Return the first line of a session's journal."""
    return Start(
        config=config_of(record),
        pairs=record.pairs,
        exchange=record.exchange,
        risk_profile=record.risk_profile,
        engine=__version__,
        session_id=record.session_id,
        import_number=record.import_number,
        look_back=look_back,
        candles=fingerprint(session.config, session.market),
        key=None if key is None else key.key,
        body=None if key is None else key.digest,
        digest=start_digest(session).decode(),
    )


def rebuild_session(
    recording: Recording, market: Market, replies: ReplyCache
) -> tuple[CommandPlayer, FinalReply | None]:
    """Play a journal's commands; return the session and, if it has ended, its final reply.

    The replies to its latest keys go to ``replies``. Every reply with orders or fills, and the
    last of each run of quiet steps, is made again and compared. Raises ``CandlesDiffer``, and
    ``Diverged`` where a reply differs.
    """
    start = recording.start
    config = recorded_config(start.config, start.risk_profile)
    if start.candles is not None:
        require_same_candles(start.candles, fingerprint(config, market))
    player = CommandPlayer(Session(config, market))
    _compare(player, start.digest, start)
    _play_all(player, recording.records[: recording.shared], start, replies)
    if start.forked_from is not None:
        _require_fork_point(player, start, start.forked_from)
    final = _play_all(player, recording.records[recording.shared :], start, replies)
    return player, final


def _play_all(
    player: CommandPlayer, records: Sequence[Record], start: Start, replies: ReplyCache
) -> FinalReply | None:
    """Play records; return the reply to the command that ended the session, if one did."""
    final = None
    for skipped, record in _skip_quiet_steps(records):
        if skipped is not None:
            steps, digest = skipped
            if not player.skip(steps, digest.encode()):
                raise _diverged(player, start)
        before = player.session.step_number
        reply = _play(player, record, start, replies)
        if reply is not None and player.session.status != "running":
            final = FinalReply(reply.body, player.session.step_number - before)
    return final


def _require_fork_point(player: CommandPlayer, start: Start, origin: Origin) -> None:
    """Raise ``Diverged`` unless the past that a fork shares is the same as when it was forked."""
    if (player.digest.decode(), player.session.step_number) != (origin.digest, start.at):
        raise Diverged(
            f"the past that it shares with session {origin.session_id} has changed",
            step=player.session.step_number,
        )


def _play(player: CommandPlayer, record: Record, start: Start, replies: ReplyCache) -> Reply | None:
    """Play a record; return None if it is not a command."""
    match record:
        case ForkRecord():
            if record.key is not None and record.body is not None:
                replies.keep(record.key, StoredReply(record.body, 200, b"", record))
            return None
        case AnswerRecord():
            replies.keep(record.key, StoredReply(record.body, record.status, bytes(record.answer)))
            return None
    before = player.session.step_number
    try:
        reply = player.play(record)
    except SandboxError as error:
        raise _diverged(player, start, f": {error.message}") from None
    _compare(player, record.digest, start)
    if isinstance(record, CancelOrderRecord) or record.key is None or record.body is None:
        return reply
    body = reply.body
    if isinstance(record, StepRecord) and record.fast:
        body = with_steps_executed(body, player.session.step_number - before)
    elif isinstance(record, CancelRecord) and start.session_id is not None:
        body = encode_cancel(start.session_id, player.session)
    replies.keep(record.key, StoredReply(record.body, reply.status, body))
    return reply


def _skip_quiet_steps(
    records: Iterable[Record],
) -> Iterator[tuple[tuple[int, str] | None, Record]]:
    """Yield each record, but only the last of each run of quiet steps.

    Each comes with the number of steps skipped before it and the digest after them, or with None.
    """
    for part in quiet_runs(records):
        if not isinstance(part, list):
            yield None, part
            continue
        *skipped, last = part
        steps = sum(record.steps * record.times for record in skipped)
        yield (steps, skipped[-1].digest or "") if skipped else None, last


def _compare(player: CommandPlayer, digest: str | None, start: Start) -> None:
    if player.digest.decode() != digest:
        raise _diverged(player, start)


def _diverged(player: CommandPlayer, start: Start, reason: str = "") -> Diverged:
    step = player.session.step_number
    return Diverged(
        f"version {__version__} replies differently at step {step} than version {start.engine},"
        f" which recorded the session{reason}; the session's recording has the original replies",
        step=step,
    )
