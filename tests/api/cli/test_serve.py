"""The server as a command: it serves until it is stopped, alone on its home."""

import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from candlestep.data.store.database import FILE_NAME as STORE_NAME
from candlestep.data.store.server_file import SERVER_FILE
from tests.support.api_client import Api, sample_home
from tests.support.command_line import candlestep, candlestep_process
from tests.support.patience import PATIENCE
from tests.support.server_process import running


def test_a_server_serves_until_it_is_stopped(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        assert (
            httpx.get(f"{server.url}/health", trust_env=False, timeout=PATIENCE).status_code == 200
        )
        server_file = tmp_path / SERVER_FILE
        assert server_file.stat().st_mode & 0o077 == 0
        assert server.stop() == 0
        assert not server_file.exists()
        assert "Traceback" not in (tmp_path / "server.log").read_text()
    assert candlestep("data", "list", "--home", tmp_path).code == 0


@pytest.mark.parametrize(("was_served", "name"), [(False, STORE_NAME), (True, SERVER_FILE)])
def test_a_start_on_a_full_disk_names_the_file(tmp_path: Path, was_served: bool, name: str) -> None:
    """A limit of no byte at all for files makes every write fail."""
    if was_served:
        with running(tmp_path):
            pass
    command = [sys.executable, "-m", "candlestep.api", "serve", "--home", str(tmp_path)]
    done = subprocess.run(
        ["sh", "-c", 'ulimit -f 0 && exec "$@"', "sh", *command, "--port", "0"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert str(tmp_path / name) in done.stderr
    assert "File too large" in done.stderr
    assert "Traceback" not in done.stderr
    if was_served:
        assert not (tmp_path / SERVER_FILE).with_suffix(".new").exists()
        with running(tmp_path) as server:
            assert (
                httpx.get(f"{server.url}/health", trust_env=False, timeout=PATIENCE).status_code
                == 200
            )


def test_a_second_server_on_a_home_is_refused(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        second = candlestep_process("serve", "--home", tmp_path, "--port", 0)
        out, err = second.communicate(timeout=PATIENCE)
        assert (second.returncode, out) == (1, "")
        assert "candlestep: " in err
        assert str(server.process.pid) in err
        assert "Traceback" not in err
        assert (
            httpx.get(f"{server.url}/health", trust_env=False, timeout=PATIENCE).status_code == 200
        )
        assert candlestep("data", "list", "--home", tmp_path).code == 0


def test_a_home_is_not_renamed(tmp_path: Path) -> None:
    """Proxies find the server of a key and of a session by the name that these carry."""
    sample_home(tmp_path)
    named = ("--server-name", "a", "--home", tmp_path)
    key = candlestep("keys", "create", "x", *named).out.split()[1]
    for command in (("serve", "--port", 0), ("keys", "create", "y")):
        other = candlestep_process(*command, "--server-name", "b", "--home", tmp_path)
        out, err = other.communicate(timeout=PATIENCE)
        assert (other.returncode, out) == (1, "")
        assert "the server of this home is named a" in err
        assert "leave the name out" in err
    for flags in ((), ("--server-name", "a")):
        with running(tmp_path, *flags) as server, server.client(key) as client:
            assert Api(client).create("01-15", "01-16").startswith("bt_a_")
