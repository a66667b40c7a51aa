"""Commands on a home that a server runs on, or ran on: the server runs them for its user."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path

import httpx
import pytest

from candlestep import __version__
from candlestep.api.admin import running_server
from candlestep.data.store.database import FILE_NAME as STORE_NAME
from candlestep.data.store.server_file import SERVER_FILE, TOKEN_HEADER
from tests.support.api_client import sample_home, wait_for
from tests.support.candle_files import csv_text, rows, write
from tests.support.command_line import announced, candlestep, candlestep_process, listed
from tests.support.patience import PATIENCE
from tests.support.server_process import COMMAND, RunningServer, cpu_seconds, running


def test_a_command_says_the_same_alone_and_beside_a_server(tmp_path: Path) -> None:
    path = write(tmp_path / "BTCUSDT.csv", csv_text(rows(10)))
    bad = write(tmp_path / "ETHUSDT.csv", "timestamp,open,high,low,close\n2024-01-01,1,1,2,1\n")
    commands: list[list[object]] = [
        ["data", "list"],
        ["data", "import", path, bad],
        ["data", "import", path],
        ["data", "list"],
        ["data", "list", "--json"],
        ["data", "sample"],
        ["data", "drop-sample"],
        ["data", "remove", "BTCUSDT"],
        ["data", "remove", "BTCUSDT"],
        ["data", "prune"],
        ["keys", "list"],
        ["keys", "revoke", "none"],
        ["keys", "create", "x", "--agent", "none"],
    ]
    homes = [tmp_path / "alone", tmp_path / "served"]
    with running(homes[1]):
        runs = [
            [
                [text.replace(str(home), "HOME") for text in (str(run.code), run.out, run.err)]
                for run in (candlestep(*command, "--home", home) for command in commands)
            ]
            for home in homes
        ]
    assert runs[0] == runs[1]


def test_a_running_server_knows_at_once_what_a_command_changed(tmp_path: Path) -> None:
    path = write(tmp_path / "BTCUSDT.csv", csv_text(rows(10)))
    with running(tmp_path / "home") as server:
        assert data_range(server)["earliest"] is None
        candlestep("data", "import", path, "--home", server.home)
        assert data_range(server)["latest"] == "2024-01-01T00:09:59Z"

        candlestep("keys", "create", "first", "--home", server.home)
        with server.client() as client:
            for _ in range(5):
                key, key_id = create_key(server.home)
                headers = {"X-API-Key": key}
                assert client.get("/api/v1/agents", headers=headers).status_code == 200
                candlestep("keys", "revoke", key_id, "--home", server.home)
                assert client.get("/api/v1/agents", headers=headers).status_code == 401


def test_a_server_whose_last_key_is_revoked_stays_closed(tmp_path: Path) -> None:
    with running(tmp_path) as server, server.client() as client:
        assert client.get("/api/v1/agents").status_code == 200
        key, key_id = create_key(tmp_path)
        candlestep("keys", "revoke", key_id, "--home", tmp_path)
        for headers in ({}, {"X-API-Key": key}):
            assert client.get("/api/v1/agents", headers=headers).status_code == 401


def create_key(home: Path) -> tuple[str, str]:
    """Create a key and return it with its id."""
    key, key_id, *_ = candlestep("keys", "create", "k", "--home", home).out.splitlines()
    return key.split()[1], key_id.split()[1]


def data_range(server: RunningServer) -> dict[str, object]:
    answer = httpx.get(
        f"{server.url}/api/v1/market/data-range", trust_env=False, timeout=PATIENCE
    ).json()
    assert isinstance(answer, dict)
    return answer


def test_only_who_can_read_the_home_may_command_a_server(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        url = f"{server.url}/admin/data/list"
        key = candlestep("keys", "create", "k", "--home", tmp_path).out.split()[1]
        for headers in ({}, {TOKEN_HEADER: ""}, {TOKEN_HEADER: "x"}, {"X-API-Key": key}):
            answer = httpx.post(url, headers=headers, trust_env=False, timeout=PATIENCE)
            assert answer.status_code in (401, 403)
            assert answer.json()["code"] in ("UNAUTHORIZED", "FORBIDDEN")
        announcement = json.loads((tmp_path / SERVER_FILE).read_text())
        (tmp_path / SERVER_FILE).write_text(json.dumps(announcement | {"token": "x"}))
        done = candlestep("data", "list", "--home", tmp_path)
        assert (done.code, done.out) == (1, "")
        assert "answers 40" in done.err


def test_who_leaves_during_an_import_stops_it_with_nothing_half_done(tmp_path: Path) -> None:
    path = write(tmp_path / "BTCUSDT.csv", csv_text(rows(60_000)))
    home = tmp_path / "home"
    with running(home) as server:
        with started(server, "/admin/data/import", files=[str(path)]) as lines:
            assert next(lines)["progress"]["part"] == "BTCUSDT.csv"
        assert server.stop() == 0
    assert listed(home) in ({}, {"BTCUSDT": 60_000})
    assert "Traceback" not in (home / "server.log").read_text()


@contextmanager
def started(
    server: RunningServer, route: str, **body: object
) -> Iterator[Iterator[dict[str, dict[str, object]]]]:
    """Start a command in a server; yield what it says, and leave it at the end of the block."""
    token = json.loads((server.home / SERVER_FILE).read_text())["token"]
    with httpx.stream(
        "POST",
        server.url + route,
        json=body,
        headers={TOKEN_HEADER: token},
        trust_env=False,
        timeout=PATIENCE,
    ) as answer:
        assert answer.status_code == 200
        yield (json.loads(line) for line in answer.iter_lines() if line)


def long_recording(path: Path) -> Path:
    """Write a recording of ten years of minutes, which takes minutes to play."""
    config = {"start_time": "2016-01-05", "end_time": "2025-12-31", "starting_balance": "10000"}
    start = {"do": "start", "pairs": ["BTCUSDT"], "config": config}
    step = {"do": "step", "steps": 1, "times": 1_000_000_000}
    return write(path, json.dumps(start) + "\n" + json.dumps(step) + "\n")


def test_long_commands_hold_up_neither_others_nor_the_end_of_the_server(tmp_path: Path) -> None:
    files = [long_recording(tmp_path / f"{number}.jsonl") for number in range(5)]
    content = files[0].read_bytes()
    home = sample_home(tmp_path / "home")
    with running(home, command=COMMAND) as server, ExitStack() as stack:
        _, key_id = create_key(server.home)
        for file in files:
            lines = stack.enter_context(started(server, "/admin/record", path=str(file)))
            assert next(lines)["progress"]["part"] == file.name
        assert set(listed(server.home)) == {"BTCUSDT", "ETHUSDT", "SOLUSDT-PERP"}
        assert candlestep("keys", "revoke", key_id, "--home", server.home).code == 0
        assert server.cpu_seconds_to_stop() < 10, "each would take minutes"
        last = [line for line in lines if "progress" not in line]
        assert [line["error"]["code"] for line in last] == ["STORAGE_UNAVAILABLE"]
        assert "the server stops" in str(last[0]["error"]["message"])
    assert {file.read_bytes() for file in files} == {content}


def test_a_long_command_stops_when_its_caller_leaves(tmp_path: Path) -> None:
    file = long_recording(tmp_path / "long.jsonl")
    with running(sample_home(tmp_path / "home")) as server:
        with started(server, "/admin/record", path=str(file)) as lines:
            assert next(lines)["progress"]["part"] == file.name
        wait_for(lambda: is_idle(server.process.pid), bool)
        assert listed(server.home)
    assert "Traceback" not in (server.home / "server.log").read_text()


def is_idle(process_id: int) -> bool:
    """Return whether a process computes for less than a third of the time that this one does."""
    before, until = cpu_seconds(process_id), time.process_time() + 0.3
    while time.process_time() < until:
        pass
    return cpu_seconds(process_id) - before < 0.1


@pytest.mark.parametrize("is_served", [False, True])
@pytest.mark.parametrize(
    ("config", "pairs", "problem"),
    [
        (
            {"start_time": "1970-01-01", "end_time": "9999-12-31"},
            1,
            "end_time: may be at most 3660",
        ),
        (
            {"start_time": "2025-01-05", "end_time": "2025-01-06"},
            1001,
            "pairs: may name at most 1000",
        ),
    ],
)
def test_the_bounds_of_sessions_hold_for_recordings(
    tmp_path: Path, is_served: bool, config: dict[str, str], pairs: int, problem: str
) -> None:
    start = {
        "do": "start",
        "pairs": ["BTCUSDT"] * pairs,
        "config": config | {"starting_balance": "1"},
    }
    step = {"do": "step", "steps": 1, "times": 1_000_000_000}
    file = write(tmp_path / "endless.jsonl", json.dumps(start) + "\n" + json.dumps(step) + "\n")
    home = sample_home(tmp_path / "home")
    with running(home) if is_served else nullcontext():
        commands = {("replay", file): 3, ("replay", file, "--record"): 3, ("show", file): 1}
        for command, code in (commands | {("plot", file, "-o", tmp_path / "page"): 1}).items():
            done = candlestep(*command, "--home", home)
            assert (done.code, done.out) == (code, "")
            assert problem in done.err


@pytest.mark.parametrize("is_served", [False, True])
def test_a_pipe_is_not_waited_for(tmp_path: Path, is_served: bool) -> None:
    """It may never end, and a server that reads it could not be stopped."""
    home, pipe = tmp_path / "home", tmp_path / "pipe"
    os.mkfifo(pipe)
    orders = ("--from", "2025-01-05", "--to", "2025-01-06", "--balance", 1)
    with running(home) if is_served else nullcontext():
        for options in ((), ("--record",), orders):
            done = candlestep_process("replay", pipe, *options, "--home", home)
            out, err = done.communicate(timeout=PATIENCE)
            assert (done.returncode != 0, out) == (True, "")
            assert f"{pipe}: it is a pipe or a device" in err


def test_what_a_server_left_behind_is_no_server(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    with_pid = {"url": "http://127.0.0.1:9", "token": "x", "pid": ended.pid}
    server_file = tmp_path / SERVER_FILE
    texts = [json.dumps(with_pid), json.dumps(with_pid | {"pid": os.getpid()}), "{", ""]
    for content in (*map(str.encode, texts), b'{"url": "\xff"}', b'{"a": ' + b"[" * 10_000):
        server_file.write_bytes(content)
        done = candlestep("data", "list", "--home", tmp_path)
        assert (done.code, done.err) == (0, "")


def test_another_service_where_a_server_once_was_gets_no_token(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as service:
        url = f"http://127.0.0.1:{service.getsockname()[1]}"
        text = json.dumps({"url": url, "token": "x", "pid": os.getpid()})
        (tmp_path / SERVER_FILE).write_text(text)
        done = candlestep("data", "list", "--home", tmp_path)
        assert (done.code, done.err) == (0, "")
        service.setblocking(False)
        with pytest.raises(BlockingIOError):
            service.accept()


def test_a_server_that_says_nothing_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running_server, "_TIMEOUT", httpx.Timeout(5.0, read=0.1))
    with announced(tmp_path):
        done = candlestep("data", "list", "--home", tmp_path)
    assert (done.code, done.out) == (1, "")
    assert f"does not answer; its process {os.getpid()} has the store" in done.err


@pytest.mark.parametrize("version", ["", "99.1"])
def test_a_server_of_another_version_is_asked_nothing(tmp_path: Path, version: str) -> None:
    """Requests and answers of two versions may differ, and an old server narrows no home."""
    with announced(tmp_path, version) as listener:
        tmp_path.chmod(0o755)
        for command in (["data", "list"], ["keys", "create", "x"], ["backup", tmp_path / "copy"]):
            done = candlestep(*command, "--home", tmp_path)
            assert (done.code, done.out) == (1, "")
            assert f"is of version {version or '0.1'}, and this is {__version__}: stop" in done.err
            assert "yours alone" not in done.err
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_a_server_killed_leaves_a_home_that_works(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        server.kill()
    assert (tmp_path / SERVER_FILE).exists()
    assert candlestep("data", "list", "--home", tmp_path).code == 0
    with running(tmp_path) as server:
        assert (
            httpx.get(f"{server.url}/health", trust_env=False, timeout=PATIENCE).status_code == 200
        )


def test_a_store_in_use_by_something_else_is_left_alone(tmp_path: Path) -> None:
    candlestep("data", "list", "--home", tmp_path)
    script = (
        "import duckdb, sys\n"
        "with duckdb.connect(sys.argv[1]):\n"
        "    print('open', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / STORE_NAME)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        done = candlestep("data", "list", "--home", tmp_path)
        serve = candlestep("serve", "--home", tmp_path, "--port", 0)
        holder.communicate("")
    for refused in (done, serve):
        assert (refused.code, refused.out) == (1, "")
        assert str(holder.pid) in refused.err


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n"])
def test_a_server_that_breaks_off_is_reported(tmp_path: Path, answer: bytes) -> None:
    with announced(tmp_path) as listener:
        process = candlestep_process("data", "list", "--home", tmp_path)
        with listener.accept()[0] as connection:
            connection.recv(65536)
            connection.sendall(answer)
        out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (1, "")
    assert "broke (" in err
    assert "try again" in err
