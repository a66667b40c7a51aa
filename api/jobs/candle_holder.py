"""The candles of runs, as files that workers map: acquired before a run, released after it."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from candlestep.api.jobs.executor import wait_or_stop
from candlestep.api.threads import InThread
from candlestep.data.market.candle_cache import LOOK_BACK, CandleRequest
from candlestep.data.market.mapped_candles import MappedCandles
from candlestep.data.records.jobs import RunSpec


class HeldCandles(NamedTuple):
    """Candles that were acquired, and the files that they are in."""

    request: CandleRequest
    paths: Sequence[Path]


class CandleHolder:
    """Acquires the candles of runs. Its methods are called on the event loop."""

    def __init__(self, candles: MappedCandles, load: InThread) -> None:
        """Load candles by ``load``, which waits until there is room for them in memory."""
        self._candles = candles
        self._load = load

    async def prepare(self, spec: RunSpec) -> None:
        """Load the candles of a run in advance; raises the errors of loading them."""
        await self.load(_request(spec))

    async def load(self, request: CandleRequest) -> Sequence[Path]:
        """Load candles and return their files, which may be deleted to make room for others.

        Raises the errors of ``MappedCandles.acquire``.
        """
        paths = await self._acquire(request)
        self._candles.release(paths)
        return paths

    async def acquire(
        self, spec: RunSpec, latest: HeldCandles | None, stop: asyncio.Event
    ) -> HeldCandles | None:
        """Acquire the candles of a run; return None if ``stop`` is set before they are loaded.

        ``latest`` are those of the run before, which most runs of a sweep need too: they are
        acquired again without loading anything.
        """
        request = _request(spec)
        if (
            latest is not None
            and latest.request == request
            and self._candles.reacquire(latest.paths)
        ):
            return latest
        acquiring = asyncio.create_task(self._acquire(request))
        try:
            await wait_or_stop(acquiring, stop)
        finally:
            if not acquiring.done():
                acquiring.add_done_callback(self._release_late)
        return HeldCandles(request, await acquiring) if acquiring.done() else None

    def release(self, held: HeldCandles) -> None:
        """Release what ``acquire`` returned."""
        self._candles.release(held.paths)

    async def _acquire(self, request: CandleRequest) -> Sequence[Path]:
        return await self._load(self._candles.acquire, request)

    def _release_late(self, acquiring: "asyncio.Task[Sequence[Path]]") -> None:
        """Release candles whose run was stopped before they were loaded."""
        if not acquiring.cancelled() and acquiring.exception() is None:
            self._candles.release(acquiring.result())


def _request(spec: RunSpec) -> CandleRequest:
    assert spec.import_number is not None, "it is pinned when the job is submitted"
    look_back = max(LOOK_BACK, spec.history)
    period = (spec.start_time, spec.end_time, look_back)
    return CandleRequest(spec.exchange, tuple(spec.pairs), spec.import_number, *period)
