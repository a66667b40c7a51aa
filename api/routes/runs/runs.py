"""Runs: a strategy on a dataset, with fees, slippage and funding that are said, never assumed."""

import hashlib
import re
import uuid
from decimal import Decimal
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from candlestep.api.errors import with_field_names
from candlestep.api.http.route import Request, Route
from candlestep.api.jobs.planning import MOST_YEARS, is_too_long
from candlestep.api.schemas.decoding import EmptyBody, RequestBody, with_numbers
from candlestep.api.schemas.fields import BasisPoints, Time, optional_time
from candlestep.api.services import Services
from candlestep.data.market.datasets import Dataset, find_dataset, list_datasets
from candlestep.data.records.jobs import (
    JobOrigin,
    JobRecord,
    JobStatus,
    RunError,
    RunSpec,
    RunSummary,
    job_not_found,
    sharpe_ratios,
)
from candlestep.data.symbols import normalise_symbol
from candlestep.sandbox import InvalidParameter, Metrics, SessionConfig, format_time, interval_name
from candlestep.sandbox.clock import parse_interval
from candlestep.sandbox.money import format_decimal, multiply
from candlestep.sandbox.performance.deflated_sharpe import deflated_sharpe_ratio
from candlestep.sandbox.performance.metrics import YEAR
from candlestep.sandbox.strategies import Strategy, compile_strategy

STARTING_BALANCE = "10000"
"""Of every run, in the dataset's quote currency."""

_ORIGIN: JobOrigin = "runs"
_BASE = "/api/v2/backtest"
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?", re.ASCII)
_NO_FUNDING = "funding: the dataset is of a spot market, which has none; it changes nothing"
_WITHOUT_FUNDING = "funding: none is applied"


class RunRequest(RequestBody):
    """All of it is required: a run's assumptions are said, so that it can be repeated."""

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
        bool, Meta(description="Whether funding is applied; a spot market has none.")
    ]


class Submitted(msgspec.Struct, frozen=True):
    run_id: Annotated[str, Meta(examples=["b4f1c2a0-6d3e-4f7a-9c1b-0a2d3e4f5a6b"])]
    status: JobStatus


class SubmitResponse(msgspec.Struct, frozen=True):
    success: Annotated[bool, Meta(extra_json_schema={"const": True})]
    data: Submitted


