"""Commands played on a session: the body of each reply, to the byte, and a digest of them all.

The server, the recovery of a session from its journal and the replay of a recording all play
commands here, so that all three do and reply the same.
"""

from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any, NamedTuple, cast

import msgspec
from msgspec import UNSET

from candlestep.api.schemas.account import (
    LeverageResponse,
    MarginModeResponse,
    MarginTransferResponse,
)
from candlestep.api.schemas.decoding import decode_body
from candlestep.api.schemas.fields import money
from candlestep.api.schemas.orders import (
    CancelOrderResponse,
    OcoResponse,
    OrderRequest,
    OrderResponse,
    ReplaceRequest,
)
from candlestep.api.schemas.prices import mark_price_writer, price_writer
from candlestep.api.schemas.sessions import (
    CancelResponse,
    EndResponse,
    StartedResponse,
    StartResponse,
)
from candlestep.api.schemas.steps import StepTexts
from candlestep.api.schemas.turns import turn_body, turn_digest_input
from candlestep.api.schemas.warnings import coverage_fields
from candlestep.data.journal.recording import chained
from candlestep.data.journal.records import (
    CancelOrderRecord,
    CancelRecord,
    CommandRecord,
    LeverageRecord,
    MarginChange,
    MarginModeRecord,
    MarginTransferRecord,
    OcoRecord,
    OrderRecord,
    ReplaceOrderRecord,
    StepRecord,
    TurnRecord,
)
from candlestep.data.symbols import traded_symbol
from candlestep.sandbox import (
    InvalidParameter,
    Order,
    RiskLimitExceeded,
    SandboxError,
    Session,
    SessionConfig,
    format_time,
)
from candlestep.sandbox.exchange.instructions import Instruction
from candlestep.sandbox.exchange.orders import TICKET_FIELDS
from candlestep.sandbox.exchange.risk import risk_profile_of
from candlestep.sandbox.market.coverage import Coverage
from candlestep.sandbox.turn import RefusedPart, take_turn
from candlestep.sandbox.until import Until, parse_until

_encode = msgspec.json.Encoder().encode
_ORDER_FIELDS = tuple(name for name in TICKET_FIELDS if name in OrderRequest.__struct_fields__)
"""The fields of an instruction that a request can give."""
_order_values = attrgetter(*_ORDER_FIELDS)


class Refusal(msgspec.Struct, frozen=True):
    """The reply to a refused command, as it is recorded."""

    code: str
    message: str
    details: dict[str, Any]


_read_refusal = msgspec.json.Decoder(Refusal).decode


class Reply(msgspec.Struct, frozen=True):
    """The reply to a command: a body of JSON and a status, as HTTP numbers them."""

    body: bytes
    status: int = 200
    is_quiet: bool = False
    """True for steps in which no order filled or closed."""
    refusal: RiskLimitExceeded | None = None
    """The refusal, where a risk limit rejected the order."""
    is_turn: bool = False
    step: bytes | None = None
    """The reply to the steps of a turn, if it made any."""


class PlayedTurn(NamedTuple):
    """A turn as far as it was taken, and the reply to it."""

    body: bytes
    """The reply to the whole turn."""
    reply: Reply
    """The reply to what was done of it, which is what follows."""
    orders: list[OrderRequest]
    """The orders that were placed anew; the last one may have been rejected by a risk limit."""
    cancel: list[int]
    steps: int


