"""What tests of the Backtests API ask for, on the sample market."""

from typing import Any

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
"""The metrics of which more is better, as the document has them."""
LOWER = {
    "risk_max_drawdown", "risk_max_drawdown_duration", "risk_var_95", "risk_cvar_95",
    "risk_var_99", "risk_cvar_99", "risk_volatility_annualised",
}  # fmt: skip
"""And those of which less is."""


def keep(api: Api, content: dict[str, Any]) -> str:
    """The id of a new strategy."""
    body: dict[str, Any] = {"name": "kept", "pipeline_config": content}
    return str(api.post(STRATEGIES, body, 201)["id"])


def create(api: Api, strategy_id: str, /, config: dict[str, Any] | None = None, **body: Any) -> str:
    """The id of a new backtest of the usual month, with these changes."""
    sent = {"strategy_id": strategy_id, "config": CONFIG | (config or {}), **body}
    return str(api.post(BACKTESTS, sent, 201)["id"])


def execute(api: Api, backtest_id: str) -> Any:
    """The backtest when its run has ended."""
    return api.post(f"{BACKTESTS}/{backtest_id}/execute")


def task_ended(api: Api, task_id: str, seconds: float = 60) -> Any:
    """The task when it has ended, asked for again and again, at most for so long."""
    return wait_for(
        lambda: api.get(f"{TASKS}/{task_id}"),
        lambda task: task["status"] in ("SUCCESS", "FAILURE"),
        seconds,
    )
