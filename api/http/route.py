"""Routes, the requests that they take, and the kinds of answers that they give."""

import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from types import UnionType
from typing import Any, Literal, get_args

import msgspec

AccessLevel = Literal["public", "account", "key", "admin_key", "admin", "signature"]
"""The callers of a route.

``key`` is ``account``, but with an API key, not with a token. ``admin_key`` is ``account``, with a
key that may change what all accounts share. ``admin`` is the command line of the server's user.
``signature`` is whoever signs as the handler requires, who checks it.
"""


class JsonLines(msgspec.Struct, frozen=True):
    """Marks an answer as lines of JSON (``application/x-ndjson``) that are sent one by one."""


class File(msgspec.Struct, frozen=True):
    """An answer that is not JSON, with its content type."""

    content_type: str
    content: bytes
    file_name: str | None = None
    """The name under which a browser saves it."""
    quotes_name: bool = True
    headers: tuple[tuple[bytes, bytes], ...] = ()
    """Further headers of the answer."""


class FileContent(msgspec.Struct, frozen=True):
    """Marks a body that is a file, whatever its content type.

    The handler gets an ``AsyncIterator[bytes]`` of its content as it arrives.
    """


class SentText(msgspec.Struct, frozen=True):
    """A query and a body as they were sent, of any content type: what signatures are of."""

    query: bytes
    body: bytes


class NoContent(msgspec.Struct, frozen=True):
    """An answer of status 204, without a body."""


class JsonDocument(msgspec.Struct, frozen=True):
    """Marks an answer as a JSON document whose schema is not described."""


class LogEntry(msgspec.Struct, frozen=True, gc=False):
    """An entry of the log for a request, besides its path and its status."""

    account_id: str | None
    """The account that it acts for; None if it was not admitted."""
    code: str | None
    """The code of its error."""
    key_id: str | None = None
    is_change: bool = True
    """False if it is logged only when it fails."""


class JsonBytes(msgspec.Struct, frozen=True, gc=False):
    """An answer that is JSON already, and its status."""

    body: bytes
    status: int
    headers: tuple[tuple[bytes, bytes], ...] = ()
    """Further headers of the answer."""
    entry: LogEntry | None = None
    """Set by handlers that admit requests themselves: routes with the access ``signature``."""


class Request(msgspec.Struct):
    """A request whose parts are decoded and checked."""

    account_id: str
    agent_id: str
    """The agent of the key that was sent; without a key, the account's default agent."""
    path: Mapping[str, str]
    """The parameters of the path."""
    body: Any
    query: Any
    request_id: str
    key: str | None = None
    """The Idempotency-Key."""
    headers: Any = None
    """The headers that the route takes."""
    api_key_id: str | None = None
    """The id of the API key that was sent, or that the token was made with."""
    session_id: str | None = None
    """The one session that this key may use; None: all of the account."""


Handler = Callable[[Any, Request], Awaitable[Any]]
Lines = AsyncGenerator[bytes, None]


class Route(msgspec.Struct, frozen=True):
    """One method of one path: who may call it, what it takes, and what it answers."""

    method: str
    path: str
    handler: Handler
    summary: str
    answer: Any = None
    """The type of the answer, or a tuple of the types that it may have; by default what the
    handler is declared to return.
    """
    body: type[msgspec.Struct] | None = None
    query: type[msgspec.Struct] | None = None
    status: int = 200
    also: tuple[int, ...] = ()
    """Further 2xx statuses of the answer."""
    errors: tuple[str, ...] = ()
    """The codes of errors that are specific to the route; those that all routes share are implied."""
    access: AccessLevel = "account"
    takes_key: bool = False
    """True if an Idempotency-Key makes it safe to repeat the request."""
    is_frequent: bool = False
    """True if its successes are counted but not logged."""
    headers: type[msgspec.Struct] | None = None
    """The headers that it takes, each a field; all others are ignored."""
    media_type: str = "text/plain"
    """The media type of a ``File``."""
    answer_description: str | None = None
    """The description of an answer that is a ``File`` or ``JsonLines``."""
    is_documented: bool = True
    """False if it is left out of the OpenAPI document."""
    is_browser: bool = False
    """True if a cookie of `/login` may stand for the key, in a GET without one."""
    for_session_key: bool = False
    """True if a key of the session that the path names may call it."""
    refused_status: int | None = None
    """Instead of that of the API: the status of requests that are understood and refused."""

    def __post_init__(self) -> None:
        if self.answer is None:
            returned = inspect.get_annotations(self.handler)["return"]
            answer = get_args(returned) if isinstance(returned, UnionType) else returned
            msgspec.structs.force_setattr(self, "answer", answer)

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of the path's parameters."""
        segments = self.path.split("/")
        return tuple(segment[1:-1] for segment in segments if segment.startswith("{"))
