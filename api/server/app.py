"""The ASGI application: one way of answering for every route, and two ways of finding it.

The calls that agents make at every step are found by a look-up in front of Starlette's router,
which alone costs as much as a step; all others go through the router.
"""

import itertools
import re
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import parse_qsl

import msgspec
import structlog
from starlette.routing import Route as StarletteRoute
from starlette.routing import Router
from starlette.types import Message, Receive, Scope, Send

from candlestep.api.errors import (
    RETRY_AFTER_SECONDS,
    STATUS,
    InternalError,
    MethodNotAllowed,
    NotFound,
    PayloadTooLarge,
    UnsupportedMediaType,
)
from candlestep.api.http.auth import HEADERS
from candlestep.api.http.error_body import error_body
from candlestep.api.http.route import File, JsonBytes, JsonLines, NoContent, Request, Route
from candlestep.api.routes import ROUTES
from candlestep.api.schemas.decoding import (
    EmptyBody,
    PlainText,
    decode_body,
    decode_headers,
    decode_query,
    header_names,
)
from candlestep.api.services import Services
from candlestep.sandbox import InvalidParameter, SandboxError
from candlestep.sandbox.errors import abbreviate

_SESSION = "/api/v1/backtest/"
_NO_SESSIONS = ("", "jobs")
"""What may stand in a path where the id of a session does, and is none."""
_SESSION_ROUTE = _SESSION + "{session_id}/"
_READ_HEADERS = HEADERS | {
    b"content-type",
    b"content-length",
    b"idempotency-key",
    b"transfer-encoding",
    b"x-request-id",
    *(
        name.lower().encode()
        for route in ROUTES
        if route.headers is not None
        for name in header_names(route.headers)
    ),
}
_REQUEST_ID = re.compile(rb"[A-Za-z0-9_.:-]{1,64}")
_KEY = re.compile(rb"[!-~]{0,255}")
_JSON_TYPE = re.compile(rb"application/(?:[a-z0-9.+-]+\+)?json\s*(?:;.*)?", re.IGNORECASE)

_encode = msgspec.json.Encoder().encode
log = structlog.get_logger()


class _Disconnected(Exception):
    """The client has left before its request was read."""


