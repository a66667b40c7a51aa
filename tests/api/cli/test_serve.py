"""The server as a command: it serves until it is stopped, alone on its home."""

from pathlib import Path

import httpx

from candlestep.api.admin.running_server import SERVER_FILE
from tests.support.command_line import candlestep, candlestep_process
from tests.support.server_process import running


def test_a_server_serves_until_it_is_stopped(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        assert httpx.get(f"{server.url}/health", trust_env=False).status_code == 200
        server_file = tmp_path / SERVER_FILE
        assert server_file.stat().st_mode & 0o077 == 0
        assert server.stop() == 0
        assert not server_file.exists()
        assert "Traceback" not in (tmp_path / "server.log").read_text()
    assert candlestep("data", "list", "--home", tmp_path).code == 0


def test_a_second_server_on_a_home_is_refused(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        second = candlestep_process("serve", "--home", tmp_path, "--port", 0)
        out, err = second.communicate(timeout=60)
        assert (second.returncode, out) == (1, "")
        assert "candlestep: " in err
        assert str(server.process.pid) in err
        assert "Traceback" not in err
        assert httpx.get(f"{server.url}/health", trust_env=False).status_code == 200
        assert candlestep("data", "list", "--home", tmp_path).code == 0
