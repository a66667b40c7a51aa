"""Backtests: a stored strategy with what it is to be run with, kept, changed and executed."""

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from candlestep.api.http.route import Call, Empty, Route
from candlestep.api.routes.backtests.answers import (
    BASE,
    BacktestAnswer,
    BacktestResultAnswer,
    TaskStartedAnswer,
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
from candlestep.api.routes.backtests.plan import BacktestConfig, Plan, plan, planned_again
from candlestep.api.schemas.fields import Fraction, Positive
from candlestep.api.schemas.raw_json import json_object
from candlestep.api.schemas.requests import Body, NoBody
from candlestep.api.services import Server
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


class BacktestBody(Body):
    strategy_id: StrategyId
    config: BacktestConfig
    engine: EngineName = "sandbox"
    initial_capital: Positive = 100_000
    commission: Annotated[Fraction, Meta(description="A fraction of the notional.")] = 0.0005
    slippage: Annotated[
        Fraction, Meta(description="A fraction of the price, against each trade; at most 0.5.")
    ] = 0.0005


class BacktestChange(Body):
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


class ExecuteBody(Body):
    async_mode: Annotated[
        bool, Meta(description="Whether to answer at once, with the id of a task.")
    ] = False


class BacktestsQuery(Body):
    strategy_id: StrategyId | None = None
    skip: Annotated[int, Meta(ge=0, le=10**9)] = 0
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100


class EnginesAnswer(msgspec.Struct, frozen=True):
    engines: Annotated[list[str], Meta(examples=[["backtrader", "sandbox", "vectorbt"]])]


async def create(server: Server, call: Call) -> BacktestAnswer:
    """Keep what a strategy is to be run with; nothing is run before it is executed."""
    return answer_of(await server.in_thread(_create, server, call.account_id, call.body))


async def backtests(server: Server, call: Call) -> list[BacktestAnswer]:
    """The account's backtests, the newest first."""
    query: BacktestsQuery = call.query
    found = await server.in_thread(
        list_backtests,
        server.store,
        call.account_id,
        strategy_id=query.strategy_id,
        skip=query.skip,
        limit=query.limit,
    )
    return [answer_of(each) for each in found]


async def backtest(server: Server, call: Call) -> BacktestResultAnswer:
    """One backtest, with structured metrics if it is completed."""
    return result_of(await _found(server, call))


async def change(server: Server, call: Call) -> BacktestAnswer:
    """Correct a backtest by hand; the next execution forgets what was set."""
    record = await _found(server, call)
    body: BacktestChange = call.body
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
            await _stop(server, call.account_id, run)
            if body.status == "pending":
                await _on(server, forget_execution, call)
    return answer_of(await _on(server, change_backtest, call, **changes))


async def delete(server: Server, call: Call) -> Empty:
    """Delete a backtest. Its run is cancelled; of a sweep, when none of its backtests is left."""
    record = await _found(server, call)
    await _on(server, delete_backtest, call)
    run = record.run
    if run is not None and run.is_under_way:
        is_followed = await server.in_thread(has_backtests, server.store, run.job_id)
        if not is_followed:
            await cancel_if_running(server, call.account_id, run.job_id)
    return Empty()


async def execute(server: Server, call: Call) -> BacktestResultAnswer | TaskStartedAnswer:
    """Run a backtest in a worker, and answer when it has ended, or at once with its task.

    An engine that fails makes the backtest `failed`, with the reason in `metrics.error`.
    """
    body: ExecuteBody = call.body
    job = await _execute(server, call)
    if body.async_mode:
        return TaskStartedAnswer(job.job_id, "PENDING")
    while not job.has_ended:
        job = await server.jobs.wait(call.account_id, job.job_id, _WAIT_SECONDS)
    return result_of(executed(job))


async def execute_async(server: Server, call: Call) -> TaskStartedAnswer:
    """Run a backtest in a worker, and answer at once with its task."""
    return TaskStartedAnswer((await _execute(server, call)).job_id, "PENDING")


async def available(server: Server, call: Call) -> EnginesAnswer:
    """The engines that backtests can be run by: those whose packages are installed."""
    return EnginesAnswer(await server.in_thread(engines))


def _create(server: Server, account_id: str, body: BacktestBody) -> BacktestRecord:
    planned = plan(
        server,
        get_strategy(server.store, account_id, body.strategy_id),
        engine=body.engine,
        initial_capital=body.initial_capital,
        commission=body.commission,
        slippage=body.slippage,
        config=body.config,
    )
    setups = {new_backtest_id(): planned.setup}
    return create_backtests(server.store, account_id, setups)[0]


async def _execute(server: Server, call: Call) -> JobRecord:
    """Queue the run of a backtest that has none under way."""
    account_id, backtest_id = call.account_id, call.path["backtest_id"]
    if backtest_id in server.executing:
        await _found(server, call)  # Of another account, it does not exist.
        raise _running_error()
    server.executing.add(backtest_id)
    try:
        record = await _found(server, call)
        if record.status == "running" or record.is_under_way:
            raise _running_error()
        planned = await server.in_thread(_plan_again, server, record)
        job = await server.jobs.submit(
            account_id, "backtests", [planned.spec], backtest_request(record)
        )
        try:
            await server.in_thread(save_execution, server.store, account_id, backtest_id, job)
        except BaseException:
            await cancel_if_running(server, account_id, job.job_id)
            raise
        return job
    finally:
        server.executing.discard(backtest_id)


def _plan_again(server: Server, record: BacktestRecord) -> Plan:
    stored = get_strategy(server.store, record.account_id, record.strategy_id)
    return planned_again(server, stored, record)


async def _found(server: Server, call: Call) -> BacktestRecord:
    return await _on(server, get_backtest, call)


async def _on(server: Server, work: Callable[..., Result], call: Call, **changes: Any) -> Result:
    """Do something of the store with the backtest that the path names."""
    backtest_id = call.path["backtest_id"]
    return await server.in_thread(work, server.store, call.account_id, backtest_id, **changes)


def _require_own(field: str, given: str | None, own: str | None) -> None:
    """Raise ``InvalidParameter`` for an address that this server has not made of the backtest."""
    if given is not None and given != own:
        raise InvalidParameter(
            field,
            "must be null" + (f", or {own}" if own else "") + ": what others made is not followed",
        )


async def _stop(server: Server, account_id: str, run: BacktestRun) -> None:
    """Cancel the run of a backtest, which is under way; raises ``InvalidState`` of a sweep's."""
    if swept(await server.jobs.get(account_id, run.job_id)) is not None:
        raise InvalidState(
            "the backtest is run as one of a sweep, which ends as a whole: wait for it, or delete"
            " all of its backtests",
            status="running",
        )
    await cancel_if_running(server, account_id, run.job_id)


def _running_error() -> InvalidState:
    return InvalidState(
        "the backtest is running already; wait until it has ended", status="running"
    )


_UNKNOWN = ("BACKTEST_NOT_FOUND",)
_ONE = f"{BASE}/{{backtest_id}}"
_EXECUTED = (*_UNKNOWN, "STRATEGY_NOT_FOUND", "INVALID_STATE", "RATE_LIMITED")

ROUTES = [
    Route(
        "POST", BASE, create, "Create a backtest", BacktestAnswer, body=BacktestBody, status=201,
        errors=("STRATEGY_NOT_FOUND",),
    ),
    Route("GET", BASE, backtests, "List backtests", list[BacktestAnswer], query=BacktestsQuery),
    Route("GET", f"{BASE}/engines/available", available, "List engines", EnginesAnswer),
    Route("GET", _ONE, backtest, "One backtest", BacktestResultAnswer, errors=_UNKNOWN),
    Route(
        "PATCH", _ONE, change, "Correct a backtest", BacktestAnswer, body=BacktestChange,
        errors=(*_UNKNOWN, "INVALID_STATE"),
    ),
    Route("DELETE", _ONE, delete, "Delete a backtest", Empty, status=204, errors=_UNKNOWN),
    Route(
        "POST", f"{_ONE}/execute", execute, "Execute a backtest",
        (BacktestResultAnswer, TaskStartedAnswer), body=ExecuteBody, errors=_EXECUTED,
    ),
    Route(
        "POST", f"{_ONE}/execute/async", execute_async, "Execute a backtest as a task",
        TaskStartedAnswer, body=NoBody, errors=_EXECUTED,
    ),
]  # fmt: skip