class App:
    """The server as an ASGI application."""

    def __init__(self, server: Services) -> None:
        self._server = server
        self._gate = server.authenticator
        self._request_prefix = secrets.token_hex(4)
        self._request_number = itertools.count(1)
        by_path: dict[str, dict[str, Route]] = {}
        for route in ROUTES:
            by_path.setdefault(route.path, {})[route.method] = route
        self._in_session = {
            path.removeprefix(_SESSION_ROUTE): routes
            for path, routes in by_path.items()
            if path.startswith(_SESSION_ROUTE) and "{" not in path.removeprefix(_SESSION_ROUTE)
        }
        self._router = Router(
            [
                StarletteRoute(_with_slashes(path), _Endpoint(self, routes))
                for path, routes in by_path.items()
            ],
            redirect_slashes=False,
            default=self._unknown_path,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            raise RuntimeError(f"candlestep speaks HTTP, not {scope['type']}")
        path: str = scope["path"]
        if path.startswith(_SESSION):
            session_id, _, rest = path[len(_SESSION) :].partition("/")
            routes = self._in_session.get(rest)
            if routes is not None and session_id not in _NO_SESSIONS:
                await self.answer(routes, {"session_id": session_id}, scope, receive, send)
                return
        await self._router(scope, receive, send)

    async def answer(
        self,
        routes: Mapping[str, Route],
        path: Mapping[str, str],
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        """Answer a request to a path that has these routes, by method."""
        began = time.perf_counter()
        headers = {name: value for name, value in scope["headers"] if name in _READ_HEADERS}
        request_id = self._request_id(headers)
        method: str = scope["method"]
        route = routes.get("GET" if method == "HEAD" else method)
        extra: list[tuple[bytes, bytes]] = []
        try:
            if route is None:
                raise _method_not_allowed(method, routes)
            account_id, agent_id, api_key_id = self._gate.caller(route.access, headers)
            raw = b""
            if route.body is not None and _has_body(headers):
                raw = await self._read_body(headers, receive, is_json=route.body is not PlainText)
            request = Request(
                account_id,
                agent_id,
                path,
                None if route.body is None else decode_body(route.body, raw),
                _query(route, scope["query_string"]),
                request_id,
                _key(headers) if b"idempotency-key" in headers and route.takes_key else None,
                None if route.headers is None else decode_headers(route.headers, headers),
                api_key_id,
            )
            answer = await route.handler(self._server, request)
            status = answer.status if type(answer) is JsonBytes else route.status
        except _Disconnected:
            return
        except SandboxError as error:
            status = STATUS[error.code] if route is None else route.status_of(error.code)
            answer = error_body(error, request_id)
            extra = _error_headers(status, routes)
        except Exception:
            log.exception("request_failed", request_id=request_id, path=scope["path"])
            status = 500
            answer = error_body(
                InternalError("the server failed at this; please report it with the request id"),
                request_id,
            )
        if route is not None and route.answer is JsonLines and status < 400:
            await _send_lines(send, request_id, answer)
        else:
            await _send_whole(send, status, request_id, answer, extra)
        self._note(method, route, scope["path"], status, began, request_id)

    def _note(
        self,
        method: str,
        route: Route | None,
        path: str,
        status: int,
        began: float,
        request_id: str,
    ) -> None:
        """Count a request; log it unless it is a success in a session."""
        seconds = time.perf_counter() - began
        template = "unknown" if route is None else route.path
        self._server.counters.count(method, template, status, seconds)
        if status >= 400 or not template.startswith(_SESSION_ROUTE):
            log.info(
                "request",
                method=method,
                path=path,
                status=status,
                milliseconds=round(seconds * 1000, 2),
                request_id=request_id,
            )

    async def _read_body(
        self, headers: Mapping[bytes, bytes], receive: Receive, *, is_json: bool
    ) -> bytes:
        most = self._server.settings.max_body_bytes
        length = headers.get(b"content-length", b"")
        if length.isdigit() and int(length[:20]) > most:
            raise _too_large(most)
        message = await receive()
        body: bytes = message.get("body", b"")
        while message.get("more_body", False) and len(body) <= most:
            message = await receive()
            body += message.get("body", b"")
        if len(body) > most:
            raise _too_large(most)
        if message["type"] == "http.disconnect":
            raise _Disconnected
        if is_json and body and not _JSON_TYPE.fullmatch(headers.get(b"content-type", b"")):
            raise UnsupportedMediaType(
                "send the body as JSON, with the header Content-Type: application/json"
            )
        return body

    def _request_id(self, headers: Mapping[bytes, bytes]) -> str:
        given = headers.get(b"x-request-id")
        if given is not None and _REQUEST_ID.fullmatch(given):
            return given.decode()
        return f"req_{self._request_prefix}{next(self._request_number):06x}"

    async def _unknown_path(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name: value for name, value in scope["headers"] if name in _READ_HEADERS}
        request_id = self._request_id(headers)
        error = NotFound(
            f"there is nothing at {abbreviate(scope['path'])}; GET /docs shows what there is",
            path=abbreviate(scope["path"]),
        )
        began = time.perf_counter()
        await _send_whole(send, 404, request_id, error_body(error, request_id), [])
        self._note(scope["method"], None, scope["path"], 404, began, request_id)


class _Endpoint:
    """A path of Starlette's router, with its methods."""

    def __init__(self, app: App, routes: Mapping[str, Route]) -> None:
        self._app = app
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app.answer(self._routes, scope["path_params"], scope, receive, send)


def _method_not_allowed(method: str, routes: Mapping[str, Route]) -> MethodNotAllowed:
    allowed = sorted(routes)
    return MethodNotAllowed(
        f"{method} is not possible here, {', '.join(allowed)} is", allowed=allowed
    )


def _has_body(headers: Mapping[bytes, bytes]) -> bool:
    return headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers


def _with_slashes(path: str) -> str:
    """The path for Starlette: a symbol may be written with a slash, ``BTC/USDT``."""
    return path.replace("{symbol}", "{symbol:path}")


def _key(headers: Mapping[bytes, bytes]) -> str | None:
    """The Idempotency-Key of a request; an empty one counts as absent."""
    key = headers[b"idempotency-key"].strip()
    if not _KEY.fullmatch(key):
        raise InvalidParameter(
            "Idempotency-Key", "must be 1 to 255 visible characters of ASCII, such as a UUID"
        )
    return key.decode() or None


def _query(route: Route, raw: bytes) -> Any:
    if route.query is None and (not raw or route.access == "public"):
        return None
    try:
        pairs = parse_qsl(
            raw.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=50
        )
    except ValueError:
        raise InvalidParameter("query", "is not a valid query string") from None
    query = dict(pairs)
    if len(query) != len(pairs):
        raise InvalidParameter("query", "has a parameter twice")
    return decode_query(route.query or EmptyBody, query)


def _too_large(most: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"a body may have at most {most} bytes", max_bytes=most)


def _error_headers(status: int, routes: Mapping[str, Route]) -> list[tuple[bytes, bytes]]:
    if status == 405:
        return [(b"allow", ", ".join(sorted(routes)).encode())]
    if status in (429, 503):
        return [(b"retry-after", str(RETRY_AFTER_SECONDS).encode())]
    return []


async def _send_whole(
    send: Send, status: int, request_id: str, answer: Any, extra: list[tuple[bytes, bytes]]
) -> None:
    if type(answer) is NoContent:
        headers = [(b"x-request-id", request_id.encode()), *extra]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b""})
        return
    content_type = b"application/json"
    if type(answer) is JsonBytes:
        body = answer.body
    elif isinstance(answer, File):
        body, content_type = answer.text, answer.content_type.encode()
        if answer.file_name is not None:
            name = f'"{answer.file_name}"' if answer.quotes_name else answer.file_name
            disposition = f"attachment; filename={name}".encode()
            extra = [*extra, (b"content-disposition", disposition)]
    else:
        body = _encode(answer)
    start: Message = {
        "type": "http.response.start",
        "status": status,
        "headers": [
            (b"content-type", content_type),
            (b"content-length", b"%d" % len(body)),
            (b"x-request-id", request_id.encode()),
            *extra,
        ],
    }
    await send(start)
    await send({"type": "http.response.body", "body": body})


async def _send_lines(send: Send, request_id: str, lines: AsyncIterator[bytes]) -> None:
    await send(
        {
            "type": "http.response.start",
            "status": 200,
            "headers": [
                (b"content-type", b"application/x-ndjson"),
                (b"x-request-id", request_id.encode()),
            ],
        }
    )
    async for line in lines:
        await send({"type": "http.response.body", "body": line, "more_body": True})
    await send({"type": "http.response.body", "body": b""})
