"""A real server for tests: its own process, home and port."""

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import httpx


class RunningServer:
    """A ``candlestep serve`` process on a port of the system's choice."""

    def __init__(
        self,
        home: Path,
        *flags: str,
        module: str = "candlestep.api",
        python: Path = Path(sys.executable),
    ) -> None:
        """Start it on ``home`` and wait until it says that it serves."""
        self.home = home
        home.mkdir(parents=True, exist_ok=True)
        self.log = (home / "server.log").open("ab")
        self.process = subprocess.Popen(
            [str(python), "-m", module, "serve", "--home", str(home), "--port", "0", *flags],
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            env={"CANDLESTEP_WORKERS": "1"} | os.environ | {"PYTHONUNBUFFERED": "1"},
        )
        output: IO[str] | None = self.process.stdout
        assert output is not None
        line = output.readline()
        if "http://" not in line:
            self.stop()
            raise RuntimeError(f"no server: {(home / 'server.log').read_text()}")
        self.greeting = line.rstrip()
        self.url = line.split("serves ")[1].split()[0]

    def client(self, key: str | None = None) -> httpx.Client:
        """A client of the server, with an API key or without."""
        headers = {} if key is None else {"X-API-Key": key}
        return httpx.Client(base_url=self.url, headers=headers, trust_env=False, timeout=30)

    def stop(self) -> int:
        """End it as a person would, and return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=30)
        self._close()
        return code

    def limit_files(self, size: int) -> None:
        """Make every write beyond ``size`` fail, as on a disk that is full."""
        resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    def kill(self) -> None:
        """End it as a crash would."""
        self.process.kill()
        self.process.wait(timeout=30)
        self._close()

    def _close(self) -> None:
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.log.close()


@contextmanager
def running(
    home: Path,
    *flags: str,
    module: str = "candlestep.api",
    python: Path = Path(sys.executable),
) -> Iterator[RunningServer]:
    """A server that is stopped at the end."""
    server = RunningServer(home, *flags, module=module, python=python)
    try:
        yield server
    finally:
        server.stop()
