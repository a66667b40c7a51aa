"""Tasks: the jobs that run backtests and sweeps, and the requests that are stored with them."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from candlestep.api.http.route import Request, Route
from candlestep.api.routes.backtests.answers import BacktestResultResponse, to_result_response
from candlestep.api.routes.backtests.figures import HIGHER_IS_BETTER, Flat, flat_metrics
from candlestep.api.schemas.decoding import EmptyBody
from candlestep.api.services import Services
from candlestep.data.errors import JobNotFound
from candlestep.data.records.backtests import BacktestRecord, BacktestRun
from candlestep.data.records.jobs import JobOrigin, JobRecord, JobStatus
from candlestep.sandbox.errors import abbreviate

_ORIGIN: JobOrigin = "backtests"
_SUMMARY = (
    "total_return", "perf_cagr", "perf_sharpe_ratio", "perf_sortino_ratio", "perf_calmar_ratio",
    "risk_max_drawdown", "trade_total_trades", "trade_win_rate", "trade_profit_factor",
)  # fmt: skip

TaskStatus = Literal["PENDING", "STARTED", "PROGRESS", "SUCCESS", "FAILURE"]
_STATUSES: dict[JobStatus, TaskStatus] = {
    "queued": "PENDING",
    "running": "STARTED",
    "done": "SUCCESS",
    "failed": "FAILURE",
    "cancelled": "FAILURE",
}

CompletedShare = Annotated[float, Meta(ge=0, le=1)]
TaskError = Annotated[str, Meta(description="Why the task failed or was cancelled, in words.")]


class RankedRun(msgspec.Struct, frozen=True):
    """A run of a sweep; its backtest has equity curve, trades and all metrics."""

    rank: int
    backtest_id: str
    overrides: Annotated[dict[str, Any], Meta(description="Its entry of the grid.")]
    status: Literal["completed", "failed"]
    score: float | int | None
    rank_metric: str
    metrics_summary: Flat
    error: Annotated[str | None, Meta(description="Why it failed.")]


class Leaderboard(msgspec.Struct, frozen=True):
    """The best run first; then those whose metric is undefined, then those that failed."""

    leaderboard: list[RankedRun]
    total_runs: int


class BacktestTaskResponse(msgspec.Struct, frozen=True):
    """The progress and the result of an execution."""

    task_id: str
    status: TaskStatus
    progress: CompletedShare
    result: BacktestResultResponse | None
    error: TaskError | None


class SweepTaskResponse(msgspec.Struct, frozen=True):
    """The progress and the result of a sweep."""

    task_id: str
    status: TaskStatus
    progress: CompletedShare
    result: Leaderboard | None
    error: TaskError | None


class StoredSweep(msgspec.Struct, frozen=True):
    """The request for a sweep as it is stored; its runs are in the order of their backtests."""

    rank_metric: str
    backtest_ids: list[str]


class _StoredRequest(msgspec.Struct, frozen=True, omit_defaults=True):
    """The request that is stored with a job: one of the two."""

    backtest: BacktestRecord | None = None
    sweep: StoredSweep | None = None


def backtest_request(record: BacktestRecord) -> dict[str, Any]:
    """Return the request to be stored with a backtest's job, without results of earlier runs."""
    backtest = msgspec.structs.replace(
        record,
        set_status=None,
        set_metrics=None,
        hides_trades=False,
        hides_equity=False,
        run=None,
    )
    return _to_json(_StoredRequest(backtest=backtest))


def sweep_request(sweep: StoredSweep) -> dict[str, Any]:
    """Return the request to be stored with a sweep's job."""
    return _to_json(_StoredRequest(sweep=sweep))


def sweep_of(job: JobRecord) -> StoredSweep | None:
    """Return the sweep that a job runs; None if it runs one backtest."""
    return msgspec.convert(job.request, _StoredRequest).sweep


