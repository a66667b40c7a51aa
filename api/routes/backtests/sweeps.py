"""Sweeps: a strategy run with many configurations as one job; and tasks, which follow jobs."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from candlestep.api.errors import with_field
from candlestep.api.http.route import Request, Route
from candlestep.api.routes.backtests.answers import (
    BASE,
    BacktestResultResponse,
    TaskStartedResponse,
    result_of,
)
from candlestep.api.routes.backtests.backtests import BacktestRequest, EngineName, StrategyId
from candlestep.api.routes.backtests.figures import HIGHER_IS_BETTER, RANKABLE, Flat, flat_metrics
from candlestep.api.routes.backtests.job_requests import (
    StoredSweep,
    cancel_if_running,
    executed,
    sweep_request,
    swept,
)
from candlestep.api.routes.backtests.plan import BacktestConfig, Plan, plan_backtest
from candlestep.api.schemas.decoding import EmptyBody, RequestBody, decode_body
from candlestep.api.schemas.raw_json import JsonObject, json_object
from candlestep.api.services import Services
from candlestep.data.errors import JobNotFound
from candlestep.data.records.backtests import BacktestRun, create_backtests, new_backtest_id
from candlestep.data.records.jobs import JobRecord, JobStatus
from candlestep.data.records.strategies import StoredStrategy, get_strategy
from candlestep.sandbox import InvalidParameter
from candlestep.sandbox.errors import abbreviate
from candlestep.sandbox.strategies import TEMPLATES

MOST_CONFIGS = 50
"""Of one sweep."""

_CAPITAL = {
    each.name: each.default
    for each in msgspec.structs.fields(BacktestRequest)
    if each.name in ("initial_capital", "commission", "slippage")
}
"""What entries may set beside the configuration, with its defaults."""
_CONFIG = BacktestConfig.__struct_fields__
_PARAMETERS = "signal_plugin_params"
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
TaskError = Annotated[str, Meta(description="Of a task of status `FAILURE`: why, in words.")]


class SweepRequest(RequestBody):
    strategy_id: StrategyId
    base_config: Annotated[
        JsonObject,
        Meta(
            description="What entries leave out: the fields of a backtest's `config`,"
            " `initial_capital`, `commission`, `slippage`, and parameters of the template."
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
    n_configs: Annotated[int, Meta(ge=1, description="How many entries the grid has.")]


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
    """How far the execution of a backtest is."""

    task_id: str
    status: TaskStatus
    progress: CompletedShare
    result: BacktestResultResponse | None
    error: TaskError | None


class SweepTaskResponse(msgspec.Struct, frozen=True):
    """How far a sweep is."""

    task_id: str
    status: TaskStatus
    progress: CompletedShare
    result: Leaderboard | None
    error: TaskError | None


async def sweep(services: Services, request: Request) -> SweepResponse:
    """Run a strategy with every entry of a grid, as one job; the task has the leaderboard.

    Each run is a backtest, which stays. One that fails does not fail the others.
    """
    body: SweepRequest = request.body
    if body.rank_metric not in RANKABLE:
        raise InvalidParameter(
            "rank_metric", f"{abbreviate(body.rank_metric)!r} is none of {', '.join(RANKABLE)}"
        )
    entries = [
        json_object(raw, f"param_grid[{place}]") for place, raw in enumerate(body.param_grid)
    ]
    plans = await services.in_thread(_plans, services, request.account_id, body, entries)
    ids = [new_backtest_id() for _ in plans]
    specs = [
        msgspec.structs.replace(each.spec, overrides=entry)
        for each, entry in zip(plans, entries, strict=True)
    ]
    stored = sweep_request(StoredSweep(body.rank_metric, ids))
    job = await services.jobs.submit(request.account_id, "backtests", specs, stored)
    setups = {id: each.setup for id, each in zip(ids, plans, strict=True)}
    try:
        await services.in_thread(
            create_backtests, services.store, request.account_id, setups, job.job_id
        )
    except BaseException:
        await cancel_if_running(services, request.account_id, job.job_id)
        raise
    return SweepResponse(job.job_id, "PENDING", len(plans))


async def task(services: Services, request: Request) -> BacktestTaskResponse | SweepTaskResponse:
    """How far an execution or a sweep is, and what came of it."""
    return _answer(await _found(services, request))


async def cancel(services: Services, request: Request) -> BacktestTaskResponse | SweepTaskResponse:
    """End an execution or a sweep, in the middle of its runs too; takes effect within a second."""
    found = await _found(services, request)
    return _answer(await services.jobs.cancel(request.account_id, found.job_id))


async def _found(services: Services, request: Request) -> JobRecord:
    """The task that the path names; raises ``JobNotFound``."""
    task_id = request.path["task_id"]
    try:
        return await services.jobs.get(request.account_id, task_id, origin="backtests")
    except JobNotFound:
        raise JobNotFound(
            f"there is no task {abbreviate(task_id)!r}", task_id=abbreviate(task_id)
        ) from None


def _answer(job: JobRecord) -> BacktestTaskResponse | SweepTaskResponse:
    status = _status(job)
    error = None
    if status == "FAILURE":
        error = job.error_message or "it was cancelled"
    asked = swept(job)
    if asked is not None:
        board = _leaderboard(job, asked) if job.status in ("done", "failed") else None
        return SweepTaskResponse(job.job_id, status, job.progress, board, error)
    result = result_of(executed(job)) if status == "SUCCESS" else None
    return BacktestTaskResponse(job.job_id, status, job.progress, result, error)


def _status(job: JobRecord) -> TaskStatus:
    if job.status == "running" and job.progress:
        return "PROGRESS"
    return _STATUSES[job.status]


def _plans(
    services: Services, account_id: str, body: SweepRequest, entries: list[dict[str, Any]]
) -> list[Plan]:
    stored = get_strategy(services.store, account_id, body.strategy_id)
    base = json_object(body.base_config, "base_config")
    return [
        _planned(services, stored, body.engine, base, entry, place)
        for place, entry in enumerate(entries)
    ]


def _planned(
    services: Services,
    stored: StoredStrategy,
    engine: str,
    base: Mapping[str, Any],
    entry: Mapping[str, Any],
    place: int,
) -> Plan:
    """The backtest of an entry over the base; what is refused is named where it was said."""

    def said(key: str) -> str:
        return f"param_grid[{place}].{key}" if key in entry else f"base_config.{key}"

    merged = {**base, **entry}
    config = {key: merged[key] for key in _CONFIG if key in merged}
    capital = {key: merged.get(key, default) for key, default in _CAPITAL.items()}
    parameters = {key: merged[key] for key in merged if key not in (*_CONFIG, *_CAPITAL)}
    known = _parameters_of(stored, config.get("signal_plugin_key"))
    for key in parameters:
        if key not in known:
            raise InvalidParameter(
                said(abbreviate(key)), _unknown_key((*_CONFIG, *_CAPITAL), sorted(known))
            )
    if parameters:
        given = config.get(_PARAMETERS, {})
        if not isinstance(given, dict):
            raise InvalidParameter(said(_PARAMETERS), "must be an object, {…}")
        config[_PARAMETERS] = given | parameters
    try:
        decoded = decode_body(BacktestConfig, msgspec.json.encode(config))
        return plan_backtest(services, stored, engine=engine, **capital, config=decoded)
    except InvalidParameter as refusal:
        raise _of_entry(refusal, said, parameters) from None


def _of_entry(
    refusal: InvalidParameter, said: Any, parameters: Mapping[str, Any]
) -> InvalidParameter:
    """The refusal, of the field where the sweep has it."""
    field = str(refusal.details["field"]).removeprefix("config.")
    if field == "engine":
        return refusal  # It is said once, for all entries.
    bare = field.removeprefix(f"{_PARAMETERS}.")
    first = field.partition(".")[0]
    return with_field(
        refusal, said(bare) if bare in parameters else said(first) + field.removeprefix(first)
    )


def _parameters_of(stored: StoredStrategy, key: Any) -> set[str]:
    """The names of the parameters of the template that is run; none if it is no template."""
    template = TEMPLATES.get(key if isinstance(key, str) else stored.content.get("template", ""))
    return set() if template is None else {each.name for each in template.parameters}


def _unknown_key(fields: Iterable[str], parameters: Iterable[str]) -> str:
    own = ", ".join(parameters)
    return f"there is no such field; there is {', '.join(fields)}" + (
        f", and of the strategy {own}" if own else "; the strategy has no parameters"
    )


def _leaderboard(job: JobRecord, asked: StoredSweep) -> Leaderboard:
    metric = asked.rank_metric
    runs = [BacktestRun.of(job, number) for number in range(len(job.specs))]
    runs.sort(key=lambda run: _place(_figures(run).get(metric), metric, run))
    ranked = [_ranked(rank, run, job, asked) for rank, run in enumerate(runs, 1)]
    return Leaderboard(ranked, len(ranked))


def _place(score: object, metric: str, run: BacktestRun) -> tuple[int, float]:
    """Sorts the best first; then those whose metric is undefined, then those that failed."""
    if not isinstance(score, float | int):
        return (2 if run.summary is None else 1), 0.0
    return 0, -score if HIGHER_IS_BETTER[metric] else score


def _ranked(rank: int, run: BacktestRun, job: JobRecord, asked: StoredSweep) -> RankedRun:
    figures = _figures(run)
    score = figures.get(asked.rank_metric)
    keys = dict.fromkeys((*_SUMMARY, asked.rank_metric))
    return RankedRun(
        rank,
        asked.backtest_ids[run.run_number],
        job.specs[run.run_number].overrides,
        "failed" if run.summary is None else "completed",
        score if isinstance(score, float | int) else None,
        asked.rank_metric,
        {key: figures[key] for key in keys if figures},
        run.error,
    )


def _figures(run: BacktestRun) -> Flat:
    """The flat metrics of a run; of one that failed, none."""
    return {} if run.summary is None else flat_metrics(run.summary)


ROUTES = [
    Route(
        "POST", f"{BASE}/sweep", sweep, "Run a parameter sweep", SweepResponse, body=SweepRequest,
        errors=("STRATEGY_NOT_FOUND", "RATE_LIMITED"),
    ),
    Route(
        "GET", "/api/v1/tasks/{task_id}", task, "A task",
        (BacktestTaskResponse, SweepTaskResponse), errors=("NOT_FOUND",),
    ),
    Route(
        "POST", "/api/v1/tasks/{task_id}/cancel", cancel, "Cancel a task",
        (BacktestTaskResponse, SweepTaskResponse), body=EmptyBody, errors=("NOT_FOUND", "INVALID_STATE"),
    ),
]  # fmt: skip
