"""A server in a process of its own, with its own home and port."""

import os
import resource
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.support.forked_command import ForkedCommand
from tests.support.patience import PATIENCE

COMMAND = (sys.executable, "-X", "faulthandler", "-m", "candlestep.api")
"""What starts the command in a Python of its own, as users do."""


def cpu_seconds(process: int) -> float:
    """Return for how long a process has computed, which a busy machine does not make longer."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class RunningServer:
    """A ``candlestep serve`` process on a free port."""

    def __init__(
        self,
        home: Path,
        *flags: str,
        command: Sequence[str] = (),
        umask: int = -1,
    ) -> None:
        """Start the server on ``home`` and wait until it is ready.

        ``command`` starts it in a new Python; without it, the server is a fork of a process that
        has loaded it.
        """
        self.home = home
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        arguments = ["serve", "--home", str(home), "--port", "0", *flags]
        environment = {"CANDLESTEP_WORKERS": "1"} | os.environ | {"PYTHONUNBUFFERED": "1"}
        log = home / "server.log"
        self.process: ForkedCommand | subprocess.Popen[str]
        if command:
            with log.open("ab") as stderr:
                self.process = subprocess.Popen(
                    [*command, *arguments],
                    stdout=subprocess.PIPE,
                    stderr=stderr,
                    text=True,
                    umask=umask,
                    env=environment,
                )
        else:
            self.process = ForkedCommand(arguments, log, environment, umask)
        line = self._first_line()
        if "http://" not in line:
            raise RuntimeError(f"no server: {self._aborted()}")
        self.greeting = line.rstrip()
        self.url = line.split("serves ")[1].split()[0]

    def client(self, key: str | None = None) -> httpx.Client:
        """Return a client of the server, with or without an API key."""
        headers = {} if key is None else {"X-API-Key": key}
        return httpx.Client(base_url=self.url, headers=headers, trust_env=False, timeout=PATIENCE)

    def stop(self) -> int:
        """Stop the server with SIGTERM and return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"the server does not stop: {self._aborted()}") from None
        finally:
            self._close()

    def cpu_seconds_to_stop(self) -> float:
        """Stop the server, which must end well; return for how long it computed meanwhile.

        It must have been started by a command: others are no children of this process.
        """
        before = cpu_seconds(self.process.pid) + _cpu_seconds_of_ended_children()
        assert self.stop() == 0
        return _cpu_seconds_of_ended_children() - before

    def limit_files(self, size: int) -> None:
        """Make every write beyond ``size`` bytes of a file fail, as on a full disk."""
        resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    def kill(self) -> None:
        """Kill the server."""
        self.process.kill()
        self.process.wait(PATIENCE)
        self._close()

    def _first_line(self) -> str:
        """Return the first line that the server prints; nothing if it ends, or takes too long."""
        assert self.process.stdout is not None
        is_there, _, _ = select.select([self.process.stdout], [], [], PATIENCE)
        return self.process.stdout.readline() if is_there else ""

    def _aborted(self) -> str:
        """End the server if it still runs; return its log, with the stack of each of its threads."""
        self.process.send_signal(signal.SIGABRT)
        self.process.wait(PATIENCE)
        self._close()
        return (self.home / "server.log").read_text()

    def _close(self) -> None:
        if self.process.stdout is not None:
            self.process.stdout.close()


def _cpu_seconds_of_ended_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@contextmanager
def running(
    home: Path,
    *flags: str,
    command: Sequence[str] = (),
    umask: int = -1,
) -> Iterator[RunningServer]:
    """Run a server for the length of a block."""
    server = RunningServer(home, *flags, command=command, umask=umask)
    try:
        yield server
    finally:
        server.stop()
