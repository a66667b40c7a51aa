"""Recovery: how a session's journal begins, and how its commands are played again."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from msgspec import UNSET

from candlestep import __version__
from candlestep.api.sessions.blind import hidden_of, shown_market
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
    CancelRecord,
    ForkRecord,
    Origin,
    Record,
    Start,
    StepRecord,
    TurnRecord,
)
from candlestep.data.market.candle_cache import LOOK_BACK, CandleRequest
from candlestep.data.records.sessions import SessionRecord
from candlestep.data.symbols import normalise_exchange, traded_symbol
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
        # That its candles suffice was required of the real ones; in disguise they may end earlier.
        **({} if record.blind is None else {"allow_gaps": True}),
    }


def start_record(record: SessionRecord, session: Session, key: IdempotencyKey | None) -> Start:
    """Return the first line of a session's journal."""
    return Start(
        config=config_of(record) | _copied_instruments(session),
        pairs=record.pairs,
        exchange=record.exchange,
        risk_profile=record.risk_profile,
        engine=__version__,
        session_id=record.session_id,
        import_number=record.import_number,
        look_back=LOOK_BACK if record.look_back is None else record.look_back,
        candles=fingerprint(session.config, session.market),
        key=None if key is None else key.key,
        body=None if key is None else key.digest,
        digest=start_digest(session).decode(),
        blind=record.blind,
    )


def _copied_instruments(session: Session) -> dict[str, Any]:
    """Return the instruments that a session copied at its start, as a field of its configuration."""
    instruments = [instrument.settings() for instrument in session.config.instruments.values()]
    return {"instruments": instruments} if instruments else {}


def look_back_of(start: Start) -> int:
    """Return the look-back of a recording in ms; the usual one if it was written without it."""
    return LOOK_BACK if start.look_back is None else start.look_back


def candle_request(start: Start, import_number: int) -> CandleRequest:
    """Return the candles that a recorded session can read, as of an import.

    Raises ``InvalidParameter`` and ``InvalidSymbol`` for a recording that was written by hand.
    """
    config = recorded_config(start.config, start.risk_profile)
    hidden = hidden_of(start.blind)
    exchange, pairs, moved = start.exchange, start.pairs, 0
    if hidden is not None:
        exchange, pairs, moved = hidden.exchange, hidden.pairs, hidden.start - config.start_time
    return CandleRequest(
        normalise_exchange(exchange),
        [traded_symbol(pair, config.market_type) for pair in pairs],
        import_number,
        config.start_time + moved,
        config.end_time + moved,
        look_back_of(start),
    )


def recorded_market(start: Start, market: Market | None, request: CandleRequest) -> Market | None:
    """Return the market that a recorded session reads, given that of its ``candle_request``."""
    hidden = hidden_of(start.blind)
    if hidden is None:
        return market
    config = recorded_config(start.config, start.risk_profile)
    return shown_market(market, request, hidden.disguise(start.pairs, config.start_time))


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
    player = CommandPlayer(Session(config, market), engine=start.engine)
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
            steps = player.session.step_number - before
            final = FinalReply(reply.body if reply.step is None else reply.step, steps)
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
    if record.key is None or record.body is None:
        return reply
    body = reply.body
    if isinstance(record, StepRecord) and record.fast:
        body = with_steps_executed(body, player.session.step_number - before)
    elif isinstance(record, TurnRecord) and record.reply is not UNSET:
        body = bytes(record.reply)
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
