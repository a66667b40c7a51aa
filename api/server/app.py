"""The ASGI application, which answers the requests to every route in the same way."""

import asyncio
import itertools
import re
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl

import msgspec
import structlog
from starlette.types import Message, Receive, Scope, Send

from candlestep.api import errors
from candlestep.api.http.api import Api, Endpoint
from candlestep.api.http.auth import HEADERS, Caller
from candlestep.api.http.cookies import with_cookie_as_key
from candlestep.api.http.error_body import ErrorBody
from candlestep.api.http.route import (
    FileContent,
    JsonBytes,
    JsonLines,
    LogEntry,
    Request,
    Route,
    SentText,
)
from candlestep.api.mcp.endpoint import PATH as TOOLS_PATH
from candlestep.api.mcp.endpoint import McpEndpoint
from candlestep.api.schemas.decoding import (
    EmptyBody,
    PlainText,
    decode_body,
    decode_headers,
    decode_query,
    header_names,
)
from candlestep.api.server.answers import Headers, send_answer, send_lines
from candlestep.api.server.proxies import TrustedProxies
from candlestep.api.server.routing import Endpoints, endpoints_by_path, hot_paths, starlette_router
from candlestep.api.services import Services
from candlestep.data.errors import SessionNotFound, StorageUnavailable
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
_READS = ("GET", "HEAD", "OPTIONS")
_NOT_WAITED_FOR = (
    "the server stops and has not waited for this request: when it is back, see what was done"
    " before you send it again"
)
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
        self.tools = McpEndpoint(services)
        """The tools for language models, which are loaded when they are first asked for."""
        self._proxies = TrustedProxies(services.settings.trusted_proxies)
        self._authenticator = services.authenticator
        self._note_request = services.metrics.requests.note
        self._request_prefix = secrets.token_hex(4)
        self._request_number = itertools.count(1)
        self._read_headers = _EVERY_ROUTE_READS | _read_by_routes(apis)
        by_path = endpoints_by_path(apis)
        self._hot_paths = [hot_paths(api, by_path) for api in apis if api.hot_prefix is not None]
        self._router = starlette_router(
            [(endpoints, _PathApp(self, endpoints)) for endpoints in by_path.values()],
            self._unknown_path,
        )

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Answer one request, once this is awaited."""
        if scope["type"] != "http":
            raise RuntimeError(f"candlestep speaks HTTP, not {scope['type']}")
        for paths in self._hot_paths:
            match = paths.find(scope["path"])
            if match is not None:
                return self.answer(*match, scope, receive, send)
        if scope["path"] == TOOLS_PATH:
            return self._answer_tools(scope, receive, send)
        return self._router(scope, receive, send)

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
        caller: Caller | None = None
        code: str | None = None
        entry: LogEntry | None = None
        try:
            if endpoint is None:
                raise _method_not_allowed(method, endpoints)
            route = endpoint.route
            caller = self._authenticator.caller(route.access, headers)
            if caller.session_id is not None:
                _require_own_session(route, parameters, caller.session_id)
            body = None
            if route.body is not None:
                # Most requests on the path of a step have no body, and need not wait for one.
                if _has_body(headers) or route.body is FileContent:
                    body = await self._body(route.body, headers, receive, scope["query_string"])
                elif route.body is SentText:
                    body = SentText(scope["query_string"], b"")
                else:
                    body = decode_body(route.body, b"")
            request = Request(
                caller.account_id,
                caller.agent_id,
                parameters,
                body,
                _query(route, scope["query_string"]),
                request_id,
                _key(headers) if b"idempotency-key" in headers and route.takes_key else None,
                None if route.headers is None else self._headers(route.headers, scope, headers),
                caller.api_key_id,
                caller.session_id,
            )
            answer = await route.handler(self._services, request)
            if type(answer) is JsonBytes:
                status, entry = answer.status, answer.entry
            else:
                status = route.status
        except _Disconnected:
            return
        except asyncio.CancelledError:
            stopped = StorageUnavailable(_NOT_WAITED_FOR)
            status, code = errors.STATUS[stopped.code], stopped.code
            answer = _describe(stopped, endpoint, request_id)
        except SandboxError as error:
            status = (
                errors.STATUS[error.code] if endpoint is None else endpoint.status_of(error.code)
            )
            code = error.code
            answer = _describe(error, endpoint, request_id)
            extra = _error_headers(status, endpoints)
            if caller is not None:
                self._services.refusals.note(caller.session_id, status)
        except Exception:
            log.exception("request_failed", request_id=request_id, path=scope["path"])
            status, code = 500, errors.InternalError.code
            failure = errors.InternalError(
                "the server failed; please report this with the request id"
            )
            answer = _describe(failure, endpoint, request_id)
        if endpoint is not None and endpoint.route.answer is JsonLines and status < 400:
            await send_lines(send, receive, request_id, answer)
        else:
            await send_answer(send, status, request_id, answer, extra)
        seconds = time.perf_counter() - began
        template = "unknown" if endpoint is None else endpoint.route.path
        self._note_request(method, template, status, seconds)
        if entry is not None:
            is_change = entry.is_change
        else:
            is_change = (
                endpoint is not None and method not in _READS and not endpoint.route.is_frequent
            )
        if is_change or status >= 400:
            entry = entry or self._entry(caller, code)
            # After the answer, which is written at the end of the loop's turn: its client goes on.
            asyncio.get_running_loop().call_soon(
                self._log, scope, status, request_id, seconds, entry
            )

    async def _answer_tools(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the SDK of tools answer a request, once the caller is known."""
        began = time.perf_counter()
        headers = {name: value for name, value in scope["headers"] if name in self._read_headers}
        request_id = self._request_id(headers)
        caller: Caller | None = None
        code: str | None = None
        status = 0

        async def send_noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                identified = [*message["headers"], (b"x-request-id", request_id.encode())]
                message = {**message, "headers": identified}
            await send(message)

        failure: SandboxError | None = None
        extra: Headers = ()
        try:
            if scope["method"] != "POST":
                extra = [(b"allow", b"POST")]
                raise errors.MethodNotAllowed(
                    f"{scope['method']} is not allowed here; use POST", allowed=["POST"]
                )
            caller = self._authenticator.caller("account", headers)
            body = await self._read_body(headers, receive)
            await self.tools.answer(caller, scope, _with_body(body, receive), send_noted)
        except _Disconnected:
            return
        except SandboxError as error:
            failure = error
        except asyncio.CancelledError:
            failure = StorageUnavailable(_NOT_WAITED_FOR)
        except Exception:
            log.exception("request_failed", request_id=request_id, path=scope["path"])
            failure = errors.InternalError(
                "the server failed; please report this with the request id"
            )
        if failure is not None and not status:
            status, code = errors.STATUS[failure.code], failure.code
            await send_answer(send, status, request_id, ErrorBody.of(failure, request_id), extra)
        seconds = time.perf_counter() - began
        self._note_request(scope["method"], TOOLS_PATH, status, seconds)
        if status >= 400:
            self._log(scope, status, request_id, seconds, self._entry(caller, code))

    def _entry(self, caller: Caller | None, code: str | None) -> LogEntry:
        """Return who sent a request, for the log; without a key that is known only in open mode."""
        if caller is None or (caller.api_key_id is None and not self._authenticator.is_open):
            return LogEntry(None, code)
        return LogEntry(caller.account_id, code, caller.api_key_id)

    def _log(
        self,
        scope: Scope,
        status: int,
        request_id: str,
        seconds: float,
        entry: LogEntry,
    ) -> None:
        """Log a request that changed something or failed, and who sent it."""
        account_id = entry.account_id
        account = None if account_id is None else self._authenticator.account_name(account_id)
        log.info(
            "request",
            method=scope["method"],
            path=scope["path"],
            status=status,
            code=entry.code,
            milliseconds=round(seconds * 1000, 2),
            account=account,
            key_id=entry.key_id,
            client=self._proxies.client_address(scope.get("client"), scope["headers"]),
            request_id=request_id,
        )

    def _headers(
        self, header_type: type[msgspec.Struct], scope: Scope, headers: Mapping[bytes, bytes]
    ) -> Any:
        """Return the headers that a route takes; those of proxies count from trusted ones only."""
        believed = self._proxies.believed(scope.get("client"), headers)
        return decode_headers(header_type, believed)

    async def _body(
        self,
        body_type: type[msgspec.Struct],
        headers: Mapping[bytes, bytes],
        receive: Receive,
        query: bytes,
    ) -> Any:
        """Return the decoded body of a request, or its content as it arrives if it is a file."""
        if body_type is FileContent:
            return self._stream_body(headers, receive)
        raw = await self._read_body(headers, receive)
        if body_type is SentText:
            return SentText(query, raw)
        _require_media_type(body_type, headers, raw)
        return decode_body(body_type, raw)

    async def _stream_body(
        self, headers: Mapping[bytes, bytes], receive: Receive
    ) -> AsyncIterator[bytes]:
        """Yield the content of a file as it arrives; raise ``PayloadTooLarge``."""
        max_bytes = self._services.settings.max_import_bytes
        length = headers.get(b"content-length", b"")
        if length.isdigit() and int(length[:20]) > max_bytes:
            raise _too_large(max_bytes)
        size, is_more = 0, _has_body(headers)
        while is_more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _Disconnected
            chunk: bytes = message.get("body", b"")
            size += len(chunk)
            if size > max_bytes:
                raise _too_large(max_bytes)
            yield chunk
            is_more = message.get("more_body", False)

    async def _read_body(self, headers: Mapping[bytes, bytes], receive: Receive) -> bytes:
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
        return body

    def _request_id(self, headers: Mapping[bytes, bytes]) -> str:
        request_id = headers.get(b"x-request-id")
        if request_id is not None and _REQUEST_ID.fullmatch(request_id):
            return request_id.decode()
        return f"req_{self._request_prefix}{next(self._request_number):06x}"

    async def _unknown_path(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name: value for name, value in scope["headers"] if name in self._read_headers}
        request_id = self._request_id(headers)
        error = errors.NotFound(
            f"there is nothing at {abbreviate(scope['path'])}; GET /docs shows all paths",
            path=abbreviate(scope["path"]),
        )
        began = time.perf_counter()
        await send_answer(send, 404, request_id, ErrorBody.of(error, request_id), ())
        seconds = time.perf_counter() - began
        self._note_request(scope["method"], "unknown", 404, seconds)
        self._log(scope, 404, request_id, seconds, LogEntry(None, error.code))


