"""The table of figures of runs and sessions, with their units and better directions.

A figure that is added here is not reported by itself: every API has a list of ``FigureField``, or a
struct, of those that it reports, under its own names. See ``api/schemas/figures.py``.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

Unit = Literal[
    "amount",
    "count",
    "days",
    "fraction",
    "interval",
    "per day",
    "percent",
    "ratio",
    "seconds",
    "time",
]


class Figure(NamedTuple):
    """A figure of ``Metrics``, or of the summary of a run or a session."""

    unit: Unit
    higher_is_better: bool | None = None
    """None if neither direction is better."""


FIGURES: Mapping[str, Figure] = {
    "final_equity": Figure("amount", True),
    "total_pnl": Figure("amount", True),
    "roi_pct": Figure("percent", True),
    "total_fees": Figure("amount", False),
    "total_return": Figure("fraction", True),
    "cagr": Figure("fraction", True),
    "sharpe_ratio": Figure("ratio", True),
    "sortino_ratio": Figure("ratio", True),
    "calmar_ratio": Figure("ratio", True),
    "volatility": Figure("fraction", False),
    "max_drawdown_pct": Figure("percent", False),
    "max_drawdown_amount": Figure("amount", False),
    "max_drawdown_duration_days": Figure("days", False),
    "var_95": Figure("fraction", False),
    "var_99": Figure("fraction", False),
    "cvar_95": Figure("fraction", False),
    "cvar_99": Figure("fraction", False),
    "total_trades": Figure("count"),
    "closed_trades": Figure("count"),
    "trades_per_day": Figure("per day"),
    "win_rate": Figure("percent", True),
    "profit_factor": Figure("ratio", True),
    "avg_win": Figure("amount"),
    "avg_loss": Figure("amount"),
    "best_trade": Figure("amount"),
    "worst_trade": Figure("amount"),
    "expectancy": Figure("amount", True),
    "mean_trade_seconds": Figure("seconds"),
    "turnover": Figure("ratio"),
    "candles_in_market": Figure("count", True),
    "signals": Figure("count"),
    "returns_grid": Figure("interval"),
    "returns_count": Figure("count"),
    "returns_skewness": Figure("ratio"),
    "returns_kurtosis": Figure("ratio"),
    "capped_fills": Figure("count"),
    "covered_from": Figure("time"),
    "covered_to": Figure("time"),
    "total_funding": Figure("amount", True),
    "total_liquidation_fees": Figure("amount"),
    "liquidations": Figure("count"),
    "insurance": Figure("amount"),
    "max_leverage_used": Figure("ratio"),
}
"""Every figure by name."""
