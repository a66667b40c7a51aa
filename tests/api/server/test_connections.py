"""Connections that keep the server waiting are closed, and no others."""

import asyncio
import json
import re
import socket
import struct
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import uvicorn
from uvicorn.server import ServerState

from candlestep.api.server.uvicorn_protocol import BoundedProtocol, ConnectionLimits, Connections
from tests.support.api_client import BACKTEST, DAY, Api, sample_home
from tests.support.patience import PATIENCE
from tests.support.raw_http import request_bytes
from tests.support.server_process import RunningServer, running

LIMITS = (
    "--head-seconds", "2", "--body-seconds", "2", "--keep-alive-seconds", "2",
    "--max-connections", "30",
)  # fmt: skip
STEP = b'{"steps": 5}'
STATUS = re.compile(rb"HTTP/1.1 ([0-9]+) ")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running(sample_home(tmp_path_factory.mktemp("connections") / "home"), *LIMITS) as server:
        yield server


def connect(server: RunningServer) -> "closing[socket.socket]":
    address = urlsplit(server.url)
    return closing(socket.create_connection((address.hostname, address.port), PATIENCE))


def kept(request: bytes) -> bytes:
    """Return a request whose answer does not end the connection."""
    return request.replace(b"Connection: close\r\n", b"")


def read_to_end(connection: socket.socket) -> bytes:
    """Return what the server sends until it closes a connection."""
    parts = []
    while part := connection.recv(65_536):
        parts.append(part)
    return b"".join(parts)


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
    began = time.monotonic()
    with connect(server) as connection:
        connection.sendall(sent)
        read_to_end(connection)
    assert time.monotonic() - began > 2, "not before"


@pytest.mark.parametrize("is_kept", [False, True])
def test_a_client_that_has_closed_its_side_gets_its_answer(
    server: RunningServer, is_kept: bool
) -> None:
    """Whether it wants the connection to be kept or not."""
    with server.client() as client:
        session_id = Api(client).started()
    request = request_bytes("POST", f"{BACKTEST}/{session_id}/step/batch", STEP)
    if is_kept:
        request = kept(request)
    for number in range(1, 6):
        with connect(server) as connection:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            answer = read_to_end(connection)
            assert b'"step":%d,' % (5 * number) in answer
            assert is_kept or b"connection: close" in answer
    with server.client() as client:
        assert Api(client).read(session_id, "status")["current_step"] == 25


def test_more_connections_than_allowed_do_not_keep_others_out(server: RunningServer) -> None:
    with ExitStack() as stack:
        idle = [stack.enter_context(connect(server)) for _ in range(40)]
        with server.client() as client:
            assert client.get("/health").status_code == 200
        assert [read_to_end(connection) for connection in idle[:10]] == [b""] * 10


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


def test_a_client_that_leaves_before_its_answers_holds_up_no_others(server: RunningServer) -> None:
    """It has sent two requests at once, and resets the connection while the first is answered."""
    create = request_bytes("POST", f"{BACKTEST}/create", json.dumps(DAY).encode())
    two = kept(create) + request_bytes("GET", "/health")
    for _ in range(10):
        with connect(server) as leaving:
            leaving.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            leaving.sendall(two)
        with server.client() as client:
            assert client.get("/health").status_code == 200


def test_a_client_that_does_not_read_its_answers_is_cut_off(server: RunningServer) -> None:
    """Its connection and what it does not read would stay in memory for ever."""
    document = kept(request_bytes("GET", "/openapi.json"))
    with connect(server) as connection:
        connection.sendall(30 * document)
        for _ in range(3):
            # Silent ones have as much time, and the server looks every second.
            with connect(server) as silent:
                read_to_end(silent)
        read = 0
        with suppress(ConnectionResetError):
            while part := connection.recv(1 << 20):
                read += len(part)
        with server.client() as client:
            assert read < 30 * len(client.get("/openapi.json").content)


@pytest.mark.parametrize(
    "malformed",
    [
        b"garbage\r\n\r\n",
        request_bytes("POST", f"{BACKTEST}/create", b"", "Transfer-Encoding: chunked")
        + b"no size\r\n",
    ],
    ids=["head", "body"],
)
def test_malformed_http_is_answered_after_the_requests_before_it(
    server: RunningServer, malformed: bytes
) -> None:
    """They are done, and their client would take the error for their answer."""
    create = request_bytes("POST", f"{BACKTEST}/create", json.dumps(DAY).encode())
    with connect(server) as connection:
        connection.sendall(2 * kept(create) + malformed)
        answers = read_to_end(connection)
    assert STATUS.findall(answers) == [b"200", b"200", b"400"]
    assert b"connection: close" in answers


