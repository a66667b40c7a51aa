"""A worker process, and the server's end of the conversation with it."""

import asyncio
import os
import signal
import sys
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from subprocess import PIPE, Popen

import structlog

from candlestep.api.jobs.worker_messages import (
    HEAD,
    Advanced,
    Begin,
    Ended,
    Ready,
    Stop,
    framed,
    from_worker,
)

_MOST_SAID = 8192
_NO_MEMORY = ("memory allocation of", "out of memory", "MemoryError")
"""What the last words of a process have that could not get the memory it asked for."""

log = structlog.get_logger()


class WorkerProcess:
    """A process that does one run after the other.

    It is started as ``subprocess`` does it, not by the event loop: uvloop forks, and in the child,
    before the worker's own program begins, destroys what this process's threads have of DuckDB,
    which crashes or waits for ever.
    """

    def __init__(self, process: "Popen[bytes]") -> None:
        """Use ``start``."""
        self._process = process
        self._incoming = asyncio.StreamReader()
        self._errors = asyncio.StreamReader()
        self._outgoing: asyncio.WriteTransport | None = None
        self._said: deque[str] = deque(maxlen=4)
        self._listening: asyncio.Task[None] | None = None

    @classmethod
    async def start(cls, run_memory: int) -> "WorkerProcess":
        """A new process, each of whose runs may take so many bytes; it is not ready yet.

        Raises ``OSError``.
        """
        worker = cls(_started(run_memory))
        try:
            await worker._connect()
        except BaseException:
            worker._process.kill()
            worker._process.wait()
            raise
        worker._listening = asyncio.create_task(worker._listen())
        return worker

    async def _connect(self) -> None:
        """Give its pipes to the event loop; those that it cannot have are closed."""
        loop, process = asyncio.get_running_loop(), self._process
        waiting = [process.stdout, process.stdin, process.stderr]
        connected: list[asyncio.BaseTransport] = []
        try:
            reading, _ = await loop.connect_read_pipe(_into(self._incoming), waiting.pop(0))
            connected.append(reading)
            self._outgoing, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, waiting.pop(0))
            connected.append(self._outgoing)
            await loop.connect_read_pipe(_into(self._errors), waiting.pop(0))
        except BaseException:
            for transport in connected:
                transport.close()
            for pipe in waiting:
                if pipe is not None:
                    pipe.close()
            raise

    @property
    def has_ended(self) -> bool:
        """Whether the process is no more."""
        return self._process.poll() is not None

    @property
    def was_short_of_memory(self) -> bool:
        """Whether its last words say that it did not get the memory that it asked for."""
        return any(words in said for said in self._said for words in _NO_MEMORY)

    def send(self, message: Begin | Stop) -> None:
        """Say something, which is lost on a process that has ended: ``receive`` tells."""
        if self._outgoing is not None and not self._outgoing.is_closing():
            self._outgoing.write(framed(message))

    async def receive(self) -> Ready | Advanced | Ended:
        """The next message; raises ``IncompleteReadError`` when the process has ended."""
        (length,) = HEAD.unpack(await self._incoming.readexactly(HEAD.size))
        message: Ready | Advanced | Ended = from_worker(await self._incoming.readexactly(length))
        return message

    async def wait(self) -> str:
        """Wait until it has ended; how it did, in words."""
        if self._listening is not None:
            await asyncio.wait((self._listening,))
        return _exit_in_words(await asyncio.to_thread(self._process.wait))

    async def kill(self) -> str:
        """End the process, if it has not ended; how it did, in words."""
        self._process.kill()
        if self._outgoing is not None:
            self._outgoing.close()
        return await self.wait()

    async def _listen(self) -> None:
        while said := await self._errors.read(_MOST_SAID):
            text = said.decode(errors="replace").rstrip()
            self._said.append(text)
            log.warning("worker_says", pid=self._process.pid, text=text)


def _started(run_memory: int) -> "Popen[bytes]":
    """In the main thread always: a worker ends with the thread that started it. Takes 2 ms."""
    return Popen(
        [sys.executable, "-P", "-m", "candlestep.api.jobs.worker", str(run_memory)],
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
        env=_environment(),
    )


def _into(reader: asyncio.StreamReader) -> Callable[[], asyncio.StreamReaderProtocol]:
    return lambda: asyncio.StreamReaderProtocol(reader)


def _environment() -> dict[str, str]:
    """The server's own, with its import path; a run has one core, and starts no threads for it."""
    one = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    path = os.pathsep.join(filter(None, sys.path))
    return {**os.environ, **one, "PYTHONPATH": path, "RUST_BACKTRACE": "0"}


def _exit_in_words(code: int) -> str:
    if code < 0:
        with suppress(ValueError):
            return f"it was ended by {signal.Signals(-code).name}"
    return f"it ended with code {code}"
