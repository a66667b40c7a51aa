"""Tasks: the jobs that run backtests and sweeps, and the requests that are stored with them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from candlestep.api.errors import with_field
from candlestep.api.http.route import Request, Route
from candlestep.api.routes.backtests.answers import (
    BASE,
    BacktestResultResponse,
    TaskStartedResponse,
)
from candlestep.api.routes.backtests.figures import HIGHER_IS_BETTER, RANKABLE, Flat, flat_metrics
from candlestep.api.routes.backtests.plan import (
    BacktestConfig,
    BacktestRequest,
    EngineName,
    plan_backtest,
)
from candlestep.api.schemas.decoding import EmptyBody, RequestBody, decode_body
from candlestep.api.schemas.fields import StrategyId
from candlestep.api.schemas.raw_json import JsonObject, json_object
from candlestep.api.services import Services
from candlestep.data.errors import JobNotFound
from candlestep.data.records import backtests as records
from candlestep.data.records.jobs import JobOrigin, JobRecord, JobStatus, RunSpec
from candlestep.data.records.strategies import StoredStrategy, get_strategy
from candlestep.sandbox import InvalidParameter
from candlestep.sandbox.errors import abbreviate
from candlestep.sandbox.strategies import TEMPLATES

MOST_CONFIGS = 50
"""The number of entries that a sweep may have."""

_CAPITAL = ("initial_capital", "commission", "slippage")
"""The fields next to the configuration that entries may set."""
_CONFIG = BacktestConfig.__struct_fields__
_PARAMETERS = "signal_plugin_params"
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


class SweepRequest(RequestBody):
    strategy_id: StrategyId
    base_config: Annotated[
        JsonObject,
        Meta(
            description="Values for the keys that entries leave out: the fields of a backtest's"
            " `config`, `initial_capital`, `commission`, `slippage`, and template parameters."
        ),
    ]
    param_grid: Annotated[
        list[JsonObject],
        Meta(
            min_length=1,
            max_length=MOST_CONFIGS,
            description="Each is one run: its keys replace those of `base_config`.",
        ),
    ]
    engine: EngineName = "sandbox"
    rank_metric: Annotated[
        str,
        Meta(
            description="The flat key that runs are ranked by, the best first.",
            extra_json_schema={"enum": RANKABLE},
        ),
    ] = "perf_sharpe_ratio"


class SweepResponse(TaskStartedResponse, frozen=True):
    n_configs: Annotated[int, Meta(ge=1, description="The number of entries in the grid.")]


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


class _TaskResponse(msgspec.Struct, frozen=True):
    task_id: str
    status: TaskStatus
    progress: Annotated[float, Meta(ge=0, le=1)]
    result: Any
    error: (
        Annotated[str, Meta(description="Why the task failed or was cancelled, in words.")] | None
    )


class BacktestTaskResponse(_TaskResponse, frozen=True):
    """The progress and the result of an execution."""

    result: BacktestResultResponse | None


class SweepTaskResponse(_TaskResponse, frozen=True):
    """The progress and the result of a sweep."""

    result: Leaderboard | None


class StoredSweep(msgspec.Struct, frozen=True):
    """The request for a sweep as it is stored; its runs are in the order of their backtests."""

    rank_metric: str
    backtest_ids: list[str]


class _StoredRequest(msgspec.Struct, frozen=True, omit_defaults=True):
    """The request that is stored with a job: one of the two."""

    backtest: records.BacktestRecord | None = None
    sweep: StoredSweep | None = None


def backtest_request(record: records.BacktestRecord) -> dict[str, Any]:
    """Return the request to be stored with a backtest's job, without results of earlier runs."""
    backtest = msgspec.structs.replace(
        record, set_status=None, set_metrics=None, hides_trades=False, hides_equity=False, run=None
    )
    return _to_json(_StoredRequest(backtest=backtest))


