"""Shared by the endpoints of a session: naming it, finding it, and changing it with a key."""

from functools import partial
from typing import Any

import msgspec

from candlestep.api.http.route import JsonBytes, Request, Route
from candlestep.api.services import Services
from candlestep.api.sessions.commands import Command, SessionRef
from candlestep.api.sessions.hosted_session import HostedSession
from candlestep.api.sessions.idempotency import IdempotencyKey
from candlestep.data.records.sessions import SessionRecord
from candlestep.data.symbols import traded_symbol
from candlestep.sandbox import Session

FIND_ERRORS = ("SESSION_NOT_FOUND", "INVALID_STATE", "NO_DATA", "RATE_LIMITED")
"""The codes of errors of finding a session; the last two mean that its candles cannot be loaded."""

read_route = partial(Route, "GET", errors=FIND_ERRORS, for_session_key=True)
"""A route that reads from a session."""

change_route = partial(Route, "POST", errors=FIND_ERRORS, takes_key=True)
"""A route that changes a session."""


def session_symbol(session: Session, text: str) -> str:
    """Return a pair that a request names as the session spells it."""
    return traded_symbol(text, session.config.market_type)


def session_ref(request: Request) -> SessionRef:
    """Return the session that the path of a request names."""
    return SessionRef(request.account_id, request.path["session_id"])


def idempotency_key(request: Request, action: str, body: Any) -> IdempotencyKey | None:
    """Return the key of a request for an ``action``, or None if it was sent without one."""
    if request.key is None:
        return None
    key = request.key
    if request.session_id is not None:
        # What the owner has sent under this key is none of the agent's business.
        key = f"{request.api_key_id}:{key}"
    return IdempotencyKey.of(key, action, body)


def seen_by(request: Request, record: SessionRecord) -> SessionRecord:
    """Return a record without what a key of the session may not see: who judges it, and how."""
    if request.session_id is None:
        return record
    return msgspec.structs.replace(record, strategy_label="", agent_id="", import_number=None)


async def find_session(services: Services, request: Request) -> HostedSession:
    """Return the session that the path of a request names, to read from it."""
    return await services.sessions.find(session_ref(request))


async def apply(services: Services, request: Request, action: str, command: Command) -> JsonBytes:
    """Change the session that the path of a request names, and return the reply as an answer.

    ``action`` is part of the request's digest, so that another request cannot reuse its key.
    """
    key = idempotency_key(request, action, request.body)
    reply = await services.sessions.apply(session_ref(request), command, key)
    return JsonBytes(reply.body, reply.status)
