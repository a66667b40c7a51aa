"""A worker process, and the server's end of the conversation with it."""

import asyncio
import os
import signal
import sys
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from subprocess import DEVNULL, PIPE, STDOUT, Popen
from threading import Thread
from typing import Any

import structlog

from candlestep.api.jobs import worker_messages as messages
from candlestep.data.processes import environment

_COMMAND = (sys.executable, "-P", "-m", "candlestep.api.jobs.worker")
_OUTPUT_BYTES = 8192
_NO_MEMORY = ("memory allocation of", "out of memory", "MemoryError")
"""Parts of the last output of a process that could not get the memory it needed."""

log = structlog.get_logger()

Spawn = Callable[..., "Popen[bytes]"]


class WorkerProcess:
    """A process that does one run after the other, and a thread that listens to it.

    It is started by ``subprocess``, not by the event loop: uvloop forks, and in the child, before
    the worker's own program begins, destroys what this process's threads have of DuckDB, which
    crashes or waits for ever.
    """

    def __init__(self, process: "Popen[bytes]", connection: "Connection[bytes, bytes]") -> None:
        """Use ``start``."""
        self._process = process
        self._connection = connection
        """Closed when nothing refers to it any more: other threads may be sending."""
        self._output: deque[str] = deque(maxlen=4)
        self._messages: asyncio.Queue[messages.FromWorker | None] = asyncio.Queue()
        """The messages that have arrived; None after the last."""
        self._loop = asyncio.get_running_loop()
        self._exit: asyncio.Future[int] = self._loop.create_future()
        # Not waited for when the server is torn down: the worker ends after it.
        Thread(target=self._listen, name=f"worker-{process.pid}", daemon=True).start()

    @classmethod
    def start(cls, run_memory: int, spawn: Spawn = Popen) -> "WorkerProcess":
        """Start a process whose runs may each take ``run_memory`` bytes; it is not ready yet.

        Call it in the main thread: a worker ends with the thread that started it. Takes 2 ms.
        Raises ``OSError``.
        """
        ours, theirs = Pipe()
        with theirs:
            handle = theirs.fileno()
            process = spawn(
                [*_COMMAND, str(handle), str(run_memory)],
                stdin=DEVNULL,
                stdout=PIPE,
                stderr=STDOUT,
                pass_fds=[handle],
                env=environment(),
            )
        return cls(process, ours)

    @property
    def has_ended(self) -> bool:
        """Return whether the process has ended."""
        return self._process.poll() is not None

    @property
    def was_short_of_memory(self) -> bool:
        """Return whether its last output reports that it could not get the memory it needed."""
        return any(words in text for text in self._output for words in _NO_MEMORY)

    async def send(self, message: messages.ToWorker) -> None:
        """Send a message. It is lost on a process that has ended, as ``receive`` reports."""
        with suppress(OSError):
            await asyncio.to_thread(self._connection.send_bytes, messages.encode(message))

    async def receive(self) -> messages.FromWorker:
        """Return the next message; raise ``EOFError`` when the process has ended."""
        message = await self._messages.get()
        if message is None:
            self._messages.put_nowait(None)
            raise EOFError
        return message

    async def wait(self) -> str:
        """Wait until the process has ended; return how, in words."""
        return _describe_exit(await asyncio.shield(self._exit))

    async def kill(self) -> str:
        """End the process if it has not ended; return how it ended, in words."""
        self._process.kill()
        return await self.wait()

    def _listen(self) -> None:
        """Pass on messages and log output until the process has ended."""
        output = self._process.stdout
        assert output is not None
        with output:
            readers: dict[Any, Callable[[], bool]] = {
                self._connection: self._read_message,
                output: self._read_output,
            }
            while readers:
                for source in wait(readers):
                    if not readers[source]():
                        del readers[source]
        self._post(self._exit.set_result, self._process.wait())

    def _read_message(self) -> bool:
        """Pass on a message; return whether there may be more."""
        message: messages.FromWorker | None = None
        with suppress(EOFError, OSError):
            message = messages.decode_from_worker(self._connection.recv_bytes())
        self._post(self._messages.put_nowait, message)
        return message is not None

    def _read_output(self) -> bool:
        """Log a piece of output; return whether there may be more."""
        assert self._process.stdout is not None
        output = os.read(self._process.stdout.fileno(), _OUTPUT_BYTES)
        if output:
            text = output.decode(errors="replace").rstrip()
            self._output.append(text)
            log.warning("worker_says", pid=self._process.pid, text=text)
        return bool(output)

    def _post(self, call: Callable[[Any], object], value: object) -> None:
        """Call something on the event loop, unless that is closed."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(call, value)


def _describe_exit(code: int) -> str:
    if code < 0:
        with suppress(ValueError):
            return f"it was ended by {signal.Signals(-code).name}"
    return f"it ended with code {code}"
