"""Runs on a Ray cluster, for users who have outgrown one machine.

The candles of a symbol are put into Ray's object store once, and travel once to each node; the
files of a run travel back with its outcome. Candlestep must be installed on every node.
"""

import asyncio
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError

from candlestep.api.jobs.executor import SECONDS_TO_STOP, RunTask, WorkerDied, wait_or_stop
from candlestep.api.jobs.run import execute_run
from candlestep.api.jobs.run_errors import CANCELLED, too_slow, wears_out
from candlestep.data.market.mapped_candles import open_mapped
from candlestep.data.market.parts import Part
from candlestep.data.processes import limit_memory
from candlestep.data.records.jobs import RunOutcome, RunSpec
from candlestep.data.run_files.run_files import write_run_files
from candlestep.sandbox import Candles, FundingRates, SandboxError
from candlestep.sandbox.market.candles import CandleArrays
from candlestep.sandbox.market.funding import FundingArrays

_KEPT_CANDLES = 64
"""The candles of symbols that a process keeps ready for its next runs."""
_POLL_SECONDS = 0.1


class RayUnavailable(SandboxError):
    """Raised when Ray cannot be reached."""

    code = "INVALID_PARAMETER"


class _Actor:
    """A process of the cluster that does one run after the other."""

    def __init__(self, run_memory: int) -> None:
        limit_memory(run_memory)
        self._candles = lru_cache(_KEPT_CANDLES)(_restore)
        self._progress = 0.0
        self._is_stopped = False

    def begin(self) -> None:
        """Forget the run before this one."""
        self._progress, self._is_stopped = 0.0, False

    def run(self, spec: RunSpec, references: Sequence[Any]) -> tuple[RunOutcome, dict[str, bytes]]:
        """Return the outcome of a run, and the contents of its files by their names."""
        candles = [self._candles(reference) for reference in references]
        with tempfile.TemporaryDirectory() as directory:
            outcome = execute_run(
                spec, candles, Path(directory), self._note_progress, lambda: self._is_stopped
            )
            files = {path.name: path.read_bytes() for path in Path(directory).iterdir()}
        return outcome, files

    def progress(self) -> float:
        """Return the fraction of the run that is done; answered while it runs."""
        return self._progress

    def stop(self) -> None:
        """Stop the run soon."""
        self._is_stopped = True

    def _note_progress(self, fraction: float) -> None:
        self._progress = fraction


class RayExecutor:
    """An ``Executor`` of actors on a Ray cluster."""

    @classmethod
    def connect(
        cls, address: str, workers: int, *, run_seconds: float, run_memory: int
    ) -> "RayExecutor":
        """Connect to the cluster at ``address``, or start Ray on this machine if that is empty.

        ``workers`` is the number of runs at a time; 0 is one for each core of the cluster. Blocks
        for seconds; call it in the main thread. Raises ``RayUnavailable``.
        """
        before = signal.getsignal(signal.SIGTERM)
        try:
            _connect(address, workers)
        except (ConnectionError, RayError, RuntimeError, ValueError) as error:
            raise RayUnavailable(
                f"cannot reach Ray at {address or 'this machine'}: {error}; check --ray-address,"
                " or serve with --executor local"
            ) from None
        finally:
            # Ray's handler would end the process before the server has saved.
            signal.signal(signal.SIGTERM, before)
        cluster: Any = ray
        slots = workers or int(cluster.cluster_resources().get("CPU", 1))
        return cls(slots, run_seconds=run_seconds, run_memory=run_memory)

    def __init__(self, slots: int, *, run_seconds: float, run_memory: int) -> None:
        """Use ``connect``."""
        self.slots = slots
        self._run_seconds = run_seconds
        self._run_memory = run_memory
        remote: Any = ray.remote
        self._actor = remote(num_cpus=1, max_concurrency=2)(_Actor)
        self._idle: list[Any] = []
        self._is_started = False
        self._reference = lru_cache(_KEPT_CANDLES)(_put)
        self._putting = threading.Lock()

    async def start(self) -> None:
        if not self._is_started:
            self._is_started = True
            self._idle += [self._actor.remote(self._run_memory) for _ in range(self.slots)]

    async def run(
        self, task: RunTask, on_progress: Callable[[float], object], stop: asyncio.Event
    ) -> RunOutcome:
        actor = self._idle.pop() if self._idle else self._actor.remote(self._run_memory)
        is_usable = False
        try:
            ending = asyncio.create_task(self._run(actor, task))
            outcome = await self._watch(actor, ending, on_progress, stop)
            is_usable = ending.done() and not wears_out(outcome)
            if not outcome.error:
                _, files = await ending
                await asyncio.to_thread(write_run_files, task.directory, files)
            return outcome
        except RayError as death:
            raise WorkerDied(str(death).splitlines()[0]) from None
        finally:
            if is_usable:
                self._idle.append(actor)
            else:
                ray.kill(actor)

    async def close(self) -> None:
        await asyncio.to_thread(ray.shutdown)

    async def _run(self, actor: Any, task: RunTask) -> tuple[RunOutcome, dict[str, bytes]]:
        """Return the outcome and files of a run, once the cluster has room for the actor."""
        await actor.begin.remote()
        references = [await asyncio.to_thread(self._put_once, path) for path in task.candles]
        outcome, files = await _future(actor.run.remote(task.spec, references))
        return outcome, files

    async def _watch(
        self,
        actor: Any,
        ending: "asyncio.Task[tuple[RunOutcome, dict[str, bytes]]]",
        on_progress: Callable[[float], object],
        stop: asyncio.Event,
    ) -> RunOutcome:
        """Return the outcome of a run; kill the actor if ``ending`` is not done by then."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self._run_seconds
        progress: asyncio.Future[float] | None = None
        try:
            while loop.time() < until and not stop.is_set():
                if await wait_or_stop(ending, stop, _POLL_SECONDS):
                    return (await ending)[0]
                if progress is None:
                    progress = asyncio.ensure_future(_future(actor.progress.remote()))
                elif progress.done():
                    on_progress(await progress)
                    progress = None
            if stop.is_set():
                actor.stop.remote()
                await asyncio.wait((ending,), timeout=SECONDS_TO_STOP)
                return (await ending)[0] if ending.done() else RunOutcome(error=CANCELLED)
            return RunOutcome(error=too_slow(self._run_seconds))
        finally:
            if progress is not None:
                progress.cancel()
            if not ending.done():
                ending.cancel()

    def _put_once(self, path: Path) -> Any:
        """Return the reference of a file's candles, which are put into the object store once."""
        with self._putting:
            return self._reference(path)


def _put(path: Path) -> Any:
    return ray.put(open_mapped(path).arrays)


def _restore(reference: Any) -> Part:
    arrays: CandleArrays | FundingArrays = ray.get(reference)
    if isinstance(arrays, FundingArrays):
        return FundingRates.restore(arrays)
    return Candles.restore(arrays)


async def _future(reference: Any) -> Any:
    return await asyncio.wrap_future(reference.future())


def _connect(address: str, workers: int) -> None:
    if address:
        ray.init(address=address, log_to_driver=False)
        return
    path = os.pathsep.join(filter(None, map(os.path.abspath, sys.path)))
    ray.init(
        num_cpus=workers or None,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": path}},
    )
