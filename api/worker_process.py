"""A worker process, and the server's end of the conversation with it."""

import asyncio
import os
import signal
import sys
from collections import deque
from contextlib import suppress
from subprocess import PIPE, Popen

import structlog

from api.messages import HEAD, Advanced, Begin, Ended, Ready, Stop, framed, from_worker

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

    def __init__(self, process: "Popen[bytes]", incoming: asyncio.StreamReader) -> None:
        """Use ``start``."""
        self._process = process
        self._incoming = incoming
        self._said: deque[str] = deque(maxlen=4)
        self._outgoing: asyncio.WriteTransport | None = None
        self._listening: asyncio.Task[None] | None = None

    @classmethod
    async def start(cls, run_memory: int) -> "WorkerProcess":
        """A new process, each of whose runs may take so many bytes; it is not ready yet.

        Raises ``OSError``.
        """
        process = _started(run_memory)
        try:
            worker = cls(process, await _reader(process.stdout))
            worker._outgoing, _ = await asyncio.get_running_loop().connect_write_pipe(
                asyncio.BaseProtocol, process.stdin
            )
            worker._listening = asyncio.create_task(worker._listen(await _reader(process.stderr)))
        except BaseException:
            process.kill()
            raise
        return worker

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

    async def _listen(self, errors: asyncio.StreamReader) -> None:
        while said := await errors.read(_MOST_SAID):
            text = said.decode(errors="replace").rstrip()
            self._said.append(text)
            log.warning("worker_says", pid=self._process.pid, text=text)


def _started(run_memory: int) -> "Popen[bytes]":
    """In the main thread always: a worker ends with the thread that started it. Takes 2 ms."""
    return Popen(
        [sys.executable, "-P", "-m", "api.worker", str(run_memory)],
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
        env=_environment(),
    )


async def _reader(pipe: object) -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), pipe
    )
    return reader


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
