"""Backtests: a stored strategy with a configuration, created, corrected and executed."""

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType
from msgspec.structs import asdict

from candlestep.api.http.route import NoContent, Request, Route
from candlestep.api.routes.backtests import answers, tasks
from candlestep.api.routes.backtests.figures import SET_SCHEMA, set_metrics
from candlestep.api.routes.backtests.plan import BacktestRequest, plan_backtest, replan
from candlestep.api.schemas.decoding import EmptyBody, RequestBody
from candlestep.api.schemas.fields import PageSize, PageStart, StrategyId
from candlestep.api.schemas.raw_json import json_object
from candlestep.api.services import Services
from candlestep.data.records import backtests as records
from candlestep.data.records.jobs import JobRecord
from candlestep.data.records.strategies import get_strategy
from candlestep.sandbox import InvalidParameter, InvalidState
from candlestep.sandbox.engines.run import engines

_WAIT_SECONDS = 3600.0


UriChange = Annotated[
    str | UnsetType | None,
    Meta(description="Null hides the file; the path that the server gave shows it again."),
]


class BacktestChange(RequestBody):
    status: Annotated[
        records.BacktestStatus | UnsetType,
        Meta(
            description="Set by hand. Any status except `running` cancels a run that is under way."
        ),
    ] = UNSET
    metrics: Annotated[
        msgspec.Raw | UnsetType,
        Meta(
            description="Figures by flat key, in place of all present ones.",
            extra_json_schema=SET_SCHEMA,
        ),
    ] = UNSET
    trades_uri: UriChange = UNSET
    equity_curve_uri: UriChange = UNSET


class ExecuteRequest(RequestBody):
    async_mode: Annotated[
        bool, Meta(description="Whether to answer at once, with the id of a task.")
    ] = False


class BacktestsQuery(RequestBody):
    strategy_id: StrategyId | None = None
    skip: PageStart = 0
    limit: PageSize = 100


class EnginesResponse(msgspec.Struct, frozen=True):
    engines: Annotated[list[str], Meta(examples=[["backtrader", "sandbox", "vectorbt"]])]


async def create(services: Services, request: Request) -> answers.BacktestResponse:
    """Create a backtest of a stored strategy, without running it yet."""
    record = await services.in_thread(_create, services, request.account_id, request.body)
    return answers.BacktestResponse.of(record)


async def backtests(services: Services, request: Request) -> list[answers.BacktestResponse]:
    """List the account's backtests, the newest first."""
    listed = await services.read_for_account(
        records.list_backtests, request, **asdict(request.query)
    )
    return [answers.BacktestResponse.of(record) for record in listed]


async def backtest(services: Services, request: Request) -> answers.BacktestResultResponse:
    """Return a backtest, with structured metrics if it is completed."""
    return answers.BacktestResultResponse.of(await _get_owned_backtest(services, request))


async def change(services: Services, request: Request) -> answers.BacktestResponse:
    """Correct a backtest by hand; its next execution discards the corrections."""
    record = await _get_owned_backtest(services, request)
    body: BacktestChange = request.body
    changes: dict[str, Any] = {}
    if body.metrics is not UNSET:
        changes["metrics"] = set_metrics(json_object(body.metrics, "metrics"))
    if body.trades_uri is not UNSET:
        _require_own("trades_uri", body.trades_uri, answers.trades_uri(record))
        changes["hides_trades"] = body.trades_uri is None
    if body.equity_curve_uri is not UNSET:
        _require_own("equity_curve_uri", body.equity_curve_uri, answers.equity_curve_uri(record))
        changes["hides_equity"] = body.equity_curve_uri is None
    if body.status is not UNSET:
        changes["status"] = body.status
        run = record.run
        if run is not None and run.is_under_way and body.status != "running":
            await _stop(services, request.account_id, run)
            if body.status == "pending":
                await services.on_record(records.forget_execution, request, "backtest_id")
    return answers.BacktestResponse.of(
        await services.on_record(records.change_backtest, request, "backtest_id", **changes)
    )


async def delete(services: Services, request: Request) -> NoContent:
    """Delete a backtest and cancel its run.

    A sweep is cancelled when the last of its backtests is deleted.
    """
    record = await _get_owned_backtest(services, request)
    await services.on_record(records.delete_backtest, request, "backtest_id")
    run = record.run
    if run is not None and run.is_under_way:
        has_others = await services.read(records.has_backtests, services.store, run.job_id)
        if not has_others:
            await services.jobs.cancel_if_running(request.account_id, run.job_id)
    return NoContent()


