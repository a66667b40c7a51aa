"""One session in memory: its state, its journal, and the lock that calls take in turn."""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import version
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET

from api.answers import CancelAnswer
from api.bodies import OrderBody
from api.fingerprints import fingerprint, require_same_candles
from api.playing import (
    Played,
    Player,
    ended,
    recorded_config,
    recorded_order,
    refused,
    start_digest,
)
from api.problems import STATUS
from api.retries import Asked, Kept, Keys
from data.journal import Journal
from data.recording import (
    AnswerRecord,
    CancelOrderRecord,
    CancelRecord,
    ForkRecord,
    OrderRecord,
    Origin,
    Record,
    Recording,
    Start,
    StepRecord,
    encoded,
    quiet_step,
)
from data.sessions import SessionRecord
from sandbox import InvalidState, Market, SandboxError, Session, format_time

_SESSION_BYTES = 16 * 1024
_ORDER_BYTES = 2 * 1024
_ENGINE = version("candlestep")

_encode = msgspec.json.Encoder().encode


class Diverged(SandboxError):
    """A session rebuilt from its journal that answers differently than it did."""

    code = "INVALID_STATE"


class Final(NamedTuple):
    """The answer of the command that ended a session, and the steps that it made."""

    answer: bytes
    steps: int


class Live:
    """A session that has started. Whoever changes it holds its lock.

    Every change is in its journal before it is answered; one that cannot be raises
    ``StorageUnavailable``, and then the session here is ahead of its journal: it is to be
    dropped, and rebuilt.
    """

    __slots__ = (
        "account_id",
        "final",
        "is_dropped",
        "journal",
        "keys",
        "lock",
        "player",
        "record",
        "start_asked",
        "used_at",
        "users",
    )

    def __init__(
        self,
        record: SessionRecord,
        player: Player,
        journal: Journal | None,
        keys: Keys,
        start_asked: Asked | None,
    ) -> None:
        self.account_id = record.account_id
        self.record = record
        self.player = player
        self.journal = journal
        """None if it has ended and is saved."""
        self.keys = keys
        self.start_asked = start_asked
        """The key that it was started with."""
        self.lock = asyncio.Lock()
        self.users = 0
        """How many have the lock or wait for it."""
        self.final: Final | None = None
        """How it ended, until it is saved."""
        self.used_at = 0
        """When it was last asked for, by the hub's clock."""
        self.is_dropped = False
        """Whether it is no longer the session that calls find."""

    @property
    def session(self) -> Session:
        """The session, running or ended."""
        return self.player.session

    @property
    def size(self) -> int:
        """About how much memory it takes, candles aside."""
        return _SESSION_BYTES + _ORDER_BYTES * self.session.order_count + self.keys.size

    def step(self, steps: int, asked: Asked | None = None, *, fast: bool = False) -> Played:
        """Advance. If it has ended and is not saved, its last step is answered again."""
        if self.final is not None and self.session.status == "completed" and asked is None:
            return Played(_with_steps(*self.final) if fast else self.final.answer)
        journal = self._writable()
        session = self.player.session
        before = session.step_number
        played = self.player.step(steps)
        after = session.step_number
        answer = _with_steps(played.answer, after - before) if fast else played.answer
        if played.is_quiet and asked is None:
            journal.append(quiet_step(after - before, after, self.player.digest))
        else:
            self._write(
                StepRecord(
                    steps=after - before,
                    fast=fast and asked is not None,
                    at=after,
                    key=None if asked is None else asked.key,
                    body=None if asked is None else asked.body,
                    answer=UNSET if played.is_quiet else msgspec.Raw(played.answer),
                    digest=self.player.digest.decode(),
                )
            )
            if asked is not None:
                self.keys.keep(asked.key, Kept(asked.body, 200, answer))
        if session.status != "running":
            self.final = Final(played.answer, after - before)
        return played._replace(answer=answer) if fast else played

    def order(self, body: OrderBody, asked: Asked | None = None) -> Played:
        """Place an order; a rejection by a risk limit is recorded, and then raised."""
        played = self.player.order(body)
        if played.status == 200:
            self.keep(asked, 200, played.answer)
            return played
        self._write(
            OrderRecord(
                order=recorded_order(body),
                at=self.session.step_number,
                key=None if asked is None else asked.key,
                body=None if asked is None else asked.body,
                status=played.status,
                answer=msgspec.Raw(played.answer),
                digest=self.player.digest.decode(),
            )
        )
        if asked is not None:
            self.keys.keep(asked.key, Kept(asked.body, played.status, played.answer))
        return played

    def cancel_order(self, order_id: int) -> Played:
        """Cancel a pending order."""
        self._writable()
        played = self.player.cancel_order(order_id)
        self._write(
            CancelOrderRecord(
                order_id=order_id,
                at=self.session.step_number,
                answer=msgspec.Raw(played.answer),
                digest=self.player.digest.decode(),
            )
        )
        return played

    def cancel(self, asked: Asked | None = None) -> Played:
        """End the session here; if it has ended and is not saved, say how it did."""
        answer = None
        if self.final is None or asked is not None:
            self._writable()
            played = self.player.cancel()
            self._write(
                CancelRecord(
                    at=self.session.step_number,
                    key=None if asked is None else asked.key,
                    body=None if asked is None else asked.body,
                    answer=msgspec.Raw(played.answer),
                    digest=self.player.digest.decode(),
                )
            )
            self.final = Final(played.answer, 0)
            if asked is not None:
                answer = cancel_answer(self.record.session_id, self.session)
                self.keys.keep(asked.key, Kept(asked.body, 200, answer))
        return Played(answer or cancel_answer(self.record.session_id, self.session))

    def fork(
        self, sessions: list[str], strategy_label: str, time: int, asked: Asked | None = None
    ) -> ForkRecord:
        """Note that sessions are to share the past up to here, at a time of the wall clock."""
        journal = self._writable()
        fork = ForkRecord(
            sessions=sessions,
            strategy_label=strategy_label,
            forked_at=time,
            at=self.session.step_number,
            size=journal.size,
            digest=self.player.digest.decode(),
            key=None if asked is None else asked.key,
            body=None if asked is None else asked.body,
        )
        journal.share(encoded(fork))
        if asked is not None:
            self.keys.keep(asked.key, Kept(asked.body, 200, b"", fork))
        return fork

    def keep(self, asked: Asked | None, status: int, answer: bytes) -> None:
        """Note what a command with a key was answered that changed nothing."""
        if asked is None or self.journal is None or self.final is not None:
            return
        self._write(
            AnswerRecord(
                key=asked.key,
                body=asked.body,
                status=status,
                answer=msgspec.Raw(answer),
                at=self.session.step_number,
            )
        )
        self.keys.keep(asked.key, Kept(asked.body, status, answer))

    def keep_refusal(self, asked: Asked | None, error: SandboxError) -> None:
        """Note that a command with a key was refused."""
        self.keep(asked, STATUS.get(error.code, 422), refused(error))

    def _writable(self) -> Journal:
        """The journal of a session that runs; raises ``InvalidState`` if it has ended."""
        if self.journal is None or self.final is not None:
            raise has_ended(self.session.status)
        return self.journal

    def _write(self, record: Record) -> None:
        assert self.journal is not None
        self.journal.append(encoded(record))


