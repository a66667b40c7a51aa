"""Turns: cancellations, orders and steps in one request, of one session or of many."""

import msgspec

from candlestep.api.http.route import JsonBytes, Request
from candlestep.api.routes.stepping.session_commands import apply, change_route, idempotency_key
from candlestep.api.schemas import turns as schemas
from candlestep.api.schemas.sessions import until_of, whole_steps
from candlestep.api.schemas.warnings import with_turn_warnings
from candlestep.api.services import Services
from candlestep.api.sessions.commands import SessionRef, TurnCommand
from candlestep.api.sessions.host import SessionTurn
from candlestep.api.sessions.player import Reply
from candlestep.sandbox import InvalidParameter, SandboxError

_BASE = "/api/v1/backtest"


async def turn(services: Services, request: Request) -> JsonBytes:
    """Cancel orders, then place orders in their sequence, then step, in one request.

    The first refusal ends the turn: what came before it is done and stays done, nothing after it is,
    and the answer is still 200.
    """
    answer = await apply(services, request, "turn", _command(request.body))
    if request.session_id is not None and schemas.is_refused(answer.body):
        services.refusals.note(request.session_id)
    return JsonBytes(with_turn_warnings(answer.body), answer.status)


async def turns(services: Services, request: Request) -> JsonBytes:
    """Take a turn in each of some sessions of the account, one after the other.

    Each is a command of its own: it succeeds or fails whatever the others do. An Idempotency-Key
    counts for each session alone.
    """
    given: list[schemas.SessionTurnRequest] = request.body.turns
    seen: set[str] = set()
    for index, body in enumerate(given):
        if body.session_id in seen:
            raise InvalidParameter(
                f"turns[{index}].session_id", "is there twice; a session has one turn in a request"
            )
        seen.add(body.session_id)
    commands = [
        SessionTurn(
            SessionRef(request.account_id, body.session_id),
            _command(body),
            idempotency_key(request, "sessions/turn", body),
        )
        for body in given
    ]
    outcomes = await services.sessions.take_turns(commands)
    return JsonBytes(_joined(commands, outcomes), 200)


def _command(body: schemas.TurnRequest) -> TurnCommand:
    steps, until = whole_steps(body.steps, least=0), until_of(body.until)
    return TurnCommand(body.orders, body.cancel, steps, until, body.from_step)


def _joined(commands: list[SessionTurn], outcomes: list[Reply | SandboxError]) -> bytes:
    """Return the outcomes of turns as one answer."""
    answers = [
        b'{"session_id":%s,"turn":%s,"error":%s}'
        % (
            msgspec.json.encode(command.ref.session_id),
            with_turn_warnings(outcome.body) if isinstance(outcome, Reply) else b"null",
            b"null" if isinstance(outcome, Reply) else _error(outcome),
        )
        for command, outcome in zip(commands, outcomes, strict=True)
    ]
    return b'{"turns":[%s]}' % b",".join(answers)


def _error(error: SandboxError) -> bytes:
    return msgspec.json.encode(schemas.PartError.of(error))


ROUTES = [
    change_route(
        f"{_BASE}/sessions/turn",
        turns,
        "Take a turn in many sessions",
        schemas.TurnsResponse,
        body=schemas.TurnsRequest,
        errors=(),
        is_frequent=True,
    ),
    change_route(
        f"{_BASE}/{{session_id}}/turn",
        turn,
        "Cancel, place orders and step",
        schemas.TurnResponse,
        body=schemas.TurnRequest,
        is_frequent=True,
        for_session_key=True,
    ),
]
