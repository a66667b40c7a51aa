"""The recording of a session, and forks: sessions that share its past."""

from typing import Literal

import msgspec

from candlestep.api.http.route import File, Request, Route
from candlestep.api.schemas.fields import Time
from candlestep.api.schemas.sessions import ForkRequest
from candlestep.api.services import Services
from candlestep.api.sessions.pool import FIND_ERRORS
from candlestep.sandbox import format_time

_BASE = "/api/v1/backtest/{session_id}"
RECORDING_TYPE = "application/x-ndjson"


class Forked(msgspec.Struct, frozen=True):
    session_id: str
    status: Literal["running"]
    strategy_label: str


class ForkResponse(msgspec.Struct, frozen=True):
    session_id: str
    """Of the session that was forked."""
    current_step: int
    virtual_time: Time
    forks: list[Forked]
    count: int


async def fork(services: Services, request: Request) -> ForkResponse:
    """New running sessions at the same point, independent from there on."""
    body: ForkRequest = request.body
    made = await services.hub.fork(request, body.strategy_label, body.count)
    record = await services.hub.record(request.account_id, request.path["session_id"])
    return ForkResponse(
        record.session_id,
        made.at,
        format_time(record.start_time + made.at * record.interval),
        [Forked(session_id, "running", made.strategy_label) for session_id in made.sessions],
        len(made.sessions),
    )


async def recording(services: Services, request: Request) -> File:
    """What was done in the session, and what it answered: `candlestep replay` runs it again."""
    session_id = request.path["session_id"]
    lines = await services.hub.recording(request.account_id, session_id)
    return File(RECORDING_TYPE, lines, f"{session_id}.jsonl")


ROUTES = [
    Route(
        "POST", f"{_BASE}/fork", fork, "Fork a session", ForkResponse, body=ForkRequest, status=201,
        errors=FIND_ERRORS, takes_key=True,
    ),
    Route(
        "GET", f"{_BASE}/recording", recording, "Download a recording", File,
        errors=("SESSION_NOT_FOUND", "INVALID_STATE"),
    ),
]  # fmt: skip
