"""The recording of a session, and forks: sessions that share its past."""

from typing import Literal

import msgspec

from candlestep.api.http.route import Call, Page, Route
from candlestep.api.schemas.fields import Time
from candlestep.api.schemas.requests import ForkBody
from candlestep.api.services import Server
from candlestep.api.sessions.pool import FIND_ERRORS
from candlestep.sandbox import format_time

_BASE = "/api/v1/backtest/{session_id}"
RECORDING_TYPE = "application/x-ndjson"


class Forked(msgspec.Struct, frozen=True):
    session_id: str
    status: Literal["running"]
    strategy_label: str


class ForkAnswer(msgspec.Struct, frozen=True):
    session_id: str
    """Of the session that was forked."""
    current_step: int
    virtual_time: Time
    forks: list[Forked]
    count: int


async def fork(server: Server, call: Call) -> ForkAnswer:
    """New running sessions at the same point, independent from there on."""
    body: ForkBody = call.body
    made = await server.hub.fork(call, body.strategy_label, body.count)
    record = await server.hub.record(call.account_id, call.path["session_id"])
    return ForkAnswer(
        record.session_id,
        made.at,
        format_time(record.start_time + made.at * record.interval),
        [Forked(session_id, "running", made.strategy_label) for session_id in made.sessions],
        len(made.sessions),
    )


async def recording(server: Server, call: Call) -> Page:
    """What was done in the session, and what it answered: `candlestep replay` runs it again."""
    session_id = call.path["session_id"]
    lines = await server.hub.recording(call.account_id, session_id)
    return Page(RECORDING_TYPE, lines, f"{session_id}.jsonl")


ROUTES = [
    Route(
        "POST", f"{_BASE}/fork", fork, "Fork a session", ForkAnswer, body=ForkBody, status=201,
        errors=FIND_ERRORS, takes_key=True,
    ),
    Route(
        "GET", f"{_BASE}/recording", recording, "Download a recording", Page,
        errors=("SESSION_NOT_FOUND", "INVALID_STATE"),
    ),
]  # fmt: skip
