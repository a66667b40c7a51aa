"""The ASGI application, which answers the requests to every route in the same way."""

import itertools
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl

import structlog
from starlette.types import Receive, Scope, Send

from candlestep.api.errors import (
    RETRY_AFTER_SECONDS,
    STATUS,
    InternalError,
    MethodNotAllowed,
    NotFound,
    PayloadTooLarge,
    UnsupportedMediaType,
)
from candlestep.api.http.api import Api, Endpoint
from candlestep.api.http.auth import HEADERS
from candlestep.api.http.error_body import error_body
from candlestep.api.http.route import JsonBytes, JsonLines, Request, Route
from candlestep.api.schemas.decoding import (
    EmptyBody,
    PlainText,
    decode_body,
    decode_headers,
    decode_query,
    header_names,
)
from candlestep.api.server.answers import Headers, send_answer, send_lines
from candlestep.api.server.routing import (
    Endpoints,
    endpoints_by_path,
    hot_paths,
    starlette_router,
)
from candlestep.api.services import Services
from candlestep.sandbox import InvalidParameter, SandboxError
from candlestep.sandbox.errors import abbreviate

_EVERY_ROUTE_READS = HEADERS | {
    b"content-type",
    b"content-length",
    b"idempotency-key",
    b"transfer-encoding",
    b"x-request-id",
}
"""Headers, in lower case."""
_REQUEST_ID = re.compile(rb"[A-Za-z0-9_.:-]{1,64}")
_KEY = re.compile(rb"[!-~]{0,255}")
_JSON_TYPE = re.compile(rb"application/(?:[a-z0-9.+-]+\+)?json\s*(?:;.*)?", re.IGNORECASE)

log = structlog.get_logger()


class _Disconnected(Exception):
    """The client disconnected before its request was read."""


