"""The worker processes on this machine: started once, kept warm, replaced when they die."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import msgspec
import structlog

from api.messages import (
    CANCELLED,
    HEAD,
    OUT_OF_MEMORY,
    Advanced,
    Begin,
    Ended,
    Ready,
    Stop,
    framed,
    from_worker,
)
from data.jobs import RunError, RunOutcome, RunSpec

SECONDS_TO_STOP = 0.5
"""What a run that is told to stop gets before its worker is killed."""
_SECONDS_TO_START = 60
_MOST_SAID = 8192
_NO_MEMORY = ("memory allocation of", "out of memory", "MemoryError")
"""What the last words of a process have that could not get the memory it asked for."""
_WORN = (OUT_OF_MEMORY.code, "INTERNAL_ERROR")
"""Errors after which a worker is not what it was: it is replaced."""

log = structlog.get_logger()


class WorkerDied(Exception):
    """A worker has ended in the middle of a run; says how."""


class RunCall(msgspec.Struct, frozen=True):
    """A run that is to be done: on the candles in these files, its own files to go there."""

    spec: RunSpec
    candles: Sequence[Path]
    directory: Path


class Executor(Protocol):
    """Where runs are done. Its methods are called on the event loop."""

    @property
    def slots(self) -> int:
        """How many runs it does at a time."""

    async def start(self) -> None:
        """Make ready for runs; said again, it changes nothing."""

    async def perform(
        self, call: RunCall, on_progress: Callable[[float], object], stop: asyncio.Event
    ) -> RunOutcome:
        """Do a run; when ``stop`` is set it ends within a second, with the error ``CANCELLED``.

        Raises ``WorkerDied`` if it may go well when it is tried again.
        """

    async def close(self) -> None:
        """End everything, runs included."""


class _Worker:
    """A worker process, and the pool's end of the conversation with it."""

    def __init__(self, process: Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.process = process
        self.said: deque[str] = deque(maxlen=4)
        self._incoming = process.stdout
        self._outgoing = process.stdin
        self._listening = asyncio.create_task(self._listen())

    def send(self, message: Begin | Stop) -> None:
        self._outgoing.write(framed(message))

    async def receive(self) -> Ready | Advanced | Ended:
        """The next message; raises ``IncompleteReadError`` when the worker has ended."""
        (length,) = HEAD.unpack(await self._incoming.readexactly(HEAD.size))
        message: Ready | Advanced | Ended = from_worker(await self._incoming.readexactly(length))
        return message

    async def kill(self) -> int:
        """End the process, if it has not ended, and return its exit code."""
        with suppress(ProcessLookupError):
            self.process.kill()
        code = await self.process.wait()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._listening, 1)
        return code

    async def _listen(self) -> None:
        assert self.process.stderr is not None
        while said := await self.process.stderr.read(_MOST_SAID):
            text = said.decode(errors="replace").rstrip()
            self.said.append(text)
            log.warning("worker_says", pid=self.process.pid, text=text)


