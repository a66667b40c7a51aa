"""Jobs: a strategy over a period in the past, queued, run by a worker, and its result."""

from decimal import Decimal
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from candlestep.api.http.route import Request, Route
from candlestep.api.routes.jobs.plan import JobConfig, JobRequest, plan_job
from candlestep.api.schemas.decoding import RequestBody
from candlestep.api.schemas.fields import CoveredFrom, CoveredTo, Money, Time, TimeInput, money
from candlestep.api.schemas.figures import FigureField, MarginAssumptions, project, project_margin
from candlestep.api.schemas.response import Response
from candlestep.api.schemas.warnings import CoverageByPair, Warnings, coverage_fields
from candlestep.api.services import Services
from candlestep.data.records.jobs import JobOrigin, JobRecord, JobStatus, RunError, RunSummary
from candlestep.data.run_files.run_files import read_equity_json, read_trades_json, run_directory
from candlestep.sandbox import parse_time
from candlestep.sandbox.exchange.orders import Side
from candlestep.sandbox.money import format_decimal
from candlestep.sandbox.performance.figures import Unit

_ORIGIN: JobOrigin = "jobs"
_BASE = "/api/v1/backtest/jobs"
_PLACES = Decimal("0.000001")
_FIGURES = (
    FigureField("sharpe", "sharpe_ratio"),
    FigureField("sortino", "sortino_ratio"),
    FigureField("calmar", "calmar_ratio"),
    FigureField("max_drawdown", "max_drawdown_pct", "fraction", is_negated=True),
    FigureField("win_rate", "win_rate", "fraction"),
    FigureField("profit_factor", "profit_factor"),
    FigureField("cagr", "cagr"),
    FigureField("expected_value", "expectancy"),
    FigureField("total_trades", "closed_trades"),
    FigureField("avg_trade_duration_seconds", "mean_trade_seconds"),
)
_RATIO = {"pattern": r"^-?\d+(\.\d+)?$"}

Ratio = Annotated[
    str, Meta(extra_json_schema=_RATIO, examples=["1.84"], description="Rounded to 6 decimals.")
]


class CancelJobRequest(RequestBody):
    reason: Annotated[str, Meta(max_length=200)] | None = None


class JobsQuery(RequestBody, rename={"submitted_from": "from", "submitted_to": "to"}):
    status: JobStatus | None = None
    template_id: str | None = None
    submitted_from: TimeInput | None = None
    submitted_to: TimeInput | None = None
    limit: Annotated[int, Meta(ge=1, le=100)] = 20
    cursor: (
        Annotated[str, Meta(pattern="^[0-9]{1,18}$", description="The `next_cursor` of a page.")]
        | None
    ) = None


class JobMetrics(msgspec.Struct, frozen=True):
    """Figures of a job; null where one is undefined."""

    sharpe: Ratio | None
    sortino: Ratio | None
    calmar: Ratio | None
    max_drawdown: Annotated[Ratio, Meta(description="A fraction, 0 or negative.")]
    win_rate: Annotated[Ratio | None, Meta(description="A fraction of the closed trades.")]
    profit_factor: Ratio | None
    cagr: Annotated[Ratio | None, Meta(description="A fraction.")]
    expected_value: Annotated[Money | None, Meta(description="Mean PnL of a closed trade.")]
    total_trades: Annotated[int, Meta(description="Closed trades.")]
    avg_trade_duration_seconds: int | None
    total_funding: Annotated[
        Money | UnsetType, Meta(description="Received less paid; left out on spot, as the rest.")
    ] = UNSET
    total_liquidation_fees: Money | UnsetType = UNSET
    liquidations: Annotated[int | UnsetType, Meta(description="Positions liquidated.")] = UNSET
    max_leverage_used: Annotated[
        Ratio | UnsetType, Meta(description="The highest notional over equity after a fill.")
    ] = UNSET


class JobTrade(msgspec.Struct, frozen=True):
    """A closed trade: a fill that reduces a position, and what it closes."""

    id: int
    side: Side
    symbol: str
    entry_time: Time
    entry_price: Money
    exit_time: Time
    exit_price: Money
    qty: Money
    pnl: Money
    fee: Money


EquityPoint = tuple[Time, Money]


class JobSummary(msgspec.Struct, frozen=True):
    """A result without equity curve and trades."""

    metrics: JobMetrics


class JobResult(JobSummary, frozen=True):
    equity_curve: Annotated[
        list[EquityPoint] | None,
        Meta(description="At the start and at the end of each candle; null once it is deleted."),
    ]
    trades: Annotated[
        list[JobTrade] | None, Meta(description="Closed trades; null once they are deleted.")
    ]


