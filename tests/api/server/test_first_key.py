"""The first key of a home comes from a file, once, and must be one that nobody can guess."""

import secrets
from pathlib import Path

import pytest

from tests.support.api_client import BACKTEST, Api, make_key, refused
from tests.support.command_line import candlestep
from tests.support.server_process import running


def test_a_home_without_keys_gets_the_one_in_the_file(tmp_path: Path) -> None:
    file, key = tmp_path / "key", f"ak_{secrets.token_hex(32)}"
    file.write_text(f"{key}\n")
    flags = ("--first-key-file", str(file), "--host", "0.0.0.0")
    with running(tmp_path / "home", *flags) as server:
        port = server.url.rpartition(":")[2]
        server.url = f"http://127.0.0.1:{port}"
        with server.client(key) as client:
            Api(client).get(f"{BACKTEST}/list")
        with server.client() as client:
            refused(client.get(f"{BACKTEST}/list"), 401, "UNAUTHORIZED")
    listed = candlestep("keys", "list", "--home", tmp_path / "home").out
    assert "first" in listed
    assert "default" in listed
    log = (tmp_path / "home" / "server.log").read_text()
    assert "first_key_created" in log
    assert key not in log


def test_the_file_is_not_read_once_there_is_a_key(tmp_path: Path) -> None:
    """Not even a revoked one, or else revoking the first key would bring it back."""
    make_key(tmp_path / "home", "ann", revoked=True)
    flags = ("--first-key-file", str(tmp_path / "missing"))
    with running(tmp_path / "home", *flags) as server, server.client() as client:
        refused(client.get(f"{BACKTEST}/list"), 401, "UNAUTHORIZED")


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"",
        b"ak_short",
        b"ak_" + b"a" * 64,
        b"ak_" + b"0123456789" * 6 + b" " + b"0123456789abcdef",
        b"0123456789abcdef" * 4,
        b"ak_" + b"\xff" * 64,
    ],
)
def test_what_is_not_a_key_is_refused(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "key"
    if content is not None:
        file.write_bytes(content)
    done = candlestep("serve", "--home", tmp_path / "home", "--port", 0, "--first-key-file", file)
    assert done.code == 1
    assert f"--first-key-file: {file}" in done.err
    if content:
        assert content.decode("latin-1") not in done.err
