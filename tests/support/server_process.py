"""A server in a process of its own, with its own home and port."""

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
    """A ``candlestep serve`` process on a free port."""

    def __init__(
        self,
        home: Path,
        *flags: str,
        module: str = "candlestep.api",
        python: Path = Path(sys.executable),
    ) -> None:
        """Start the server on ``home`` and wait until it is ready."""
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
        """Return a client of the server, with or without an API key."""
        headers = {} if key is None else {"X-API-Key": key}
        return httpx.Client(base_url=self.url, headers=headers, trust_env=False, timeout=30)

    def stop(self) -> int:
        """Stop the server with SIGTERM and return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=30)
        self._close()
        return code

    def limit_files(self, size: int) -> None:
        """Make every write beyond ``size`` bytes of a file fail, as on a full disk."""
        resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    def kill(self) -> None:
        """Kill the server."""
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
    """Run a server for the length of a block."""
    server = RunningServer(home, *flags, module=module, python=python)
    try:
        yield server
    finally:
        server.stop()
