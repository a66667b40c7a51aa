"""The JSON of backtests in answers."""

from typing import Annotated, Any, Literal, Self

import msgspec
from msgspec import Meta

from candlestep.api.routes.backtests.figures import (
    Flat,
    StructuredMetrics,
    flat_metrics,
    structured_metrics,
)
from candlestep.api.routes.backtests.plan import BacktestRunConfig
from candlestep.api.schemas.fields import CoveredFrom, CoveredTo, Time, optional_time
from candlestep.api.schemas.response import Response
from candlestep.api.schemas.warnings import CoverageByPair, Warnings, coverage_fields
from candlestep.data.records.backtests import BacktestRecord, BacktestStatus

BASE = "/api/v1/backtests"

Uri = Annotated[str, Meta(description="The path of its download; null without a file.")]


class BacktestResponse(Response, frozen=True, kw_only=True):
    id: str
    strategy_id: str
    engine: str
    status: BacktestStatus
    initial_capital: float
    commission: Annotated[float, Meta(description="A fraction of the notional.")]
    slippage: Annotated[float, Meta(description="A fraction of the price.")]
    config: BacktestRunConfig
    metrics: Annotated[
        Flat, Meta(description="By flat key; of a failed backtest, `error`: why it failed.")
    ]
    trades_uri: Uri | None
    equity_curve_uri: Uri | None
    created_at: Time
    updated_at: Time
    covered_from: CoveredFrom | None
    covered_to: CoveredTo | None
    warnings: Warnings
    coverage: CoverageByPair

    @classmethod
    def of(cls, record: BacktestRecord, /, **fields: Any) -> Self:
        """Return the answer that shows a backtest."""
        own = {
            "id": record.backtest_id,
            "initial_capital": float(record.initial_capital),
            "commission": float(record.commission),
            "slippage": float(record.slippage),
            "config": msgspec.convert(record.config, BacktestRunConfig),
            "metrics": metrics_of(record),
            "trades_uri": None if record.hides_trades else trades_uri(record),
            "equity_curve_uri": None if record.hides_equity else equity_curve_uri(record),
            **_covered(record),
        }
        return super().of(record, **own, **fields)


class BacktestResultResponse(BacktestResponse, frozen=True, kw_only=True):
    structured_metrics: Annotated[
        StructuredMetrics | None, Meta(description="Of a backtest that is completed.")
    ]

    @classmethod
    def of(cls, record: BacktestRecord, /, **fields: Any) -> Self:
        """Return the answer that shows a backtest, with structured metrics if it is completed."""
        is_completed = record.status == "completed"
        structured = structured_metrics(metrics_of(record)) if is_completed else None
        return super().of(record, structured_metrics=structured, **fields)


class TaskStartedResponse(msgspec.Struct, frozen=True):
    task_id: Annotated[str, Meta(description="For `GET /api/v1/tasks/{task_id}`.")]
    status: Literal["PENDING"]


def _covered(record: BacktestRecord) -> dict[str, Any]:
    """Return what its run covered; before it has run, no time, and no warnings."""
    run = record.run
    summary = None if run is None else run.summary
    times = {
        name: None if summary is None else optional_time(getattr(summary.metrics, name))
        for name in ("covered_from", "covered_to")
    }
    return times | coverage_fields(run.warnings if run else (), run.coverage if run else {})


def metrics_of(record: BacktestRecord) -> Flat:
    """Return the flat metrics of a backtest, none before it has run."""
    if record.set_metrics is not None:
        return record.set_metrics
    if record.run is not None and record.run.summary is not None:
        return flat_metrics(record.run.summary)
    return {} if record.error is None else {"error": record.error}


def trades_uri(record: BacktestRecord) -> str | None:
    """Return the path of the backtest's file of closed trades; None without one."""
    return f"{BASE}/{record.backtest_id}/trades/parquet" if record.has_files else None


def equity_curve_uri(record: BacktestRecord) -> str | None:
    """Return the path of the backtest's file of equity; None without one."""
    return f"{BASE}/{record.backtest_id}/equity-curve/parquet" if record.has_files else None