def sweep_request(sweep: StoredSweep) -> dict[str, Any]:
    """Return the request to be stored with a sweep's job."""
    return _to_json(_StoredRequest(sweep=sweep))


def sweep_of(job: JobRecord) -> StoredSweep | None:
    """Return the sweep that a job runs; None if it runs one backtest."""
    return msgspec.convert(job.request, _StoredRequest).sweep


def backtest_of(job: JobRecord) -> records.BacktestRecord:
    """Return the backtest that a job of one run was submitted for, as the job left it."""
    backtest = msgspec.convert(job.request, _StoredRequest).backtest
    assert backtest is not None
    return msgspec.structs.replace(
        backtest, changed_at=job.submitted_at, run=records.BacktestRun.of(job, 0)
    )


async def submit_task(
    services: Services,
    account_id: str,
    specs: Sequence[RunSpec],
    stored: Mapping[str, Any],
    save: Callable[[JobRecord], object],
) -> JobRecord:
    """Queue a job, and ``save`` what belongs to it; the job is cancelled if that fails."""
    job = await services.jobs.submit(account_id, _ORIGIN, specs, stored)
    try:
        await services.in_thread(save, job)
    except BaseException:
        await services.jobs.cancel_if_running(account_id, job.job_id)
        raise
    return job


async def sweep(services: Services, request: Request) -> SweepResponse:
    """Run a strategy with every entry of a grid as one job; its task has the leaderboard.

    Each run is a backtest, which is kept. A run that fails does not affect the others.
    """
    body: SweepRequest = request.body
    if body.rank_metric not in RANKABLE:
        raise InvalidParameter(
            "rank_metric",
            f"must be one of {', '.join(RANKABLE)}, got {abbreviate(body.rank_metric)!r}",
        )
    plans = await services.in_thread(_plan_all, services, request.account_id, body)
    ids = [records.new_backtest_id() for _ in plans]
    setups = {backtest_id: setup for backtest_id, (setup, _) in zip(ids, plans, strict=True)}
    job = await submit_task(
        services,
        request.account_id,
        [spec for _, spec in plans],
        sweep_request(StoredSweep(body.rank_metric, ids)),
        lambda job: records.create_backtests(
            services.store, request.account_id, setups, job.job_id
        ),
    )
    return SweepResponse(job.job_id, "PENDING", len(plans))


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
    result = BacktestResultResponse.of(backtest_of(job)) if status == "SUCCESS" else None
    return BacktestTaskResponse(job.job_id, status, job.progress, result, error)


def _status(job: JobRecord) -> TaskStatus:
    if job.status == "running" and job.progress:
        return "PROGRESS"
    return _STATUSES[job.status]


def _leaderboard(job: JobRecord, sweep: StoredSweep) -> Leaderboard:
    runs = [records.BacktestRun.of(job, number) for number in range(len(job.specs))]
    runs.sort(key=lambda run: _sort_key(run, sweep.rank_metric))
    ranked = [_rank(place, run, job, sweep) for place, run in enumerate(runs, 1)]
    return Leaderboard(ranked, len(ranked))


def _sort_key(run: records.BacktestRun, metric: str) -> tuple[int, float]:
    """Sort the best first; then those whose metric is undefined, then those that failed."""
    score = _figures(run).get(metric)
    if not isinstance(score, float | int):
        return (2 if run.summary is None else 1), 0.0
    return 0, -score if HIGHER_IS_BETTER[metric] else score


def _rank(place: int, run: records.BacktestRun, job: JobRecord, sweep: StoredSweep) -> RankedRun:
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


def _figures(run: records.BacktestRun) -> Flat:
    """Return the flat metrics of a run, none of one that failed."""
    return {} if run.summary is None else flat_metrics(run.summary)


