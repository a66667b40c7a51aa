"""Runs of jobs with the files that they wrote, and the candles on which they ran."""

from collections.abc import Callable
from pathlib import Path

from candlestep.api.views.run_view import StoredRun
from candlestep.data.errors import BudgetInUse, MarketPruned, OverBudget
from candlestep.data.market.candle_cache import CandleRequest
from candlestep.data.records.jobs import JobRecord, RunSpec
from candlestep.data.run_files.columns import read_closed_trades, read_equity
from candlestep.data.run_files.run_files import run_directory
from candlestep.sandbox import Market


def stored_run(
    home: Path,
    job: JobRecord,
    number: int,
    *,
    kind: str,
    own_id: str,
    path: str,
    error: str | None,
) -> StoredRun:
    """Return a run of a job with the equity and the trades that it wrote. Blocks."""
    outcome = job.outcomes[number]
    summary = None if outcome is None else outcome.summary
    directory = run_directory(home, job.job_id, number)
    has_files = summary is not None and job.files_deleted_at is None
    return StoredRun(
        kind=kind,
        id=own_id,
        status=job.status if outcome is None else "failed" if summary is None else "done",
        progress=job.progress,
        spec=job.specs[number],
        summary=summary,
        error=error,
        equity=read_equity(directory) if has_files else None,
        trades=read_closed_trades(directory) if has_files else None,
        api_path=path,
    )


def market_of(load: Callable[[CandleRequest], Market | None], spec: RunSpec) -> Market | None:
    """Return the candles of a run; None if they are gone, or do not fit the memory now.

    ``load`` loads the candles, and may block.
    """
    number = 0 if spec.import_number is None else spec.import_number
    try:
        return load(
            CandleRequest(spec.exchange, spec.pairs, number, spec.start_time, spec.end_time)
        )
    except (MarketPruned, OverBudget, BudgetInUse):
        return None
