"""Commands played on a session: what each answers, to the byte, and a digest of all of it.

The server, the rebuilding of a session from its journal and the replay of a recording all play
commands here: what they do, and what they answer, is the same.
"""

from typing import Any, NamedTuple

import msgspec

from candlestep.api.schemas.decoding import decode_body
from candlestep.api.schemas.fields import money
from candlestep.api.schemas.orders import CancelOrderResponse, OrderRequest, OrderResponse
from candlestep.api.schemas.sessions import CancelResponse, EndResponse, StartedResponse
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
    RiskLimitExceeded,
    RiskProfile,
    SandboxError,
    Session,
    SessionConfig,
    format_time,
)

_encode = msgspec.json.Encoder().encode


class Refusal(msgspec.Struct, frozen=True):
    """A refused command, as it is recorded."""

    code: str
    message: str
    details: dict[str, Any]


_read_refusal = msgspec.json.Decoder(Refusal).decode


class Reply(NamedTuple):
    """What a command was answered."""

    answer: bytes
    status: int = 200
    is_quiet: bool = False
    """Of steps: whether nothing filled or closed."""
    refusal: RiskLimitExceeded | None = None
    """Where a risk limit rejected the order."""


class CommandPlayer:
    """A session, and the digest of all that it has answered."""

    __slots__ = ("_texts", "digest", "session")

    def __init__(self, session: Session) -> None:
        """Of a session at its start."""
        self.session = session
        self._texts = StepTexts()
        self.digest = start_digest(session)

    def fork(self) -> "CommandPlayer":
        """A player of a fork of the session, with the same past."""
        forked = CommandPlayer.__new__(CommandPlayer)
        forked.session = self.session.fork()
        forked._texts = StepTexts()
        forked.digest = self.digest
        return forked

    def play(self, command: CommandRecord) -> Reply:
        """Play a command of a recording; raises ``SandboxError`` if it is refused."""
        match command:
            case StepRecord():
                played = self.step(command.steps)
                for _ in range(command.times - 1):
                    played = self.step(command.steps)
                return played
            case OrderRecord():
                return self.order(order_body(command.order))
            case CancelOrderRecord():
                return self.cancel_order(command.order_id)
            case CancelRecord():
                return self.cancel()

    def step(self, steps: int) -> Reply:
        """Advance; the answer is a ``StepResponse``."""
        step = self.session.step(steps)
        answer = _encode(self._texts.answer(step))
        self.digest = chained(self.digest, answer)
        return Reply(answer, 200, not step.orders_filled and not step.orders_closed)

    def skip(self, steps: int, digest: bytes) -> bool:
        """Advance by quiet steps whose answers, with this digest at their end, are not made.

        Whether they were quiet.
        """
        step = self.session.step(steps)
        self.digest = digest
        return not (step.orders_filled or step.orders_closed) and step.steps_executed == steps

    def order(self, body: OrderRequest) -> Reply:
        """Place an order: 201, 200 if its ``client_order_id`` was sent before (then nothing is
        changed), 422 if a risk limit rejects it.
        """
        session = self.session
        known = session.order_count
        try:
            order = session.place_order(
                symbol=normalise_symbol(body.symbol),
                side=body.side,
                type=body.type,
                quantity=body.quantity,
                price=body.price,
                trigger_price=body.trigger_price,
                client_order_id=body.client_order_id,
                oco_group=body.oco_group,
                expires_at=body.expires_at,
            )
        except RiskLimitExceeded as refusal:
            answer = refused(refusal)
            self.digest = chained(self.digest, digested(answer, 422))
            return Reply(answer, 422, refusal=refusal)
        answer = _encode(OrderResponse.of(order))
        if session.order_count == known:
            return Reply(answer, 200)
        self.digest = chained(self.digest, answer)
        return Reply(answer, 201)

    def cancel_order(self, order_id: int) -> Reply:
        """Cancel a pending order."""
        cancelled = self.session.cancel_order(order_id)
        answer = _encode(CancelOrderResponse(cancelled.id, "cancelled", True))
        self.digest = chained(self.digest, answer)
        return Reply(answer)

    def cancel(self) -> Reply:
        """End the session here; the answer is an ``EndResponse``."""
        self.session.cancel()
        answer = _encode(ended(self.session))
        self.digest = chained(self.digest, answer)
        return Reply(answer)


def started(session: Session) -> StartedResponse:
    """What starting the session answers, but for its id."""
    start = session.config.clock.start
    prices = session.market.prices(start)
    return StartedResponse(
        "running",
        format_time(start),
        {symbol: money(price) for symbol, price in prices.items()},
    )


def start_digest(session: Session) -> bytes:
    """The digest of what starting the session answers, from which all others follow."""
    return chained(b"", _encode(started(session)))


def ended(session: Session) -> EndResponse:
    """What ending the session early answers, but for its id."""
    results = session.results()
    assert results.status != "running"
    return EndResponse(results.status, results.total_trades, money(results.roi_pct))


def cancel_answer(session_id: str, session: Session) -> bytes:
    """What ending the session early answers."""
    end = ended(session)
    return _encode(CancelResponse(session_id, end.status, end.total_trades, end.roi_pct))


def fast_answer(answer: bytes, steps: int) -> bytes:
    """The answer of ``step/batch/fast``, made of that of ``step/batch``."""
    return b'%s,"steps_executed":%d}' % (answer[:-1], steps)


def refused(error: SandboxError) -> bytes:
    """A refusal, as it is recorded."""
    return _encode(Refusal(error.code, error.message, error.details))


def digested(answer: bytes, status: int) -> bytes:
    """What a digest is of: of a refusal code and details, but not its words."""
    if status < 400:
        return answer
    refusal = _read_refusal(answer)
    return _encode({"code": refusal.code, "details": refusal.details})


def order_body(order: dict[str, Any]) -> OrderRequest:
    """The order of a recording, checked as the body of a request is."""
    body: OrderRequest = decode_body(OrderRequest, _encode(order))
    return body


def recorded_order(body: OrderRequest) -> dict[str, Any]:
    """The fields of an order that were given, for its record."""
    return {
        name: value for name, value in msgspec.structs.asdict(body).items() if value is not None
    }


def recorded_config(config: dict[str, Any], risk_profile: dict[str, Any]) -> SessionConfig:
    """The configuration of a recording; raises ``InvalidParameter`` naming what is wrong."""
    try:
        return SessionConfig(**config, risk=RiskProfile(**risk_profile))
    except TypeError as error:
        raise InvalidParameter(
            "config", str(error).removeprefix("SessionConfig.__init__() ")
        ) from None