class _PathApp:
    """The ASGI application of one path, which Starlette's router calls."""

    def __init__(self, app: App, endpoints: Endpoints) -> None:
        self._app = app
        self._endpoints = endpoints

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] in ("GET", "HEAD") and _is_of_browsers(self._endpoints):
            scope["headers"] = with_cookie_as_key(scope["headers"])
        await self._app.answer(self._endpoints, scope["path_params"], scope, receive, send)


def _is_of_browsers(endpoints: Endpoints) -> bool:
    endpoint = endpoints.get("GET")
    return endpoint is not None and endpoint.route.is_browser


def _describe(error: SandboxError, endpoint: Endpoint | None, request_id: str) -> Any:
    """Return the answer that describes an error, as the API of the endpoint has it."""
    if endpoint is None:
        return ErrorBody.of(error, request_id)
    if endpoint.api.error_page is not None:
        return endpoint.api.error_page(error, request_id)
    return endpoint.api.error_body.of(error, request_id)


def _read_by_routes(apis: Sequence[Api]) -> set[bytes]:
    """Return the names of the headers that single routes take, in lower case."""
    return {
        name.lower().encode()
        for api in apis
        for endpoint in api.endpoints()
        if endpoint.route.headers is not None
        for name in header_names(endpoint.route.headers)
    }