async def execute(
    services: Services, request: Request
) -> answers.BacktestResultResponse | answers.TaskStartedResponse:
    """Run a backtest and return it when it has ended, or its task at once.

    A backtest whose engine fails is `failed`, with the reason in `metrics.error`.
    """
    body: ExecuteRequest = request.body
    job = await _execute(services, request)
    if body.async_mode:
        return answers.TaskStartedResponse(job.job_id, "PENDING")
    while not job.has_ended:
        job = await services.jobs.wait(request.account_id, job.job_id, _WAIT_SECONDS)
    return answers.BacktestResultResponse.of(tasks.backtest_of(job))


async def execute_async(services: Services, request: Request) -> answers.TaskStartedResponse:
    """Start running a backtest, and return its task at once."""
    return answers.TaskStartedResponse((await _execute(services, request)).job_id, "PENDING")


async def available(services: Services, request: Request) -> EnginesResponse:
    """List the engines whose packages are installed."""
    return EnginesResponse(await services.read(engines))


def _create(services: Services, account_id: str, body: BacktestRequest) -> records.BacktestRecord:
    stored = get_strategy(services.store, account_id, body.strategy_id)
    setup, _ = plan_backtest(services, stored, body)
    setups = {records.new_backtest_id(): setup}
    return records.create_backtests(services.store, account_id, setups)[0]


async def _execute(services: Services, request: Request) -> JobRecord:
    """Queue the run of a backtest; raises ``InvalidState`` if one is under way."""
    account_id, backtest_id = request.account_id, request.path["backtest_id"]
    if backtest_id in services.executing:
        await _get_owned_backtest(services, request)  # For another account it does not exist.
        raise _running_error()
    services.executing.add(backtest_id)
    try:
        record = await _get_owned_backtest(services, request)
        if record.status == "running" or record.is_under_way:
            raise _running_error()
        spec = await services.in_thread(replan, services, record)
        return await tasks.submit_task(
            services,
            account_id,
            [spec],
            tasks.backtest_request(record),
            lambda job: records.save_execution(services.store, account_id, backtest_id, job),
        )
    finally:
        services.executing.discard(backtest_id)


async def _get_owned_backtest(services: Services, request: Request) -> records.BacktestRecord:
    return await services.read_record(records.get_backtest, request, "backtest_id")


def _require_own(field: str, uri: str | None, own: str | None) -> None:
    """Raise ``InvalidParameter`` for a path that is not the backtest's own."""
    if uri is not None and uri != own:
        raise InvalidParameter(
            field, "must be null" + (f" or {own}" if own else "") + ": other files are not linked"
        )


async def _stop(services: Services, account_id: str, run: records.BacktestRun) -> None:
    """Cancel a run that is under way; raises ``InvalidState`` for one of a sweep."""
    if tasks.sweep_of(await services.jobs.get(account_id, run.job_id)) is not None:
        raise InvalidState(
            "the backtest is part of a running sweep, which ends only as a whole; wait for it, or"
            " delete all of its backtests",
            status="running",
        )
    await services.jobs.cancel_if_running(account_id, run.job_id)


def _running_error() -> InvalidState:
    return InvalidState("the backtest is running already; wait for it to end", status="running")


_UNKNOWN = ("BACKTEST_NOT_FOUND",)
_ONE = f"{answers.BASE}/{{backtest_id}}"
_EXECUTED = (*_UNKNOWN, "STRATEGY_NOT_FOUND", "INVALID_STATE", "RATE_LIMITED")

ROUTES = [
    Route(
        "POST", answers.BASE, create, "Create a backtest", body=BacktestRequest, status=201,
        errors=("STRATEGY_NOT_FOUND",),
    ),
    Route("GET", answers.BASE, backtests, "List backtests", query=BacktestsQuery),
    Route("GET", f"{answers.BASE}/engines/available", available, "List engines"),
    Route("GET", _ONE, backtest, "One backtest", errors=_UNKNOWN),
    Route(
        "PATCH", _ONE, change, "Correct a backtest", body=BacktestChange,
        errors=(*_UNKNOWN, "INVALID_STATE"),
    ),
    Route("DELETE", _ONE, delete, "Delete a backtest", status=204, errors=_UNKNOWN),
    Route(
        "POST", f"{_ONE}/execute", execute, "Execute a backtest", body=ExecuteRequest,
        errors=_EXECUTED,
    ),
    Route(
        "POST", f"{_ONE}/execute/async", execute_async, "Execute a backtest as a task",
        body=EmptyBody, errors=_EXECUTED,
    ),
]  # fmt: skip
