"""One session in memory: its state, its journal, and the lock that one command at a time holds."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET

from candlestep.api.errors import STATUS
from candlestep.api.schemas.orders import OrderRequest
from candlestep.api.sessions.commands import (
    CancelCommand,
    CancelOrderCommand,
    MarginCommand,
    OcoCommand,
    OrderCommand,
    ReplaceOrderCommand,
    StepCommand,
    TurnCommand,
)
from candlestep.api.sessions.hold import Hold, require_free
from candlestep.api.sessions.idempotency import IdempotencyKey, ReplyCache, StoredReply
from candlestep.api.sessions.player import (
    CommandPlayer,
    Reply,
    encode_cancel,
    encode_refusal,
    recorded_changes,
    recorded_order,
    with_steps_executed,
)
from candlestep.data.journal.journal import Journal
from candlestep.data.journal.recording import command_count, encoded, quiet_step
from candlestep.data.journal.records import (
    AnswerRecord,
    CancelOrderRecord,
    CancelRecord,
    ForkRecord,
    MarginChange,
    OcoRecord,
    OrderRecord,
    Record,
    ReplaceOrderRecord,
    StepRecord,
    TurnRecord,
)
from candlestep.data.market.candle_cache import BYTES_PER_CANDLE
from candlestep.data.records.sessions import JournalPosition, SessionRecord
from candlestep.sandbox import InvalidParameter, InvalidState, SandboxError, Session
from candlestep.sandbox.until import Until

_NO_KEY = (None, None)
_SESSION_BYTES = 16 * 1024
_ORDER_BYTES = 2 * 1024

PlayedCommand = (
    StepCommand
    | OrderCommand
    | OcoCommand
    | ReplaceOrderCommand
    | CancelOrderCommand
    | TurnCommand
    | MarginCommand
    | CancelCommand
)
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
    commands: int
    """The number of commands in the journal."""
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
    hold: Hold | None = None
    """The driver that makes its time, if one does."""

    @property
    def session(self) -> Session:
        """The session itself, running or ended."""
        return self.player.session

    @property
    def position(self) -> JournalPosition:
        """The position that the session and its journal have reached."""
        return JournalPosition(self.session.step_number, self.commands)

    @property
    def size(self) -> int:
        """The approximate memory that the session takes, in bytes, without candles."""
        own = _SESSION_BYTES + _ORDER_BYTES * self.session.order_count + self.replies.size
        return own if self.record.blind is None else own + self._disguised_bytes

    @property
    def _disguised_bytes(self) -> int:
        """The memory of its market in disguise, which the cache of candles does not count."""
        market = self.session.market
        rows = sum(len(market.candles_of(symbol)) for symbol in market.symbols)
        return rows * BYTES_PER_CANDLE

    def apply(self, command: PlayedCommand, key: IdempotencyKey | None, most_pending: int) -> Reply:
        """Write a change of the session to the journal, and return the reply.

        At most ``most_pending`` orders may be pending. Raises ``SandboxError`` for a command that is
        refused, with nothing changed.
        """
        match command:
            case StepCommand():
                require_free(self.hold, command.holder)
                if command.from_step is not None:
                    self._require_step(command.from_step)
                return self.step(
                    command.steps, key, counts_steps=command.counts_steps, until=command.until
                )
            case OrderCommand():
                return self._place_order(command.order, key, most_pending)
            case OcoCommand():
                return self._place_oco(command.orders, key, most_pending)
            case ReplaceOrderCommand():
                return self._replace_order(command, key)
            case CancelOrderCommand():
                return self._cancel_order(command.order_id, key)
            case TurnCommand():
                if command.steps:
                    require_free(self.hold, None)
                return self._turn(command, key, most_pending)
            case MarginCommand():
                return self._change_margin(command.change, key)
            case CancelCommand():
                return self._cancel(key)

    def step(
        self,
        steps: int,
        key: IdempotencyKey | None = None,
        *,
        counts_steps: bool = False,
        until: Until | Mapping[str, Any] = "steps",
    ) -> Reply:
        """Advance by ``steps``; repeat the final reply of a session that has ended unsaved."""
        journal = self.journal
        if journal is None or self.final is not None:
            return self._repeat_final(key, counts_steps=counts_steps)
        session = self.player.session
        before = session.step_number
        reply = self.player.step(steps, until)
        after = session.step_number
        body = with_steps_executed(reply.body, after - before) if counts_steps else reply.body
        if reply.is_quiet and key is None:
            journal.append(quiet_step(after - before, after, self.player.digest))
            self.commands += 1
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
        return msgspec.structs.replace(reply, body=body) if counts_steps else reply

    def _repeat_final(self, key: IdempotencyKey | None, *, counts_steps: bool) -> Reply:
        """Repeat the reply of the last step, to a command without a key until the end is saved."""
        if self.final is None or self.session.status != "completed" or key is not None:
            raise ended_error(self.session.status)
        return Reply(with_steps_executed(*self.final) if counts_steps else self.final.body)

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
        self._require_room(order, most_pending)
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

    def _place_oco(
        self, orders: Sequence[OrderRequest], key: IdempotencyKey | None, most_pending: int
    ) -> Reply:
        """Place two orders, as ``_place_order`` one."""
        self._require_room(orders[0], most_pending, len(orders))
        reply = self.player.oco(orders)
        if reply.status == 200:
            self._keep(key, 200, reply.body)
            return reply
        self._write(
            OcoRecord(
                orders=[recorded_order(order) for order in orders],
                status=reply.status,
                answer=msgspec.Raw(reply.body),
                **self._recorded(key),
            )
        )
        self._remember(key, reply.status, reply.body)
        return reply

    def _replace_order(self, command: ReplaceOrderCommand, key: IdempotencyKey | None) -> Reply:
        """Replace an order; a replacement that a risk limit rejects is recorded."""
        self._writable()
        reply = self.player.replace_order(command.order_id, command.changes)
        self._write(
            ReplaceOrderRecord(
                order_id=command.order_id,
                changes=recorded_changes(command.changes),
                status=reply.status,
                answer=msgspec.Raw(reply.body),
                **self._recorded(key),
            )
        )
        self._remember(key, reply.status, reply.body)
        return reply

    def _cancel_order(self, order_id: int, key: IdempotencyKey | None) -> Reply:
        self._writable()
        reply = self.player.cancel_order(order_id)
        self._write(
            CancelOrderRecord(
                order_id=order_id, answer=msgspec.Raw(reply.body), **self._recorded(key)
            )
        )
        self._remember(key, reply.status, reply.body)
        return reply

    def _turn(self, command: TurnCommand, key: IdempotencyKey | None, most_pending: int) -> Reply:
        """Take a turn; what was done of it is recorded, also if a part was refused."""
        self._writable()
        if command.from_step is not None:
            self._require_step(command.from_step)
        body, reply, orders, cancel, steps = self.player.turn(
            command.orders,
            command.cancel,
            command.steps,
            command.until,
            lambda order: self._require_room(order, most_pending),
        )
        if not (orders or cancel or steps):
            self._keep(key, 200, body)
            return Reply(body)
        self._write(
            TurnRecord(
                orders=[recorded_order(order) for order in orders],
                cancel=cancel,
                steps=steps,
                answer=UNSET if reply.is_quiet else msgspec.Raw(reply.body),
                reply=UNSET if key is None or body == reply.body else msgspec.Raw(body),
                **self._recorded(key),
            )
        )
        self._remember(key, 200, body)
        if self.session.status != "running":
            assert reply.step is not None
            self.final = FinalReply(reply.step, steps)
        return Reply(body)

    def _change_margin(self, change: MarginChange, key: IdempotencyKey | None) -> Reply:
        self._writable()
        reply = self.player.change_margin(change)
        answer = {"answer": msgspec.Raw(reply.body), **self._recorded(key)}
        self._write(msgspec.structs.replace(change, **answer))
        self._remember(key, reply.status, reply.body)
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

    def _require_room(self, order: OrderRequest, most_pending: int, count: int = 1) -> None:
        """Raise ``InvalidParameter`` if ``count`` such orders are to be pending, and may not be.

        The legs of a bracket count as soon as its entry is placed: nobody asks when that fills.
        """
        bracket = (order.stop_loss, order.take_profit)
        legs = sum(leg is not None and leg is not UNSET for leg in bracket)
        count = max(legs, 0 if order.type == "market" else count)
        if not count or self.session.order_of_client(order.client_order_id):
            return
        session = self.session
        if session.most_pending + count > most_pending:
            told = (
                f"the session has {most_pending} pending orders, the maximum"
                if session.pending_count + count > most_pending
                else f"with the legs of its brackets the session would have more than {most_pending}"
                " pending orders, the maximum"
            )
            raise InvalidParameter("type", f"{told}; cancel one first", limit=most_pending)

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
        self.commands += command_count((record,))


def ended_error(status: str) -> InvalidState:
    """Return the error for commands that only a running session takes."""
    return InvalidState(f"the session is {status}; create a new one to go on", status=status)
