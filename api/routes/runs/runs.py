"""Runs: a strategy on a dataset, with fees, slippage and funding that the request states."""

import uuid
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from candlestep.api.http.route import Request, Route
from candlestep.api.jobs import planning
from candlestep.api.jobs.margin import MarginTerms, require_margin_data
from candlestep.api.routes.runs.trials import strategy_family
from candlestep.api.schemas.decoding import EmptyBody, RequestBody, with_numbers
from candlestep.api.schemas.fields import BasisPoints, CoveredFrom, CoveredTo, Time
from candlestep.api.schemas.figures import (
    MARGIN_FIELDS,
    FigureField,
    MarginAssumptions,
    as_number,
    fields_named,
    project,
    project_margin,
)
from candlestep.api.schemas.response import Response
from candlestep.api.schemas.warnings import CoverageByPair, Warnings, coverage_fields
from candlestep.api.services import Services
from candlestep.data.market.datasets import Dataset, find_dataset
from candlestep.data.records import jobs as records
from candlestep.data.symbols import normalise_symbol
from candlestep.sandbox import InvalidParameter, interval_name
from candlestep.sandbox.clock import parse_interval
from candlestep.sandbox.exchange.clearing import MarginMode
from candlestep.sandbox.exchange.margin.reports import MarkSource
from candlestep.sandbox.performance.deflated_sharpe import deflated_sharpe_of
from candlestep.sandbox.strategies import Strategy

STARTING_BALANCE = "10000"
"""The capital of every run, in the dataset's quote currency."""

_ORIGIN: records.JobOrigin = "runs"
_BASE = "/api/v2/backtest/runs"
_NAMES = planning.FieldNames(
    timeframe="strategy.timeframe",
    session={"fee_bps": "fees", "slippage.bps": "slippage"},
    strategy_within="strategy.",
)
_NO_FUNDING = "funding: the dataset is of a spot market, which has none; it changes nothing"
_WITHOUT_FUNDING = "funding: none is applied"
_WITH_FUNDING = "funding: paid at the rates that were imported, at each settlement"


class RunRequest(RequestBody):
    """All fields are required: a run states its assumptions, so that it can be repeated."""

    has_strategy = True

    dataset_id: Annotated[
        str,
        Meta(
            description="See `GET /api/v2/backtest/datasets`; days may be named too:"
            " `btcusdt-1h-20240115-20240630`.",
            max_length=200,
            examples=["btcusdt-1m-2024"],
        ),
    ]
    strategy: Annotated[
        dict[str, Any],
        Meta(description="A card; or `template` with `parameters`; or a program as `source`."),
    ]
    fees: Annotated[BasisPoints, Meta(description="Of every fill, in hundredths of a percent.")]
    slippage: Annotated[BasisPoints, Meta(description="In hundredths of a percent.")]
    funding: Annotated[
        bool,
        Meta(
            description="True pays the funding of a perpetual, whose dataset has `-perp` in its name;"
            " a spot market has none."
        ),
    ]


class Submitted(msgspec.Struct, frozen=True):
    run_id: Annotated[str, Meta(examples=["b4f1c2a0-6d3e-4f7a-9c1b-0a2d3e4f5a6b"])]
    status: records.JobStatus


class SubmitResponse(msgspec.Struct, frozen=True):
    success: Annotated[bool, Meta(extra_json_schema={"const": True})]
    data: Submitted


class Assumptions(msgspec.Struct, frozen=True):
    fees_bps: float
    slippage_bps: float
    funding: Annotated[bool, Meta(description="As requested.")]
    funding_applied: Annotated[
        bool, Meta(description="As requested for a perpetual; false on a spot market.")
    ]
    starting_balance: Annotated[float, Meta(description="In quote currency.")]
    notes: list[str]
    leverage: Annotated[
        int | UnsetType, Meta(description="Of perpetuals; left out on spot, as all that follows.")
    ] = UNSET
    margin_mode: MarginMode | UnsetType = UNSET
    mark_source: Annotated[
        MarkSource | UnsetType | None,
        Meta(description="What positions were valued at; null until the run is done."),
    ] = UNSET
    funding_events: Annotated[
        int | UnsetType | None, Meta(description="Payments of funding; null until then.")
    ] = UNSET
    missing_marks: Annotated[
        int | UnsetType | None,
        Meta(description="Candles without a mark price, if there are any; null until then."),
    ] = UNSET


