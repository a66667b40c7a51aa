"""The examples that the guide prints, and a check that an answer has the shape of one.

An answer must have the keys that the guide prints, those that the design adds and no others, and
each value must be of the kind that the guide shows.
"""

import re
from typing import Any

from tests.support.api_client import BACKTEST, Api

DATA_RANGE: dict[str, Any] = {
    "earliest": "2025-01-01T00:00:00Z",
    "latest": "2026-02-22T23:59:59Z",
    "total_pairs": 647,
    "intervals_available": ["1m", "5m", "15m", "1h", "4h", "1d"],
    "data_gaps": [],
}
CREATE: dict[str, Any] = {
    "start_time": "2025-06-01T00:00:00Z",
    "end_time": "2025-07-01T00:00:00Z",
    "starting_balance": 10000,
    "candle_interval": "1m",
    "strategy_label": "momentum_v1",
    "agent_id": "your-agent-uuid",
    "pairs": ["BTCUSDT", "ETHUSDT"],
}
CREATED: dict[str, Any] = {
    "session_id": "bt_550e8400...",
    "status": "created",
    "total_steps": 43200,
    "estimated_pairs": 2,
}
STEP: dict[str, Any] = {
    "virtual_time": "2025-06-01T01:40:00Z",
    "step": 100,
    "total_steps": 43200,
    "progress_pct": "0.23",
    "prices": {"BTCUSDT": "67500.30", "ETHUSDT": "3450.20"},
    "orders_filled": [],
    "portfolio": {
        "total_equity": "10000.00",
        "available_cash": "9700.00",
        "position_value": "300.00",
        "unrealized_pnl": "12.50",
        "realized_pnl": "0.00",
    },
    "is_complete": False,
    "remaining_steps": 43100,
}
ORDERS: list[dict[str, Any]] = [
    {"symbol": "BTCUSDT", "side": "buy", "type": "market", "quantity": "0.1"},
    {"symbol": "BTCUSDT", "side": "buy", "type": "limit", "quantity": "0.1", "price": "60000"},
    {
        "symbol": "BTCUSDT",
        "side": "sell",
        "type": "stop_loss",
        "quantity": "0.1",
        "trigger_price": "58000",
    },
    {
        "symbol": "BTCUSDT",
        "side": "sell",
        "type": "take_profit",
        "quantity": "0.1",
        "trigger_price": "72000",
    },
]
RESULTS: dict[str, Any] = {
    "session_id": "bt_550e...",
    "status": "completed",
    "config": {
        "start_time": "2025-06-01T00:00:00Z",
        "end_time": "2025-07-01T00:00:00Z",
        "starting_balance": "10000.00",
        "strategy_label": "momentum_v1",
        "candle_interval": "1m",
    },
    "summary": {
        "final_equity": "12458.30",
        "total_pnl": "2458.30",
        "roi_pct": "24.58",
        "total_trades": 156,
        "total_fees": "234.50",
    },
    "metrics": {
        "sharpe_ratio": 1.85,
        "sortino_ratio": 2.31,
        "max_drawdown_pct": 8.5,
        "max_drawdown_duration_days": 3,
        "win_rate": 65.71,
        "profit_factor": 2.1,
        "avg_win": "156.30",
        "avg_loss": "-74.50",
        "best_trade": "523.00",
        "worst_trade": "-210.00",
        "trades_per_day": 5.03,
    },
    "by_pair": [
        {"symbol": "BTCUSDT", "trades": 45, "win_rate": 71.1, "net_pnl": "1200.00"},
        {"symbol": "ETHUSDT", "trades": 32, "win_rate": 62.5, "net_pnl": "580.00"},
    ],
}
COMPARED: dict[str, Any] = {
    "comparisons": [
        {
            "session_id": "bt_aaa",
            "strategy_label": "momentum_v1",
            "roi_pct": 18.2,
            "sharpe_ratio": 1.42,
        },
        {
            "session_id": "bt_bbb",
            "strategy_label": "momentum_v2",
            "roi_pct": 24.58,
            "sharpe_ratio": 1.85,
        },
    ],
    "best_by_roi": "bt_bbb",
    "best_by_sharpe": "bt_bbb",
    "recommendation": "bt_bbb (momentum_v2) outperforms on all key metrics",
}

