"""Runs on Ray, for who has outgrown one machine: the same runner, in actors of a cluster.

The candles of a time line are put into Ray's object store once, and travel once to each node; the
files of a run travel back with its outcome. Candlestep is to be installed on every node.
"""

import asyncio
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError

from candlestep.api.jobs.executor import SECONDS_TO_STOP, RunTask, WorkerDied
from candlestep.api.jobs.latest import Latest
from candlestep.api.jobs.run import perform
from candlestep.api.jobs.run_errors import CANCELLED, too_slow, wears_out
from candlestep.api.jobs.worker import limit_memory
from candlestep.data.market.mapped_candles import open_mapped
from candlestep.data.records.jobs import RunOutcome, RunSpec
from candlestep.data.run_files.run_files import write_run_files
from candlestep.sandbox import Candles, SandboxError
from candlestep.sandbox.market.candles import CandleArrays

_KEPT_TIME_LINES = 64
_POLL_SECONDS = 0.1


class RayUnavailable(SandboxError):
    """There is no Ray where it should be."""

    code = "INVALID_PARAMETER"


class _Actor:
    """A process of the cluster that does one run after the other."""

    def __init__(self, run_memory: int) -> None:
        limit_memory(run_memory)
        self._time_lines = Latest[Candles](_KEPT_TIME_LINES)
        self._progress = 0.0
        self._is_stopped = False

    def begin(self) -> None:
        """Forget the run before."""
        self._progress, self._is_stopped = 0.0, False

    def perform(
        self, spec: RunSpec, names: Sequence[str], references: Sequence[Any]
    ) -> tuple[RunOutcome, dict[str, bytes]]:
        """The outcome of a run, and its files by their names."""
        pairs = zip(names, references, strict=True)
        candles = [self._time_line(name, reference) for name, reference in pairs]
        with tempfile.TemporaryDirectory() as directory:
            outcome = perform(
                spec, candles, Path(directory), self._note_progress, lambda: self._is_stopped
            )
            files = {path.name: path.read_bytes() for path in Path(directory).iterdir()}
        return outcome, files

    def progress(self) -> float:
        """How much of the run is done; answered while it runs."""
        return self._progress

    def stop(self) -> None:
        """Have the run stopped."""
        self._is_stopped = True

    def _note_progress(self, fraction: float) -> None:
        self._progress = fraction

    def _time_line(self, name: str, reference: Any) -> Candles:
        def restored() -> Candles:
            line: CandleArrays = ray.get(reference)
            return Candles.restore(line)

        return self._time_lines.get(name, restored)


class RayExecutor:
    """An ``Executor`` of actors on a Ray cluster."""

    @classmethod
    def connect(
        cls, address: str, workers: int, *, run_seconds: float, run_memory: int
    ) -> "RayExecutor":
        """Connect to the cluster at ``address``, or start Ray on this machine if that is empty.

        ``workers`` is how many runs are done at a time, 0: as many as the cluster has cores.
        Blocks for seconds; for the main thread. Raises ``RayUnavailable``.
        """
        before = signal.getsignal(signal.SIGTERM)
        try:
            _connect(address, workers)
        except (ConnectionError, RayError, RuntimeError, ValueError) as error:
            raise RayUnavailable(
                f"Ray cannot be reached at {address or 'this machine'}: {error}; see to"
                " --ray-address, or serve with --executor local"
            ) from None
        finally:
            # Ray would end the process where the server saves first.
            signal.signal(signal.SIGTERM, before)
        cluster: Any = ray
        slots = workers or int(cluster.cluster_resources().get("CPU", 1))
        return cls(slots, run_seconds=run_seconds, run_memory=run_memory)

    def __init__(self, slots: int, *, run_seconds: float, run_memory: int) -> None:
        """Use ``connect``."""
        self._slots = slots
        self._run_seconds = run_seconds
        self._run_memory = run_memory
        remote: Any = ray.remote
        self._actor = remote(num_cpus=1, max_concurrency=2)(_Actor)
        self._idle: list[Any] = []
        self._is_started = False
        self._references = Latest[Any](_KEPT_TIME_LINES)
        self._putting = threading.Lock()

    @property
    def slots(self) -> int:
        return self._slots

    async def start(self) -> None:
        if not self._is_started:
            self._is_started = True
            self._idle += [self._actor.remote(self._run_memory) for _ in range(self._slots)]

    async def perform(
        self, call: RunTask, on_progress: Callable[[float], object], stop: asyncio.Event
    ) -> RunOutcome:
        actor = self._idle.pop() if self._idle else self._actor.remote(self._run_memory)
        is_usable = False
        try:
            ending = asyncio.create_task(self._performed(actor, call))
            outcome = await self._watched(actor, ending, on_progress, stop)
            is_usable = ending.done() and not wears_out(outcome)
            if not outcome.error:
                _, files = await ending
                await asyncio.to_thread(write_run_files, call.directory, files)
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

    async def _performed(self, actor: Any, call: RunTask) -> tuple[RunOutcome, dict[str, bytes]]:
        """What an actor makes of a run, as soon as the cluster has room for the actor."""
        await actor.begin.remote()
        names = [str(path) for path in call.candles]
        references = [await asyncio.to_thread(self._put, path) for path in call.candles]
        outcome, files = await _future(actor.perform.remote(call.spec, names, references))
        return outcome, files

    async def _watched(
        self,
        actor: Any,
        ending: "asyncio.Task[tuple[RunOutcome, dict[str, bytes]]]",
        on_progress: Callable[[float], object],
        stop: asyncio.Event,
    ) -> RunOutcome:
        """The outcome of a run; the actor is to be killed if ``ending`` is not done then."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self._run_seconds
        stopping = asyncio.ensure_future(stop.wait())
        telling: asyncio.Future[float] | None = None
        try:
            while loop.time() < until and not stop.is_set():
                await asyncio.wait(
                    (ending, stopping),
                    timeout=_POLL_SECONDS,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if ending.done():
                    return (await ending)[0]
                if telling is None:
                    telling = asyncio.ensure_future(_future(actor.progress.remote()))
                elif telling.done():
                    on_progress(await telling)
                    telling = None
            if stop.is_set():
                actor.stop.remote()
                await asyncio.wait((ending,), timeout=SECONDS_TO_STOP)
                return (await ending)[0] if ending.done() else RunOutcome(error=CANCELLED)
            return RunOutcome(error=too_slow(self._run_seconds))
        finally:
            stopping.cancel()
            if telling is not None:
                telling.cancel()
            if not ending.done():
                ending.cancel()

    def _put(self, path: Path) -> Any:
        """The time line of a file in the object store, put there once."""
        with self._putting:
            return self._references.get(str(path), lambda: ray.put(open_mapped(path).arrays))


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