class CommandPlayer:
    """A session, and the digest of all its replies."""

    __slots__ = ("_compares_repeats", "_texts", "digest", "session")

    def __init__(
        self, session: Session, digest: bytes | None = None, *, engine: str | None = None
    ) -> None:
        """Play on a session that is at its start, unless ``digest`` is that of its replies.

        ``engine`` is the version that recorded the commands. Up to 0.1, any order with a
        ``client_order_id`` that was known got the reply to the earlier one.
        """
        self.session = session
        self._compares_repeats = engine is None or not engine.startswith("0.1.")
        self._texts = StepTexts(session)
        self.digest = start_digest(session) if digest is None else digest

    def fork(self) -> "CommandPlayer":
        """Return a player of a fork of the session, with the same past."""
        return CommandPlayer(self.session.fork(), self.digest)

    def play(self, command: CommandRecord) -> Reply:
        """Play a recorded command. Raises ``SandboxError`` if it is refused."""
        match command:
            case StepRecord():
                reply = self.step(command.steps)
                for _ in range(command.times - 1):
                    reply = self.step(command.steps)
                return reply
            case OrderRecord():
                return self.order(read_order(command.order))
            case OcoRecord():
                return self.oco([read_order(order) for order in command.orders])
            case ReplaceOrderRecord():
                return self.replace_order(command.order_id, read_changes(command.changes))
            case CancelOrderRecord():
                return self.cancel_order(command.order_id)
            case TurnRecord():
                orders = [read_order(order) for order in command.orders]
                return self.turn(orders, command.cancel, command.steps).reply
            case LeverageRecord() | MarginModeRecord() | MarginTransferRecord():
                return self.change_margin(command)
            case CancelRecord():
                return self.cancel()

    def step(self, steps: int, until: Until | Mapping[str, Any] = "steps") -> Reply:
        """Advance; the reply is a ``StepResponse``."""
        reply = self._advance(steps, until)
        self.digest = chained(self.digest, reply.body)
        return reply

    def _advance(self, steps: int, until: Until | Mapping[str, Any]) -> Reply:
        step = self.session.step(steps, until)
        body = _encode(self._texts.answer(step))
        return Reply(body, 200, not step.orders_filled and not step.orders_closed)

    def skip(self, steps: int, digest: bytes) -> bool:
        """Advance by quiet steps without making their replies, which end with this digest.

        Return whether the steps were quiet.
        """
        step = self.session.step(steps)
        self.digest = digest
        return not (step.orders_filled or step.orders_closed) and step.steps_executed == steps

    def order(self, request: OrderRequest) -> Reply:
        """Place an order.

        The status is 201, 200 if the ``client_order_id`` was sent before (nothing is changed), or
        422 if a risk limit rejects the order.
        """
        reply = self._place(request)
        if reply.status != 200:
            self.digest = chained(self.digest, digest_input(reply))
        return reply

    def _place(self, request: OrderRequest) -> Reply:
        session = self.session
        placed = session.order_of_client(request.client_order_id)
        if placed is not None and not self._compares_repeats:
            return self.repeat_order(placed)
        order_count = session.order_count
        try:
            order = session.place_order(**self._instruction(request))
        except RiskLimitExceeded as refusal:
            # A traceback would refer to the frames of callers, which hold the reply: a cycle, and the
            # candles of the session would not be freed at once.
            return Reply(encode_refusal(refusal), 422, refusal=refusal.with_traceback(None))
        if session.order_count == order_count:
            return self.repeat_order(order)
        return Reply(_encode(OrderResponse.of(order)), 201)

    def _instruction(self, request: OrderRequest) -> Instruction:
        instruction = recorded_order(request) | {"symbol": self._spelling(request.symbol)}
        return cast(Instruction, instruction)

    def repeat_order(self, order: Order) -> Reply:
        """Return the reply to an order that was placed before; nothing is changed."""
        return Reply(_encode(OrderResponse.of(order)), 200)

    def oco(self, requests: Sequence[OrderRequest]) -> Reply:
        """Place two orders or neither; the statuses are those of ``order``."""
        session = self.session
        order_count = session.order_count
        instructions = [self._instruction(request) for request in requests]
        try:
            orders = session.place_oco(instructions)
        except RiskLimitExceeded as refusal:
            return self._rejected(refusal)
        body = _encode(OcoResponse.of(orders))
        if session.order_count == order_count:
            return Reply(body, 200)
        self.digest = chained(self.digest, body)
        return Reply(body, 201)

    def replace_order(self, order_id: int, changes: ReplaceRequest) -> Reply:
        """Replace a pending order by one with other numbers; 422 if a risk limit rejects that."""
        try:
            order = self.session.replace_order(order_id, **recorded_changes(changes))
        except RiskLimitExceeded as refusal:
            return self._rejected(refusal)
        body = _encode(OrderResponse.of(order))
        self.digest = chained(self.digest, body)
        return Reply(body, 200)

    def _rejected(self, refusal: RiskLimitExceeded) -> Reply:
        reply = Reply(encode_refusal(refusal), 422, refusal=refusal.with_traceback(None))
        self.digest = chained(self.digest, digest_input(reply))
        return reply

    def cancel_order(self, order_id: int) -> Reply:
        """Cancel a pending order."""
        cancelled = self.session.cancel_order(order_id)
        body = _encode(CancelOrderResponse(cancelled.id, "cancelled", True))
        self.digest = chained(self.digest, body)
        return Reply(body)

    def turn(
        self,
        orders: Sequence[OrderRequest],
        cancel: Sequence[int],
        steps: int,
        until: Until | Mapping[str, Any] = "steps",
        check: Callable[[OrderRequest], None] | None = None,
    ) -> PlayedTurn:
        """Cancel, place orders and step, up to the first refusal; ``check`` may refuse an order.

        If nothing was done of it, nothing is changed, the digest included.
        """
        before = self.session.step_number
        condition = parse_until(until, self.session.market)

        def cancel_order(order_id: int) -> bytes:
            return _encode(OrderResponse.of(self.session.cancel_order(order_id)))

        def place(request: OrderRequest) -> Reply:
            if check is not None:
                check(request)
            reply = self._place(request)
            if reply.refusal is not None:
                raise reply.refusal
            return reply

        turn = take_turn(
            cancel,
            orders,
            cancel_order=cancel_order,
            place_order=place,
            advance=None if steps == 0 else lambda: self._advance(steps, condition),
        )
        refused, step = turn.refused, None if turn.step is None else turn.step.body
        body = turn_body(turn.cancelled, [order.body for order in turn.orders], refused, step)
        placed = [
            (request, reply.body)
            for request, reply in zip(orders, turn.orders, strict=False)
            if reply.status != 200
        ]
        rejected = None
        if refused is not None and isinstance(refused.error, RiskLimitExceeded):
            rejected = RefusedPart("orders", len(placed), refused.error)
        done = [text for _, text in placed]
        answer = turn_body(turn.cancelled, done, rejected, step)
        is_quiet = turn.step is not None and turn.step.is_quiet
        reply = Reply(
            answer,
            is_quiet=is_quiet and not (turn.cancelled or placed or rejected),
            is_turn=True,
            step=step,
        )
        new = [request for request, _ in placed]
        new += [] if rejected is None or refused is None else [orders[refused.index]]
        if turn.cancelled or new or step is not None:
            self.digest = chained(self.digest, digest_input(reply))
        made = self.session.step_number - before
        return PlayedTurn(body, reply, new, list(cancel[: len(turn.cancelled)]), made)

    def change_margin(self, change: MarginChange) -> Reply:
        """Change the leverage, the margin mode or the isolated wallet of a perpetual."""
        session, symbol = self.session, self._spelling(change.symbol)
        match change:
            case LeverageRecord():
                session.set_leverage(symbol, change.leverage)
                body = _encode(LeverageResponse.of(session, symbol))
            case MarginModeRecord():
                session.set_margin_mode(symbol, change.margin_mode)
                body = _encode(MarginModeResponse.of(session, symbol))
            case MarginTransferRecord():
                session.transfer_margin(symbol, change.amount)
                body = _encode(MarginTransferResponse.of(session, symbol))
        self.digest = chained(self.digest, body)
        return Reply(body)

    def _spelling(self, symbol: str) -> str:
        """Return the spelling of a symbol that the session has for it."""
        if symbol in self.session.market:
            return symbol
        return traded_symbol(symbol, self.session.config.market_type)

    def cancel(self) -> Reply:
        """End the session here; the reply is an ``EndResponse``."""
        self.session.cancel()
        body = _encode(_end_response(self.session))
        self.digest = chained(self.digest, body)
        return Reply(body)


