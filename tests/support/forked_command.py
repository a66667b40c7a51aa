"""The command line in processes that need not load it: each is a fork of one that has.

A server that lives for a moment computes for most of it to load its modules. A fork is a process as
any other, with files, signals and an end of its own.
"""

import faulthandler
import io
import multiprocessing
import os
import sys
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from subprocess import TimeoutExpired

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    [__name__, "candlestep.api.cli.serve", "candlestep.api.server.process"]
)


class ForkedCommand:
    """A ``candlestep`` command in a process of its own, with those methods of ``Popen`` that tests use."""

    def __init__(self, arguments: list[str], log: Path, environment: dict[str, str], umask: int):
        """Start the command; what it prints to stderr is added to ``log``.

        A ``umask`` of -1 leaves the one of this process.
        """
        read, write = _FORKS.Pipe(duplex=False)
        with read, write:
            self._process = _FORKS.Process(
                target=_run, args=(arguments, write, log, environment, umask, Path.cwd())
            )
            self._process.start()
            self.stdout = os.fdopen(os.dup(read.fileno()), encoding="utf-8")

    @property
    def pid(self) -> int:
        """The id of the process."""
        assert self._process.pid is not None
        return self._process.pid

    def poll(self) -> int | None:
        """Return the exit code; None while the process runs."""
        return self._process.exitcode

    def wait(self, timeout: float) -> int:
        """Return the exit code when the process has ended; raise ``TimeoutExpired`` before that."""
        self._process.join(timeout)
        code = self.poll()
        if code is None:
            raise TimeoutExpired("candlestep", timeout)
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal to the process, if it still runs."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill the process."""
        self._process.kill()


def _run(
    arguments: list[str],
    stdout: "Connection[bytes, bytes]",
    log: Path,
    environment: dict[str, str],
    umask: int,
    directory: Path,
) -> None:
    with stdout, log.open("ab") as stderr:
        os.dup2(stdout.fileno(), 1)
        os.dup2(stderr.fileno(), 2)
    # Those of the process that was forked may have bytes of its own.
    sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), write_through=True)
    sys.stderr = io.TextIOWrapper(io.FileIO(2, "w", closefd=False), write_through=True)
    faulthandler.enable()
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(directory)
    if umask >= 0:
        os.umask(umask)
    # Late, because most processes with this module start none.
    from candlestep.api.cli import main

    sys.exit(main(arguments))
