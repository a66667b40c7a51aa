"""The server of a home: one that runs already, or one that is started for as long as it is used."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from candlestep.data.errors import StorageUnavailable
from candlestep.data.store.server_file import RunningServer, running_server

_SECONDS_TO_START = 60
_SECONDS_FOR_ANOTHER = 5
_SECONDS_TO_STOP = 30
_PAUSE = 0.05


class HomeServer:
    """The server of a home: one that runs already, or one of our own."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._own: subprocess.Popen[bytes] | None = None

    @contextmanager
    def used(self) -> Iterator["HomeServer"]:
        """Find or start the server, and end it afterwards if it is our own."""
        try:
            self.find()
            yield self
        finally:
            if self._own is not None:
                self._own.terminate()
                self._own.wait(_SECONDS_TO_STOP)

    def find(self) -> RunningServer:
        """Return the server, started if none runs; raises ``StorageUnavailable`` if none starts."""
        return running_server(self._home) or self._started()

    def _started(self) -> RunningServer:
        command = [sys.executable, "-m", "candlestep.api", "serve", "--port", "0"]
        # What it prints would be taken for an answer on our own standard output.
        self._own = subprocess.Popen(
            [*command, "--home", str(self._home)],
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr.fileno(),
            start_new_session=True,
        )
        deadline = time.monotonic() + _SECONDS_TO_START
        while time.monotonic() < deadline:
            server = running_server(self._home)
            if server is not None:
                return server
            if self._own.poll() is not None:
                # Another one may have the home, and be about to say where it is.
                deadline = min(deadline, time.monotonic() + _SECONDS_FOR_ANOTHER)
            time.sleep(_PAUSE)
        raise StorageUnavailable(f"no server has started on {self._home}; see what it printed")
