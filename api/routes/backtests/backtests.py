"""Backtests: a stored strategy with what it is to be run with, kept, changed and executed."""

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from candlestep.api.http.route import NoContent, Request, Route
from candlestep.api.jobs.planning import DEFAULT_COSTS
from candlestep.api.routes.backtests.answers import (
    BASE,
    BacktestResponse,
    BacktestResultResponse,
    TaskStartedResponse,
    answer_of,
    equity_curve_uri,
    result_of,
    trades_uri,
)
from candlestep.api.routes.backtests.figures import SET_SCHEMA, set_metrics
from candlestep.api.routes.backtests.job_requests import (
    backtest_request,
    cancel_if_running,
    executed,
    swept,
)
from candlestep.api.routes.backtests.plan import BacktestConfig, Plan, plan_backtest, replan
from candlestep.api.schemas.decoding import EmptyBody, RequestBody
from candlestep.api.schemas.fields import Fraction, PositiveNumber
from candlestep.api.schemas.raw_json import json_object
from candlestep.api.services import Services
from candlestep.data.records.backtests import (
    BacktestRecord,
    BacktestRun,
    BacktestStatus,
    change_backtest,
    create_backtests,
    delete_backtest,
    forget_execution,
    get_backtest,
    has_backtests,
    list_backtests,
    new_backtest_id,
    save_execution,
)
from candlestep.data.records.jobs import JobRecord
from candlestep.data.records.strategies import get_strategy
from candlestep.sandbox import InvalidParameter, InvalidState
from candlestep.sandbox.engines.run import engines

_WAIT_SECONDS = 3600.0

Result = TypeVar("Result")

StrategyId = Annotated[str, Meta(max_length=100)]
EngineName = Annotated[
    str, Meta(max_length=100, description="See `GET /api/v1/backtests/engines/available`.")
]


class BacktestRequest(RequestBody):
    strategy_id: StrategyId
    config: BacktestConfig
    engine: EngineName = "sandbox"
    initial_capital: PositiveNumber = 100_000
    commission: Annotated[Fraction, Meta(description="A fraction of the notional.")] = (
        DEFAULT_COSTS["backtests"].fee_rate
    )
    slippage: Annotated[
        Fraction, Meta(description="A fraction of the price, against each trade; at most 0.5.")
    ] = DEFAULT_COSTS["backtests"].slippage_bps / 10_000


class BacktestChange(RequestBody):
    status: Annotated[
        BacktestStatus | UnsetType,
        Meta(description="Set by hand. A run that is under way is cancelled, but for `running`."),
    ] = UNSET
    metrics: Annotated[
        msgspec.Raw | UnsetType,
        Meta(
            description="In place of all that there are: figures by flat key.",
            extra_json_schema=SET_SCHEMA,
        ),
    ] = UNSET
    trades_uri: Annotated[
        str | UnsetType | None,
        Meta(description="Null hides the file; what this server made shows it again."),
    ] = UNSET
    equity_curve_uri: Annotated[
        str | UnsetType | None,
        Meta(description="Null hides the file; what this server made shows it again."),
    ] = UNSET


class ExecuteRequest(RequestBody):
    async_mode: Annotated[
        bool, Meta(description="Whether to answer at once, with the id of a task.")
    ] = False


class BacktestsQuery(RequestBody):
    strategy_id: StrategyId | None = None
    skip: Annotated[int, Meta(ge=0, le=10**9)] = 0
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100


class EnginesResponse(msgspec.Struct, frozen=True):
    engines: Annotated[list[str], Meta(examples=[["backtrader", "sandbox", "vectorbt"]])]


async def create(services: Services, request: Request) -> BacktestResponse:
    """Keep what a strategy is to be run with; nothing is run before it is executed."""
    return answer_of(await services.in_thread(_create, services, request.account_id, request.body))


async def backtests(services: Services, request: Request) -> list[BacktestResponse]:
    """The account's backtests, the newest first."""
    query: BacktestsQuery = request.query
    found = await services.in_thread(
        list_backtests,
        services.store,
        request.account_id,
        strategy_id=query.strategy_id,
        skip=query.skip,
        limit=query.limit,
    )
    return [answer_of(each) for each in found]


async def backtest(services: Services, request: Request) -> BacktestResultResponse:
    """One backtest, with structured metrics if it is completed."""
    return result_of(await _found(services, request))


async def change(services: Services, request: Request) -> BacktestResponse:
    """Correct a backtest by hand; the next execution forgets what was set."""
    record = await _found(services, request)
    body: BacktestChange = request.body
    changes: dict[str, Any] = {}
    if body.metrics is not UNSET:
        changes["metrics"] = set_metrics(json_object(body.metrics, "metrics"))
    if body.trades_uri is not UNSET:
        _require_own("trades_uri", body.trades_uri, trades_uri(record))
        changes["hides_trades"] = body.trades_uri is None
    if body.equity_curve_uri is not UNSET:
        _require_own("equity_curve_uri", body.equity_curve_uri, equity_curve_uri(record))
        changes["hides_equity"] = body.equity_curve_uri is None
    if body.status is not UNSET:
        changes["status"] = body.status
        run = record.run
        if run is not None and run.is_under_way and body.status != "running":
            await _stop(services, request.account_id, run)
            if body.status == "pending":
                await _on(services, forget_execution, request)
    return answer_of(await _on(services, change_backtest, request, **changes))


