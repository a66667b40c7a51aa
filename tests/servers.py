"""A real server process on a home of its own, and the command line in this one."""

import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

from api.cli import main

ROOT = Path(__file__).parent.parent
CANDLESTEP = [sys.executable, "-m", "api.cli"]


class Run(NamedTuple):
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str


class ServerProcess(NamedTuple):
    """A server that answers."""

    url: str
    home: Path
    process: "subprocess.Popen[str]"
    log: Path

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Stop the server, wait until it has ended, and return its exit code."""
        self.process.send_signal(how)
        return self.process.wait(timeout=60)


def candlestep(*arguments: object) -> Run:
    """Run the command line in this process."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as leaving:
            code = int(leaving.code or 0)
    return Run(code, out.getvalue(), err.getvalue())


def candlestep_process(*arguments: object, **options: object) -> "subprocess.Popen[str]":
    """Run the command line in a process of its own, with its output in pipes."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_PROXY": "127.0.0.1"}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.Popen(  # type: ignore[call-overload, no-any-return]
        [*CANDLESTEP, *map(str, arguments)], text=True, env=environment, **streams
    )


@contextmanager
def running_server(home: Path, *flags: object) -> Iterator[ServerProcess]:
    """A server on ``home`` and a port that the system chooses, until the end of the block."""
    home.mkdir(parents=True, exist_ok=True)
    log = home / "test-server.log"
    with log.open("a") as errors:
        process = candlestep_process(
            "serve", "--home", home, "--port", 0, *flags, stderr=errors, cwd=home
        )
    try:
        yield ServerProcess(_address(process, log), home, process, log)
    finally:
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(timeout=60)
        finally:
            process.kill()
            assert process.stdout is not None
            process.stdout.close()
            process.wait()


def _address(process: "subprocess.Popen[str]", log: Path) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        for word in line.split():
            if word.startswith("http://"):
                return word
    raise AssertionError(f"the server did not start: {log.read_text()}")
