"""Keys of one session, for the agent that trades it and that is to see nothing else."""

from typing import Annotated

import msgspec
from msgspec import Meta

from candlestep.api.http.route import Request, Route
from candlestep.api.routes.stepping.session_commands import session_ref
from candlestep.api.schemas.decoding import RequestBody
from candlestep.api.schemas.fields import Name
from candlestep.api.services import Services
from candlestep.data.records.accounts import create_key
from candlestep.sandbox import InvalidState


class SessionKeyRequest(RequestBody):
    name: Annotated[Name, Meta(description="What the key is for.")] = "session"


class SessionKeyResponse(msgspec.Struct, frozen=True):
    session_id: str
    key_id: str
    key: Annotated[str, Meta(description="Shown once. Send it as `X-API-Key`.")]


async def create(services: Services, request: Request) -> SessionKeyResponse:
    """Create a key that can step, trade and read this session, and nothing else.

    While the server has no keys, none is needed for anything, and this is refused.
    """
    record = await services.sessions.record(session_ref(request))
    if services.authenticator.is_open:
        raise InvalidState(
            "the server has no keys, so that nobody needs one, and the first one would shut you out;"
            " make your own with `candlestep keys create NAME`, then create the session's with it"
        )
    body: SessionKeyRequest = request.body
    key, secret = await services.for_account(
        create_key, request, body.name, session_id=record.session_id
    )
    await services.in_thread(services.authenticator.reload)
    return SessionKeyResponse(record.session_id, key.key_id, secret)


ROUTES = [
    Route(
        "POST", "/api/v1/backtest/{session_id}/keys", create, "Create a key of a session",
        body=SessionKeyRequest, status=201, errors=("SESSION_NOT_FOUND", "INVALID_STATE"),
    ),
]  # fmt: skip
