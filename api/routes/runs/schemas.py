"""The JSON of runs: the request, the run as it is stored, and the answers."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from candlestep.api.schemas.decoding import RequestBody
from candlestep.api.schemas.fields import BasisPoints, Time
from candlestep.data.records.jobs import JobStatus, RunError


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
    funding: Annotated[bool, Meta(description="As requested.")]
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
    metrics: Annotated[RunMetrics | None, Meta(description="Null unless the run is done.")]
    error: Annotated[
        RunError | None, Meta(description="Null unless the run failed or was cancelled.")
    ]


class RunResponse(msgspec.Struct, frozen=True):
    success: Annotated[bool, Meta(extra_json_schema={"const": True})]
    data: RunState
