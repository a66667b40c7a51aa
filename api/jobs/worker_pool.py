"""The worker processes on this machine: started once, kept warm, replaced when they end."""

import asyncio
from collections.abc import Callable

import structlog

from candlestep.api.jobs.executor import SECONDS_TO_STOP, RunTask, WorkerDied
from candlestep.api.jobs.run_errors import CANCELLED, OUT_OF_MEMORY, too_slow, wears_out
from candlestep.api.jobs.worker_messages import Advanced, Begin, Ended, Stop
from candlestep.api.jobs.worker_process import WorkerProcess
from candlestep.data.records.jobs import RunOutcome

_SECONDS_TO_START = 60
_LONGEST_PAUSE = 60.0

log = structlog.get_logger()


class WorkerPool:
    """An ``Executor`` of processes on this machine."""

    def __init__(self, workers: int, *, run_seconds: float, run_memory: int) -> None:
        """``run_seconds`` and ``run_memory`` (bytes) are what one run may take."""
        self._slots = workers
        self._run_seconds = run_seconds
        self._run_memory = run_memory
        self._idle: asyncio.Queue[WorkerProcess] = asyncio.Queue()
        self._workers: set[WorkerProcess] = set()
        self._keeping: list[asyncio.Task[None]] = []

    @property
    def slots(self) -> int:
        return self._slots

    async def start(self) -> None:
        if not self._keeping:
            self._keeping = [asyncio.create_task(self._keep()) for _ in range(self._slots)]

    async def perform(
        self, call: RunTask, on_progress: Callable[[float], object], stop: asyncio.Event
    ) -> RunOutcome:
        await self.start()
        worker = await self._idle_worker(stop)
        if worker is None:
            return RunOutcome(error=CANCELLED)
        is_usable = False
        try:
            outcome = await self._converse(worker, call, on_progress, stop)
            is_usable = not worker.has_ended and not wears_out(outcome)
            return outcome
        finally:
            if is_usable:
                self._idle.put_nowait(worker)
            else:
                await worker.kill()

    async def close(self) -> None:
        for task in self._keeping:
            task.cancel()
        await asyncio.gather(*self._keeping, return_exceptions=True)
        await asyncio.gather(*(worker.kill() for worker in self._workers))

    async def _keep(self) -> None:
        """Keep one worker: start it, and another one when it has ended, for whatever reason."""
        pause = 1.0
        while True:
            worker = await self._started()
            if worker is None:
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
                continue
            pause = 1.0
            self._idle.put_nowait(worker)
            await worker.wait()
            self._workers.discard(worker)

    async def _started(self) -> WorkerProcess | None:
        """A new worker that is ready; None if it did not come to that."""
        try:
            worker = await WorkerProcess.start(self._run_memory)
        except OSError as error:
            log.error("worker_not_started", how=str(error))
            return None
        self._workers.add(worker)
        try:
            async with asyncio.timeout(_SECONDS_TO_START):
                await worker.receive()
        except (asyncio.IncompleteReadError, ConnectionError, TimeoutError):
            log.error("worker_not_started", how=await worker.kill())
            self._workers.discard(worker)
            return None
        return worker

    async def _idle_worker(self, stop: asyncio.Event) -> WorkerProcess | None:
        """A worker that is free, as soon as there is one; None if ``stop`` is set before."""
        while not stop.is_set():
            getting = asyncio.create_task(self._idle.get())
            stopping = asyncio.create_task(stop.wait())
            try:
                await asyncio.wait((getting, stopping), return_when=asyncio.FIRST_COMPLETED)
            except asyncio.CancelledError:
                if getting.done():
                    self._idle.put_nowait(getting.result())
                raise
            finally:
                stopping.cancel()
                getting.cancel()
            if not getting.done():
                return None
            if not getting.result().has_ended:
                return getting.result()
        return None

    async def _converse(
        self,
        worker: WorkerProcess,
        call: RunTask,
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
            how = await worker.kill()
            if worker.was_short_of_memory:
                return RunOutcome(error=OUT_OF_MEMORY)
            raise WorkerDied(how) from None
        finally:
            ending.cancel()
            stopping.cancel()


async def _outcome(worker: WorkerProcess, on_progress: Callable[[float], object]) -> RunOutcome:
    while True:
        message = await worker.receive()
        if isinstance(message, Ended):
            return message.outcome
        if isinstance(message, Advanced):
            on_progress(message.fraction)