def start_response(session: Session) -> StartedResponse:
    """Return the reply to the start of a session, without the session's id."""
    start = session.config.clock.start
    marks = mark_price_writer(session)
    return StartedResponse(
        "running",
        format_time(start),
        price_writer(session.market)(start),
        UNSET if marks is None else marks(start),
    )


def start_digest(session: Session) -> bytes:
    """Return the digest of the reply to the start, from which all other digests follow."""
    return chained(b"", _encode(start_response(session)))


def encode_start(session_id: str, session: Session, coverage: Coverage) -> bytes:
    """Return the reply to the start of a session, with what is said of its candles.

    Neither the id nor the coverage is part of the digest.
    """
    start = start_response(session)
    return _encode(
        StartResponse(
            session_id,
            start.status,
            start.virtual_time,
            start.prices,
            **coverage_fields(coverage.warnings, coverage.shares),
            mark_prices=start.mark_prices,
        )
    )


def encode_cancel(session_id: str, session: Session) -> bytes:
    """Return the reply to the command that ends a session early."""
    end = _end_response(session)
    return _encode(CancelResponse(session_id, end.status, end.total_trades, end.roi_pct))


def with_steps_executed(body: bytes, steps: int) -> bytes:
    """Return the reply to a step with the number of steps added: a ``FastResponse``."""
    return b'%s,"steps_executed":%d}' % (body[:-1], steps)