class JobItem(Response, frozen=True):
    """A job in a list."""

    id: str
    status: JobStatus
    config: JobConfig
    submitted_at: Time
    started_at: Time | None
    finished_at: Time | None
    progress: Annotated[float, Meta(ge=0, le=1)]
    result: JobSummary | None
    error: Annotated[
        RunError | None,
        Meta(description="Of a job that failed, or was cancelled with a reason."),
    ]
    covered_from: CoveredFrom
    covered_to: CoveredTo
    warnings: Warnings
    coverage: CoverageByPair
    assumptions: Annotated[
        MarginAssumptions | UnsetType, Meta(description="Of perpetuals; left out on spot.")
    ] = UNSET


class JobResponse(JobItem, frozen=True):
    result: Annotated[JobResult | None, Meta(description="Of a job that is done.")]


Item = TypeVar("Item", bound=JobItem)


class JobsResponse(msgspec.Struct, frozen=True):
    data: list[JobItem]
    next_cursor: str | None


async def create(services: Services, request: Request) -> JobResponse:
    """Check a job against the candles there are, and queue it.

    At most 5 jobs of an account are queued or running at a time.
    """
    config, spec = await services.in_thread(plan_job, services, request.account_id, request.body)
    record = await services.jobs.submit(
        request.account_id, _ORIGIN, [spec], msgspec.to_builtins(config)
    )
    return await _to_response(services, record)


async def job(services: Services, request: Request) -> JobResponse:
    """Return the progress of a job, and its result."""
    record = await services.jobs.get(request.account_id, request.path["job_id"], origin=_ORIGIN)
    return await _to_response(services, record)


async def jobs(services: Services, request: Request) -> JobsResponse:
    """List the account's jobs, the newest first, without equity curves and trades."""
    query: JobsQuery = request.query
    records = await services.jobs.list(
        request.account_id,
        origin=_ORIGIN,
        status=query.status,
        template_id=query.template_id,
        submitted_from=_parse_time(query.submitted_from, "from"),
        submitted_to=_parse_time(query.submitted_to, "to"),
        before=None if query.cursor is None else int(query.cursor),
        limit=query.limit + 1,
    )
    page = records[: query.limit]
    has_more = len(records) > query.limit
    next_cursor = str(page[-1].number) if has_more else None
    return JobsResponse([_item(record) for record in page], next_cursor)


async def cancel(services: Services, request: Request) -> JobResponse:
    """End a job within a second, even in the middle of its run."""
    body: CancelJobRequest = request.body
    record = await services.jobs.cancel(
        request.account_id, request.path["job_id"], body.reason, origin=_ORIGIN
    )
    return await _to_response(services, record)


async def _to_response(services: Services, record: JobRecord) -> JobResponse:
    result = None
    if record.summary is not None:
        directory = run_directory(services.settings.home, record.job_id, 0)
        equity = await services.read(read_equity_json, directory)
        trades = await services.read(read_trades_json, directory)
        # Equity and trades are JSON already: for years of minutes, megabytes not to be parsed.
        result = JobResult(_metrics(record.summary), equity, trades)  # type: ignore[arg-type]
    return _show(JobResponse, record, result)


def _item(record: JobRecord) -> JobItem:
    summary = record.summary
    return _show(JobItem, record, None if summary is None else JobSummary(_metrics(summary)))


def _show(answer: type[Item], record: JobRecord, result: JobSummary | None) -> Item:
    config = msgspec.convert(record.request, JobConfig)
    coverage = coverage_fields(record.warnings, record.coverage)
    assumptions = MarginAssumptions.of(record.specs[0], record.summary)
    return answer.of(
        record,
        id=record.job_id,
        config=config,
        result=result,
        assumptions=assumptions,
        **coverage,
    )


def _metrics(summary: RunSummary) -> JobMetrics:
    return JobMetrics(**project(_FIGURES, summary, _form), **project_margin(summary, _form))


def _form(value: Any, unit: Unit) -> Any:
    """Write a figure: amounts and ratios as text, counts and whole seconds as numbers."""
    if unit == "amount":
        return money(value)
    if unit in ("count", "seconds"):
        return round(value)
    # Adding 0 turns -0.0 into 0.0.
    return format_decimal(Decimal(repr(float(value) + 0.0)).quantize(_PLACES))


def _parse_time(text: str | None, field: str) -> int | None:
    return None if text is None else parse_time(text, field)


_ONE = f"{_BASE}/{{job_id}}"

ROUTES = [
    Route(
        "POST", _BASE, create, "Submit a job", body=JobRequest,
        errors=("STRATEGY_NOT_FOUND", "NO_DATA", "RATE_LIMITED"),
    ),
    Route("GET", _BASE, jobs, "List jobs", query=JobsQuery),
    Route("GET", _ONE, job, "A job", errors=("NOT_FOUND",)),
    Route(
        "POST", f"{_ONE}/cancel", cancel, "Cancel a job", body=CancelJobRequest,
        errors=("NOT_FOUND", "INVALID_STATE"),
    ),
]  # fmt: skip
