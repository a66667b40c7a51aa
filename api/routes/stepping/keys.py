"""Keys of one session, for the agent that trades it and that is to see nothing else."""

from typing import Annotated

import msgspec
from msgspec import Meta

from candlestep.api.http.route import Request, Route
from candlestep.api.routes.stepping.session_commands import session_ref
from candlestep.api.schemas.decoding import RequestBody
from candlestep.api.schemas.fields import Name
from candlestep.api.services import Services
from candlestep.data.records.accounts import create_key, list_keys
from candlestep.sandbox import InvalidState


class SessionKeyRequest(RequestBody):
    name: Annotated[Name, Meta(description="What the key is for.")] = "session"


class SessionKeyResponse(msgspec.Struct, frozen=True):
    session_id: str
    key_id: str
    key: Annotated[str, Meta(description="Shown once. Send it as `X-API-Key`.")]


class SessionKeysResponse(msgspec.Struct, frozen=True):
    session_id: str
    key_ids: Annotated[list[str], Meta(description="Of its keys that are not revoked.")]
    refused: Annotated[
        int,
        Meta(
            ge=0,
            description="Requests, turns and calls of tools with a key of the session that were"
            " refused since the server started, whatever the reason.",
        ),
    ]


async def show(services: Services, request: Request) -> SessionKeysResponse:
    """List the keys of a session, and count what was refused to them."""
    record = await services.sessions.record(session_ref(request))
    keys = await services.read_for_account(list_keys, request)
    return SessionKeysResponse(
        record.session_id,
        [
            key.key_id
            for key in keys
            if key.session_id == record.session_id and key.revoked_at is None
        ],
        services.refusals.of(record.session_id),
    )


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
        "GET", "/api/v1/backtest/{session_id}/keys", show, "Keys of a session",
        errors=("SESSION_NOT_FOUND",),
    ),
    Route(
        "POST", "/api/v1/backtest/{session_id}/keys", create, "Create a key of a session",
        body=SessionKeyRequest, status=201, errors=("SESSION_NOT_FOUND", "INVALID_STATE"),
    ),
]  # fmt: skip
