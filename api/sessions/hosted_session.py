"""One session in memory: its state, its journal, and the lock that one command at a time holds."""

import asyncio
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET

from candlestep.api.errors import STATUS
from candlestep.api.schemas.orders import OrderRequest
from candlestep.api.sessions.commands import (
    CancelCommand,
    CancelOrderCommand,
    OrderCommand,
    StepCommand,
)
from candlestep.api.sessions.idempotency import IdempotencyKey, ReplyCache, StoredReply
from candlestep.api.sessions.player import (
    CommandPlayer,
    Reply,
    encode_cancel,
    encode_refusal,
    recorded_order,
    with_steps_executed,
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
from candlestep.sandbox import InvalidParameter, InvalidState, Order, SandboxError, Session

_NO_KEY = (None, None)
_SESSION_BYTES = 16 * 1024
_ORDER_BYTES = 2 * 1024

PlayedCommand = StepCommand | OrderCommand | CancelOrderCommand | CancelCommand
"""The commands that are played on a session that runs."""


class FinalReply(NamedTuple):
    """The reply to the command that ended a session, and the steps that the command made."""

    body: bytes
    steps: int


@dataclass(slots=True, eq=False)
class HostedSession:
    """A started session in memory, with its journal. Callers that change it hold its lock.

    Every change is in the journal before the reply is returned. A change that cannot be written
    raises ``StorageUnavailable``; the session is then ahead of its journal, and its owner must
    discard it, to be rebuilt from the journal.
    """

    record: SessionRecord
    player: CommandPlayer
    journal: Journal | None
    """None once the session has ended and is saved."""
    replies: ReplyCache
    start_key: IdempotencyKey | None
    """The key with which the session was started."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0
    """The number of callers that hold the lock or wait for it."""
    final: FinalReply | None = None
    """The final reply, from the session's end until it is saved."""
    used_at: int = 0
    """The time of the last use, in ticks of the pool."""
    is_discarded: bool = False
    """True once the pool no longer has this session."""

    @property
    def session(self) -> Session:
        """The session itself, running or ended."""
        return self.player.session

    @property
    def size(self) -> int:
        """The approximate memory that the session takes, in bytes, without candles."""
        return _SESSION_BYTES + _ORDER_BYTES * self.session.order_count + self.replies.size

    def apply(self, command: PlayedCommand, key: IdempotencyKey | None, most_pending: int) -> Reply:
        """Write a change of the session to the journal, and return the reply.

        At most ``most_pending`` orders may be pending. Raises ``SandboxError`` for a command that is
        refused, with nothing changed.
        """
        match command:
            case StepCommand():
                if command.from_step is not None:
                    self._require_step(command.from_step)
                return self.step(command.steps, key, counts_steps=command.counts_steps)
            case OrderCommand():
                return self._place_order(command.order, key, most_pending)
            case CancelOrderCommand():
                return self._cancel_order(command.order_id)
            case CancelCommand():
                return self._cancel(key)

    def step(
        self, steps: int, key: IdempotencyKey | None = None, *, counts_steps: bool = False
    ) -> Reply:
        """Advance by ``steps``; repeat the final reply of a session that has ended unsaved."""
        if self.final is not None and self.session.status == "completed" and key is None:
            return Reply(with_steps_executed(*self.final) if counts_steps else self.final.body)
        journal = self._writable()
        session = self.player.session
        before = session.step_number
        reply = self.player.step(steps)
        after = session.step_number
        body = with_steps_executed(reply.body, after - before) if counts_steps else reply.body
        if reply.is_quiet and key is None:
            journal.append(quiet_step(after - before, after, self.player.digest))
        else:
            self._write(
                StepRecord(
                    steps=after - before,
                    fast=counts_steps and key is not None,
                    answer=UNSET if reply.is_quiet else msgspec.Raw(reply.body),
                    **self._recorded(key),
                )
            )
            self._remember(key, 200, body)
        if session.status != "running":
            self.final = FinalReply(reply.body, after - before)
        return reply._replace(body=body) if counts_steps else reply

    def fork(
        self, sessions: list[str], strategy_label: str, time: int, key: IdempotencyKey | None
    ) -> ForkRecord:
        """Record that ``sessions`` share the past up to here; ``time`` is wall-clock time."""
        journal = self._writable()
        fork = ForkRecord(
            sessions=sessions,
            strategy_label=strategy_label,
            forked_at=time,
            size=journal.size,
            **self._recorded(key),
        )
        journal.share(encoded(fork))
        self._remember(key, 200, b"", fork)
        return fork

    def keep_refusal(self, key: IdempotencyKey | None, error: SandboxError) -> None:
        """Record that a command with a key was refused."""
        self._keep(key, STATUS.get(error.code, 422), encode_refusal(error))

    def _place_order(
        self, order: OrderRequest, key: IdempotencyKey | None, most_pending: int
    ) -> Reply:
        """Place an order; an order that a risk limit rejects is recorded, and its reply says so."""
        sent_before = self._sent_before(order, most_pending)
        if sent_before is not None:
            reply = self.player.repeat_order(sent_before)
        else:
            if order.type != "market":
                self._require_room(most_pending)
            reply = self.player.order(order)
        if reply.status == 200:
            self._keep(key, 200, reply.body)
            return reply
        self._write(
            OrderRecord(
                order=recorded_order(order),
                status=reply.status,
                answer=msgspec.Raw(reply.body),
                **self._recorded(key),
            )
        )
        self._remember(key, reply.status, reply.body)
        return reply

    def _cancel_order(self, order_id: int) -> Reply:
        self._writable()
        reply = self.player.cancel_order(order_id)
        self._write(
            CancelOrderRecord(
                order_id=order_id,
                at=self.session.step_number,
                answer=msgspec.Raw(reply.body),
                digest=self.player.digest.decode(),
            )
        )
        return reply

    def _cancel(self, key: IdempotencyKey | None) -> Reply:
        """End the session; if it has ended but is not saved, report how it ended."""
        if self.final is None or key is not None:
            self._writable()
            reply = self.player.cancel()
            self._write(CancelRecord(answer=msgspec.Raw(reply.body), **self._recorded(key)))
            self.final = FinalReply(reply.body, 0)
        body = encode_cancel(self.record.session_id, self.session)
        self._remember(key, 200, body)
        return Reply(body)

    def _sent_before(self, order: OrderRequest, most_pending: int) -> Order | None:
        """Return the earlier order with the same ``client_order_id``, if no order can be placed now.

        While orders can be placed, ``Session.place_order`` finds it, and faster.
        """
        client_id, session = order.client_order_id, self.session
        if client_id is None or (
            session.status == "running" and session.pending_count < most_pending
        ):
            return None
        orders = (known for known in session.orders if known.client_order_id == client_id)
        return next(orders, None)

    def _require_room(self, most_pending: int) -> None:
        """Raise ``InvalidParameter`` if no further order may be pending."""
        if self.session.pending_count >= most_pending:
            raise InvalidParameter(
                "type",
                f"the session has {most_pending} pending orders, the maximum; cancel one first",
                limit=most_pending,
            )

    def _require_step(self, step: int) -> None:
        """Raise ``InvalidState`` unless the session is at ``step``, or has ended unsaved."""
        current = self.session.step_number
        if current != step and self.final is None:
            raise InvalidState(
                f"from_step is {step}, but the session is at step {current}; an earlier request"
                " may have been carried out although its reply was lost",
                status="running",
                current_step=current,
            )

    def _keep(self, key: IdempotencyKey | None, status: int, body: bytes) -> None:
        """Record the reply to a command with a key that changed nothing."""
        if key is None or self.journal is None or self.final is not None:
            return
        self._write(
            AnswerRecord(
                key=key.key,
                body=key.digest,
                status=status,
                answer=msgspec.Raw(body),
                at=self.session.step_number,
            )
        )
        self._remember(key, status, body)

    def _remember(
        self,
        key: IdempotencyKey | None,
        status: int,
        body: bytes,
        fork: ForkRecord | None = None,
    ) -> None:
        """Answer the key, if there is one, with this reply from now on."""
        if key is not None:
            self.replies.keep(key.key, StoredReply(key.digest, status, body, fork))

    def _writable(self) -> Journal:
        """Return the journal of a session that runs; raise ``InvalidState`` if it has ended."""
        if self.journal is None or self.final is not None:
            raise ended_error(self.session.status)
        return self.journal

    def _recorded(self, key: IdempotencyKey | None) -> dict[str, Any]:
        """Return the fields that say in a record where the session is after a command."""
        key_text, key_digest = key or _NO_KEY
        digest = self.player.digest.decode()
        return {
            "at": self.session.step_number,
            "key": key_text,
            "body": key_digest,
            "digest": digest,
        }

    def _write(self, record: Record) -> None:
        assert self.journal is not None
        self.journal.append(encoded(record))


def ended_error(status: str) -> InvalidState:
    """Return the error for commands that only a running session takes."""
    return InvalidState(f"the session is {status}; create a new one to go on", status=status)
