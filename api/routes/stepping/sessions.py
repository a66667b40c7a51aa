"""The life of a session: create, start, step, cancel, and its status."""

from typing import Annotated, Literal

from msgspec import Meta
from msgspec.structs import asdict

from candlestep.api.http.route import JsonBytes, Request, Route
from candlestep.api.routes.stepping.session_commands import (
    apply,
    change_route,
    idempotency_key,
    session_ref,
)
from candlestep.api.schemas.decoding import EmptyBody, RequestBody
from candlestep.api.schemas.sessions import (
    BatchRequest,
    CancelResponse,
    CreateRequest,
    CreateResponse,
    FastRequest,
    SessionResponse,
    SessionsResponse,
    StartResponse,
    StepRequest,
)
from candlestep.api.schemas.steps import FastResponse, StepResponse
from candlestep.api.services import Services
from candlestep.api.sessions.commands import CancelCommand, StartCommand, StepCommand
from candlestep.data.records.sessions import SortBy, list_sessions
from candlestep.sandbox import InvalidParameter
from candlestep.sandbox.errors import abbreviate
from candlestep.sandbox.money import parse_number

_BASE = "/api/v1/backtest"
_SESSION = f"{_BASE}/{{session_id}}"


class ListQuery(RequestBody):
    strategy_label: Annotated[str, Meta(max_length=200, description="A prefix.")] | None = None
    status: Literal["created", "running", "completed", "cancelled", "failed"] | None = None
    agent_id: str | None = None
    sort_by: SortBy = "created_at"
    order: Literal["asc", "desc"] = "desc"
    limit: Annotated[int, Meta(ge=1, le=1000)] = 50
    offset: Annotated[int, Meta(ge=0, le=10**9)] = 0


async def create(services: Services, request: Request) -> CreateResponse:
    """Check the configuration against the available data, and store the session."""
    key = idempotency_key(request, "create", request.body)
    record = await services.sessions.create(request.account_id, request.agent_id, request.body, key)
    return CreateResponse(record.session_id, "created", record.total_steps, len(record.pairs))


async def start(services: Services, request: Request) -> JsonBytes:
    """Load the market as it is now, and take the first snapshot."""
    return await apply(services, request, "start", StartCommand())


async def step(services: Services, request: Request) -> JsonBytes:
    """Advance by one candle."""
    from_step = request.body.from_step
    if request.key is None and from_step is None:
        reply = services.sessions.try_step(session_ref(request))
        if reply is not None:
            return JsonBytes(reply.body, 200)
    return await apply(services, request, "step", StepCommand(1, from_step))


async def step_batch(services: Services, request: Request) -> JsonBytes:
    """Advance by many candles; every one is checked against the pending orders."""
    command = StepCommand(_steps(request), request.body.from_step)
    return await apply(services, request, "step/batch", command)


async def step_batch_fast(services: Services, request: Request) -> JsonBytes:
    """Advance as ``step/batch`` does, and return the number of steps made as well."""
    command = StepCommand(_steps(request), request.body.from_step, counts_steps=True)
    return await apply(services, request, "step/batch/fast", command)


async def cancel(services: Services, request: Request) -> JsonBytes:
    """End the session here and save its partial results."""
    return await apply(services, request, "cancel", CancelCommand())


async def status(services: Services, request: Request) -> SessionResponse:
    """Return the progress of a session and, once it has ended, its main figures."""
    return SessionResponse.of(await services.sessions.record(session_ref(request)))


async def sessions(services: Services, request: Request) -> SessionsResponse:
    """List the account's sessions, filtered, sorted and paged."""
    filters = asdict(request.query)
    records, total = await services.in_thread(
        list_sessions, services.store, request.account_id, **filters
    )
    current = map(services.sessions.up_to_date, records)
    return SessionsResponse([SessionResponse.of(record) for record in current], total)


def _steps(request: Request) -> int:
    """Return the number of steps that the body asks for, as a number or a string."""
    steps = request.body.steps
    if type(steps) is int:
        return steps
    refusal = InvalidParameter(
        "steps", f"must be a whole number from 1 on, got {abbreviate(steps)}"
    )
    try:
        number = parse_number("steps", steps)
    except InvalidParameter:
        raise refusal from None
    if number != int(number):
        raise refusal
    return int(number)


ROUTES = [
    change_route(
        f"{_BASE}/create",
        create,
        "Create a session",
        CreateResponse,
        body=CreateRequest,
        errors=("AGENT_NOT_FOUND", "NO_DATA"),
    ),
    change_route(f"{_SESSION}/start", start, "Start a session", StartResponse, body=EmptyBody),
    change_route(f"{_SESSION}/step", step, "Advance by one candle", StepResponse, body=StepRequest),
    change_route(
        f"{_SESSION}/step/batch",
        step_batch,
        "Advance by many candles",
        StepResponse,
        body=BatchRequest,
    ),
    change_route(
        f"{_SESSION}/step/batch/fast",
        step_batch_fast,
        "Advance by many candles, and return how many",
        FastResponse,
        body=FastRequest,
    ),
    change_route(
        f"{_SESSION}/cancel", cancel, "End a session early", CancelResponse, body=EmptyBody
    ),
    Route(
        "GET",
        f"{_SESSION}/status",
        status,
        "The progress of a session",
        SessionResponse,
        errors=("SESSION_NOT_FOUND",),
    ),
    Route("GET", f"{_BASE}/list", sessions, "List sessions", SessionsResponse, query=ListQuery),
]
