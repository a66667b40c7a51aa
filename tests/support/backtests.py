"""Requests of the Backtests API on the sample market, and the names of its figures."""

from typing import Any

from candlestep.sandbox import Market, Session, SessionConfig, parse_time
from candlestep.sandbox.strategies import compile_strategy, run
from tests.support.api_client import Api, wait_for

STRATEGIES = "/api/v1/strategies"
BACKTESTS = "/api/v1/backtests"
TASKS = "/api/v1/tasks"
CROSS: dict[str, Any] = {
    "template": "tpl_sma_cross",
    "parameters": {"fast": 5, "slow": 20, "equity_share": 0.5},
}
CONFIG: dict[str, Any] = {
    "symbol": "BTCUSDT",
    "timeframe": "1h",
    "start_date": "2025-01-10T00:00:00Z",
    "end_date": "2025-02-10T00:00:00Z",
}
ENDLESS = {"source": "def on_candle(ctx):\n    for i in range(100000000):\n        pass\n"}
"""A program that runs until it is stopped."""
FAILING = {"source": "def on_candle(ctx):\n    ctx.buy(quantity=1 // 0)\n"}

HIGHER = {
    "perf_cagr", "perf_sharpe_ratio", "perf_sortino_ratio", "perf_calmar_ratio", "total_return",
    "trade_win_rate", "trade_profit_factor", "trade_expectancy", "bars_in_market",
}  # fmt: skip
"""The metrics that are better when higher, as the document has them."""
LOWER = {
    "risk_max_drawdown", "risk_max_drawdown_duration", "risk_var_95", "risk_cvar_95",
    "risk_var_99", "risk_cvar_99", "risk_volatility_annualised",
}  # fmt: skip
"""The metrics that are better when lower."""


MONTH = (parse_time("2025-01-10"), parse_time("2025-02-10T01:00:00Z"))
"""The period of CONFIG; the candle that opens at its end belongs to it, and is complete an hour later."""
BACKTEST_FIELDS = {
    "id", "strategy_id", "engine", "status", "initial_capital", "commission", "slippage", "config",
    "metrics", "trades_uri", "equity_curve_uri", "created_at", "updated_at",
    "covered_from", "covered_to", "warnings", "coverage",
}  # fmt: skip
STRUCTURED = {
    "total_return": "total_return",
    "bars_in_market": "bars_in_market",
    "perf_cagr": "performance.cagr",
    "perf_sharpe_ratio": "performance.sharpe_ratio",
    "perf_sortino_ratio": "performance.sortino_ratio",
    "perf_calmar_ratio": "performance.calmar_ratio",
    "risk_max_drawdown": "risk.max_drawdown",
    "risk_max_drawdown_duration": "risk.max_drawdown_duration",
    "risk_var_95": "risk.var_95",
    "risk_cvar_95": "risk.cvar_95",
    "risk_var_99": "risk.var_99",
    "risk_cvar_99": "risk.cvar_99",
    "risk_volatility_annualised": "risk.volatility_annualised",
    "trade_total_trades": "trading.total_trades",
    "trade_win_rate": "trading.win_rate",
    "trade_profit_factor": "trading.profit_factor",
    "trade_avg_win": "trading.avg_win",
    "trade_avg_loss": "trading.avg_loss",
    "trade_expectancy": "trading.expectancy",
    "trade_turnover_annualised": "trading.turnover_annualised",
}
"""The path of each flat key in the structured metrics, as the document has it."""


def keep(api: Api, content: dict[str, Any]) -> str:
    """Store a strategy and return its id."""
    body: dict[str, Any] = {"name": "kept", "pipeline_config": content}
    return str(api.post(STRATEGIES, body, 201)["id"])


def create(api: Api, strategy_id: str, /, config: dict[str, Any] | None = None, **body: Any) -> str:
    """Create a backtest of the usual month, with these changes, and return its id."""
    sent = {"strategy_id": strategy_id, "config": CONFIG | (config or {}), **body}
    return str(api.post(BACKTESTS, sent, 201)["id"])


def execute(api: Api, backtest_id: str) -> Any:
    """Execute a backtest and return it when its run has ended."""
    return api.post(f"{BACKTESTS}/{backtest_id}/execute")


def task_ended(api: Api, task_id: str) -> Any:
    """Poll a task until it has ended, and return it."""
    return wait_for(
        lambda: api.get(f"{TASKS}/{task_id}"),
        lambda task: task["status"] in ("SUCCESS", "FAILURE"),
    )


def in_process(market: Market, content: dict[str, Any] = CROSS, **config: Any) -> Session:
    """Run the usual backtest in process, with these changes, and return its session."""
    settings: dict[str, Any] = {
        "start_time": MONTH[0],
        "end_time": MONTH[1],
        "starting_balance": 100_000,
        "candle_interval": "1h",
        "fee_rate": "0.0005",
        "slippage": {"model": "fixed_bps", "bps": 5},
    }
    strategy = compile_strategy(content | {"timeframe": "1h"})
    return run(strategy, SessionConfig(**settings | config), market).session


def field_of(error: Any) -> str:
    """Return the field that a refusal names."""
    assert error["code"] == "INVALID_PARAMETER"
    return str(error["details"]["field"])
