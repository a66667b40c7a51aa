"""A request for every route of an account, and the routes grouped by the access they need."""

from typing import Any

import httpx

from candlestep.api.http.route import Route
from candlestep.api.routes import ROUTES, pages
from candlestep.api.schemas.decoding import PlainText
from tests.support.api_client import BACKTEST, DAY, ORDER, Api
from tests.support.backtests import BACKTESTS, CONFIG, CROSS, STRATEGIES, TASKS

UNKNOWN_ID = "0123456789ABCDEFabcdef"
UNKNOWN_JOB = "bt_00000000000040008000000000000000"
UNKNOWN_AGENT = "00000000-0000-4000-8000-000000000000"

PAGE_ROUTES = [endpoint.route for endpoint in pages.API.endpoints()]
"""Pages, whose errors are HTML, and what they alone read."""
ACCOUNT_ROUTES = [
    route for route in ROUTES if route.access == "account" and route not in PAGE_ROUTES
]
KEY_ROUTES = [route for route in ROUTES if route.access == "key"]
ADMIN_ROUTES = [route for route in ROUTES if route.access == "admin"]
ADMIN_KEY_ROUTES = [route for route in ROUTES if route.access == "admin_key"]
PUBLIC_ROUTES = [route for route in ROUTES if route.access == "public"]

SAMPLES = {
    "symbol": "BTCUSDT",
    "order_id": "1",
    "exchangeId": "binance",
    "segment": "spot",
    "type": "ticker",
}
"""Values of path parameters that do not belong to an account by themselves."""
OWNED_PARAMETERS = (
    "session_id",
    "agent_id",
    "job_id",
    "strategy_id",
    "backtest_id",
    "task_id",
    "jobId",
    "strategyId",
    "run_id",
)
"""Path parameters that name something that belongs to an account."""

EXECUTE = f"{BACKTEST}/{{exchangeId}}/{{type}}"
RUNS = "/api/v2/backtest/runs"

JOB = {
    "template_id": "tpl_breakout",
    "params": {"lookback": 20},
    "symbols": ["BTCUSDT"],
    "timeframe": "1h",
    "start": "2025-01-10T00:00:00Z",
    "end": "2025-01-20T00:00:00Z",
    "capital": "10000",
}
PREPARE = {"instrument": "BTC/USDT", "from": "2025-01-10", "to": "2025-01-11"}
PROGRAM = "def on_candle(ctx):\n    pass\n"
RUN = {
    "dataset_id": "btcusdt-1h-2025",
    "strategy": {"template": "tpl_breakout"},
    "fees": 5,
    "slippage": 3,
    "funding": False,
}

BODIES: dict[tuple[str, str], Any] = {
    ("POST", "/api/v1/agents"): {"name": "second"},
    ("PATCH", "/api/v1/agents/{agent_id}"): {"name": "renamed"},
    ("POST", f"{BACKTEST}/jobs"): JOB,
    ("POST", f"{BACKTEST}/jobs/{{job_id}}/cancel"): None,
    ("POST", STRATEGIES): {"name": "second", "pipeline_config": CROSS},
    ("PATCH", f"{STRATEGIES}/{{strategy_id}}"): {"name": "renamed"},
    ("POST", BACKTESTS): {"strategy_id": UNKNOWN_AGENT, "config": CONFIG},
    ("PATCH", f"{BACKTESTS}/{{backtest_id}}"): {"metrics": {"total_return": 1}},
    ("POST", f"{BACKTESTS}/{{backtest_id}}/execute"): None,
    ("POST", f"{BACKTESTS}/{{backtest_id}}/execute/async"): None,
    ("POST", f"{BACKTESTS}/compare"): {"backtest_ids": [UNKNOWN_AGENT, UNKNOWN_JOB]},
    ("POST", f"{BACKTESTS}/sweep"): {
        "strategy_id": UNKNOWN_AGENT,
        "base_config": CONFIG,
        "param_grid": [{}],
    },
    ("POST", "/api/v1/strategy"): PROGRAM,
    ("POST", f"{EXECUTE}/prepare"): PREPARE,
    ("POST", f"{EXECUTE}/execute"): {"prepareJobId": UNKNOWN_ID, "strategyId": UNKNOWN_ID},
    ("POST", RUNS): RUN,
    ("POST", f"{RUNS}/{{run_id}}/cancel"): None,
    ("POST", f"{TASKS}/{{task_id}}/cancel"): None,
    ("POST", f"{BACKTEST}/create"): DAY,
    ("POST", f"{BACKTEST}/{{session_id}}/start"): None,
    ("POST", f"{BACKTEST}/{{session_id}}/step"): None,
    ("POST", f"{BACKTEST}/{{session_id}}/step/batch"): {"steps": 5},
    ("POST", f"{BACKTEST}/{{session_id}}/step/batch/fast"): {"steps": 5},
    ("POST", f"{BACKTEST}/{{session_id}}/cancel"): None,
    ("POST", f"{BACKTEST}/{{session_id}}/fork"): None,
    ("POST", f"{BACKTEST}/{{session_id}}/keys"): None,
    ("POST", f"{BACKTEST}/{{session_id}}/turn"): {"orders": [ORDER]},
    ("POST", f"{BACKTEST}/sessions/turn"): {"turns": [{"session_id": UNKNOWN_ID}]},
    ("POST", f"{BACKTEST}/{{session_id}}/dialect"): None,
    ("POST", f"{BACKTEST}/{{session_id}}/trade/order"): ORDER,
    ("POST", f"{BACKTEST}/{{session_id}}/trade/oco"): {
        "orders": [
            ORDER | {"type": "limit", "price": "1000"},
            ORDER | {"type": "stop_loss", "trigger_price": 200_000},
        ]
    },
    ("PATCH", f"{BACKTEST}/{{session_id}}/trade/order/{{order_id}}"): {"price": "1001"},
    ("POST", f"{BACKTEST}/{{session_id}}/account/leverage"): {"symbol": "BTCUSDT", "leverage": 2},
    ("POST", f"{BACKTEST}/{{session_id}}/account/margin-mode"): {
        "symbol": "BTCUSDT",
        "margin_mode": "isolated",
    },
    ("POST", f"{BACKTEST}/{{session_id}}/account/margin"): {"symbol": "BTCUSDT", "amount": 5},
}
"""A body for each account route that takes one."""


def routes_with(*parameters: str) -> list[Route]:
    """Return the account routes that have one of these path parameters."""
    return [route for route in ACCOUNT_ROUTES if set(parameters) & set(route.parameters)]


def route_at(method: str, path: str) -> Route:
    """Return the route with this method and path."""
    return next(route for route in ROUTES if (route.method, route.path) == (method, path))


def name_of(route: Route) -> str:
    """Return a short name of a route, for the id of a test."""
    return f"{route.method} {route.path.removeprefix('/api/v1')}"


def send(api: Api, route: Route, parameters: dict[str, str]) -> httpx.Response:
    """Send a route its body from the table, with these path parameters."""
    path = route.path.format(**(SAMPLES | parameters))
    body = BODIES[route.method, route.path] if route.body is not None else None
    if route.body is PlainText:
        return api.client.request(route.method, path, content=body)
    return api.client.request(route.method, path, json=body)
