"""Runs: a strategy on a dataset, with fees, slippage and funding that the request states."""

import uuid

import msgspec

from candlestep.api.http.route import Request, Route
from candlestep.api.jobs.planning import APPLIES_FUNDING
from candlestep.api.routes.runs.plan import STARTING_BALANCE, StoredRequest, plan_run
from candlestep.api.routes.runs.schemas import (
    Assumptions,
    RunMetrics,
    RunRequest,
    RunResponse,
    RunState,
    SubmitResponse,
    Submitted,
)
from candlestep.api.schemas.decoding import EmptyBody
from candlestep.api.schemas.fields import optional_time
from candlestep.api.schemas.figures import FigureField, as_number, fields_named, project
from candlestep.api.services import Services
from candlestep.data.records.jobs import JobOrigin, JobRecord, RunSummary, sharpe_ratios
from candlestep.sandbox import format_time
from candlestep.sandbox.performance.deflated_sharpe import deflated_sharpe_of

_ORIGIN: JobOrigin = "runs"
_BASE = "/api/v2/backtest"
_FIGURES = (
    *fields_named(
        name
        for name in RunMetrics.__struct_fields__
        if name not in ("deflated_sharpe_ratio", "trials", "total_trades")
    ),
    FigureField("total_trades", "closed_trades"),
)
_NO_FUNDING = "funding: the dataset is of a spot market, which has none; it changes nothing"
_WITHOUT_FUNDING = "funding: none is applied"


async def submit(services: Services, request: Request) -> SubmitResponse:
    """Queue a run of a strategy on a dataset, starting with 10,000 of its quote currency.

    An account can have at most 5 jobs queued or running at a time.
    """
    stored, spec = await services.in_thread(plan_run, services, request.body)
    record = await services.jobs.submit(
        request.account_id, _ORIGIN, [spec], msgspec.to_builtins(stored), str(uuid.uuid4())
    )
    return SubmitResponse(True, Submitted(record.job_id, record.status))


async def run(services: Services, request: Request) -> RunResponse:
    """Return the progress of a run, its assumptions and its result."""
    record = await services.jobs.get(request.account_id, request.path["run_id"], origin=_ORIGIN)
    return await _to_response(services, record)


async def cancel(services: Services, request: Request) -> RunResponse:
    """End a run within a second, even while it is under way."""
    record = await services.jobs.cancel(request.account_id, request.path["run_id"], origin=_ORIGIN)
    return await _to_response(services, record)


async def _to_response(services: Services, record: JobRecord) -> RunResponse:
    request = msgspec.convert(record.request, StoredRequest)
    metrics = None
    if record.summary is not None:
        trials = await services.in_thread(
            sharpe_ratios,
            services.store,
            record.account_id,
            _ORIGIN,
            {"dataset_id": request.dataset_id, "family": request.family},
        )
        metrics = _metrics(record.summary, trials)
    return RunResponse(True, _state(record, request, metrics))


def _state(record: JobRecord, request: StoredRequest, metrics: RunMetrics | None) -> RunState:
    return RunState(
        record.job_id,
        record.status,
        request.dataset_id,
        request.strategy,
        Assumptions(
            float(request.fees_bps),
            float(request.slippage_bps),
            request.funding,
            request.funding and APPLIES_FUNDING,
            float(STARTING_BALANCE),
            [_NO_FUNDING if request.funding else _WITHOUT_FUNDING],
        ),
        record.progress,
        format_time(record.submitted_at),
        optional_time(record.started_at),
        optional_time(record.finished_at),
        metrics,
        record.error,
    )


def _metrics(summary: RunSummary, trials: list[float | None]) -> RunMetrics:
    return RunMetrics(
        **project(_FIGURES, summary, as_number),
        deflated_sharpe_ratio=deflated_sharpe_of(summary.metrics, trials),
        trials=len(trials),
    )


ROUTES = [
    Route(
        "POST", f"{_BASE}/runs", submit, "Submit a run", SubmitResponse, body=RunRequest, status=202,
        errors=("NO_DATA", "RATE_LIMITED"),
    ),
    Route("GET", f"{_BASE}/runs/{{run_id}}", run, "A run", RunResponse, errors=("NOT_FOUND",)),
    Route(
        "POST", f"{_BASE}/runs/{{run_id}}/cancel", cancel, "Cancel a run", RunResponse, body=EmptyBody,
        errors=("NOT_FOUND", "INVALID_STATE"),
    ),
]  # fmt: skip
