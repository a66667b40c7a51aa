"""Commands on a home that a server runs on, or ran on: the server runs them for its user."""

import json
import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from candlestep.api.admin.running_server import SERVER_FILE
from candlestep.api.http.auth import TOKEN_HEADER as TOKEN_HEADER_BYTES
from candlestep.data.store.database import FILE_NAME as STORE_NAME
from tests.support.candle_files import csv_text, rows, write
from tests.support.command_line import announced, candlestep, candlestep_process, listed
from tests.support.server_process import RunningServer, running

TOKEN_HEADER = TOKEN_HEADER_BYTES.decode()


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
    answer = httpx.get(f"{server.url}/api/v1/market/data-range", trust_env=False).json()
    assert isinstance(answer, dict)
    return answer


def test_only_who_can_read_the_home_may_command_a_server(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        url = f"{server.url}/admin/data/list"
        key = candlestep("keys", "create", "k", "--home", tmp_path).out.split()[1]
        for headers in ({}, {TOKEN_HEADER: ""}, {TOKEN_HEADER: "x"}, {"X-API-Key": key}):
            answer = httpx.post(url, headers=headers, trust_env=False)
            assert answer.status_code in (401, 403)
            assert answer.json()["code"] in ("UNAUTHORIZED", "FORBIDDEN")
        announcement = json.loads((tmp_path / SERVER_FILE).read_text())
        (tmp_path / SERVER_FILE).write_text(json.dumps(announcement | {"token": "x"}))
        done = candlestep("data", "list", "--home", tmp_path)
        assert (done.code, done.out) == (1, "")
        assert "answers 40" in done.err


def test_who_leaves_during_an_import_does_not_undo_it(tmp_path: Path) -> None:
    path = write(tmp_path / "BTCUSDT.csv", csv_text(rows(60_000)))
    home = tmp_path / "home"
    with running(home) as server:
        token = json.loads((home / SERVER_FILE).read_text())["token"]
        with httpx.stream(
            "POST",
            f"{server.url}/admin/data/import",
            json={"files": [str(path)]},
            headers={TOKEN_HEADER: token},
            trust_env=False,
        ) as answer:
            first = json.loads(next(answer.iter_lines()))
            assert first["progress"]["part"] == "BTCUSDT.csv"
        # A server that stops finishes what it has begun.
        assert server.stop() == 0
    assert listed(home) == {"BTCUSDT": 60_000}


def test_what_a_server_left_behind_is_no_server(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    with_pid = {"url": "http://127.0.0.1:9", "token": "x", "pid": ended.pid}
    server_file = tmp_path / SERVER_FILE
    for text in (json.dumps(with_pid), json.dumps(with_pid | {"pid": os.getpid()}), "{", ""):
        server_file.write_text(text)
        done = candlestep("data", "list", "--home", tmp_path)
        assert (done.code, done.err) == (0, "")


def test_a_server_killed_leaves_a_home_that_works(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        server.kill()
    assert (tmp_path / SERVER_FILE).exists()
    assert candlestep("data", "list", "--home", tmp_path).code == 0
    with running(tmp_path) as server:
        assert httpx.get(f"{server.url}/health", trust_env=False).status_code == 200


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
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, "")
    assert "broke (" in err
    assert "try again" in err