class WorkerPool:
    """An ``Executor`` of processes on this machine."""

    def __init__(self, workers: int, *, run_seconds: float, run_memory: int) -> None:
        """``run_seconds`` and ``run_memory`` (bytes) are what one run may take."""
        self._slots = workers
        self._run_seconds = run_seconds
        self._run_memory = run_memory
        self._idle: asyncio.Queue[_Worker] = asyncio.Queue()
        self._workers: set[_Worker] = set()
        self._starting: set[asyncio.Task[None]] = set()
        self._is_started = False
        self._is_closed = False

    @property
    def slots(self) -> int:
        return self._slots

    async def start(self) -> None:
        if not self._is_started:
            self._is_started = True
            for _ in range(self._slots):
                self._add_worker()

    async def perform(
        self, call: RunCall, on_progress: Callable[[float], object], stop: asyncio.Event
    ) -> RunOutcome:
        await self.start()
        worker = await self._idle_worker(stop)
        if worker is None:
            return RunOutcome(error=CANCELLED)
        is_usable = False
        try:
            outcome = await self._converse(worker, call, on_progress, stop)
            is_worn = outcome.error is not None and outcome.error.code in _WORN
            is_usable = worker.process.returncode is None and not is_worn
            return outcome
        finally:
            if is_usable:
                self._idle.put_nowait(worker)
            else:
                await self._replace(worker)

    async def close(self) -> None:
        self._is_closed = True
        for task in list(self._starting):
            task.cancel()
        await asyncio.gather(*self._starting, return_exceptions=True)
        await asyncio.gather(*(worker.kill() for worker in self._workers))

    async def _idle_worker(self, stop: asyncio.Event) -> _Worker | None:
        """A worker that is free, as soon as there is one; None if ``stop`` is set before."""
        if self._idle.empty():
            getting = asyncio.create_task(self._idle.get())
            stopping = asyncio.create_task(stop.wait())
            await asyncio.wait((getting, stopping), return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            return await getting if getting.done() or not getting.cancel() else None
        return self._idle.get_nowait()

    async def _converse(
        self,
        worker: _Worker,
        call: RunCall,
        on_progress: Callable[[float], object],
        stop: asyncio.Event,
    ) -> RunOutcome:
        """Have ``worker`` do a run; it has been killed if it did not end by itself in time."""
        worker.send(Begin(call.spec, [str(path) for path in call.candles], str(call.directory)))
        ending = asyncio.create_task(_outcome(worker, on_progress))
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait(
                (ending, stopping),
                timeout=self._run_seconds,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if not ending.done() and stop.is_set():
                worker.send(Stop())
                await asyncio.wait((ending,), timeout=SECONDS_TO_STOP)
            if ending.done():
                return await ending
            await worker.kill()
            return RunOutcome(error=CANCELLED if stop.is_set() else too_slow(self._run_seconds))
        except (asyncio.IncompleteReadError, ConnectionError):
            code = await worker.kill()
            if any(words in said for said in worker.said for words in _NO_MEMORY):
                return RunOutcome(error=OUT_OF_MEMORY)
            raise WorkerDied(_exit_in_words(code)) from None
        finally:
            ending.cancel()
            stopping.cancel()

    async def _replace(self, worker: _Worker) -> None:
        await worker.kill()
        self._workers.discard(worker)
        if not self._is_closed:
            self._add_worker()

    def _add_worker(self) -> None:
        task = asyncio.create_task(self._start_worker())
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)

    async def _start_worker(self) -> None:
        """Start a worker and wait until it is ready; try again if it is not, ever more slowly."""
        pause = 1.0
        while True:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-m", "api.worker", str(self._run_memory),
                stdin=PIPE, stdout=PIPE, stderr=PIPE, env=_environment(),
            )  # fmt: skip
            worker = _Worker(process)
            self._workers.add(worker)
            try:
                await asyncio.wait_for(worker.receive(), _SECONDS_TO_START)
            except (asyncio.IncompleteReadError, ConnectionError, TimeoutError):
                code = await worker.kill()
                self._workers.discard(worker)
                log.error("worker_not_started", how=_exit_in_words(code))
                await asyncio.sleep(pause)
                pause = min(2 * pause, 60.0)
            else:
                self._idle.put_nowait(worker)
                return


def too_slow(seconds: float) -> RunError:
    """Of a run that takes longer than so many seconds."""
    return RunError(
        "RUN_TIMEOUT",
        f"the run took longer than {seconds:g} seconds, which is all that a run may take; take"
        " fewer symbols, a shorter time or a coarser timeframe, or have the strategy do less at"
        " each candle",
    )


async def _outcome(worker: _Worker, on_progress: Callable[[float], object]) -> RunOutcome:
    while True:
        message = await worker.receive()
        if isinstance(message, Ended):
            return message.outcome
        if isinstance(message, Advanced):
            on_progress(message.fraction)


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