class RunMetrics(msgspec.Struct, frozen=True):
    """Figures of a run; null where one is undefined. Amounts are in quote currency."""

    final_equity: float
    total_pnl: float
    total_fees: float
    total_return: Annotated[float, Meta(description="A fraction.")]
    cagr: Annotated[float | None, Meta(description="A fraction.")]
    sharpe_ratio: Annotated[float | None, Meta(description="Annualised.")]
    deflated_sharpe_ratio: Annotated[
        float | None,
        Meta(
            description="The probability that the true Sharpe ratio is above the one that the best"
            " of `trials` has by luck (Bailey and López de Prado, 2014). Further trials change it."
        ),
    ]
    trials: Annotated[
        int,
        Meta(
            description="Number of your finished runs of this strategy on this dataset, with any"
            " parameters, this one included."
        ),
    ]
    sortino_ratio: float | None
    calmar_ratio: float | None
    volatility: Annotated[float | None, Meta(description="Annualised; a fraction.")]
    max_drawdown_pct: float
    max_drawdown_amount: float | None
    max_drawdown_duration_days: int
    var_95: float | None
    var_99: float | None
    cvar_95: float | None
    cvar_99: float | None
    total_trades: Annotated[int, Meta(description="Closed trades.")]
    win_rate: Annotated[float | None, Meta(description="In percent.")]
    profit_factor: float | None
    expectancy: Annotated[float | None, Meta(description="Mean PnL of the closed trades.")]
    avg_win: float | None
    avg_loss: float | None
    best_trade: float | None
    worst_trade: float | None
    turnover: Annotated[float | None, Meta(description="Per year.")]
    returns_grid: Annotated[str, Meta(description="Interval of the returns behind the ratios.")]
    returns_count: int | None
    returns_skewness: float | None
    returns_kurtosis: Annotated[float | None, Meta(description="3 if normal.")]
    total_funding: Annotated[
        float | UnsetType, Meta(description="Received less paid; left out on spot, as the rest.")
    ] = UNSET
    total_liquidation_fees: float | UnsetType = UNSET
    liquidations: Annotated[int | UnsetType, Meta(description="Positions liquidated.")] = UNSET
    max_leverage_used: Annotated[
        float | UnsetType, Meta(description="The highest notional over equity after a fill.")
    ] = UNSET


class RunState(Response, frozen=True):
    run_id: str
    status: records.JobStatus
    dataset_id: str
    strategy: dict[str, Any]
    assumptions: Assumptions
    progress: Annotated[float, Meta(ge=0, le=1)]
    submitted_at: Time
    started_at: Time | None
    finished_at: Time | None
    metrics: Annotated[RunMetrics | None, Meta(description="Null unless the run is done.")]
    error: Annotated[
        records.RunError | None, Meta(description="Null unless the run failed or was cancelled.")
    ]
    covered_from: CoveredFrom
    covered_to: CoveredTo
    warnings: Warnings
    coverage: CoverageByPair


class RunResponse(msgspec.Struct, frozen=True):
    success: Annotated[bool, Meta(extra_json_schema={"const": True})]
    data: RunState


class StoredRequest(msgspec.Struct, frozen=True):
    """The request for a run as it is stored with its job."""

    dataset_id: str
    strategy: dict[str, Any]
    family: str
    """See ``strategy_family``."""
    fees_bps: str
    slippage_bps: str
    funding: bool


_OF_PERPETUALS = [field.key for field in MARGIN_FIELDS]
_FIGURES = (
    *fields_named(
        name
        for name in RunMetrics.__struct_fields__
        if name not in ("deflated_sharpe_ratio", "trials", "total_trades", *_OF_PERPETUALS)
    ),
    FigureField("total_trades", "closed_trades"),
)


async def submit(services: Services, request: Request) -> SubmitResponse:
    """Queue a run of a strategy on a dataset, starting with 10,000 of its quote currency.

    An account can have at most 5 jobs queued or running at a time.
    """
    stored, spec = await services.in_thread(_plan, services, request.body)
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