CANDLES_ADD = {"warnings", "coverage"}
PORTFOLIO_ADDS = {"starting_balance", "locked_cash", "positions"}
CONFIG_ADDS = {
    "agent_id", "pairs", "exchange", "import_number", "fee_rate", "fee_model", "fee_bps",
    "fee_schedule", "slippage", "trigger", "liquidate_at_end", "allow_gaps", "risk_profile",
}  # fmt: skip
METRICS_ADD = {
    "total_return", "cagr", "calmar_ratio", "volatility", "var_95", "var_99", "cvar_95",
    "cvar_99", "expectancy", "turnover", "candles_in_market", "returns_grid",
    "capped_fills", "covered_from", "covered_to",
}  # fmt: skip
COMPARISON_ADDS = {
    "sortino_ratio", "max_drawdown_pct", "win_rate", "profit_factor", "total_trades",
    "final_equity",
}  # fmt: skip

# Examples of the shapes that the guide does not print, after the table of the design.
ORDER: dict[str, Any] = {
    "order_id": 1,
    "client_order_id": "any",
    "oco_group": "any",
    "status": "filled",
    "reason": "any",
    "symbol": "BTCUSDT",
    "side": "buy",
    "type": "market",
    "quantity": "0.10",
    "price": "60000.00",
    "trigger_price": "60000.00",
    "executed_price": "60000.00",
    "executed_qty": "0.10",
    "fee": "6.00",
    "slippage_pct": "0.01",
    "realized_pnl": "0.00",
    "created_at": "2025-06-01T00:00:00Z",
    "filled_at": "2025-06-01T00:00:00Z",
    "closed_at": "2025-06-01T00:00:00Z",
    "expires_at": "2025-06-01T00:00:00Z",
}
ORDER_LISTED = {"id": 1, **ORDER}
NULLABLE_IN_ORDERS = {
    "client_order_id", "oco_group", "reason", "price", "trigger_price", "executed_price",
    "executed_qty", "fee", "slippage_pct", "realized_pnl", "filled_at", "closed_at",
    "expires_at",
}  # fmt: skip
TRADE: dict[str, Any] = {
    "id": 1,
    "order_id": 1,
    "symbol": "BTCUSDT",
    "side": "buy",
    "type": "market",
    "quantity": "0.10",
    "price": "60000.00",
    "quote_amount": "6000.00",
    "fee": "6.00",
    "slippage_pct": "0.01",
    "realized_pnl": "0.00",
    "simulated_at": "2025-06-01T00:00:00Z",
}
POSITION: dict[str, Any] = {
    "symbol": "BTCUSDT",
    "quantity": "0.10",
    "avg_entry_price": "60000.00",
    "cost_basis": "6000.00",
    "current_price": "60000.00",
    "market_value": "6000.00",
    "unrealized_pnl": "0.00",
    "realized_pnl": "0.00",
}
TICKER: dict[str, Any] = {
    "symbol": "BTCUSDT",
    "open": "60000.00",
    "high": "60000.00",
    "low": "60000.00",
    "close": "60000.00",
    "volume": "1.00",
    "price_change": "0.00",
    "price_change_pct": "0.00",
    "virtual_time": "2025-06-01T00:00:00Z",
}
CANDLE: dict[str, Any] = {
    "open_time": "2025-06-01T00:00:00Z",
    "bucket": "2025-06-01T00:00:00Z",
    "open": "60000.00",
    "high": "60000.00",
    "low": "60000.00",
    "close": "60000.00",
    "volume": "1.00",
}
SESSION: dict[str, Any] = {
    "session_id": "bt_550e8400",
    "agent_id": "agent",
    "strategy_label": "label",
    "status": "running",
    "start_time": "2025-06-01T00:00:00Z",
    "end_time": "2025-06-01T00:00:00Z",
    "candle_interval": "1m",
    "starting_balance": "10000.00",
    "pairs": ["BTCUSDT"],
    "current_step": 1,
    "total_steps": 1,
    "progress_pct": "100.00",
    "virtual_time": "2025-06-01T00:00:00Z",
    "final_equity": "10000.00",
    "total_pnl": "0.00",
    "roi_pct": "0.00",
    "total_trades": 1,
    "total_fees": "0.00",
    "sharpe_ratio": 1.5,
    "max_drawdown_pct": 1.5,
    "created_at": "2025-06-01T00:00:00Z",
    "started_at": "2025-06-01T00:00:00Z",
    "completed_at": "2025-06-01T00:00:00Z",
    "error": "words",
}
KNOWN_AT_THE_END = {
    "final_equity", "total_pnl", "roi_pct", "total_trades", "total_fees", "sharpe_ratio",
    "max_drawdown_pct", "completed_at", "error",
}  # fmt: skip
SNAPSHOT: dict[str, Any] = {
    "simulated_at": "2025-06-01T00:00:00Z",
    "total_equity": "10000.00",
    "available_cash": "10000.00",
    "locked_cash": "0.00",
    "position_value": "0.00",
    "unrealized_pnl": "0.00",
    "realized_pnl": "0.00",
}

