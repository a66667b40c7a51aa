"""Executions: a program run on prepared candles.

The id is a digest of the preparation, and so of the account; of the program; and of the instrument
as it is now, if its volume is not usable or it has filters.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from candlestep.api.http.route import Request, Route
from candlestep.api.routes.prepare_execute import preparations
from candlestep.api.routes.prepare_execute.ids import derived_id
from candlestep.api.schemas.decoding import RequestBody
from candlestep.api.schemas.fields import Time, optional_time
from candlestep.api.schemas.figures import FigureField, as_number, project
from candlestep.api.schemas.warnings import coverage_fields
from candlestep.api.services import Services
from candlestep.data.records.instruments import instruments_to_copy
from candlestep.data.records.jobs import JobRecord, JobStatus
from candlestep.data.records.preparations import Preparation, get_preparation
from candlestep.data.records.strategies import StoredProgram, get_program
from candlestep.data.run_files.run_files import run_directory, run_file
from candlestep.sandbox import InvalidParameter, format_time

_HELD_SECONDS = 4.0
"""Seconds that an answer waits for its execution to end; clients give up after five."""

_STATES: dict[JobStatus, preparations.StateName] = {
    "queued": "New",
    "running": "Started",
    "done": "Completed",
    "cancelled": "Aborted",
    "failed": "Failed",
}

_FIGURES = (
    FigureField("pnlTotal", "total_pnl"),
    FigureField("totalTrades", "closed_trades"),
    FigureField("winRate", "win_rate"),
    FigureField("sharpeRatio", "sharpe_ratio"),
    FigureField("sortinoRatio", "sortino_ratio"),
    FigureField("cagr", "cagr"),
    FigureField("maxDrawdown", "max_drawdown_amount"),
    FigureField("maxDrawdownPercent", "max_drawdown_pct"),
    FigureField("signalCount", "signals"),
)

_OF_PERPETUALS = (
    FigureField("fundingTotal", "total_funding"),
    FigureField("liquidations", "liquidations"),
)

Id = Annotated[str, Meta(min_length=1, max_length=100)]


class ExecutionRequest(RequestBody, rename="camel"):
    prepare_job_id: Id
    strategy_id: Id
    store_signals: Annotated[
        bool, Meta(description="Store the decisions of the program as Parquet in the home.")
    ] = False


class ExecuteResponse(msgspec.Struct, frozen=True):
    jobId: str


class ExecutionResults(msgspec.Struct, frozen=True):
    """Undefined figures are left out; amounts are in quote currency."""

    strategyId: Annotated[str, Meta(description="Ends with the id of the strategy.")]
    instrument: str
    hostName: Annotated[str | UnsetType, Meta(description="The machine that it ran on.")] = UNSET
    iops: Annotated[float | UnsetType, Meta(description="Candles per second of the run.")] = UNSET
    pnlTotal: float | UnsetType = UNSET
    totalTrades: Annotated[int | UnsetType, Meta(description="Closed trades.")] = UNSET
    winRate: Annotated[float | UnsetType, Meta(description="In percent.")] = UNSET
    sharpeRatio: float | UnsetType = UNSET
    sortinoRatio: float | UnsetType = UNSET
    cagr: Annotated[float | UnsetType, Meta(description="A fraction.")] = UNSET
    maxDrawdown: Annotated[
        float | UnsetType, Meta(description="The largest fall from a peak, as an amount.")
    ] = UNSET
    maxDrawdownPercent: float | UnsetType = UNSET
    signalCount: int | UnsetType = UNSET
    fundingTotal: Annotated[
        float | UnsetType, Meta(description="Of perpetuals: funding received less paid.")
    ] = UNSET
    liquidations: Annotated[
        int | UnsetType, Meta(description="Of perpetuals: positions liquidated.")
    ] = UNSET
    signalsId: Annotated[
        str | UnsetType, Meta(description="The file of signals, relative to the home directory.")
    ] = UNSET
    signalsUpload: Annotated[
        Literal["Done", "Failed", "Skipped"] | UnsetType,
        Meta(description="With `storeSignals`. `Skipped`: there were none."),
    ] = UNSET
    signalsUploadedAt: Time | UnsetType = UNSET


class ExecutionResponse(msgspec.Struct, frozen=True):
    state: preparations.JobStateResponse
    results: ExecutionResults


class CancelExecutionResponse(msgspec.Struct, frozen=True):
    status: Literal["cancelling"]
    jobId: str


class _Execution(msgspec.Struct, frozen=True):
    """The request as it is stored with its job."""

    source_type: str
    exchange: str
    instrument: str
    prepare_job_id: str
    strategy_id: str
    store_signals: bool


async def execute(services: Services, request: Request) -> ExecuteResponse:
    """Run a program on prepared candles, starting with 10,000 in quote currency, at default costs.

    The same request has the same job, which runs again if it failed or was aborted. An account can
    have at most 5 jobs queued or running at a time.
    """
    body: ExecutionRequest = request.body
    prepared, program = await services.in_thread(_parts, services, request)
    coverage = await services.read(preparations.coverage_of_preparation, services, prepared)
    instruments = await services.read(
        instruments_to_copy, services.store, prepared.exchange, [prepared.symbol]
    )
    job_id = derived_id(prepared.job_id, program.strategy_id, body.store_signals, *instruments)
    stored = _Execution(
        prepared.source_type,
        prepared.exchange,
        prepared.instrument,
        prepared.job_id,
        program.strategy_id,
        body.store_signals,
    )
    spec = preparations.run_spec(prepared, program.source)
    spec = msgspec.structs.replace(
        spec,
        store_signals=body.store_signals,
        warnings=list(coverage.warnings),
        coverage=coverage.shares,
    )
    record = await services.jobs.submit(
        request.account_id, "execute", [spec], msgspec.to_builtins(stored), job_id
    )
    return ExecuteResponse(record.job_id)


async def execution(services: Services, request: Request) -> ExecutionResponse:
    """Return the progress of an execution and its result.

    The answer waits for the end of the execution, for at most 4 seconds.
    """
    await _get_owned_execution(services, request)
    record = await services.jobs.wait(request.account_id, request.path["jobId"], _HELD_SECONDS)
    stored = msgspec.convert(record.request, _Execution)
    prepared = await services.read_for_account(get_preparation, request, stored.prepare_job_id)
    results = _results(record, stored)
    if stored.store_signals and results.signalCount is not UNSET:
        results = await services.read(_with_signals, services, record, results)
    return ExecutionResponse(_state(prepared, record), results)


async def cancel(services: Services, request: Request) -> CancelExecutionResponse:
    """End an execution within a second, even in the middle of its run."""
    record = await _get_owned_execution(services, request)
    await services.jobs.cancel(request.account_id, record.job_id)
    return CancelExecutionResponse("cancelling", record.job_id)


def _parts(services: Services, request: Request) -> tuple[Preparation, StoredProgram]:
    """Return the preparation and the program of a request."""
    body: ExecutionRequest = request.body
    prepared = preparations.get_owned_preparation(services, request, body.prepare_job_id)
    program = get_program(services.store, request.account_id, body.strategy_id)
    if program.error is not None:
        raise InvalidParameter("strategyId", f"does not compile: {program.error}")
    return prepared, program


async def _get_owned_execution(services: Services, request: Request) -> JobRecord:
    """Return the execution that the path names; raises ``JobNotFound``."""
    record = await services.jobs.get(request.account_id, request.path["jobId"], origin="execute")
    stored = msgspec.convert(record.request, _Execution)
    preparations.require_path(request, stored.exchange, stored.source_type, record.job_id)
    return record


def _state(prepared: Preparation, record: JobRecord) -> preparations.JobStateResponse:
    summary = record.summary
    spec = record.specs[0]
    seen = int(record.progress * ((spec.end_time - spec.start_time) // spec.interval))
    return preparations.JobStateResponse(
        preparations.context_id(prepared, record.job_id),
        _STATES[record.status],
        record.error_message,
        0,
        seen if summary is None else summary.candles,
        optional_time(record.started_at),
        optional_time(record.finished_at),
        format_time(prepared.start_time),
        format_time(prepared.end_time),
        **coverage_fields(record.warnings, record.coverage),
    )


def _results(record: JobRecord, stored: _Execution) -> ExecutionResults:
    strategy_id = f"strategy:{record.account_id}:{stored.source_type}:{stored.strategy_id}"
    results = ExecutionResults(strategy_id, stored.instrument)
    outcome, summary = record.outcomes[0], record.summary
    if outcome is None or summary is None:
        return results
    fields = _FIGURES if summary.margin is None else (*_FIGURES, *_OF_PERPETUALS)
    figures = project(fields, summary, as_number)
    return msgspec.structs.replace(
        results,
        hostName=outcome.host,
        iops=round(summary.candles / outcome.seconds, 2) if outcome.seconds else UNSET,
        **{key: value for key, value in figures.items() if value is not None},
    )


def _with_signals(
    services: Services, record: JobRecord, results: ExecutionResults
) -> ExecutionResults:
    """Return results with the fields about the file of signals."""
    if not results.signalCount:
        return msgspec.structs.replace(results, signalsUpload="Skipped")
    home = services.settings.home
    file = run_file(run_directory(home, record.job_id, 0), "signals")
    has_file = file.exists()
    if not has_file and record.files_deleted_at is None:
        return msgspec.structs.replace(results, signalsUpload="Failed")
    return msgspec.structs.replace(
        results,
        signalsUpload="Done",
        signalsUploadedAt=optional_time(record.finished_at) or UNSET,
        signalsId=file.relative_to(home).as_posix() if has_file else UNSET,
    )


_BASE = f"{preparations.BASE}/execute"
_ONE = f"{_BASE}/{{jobId}}"

ROUTES = [
    Route(
        "POST", _BASE, execute, "Execute a program", body=ExecutionRequest, status=202,
        errors=("NOT_FOUND", "STRATEGY_NOT_FOUND", "RATE_LIMITED"),
    ),
    Route("GET", _ONE, execution, "An execution", errors=("NOT_FOUND",)),
    Route("DELETE", _ONE, cancel, "Cancel an execution", errors=("NOT_FOUND", "INVALID_STATE")),
]  # fmt: skip
