"""The program of a worker process, which executes one run after another for its server.

``python -m candlestep.api.jobs.worker FD BYTES`` exchanges messages over the inherited socket
``FD``, and may allocate at most ``BYTES`` beyond what it has at its start. It ends with its server.
"""

import ctypes
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType

from candlestep.api.jobs import worker_messages as messages
from candlestep.api.jobs.run import execute_run
from candlestep.data.market.mapped_candles import open_mapped
from candlestep.data.processes import limit_memory
from candlestep.sandbox.indicators.indicators import load_functions

_OPEN_FILES = 16
"""Candle files that stay open, together with what earlier runs derived from them."""
_STACK_BYTES = 512 << 20
_PARENT_DEATH_SIGNAL = 1
"""PR_SET_PDEATHSIG of Linux."""


class Worker:
    """The worker's end of the conversation, and the candle files that it has open."""

    def __init__(self, connection: "Connection[bytes, bytes]") -> None:
        self._connection = connection
        self._open = lru_cache(_OPEN_FILES)(open_mapped)

    def work(self) -> None:
        """Execute the server's runs; raises ``EOFError`` or ``OSError`` when the server ends."""
        self._send(messages.Ready())
        while True:
            message = self._receive()
            if isinstance(message, messages.Begin):
                self._run(message)

    def _run(self, begin: messages.Begin) -> None:
        outcome = execute_run(
            begin.spec,
            [self._open(Path(path)) for path in begin.candles],
            Path(begin.directory),
            lambda fraction: self._send(messages.Advanced(fraction)),
            self._is_stopped,
        )
        self._send(messages.Ended(outcome))

    def _is_stopped(self) -> bool:
        """Return whether the run is to stop: only ``Stop``, or the server's end, can arrive now."""
        if not self._connection.poll():
            return False
        try:
            return not isinstance(self._receive(), messages.Begin)
        except (EOFError, OSError):
            return True

    def _receive(self) -> messages.ToWorker:
        message: messages.ToWorker = messages.decode_to_worker(self._connection.recv_bytes())
        return message

    def _send(self, message: messages.FromWorker) -> None:
        self._connection.send_bytes(messages.encode(message))


def main() -> None:
    """Work for the process that started this one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _end_with_parent()
    handle, run_memory = map(int, sys.argv[1:])
    # Nothing here gives TA-Lib the series of pandas or polars, which take it a second to load.
    with _absent("pandas", "polars"):
        load_functions()
    # Evaluating a program that is nested as deeply as its length allows takes this much.
    threading.stack_size(_STACK_BYTES)
    working = threading.Thread(target=_work, args=(handle, run_memory))
    working.start()
    working.join()


def _work(handle: int, run_memory: int) -> None:
    limit_memory(run_memory)
    with suppress(EOFError, ConnectionError):
        Worker(Connection(handle)).work()


@contextmanager
def _absent(*modules: str) -> Iterator[None]:
    """Within the context, let modules that are not loaded yet look as if they were not installed."""
    absent = [name for name in modules if name not in sys.modules]
    loaded: dict[str, ModuleType | None] = sys.modules  # type: ignore[assignment]
    loaded.update(dict.fromkeys(absent))
    try:
        yield
    finally:
        for name in absent:
            del loaded[name]


def _end_with_parent() -> None:
    """Have the system kill this process when its server ends, even in the middle of a run."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL)


if __name__ == "__main__":
    main()
