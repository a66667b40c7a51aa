"""Forks, which share the past of a session, and the recording of a session."""

from candlestep.api.http.route import File, JsonBytes, Request, Route
from candlestep.api.routes.stepping.session_commands import apply, change_route, session_ref
from candlestep.api.schemas.sessions import ForkRequest, ForkResponse
from candlestep.api.services import Services
from candlestep.api.sessions.commands import ForkCommand

_BASE = "/api/v1/backtest/{session_id}"
RECORDING_TYPE = "application/x-ndjson"


async def fork(services: Services, request: Request) -> JsonBytes:
    """Create running sessions at the same point, independent from there on."""
    body: ForkRequest = request.body
    return await apply(services, request, "fork", ForkCommand(body.count, body.strategy_label))


async def recording(services: Services, request: Request) -> File:
    """Download the session's commands and replies: `candlestep replay` runs them again."""
    ref = session_ref(request)
    lines = await services.sessions.recording(ref)
    return File(RECORDING_TYPE, lines, f"{ref.session_id}.jsonl")


ROUTES = [
    change_route(f"{_BASE}/fork", fork, "Fork a session", ForkResponse, body=ForkRequest, status=201),
    Route(
        "GET", f"{_BASE}/recording", recording, "Download a recording",
        errors=("SESSION_NOT_FOUND", "INVALID_STATE"), media_type=RECORDING_TYPE, is_browser=True,
    ),
]  # fmt: skip