def _plan_all(
    services: Services, account_id: str, body: SweepRequest
) -> list[tuple[records.BacktestSetup, RunSpec]]:
    entries = [
        json_object(raw, f"param_grid[{place}]") for place, raw in enumerate(body.param_grid)
    ]
    stored = get_strategy(services.store, account_id, body.strategy_id)
    base = json_object(body.base_config, "base_config")
    return [
        _plan_entry(services, stored, body.engine, base, entry, place)
        for place, entry in enumerate(entries)
    ]


def _plan_entry(
    services: Services,
    stored: StoredStrategy,
    engine: str,
    base: Mapping[str, Any],
    entry: dict[str, Any],
    place: int,
) -> tuple[records.BacktestSetup, RunSpec]:
    """Plan the backtest of an entry, which replaces parts of ``base``.

    Errors name the field where the request has it.
    """

    def path_of(key: str) -> str:
        return f"param_grid[{place}].{key}" if key in entry else f"base_config.{key}"

    merged = {**base, **entry}
    config = {key: merged[key] for key in _CONFIG if key in merged}
    capital = {key: merged[key] for key in _CAPITAL if key in merged}
    parameters = {key: merged[key] for key in merged if key not in (*_CONFIG, *_CAPITAL)}
    known = _parameters_of(stored, config.get("signal_plugin_key"))
    for key in parameters:
        if key not in known:
            raise InvalidParameter(
                path_of(abbreviate(key)), _unknown_key((*_CONFIG, *_CAPITAL), sorted(known))
            )
    if parameters:
        own_parameters = config.get(_PARAMETERS, {})
        if not isinstance(own_parameters, dict):
            raise InvalidParameter(path_of(_PARAMETERS), "must be an object, {…}")
        config[_PARAMETERS] = own_parameters | parameters
    try:
        decoded = decode_body(BacktestConfig, msgspec.json.encode(config))
        request = BacktestRequest(stored.strategy_id, decoded, engine, **capital)
        setup, spec = plan_backtest(services, stored, request)
    except InvalidParameter as refusal:
        raise _relocate(refusal, path_of, parameters) from None
    return setup, msgspec.structs.replace(spec, overrides=entry)


def _relocate(
    refusal: InvalidParameter, path_of: Callable[[str], str], parameters: Mapping[str, Any]
) -> InvalidParameter:
    """Return the refusal with its field named where the sweep has it."""
    field = str(refusal.details["field"]).removeprefix("config.")
    if field == "engine":
        return refusal  # All entries share it.
    parameter = field.removeprefix(f"{_PARAMETERS}.")
    if parameter in parameters:
        return with_field(refusal, path_of(parameter))
    first = field.partition(".")[0]
    return with_field(refusal, path_of(first) + field.removeprefix(first))


def _parameters_of(stored: StoredStrategy, key: Any) -> set[str]:
    """Return the names of the parameters of the template that is run, if it is one."""
    template = TEMPLATES.get(key if isinstance(key, str) else stored.content.get("template", ""))
    return set() if template is None else {parameter.name for parameter in template.parameters}


def _unknown_key(fields: Iterable[str], parameters: Iterable[str]) -> str:
    own = ", ".join(parameters)
    return f"is not a field; the fields are {', '.join(fields)}" + (
        f", and the strategy's parameters {own}" if own else "; the strategy has no parameters"
    )


def _to_json(request: _StoredRequest) -> dict[str, Any]:
    stored: dict[str, Any] = msgspec.to_builtins(request)
    return stored


_TASK = "/api/v1/tasks/{task_id}"

ROUTES = [
    Route(
        "POST", f"{BASE}/sweep", sweep, "Run a parameter sweep", body=SweepRequest,
        errors=("STRATEGY_NOT_FOUND", "RATE_LIMITED"),
    ),
    Route("GET", _TASK, task, "A task", errors=("NOT_FOUND",)),
    Route(
        "POST", f"{_TASK}/cancel", cancel, "Cancel a task", body=EmptyBody,
        errors=("NOT_FOUND", "INVALID_STATE"),
    ),
]  # fmt: skip
