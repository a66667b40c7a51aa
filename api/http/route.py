"""Routes, requests and the kinds of answers.

The tables of routes are the one list of what the server answers: Starlette's router, the OpenAPI
document and the tests of ownership are all made of them.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Literal, NamedTuple

import msgspec

from candlestep.api.errors import STATUS

AccessLevel = Literal["public", "account", "key", "admin"]
"""``key``: as ``account``, but with an API key itself and no token that was made with one."""


class JsonLines(msgspec.Struct, frozen=True):
    """Marks an answer as lines of JSON (``application/x-ndjson``), sent as they come."""


class File(msgspec.Struct, frozen=True):
    """Marks an answer that is text of another kind, and says which."""

    content_type: str
    text: bytes
    file_name: str | None = None
    """As what a browser is to save it."""
    quotes_name: bool = True


class NoContent(msgspec.Struct, frozen=True):
    """An answer of status 204, without a body."""


class Request(msgspec.Struct):
    """One request, checked: who calls, the path's parameters, the body and the query."""

    account_id: str
    agent_id: str
    """The agent of the key that was sent; the account's default one without a key."""
    path: Mapping[str, str]
    body: Any
    query: Any
    request_id: str
    key: str | None = None
    """The Idempotency-Key that it was sent with."""
    headers: Any = None
    """Those that the route takes."""
    api_key_id: str | None = None
    """Of the API key that it was sent with, or that its token was made with."""


class JsonBytes(NamedTuple):
    """An answer that is JSON already, and its 2xx status."""

    body: bytes
    status: int


Handler = Callable[[Any, Request], Awaitable[Any]]
Lines = AsyncIterator[bytes]


class Route(msgspec.Struct, frozen=True):
    """One method of one path: who may call it, what it takes, and what it answers."""

    method: str
    path: str
    handler: Handler
    summary: str
    answer: Any
    """Its type; a tuple of types where it is one of several."""
    body: type[msgspec.Struct] | None = None
    query: type[msgspec.Struct] | None = None
    status: int = 200
    also: tuple[int, ...] = ()
    """Further 2xx statuses that it may answer with."""
    errors: tuple[str, ...] = ()
    """Codes that it may answer with, beside those that any route may."""
    access: AccessLevel = "account"
    takes_key: bool = False
    """Whether an Idempotency-Key makes it safe to send again."""
    headers: type[msgspec.Struct] | None = None
    """The headers that it takes, each a field; unknown ones are of no account."""
    refused_with: int = 422
    """The status of what is understood and refused."""

    def status_of(self, code: str) -> int:
        """The HTTP status that an error of this code has here."""
        status = STATUS.get(code, 500)
        return self.refused_with if status == 422 else status

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of the path's parameters."""
        parts = self.path.split("/")
        return tuple(part[1:-1] for part in parts if part.startswith("{"))