def backtest_of(job: JobRecord) -> BacktestRecord:
    """Return the backtest that a job of one run was submitted for, as the job left it."""
    backtest = msgspec.convert(job.request, _StoredRequest).backtest
    assert backtest is not None
    return msgspec.structs.replace(
        backtest, changed_at=job.submitted_at, run=BacktestRun.of(job, 0)
    )


async def task(services: Services, request: Request) -> BacktestTaskResponse | SweepTaskResponse:
    """Return the progress of an execution or a sweep, and its result."""
    return _to_response(await _get_owned_task(services, request))


async def cancel(services: Services, request: Request) -> BacktestTaskResponse | SweepTaskResponse:
    """End an execution or a sweep within a second, even in the middle of its runs."""
    job = await _get_owned_task(services, request)
    return _to_response(await services.jobs.cancel(request.account_id, job.job_id))


async def _get_owned_task(services: Services, request: Request) -> JobRecord:
    """Return the task that the path names; raises ``JobNotFound``."""
    task_id = request.path["task_id"]
    try:
        return await services.jobs.get(request.account_id, task_id, origin=_ORIGIN)
    except JobNotFound:
        raise JobNotFound(
            f"there is no task {abbreviate(task_id)!r}", task_id=abbreviate(task_id)
        ) from None


def _to_response(job: JobRecord) -> BacktestTaskResponse | SweepTaskResponse:
    status = _status(job)
    error = None
    if status == "FAILURE":
        error = job.error_message or "it was cancelled"
    sweep = sweep_of(job)
    if sweep is not None:
        board = _leaderboard(job, sweep) if job.status in ("done", "failed") else None
        return SweepTaskResponse(job.job_id, status, job.progress, board, error)
    result = to_result_response(backtest_of(job)) if status == "SUCCESS" else None
    return BacktestTaskResponse(job.job_id, status, job.progress, result, error)


def _status(job: JobRecord) -> TaskStatus:
    if job.status == "running" and job.progress:
        return "PROGRESS"
    return _STATUSES[job.status]


def _leaderboard(job: JobRecord, sweep: StoredSweep) -> Leaderboard:
    runs = [BacktestRun.of(job, number) for number in range(len(job.specs))]
    runs.sort(key=lambda run: _sort_key(run, sweep.rank_metric))
    ranked = [_rank(place, run, job, sweep) for place, run in enumerate(runs, 1)]
    return Leaderboard(ranked, len(ranked))


def _sort_key(run: BacktestRun, metric: str) -> tuple[int, float]:
    """Sort the best first; then those whose metric is undefined, then those that failed."""
    score = _figures(run).get(metric)
    if not isinstance(score, float | int):
        return (2 if run.summary is None else 1), 0.0
    return 0, -score if HIGHER_IS_BETTER[metric] else score


def _rank(place: int, run: BacktestRun, job: JobRecord, sweep: StoredSweep) -> RankedRun:
    figures = _figures(run)
    score = figures.get(sweep.rank_metric)
    keys = dict.fromkeys((*_SUMMARY, sweep.rank_metric))
    return RankedRun(
        place,
        sweep.backtest_ids[run.run_number],
        job.specs[run.run_number].overrides,
        "failed" if run.summary is None else "completed",
        score if isinstance(score, float | int) else None,
        sweep.rank_metric,
        {key: figures[key] for key in keys if figures},
        run.error,
    )


def _figures(run: BacktestRun) -> Flat:
    """Return the flat metrics of a run, none of one that failed."""
    return {} if run.summary is None else flat_metrics(run.summary)


def _to_json(request: _StoredRequest) -> dict[str, Any]:
    stored: dict[str, Any] = msgspec.to_builtins(request)
    return stored


_TASK = "/api/v1/tasks/{task_id}"
_RESPONSES = (BacktestTaskResponse, SweepTaskResponse)

ROUTES = [
    Route("GET", _TASK, task, "A task", _RESPONSES, errors=("NOT_FOUND",)),
    Route(
        "POST", f"{_TASK}/cancel", cancel, "Cancel a task", _RESPONSES, body=EmptyBody,
        errors=("NOT_FOUND", "INVALID_STATE"),
    ),
]  # fmt: skip