def has_ended(status: str) -> InvalidState:
    """What a call is told that only a running session takes."""
    return InvalidState(f"the session is {status}; create a new one to go on", status=status)


def cancel_answer(session_id: str, session: Session) -> bytes:
    """What ending the session early answers."""
    end = ended(session)
    return _encode(CancelAnswer(session_id, end.status, end.total_trades, end.roi_pct))


def _with_steps(answer: bytes, steps: int) -> bytes:
    """The answer of ``step/batch/fast``, made of that of ``step/batch``."""
    return b'%s,"steps_executed":%d}' % (answer[:-1], steps)


def start_record(
    record: SessionRecord, session: Session, look_back: int, asked: Asked | None
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
        engine=_ENGINE,
        session_id=record.session_id,
        import_number=record.import_number,
        look_back=look_back,
        candles=fingerprint(session.config, session.market),
        key=None if asked is None else asked.key,
        body=None if asked is None else asked.body,
        digest=start_digest(session).decode(),
    )


def rebuilt(recording: Recording, market: Market, keys: Keys) -> tuple[Player, "Final | None"]:
    """The session that a journal records, with its latest keys, and how it ended if it has.

    Every answer with orders or fills, and the last of each run of quiet steps, is made again and
    compared. Raises ``CandlesDiffer``, and ``Diverged`` where an answer is another one.
    """
    start = recording.start
    config = recorded_config(start.config, start.risk_profile)
    if start.candles is not None:
        require_same_candles(start.candles, fingerprint(config, market))
    player = Player(Session(config, market))
    _compare(player, start.digest, start)
    _replay_all(player, recording.records[: recording.shared], start, keys)
    if start.forked_from is not None:
        _require_fork_point(player, start, start.forked_from)
    final = _replay_all(player, recording.records[recording.shared :], start, keys)
    return player, final


def _replay_all(
    player: Player, records: Sequence[Record], start: Start, keys: Keys
) -> "Final | None":
    """Play records; how they ended the session, if they did."""
    final = None
    for skipped, record in _runs(records):
        if skipped is not None:
            steps, digest = skipped
            if not player.skip(steps, digest.encode()):
                raise _diverged(player, start)
        before = player.session.step_number
        played = _replay(player, record, start, keys)
        if played is not None and player.session.status != "running":
            final = Final(played.answer, player.session.step_number - before)
    return final


def _require_fork_point(player: Player, start: Start, origin: Origin) -> None:
    """Raise ``Diverged`` unless the past that a fork shares is what it was when it was forked."""
    if (player.digest.decode(), player.session.step_number) != (origin.digest, start.at):
        raise Diverged(
            f"the past that it shares with session {origin.session_id} is not what it was",
            step=player.session.step_number,
        )


def _replay(player: Player, record: Record, start: Start, keys: Keys) -> Played | None:
    """Play a record; None if it is none of a command."""
    match record:
        case ForkRecord():
            if record.key is not None and record.body is not None:
                keys.keep(record.key, Kept(record.body, 200, b"", record))
            return None
        case AnswerRecord():
            keys.keep(record.key, Kept(record.body, record.status, bytes(record.answer)))
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
        answer = _with_steps(answer, player.session.step_number - before)
    elif isinstance(record, CancelRecord) and start.session_id is not None:
        answer = cancel_answer(start.session_id, player.session)
    keys.keep(record.key, Kept(record.body, played.status, answer))
    return played


def _runs(
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


def _compare(player: Player, digest: str | None, start: Start) -> None:
    if player.digest.decode() != digest:
        raise _diverged(player, start)


def _diverged(player: Player, start: Start, why: str = "") -> Diverged:
    return Diverged(
        f"version {_ENGINE} answers otherwise at step {player.session.step_number} than version"
        f" {start.engine}, which recorded the session{why}; its recording shows what it answered",
        step=player.session.step_number,
    )