def test_requests_after_one_for_another_protocol_are_answered(server: RunningServer) -> None:
    upgrade = request_bytes("GET", "/health", b"", "Connection: Upgrade", "Upgrade: h2c")
    with connect(server) as connection:
        connection.sendall(3 * kept(upgrade) + request_bytes("GET", "/nowhere"))
        assert STATUS.findall(read_to_end(connection)) == [b"200", b"200", b"200", b"404"]


@pytest.mark.parametrize("is_split", [False, True])
def test_a_request_for_another_protocol_has_its_body(server: RunningServer, is_split: bool) -> None:
    """Clients that would rather speak HTTP/2, such as Java's, ask for it with every request."""
    with server.client() as client, connect(server) as connection:
        session_id = Api(client).started()
        path = f"{BACKTEST}/{session_id}/step/batch"
        step = kept(request_bytes("POST", path, STEP, "Connection: Upgrade", "Upgrade: h2c"))
        parts = [step[:-5], step[-5:]] if is_split else [step]
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for part in 2 * parts:
            connection.sendall(part)
            # Once another client has its answer, the server has read this part.
            assert client.get("/health").status_code == 200
        connection.sendall(b"CONNECT localhost:80 HTTP/1.1\r\n\r\n")
        answers = read_to_end(connection)
    assert STATUS.findall(answers) == [b"200", b"200", b"400"]
    assert b'"step":10,' in answers


def test_a_server_stops_without_a_client_that_takes_no_answers(tmp_path: Path) -> None:
    document = request_bytes("GET", "/openapi.json")
    with running(sample_home(tmp_path / "home")) as server, ExitStack() as stack:
        for last in (document, request_bytes("HEAD", "/openapi.json")):
            stack.enter_context(connect(server)).sendall(30 * kept(document) + last)
        with server.client() as client:
            assert client.get("/health").status_code == 200
        assert server.stop() == 0
    assert "Traceback" not in (tmp_path / "home" / "server.log").read_text()


