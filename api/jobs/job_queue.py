"""Where jobs run, as the settings say."""

import os

from candlestep.api.jobs.executor import Executor
from candlestep.api.jobs.queue import JobQueue
from candlestep.api.jobs.worker_pool import WorkerPool
from candlestep.api.settings import Settings
from candlestep.api.threads import InThread
from candlestep.data.market.candle_cache import CandleCache
from candlestep.data.market.mapped_candles import MappedCandles
from candlestep.data.store.database import Store
from candlestep.sandbox import InvalidParameter


def job_queue(
    settings: Settings, store: Store, cache: CandleCache, in_thread: InThread, load: InThread
) -> JobQueue:
    """The queue of a server's jobs, over candles of ``cache`` that are mapped in files.

    ``load`` is as ``in_thread``, for what may take seconds.
    """
    return JobQueue(
        store,
        MappedCandles(cache, settings.home, settings.memory_budget),
        _executor(settings),
        in_thread,
        load,
        home=settings.home,
        result_days=settings.result_days,
    )


def _executor(settings: Settings) -> Executor:
    bounds = {"run_seconds": settings.run_seconds, "run_memory": settings.run_memory}
    if settings.executor == "local":
        return WorkerPool(settings.workers or os.cpu_count() or 1, **bounds)
    try:
        from candlestep.api.jobs.ray_executor import RayExecutor
    except ImportError as error:
        raise InvalidParameter(
            "--executor", f"ray cannot be used ({error}); pip install 'candlestep[ray]'"
        ) from None
    return RayExecutor.connect(settings.ray_address, settings.workers, **bounds)