START, END = "2025-01-15T00:00:00Z", "2025-02-14T00:00:00Z"
"""30 days of the sample market; the guide's session is as long."""

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z", re.ASCII)
_MONEY = re.compile(r"-?\d+\.\d{2,}", re.ASCII)


def kind(value: Any) -> str:
    """Return the kind that a client written against the guide would take a value for."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "number"
        case str() if _TIME.fullmatch(value):
            return "time"
        case str() if _MONEY.fullmatch(value):
            return "money"
        case str():
            return "text"
        case list():
            return "list"
    return "object"


def check(
    answer: dict[str, Any],
    example: dict[str, Any],
    adds: set[str] | None = None,
    nullable: set[str] | None = None,
) -> None:
    """Check that an answer has the keys of an example and those added, in the example's kinds."""
    assert set(answer) == set(example) | (adds or set())
    for key, printed in example.items():
        if answer[key] is None and key in (nullable or ()):
            continue
        assert kind(answer[key]) == kind(printed), (key, answer[key])


def create(api: Api, **changes: Any) -> str:
    """Create a session as the guide does, with other dates and another agent; return its id."""
    agent_id = api.get("/api/v1/agents")["agents"][0]["agent_id"]
    body = CREATE | {"start_time": START, "end_time": END, "agent_id": agent_id} | changes
    created = api.post(f"{BACKTEST}/create", body)
    check(created, CREATED, CANDLES_ADD)
    session_id: str = created["session_id"]
    assert session_id.startswith("bt_")
    return session_id


def start(api: Api, session_id: str) -> dict[str, Any]:
    """Start a session without a body or a content type, as in the guide; return the answer."""
    answer = api.client.post(f"{BACKTEST}/{session_id}/start")
    assert answer.status_code == 200
    started: dict[str, Any] = answer.json()
    return started


def create_and_start(api: Api, **changes: Any) -> str:
    """Create and start a session as the guide does; return its id."""
    session_id = create(api, **changes)
    start(api, session_id)
    return session_id


def complete_session(api: Api, label: str, hours: int) -> str:
    """Trade a session of both pairs to its end, in or out every few hours; return its id."""
    session_id = create_and_start(api, strategy_label=label, end_time="2025-02-04T00:00:00Z")
    is_complete = False
    side = "buy"
    while not is_complete:
        for symbol, quantity in (("BTCUSDT", "0.03"), ("ETHUSDT", "0.8")):
            api.order(session_id, symbol=symbol, side=side, quantity=quantity)
        side = "sell" if side == "buy" else "buy"
        is_complete = api.step(session_id, hours * 60)["is_complete"]
    return session_id
