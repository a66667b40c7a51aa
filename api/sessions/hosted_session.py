"""One session in memory: its state, its journal, and the lock that calls take in turn."""

import asyncio
from typing import NamedTuple

import msgspec
from msgspec import UNSET

from candlestep.api.errors import STATUS
from candlestep.api.schemas.orders import OrderRequest
from candlestep.api.sessions.idempotency import IdempotencyKey, ReplyCache, StoredReply
from candlestep.api.sessions.player import (
    CommandPlayer,
    Reply,
    cancel_answer,
    fast_answer,
    recorded_order,
    refused,
)
from candlestep.data.journal.journal import Journal
from candlestep.data.journal.recording import encoded, quiet_step
from candlestep.data.journal.records import (
    AnswerRecord,
    CancelOrderRecord,
    CancelRecord,
    ForkRecord,
    OrderRecord,
    Record,
    StepRecord,
)
from candlestep.data.records.sessions import SessionRecord
from candlestep.sandbox import InvalidState, SandboxError, Session

_NO_KEY = (None, None)
_SESSION_BYTES = 16 * 1024
_ORDER_BYTES = 2 * 1024


class FinalReply(NamedTuple):
    """The answer of the command that ended a session, and the steps that it made."""

    answer: bytes
    steps: int


class HostedSession:
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
        player: CommandPlayer,
        journal: Journal | None,
        keys: ReplyCache,
        start_asked: IdempotencyKey | None,
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
        self.final: FinalReply | None = None
        """How it ended, until it is saved."""
        self.used_at = 0
        """When it was last asked for, in ticks."""
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

    def step(self, steps: int, asked: IdempotencyKey | None = None, *, fast: bool = False) -> Reply:
        """Advance. If it has ended and is not saved, its last step is answered again."""
        if self.final is not None and self.session.status == "completed" and asked is None:
            return Reply(fast_answer(*self.final) if fast else self.final.answer)
        journal = self._writable()
        session = self.player.session
        before = session.step_number
        played = self.player.step(steps)
        after = session.step_number
        answer = fast_answer(played.answer, after - before) if fast else played.answer
        if played.is_quiet and asked is None:
            journal.append(quiet_step(after - before, after, self.player.digest))
        else:
            key, body = asked or _NO_KEY
            self._write(
                StepRecord(
                    steps=after - before,
                    fast=fast and asked is not None,
                    at=after,
                    key=key,
                    body=body,
                    answer=UNSET if played.is_quiet else msgspec.Raw(played.answer),
                    digest=self.player.digest.decode(),
                )
            )
            self._answered(asked, 200, answer)
        if session.status != "running":
            self.final = FinalReply(played.answer, after - before)
        return played._replace(answer=answer) if fast else played

    def order(self, order: OrderRequest, asked: IdempotencyKey | None = None) -> Reply:
        """Place an order; a rejection by a risk limit is recorded, and then raised."""
        played = self.player.order(order)
        if played.status == 200:
            self.keep(asked, 200, played.answer)
            return played
        key, body = asked or _NO_KEY
        self._write(
            OrderRecord(
                order=recorded_order(order),
                at=self.session.step_number,
                key=key,
                body=body,
                status=played.status,
                answer=msgspec.Raw(played.answer),
                digest=self.player.digest.decode(),
            )
        )
        self._answered(asked, played.status, played.answer)
        return played

    def cancel_order(self, order_id: int) -> Reply:
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

    def cancel(self, asked: IdempotencyKey | None = None) -> Reply:
        """End the session here; if it has ended and is not saved, say how it did."""
        if self.final is None or asked is not None:
            self._writable()
            played = self.player.cancel()
            key, body = asked or _NO_KEY
            self._write(
                CancelRecord(
                    at=self.session.step_number,
                    key=key,
                    body=body,
                    answer=msgspec.Raw(played.answer),
                    digest=self.player.digest.decode(),
                )
            )
            self.final = FinalReply(played.answer, 0)
        answer = cancel_answer(self.record.session_id, self.session)
        self._answered(asked, 200, answer)
        return Reply(answer)

    def fork(
        self,
        sessions: list[str],
        strategy_label: str,
        time: int,
        asked: IdempotencyKey | None = None,
    ) -> ForkRecord:
        """Note that sessions are to share the past up to here, at a time of the wall clock."""
        journal = self._writable()
        key, body = asked or _NO_KEY
        fork = ForkRecord(
            sessions=sessions,
            strategy_label=strategy_label,
            forked_at=time,
            at=self.session.step_number,
            size=journal.size,
            digest=self.player.digest.decode(),
            key=key,
            body=body,
        )
        journal.share(encoded(fork))
        self._answered(asked, 200, b"", fork)
        return fork

    def keep(self, asked: IdempotencyKey | None, status: int, answer: bytes) -> None:
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
        self._answered(asked, status, answer)

    def keep_refusal(self, asked: IdempotencyKey | None, error: SandboxError) -> None:
        """Note that a command with a key was refused."""
        self.keep(asked, STATUS.get(error.code, 422), refused(error))

    def _answered(
        self,
        asked: IdempotencyKey | None,
        status: int,
        answer: bytes,
        fork: ForkRecord | None = None,
    ) -> None:
        """Have a key, if there is one, answered so from now on."""
        if asked is not None:
            self.keys.keep(asked.key, StoredReply(asked.body, status, answer, fork))

    def _writable(self) -> Journal:
        """The journal of a session that runs; raises ``InvalidState`` if it has ended."""
        if self.journal is None or self.final is not None:
            raise ended_error(self.session.status)
        return self.journal

    def _write(self, record: Record) -> None:
        assert self.journal is not None
        self.journal.append(encoded(record))


def ended_error(status: str) -> InvalidState:
    """What a call is told that only a running session takes."""
    return InvalidState(f"the session is {status}; create a new one to go on", status=status)
