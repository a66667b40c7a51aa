"""A worker: a process that does one run after the other for the server that started it.

``python -m candlestep.api.jobs.worker BYTES``: messages come on standard input and go on standard output; at most
so many bytes beyond what it has at its start may be allocated. It ends with its server.
"""

import ctypes
import os
import resource
import select
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path

from candlestep.api.jobs.latest import Latest
from candlestep.api.jobs.run import perform
from candlestep.api.jobs.worker_messages import (
    HEAD,
    Advanced,
    Begin,
    Ended,
    FromWorker,
    Ready,
    ToWorker,
    framed,
    to_worker,
)
from candlestep.data.market.mapped_candles import open_mapped
from candlestep.sandbox import Candles

_KEPT_TIME_LINES = 16
_STACK_BYTES = 512 << 20
_PARENT_DEATH_SIGNAL = 1
"""PR_SET_PDEATHSIG of Linux."""


class Worker:
    """The worker's end of the conversation, and the time lines that it has open."""

    def __init__(self, incoming: int, outgoing: int) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self._time_lines = Latest[Candles](_KEPT_TIME_LINES)

    def work(self) -> None:
        """Do what is asked for until there is nobody left to ask."""
        self._send(Ready())
        while (message := self._receive()) is not None:
            if isinstance(message, Begin):
                self._run(message)

    def _run(self, begin: Begin) -> None:
        outcome = perform(
            begin.spec,
            [self._time_line(path) for path in begin.candles],
            Path(begin.directory),
            lambda fraction: self._send(Advanced(fraction)),
            self._is_stopped,
        )
        self._send(Ended(outcome))

    def _time_line(self, path: str) -> Candles:
        """The candles of a file, with what runs before this one derived from them."""
        return self._time_lines.get(path, lambda: open_mapped(Path(path)))

    def _is_stopped(self) -> bool:
        """During a run nothing comes but the word to stop, or the end of the server."""
        readable, _, _ = select.select([self._incoming], [], [], 0)
        return bool(readable) and not isinstance(self._receive(), Begin)

    def _receive(self) -> ToWorker | None:
        """The next message; None when the server has gone."""
        head = self._read(HEAD.size)
        return to_worker(self._read(*HEAD.unpack(head))) if head else None

    def _read(self, size: int) -> bytes:
        parts = []
        while size:
            part = os.read(self._incoming, size)
            if not part:
                return b""
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def _send(self, message: FromWorker) -> None:
        rest = framed(message)
        while rest:
            rest = rest[os.write(self._outgoing, rest) :]


def main() -> None:
    """Work for the process that started this one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _end_with_parent()
    # What a library prints must not come between the messages.
    outgoing = os.dup(1)
    os.dup2(2, 1)
    # A program nested as deeply as its source can be long takes that much to be evaluated.
    threading.stack_size(_STACK_BYTES)
    working = threading.Thread(target=_work, args=(outgoing, int(sys.argv[1])))
    working.start()
    working.join()


def _work(outgoing: int, run_memory: int) -> None:
    limit_memory(run_memory)
    with suppress(BrokenPipeError):
        Worker(0, outgoing).work()


def _end_with_parent() -> None:
    """Have the system end this process when its server is killed, whatever it is doing."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL)


def limit_memory(size: int) -> None:
    """Let ``size`` more bytes be allocated; files that are mapped do not count."""
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[5])
        most = pages * resource.getpagesize() + size
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))


if __name__ == "__main__":
    main()
