"""HTTP as bytes, for requests that an HTTP client would refuse to send."""

import socket
from contextlib import closing
from urllib.parse import urlsplit

from tests.support.patience import PATIENCE
from tests.support.server_process import RunningServer


def raw(server: RunningServer, data: bytes) -> bytes:
    """Send bytes and return the answer, up to the end of the connection."""
    address = urlsplit(server.url)
    with closing(
        socket.create_connection((address.hostname, address.port), PATIENCE)
    ) as connection:
        connection.sendall(data)
        parts = []
        while part := connection.recv(65536):
            parts.append(part)
        return b"".join(parts)


def request_bytes(method: str, path: str, body: bytes = b"", *headers: str) -> bytes:
    """Return a request whose answer ends the connection."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close", *headers]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body
