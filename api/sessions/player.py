"""Commands played on a session: the body of each reply, to the byte, and a digest of them all.

The server, the recovery of a session from its journal and the replay of a recording all play
commands here, so that all three do and reply the same.
"""

from typing import Any, NamedTuple

import msgspec

from candlestep.api.schemas.decoding import decode_body
from candlestep.api.schemas.fields import money
from candlestep.api.schemas.orders import CancelOrderResponse, OrderRequest, OrderResponse
from candlestep.api.schemas.sessions import (
    CancelResponse,
    EndResponse,
    StartedResponse,
    StartResponse,
)
from candlestep.api.schemas.steps import StepTexts
from candlestep.data.journal.recording import chained
from candlestep.data.journal.records import (
    CancelOrderRecord,
    CancelRecord,
    CommandRecord,
    OrderRecord,
    StepRecord,
)
from candlestep.data.symbols import normalise_symbol
from candlestep.sandbox import (
    InvalidParameter,
    Order,
    RiskLimitExceeded,
    RiskProfile,
    SandboxError,
    Session,
    SessionConfig,
    format_time,
)

_encode = msgspec.json.Encoder().encode


class Refusal(msgspec.Struct, frozen=True):
    """The reply to a refused command, as it is recorded."""

    code: str
    message: str
    details: dict[str, Any]


_read_refusal = msgspec.json.Decoder(Refusal).decode


class Reply(NamedTuple):
    """The reply to a command: a body of JSON and a status, as HTTP numbers them."""

    body: bytes
    status: int = 200
    is_quiet: bool = False
    """True for steps in which no order filled or closed."""
    refusal: RiskLimitExceeded | None = None
    """The refusal, where a risk limit rejected the order."""


class CommandPlayer:
    """A session, and the digest of all its replies."""

    __slots__ = ("_texts", "digest", "session")

    def __init__(self, session: Session, digest: bytes | None = None) -> None:
        """Play on a session that is at its start, unless ``digest`` is that of its replies."""
        self.session = session
        self._texts = StepTexts()
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
            case CancelOrderRecord():
                return self.cancel_order(command.order_id)
            case CancelRecord():
                return self.cancel()

    def step(self, steps: int) -> Reply:
        """Advance; the reply is a ``StepResponse``."""
        step = self.session.step(steps)
        body = _encode(self._texts.answer(step))
        self.digest = chained(self.digest, body)
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
        session = self.session
        order_count = session.order_count
        try:
            order = session.place_order(
                **msgspec.structs.asdict(request) | {"symbol": normalise_symbol(request.symbol)}
            )
        except RiskLimitExceeded as refusal:
            body = encode_refusal(refusal)
            self.digest = chained(self.digest, digest_input(body, 422))
            return Reply(body, 422, refusal=refusal)
        if session.order_count == order_count:
            return self.repeat_order(order)
        body = _encode(OrderResponse.of(order))
        self.digest = chained(self.digest, body)
        return Reply(body, 201)

    def repeat_order(self, order: Order) -> Reply:
        """Return the reply to an order that was placed before; nothing is changed."""
        return Reply(_encode(OrderResponse.of(order)), 200)

    def cancel_order(self, order_id: int) -> Reply:
        """Cancel a pending order."""
        cancelled = self.session.cancel_order(order_id)
        body = _encode(CancelOrderResponse(cancelled.id, "cancelled", True))
        self.digest = chained(self.digest, body)
        return Reply(body)

    def cancel(self) -> Reply:
        """End the session here; the reply is an ``EndResponse``."""
        self.session.cancel()
        body = _encode(_end_response(self.session))
        self.digest = chained(self.digest, body)
        return Reply(body)


def start_response(session: Session) -> StartedResponse:
    """Return the reply to the start of a session, without the session's id."""
    start = session.config.clock.start
    prices = {symbol: money(price) for symbol, price in session.market.prices(start).items()}
    return StartedResponse("running", format_time(start), prices)


def start_digest(session: Session) -> bytes:
    """Return the digest of the reply to the start, from which all other digests follow."""
    return chained(b"", _encode(start_response(session)))


def encode_start(session_id: str, session: Session) -> bytes:
    """Return the reply to the start of a session."""
    start = start_response(session)
    return _encode(StartResponse(session_id, start.status, start.virtual_time, start.prices))


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


def digest_input(body: bytes, status: int) -> bytes:
    """Return the part of a reply that is digested: of a refusal, the code and the details."""
    if status < 400:
        return body
    refusal = _read_refusal(body)
    return _encode({"code": refusal.code, "details": refusal.details})


def read_order(order: dict[str, Any]) -> OrderRequest:
    """Return a recorded order, checked as the body of a request is."""
    request: OrderRequest = decode_body(OrderRequest, _encode(order))
    return request


def recorded_order(request: OrderRequest) -> dict[str, Any]:
    """Return the fields of an order that are set, for its record."""
    fields = msgspec.structs.asdict(request)
    return {name: value for name, value in fields.items() if value is not None}


def recorded_config(config: dict[str, Any], risk_profile: dict[str, Any]) -> SessionConfig:
    """Return the configuration of a recording; raise ``InvalidParameter`` naming a wrong field."""
    try:
        return SessionConfig(**config, risk=RiskProfile(**risk_profile))
    except TypeError as error:
        raise InvalidParameter(
            "config", str(error).removeprefix("SessionConfig.__init__() ")
        ) from None


def _end_response(session: Session) -> EndResponse:
    """Return the reply to the early end of a session, without the session's id."""
    results = session.results()
    assert results.status != "running"
    return EndResponse(results.status, results.total_trades, money(results.roi_pct))
