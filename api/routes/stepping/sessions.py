"""The life of a session: create, start, step, cancel, and its status."""

from typing import Annotated, Literal

from msgspec import Meta
from msgspec.structs import asdict

from candlestep.api.errors import Forbidden
from candlestep.api.http.route import JsonBytes, Request, Route
from candlestep.api.routes.stepping.session_commands import (
    apply,
    change_route,
    idempotency_key,
    seen_by,
    session_ref,
)
from candlestep.api.schemas import sessions as schemas
from candlestep.api.schemas.decoding import EmptyBody, RequestBody
from candlestep.api.schemas.fields import PageSize, PageStart, Status
from candlestep.api.schemas.steps import FastResponse, StepResponse
from candlestep.api.schemas.warnings import coverage_fields
from candlestep.api.services import Services
from candlestep.api.sessions.commands import CancelCommand, StartCommand, StepCommand
from candlestep.data.records.sessions import SortBy

_BASE = "/api/v1/backtest"
_SESSION = f"{_BASE}/{{session_id}}"


class ListQuery(RequestBody):
    strategy_label: Annotated[str, Meta(max_length=200, description="A prefix.")] | None = None
    status: Status | None = None
    agent_id: str | None = None
    sort_by: SortBy = "created_at"
    order: Literal["asc", "desc"] = "desc"
    limit: PageSize = 50
    offset: PageStart = 0


async def create(services: Services, request: Request) -> schemas.CreateResponse:
    """Check the configuration against the available data, and store the session."""
    key = idempotency_key(request, "create", request.body)
    record = await services.sessions.create(request.account_id, request.agent_id, request.body, key)
    coverage = await services.sessions.coverage(record)
    return schemas.CreateResponse(
        record.session_id,
        "created",
        record.total_steps,
        coverage.symbols,
        **coverage_fields(coverage.warnings, coverage.shares),
    )


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
    body: schemas.BatchRequest = request.body
    steps = schemas.whole_steps(body.steps)
    command = StepCommand(steps, body.from_step, until=schemas.until_of(body.until))
    return await apply(services, request, "step/batch", command)


async def step_batch_fast(services: Services, request: Request) -> JsonBytes:
    """Advance as ``step/batch`` does, and return the number of steps made as well."""
    body: schemas.FastRequest = request.body
    steps, until = schemas.whole_steps(body.steps), schemas.until_of(body.until)
    command = StepCommand(steps, body.from_step, counts_steps=True, until=until)
    return await apply(services, request, "step/batch/fast", command)


async def cancel(services: Services, request: Request) -> JsonBytes:
    """End the session here and save its partial results."""
    if request.session_id is not None:
        record = await services.sessions.record(session_ref(request))
        if record.is_sealed:
            raise Forbidden("the session is sealed: its owner alone can end it early")
    return await apply(services, request, "cancel", CancelCommand())


async def status(services: Services, request: Request) -> schemas.StatusResponse:
    """Return the progress of a session and, once it has ended, its main figures."""
    record = await services.sessions.record(session_ref(request))
    coverage = await services.sessions.coverage(record)
    record = seen_by(request, record)
    return schemas.StatusResponse.of(record, **coverage_fields(coverage.warnings, coverage.shares))


async def sessions(services: Services, request: Request) -> schemas.SessionsResponse:
    """List the account's sessions, filtered, sorted and paged."""
    records, total = await services.sessions.list(request.account_id, **asdict(request.query))
    return schemas.SessionsResponse(
        [schemas.SessionResponse.of(record) for record in records], total
    )


_UNKNOWN = ("SESSION_NOT_FOUND",)

ROUTES = [
    change_route(
        f"{_BASE}/create",
        create,
        "Create a session",
        body=schemas.CreateRequest,
        errors=("AGENT_NOT_FOUND", "NO_DATA"),
    ),
    change_route(
        f"{_SESSION}/start",
        start,
        "Start a session",
        schemas.StartResponse,
        body=EmptyBody,
        for_session_key=True,
    ),
    change_route(
        f"{_SESSION}/step",
        step,
        "Advance by one candle",
        StepResponse,
        body=schemas.StepRequest,
        is_frequent=True,
        for_session_key=True,
    ),
    change_route(
        f"{_SESSION}/step/batch",
        step_batch,
        "Advance by many candles",
        StepResponse,
        body=schemas.BatchRequest,
        is_frequent=True,
        for_session_key=True,
    ),
    change_route(
        f"{_SESSION}/step/batch/fast",
        step_batch_fast,
        "Advance by many candles, and return how many",
        FastResponse,
        body=schemas.FastRequest,
        is_frequent=True,
        for_session_key=True,
    ),
    change_route(
        f"{_SESSION}/cancel",
        cancel,
        "End a session early",
        schemas.CancelResponse,
        body=EmptyBody,
        for_session_key=True,
    ),
    Route(
        "GET",
        f"{_SESSION}/status",
        status,
        "The progress of a session",
        errors=_UNKNOWN,
        for_session_key=True,
    ),
    Route("GET", f"{_BASE}/list", sessions, "List sessions", query=ListQuery),
]
