"""Connections that keep the server waiting are closed, and no others."""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.api_client import BACKTEST, Api, sample_home
from tests.support.raw_http import request_bytes
from tests.support.server_process import RunningServer, running

LIMITS = (
    "--head-seconds", "2", "--body-seconds", "2", "--keep-alive-seconds", "2",
    "--max-connections", "30",
)  # fmt: skip
STEP = b'{"steps": 5}'


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running(sample_home(tmp_path_factory.mktemp("connections") / "home"), *LIMITS) as server:
        yield server


def connect(server: RunningServer) -> "closing[socket.socket]":
    address = urlsplit(server.url)
    return closing(socket.create_connection((address.hostname, address.port), 20))


def seconds_until_closed(connection: socket.socket) -> float:
    """Return after how many seconds the server closes a connection, whatever it sends before."""
    start = time.monotonic()
    while connection.recv(65_536):
        pass
    return time.monotonic() - start


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET /health HTTP/1.1\r\nHost: x",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n",
        request_bytes("POST", f"{BACKTEST}/bt_1/step/batch", STEP)[:-3],
    ],
    ids=["nothing", "half a head", "a request and then nothing", "half a body"],
)
def test_a_silent_connection_is_closed_after_its_time(server: RunningServer, sent: bytes) -> None:
    with connect(server) as connection:
        connection.sendall(sent)
        assert 1 < seconds_until_closed(connection) < 15


def test_a_head_has_its_time_from_the_first_byte_and_a_body_from_the_last(
    server: RunningServer,
) -> None:
    """Both are sent byte by byte, one every half second, for longer than the limit."""
    with server.client() as client:
        session_id = Api(client).started()
    body = b'{"steps" :5}'
    path = f"{BACKTEST}/{session_id}/step/batch"
    head = request_bytes("POST", path, body)[: -len(body)]
    with connect(server) as connection:
        assert any(sent_and_closed(connection, byte) for byte in head[:30])
    with connect(server) as connection:
        connection.sendall(head)
        assert not any(sent_and_closed(connection, byte) for byte in body[:-1])
        connection.sendall(body[-1:])
        assert connection.recv(65_536).startswith(b"HTTP/1.1 200 OK")


def sent_and_closed(connection: socket.socket, byte: int) -> bool:
    """Send a byte, and return whether the connection is closed within half a second."""
    connection.sendall(bytes([byte]))
    connection.settimeout(0.5)
    try:
        return connection.recv(1) == b""
    except TimeoutError:
        return False
    finally:
        connection.settimeout(20)


def test_a_client_that_has_closed_its_side_gets_its_answer(server: RunningServer) -> None:
    with server.client() as client:
        session_id = Api(client).started()
    with connect(server) as connection:
        request = request_bytes("POST", f"{BACKTEST}/{session_id}/step/batch", STEP)
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while part := connection.recv(65_536):
            answer += part
        assert b'"step":5,' in answer
        assert b"connection: close" in answer
    with server.client() as client:
        assert Api(client).read(session_id, "status")["current_step"] == 5


def test_when_there_are_too_many_the_longest_idle_is_closed(server: RunningServer) -> None:
    with ExitStack() as stack:
        idle = [stack.enter_context(connect(server)) for _ in range(40)]
        with server.client() as client:
            assert client.get("/health").status_code == 200
        assert [seconds_until_closed(connection) < 1.5 for connection in idle[:10]] == [True] * 10


def test_slow_ones_do_not_hold_up_others(tmp_path: Path) -> None:
    with (
        running(sample_home(tmp_path / "home")) as server,
        server.client() as client,
        ExitStack() as stack,
    ):
        api = Api(client)
        session_id = api.started()
        for _ in range(300):
            stack.enter_context(connect(server)).sendall(b"GET /hea")
        for step in range(1, 200):
            assert api.step(session_id)["step"] == step
