"""Replays against servers that do not answer for the session: these are no differences."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from candlestep.api.errors import RefusedByServer
from candlestep.api.replay.remote_target import remote_session
from candlestep.data.journal.records import OrderRecord, Start
from tests.support.api_client import DAY, UNKNOWN_SESSION, make_key, sample_home
from tests.support.command_line import candlestep
from tests.support.project import ROOT
from tests.support.server_process import running

GOLDEN = ROOT / "examples" / "recorded_orders.jsonl"


@contextmanager
def other_server(body: bytes) -> Iterator[str]:
    """Run a server that answers every request with success and this body; yield its URL."""

    class Answers(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"] or 0))
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_DELETE = do_POST

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("body", [b"<html>\xff</html>", b'{"id": 1}', b'{"agent_id": "1"}'])
def test_another_server_is_no_difference(body: bytes) -> None:
    with other_server(body) as url:
        done = candlestep("replay", GOLDEN, "--url", url)
    assert (done.code, done.out) == (3, "")
    assert "an answer that is not Candlestep's" in done.err


def test_other_commands_that_name_a_server_say_so_too() -> None:
    with other_server(b"<html>\xff</html>") as url:
        done = candlestep("dialect", UNKNOWN_SESSION, "--url", url)
    assert (done.code, done.out) == (1, "")
    assert "an answer that is not Candlestep's" in done.err


def test_a_key_that_is_revoked_meanwhile_is_no_difference(tmp_path: Path) -> None:
    home = sample_home(tmp_path)
    key = make_key(home, "ann")
    start = Start(config=DAY | {"starting_balance": "10000"}, pairs=["BTCUSDT"])
    order = OrderRecord(order={"symbol": "BTCUSDT", "side": "buy", "quantity": "0.01"})
    listed = candlestep("keys", "list", "--home", home).out.split()
    [key_id] = [word for word in listed if word.startswith("key_")]
    with running(home) as server, remote_session(server.url, key, start) as target:
        assert target.play(order).status == 201
        assert candlestep("keys", "revoke", key_id, "--home", home).code == 0
        with pytest.raises(RefusedByServer, match="401"):
            target.play(order)


def test_a_key_is_for_a_server(tmp_path: Path) -> None:
    done = candlestep("replay", GOLDEN, "--key", "ak_x", "--home", tmp_path)
    assert (done.code, done.out) == (2, "")
    assert "--key is for the server that --url names" in done.err


def test_an_error_that_nobody_foresaw_is_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(error: int) -> None:
        raise ArithmeticError("unforeseen")

    with other_server(b"{}") as url:
        monkeypatch.setattr(RefusedByServer, "of_foreign_answer", fail)
        done = candlestep("replay", GOLDEN, "--url", url)
    assert done.code == 3
    assert "Traceback" in done.err


def test_a_server_on_this_machine_is_not_asked_through_a_proxy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with other_server(b"{}") as url:
        done = candlestep("replay", GOLDEN, "--url", url)
    assert "an answer that is not Candlestep's" in done.err