def _plan(services: Services, body: RunRequest) -> tuple[StoredRequest, records.RunSpec]:
    """Return the request to be stored, and the run, checked.

    Raises ``InvalidParameter``, and ``NoPrice`` without candles.
    """
    dataset = find_dataset(services.catalogue.series(), body.dataset_id)
    if planning.is_too_long(dataset.start, dataset.end):
        raise InvalidParameter(
            "dataset_id",
            f"covers more than {planning.MOST_YEARS} years; name a part of it, such as"
            f" {dataset.symbol.lower()}-{interval_name(dataset.interval)}-20200101-20241231",
        )
    strategy = _compile(body, dataset)
    for field in ("fees", "slippage"):
        if getattr(body, field) is None:
            raise InvalidParameter(field, "is required, in hundredths of a percent, such as 5")
    spec = planning.plan_run(
        strategy,
        planning.MarketScope.resolve(
            services.catalogue, dataset.exchange, [dataset.symbol], _NAMES
        ),
        planning.Period(dataset.start, dataset.end, dataset.start, dataset.end),
        dataset.interval,
        STARTING_BALANCE,
        planning.CostTerms(fee_model="fixed_bps", fee_bps=body.fees, slippage_bps=body.slippage),
        MarginTerms(funding=body.funding),
    )
    remedy = f"{planning.IMPORT_FUNDING}, or set funding to false"
    require_margin_data(services.store, services.catalogue, spec, "dataset_id", remedy)
    stored = StoredRequest(
        dataset.dataset_id,
        strategy.content,
        strategy_family(strategy),
        spec.config["fee_bps"],
        spec.config["slippage"]["bps"],
        body.funding,
    )
    return stored, spec


def _compile(body: RunRequest, dataset: Dataset) -> Strategy:
    """Compile the strategy for the dataset's symbol, at its own timeframe or the dataset's."""
    strategy = planning.compile_for(with_numbers(body.strategy), {}, _NAMES)
    if any(normalise_symbol(symbol) != dataset.symbol for symbol in strategy.symbols or ()):
        raise InvalidParameter(
            "strategy.symbols", f"must be [{dataset.symbol!r}], the dataset's, or left out"
        )
    timeframe = strategy.timeframe or interval_name(dataset.interval)
    if parse_interval(timeframe) < dataset.interval:
        raise InvalidParameter(
            "strategy.timeframe",
            f"is finer than the dataset's, which is {interval_name(dataset.interval)}",
        )
    return planning.compile_for(
        strategy.content, {"timeframe": timeframe, "symbols": [dataset.symbol]}, _NAMES
    )


async def _to_response(services: Services, record: records.JobRecord) -> RunResponse:
    request = msgspec.convert(record.request, StoredRequest)
    metrics = None
    if record.summary is not None:
        trials = await services.read(
            records.sharpe_ratios,
            services.store,
            record.account_id,
            _ORIGIN,
            {"dataset_id": request.dataset_id, "family": request.family},
        )
        metrics = _metrics(record.summary, trials)
    state = RunState.of(
        record,
        run_id=record.job_id,
        dataset_id=request.dataset_id,
        strategy=request.strategy,
        assumptions=_assumptions(request, record),
        metrics=metrics,
        **coverage_fields(record.warnings, record.coverage),
    )
    return RunResponse(True, state)


def _assumptions(request: StoredRequest, record: records.JobRecord) -> Assumptions:
    margin = MarginAssumptions.of(record.specs[0], record.summary)
    own = {} if margin is UNSET else msgspec.structs.asdict(margin)
    is_applied = own.pop("funding", False)
    note = _NO_FUNDING if request.funding else _WITHOUT_FUNDING
    return Assumptions(
        float(request.fees_bps),
        float(request.slippage_bps),
        request.funding,
        is_applied,
        float(STARTING_BALANCE),
        [_WITH_FUNDING if is_applied else note],
        **own,
    )


def _metrics(summary: records.RunSummary, trials: list[float | None]) -> RunMetrics:
    return RunMetrics(
        **project(_FIGURES, summary, as_number),
        **project_margin(summary, as_number),
        deflated_sharpe_ratio=deflated_sharpe_of(summary.metrics, trials),
        trials=len(trials),
    )


ROUTES = [
    Route(
        "POST", _BASE, submit, "Submit a run", body=RunRequest, status=202,
        errors=("NO_DATA", "RATE_LIMITED"),
    ),
    Route("GET", f"{_BASE}/{{run_id}}", run, "A run", errors=("NOT_FOUND",)),
    Route(
        "POST", f"{_BASE}/{{run_id}}/cancel", cancel, "Cancel a run", body=EmptyBody,
        errors=("NOT_FOUND", "INVALID_STATE"),
    ),
]  # fmt: skip