class Assumptions(msgspec.Struct, frozen=True):
    fees_bps: float
    slippage_bps: float
    funding: Annotated[bool, Meta(description="As it was asked for.")]
    funding_applied: Annotated[bool, Meta(description="False: datasets are of spot markets.")]
    starting_balance: Annotated[float, Meta(description="In quote currency.")]
    notes: list[str]


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
            description="The probability that the true Sharpe ratio is above what the best of so"
            " many trials has by luck (Bailey and López de Prado, 2014). As of now: further trials"
            " change it."
        ),
    ]
    trials: Annotated[
        int,
        Meta(
            description="Your finished runs of the strategy on the dataset, whatever its numbers,"
            " this one included."
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
    turnover: Annotated[float | None, Meta(description="A year.")]
    returns_grid: Annotated[str, Meta(description="Interval of the returns behind the ratios.")]
    returns_count: int | None
    returns_skewness: float | None
    returns_kurtosis: Annotated[float | None, Meta(description="3 if normal.")]


class RunState(msgspec.Struct, frozen=True):
    run_id: str
    status: JobStatus
    dataset_id: str
    strategy: dict[str, Any]
    assumptions: Assumptions
    progress: Annotated[float, Meta(ge=0, le=1)]
    submitted_at: Time
    started_at: Time | None
    finished_at: Time | None
    metrics: Annotated[RunMetrics | None, Meta(description="Of a run that is done.")]
    error: Annotated[RunError | None, Meta(description="Of a run that failed.")]


class RunResponse(msgspec.Struct, frozen=True):
    success: Annotated[bool, Meta(extra_json_schema={"const": True})]
    data: RunState


class DatasetItem(msgspec.Struct, frozen=True):
    dataset_id: str
    exchange: str
    symbols: list[str]
    interval: str
    start: Annotated[Time, Meta(description="The first candle opens.")]
    end: Annotated[Time, Meta(description="The last candle is complete.")]
    candles: int


class DatasetsResponse(msgspec.Struct, frozen=True):
    success: Annotated[bool, Meta(extra_json_schema={"const": True})]
    data: list[DatasetItem]


class _StoredRequest(msgspec.Struct, frozen=True):
    """What the queue keeps of a request."""

    dataset_id: str
    strategy: dict[str, Any]
    family: str
    """Of the strategy: see ``strategy_family``."""
    fees_bps: str
    slippage_bps: str
    funding: bool


async def submit(services: Services, request: Request) -> SubmitResponse:
    """Queue a run of a strategy on a dataset, from 10,000 of its quote currency.

    At most 5 jobs of an account are queued or running at a time.
    """
    stored, spec = await services.in_thread(_plan, services, request.body)
    record = await services.jobs.submit(
        request.account_id, _ORIGIN, [spec], msgspec.to_builtins(stored), str(uuid.uuid4())
    )
    return SubmitResponse(True, Submitted(record.job_id, record.status))


async def run(services: Services, request: Request) -> RunResponse:
    """How far a run is, what it assumes, and how it came out."""
    return await _answer(services, await _found(services, request))


async def cancel(services: Services, request: Request) -> RunResponse:
    """End a run, in its middle too; takes effect within a second."""
    found = await _found(services, request)
    return await _answer(services, await services.jobs.cancel(request.account_id, found.job_id))


async def _found(services: Services, request: Request) -> JobRecord:
    """The run that the path names; raises ``JobNotFound``."""
    record = await services.jobs.get(request.account_id, request.path["run_id"])
    if record.origin != _ORIGIN:
        raise job_not_found(record.job_id)
    return record


async def _answer(services: Services, record: JobRecord) -> RunResponse:
    request = msgspec.convert(record.request, _StoredRequest)
    outcome = record.outcomes[0]
    metrics = None
    if record.status == "done" and outcome is not None and outcome.summary is not None:
        trials = await services.in_thread(
            sharpe_ratios,
            services.store,
            record.account_id,
            _ORIGIN,
            {"dataset_id": request.dataset_id, "family": request.family},
        )
        metrics = _metrics(outcome.summary, trials)
    return RunResponse(True, _state(record, request, metrics))


async def datasets(services: Services, request: Request) -> DatasetsResponse:
    """What a run can be on: each year of each symbol, at each interval that its candles make."""
    series = await services.in_thread(services.catalogue.series)
    found = await services.in_thread(list_datasets, series)
    return DatasetsResponse(True, [_item(each) for each in found])


def strategy_family(strategy: Strategy) -> str:
    """What strategies have in common that differ in their numbers alone, as 32 digits.

    Of a template, its name; of a program all of it, for what it does with a number is not known.
    """
    content: Any = strategy.content
    if strategy.kind == "template":
        content = {"template": content["template"]}
    if strategy.kind == "card":
        content = _without_numbers(content)
    written = msgspec.json.encode(content, order="sorted")
    return hashlib.sha256(written).hexdigest()[:32]


def _without_numbers(value: Any) -> Any:
    match value:
        case bool():
            return value
        case int() | float():
            return 0
        case str() if _NUMBER.fullmatch(value):
            return 0
        case list():
            return [_without_numbers(each) for each in value]
        case dict():
            return {name: _without_numbers(each) for name, each in value.items()}
    return value


def _plan(services: Services, body: RunRequest) -> tuple[_StoredRequest, RunSpec]:
    dataset = find_dataset(services.catalogue.series(), body.dataset_id)
    if is_too_long(dataset.start, dataset.end):
        raise InvalidParameter(
            "dataset_id",
            f"is more than {MOST_YEARS} years; name a part of it, as"
            f" {dataset.symbol.lower()}-{interval_name(dataset.interval)}-20200101-20241231",
        )
    strategy = _compiled(body, dataset)
    for field in ("fees", "slippage"):
        if getattr(body, field) is None:
            raise InvalidParameter(field, "is required, in hundredths of a percent, such as 5")
    try:
        config = SessionConfig(
            start_time=dataset.start,
            end_time=dataset.end,
            starting_balance=STARTING_BALANCE,
            candle_interval=dataset.interval // 1000,
            currency=dataset.quote,
            fee_model="fixed_bps",
            fee_bps=body.fees,
            slippage={"model": "fixed_bps", "bps": body.slippage},
        )
    except InvalidParameter as refusal:
        raise with_field_names(refusal, {"fee_bps": "fees", "slippage.bps": "slippage"}) from None
    fees = config.costs.fees.settings()
    slippage_bps = format_decimal(multiply(config.costs.fixed, Decimal(10_000)))
    request = _StoredRequest(
        dataset.dataset_id,
        strategy.content,
        strategy_family(strategy),
        fees["fee_bps"],
        slippage_bps,
        body.funding,
    )
    spec = RunSpec(
        strategy=strategy.content,
        exchange=dataset.exchange,
        pairs=[dataset.symbol],
        start_time=dataset.start,
        end_time=dataset.end,
        interval=dataset.interval,
        starting_balance=STARTING_BALANCE,
        config={
            "currency": dataset.quote,
            **fees,
            "slippage": {"model": "fixed_bps", "bps": slippage_bps},
        },
        history=strategy.history(dataset.interval),
    )
    return request, spec


def _compiled(body: RunRequest, dataset: Dataset) -> Strategy:
    """The strategy on the dataset's symbol, at its own timeframe or else the dataset's."""
    content = with_numbers(body.strategy)
    try:
        strategy = compile_strategy(content)
    except InvalidParameter as refusal:
        raise with_field_names(refusal, {}, within="strategy.") from None
    if any(normalise_symbol(each) != dataset.symbol for each in strategy.symbols or ()):
        raise InvalidParameter(
            "strategy.symbols", f"must be [{dataset.symbol!r}], the dataset's, or left out"
        )
    timeframe = strategy.timeframe or interval_name(dataset.interval)
    if parse_interval(timeframe) < dataset.interval:
        raise InvalidParameter(
            "strategy.timeframe",
            f"is finer than the dataset's, which is {interval_name(dataset.interval)}",
        )
    scope = {"timeframe": timeframe, "symbols": [dataset.symbol]}
    return compile_strategy(strategy.content | scope)


def _state(record: JobRecord, request: _StoredRequest, metrics: RunMetrics | None) -> RunState:
    fault = None
    if record.error_code is not None:
        fault = RunError(record.error_code, record.error_message or "")
    return RunState(
        record.job_id,
        record.status,
        request.dataset_id,
        request.strategy,
        Assumptions(
            float(request.fees_bps),
            float(request.slippage_bps),
            request.funding,
            False,
            float(STARTING_BALANCE),
            [_NO_FUNDING if request.funding else _WITHOUT_FUNDING],
        ),
        record.progress,
        format_time(record.submitted_at),
        optional_time(record.started_at),
        optional_time(record.finished_at),
        metrics,
        fault,
    )


def _metrics(summary: RunSummary, trials: list[float | None]) -> RunMetrics:
    metrics = summary.metrics
    own = {
        "final_equity": summary.final_equity,
        "total_pnl": summary.total_pnl,
        "total_fees": summary.total_fees,
        "deflated_sharpe_ratio": _deflated(metrics, trials),
        "trials": len(trials),
        "total_trades": summary.closed_trades,
    }
    values = {
        name: own[name] if name in own else getattr(metrics, name)
        for name in RunMetrics.__struct_fields__
    }
    return RunMetrics(**{name: _as_number(value) for name, value in values.items()})


def _deflated(metrics: Metrics, trials: list[float | None]) -> float | None:
    """The deflated Sharpe ratio of a run among its trials, it being one of them."""
    sharpe, count = metrics.sharpe_ratio, metrics.returns_count
    skewness, kurtosis = metrics.returns_skewness, metrics.returns_kurtosis
    if sharpe is None or count is None or skewness is None or kurtosis is None:
        return None
    annual = (YEAR / parse_interval(metrics.returns_grid)) ** 0.5
    return deflated_sharpe_ratio(
        sharpe / annual,
        trials=len(trials),
        trial_sharpes=[each / annual for each in trials if each is not None],
        returns=count,
        skewness=skewness,
        kurtosis=kurtosis,
    )


def _as_number(value: Any) -> Any:
    return float(value) if isinstance(value, Decimal) else value


def _item(dataset: Dataset) -> DatasetItem:
    return DatasetItem(
        dataset.dataset_id,
        dataset.exchange,
        [dataset.symbol],
        interval_name(dataset.interval),
        format_time(dataset.start),
        format_time(dataset.end),
        dataset.candles,
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
    Route("GET", f"{_BASE}/datasets", datasets, "Datasets", DatasetsResponse),
]  # fmt: skip
