"""What does the runs of jobs, wherever that is: what it is given, and what it answers."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from candlestep.data.records.jobs import RunOutcome, RunSpec

SECONDS_TO_STOP = 0.5
"""What a run that is told to stop gets before its process is ended."""


class WorkerDied(Exception):
    """A worker has ended in the middle of a run; says how."""


class RunTask(msgspec.Struct, frozen=True):
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
        self, call: RunTask, on_progress: Callable[[float], object], stop: asyncio.Event
    ) -> RunOutcome:
        """Do a run; when ``stop`` is set it ends within a second, with the error ``CANCELLED``.

        Raises ``WorkerDied`` if it may go well when it is tried again.
        """

    async def close(self) -> None:
        """End everything, runs included."""
