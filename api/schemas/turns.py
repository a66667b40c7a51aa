"""Turns in requests and answers: cancellations, orders and steps in one command."""

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from candlestep.api.schemas.decoding import RequestBody
from candlestep.api.schemas.orders import OrderRequest, OrderResponse
from candlestep.api.schemas.sessions import FromStep, UntilInput, steps_input
from candlestep.api.schemas.steps import StepResponse
from candlestep.api.schemas.warnings import WarningResponse
from candlestep.sandbox import SandboxError
from candlestep.sandbox.turn import MOST_IN_A_TURN, Part, RefusedPart

MOST_TURNS = 1000
"""The most sessions of one request."""

OrderId = Annotated[int, Meta(ge=1, le=999_999_999_999)]

_encode = msgspec.json.Encoder().encode


class TurnRequest(RequestBody, kw_only=True):
    orders: Annotated[
        list[OrderRequest], Meta(max_length=MOST_IN_A_TURN, description="Placed after `cancel`.")
    ] = msgspec.field(default_factory=list)
    cancel: Annotated[
        list[OrderId], Meta(max_length=MOST_IN_A_TURN, description="The ids of orders to cancel.")
    ] = msgspec.field(default_factory=list)
    steps: Annotated[Any, steps_input(least=0)] = 1
    until: UntilInput | UnsetType = UNSET
    from_step: FromStep = None


class SessionTurnRequest(TurnRequest, kw_only=True):
    session_id: str


class TurnsRequest(RequestBody):
    turns: Annotated[
        list[SessionTurnRequest],
        Meta(min_length=1, max_length=MOST_TURNS, description="Of different sessions."),
    ]


class PartError(msgspec.Struct, frozen=True):
    code: str
    message: str
    details: dict[str, Any]

    @classmethod
    def of(cls, error: SandboxError) -> "PartError":
        return cls(error.code, error.message, error.details)


class RefusedPartResponse(msgspec.Struct, frozen=True):
    part: Part
    index: Annotated[int, Meta(ge=0, description="In the list of the request, from 0.")]
    error: PartError


class TurnResponse(msgspec.Struct, frozen=True):
    cancelled: list[OrderResponse]
    orders: Annotated[list[OrderResponse], Meta(description="As they were before the steps.")]
    refused: Annotated[
        RefusedPartResponse | None,
        Meta(description="The first refusal. What came before it is done, nothing after it is."),
    ]
    step: Annotated[StepResponse | None, Meta(description="Null if no step was made.")]
    warnings: Annotated[
        list[WarningResponse], Meta(description="`HIGH_SLIPPAGE` for each order above 2 %.")
    ]


class SessionTurnResponse(msgspec.Struct, frozen=True):
    """The outcome of a session's turn: one of ``turn`` and ``error``."""

    session_id: str
    turn: TurnResponse | None
    error: PartError | None


class TurnsResponse(msgspec.Struct, frozen=True):
    turns: Annotated[list[SessionTurnResponse], Meta(description="In the sequence of the request.")]


class _TurnParts(msgspec.Struct):
    """The parts of the reply to a turn."""

    cancelled: list[msgspec.Raw]
    orders: list[msgspec.Raw]
    refused: RefusedPartResponse | None
    step: msgspec.Raw


_read_parts = msgspec.json.Decoder(_TurnParts).decode


def turn_body(
    cancelled: Sequence[bytes],
    orders: Sequence[bytes],
    refused: RefusedPart | None,
    step: bytes | None,
) -> bytes:
    """Return the reply to a turn, made of the replies to its parts."""
    error: bytes | None = None
    if refused is not None:
        part = RefusedPartResponse(refused.part, refused.index, PartError.of(refused.error))
        error = _encode(part)
    return _joined(cancelled, orders, error, step)


def is_refused(body: bytes) -> bool:
    """Return whether a part of a turn was refused, given the reply to it."""
    return _read_parts(body).refused is not None


def turn_digest_input(body: bytes) -> bytes:
    """Return the part of a reply to a turn that is digested: all but the message of a refusal."""
    parts = _read_parts(body)
    if parts.refused is None:
        return body
    error = parts.refused.error
    refused = {
        "part": parts.refused.part,
        "index": parts.refused.index,
        "error": {"code": error.code, "details": error.details},
    }
    cancelled, orders = map(bytes, parts.cancelled), map(bytes, parts.orders)
    return _joined([*cancelled], [*orders], _encode(refused), bytes(parts.step))


def _joined(
    cancelled: Sequence[bytes], orders: Sequence[bytes], refused: bytes | None, step: bytes | None
) -> bytes:
    return b'{"cancelled":[%s],"orders":[%s],"refused":%s,"step":%s}' % (
        b",".join(cancelled),
        b",".join(orders),
        b"null" if refused is None else refused,
        b"null" if step is None else step,
    )
