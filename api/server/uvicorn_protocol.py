"""uvicorn's HTTP protocol, with bounds on connections, answers in one write, errors of our shape."""

import asyncio
import secrets
from collections.abc import Mapping, Sized
from heapq import nsmallest
from typing import Any, ClassVar, Literal, NamedTuple
from urllib.parse import unquote

import msgspec
from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser, parse_url
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from candlestep.api.errors import InvalidRequest
from candlestep.api.http.error_body import ErrorBody
from candlestep.api.server.answers import Headers

_MAX_HEAD_BYTES = 64 * 1024
"""The bytes of a request line and headers that are still incomplete, and of trailers."""

_PARSED_AT_ONCE = 8 * 1024
"""The bytes after which a request that waits for others keeps those behind it from being parsed."""
_MALFORMED = "Invalid HTTP request received."
_ROUND_SECONDS = 1.0
"""The time between two looks at the connections that are late."""
_CLOSED_AT_ONCE = 0.01
"""The share of the connections that is closed when there are too many: finding them takes a while."""


class ConnectionLimits(NamedTuple):
    """The most connections, and the seconds for which each may keep the server waiting."""

    most: int
    head_seconds: int
    """From the first byte of a head to its end."""
    body_seconds: int
    """Between two bytes of a body, of a request or of an answer that the client has to take."""
    idle_seconds: int
    """Without a request."""


