"""The connection over which a bot's process steps its session; see ``sitecustomize.py``."""

from __future__ import annotations

import hmac
import http.client
import json
import socket
import ssl
import time
from itertools import count
from typing import BinaryIO
from urllib.parse import urlencode, urlsplit

_TRIES = 5
_TIMEOUT = 300
_PORTS = {"http": 80, "https": 443}

_real_sleep = time.sleep


class Control:
    """The connection over which the session is stepped.

    Every sleep of a bot waits for it, so it is a socket with a request that is made beforehand:
    ``http.client`` takes several times as long.
    """

    def __init__(self, settings: dict[str, object]) -> None:
        address = urlsplit(str(settings["control_url"]))
        self._secret = str(settings["api_secret"]).encode()
        self._holder = urlencode({"holder": settings["holder"]})
        self._host = address.hostname or "localhost"
        self._port = address.port or _PORTS[address.scheme]
        self._ssl = ssl.create_default_context() if address.scheme == "https" else None
        self._start = f"POST {address.path}/advance?"
        self._end = (
            f" HTTP/1.1\r\nHost: {address.netloc}\r\nX-MBX-APIKEY: {settings['api_key']}\r\n"
            "Content-Length: 0\r\n\r\n"
        )
        self._socket: socket.socket | None = None
        self._answers: BinaryIO

    def reaches(self, connection: http.client.HTTPConnection) -> bool:
        """Return whether a connection of the bot leads to the server of the session too."""
        return (connection.host, connection.port) == (self._host, self._port)

    def advance(self, to: int) -> dict[str, object]:
        """Step to a time in ms; it may be sent again, so a lost connection does no harm."""
        text = f"to={to}&{self._holder}&timestamp={to}"
        signature = hmac.digest(self._secret, text.encode(), "sha256").hex()
        status, body = self._post(f"{self._start}{text}&signature={signature}{self._end}".encode())
        if status != http.client.OK:
            raise RuntimeError(f"candlestep drive: the session cannot be stepped: {body.decode()}")
        state: dict[str, object] = json.loads(body)
        return state

    def _post(self, request: bytes) -> tuple[int, bytes]:
        for attempt in count(1):
            try:
                connected = self._socket or self._connect()
                connected.sendall(request)
                return self._answer()
            except (OSError, ValueError):
                self._close()
                if attempt == _TRIES:
                    raise
                _real_sleep(0.1 * attempt)
        raise AssertionError("never reached")

    def _connect(self) -> socket.socket:
        connected = socket.create_connection((self._host, self._port), _TIMEOUT)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._ssl is not None:
            connected = self._ssl.wrap_socket(connected, server_hostname=self._host)
        self._socket, self._answers = connected, connected.makefile("rb")
        return connected

    def _close(self) -> None:
        connected, self._socket = self._socket, None
        if connected is not None:
            self._answers.close()
            connected.close()

    def _answer(self) -> tuple[int, bytes]:
        """Read an answer; raise ``OSError`` or ``ValueError`` if it is none."""
        line = self._answers.readline()
        if not line.startswith(b"HTTP/1.1 "):
            raise ConnectionResetError("the connection was lost")
        status = int(line[9:12])
        headers = {}
        while line := self._answers.readline().strip():
            name, _, value = line.partition(b":")
            headers[name.lower()] = value.strip()
        body = b""
        if b"chunked" in headers.get(b"transfer-encoding", b""):
            while size := int(self._answers.readline(), 16):
                body += self._read(size)
                self._answers.readline()
            self._answers.readline()
        else:
            body = self._read(int(headers.get(b"content-length", b"")))
        if headers.get(b"connection") == b"close":
            self._close()
        return status, body

    def _read(self, size: int) -> bytes:
        body = self._answers.read(size)
        if len(body) < size:
            raise ConnectionResetError("the connection was lost")
        return body