def _require_own_session(route: Route, parameters: Mapping[str, str], session_id: str) -> None:
    """Refuse, to the key of one session, everything else."""
    if not route.for_session_key:
        raise errors.Forbidden("this key is that of one session: it may step, trade and read it")
    if parameters.get("session_id") != session_id:
        raise SessionNotFound("this key is that of another session", key_session_id=session_id)


def _method_not_allowed(method: str, endpoints: Endpoints) -> errors.MethodNotAllowed:
    allowed = sorted(endpoints)
    return errors.MethodNotAllowed(
        f"{method} is not allowed here; use {' or '.join(allowed)}", allowed=allowed
    )


def _require_media_type(body_type: type[Any], headers: Mapping[bytes, bytes], body: bytes) -> None:
    """Raise ``UnsupportedMediaType`` for a body that is said to be JSON and must not, or the reverse."""
    is_json = _JSON_TYPE.fullmatch(headers.get(b"content-type", b"")) is not None
    if body and is_json == (body_type is PlainText):
        raise errors.UnsupportedMediaType(
            "send the text itself, with the header Content-Type: text/plain"
            if is_json
            else "send the body as JSON, with the header Content-Type: application/json"
        )


def _with_body(body: bytes, receive: Receive) -> Receive:
    """Return what receives a request whose body has been read: it comes first, and whole."""
    messages = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def received() -> Message:
        message = next(messages, None)
        return await receive() if message is None else message

    return received


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
    if route.query is None and (not raw or route.access == "public" or route.body is SentText):
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


def _too_large(max_bytes: int) -> errors.PayloadTooLarge:
    return errors.PayloadTooLarge(f"a body may have at most {max_bytes} bytes", max_bytes=max_bytes)


def _error_headers(status: int, endpoints: Endpoints) -> Headers:
    if status == 405:
        return [(b"allow", ", ".join(sorted(endpoints)).encode())]
    if status in (429, 503):
        return [(b"retry-after", str(errors.RETRY_AFTER_SECONDS).encode())]
    return ()