class Connections:
    """The connections of a server, which closes those that keep it waiting for too long.

    When there are too many, those that have been idle for longest are closed first. A connection
    whose request is being answered is never closed, unless its client takes none of the answer.
    """

    def __init__(self, limits: ConnectionLimits) -> None:
        self._limits = limits
        self._open: dict[BoundedProtocol, None] = {}
        """The connections, oldest first."""

    def new_protocol(self, **arguments: Any) -> "BoundedProtocol":
        """Return the protocol of a new connection, given what uvicorn gives to protocols."""
        return BoundedProtocol(self, **arguments)

    def add(self, protocol: "BoundedProtocol") -> None:
        """Count a connection, and close others to make room for it. Linear where there is none."""
        self._open[protocol] = None
        if len(self._open) <= self._limits.most:
            return
        waiting = [other for other in self._open if other.waits_for is not None]
        count = len(self._open) - self._limits.most + int(self._limits.most * _CLOSED_AT_ONCE)
        for other in nsmallest(count, waiting, key=lambda other: other.waiting_since):
            other.transport.close()

    def remove(self, protocol: "BoundedProtocol") -> None:
        """Forget a connection that has ended."""
        self._open.pop(protocol, None)

    async def keep_closing_late_ones(self) -> None:
        """Close connections that are late, for as long as the server runs."""
        while True:
            await asyncio.sleep(_ROUND_SECONDS)
            self.close_late_ones()

    def close_late_ones(self) -> None:
        """Close the connections that are late now."""
        now = asyncio.get_running_loop().time()
        seconds = {
            "head": self._limits.head_seconds,
            "body": self._limits.body_seconds,
            "request": self._limits.idle_seconds,
        }
        for protocol in list(self._open):
            part = protocol.waits_for
            if protocol.untaken_seconds(now) > self._limits.body_seconds:
                # Closed in order, it would still wait for its client to take the rest.
                protocol.transport.abort()
            elif part is not None and now - protocol.waiting_since > seconds[part]:
                protocol.transport.close()


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with seven differences.

    It bounds headers and trailers, and the requests that wait for others; it tells ``Connections``
    what it waits for, and leaves it to that to close it; it answers a client that has closed its own
    side; it answers malformed HTTP in its turn, with a JSON error, not with plain text; it stays
    with HTTP when asked for another protocol; and its requests are ``_WholeAnswers``.
    """

    _head_bytes = 0
    _has_body = False
    """True if the bytes that arrived last have a part of a body."""
    _bodiless_bytes = 0
    """The bytes after a head that have arrived since the last part of its body, such as trailers."""
    _untaken_bytes = 0
    """The bytes of answers that the client had not taken at the last look."""
    _untaken_since = 0.0
    _unparsed = memoryview(b"")
    """Bytes that were read and not parsed, while requests wait for others."""
    _refusal = b""
    """The answer to malformed HTTP, once there is some; what follows is not parsed."""

    def __init__(self, connections: Connections, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._all = connections
        self.waiting_since = self.loop.time()
        """The time of the loop since when it waits for what ``waits_for`` says."""

    @property
    def waits_for(self) -> Literal["request", "head", "body"] | None:
        """The part of a request that the client has to send next; None while it is answered."""
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            return "head" if self._head_bytes else "request"
        return "body" if cycle.more_body and not self.flow.read_paused else None

    def untaken_seconds(self, now: float) -> float:
        """Return for how long, at the time ``now``, the client has taken nothing of its answers.

        0 if there is nothing to take. It is to be asked at regular intervals.
        """
        untaken = self.transport.get_write_buffer_size()
        if not untaken or untaken < self._untaken_bytes or not self._untaken_bytes:
            self._untaken_since = now
        self._untaken_bytes = untaken
        return now - self._untaken_since

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(_LaterWrites(transport, self.loop))  # type: ignore[arg-type]
        self.flow = _Flow(self.transport, self.pipeline)
        self._all.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._all.remove(self)
        super().connection_lost(exc)

    def eof_received(self) -> bool:  # type: ignore[override]
        """Keep the connection open for an answer that is still to be sent."""
        # One that is held back to the end of the turn would find the connection closed.
        _LaterWrites.write_all()
        is_answered = self.waits_for is None
        if is_answered:
            self.cycle.keep_alive = False
        return is_answered

    def on_headers_complete(self) -> None:
        """Have the request answered, after those that came before it on the connection.

        As uvicorn does, without what this server does not use: root paths and a bound on requests
        at a time. A request for another protocol comes a second time, without that wish.
        """
        scope, parser = self.scope, self.parser
        if parser.should_upgrade():
            return
        version = parser.get_http_version()
        url = parse_url(self.url)
        path = url.path.decode("ascii")
        scope["method"] = parser.get_method().decode("ascii")
        scope["http_version"] = version
        scope["path"] = unquote(path) if "%" in path else path
        scope["raw_path"] = url.path
        scope["query_string"] = url.query or b""
        before, self.cycle = (
            self.cycle,
            _WholeAnswers(
                scope,
                self.transport,
                self.flow,
                self.logger,
                self.access_logger,
                self.access_log,
                self.server_state.default_headers,
                asyncio.Event(),
                self.expect_100_continue,
                version != "1.0" and parser.should_keep_alive(),
                self.on_response_complete,
            ),
        )
        if before is None or before.response_complete:
            self._start_asgi_task(self.cycle, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))

    def on_response_complete(self) -> None:
        """Go on with the next request, without uvicorn's timer for each: ``Connections`` has one."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.waiting_since = self.loop.time()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
            self._take_unparsed()
        elif self._refusal:
            self._refuse()
            return
        self.flow.resume_reading()

    def data_received(self, data: bytes) -> None:
        if len(data) > _PARSED_AT_ONCE:
            self._unparsed = memoryview(data)
            self._take_unparsed()
            return
        if not self._head_bytes:
            self.waiting_since = self.loop.time()
        before, self._has_body = self.cycle, False
        self._parse(data)
        cycle = self.cycle
        if cycle is not None and cycle.scope is self.scope:
            self._head_bytes = 0
            if self._has_body or cycle is not before or not cycle.more_body:
                self._bodiless_bytes = 0
                return
            self._bodiless_bytes += len(data)
            if self._bodiless_bytes > _MAX_HEAD_BYTES:
                # The parser keeps trailers, and whoever waits for the body never sees an end.
                self.transport.close()
            return
        # It is unknown how many are of this head where they have a part of a request before it.
        is_alone = cycle is before and not self._has_body
        self._head_bytes = self._head_bytes + len(data) if is_alone else 1
        if self._head_bytes > _MAX_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("the headers are too long")

    def _take_unparsed(self) -> None:
        """Take what has been read until a request waits: it can be that of thousands of requests."""
        while self._unparsed and not self.pipeline:
            part, self._unparsed = (
                self._unparsed[:_PARSED_AT_ONCE],
                self._unparsed[_PARSED_AT_ONCE:],
            )
            self.data_received(bytes(part))

    def _parse(self, data: bytes) -> None:
        while data and not self._refusal:
            try:
                self.parser.feed_data(data)
                return
            except HttpParserUpgrade as upgrade:
                if self.parser.get_method() == b"CONNECT":
                    self.send_400_response("there is no tunnel here")
                    return
                data = self._head_without_upgrade() + data[upgrade.args[0] :]
                self.parser = HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            except HttpParserError:
                self.logger.warning(_MALFORMED)
                self.send_400_response(_MALFORMED)
                return

    def _head_without_upgrade(self) -> bytes:
        """Return the head that was parsed last, without the wish for another protocol.

        The parser takes what follows such a wish for that protocol, also the body of the request.
        """
        line = b"%s %s HTTP/%s" % (
            self.parser.get_method(),
            self.url,
            self.parser.get_http_version().encode(),
        )
        headers = [b"%s: %s" % header for header in self.headers if header[0] != b"upgrade"]
        return b"\r\n".join([line, *headers, b"", b""])

    def _should_upgrade(self) -> bool:
        """Have the end of a request for another protocol ignored when it comes the first time."""
        return True

    def on_body(self, body: bytes) -> None:
        """Take a part of a body."""
        self._has_body = True
        super().on_body(body)

    def send_400_response(self, msg: str) -> None:
        """Answer malformed HTTP once the requests before it are answered, and close the connection."""
        if self._refusal:
            return
        request_id = f"req_{secrets.token_hex(7)}"
        body = msgspec.json.encode(ErrorBody.of(InvalidRequest(msg), request_id))
        self._refusal = (
            b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\nx-request-id: %s\r\nconnection: close\r\n\r\n%s"
            % (len(body), request_id.encode(), body)
        )
        last = self.cycle
        if last is None or last.response_complete:
            self._refuse()
        elif not last.more_body:
            self.flow.pause_reading()
        elif self.pipeline:
            # The last request is the malformed one, and others are to be answered before it.
            self.pipeline.popleft()
            last.more_body = False
            self.flow.pause_reading()
        elif last.response_started:
            self.transport.close()
        else:
            self._refuse()

    def _refuse(self) -> None:
        self.transport.write(self._refusal)
        self.transport.close()


