"""The worker processes on this machine: started once, kept warm, replaced when they end."""

import asyncio
from collections.abc import Callable
from subprocess import Popen

import structlog

from candlestep.api.jobs.executor import SECONDS_TO_STOP, RunTask, WorkerDied, wait_or_stop
from candlestep.api.jobs.run_errors import CANCELLED, OUT_OF_MEMORY, too_slow, wears_out
from candlestep.api.jobs.worker_messages import Advanced, Begin, Ended, Stop
from candlestep.api.jobs.worker_process import Spawn, WorkerProcess
from candlestep.data.records.jobs import RunOutcome

_SECONDS_TO_START = 60
_LONGEST_PAUSE = 60.0

log = structlog.get_logger()


class WorkerPool:
    """An ``Executor`` of processes on this machine."""

    def __init__(
        self, workers: int, *, run_seconds: float, run_memory: int, spawn: Spawn = Popen
    ) -> None:
        """Limit each run to ``run_seconds`` and to ``run_memory`` bytes; start no process yet."""
        self.slots = workers
        self.run_seconds = run_seconds
        """The time that a run may take, once it has begun."""
        self._run_memory = run_memory
        self._spawn = spawn
        self._idle: asyncio.Queue[WorkerProcess] = asyncio.Queue()
        self._workers: set[WorkerProcess] = set()
        self._keepers: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        if not self._keepers:
            self._keepers = [asyncio.create_task(self._keep()) for _ in range(self.slots)]

    async def run(
        self, task: RunTask, on_progress: Callable[[float], object], stop: asyncio.Event
    ) -> RunOutcome:
        await self.start()
        worker = await self._idle_worker(stop)
        if worker is None:
            return RunOutcome(error=CANCELLED)
        is_usable = False
        try:
            outcome = await self._converse(worker, task, on_progress, stop)
            is_usable = not worker.has_ended and not wears_out(outcome)
            return outcome
        finally:
            if is_usable:
                self._idle.put_nowait(worker)
            else:
                await worker.kill()

    async def close(self) -> None:
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        await asyncio.gather(*(worker.kill() for worker in self._workers))

    async def _keep(self) -> None:
        """Keep one worker: start it, and start another whenever it ends."""
        pause = 1.0
        while True:
            worker = await self._start_worker()
            if worker is None:
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
                continue
            pause = 1.0
            self._idle.put_nowait(worker)
            await worker.wait()
            self._workers.discard(worker)

    async def _start_worker(self) -> WorkerProcess | None:
        """Return a new worker that is ready; log the reason and return None without one."""
        try:
            worker = WorkerProcess.start(self._run_memory, self._spawn)
        except OSError as error:
            log.error("worker_not_started", how=str(error))
            return None
        self._workers.add(worker)
        try:
            async with asyncio.timeout(_SECONDS_TO_START):
                await worker.receive()
        except (EOFError, TimeoutError):
            log.error("worker_not_started", how=await worker.kill())
            self._workers.discard(worker)
            return None
        return worker

    async def _idle_worker(self, stop: asyncio.Event) -> WorkerProcess | None:
        """Return a free worker as soon as there is one; None if ``stop`` is set before."""
        while not stop.is_set():
            taking = asyncio.create_task(self._idle.get())
            try:
                await wait_or_stop(taking, stop)
            except asyncio.CancelledError:
                if taking.done():
                    self._idle.put_nowait(taking.result())
                raise
            finally:
                taking.cancel()
            if not taking.done():
                return None
            if not taking.result().has_ended:
                return taking.result()
        return None

    async def _converse(
        self,
        worker: WorkerProcess,
        task: RunTask,
        on_progress: Callable[[float], object],
        stop: asyncio.Event,
    ) -> RunOutcome:
        """Have ``worker`` do a run; kill it if it does not end by itself in time."""
        paths = [str(path) for path in task.candles]
        begin = Begin(task.spec, paths, str(task.directory))
        ending = asyncio.create_task(_outcome(worker, begin, on_progress))
        try:
            has_ended = await wait_or_stop(ending, stop, self.run_seconds)
            if not has_ended and stop.is_set():
                # A worker that reads nothing holds up who sends to it, until it is killed.
                stopping = asyncio.create_task(worker.send(Stop()))
                await asyncio.wait((ending, stopping), timeout=SECONDS_TO_STOP)
            if ending.done():
                return await ending
            await worker.kill()
            return RunOutcome(error=CANCELLED if stop.is_set() else too_slow(self.run_seconds))
        except EOFError:
            how = await worker.kill()
            if worker.was_short_of_memory:
                return RunOutcome(error=OUT_OF_MEMORY)
            raise WorkerDied(how) from None
        finally:
            ending.cancel()


async def _outcome(
    worker: WorkerProcess, begin: Begin, on_progress: Callable[[float], object]
) -> RunOutcome:
    """Have the worker do a run, report its progress, and return its outcome."""
    await worker.send(begin)
    while True:
        message = await worker.receive()
        if isinstance(message, Ended):
            return message.outcome
        if isinstance(message, Advanced):
            on_progress(message.fraction)