class Wire(asyncio.Transport):
    """A connection without a network, which knows whether it has been closed."""

    def __init__(self, protocol: BoundedProtocol) -> None:
        super().__init__()
        self.is_closed = False
        self.untaken = 0
        """The bytes that the client has not taken."""
        self.written = b""
        self.most_waiting = 0
        """The requests that waited for others when the server went on to read."""
        self._protocol = protocol
        protocol.connection_made(self)

    @property
    def waiting(self) -> int:
        """The requests that wait for others."""
        return len(self._protocol.pipeline)

    def receive(self, data: bytes) -> None:
        self._protocol.data_received(data)

    def write(self, data: Any) -> None:
        if self.is_closed:
            raise RuntimeError("the handler is closed")
        self.written += data

    def get_write_buffer_size(self) -> int:
        return self.untaken

    def close(self) -> None:
        if not self.untaken:
            self.abort()

    def abort(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            self._protocol.connection_lost(None)

    def is_closing(self) -> bool:
        return self.is_closed

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        self.most_waiting = max(self.most_waiting, self.waiting)


class Server:
    """The connections of a server whose clock a test sets, and which answers at the end."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self.now = 0.0
        asyncio.get_running_loop().time = lambda: self.now  # type: ignore[method-assign]
        self._connections = Connections(limits)
        self._config = uvicorn.Config(self._answer, interface="asgi3", log_config=None)
        self._config.load()
        self._is_over = asyncio.Event()

    def connect(self) -> Wire:
        return Wire(
            self._connections.new_protocol(
                config=self._config, server_state=ServerState(), app_state={}
            )
        )

    async def later(self, seconds: float) -> None:
        """Let time pass, and the server look at its connections."""
        await asyncio.sleep(0)
        self.now += seconds
        self._connections.close_late_ones()

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        await self._is_over.wait()
        headers = [(b"content-length", b"2")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"{}"})

    async def end(self) -> None:
        """Let the answers that have begun end."""
        self._is_over.set()
        for _ in range(3):
            await asyncio.sleep(0)


def on_a_set_clock(check: Callable[[Server], Awaitable[None]]) -> None:
    """Run a check on at most 30 connections: 10 s for a head, 20 for a body, 30 without a request."""

    async def run() -> None:
        server = Server(ConnectionLimits(30, 10, 20, 30))
        try:
            await check(server)
        finally:
            await server.end()

    asyncio.run(run())


BODY = b'{"steps" :5}'
REQUEST = request_bytes("POST", f"{BACKTEST}/bt_1/step/batch", BODY)
HEAD = REQUEST[: -len(BODY)]


def test_a_head_has_its_time_from_the_first_byte() -> None:
    async def check(server: Server) -> None:
        wire = server.connect()
        await server.later(29)
        for byte in HEAD[:20]:
            assert not wire.is_closed
            wire.receive(bytes([byte]))
            await server.later(0.5)
        await server.later(0.5)
        assert wire.is_closed

    on_a_set_clock(check)


def test_a_body_has_its_time_from_the_last_byte_and_an_answer_any_time() -> None:
    async def check(server: Server) -> None:
        slow, silent = server.connect(), server.connect()
        for wire in (slow, silent):
            wire.receive(HEAD)
        for byte in BODY:
            await server.later(19)
            assert not slow.is_closed
            slow.receive(bytes([byte]))
        assert silent.is_closed
        await server.later(100_000)
        assert not slow.is_closed

    on_a_set_clock(check)


def test_what_follows_a_body_is_bounded() -> None:
    """The parser keeps trailers in memory, however many there are."""

    async def check(server: Server) -> None:
        head = request_bytes("POST", f"{BACKTEST}/create", b"", "Transfer-Encoding: chunked")
        short, endless, long = (server.connect() for _ in range(3))
        for wire in (short, endless, long):
            wire.receive(head + b"1\r\n{\r\n")
        short.receive(b"0\r\n" + b"name: value\r\n" * 1000)
        short.receive(b"\r\n")
        endless.receive(b"0\r\n")
        for _ in range(20):
            long.receive(b"1000\r\n" + b" " * 0x1000 + b"\r\n")
            if not endless.is_closed:
                endless.receive(b"name: " + b"v" * 5000 + b"\r\n")
        assert [wire.is_closed for wire in (short, endless, long)] == [False, True, False]

    on_a_set_clock(check)


def test_an_answer_has_its_time_from_the_last_byte_that_was_taken() -> None:
    async def check(server: Server) -> None:
        slow, stuck = server.connect(), server.connect()
        for wire in (slow, stuck):
            wire.receive(REQUEST)
            wire.untaken = 1000
        for _ in range(40):
            assert not slow.is_closed
            slow.untaken -= 1
            await server.later(1)
        assert stuck.is_closed

    on_a_set_clock(check)


def test_an_answer_to_a_lost_connection_keeps_none_from_others() -> None:
    async def check(server: Server) -> None:
        lost, other = server.connect(), server.connect()
        lost.receive(2 * kept(REQUEST))
        other.receive(REQUEST)
        await server.later(1)
        lost.abort()
        await server.end()
        assert other.written.startswith(b"HTTP/1.1 200 ")

    on_a_set_clock(check)


def test_the_bound_of_a_head_is_not_that_of_the_requests_before_it() -> None:
    async def check(server: Server) -> None:
        several, after_body, long = (server.connect() for _ in range(3))
        several.receive(1000 * kept(REQUEST) + REQUEST[:10])
        after_body.receive(HEAD.replace(b": 12\r", b": 99999\r") + b" " * 9)
        after_body.receive(b" " * 99990 + REQUEST[:10])
        long.receive(REQUEST[:10])
        await server.later(0)
        assert not any(wire.is_closed for wire in (several, after_body, long))
        for wire in (several, after_body, long):
            wire.receive(b"x" * 70_000)
        await server.later(0)
        assert b"the headers are too long" in long.written
        assert not several.written, "before the answers to the requests that were complete"

    on_a_set_clock(check)


def test_nothing_is_read_while_requests_wait_for_others() -> None:
    """With each answer, a client could have any number of requests more in memory."""

    async def check(server: Server) -> None:
        wire = server.connect()
        wire.receive(3 * kept(REQUEST))
        await server.end()
        assert wire.written.count(b"HTTP/1.1 200 ") > 1
        assert wire.most_waiting == 0

    on_a_set_clock(check)


def test_few_requests_are_parsed_while_others_wait() -> None:
    """Thousands that arrive at once would hold up everyone, and fill the memory."""

    async def check(server: Server) -> None:
        wire = server.connect()
        wire.receive(1000 * kept(REQUEST) + b"garbage\r\n\r\n")
        assert wire.waiting < 100
        await server.end()
        while not wire.is_closed:
            assert wire.waiting < 100
            await asyncio.sleep(0)
        assert STATUS.findall(wire.written) == [b"200"] * 1000 + [b"400"]
        assert wire.most_waiting == 0

    on_a_set_clock(check)


def test_when_there_are_too_many_the_longest_idle_are_closed() -> None:
    async def check(server: Server) -> None:
        answered = server.connect()
        answered.receive(REQUEST)
        idle = []
        for _ in range(40):
            await server.later(0.1)
            idle.append(server.connect())
        assert [wire.is_closed for wire in idle] == [True] * 11 + [False] * 29
        assert not answered.is_closed

    on_a_set_clock(check)