class App:
    """The server as an ASGI application."""

    def __init__(self, apis: Sequence[Api], services: Services) -> None:
        self._services = services
        self._authenticator = services.authenticator
        self._note_request = services.metrics.requests.note
        self._request_prefix = secrets.token_hex(4)
        self._request_number = itertools.count(1)
        self._read_headers = _EVERY_ROUTE_READS | _read_by_routes(apis)
        by_path = endpoints_by_path(apis)
        self._hot_paths = [hot_paths(api, by_path) for api in apis if api.hot_prefix is not None]
        self._unlogged = frozenset(
            path
            for path in by_path
            for api in apis
            if api.hot_prefix is not None and path.startswith(api.hot_prefix)
        )
        """Paths whose successful requests are not logged."""
        self._router = starlette_router(
            [(endpoints, _PathApp(self, endpoints)) for endpoints in by_path.values()],
            self._unknown_path,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            raise RuntimeError(f"candlestep speaks HTTP, not {scope['type']}")
        for paths in self._hot_paths:
            match = paths.find(scope["path"])
            if match is not None:
                endpoints, parameters = match
                await self.answer(endpoints, parameters, scope, receive, send)
                return
        await self._router(scope, receive, send)

    async def answer(
        self,
        endpoints: Endpoints,
        parameters: Mapping[str, str],
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        """Answer a request to a path that has these endpoints, with the parameters of its path."""
        began = time.perf_counter()
        read_headers = self._read_headers
        headers = {name: value for name, value in scope["headers"] if name in read_headers}
        request_id = self._request_id(headers)
        method: str = scope["method"]
        endpoint = endpoints.get("GET" if method == "HEAD" else method)
        extra: Headers = ()
        try:
            if endpoint is None:
                raise _method_not_allowed(method, endpoints)
            route = endpoint.route
            account_id, agent_id, api_key_id = self._authenticator.caller(route.access, headers)
            raw = b""
            if route.body is not None and _has_body(headers):
                raw = await self._read_body(headers, receive, is_json=route.body is not PlainText)
            request = Request(
                account_id,
                agent_id,
                parameters,
                None if route.body is None else decode_body(route.body, raw),
                _query(route, scope["query_string"]),
                request_id,
                _key(headers) if b"idempotency-key" in headers and route.takes_key else None,
                None if route.headers is None else decode_headers(route.headers, headers),
                api_key_id,
            )
            answer = await route.handler(self._services, request)
            status = answer.status if type(answer) is JsonBytes else route.status
        except _Disconnected:
            return
        except SandboxError as error:
            status = STATUS[error.code] if endpoint is None else endpoint.status_of(error.code)
            answer = error_body(error, request_id)
            extra = _error_headers(status, endpoints)
        except Exception:
            log.exception("request_failed", request_id=request_id, path=scope["path"])
            status = 500
            answer = error_body(
                InternalError("the server failed; please report this with the request id"),
                request_id,
            )
        if endpoint is not None and endpoint.route.answer is JsonLines and status < 400:
            await send_lines(send, request_id, answer)
        else:
            await send_answer(send, status, request_id, answer, extra)
        self._note(method, endpoint, scope["path"], status, began, request_id)

    def _note(
        self,
        method: str,
        endpoint: Endpoint | None,
        path: str,
        status: int,
        began: float,
        request_id: str,
    ) -> None:
        """Count a request, and log it unless it is a success on a hot path."""
        seconds = time.perf_counter() - began
        template = "unknown" if endpoint is None else endpoint.route.path
        self._note_request(method, template, status, seconds)
        if status >= 400 or template not in self._unlogged:
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
        max_bytes = self._services.settings.max_body_bytes
        length = headers.get(b"content-length", b"")
        if length.isdigit() and int(length[:20]) > max_bytes:
            raise _too_large(max_bytes)
        message = await receive()
        body: bytes = message.get("body", b"")
        while message.get("more_body", False) and len(body) <= max_bytes:
            message = await receive()
            body += message.get("body", b"")
        if len(body) > max_bytes:
            raise _too_large(max_bytes)
        if message["type"] == "http.disconnect":
            raise _Disconnected
        if is_json and body and not _JSON_TYPE.fullmatch(headers.get(b"content-type", b"")):
            raise UnsupportedMediaType(
                "send the body as JSON, with the header Content-Type: application/json"
            )
        return body

    def _request_id(self, headers: Mapping[bytes, bytes]) -> str:
        request_id = headers.get(b"x-request-id")
        if request_id is not None and _REQUEST_ID.fullmatch(request_id):
            return request_id.decode()
        return f"req_{self._request_prefix}{next(self._request_number):06x}"

    async def _unknown_path(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name: value for name, value in scope["headers"] if name in self._read_headers}
        request_id = self._request_id(headers)
        error = NotFound(
            f"there is nothing at {abbreviate(scope['path'])}; GET /docs shows all paths",
            path=abbreviate(scope["path"]),
        )
        began = time.perf_counter()
        await send_answer(send, 404, request_id, error_body(error, request_id), ())
        self._note(scope["method"], None, scope["path"], 404, began, request_id)


class _PathApp:
    """The ASGI application of one path, which Starlette's router calls."""

    def __init__(self, app: App, endpoints: Endpoints) -> None:
        self._app = app
        self._endpoints = endpoints

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app.answer(self._endpoints, scope["path_params"], scope, receive, send)


def _read_by_routes(apis: Sequence[Api]) -> set[bytes]:
    """Return the names of the headers that single routes take, in lower case."""
    return {
        name.lower().encode()
        for api in apis
        for endpoint in api.endpoints()
        if endpoint.route.headers is not None
        for name in header_names(endpoint.route.headers)
    }


def _method_not_allowed(method: str, endpoints: Endpoints) -> MethodNotAllowed:
    allowed = sorted(endpoints)
    return MethodNotAllowed(
        f"{method} is not allowed here; use {' or '.join(allowed)}", allowed=allowed
    )


def _has_body(headers: Mapping[bytes, bytes]) -> bool:
    return headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers


def _key(headers: Mapping[bytes, bytes]) -> str | None:
    """Return the Idempotency-Key of a request; an empty one counts as absent."""
    key = headers[b"idempotency-key"].strip()
    if not _KEY.fullmatch(key):
        raise InvalidParameter(
            "Idempotency-Key", "must be 1 to 255 visible characters of ASCII, such as a UUID"
        )
    return key.decode() or None


def _query(route: Route, raw: bytes) -> Any:
    """Decode a query string; a route without a query refuses one, unless it is public."""
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


def _too_large(max_bytes: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"a body may have at most {max_bytes} bytes", max_bytes=max_bytes)


def _error_headers(status: int, endpoints: Endpoints) -> Headers:
    if status == 405:
        return [(b"allow", ", ".join(sorted(endpoints)).encode())]
    if status in (429, 503):
        return [(b"retry-after", str(RETRY_AFTER_SECONDS).encode())]
    return ()