class _Flow(FlowControl):
    """uvicorn's flow control for a connection with requests that wait for earlier ones."""

    def __init__(self, transport: asyncio.Transport, waiting: Sized) -> None:
        super().__init__(transport)
        self._waiting = waiting

    def resume_reading(self) -> None:
        """Read on, unless requests wait: with each that is answered, there would be more of them."""
        if self.read_paused and not self._waiting:
            super().resume_reading()

    async def drain(self) -> None:
        """Wait until the client takes more; when the server stops meanwhile, give the client up."""
        try:
            await super().drain()
        except asyncio.CancelledError:
            self._transport.abort()


class _WholeAnswers(RequestResponseCycle):
    """A request whose answer is sent in one write, unless it is sent as it is made.

    uvicorn writes the head and the body separately, and each write costs as much as the rest of a
    step.
    """

    _head: bytes | None = None
    """The head of an answer whose body is to follow."""

    async def send(self, message: Any) -> None:
        """Take a message of ASGI; hold the head of an answer back until its body is there."""
        if self._head is not None and not self.response_complete:
            if self.flow.write_paused and not self.disconnected:
                await self.flow.drain()
            if self.disconnected:
                return
            self.transport.write(self._head + message["body"])
            self.response_complete = True
            self.message_event.set()
            if not self.keep_alive:
                self.transport.close()
            self.on_response()
        elif message["type"] == "http.response.start" and self._is_whole(dict(message["headers"])):
            self.response_started = True
            self._head = _head(message["status"], [*self.default_headers, *message["headers"]])
        else:
            await super().send(message)

    def _is_whole(self, headers: Mapping[bytes, bytes]) -> bool:
        """Return whether an answer with these headers is one body, after which others may follow."""
        return (
            b"content-length" in headers
            and b"connection" not in headers
            and self.keep_alive
            and self.scope["method"] != "HEAD"
        )


def _head(status: int, headers: Headers) -> bytes:
    lines = b"\r\n".join([b": ".join(header) for header in headers])
    if len(lines.splitlines()) != len(headers):
        raise RuntimeError("a header has a line break")
    return STATUS_LINE[status] + lines + b"\r\n\r\n"


class _LaterWrites:
    """A transport that writes at the end of the event loop's turn.

    The writes of all connections then follow one another, and a client that they wake does not
    take the processor from the requests that were to be answered in the same turn.
    """

    _unwritten: ClassVar[list[tuple[asyncio.Transport, bytes]]] = []
    """The writes of all connections; one call at the end of the turn makes them."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._call_soon = loop.call_soon
        # Called for every request, so it does not go through __getattr__.
        self.is_closing = transport.is_closing

    def write(self, data: bytes) -> None:
        if not self._unwritten:
            self._call_soon(self.write_all)
        self._unwritten.append((self._transport, data))

    def close(self) -> None:
        self.write_all()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    @classmethod
    def write_all(cls) -> None:
        """Make the writes of all connections now, except of those that were lost meanwhile.

        Such a one has an answer where its client has sent several requests and left.
        """
        unwritten, cls._unwritten = cls._unwritten, []
        for transport, data in unwritten:
            # A lost one refuses writes, and those of all others would wait behind it for ever.
            if not transport.is_closing():
                transport.write(data)