def encode_refusal(error: SandboxError) -> bytes:
    """Return a refusal as it is recorded."""
    return _encode(Refusal(error.code, error.message, error.details))


def digest_input(reply: Reply) -> bytes:
    """Return the part of a reply that is digested: of a refusal, the code and the details."""
    if reply.is_turn:
        return turn_digest_input(reply.body)
    if reply.status < 400:
        return reply.body
    refusal = _read_refusal(reply.body)
    return _encode({"code": refusal.code, "details": refusal.details})


def read_order(order: dict[str, Any]) -> OrderRequest:
    """Return a recorded order, checked as the body of a request is."""
    request: OrderRequest = decode_body(OrderRequest, _encode(order))
    return request


def read_changes(changes: dict[str, Any]) -> ReplaceRequest:
    """Return the recorded changes of an order, checked as the body of a request is."""
    request: ReplaceRequest = decode_body(ReplaceRequest, _encode(changes))
    return request


def recorded_changes(changes: ReplaceRequest) -> dict[str, Any]:
    """Return the numbers that change, for their record and the replacement."""
    fields = msgspec.structs.asdict(changes)
    return {name: value for name, value in fields.items() if value is not UNSET}


def recorded_order(request: OrderRequest) -> dict[str, Any]:
    """Return the fields of an order that are set, for its record and its placement."""
    return {
        name: value
        for name, value in zip(_ORDER_FIELDS, _order_values(request), strict=True)
        if value is not None and value is not UNSET
    }


def recorded_config(config: dict[str, Any], risk_profile: dict[str, Any]) -> SessionConfig:
    """Return the configuration of a recording; raise ``InvalidParameter`` naming a wrong field.

    One without ``allow_gaps`` is of a time when every session allowed them.
    """
    try:
        risk = risk_profile_of(config.get("market_type", "spot"), risk_profile)
        return SessionConfig(**{"allow_gaps": True} | config, risk=risk)
    except TypeError as error:
        raise InvalidParameter(
            "config", str(error).removeprefix("SessionConfig.__init__() ")
        ) from None


def _end_response(session: Session) -> EndResponse:
    """Return the reply to the early end of a session, without the session's id."""
    results = session.results()
    assert results.status != "running"
    return EndResponse(results.status, results.total_trades, money(results.roi_pct))
