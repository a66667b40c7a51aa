"""uvicorn's HTTP protocol, with answers in one write, bounded heads and errors of our shape."""

import asyncio
import secrets
from typing import Any, ClassVar

import msgspec
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from candlestep.api.errors import InvalidRequest
from candlestep.api.http.error_body import error_body

_MAX_HEAD_BYTES = 64 * 1024
"""The bytes of a request line and headers that are still incomplete."""


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with three differences.

    It bounds headers; it answers malformed HTTP with a JSON error, not with plain text; and it
    sends everything written to a connection in one turn of the event loop together. uvicorn writes
    the head and the body of an answer separately, and each write costs as much as the rest of a
    step.
    """

    _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        joined = _JoinedWrites(transport, self.loop)
        super().connection_made(joined)  # type: ignore[arg-type]

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is not None and self.cycle.scope is self.scope:
            self._head_bytes = 0
            return
        self._head_bytes += len(data)
        if self._head_bytes > _MAX_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("the headers are too long")

    def send_400_response(self, msg: str) -> None:
        request_id = f"req_{secrets.token_hex(7)}"
        body = msgspec.json.encode(error_body(InvalidRequest(msg), request_id))
        self.transport.write(
            b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\nx-request-id: %s\r\nconnection: close\r\n\r\n%s"
            % (len(body), request_id.encode(), body)
        )
        self.transport.close()


class _JoinedWrites:
    """A transport that waits for the end of the event loop's turn before it writes."""

    _unwritten: ClassVar["list[_JoinedWrites]"] = []
    """Those of all connections with something to write; one call at the end of the turn does it."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._call_soon = loop.call_soon
        self._parts: list[bytes] = []
        # Called for every request, so it does not go through __getattr__.
        self.is_closing = transport.is_closing

    def write(self, data: bytes) -> None:
        if not self._parts:
            if not self._unwritten:
                self._call_soon(self._write_all)
            self._unwritten.append(self)
        self._parts.append(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def _flush(self) -> None:
        if self._parts:
            self._transport.write(b"".join(self._parts))
            self._parts.clear()

    @classmethod
    def _write_all(cls) -> None:
        for transport in cls._unwritten:
            transport._flush()
        cls._unwritten.clear()
