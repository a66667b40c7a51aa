"""The command line, run in this process or in a process of its own."""

import io
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

from candlestep import __version__
from candlestep.api.cli import main
from candlestep.data.store.database import Store
from candlestep.data.store.server_file import SERVER_FILE
from tests.support.patience import PATIENCE

ENVIRONMENT = os.environ | {"NO_PROXY": "127.0.0.1"}


class Run(NamedTuple):
    """The exit code of a command, and what it printed."""

    code: int
    out: str
    err: str


def candlestep(*arguments: object) -> Run:
    """Run the command line in this process."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main([str(argument) for argument in arguments])
    return Run(code, out.getvalue(), err.getvalue())


def candlestep_process(
    *arguments: object, stdout: Any = subprocess.PIPE
) -> "subprocess.Popen[str]":
    """Start the command line in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "candlestep.api", *map(str, arguments)],
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )


def listed(home: Path) -> dict[str, int]:
    """Return the number of candles of each symbol, by ``data list``."""
    done = candlestep("data", "list", "--json", "--home", home)
    assert done.code == 0
    return {series["symbol"]: series["rows"] for series in json.loads(done.out)}


@contextmanager
def announced(home: Path, version: str = __version__) -> Iterator[socket.socket]:
    """Yield a listening socket that the file in ``home`` says is the server's, as this process is."""
    with (
        closing(Store.open(home)),
        socket.create_server(("127.0.0.1", 0)) as listener,
    ):
        listener.settimeout(PATIENCE)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        announcement = {"url": url, "token": "x", "pid": os.getpid(), "version": version}
        (home / SERVER_FILE).write_text(json.dumps(announcement))
        yield listener
