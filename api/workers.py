"""The worker processes on this machine: started once, kept warm, replaced when they die."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections import deque
from collections.abc import Callable
from contextlib import suppress

import structlog

from api.executor import SECONDS_TO_STOP, RunCall, WorkerDied
from api.messages import (
    HEAD,
    Advanced,
    Begin,
    Ended,
    Ready,
    Stop,
    framed,
    from_worker,
)
from api.run_errors import CANCELLED, OUT_OF_MEMORY, too_slow, wears_out
from data.jobs import RunOutcome

_SECONDS_TO_START = 60
_MOST_SAID = 8192
_NO_MEMORY = ("memory allocation of", "out of memory", "MemoryError")
"""What the last words of a process have that could not get the memory it asked for."""

log = structlog.get_logger()


class _WorkerProcess:
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
        self._idle: asyncio.Queue[_WorkerProcess] = asyncio.Queue()
        self._workers: set[_WorkerProcess] = set()
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
            is_usable = worker.process.returncode is None and not wears_out(outcome)
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

    async def _idle_worker(self, stop: asyncio.Event) -> _WorkerProcess | None:
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
        worker: _WorkerProcess,
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

    async def _replace(self, worker: _WorkerProcess) -> None:
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
            worker = await self._started()
            if worker is not None:
                self._idle.put_nowait(worker)
                return
            await asyncio.sleep(pause)
            pause = min(2 * pause, 60.0)

    async def _started(self) -> _WorkerProcess | None:
        """A new worker that is ready; None if it did not come to that."""
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-m", "api.worker", str(self._run_memory),
                stdin=PIPE, stdout=PIPE, stderr=PIPE, env=_environment(),
            )  # fmt: skip
        except OSError as error:
            log.error("worker_not_started", how=str(error))
            return None
        worker = _WorkerProcess(process)
        self._workers.add(worker)
        try:
            await asyncio.wait_for(worker.receive(), _SECONDS_TO_START)
        except (asyncio.IncompleteReadError, ConnectionError, TimeoutError):
            code = await worker.kill()
            self._workers.discard(worker)
            log.error("worker_not_started", how=_exit_in_words(code))
            return None
        return worker


async def _outcome(worker: _WorkerProcess, on_progress: Callable[[float], object]) -> RunOutcome:
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
