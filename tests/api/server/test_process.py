"""The process of a server: one per home and port, and its end."""

import json
import resource
import signal
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from candlestep.api.server.process import raise_file_limit
from candlestep.data.store.database import FILE_NAME
from tests.support.api_client import (
    BACKTEST,
    Api,
    finished,
    sample_home,
)
from tests.support.command_line import candlestep
from tests.support.patience import PATIENCE
from tests.support.raw_http import request_bytes
from tests.support.server_process import RunningServer, running

JOB = {
    "template_id": "tpl_breakout",
    "params": {"lookback": 20},
    "symbols": ["BTCUSDT"],
    "timeframe": "1h",
    "start": "2025-01-10T00:00:00Z",
    "end": "2025-01-20T00:00:00Z",
    "capital": "10000",
}


def test_a_second_server_on_the_home_is_refused(server: RunningServer, api: Api) -> None:
    second = subprocess.run(
        [
            sys.executable,
            "-m",
            "candlestep.api",
            "serve",
            "--home",
            str(server.home),
            "--port",
            "0",
        ],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (second.returncode, second.stdout) == (1, "")
    assert f"in use by process {server.process.pid}" in second.stderr
    assert "Traceback" not in second.stderr
    api.get("/health")
    assert json.loads((server.home / "server.json").read_text())["pid"] == server.process.pid


def test_all_that_a_server_writes_is_for_its_user_alone(tmp_path: Path) -> None:
    """A store, a journal and the files of a run, under the widest umask; an older home too."""
    home = sample_home(tmp_path / "home")
    home.chmod(0o755)
    (home / FILE_NAME).chmod(0o644)
    with running(home, umask=0) as server, server.client() as client:
        api = Api(client)
        api.step(api.started(), 10)
        assert finished(api, api.post(f"{BACKTEST}/jobs", JOB)["id"])["status"] == "done"
        paths = [path for path in (home, *home.rglob("*")) if path.name != "server.log"]
        wide = [str(path) for path in paths if path.lstat().st_mode & 0o077]
        assert {"journals", "results", "server.json"} <= {path.name for path in paths}
        assert wide == []
    assert "home_narrowed" in (home / "server.log").read_text()
    listed = candlestep("keys", "list", "--home", home)
    assert listed.err == ""
    home.chmod(0o750)
    assert "was open to other users" in candlestep("keys", "list", "--home", home).err


def test_a_port_that_is_taken_is_refused(server: RunningServer, tmp_path: Path) -> None:
    port = str(urlsplit(server.url).port)
    done = candlestep("serve", "--home", tmp_path, "--port", port)
    assert (done.code, done.out) == (1, "")
    assert "cannot listen" in done.err


def test_an_interrupted_server_ends_as_a_stopped_one(tmp_path: Path) -> None:
    server = RunningServer(sample_home(tmp_path))
    with server.client() as client:
        session_id = Api(client).started()
    server.process.send_signal(signal.SIGINT)
    assert server.stop() == 0
    log = (tmp_path / "server.log").read_text()
    assert all(json.loads(line) for line in log.splitlines()), "every line is an event"
    assert not (tmp_path / "server.json").exists()
    assert (tmp_path / FILE_NAME).exists()
    with running(tmp_path) as again, again.client() as client:
        assert Api(client).read(session_id, "status")["status"] == "running"


def test_a_client_that_says_nothing_does_not_hold_up_the_end(tmp_path: Path) -> None:
    with running(sample_home(tmp_path)) as server, server.client() as client:
        api = Api(client)
        session_id = api.started()
        address = urlsplit(server.url)
        part = request_bytes("POST", f"{BACKTEST}/{session_id}/step/batch", b'{"steps": 5}')[:-3]
        with closing(socket.create_connection((address.hostname, address.port), PATIENCE)) as idle:
            idle.sendall(part)
            api.step(session_id)
            assert server.stop() == 0
    with running(tmp_path) as server, server.client() as client:
        status = Api(client).read(session_id, "status")
        assert (status["status"], status["current_step"]) == ("running", 1)


def test_a_limit_of_files_that_cannot_be_raised_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS, which says that there is none, and refuses more than it allows a process."""

    def refuse(*_: object) -> None:
        raise ValueError("current limit exceeds maximum limit")

    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, resource.RLIM_INFINITY))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    assert raise_file_limit() == 256


_SERVER_THAT_WAITS = """
import asyncio, sys
from candlestep.api.server import process
from candlestep.api.sessions.host import SessionHost
from candlestep.api.settings import Settings

class WaitingHost(SessionHost):
    async def record(self, ref):
        print("waiting", flush=True)
        await asyncio.sleep(3600)

process._SHUTDOWN_SECONDS = 1
process.serve(Settings.from_environment(home=sys.argv[1], port="0"), WaitingHost)
"""


def test_a_request_that_the_server_does_not_wait_for_is_told_so(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _SERVER_THAT_WAITS, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        address = urlsplit(process.stdout.readline().split()[2]).netloc.split(":")
        with socket.create_connection((address[0], int(address[1])), timeout=PATIENCE) as client:
            client.sendall(b"GET /api/v1/backtest/x/status HTTP/1.1\r\nHost: localhost\r\n\r\n")
            while process.stdout.readline() != "waiting\n":
                assert process.poll() is None
            process.terminate()
            with client.makefile("rb") as received:
                answer = received.read()
        _, err = process.communicate(timeout=PATIENCE)
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"has not waited for this request" in answer
    assert (process.returncode, "Traceback" in err) == (0, False)
