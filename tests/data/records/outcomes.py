"""Outcomes of runs for stored jobs and backtests."""

from decimal import Decimal

import numpy as np

from candlestep.data.records.jobs import RunOutcome, RunSummary
from candlestep.sandbox.clock import MINUTE
from candlestep.sandbox.performance.metrics import EquitySeries, compute_metrics


def done() -> RunOutcome:
    """Return the outcome of a run that doubled its balance."""
    series = EquitySeries(np.array([0, MINUTE]), np.array([1.0, 2.0]))
    metrics = compute_metrics(series, [], starting_balance=1, interval=MINUTE, candles_in_market=0)
    summary = RunSummary(
        final_equity=Decimal(2), total_pnl=Decimal(1), roi_pct=Decimal(100), total_fees=Decimal(0),
        metrics=metrics, by_pair=[], candles=1, signals=0, fills=0, closed_trades=0,
        mean_trade_seconds=None, open_positions=0, open_value=Decimal(0),
        unrealized_pnl=Decimal(0),
    )  # fmt: skip
    return RunOutcome(summary=summary, files=["equity", "trades"])