async def delete(services: Services, request: Request) -> NoContent:
    """Delete a backtest. Its run is cancelled; of a sweep, when none of its backtests is left."""
    record = await _found(services, request)
    await _on(services, delete_backtest, request)
    run = record.run
    if run is not None and run.is_under_way:
        is_followed = await services.in_thread(has_backtests, services.store, run.job_id)
        if not is_followed:
            await cancel_if_running(services, request.account_id, run.job_id)
    return NoContent()


async def execute(
    services: Services, request: Request
) -> BacktestResultResponse | TaskStartedResponse:
    """Run a backtest in a worker, and answer when it has ended, or at once with its task.

    An engine that fails makes the backtest `failed`, with the reason in `metrics.error`.
    """
    body: ExecuteRequest = request.body
    job = await _execute(services, request)
    if body.async_mode:
        return TaskStartedResponse(job.job_id, "PENDING")
    while not job.has_ended:
        job = await services.jobs.wait(request.account_id, job.job_id, _WAIT_SECONDS)
    return result_of(executed(job))


async def execute_async(services: Services, request: Request) -> TaskStartedResponse:
    """Run a backtest in a worker, and answer at once with its task."""
    return TaskStartedResponse((await _execute(services, request)).job_id, "PENDING")


async def available(services: Services, request: Request) -> EnginesResponse:
    """The engines that backtests can be run by: those whose packages are installed."""
    return EnginesResponse(await services.in_thread(engines))


def _create(services: Services, account_id: str, body: BacktestRequest) -> BacktestRecord:
    planned = plan_backtest(
        services,
        get_strategy(services.store, account_id, body.strategy_id),
        engine=body.engine,
        initial_capital=body.initial_capital,
        commission=body.commission,
        slippage=body.slippage,
        config=body.config,
    )
    setups = {new_backtest_id(): planned.setup}
    return create_backtests(services.store, account_id, setups)[0]


async def _execute(services: Services, request: Request) -> JobRecord:
    """Queue the run of a backtest that has none under way."""
    account_id, backtest_id = request.account_id, request.path["backtest_id"]
    if backtest_id in services.executing:
        await _found(services, request)  # Of another account, it does not exist.
        raise _running_error()
    services.executing.add(backtest_id)
    try:
        record = await _found(services, request)
        if record.status == "running" or record.is_under_way:
            raise _running_error()
        planned = await services.in_thread(_plan_again, services, record)
        job = await services.jobs.submit(
            account_id, "backtests", [planned.spec], backtest_request(record)
        )
        try:
            await services.in_thread(save_execution, services.store, account_id, backtest_id, job)
        except BaseException:
            await cancel_if_running(services, account_id, job.job_id)
            raise
        return job
    finally:
        services.executing.discard(backtest_id)


def _plan_again(services: Services, record: BacktestRecord) -> Plan:
    stored = get_strategy(services.store, record.account_id, record.strategy_id)
    return replan(services, stored, record)


async def _found(services: Services, request: Request) -> BacktestRecord:
    return await _on(services, get_backtest, request)


async def _on(
    services: Services, work: Callable[..., Result], request: Request, **changes: Any
) -> Result:
    """Do something of the store with the backtest that the path names."""
    backtest_id = request.path["backtest_id"]
    return await services.in_thread(
        work, services.store, request.account_id, backtest_id, **changes
    )


def _require_own(field: str, given: str | None, own: str | None) -> None:
    """Raise ``InvalidParameter`` for an address that this server has not made of the backtest."""
    if given is not None and given != own:
        raise InvalidParameter(
            field,
            "must be null" + (f", or {own}" if own else "") + ": what others made is not followed",
        )


async def _stop(services: Services, account_id: str, run: BacktestRun) -> None:
    """Cancel the run of a backtest, which is under way; raises ``InvalidState`` of a sweep's."""
    if swept(await services.jobs.get(account_id, run.job_id)) is not None:
        raise InvalidState(
            "the backtest is run as one of a sweep, which ends as a whole: wait for it, or delete"
            " all of its backtests",
            status="running",
        )
    await cancel_if_running(services, account_id, run.job_id)


def _running_error() -> InvalidState:
    return InvalidState(
        "the backtest is running already; wait until it has ended", status="running"
    )


_UNKNOWN = ("BACKTEST_NOT_FOUND",)
_ONE = f"{BASE}/{{backtest_id}}"
_EXECUTED = (*_UNKNOWN, "STRATEGY_NOT_FOUND", "INVALID_STATE", "RATE_LIMITED")

ROUTES = [
    Route(
        "POST", BASE, create, "Create a backtest", BacktestResponse, body=BacktestRequest, status=201,
        errors=("STRATEGY_NOT_FOUND",),
    ),
    Route("GET", BASE, backtests, "List backtests", list[BacktestResponse], query=BacktestsQuery),
    Route("GET", f"{BASE}/engines/available", available, "List engines", EnginesResponse),
    Route("GET", _ONE, backtest, "One backtest", BacktestResultResponse, errors=_UNKNOWN),
    Route(
        "PATCH", _ONE, change, "Correct a backtest", BacktestResponse, body=BacktestChange,
        errors=(*_UNKNOWN, "INVALID_STATE"),
    ),
    Route("DELETE", _ONE, delete, "Delete a backtest", NoContent, status=204, errors=_UNKNOWN),
    Route(
        "POST", f"{_ONE}/execute", execute, "Execute a backtest",
        (BacktestResultResponse, TaskStartedResponse), body=ExecuteRequest, errors=_EXECUTED,
    ),
    Route(
        "POST", f"{_ONE}/execute/async", execute_async, "Execute a backtest as a task",
        TaskStartedResponse, body=EmptyBody, errors=_EXECUTED,
    ),
]  # fmt: skip
