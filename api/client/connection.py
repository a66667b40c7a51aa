"""One HTTP connection that is kept open, and the requests that may be sent on it again."""

import socket
import ssl
import time
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import SplitResult, urlsplit

from candlestep.api.client.refusals import refusal
from candlestep.sandbox import InvalidParameter, SandboxError

_CHUNK = 65536
_LONGEST_HEAD = 65536
_FIRST_PAUSE = 0.02
_LONGEST_PAUSE = 1.0
_PORTS = {"http": 80, "https": 443}


class ConnectionLost(SandboxError):
    """A server that cannot be reached, or has not answered.

    Whether the last command was carried out is not known. Sent again through the same session, it
    is not carried out twice.
    """

    code = "CONNECTION_LOST"


class UnsupportedAnswer(SandboxError):
    """An answer that is not plain HTTP/1.1 with a length, such as a proxy may make of it."""

    code = "UNSUPPORTED_ANSWER"


class Answer(NamedTuple):
    """The status and the body of an answer."""

    status: int
    body: bytes


class Connection:
    """A connection to a server, opened when it is first used and again after it was lost.

    It belongs to one thread.
    """

    def __init__(
        self,
        url: str,
        key: str | None,
        *,
        timeout: float,
        retry_seconds: float,
        ssl_context: ssl.SSLContext | None,
    ) -> None:
        parts = _split(url)
        self.url = url
        self.prefix = parts.path.rstrip("/")
        self._timeout, self._retry_seconds = timeout, retry_seconds
        self._host = parts.hostname or ""
        self._port = parts.port or _PORTS[parts.scheme]
        self._ssl: ssl.SSLContext | None = None
        if parts.scheme == "https":
            self._ssl = ssl_context or ssl.create_default_context()
        self._socket: socket.socket | None = None
        self._headers = b"Host: %s\r\n%s" % (
            parts.netloc.encode("ascii"),
            b"" if not key else b"X-API-Key: %s\r\n" % _visible("key", key),
        )

    def prepare(
        self, method: str, path: str, body: bytes | None = None, key: str | None = None
    ) -> bytes:
        """Return the bytes of a request; ``key`` is its Idempotency-Key."""
        start = f"{method} {self.prefix}{path} HTTP/1.1\r\n".encode("ascii")
        key_line = b"" if key is None else b"Idempotency-Key: %s\r\n" % key.encode("ascii")
        if body is None:
            length = b"Content-Length: 0\r\n" if method == "POST" else b""
            return start + self._headers + key_line + length + b"\r\n"
        kind = b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        return start + self._headers + key_line + kind + body

    def exchange(self, request: bytes) -> Answer:
        """Send a request once, and return its answer; raise ``ConnectionLost``."""
        try:
            connected = self._socket or self._open()
            connected.sendall(request)
            return self._receive(connected)
        except OSError as error:
            self.close()
            raise ConnectionLost(
                f"the connection to {self.url} was lost: {error}; `candlestep serve` starts a server"
            ) from None

    def repeat(self, request: bytes) -> bytes:
        """Send a request until it is answered; return the body of a success, or raise the refusal.

        It must be one that may be sent again: a read, or one with a key. Raises ``ConnectionLost``
        after the seconds for which it is tried.
        """
        until, pause = time.monotonic() + self._retry_seconds, _FIRST_PAUSE
        while True:
            try:
                answer = self.exchange(request)
            except ConnectionLost:
                if time.monotonic() + pause > until:
                    raise
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
                continue
            return success(answer)

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        connected, self._socket = self._socket, None
        if connected is not None:
            connected.close()

    def _open(self) -> socket.socket:
        plain = socket.create_connection((self._host, self._port), self._timeout)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connected = plain
        if self._ssl is not None:
            connected = self._ssl.wrap_socket(plain, server_hostname=self._host)
        self._socket = connected
        return connected

    def _receive(self, connected: socket.socket) -> Answer:
        """Read one answer; raise ``ConnectionResetError`` if the connection ends before its end."""
        data = _more(connected)
        while (end := data.find(b"\r\n\r\n")) < 0:
            if len(data) > _LONGEST_HEAD:
                raise self._unsupported("its head does not end")
            data += _more(connected)
        head = data[:end].lower()
        status = head[9:12]
        if not head.startswith(b"http/1.1 ") or not status.isdigit():
            raise self._unsupported("it does not speak HTTP/1.1")
        body = data[end + 4 :]
        missing = self._length(head) - len(body)
        if missing > 0:
            parts = [body]
            while missing > 0:
                parts.append(_more(connected))
                missing -= len(parts[-1])
            body = b"".join(parts)
        if missing < 0:
            raise self._unsupported("it answers more than was asked")
        if b"\r\nconnection: close" in head:
            self.close()
        return Answer(int(status), body)

    def _length(self, head: bytes) -> int:
        _, found, rest = head.partition(b"\r\ncontent-length:")
        length = rest.partition(b"\r\n")[0].strip()
        if not found or not length.isdigit():
            raise self._unsupported(
                "it sends no Content-Length (chunked and compressed answers are not supported;"
                " have a proxy pass answers on as they are)"
            )
        if b"\r\ncontent-encoding:" in head:
            raise self._unsupported("it compresses its answers, which is not supported")
        return int(length)

    def _unsupported(self, problem: str) -> UnsupportedAnswer:
        self.close()
        return UnsupportedAnswer(f"the server at {self.url} cannot be used: {problem}")


def success(answer: Answer) -> bytes:
    """Return the body of a success; raise what any other answer tells."""
    if answer.status >= 300:
        raise refusal(answer.status, answer.body)
    return answer.body


def query(path: str, parameters: Mapping[str, Any]) -> str:
    """Return a path with those parameters that are not None."""
    pairs = [f"{name}={value}" for name, value in parameters.items() if value is not None]
    return f"{path}?{'&'.join(pairs)}" if pairs else path


def _more(connected: socket.socket) -> bytes:
    data = connected.recv(_CHUNK)
    if not data:
        raise ConnectionResetError("the server closed it")
    return data


def _split(url: str) -> SplitResult:
    """Return the parts of the URL of a server; raise ``InvalidParameter``."""
    try:
        parts = urlsplit(url)
        is_port = parts.port is None or parts.port > 0
    except ValueError as error:
        raise InvalidParameter("url", f"is not a URL: {error}") from None
    if parts.scheme not in _PORTS or not parts.hostname or not is_port:
        raise InvalidParameter("url", "must be such as http://127.0.0.1:8000 or https://host")
    if parts.username is not None or parts.query or parts.fragment:
        raise InvalidParameter(
            "url", "must have no user, query or fragment; pass a key as the argument `key`"
        )
    _visible("url", url)
    return parts


def _visible(field: str, text: str) -> bytes:
    """Return a text of visible characters of ASCII, which can stand in a header."""
    if not text.isascii() or not text.isprintable() or " " in text:
        raise InvalidParameter(field, "must be visible characters of ASCII")
    return text.encode("ascii")
