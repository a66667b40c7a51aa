"""The interface of an executor, which runs strategies on this machine or on a cluster."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec

from candlestep.data.records.jobs import RunOutcome, RunSpec

SECONDS_TO_STOP = 0.5
"""The time that a run has to stop when asked, before its process is killed."""


class WorkerDied(Exception):
    """Raised when a worker ends in the middle of a run; the message says how it ended."""


class RunTask(msgspec.Struct, frozen=True):
    """A run, the files of its candles, and the directory for its results."""

    spec: RunSpec
    candles: Sequence[Path]
    directory: Path


class Executor(Protocol):
    """Runs strategies. Its methods are called on the event loop."""

    slots: int
    """The number of runs that it executes at a time."""

    async def start(self) -> None:
        """Start the workers; calling it again changes nothing."""

    async def run(
        self, task: RunTask, on_progress: Callable[[float], object], stop: asyncio.Event
    ) -> RunOutcome:
        """Execute a run and return its outcome.

        When ``stop`` is set, the run ends within a second with the error ``CANCELLED``. Raises
        ``WorkerDied`` if another attempt may succeed.
        """

    async def close(self) -> None:
        """End the workers, together with their runs."""


async def wait_or_stop(
    task: "asyncio.Task[Any]", stop: asyncio.Event, seconds: float | None = None
) -> bool:
    """Wait for ``task`` until ``stop`` is set or ``seconds`` are over; return whether it is done.

    The task itself goes on.
    """
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((task, stopping), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
    return task.done()
