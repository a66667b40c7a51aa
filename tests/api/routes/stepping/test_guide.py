"""The guide, example by example: what it prints is what is sent and what is answered.

``EXAMPLES`` are the guide's own; an answer must have the keys that the guide prints, those that
the design adds and no others, and each value must be of the kind that the guide shows.
"""

import os
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from candlestep.data.imports.importer import import_file
from candlestep.data.store.database import Store
from tests.support.api_client import BACKTEST, Api, sample_home
from tests.support.candle_files import real_file
from tests.support.project import SHARED
from tests.support.server_process import RunningServer, running

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

PORTFOLIO_ADDS = {"starting_balance", "locked_cash", "positions"}
CONFIG_ADDS = {
    "agent_id", "pairs", "exchange", "import_number", "fee_rate", "fee_model", "fee_bps",
    "fee_schedule", "slippage", "trigger", "liquidate_at_end", "risk_profile",
}  # fmt: skip
METRICS_ADD = {
    "total_return", "cagr", "calmar_ratio", "volatility", "var_95", "var_99", "cvar_95",
    "cvar_99", "expectancy", "turnover", "candles_in_market", "returns_grid",
}  # fmt: skip
COMPARISON_ADDS = {
    "sortino_ratio", "max_drawdown_pct", "win_rate", "profit_factor", "total_trades",
    "final_equity",
}  # fmt: skip

# The shapes that the guide leaves open, from the table of the design, with a value of each kind.
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
"""30 days of the sample market, as many as in the guide."""

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z", re.ASCII)
_MONEY = re.compile(r"-?\d+\.\d{2,}", re.ASCII)


def kind(value: Any) -> str:
    """What a client that was written against the guide takes a value for."""
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
    """``answer`` has the keys of ``example`` and ``adds``, in the kinds that ``example`` shows."""
    assert set(answer) == set(example) | (adds or set())
    for key, printed in example.items():
        if answer[key] is None and key in (nullable or ()):
            continue
        assert kind(answer[key]) == kind(printed), (key, answer[key])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running(sample_home(tmp_path_factory.mktemp("guide") / "home")) as server:
        yield server


@pytest.fixture(scope="module")
def api(server: RunningServer) -> Iterator[Api]:
    with server.client() as client:
        yield Api(client)


def create(api: Api, **changes: Any) -> str:
    """A session as the guide creates it, with the dates and the agent changed."""
    agent_id = api.get("/api/v1/agents")["agents"][0]["agent_id"]
    body = CREATE | {"start_time": START, "end_time": END, "agent_id": agent_id} | changes
    created = api.post(f"{BACKTEST}/create", body)
    check(created, CREATED)
    session_id: str = created["session_id"]
    assert session_id.startswith("bt_")
    return session_id


def start(api: Api, session_id: str) -> dict[str, Any]:
    """POST without a body and without a content type, as in the guide."""
    answer = api.client.post(f"{BACKTEST}/{session_id}/start")
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    return found


def started(api: Api, **changes: Any) -> str:
    session_id = create(api, **changes)
    start(api, session_id)
    return session_id


def traded(api: Api, label: str, hours: int) -> str:
    """A completed session of both pairs, with wins and losses: in and out every few hours."""
    session_id = started(api, strategy_label=label, end_time="2025-02-04T00:00:00Z")
    is_complete = False
    side = "buy"
    while not is_complete:
        for symbol, quantity in (("BTCUSDT", "0.03"), ("ETHUSDT", "0.8")):
            api.order(session_id, symbol=symbol, side=side, quantity=quantity)
        side = "sell" if side == "buy" else "buy"
        is_complete = api.step(session_id, hours * 60)["is_complete"]
    return session_id


@pytest.fixture(scope="module")
def completed(api: Api) -> str:
    return traded(api, "momentum_v1", hours=12)


def test_step_1_the_range_of_the_data(api: Api) -> None:
    found = api.get("/api/v1/market/data-range")
    check(found, DATA_RANGE, {"pairs", "synthetic"})
    assert found == {
        "earliest": "2025-01-01T00:00:00Z",
        "latest": "2025-03-01T23:59:59Z",
        "total_pairs": 2,
        "intervals_available": ["1m", "5m", "15m", "1h", "4h", "1d"],
        "data_gaps": [],
        "pairs": ["BTCUSDT", "ETHUSDT"],
        "synthetic": True,
    }


def test_step_2_a_session_is_created(api: Api) -> None:
    agent_id = api.get("/api/v1/agents")["agents"][0]["agent_id"]
    body = CREATE | {"start_time": START, "end_time": END, "agent_id": agent_id}
    created = api.post(f"{BACKTEST}/create", body)
    assert created | {"session_id": ""} == CREATED | {"session_id": ""}
    status = api.read(created["session_id"], "status")
    assert {name: status[name] for name in ("start_time", "end_time", "pairs")} == {
        "start_time": START,
        "end_time": END,
        "pairs": ["BTCUSDT", "ETHUSDT"],
    }
    assert status["starting_balance"] == "10000.00"
    assert status["candle_interval"] == "1m"
    assert status["strategy_label"] == "momentum_v1"
    assert status["agent_id"] == agent_id


def test_pairs_are_optional_and_agent_id_has_a_default(api: Api) -> None:
    body = {"start_time": START, "end_time": END, "starting_balance": 10000}
    created = api.post(f"{BACKTEST}/create", body)
    check(created, CREATED)
    assert (created["total_steps"], created["estimated_pairs"]) == (43200, 2)


@pytest.mark.parametrize(
    ("start_time", "end_time"),
    [
        ("2025-01-15", "2025-02-14"),
        ("2025-01-15T00:00:00", "2025-02-14T00:00:00.000"),
        ("2025-01-15T01:00:00+01:00", "2025-02-13T19:00:00-05:00"),
    ],
)
def test_times_may_be_written_as_iso_8601_allows(api: Api, start_time: str, end_time: str) -> None:
    session_id = create(api, start_time=start_time, end_time=end_time)
    status = api.read(session_id, "status")
    assert (status["start_time"], status["end_time"]) == (START, END)


@pytest.mark.parametrize(
    ("interval", "steps"),
    [("1m", 43200), ("1h", 720), (3600, 720), ("3600", 720), (60, 43200), ("4h", 180), ("1d", 30)],
)
def test_intervals_are_names_or_seconds(api: Api, interval: str | int, steps: int) -> None:
    body = {"start_time": START, "end_time": END, "candle_interval": interval}
    assert api.post(f"{BACKTEST}/create", body)["total_steps"] == steps


@pytest.mark.parametrize(
    "balance", [10000, 10000.0, "10000", "10000.00", "1e4", "1E+4", "10000.000000001"]
)
def test_amounts_are_numbers_or_text(api: Api, balance: object) -> None:
    session_id = create(api, starting_balance=balance)
    assert api.read(session_id, "status")["starting_balance"] == "10000.00"


def test_step_3_the_session_is_started(api: Api) -> None:
    session_id = create(api)
    found = start(api, session_id)
    check(found, {"session_id": "", "status": "", "virtual_time": START, "prices": {}})
    assert found["status"] == "running"
    assert found["virtual_time"] == START
    check(found["prices"], STEP["prices"])


def test_step_4_one_candle(api: Api) -> None:
    session_id = started(api)
    answer = api.client.post(f"{BACKTEST}/{session_id}/step")
    assert answer.status_code == 200
    step = answer.json()
    check(step, STEP, {"orders_closed"})
    assert (step["step"], step["remaining_steps"]) == (1, 43199)
    assert step["virtual_time"] == "2025-01-15T00:01:00Z"
    assert step["progress_pct"] == "0.00"


def test_step_4_a_hundred_candles(api: Api) -> None:
    session_id = started(api)
    step = api.step(session_id, 100)
    check(step, STEP, {"orders_closed"})
    check(step["portfolio"], STEP["portfolio"], PORTFOLIO_ADDS)
    check(step["prices"], STEP["prices"])
    printed = {"step", "total_steps", "progress_pct", "is_complete", "remaining_steps"}
    assert {name: step[name] for name in printed} == {name: STEP[name] for name in printed}
    assert step["virtual_time"] == "2025-01-15T01:40:00Z"
    assert step["orders_filled"] == step["orders_closed"] == []
    assert step["portfolio"]["starting_balance"] == "10000.00"


def test_step_batch_fast_tells_how_many_steps_it_made(api: Api) -> None:
    session_id = started(api, end_time="2025-01-15T02:00:00Z")
    body = {"steps": 100, "include_intermediate_trades": False}
    step = api.post(f"{BACKTEST}/{session_id}/step/batch/fast", body)
    check(step, STEP, {"orders_closed", "steps_executed"})
    assert step["steps_executed"] == 100
    last = api.post(f"{BACKTEST}/{session_id}/step/batch/fast", {"steps": 100})
    assert (last["steps_executed"], last["step"], last["is_complete"]) == (20, 120, True)
    assert (last["progress_pct"], last["remaining_steps"]) == ("100.00", 0)


def test_step_5_orders_of_each_type(api: Api) -> None:
    session_id = started(api, starting_balance=20000)
    for number, body in enumerate(ORDERS, 1):
        order = api.order(session_id, **body)
        check(order, ORDER, {"id"}, NULLABLE_IN_ORDERS)
        assert order["id"] == order["order_id"] == number
        assert order["status"] == ("filled" if body["type"] == "market" else "pending")
        assert {name: order[name] for name in ("symbol", "side", "type")} == {
            name: body[name] for name in ("symbol", "side", "type")
        }
        assert order["quantity"] == "0.10"
        for name in ("price", "trigger_price"):
            given = body.get(name)
            assert order[name] == (None if given is None else f"{given}.00")
        assert order["created_at"] == START
        is_filled = order["status"] == "filled"
        for name in ("executed_price", "executed_qty", "fee", "slippage_pct", "filled_at"):
            assert (order[name] is not None) == is_filled


def test_a_market_buy_pays_slippage_and_a_fee(api: Api) -> None:
    session_id = started(api)
    price = Decimal(api.read(session_id, "market/price/BTCUSDT")["price"])
    order = api.order(session_id)
    slippage = Decimal(order["slippage_pct"]) / 100
    assert Decimal("0.0001") <= slippage <= Decimal("0.1")
    executed = Decimal(order["executed_price"])
    assert executed == round(price * (1 + slippage), 16)
    cost = round(executed * Decimal("0.01"), 8)
    assert abs(Decimal(order["fee"]) - cost / 1000) <= Decimal("1e-8")
    cash = Decimal(api.read(session_id, "account/portfolio")["available_cash"])
    assert cash == 10000 - cost - Decimal(order["fee"])


def test_the_guides_trigger_may_be_sent_as_price(api: Api) -> None:
    session_id = started(api)
    api.order(session_id)
    order = api.order(session_id, side="sell", type="stop_loss", price=58000)
    assert (order["price"], order["trigger_price"]) == (None, "58000.00")


def test_orders_that_fill_are_told_with_the_step(api: Api) -> None:
    session_id = started(api)
    api.order(session_id)
    price = Decimal(api.read(session_id, "market/price/BTCUSDT")["price"])
    api.order(session_id, side="sell", type="stop_loss", trigger_price=str(price * 2))
    api.order(session_id, type="limit", price=1, expires_at="2025-01-15T00:01:00Z")
    step = api.step(session_id, 60)
    (filled,), (closed,) = step["orders_filled"], step["orders_closed"]
    check(filled, ORDER_LISTED, nullable=NULLABLE_IN_ORDERS)
    check(closed, ORDER_LISTED, nullable=NULLABLE_IN_ORDERS)
    assert (filled["id"], filled["status"], filled["filled_at"]) == (
        2,
        "filled",
        "2025-01-15T00:01:00Z",
    )
    assert (closed["id"], closed["status"], closed["closed_at"]) == (
        3,
        "expired",
        "2025-01-15T00:01:00Z",
    )
    assert api.step(session_id)["orders_filled"] == []


def test_step_6_the_market(api: Api) -> None:
    session_id = started(api)
    step = api.step(session_id, 90)
    prices = api.read(session_id, "market/prices")
    assert prices == {"prices": step["prices"], "virtual_time": step["virtual_time"]}
    assert api.read(session_id, "market/price/BTCUSDT") == {
        "symbol": "BTCUSDT",
        "price": step["prices"]["BTCUSDT"],
        "virtual_time": step["virtual_time"],
    }
    ticker = api.read(session_id, "market/ticker/BTCUSDT")
    check(ticker, TICKER)
    assert ticker["close"] == step["prices"]["BTCUSDT"]
    change = Decimal(ticker["close"]) - Decimal(ticker["open"])
    assert Decimal(ticker["price_change"]) == change
    found = api.read(session_id, "market/candles/BTCUSDT")
    check(found, {"symbol": "", "interval": "", "candles": [], "count": 1})
    assert (found["symbol"], found["interval"], found["count"]) == ("BTCUSDT", "1m", 100)
    for candle in found["candles"]:
        check(candle, CANDLE)
        assert candle["bucket"] == candle["open_time"]
    assert found["candles"][-1]["close"] == step["prices"]["BTCUSDT"]
    assert found["candles"][-1]["open_time"] == "2025-01-15T01:29:00Z"
    hours = api.read(session_id, "market/candles/BTC/USDT", interval="1h", limit=3)
    assert (hours["interval"], hours["count"]) == ("1h", 3)
    times = [candle["open_time"][11:16] for candle in hours["candles"]]
    assert times == ["22:00", "23:00", "00:00"]


def test_step_6_the_account(api: Api) -> None:
    session_id = started(api)
    api.order(session_id, quantity="0.05")
    api.order(session_id, type="limit", price=1000, quantity=1)
    step = api.step(session_id)
    portfolio = api.read(session_id, "account/portfolio")
    assert portfolio == step["portfolio"]
    check(portfolio, STEP["portfolio"], PORTFOLIO_ADDS)
    (position,) = portfolio["positions"]
    check(position, POSITION)
    assert api.read(session_id, "account/positions") == {"positions": [position]}
    balances = api.read(session_id, "account/balance")["balances"]
    usdt = {
        "asset": "USDT",
        "available": portfolio["available_cash"],
        "locked": "1001.00",
        "total": f"{Decimal(portfolio['available_cash']) + 1001}",
    }
    btc = {"asset": "BTC", "available": "0.05", "locked": "0.00", "total": "0.05"}
    assert balances == [usdt, btc]
    total = sum(Decimal(portfolio[name]) for name in ("available_cash", "locked_cash"))
    assert Decimal(portfolio["total_equity"]) == total + Decimal(portfolio["position_value"])


def test_step_6_the_orders(api: Api) -> None:
    session_id = started(api)
    api.order(session_id)
    for price in (50, 60, 70):
        api.order(session_id, type="limit", price=price)
    listed = api.read(session_id, "trade/orders")
    check(listed, {"orders": [], "count": 1, "total": 1})
    assert [order["id"] for order in listed["orders"]] == [1, 2, 3, 4]
    for order in listed["orders"]:
        check(order, ORDER_LISTED, nullable=NULLABLE_IN_ORDERS)
        assert api.read(session_id, f"trade/order/{order['id']}") == order
    opened = api.read(session_id, "trade/orders/open")
    assert opened == {"orders": listed["orders"][1:], "count": 3, "total": 3}
    page = api.read(session_id, "trade/orders", status="pending", limit=1, offset=1)
    assert page == {"orders": listed["orders"][2:3], "count": 1, "total": 3}
    assert api.read(session_id, "trade/orders", symbol="ETHUSDT")["total"] == 0
    cancelled = api.call("DELETE", f"{BACKTEST}/{session_id}/trade/order/2")
    assert cancelled == {"order_id": 2, "status": "cancelled", "cancelled": True}
    assert api.read(session_id, "trade/orders/open")["total"] == 2
    history = api.read(session_id, "trade/history")
    check(history, {"trades": [], "count": 1, "total": 1})
    (trade,) = history["trades"]
    check(trade, TRADE, nullable={"realized_pnl"})


def test_step_7_results(api: Api, completed: str) -> None:
    results = api.read(completed, "results")
    check(results, RESULTS)
    check(results["config"], RESULTS["config"], CONFIG_ADDS)
    check(results["summary"], RESULTS["summary"])
    check(results["metrics"], RESULTS["metrics"], METRICS_ADD)
    assert len(results["by_pair"]) == 2
    for found, printed in zip(results["by_pair"], RESULTS["by_pair"], strict=True):
        check(found, printed)
        assert found["symbol"] == printed["symbol"]
    assert results["session_id"] == completed
    assert results["status"] == "completed"
    summary = {name: Decimal(value) for name, value in results["summary"].items()}
    assert summary["final_equity"] == 10000 + summary["total_pnl"]
    assert abs(summary["roi_pct"] - summary["total_pnl"] / 100) <= Decimal("5e-9")
    assert summary["total_trades"] == sum(pair["trades"] for pair in results["by_pair"]) == 80
    by_pair = sum(Decimal(pair["net_pnl"]) for pair in results["by_pair"])
    assert by_pair == summary["total_pnl"]


def test_step_7_curve_and_trades(api: Api, completed: str) -> None:
    curve = api.read(completed, "results/equity-curve")
    check(curve, {"session_id": "", "interval": 1, "snapshots": []})
    for snapshot in curve["snapshots"]:
        check(snapshot, SNAPSHOT)
    times = [snapshot["simulated_at"] for snapshot in curve["snapshots"]]
    assert (times[0], times[1], times[-1]) == (
        START,
        "2025-01-15T01:00:00Z",
        "2025-02-04T00:00:00Z",
    )
    assert len(times) == 20 * 24 + 1
    final = api.read(completed, "results")["summary"]["final_equity"]
    assert curve["snapshots"][-1]["total_equity"] == final
    every_fifth = api.read(completed, "results/equity-curve", interval=5)
    assert every_fifth["snapshots"] == curve["snapshots"][::5]
    trades = api.read(completed, "results/trades")
    check(trades, {"trades": [], "count": 1, "total": 1})
    assert (trades["count"], trades["total"]) == (80, 80)
    for trade in trades["trades"]:
        check(trade, TRADE, nullable={"realized_pnl"})
    assert api.read(completed, "trade/history") == trades
    page = api.read(completed, "results/trades", limit=3, offset=70)
    assert page == {"trades": trades["trades"][70:73], "count": 3, "total": 80}


def test_cancelling_early_saves_partial_results(api: Api) -> None:
    session_id = started(api)
    api.order(session_id)
    api.step(session_id, 1440)
    cancelled = api.post(f"{BACKTEST}/{session_id}/cancel")
    check(cancelled, {"session_id": "", "status": "", "total_trades": 1, "roi_pct": "0.00"})
    assert (cancelled["status"], cancelled["total_trades"]) == ("cancelled", 1)
    results = api.read(session_id, "results")
    assert results["status"] == "cancelled"
    assert results["summary"]["roi_pct"] == cancelled["roi_pct"]
    assert len(api.read(session_id, "results/equity-curve")["snapshots"]) == 25
    assert api.read(session_id, "results/trades")["total"] == 1


def test_sessions_are_listed(api: Api, completed: str) -> None:
    other = started(api, strategy_label="mean_reversion")
    query: dict[str, Any] = {
        "strategy_label": "momentum",
        "status": "completed",
        "sort_by": "sharpe_ratio",
    }
    found = api.get(f"{BACKTEST}/list", **query)
    check(found, {"backtests": [], "total": 1})
    ids = [session["session_id"] for session in found["backtests"]]
    assert completed in ids
    assert other not in ids
    for session in found["backtests"]:
        check(session, SESSION, nullable={"error", "sharpe_ratio"})
        assert session == api.read(session["session_id"], "status")
    ratios = [session["sharpe_ratio"] for session in found["backtests"]]
    defined = [ratio for ratio in ratios if ratio is not None]
    undefined = [None] * (len(ratios) - len(defined))
    assert ratios == sorted(defined, reverse=True) + undefined
    running = api.read(other, "status")
    check(running, SESSION, nullable=KNOWN_AT_THE_END)
    assert all(running[name] is None for name in KNOWN_AT_THE_END)


def test_sessions_are_compared(api: Api, completed: str) -> None:
    other = traded(api, "momentum_v2", hours=30)
    found = api.get(f"{BACKTEST}/compare", sessions=f"{completed},{other}")
    check(found, COMPARED, {"best_by_drawdown"})
    for row, printed in zip(found["comparisons"], COMPARED["comparisons"], strict=True):
        check(row, printed, COMPARISON_ADDS)
        results = api.read(row["session_id"], "results")
        assert row["roi_pct"] == float(results["summary"]["roi_pct"])
        assert row["sharpe_ratio"] == results["metrics"]["sharpe_ratio"]
    rows = {row["session_id"]: row for row in found["comparisons"]}
    assert list(rows) == [completed, other]
    assert found["best_by_roi"] == max(rows, key=lambda each: rows[each]["roi_pct"])
    assert found["best_by_sharpe"] == max(rows, key=lambda each: rows[each]["sharpe_ratio"])
    assert found["best_by_drawdown"] == min(rows, key=lambda each: rows[each]["max_drawdown_pct"])
    winners = {found[f"best_by_{figure}"] for figure in ("roi", "sharpe", "drawdown")}
    assert all(f"{each} (momentum_v" in found["recommendation"] for each in winners)
    if len(winners) == 1:
        assert found["recommendation"].endswith(" outperforms on all key metrics")
    best = api.get(f"{BACKTEST}/best", metric="sharpe_ratio")
    check(best, {"session_id": "", "strategy_label": "", "metric": "", "value": 1.5})
    assert best["value"] >= rows[found["best_by_sharpe"]]["sharpe_ratio"]


def test_the_best_session_is_found_by_any_metric(api: Api, completed: str) -> None:
    for metric, expected in (
        ("sharpe_ratio", "number"),
        ("roi_pct", "money"),
        ("final_equity", "money"),
        ("total_trades", "integer"),
        ("max_drawdown_pct", "number"),
    ):
        found = api.get(f"{BACKTEST}/best", metric=metric)
        assert set(found) == {"session_id", "strategy_label", "metric", "value"}
        assert found["metric"] == metric
        assert kind(found["value"]) == expected


def test_an_agents_risk_profile_is_enforced(api: Api) -> None:
    body = {"name": "careful", "risk_profile": {"max_order_size_pct": 5}}
    agent = api.post("/api/v1/agents", body, expect=201)
    assert set(agent) == {"agent_id", "name", "risk_profile", "created_at"}
    session_id = started(api, agent_id=agent["agent_id"])
    assert api.order(session_id, quantity="0.005")["status"] == "filled"
    refused = api.order(session_id, expect=422, quantity="0.05")
    assert refused["code"] == "RISK_LIMIT_EXCEEDED"
    assert refused["details"]["limit"] == "max_order_size_pct"
    rejected = api.read(session_id, "trade/orders", status="rejected")
    assert [order["id"] for order in rejected["orders"]] == [2]


# The "Typical Agent Loop", as published.
AGENT_LOOP = """\
import httpx

BASE = "http://localhost:8000/api/v1"
HEADERS = {"X-API-Key": "ak_live_..."}

# 1. Create
r = httpx.post(f"{BASE}/backtest/create", headers=HEADERS, json={
    "start_time": "2025-06-01T00:00:00Z",
    "end_time": "2025-07-01T00:00:00Z",
    "starting_balance": 10000,
    "candle_interval": "1m",
    "strategy_label": "my_strategy_v1",
    "agent_id": "agent-uuid-here",
    "pairs": ["BTCUSDT", "ETHUSDT"]
})
session_id = r.json()["session_id"]

# 2. Start
httpx.post(f"{BASE}/backtest/{session_id}/start", headers=HEADERS)

# 3. Loop
prices_history = {"BTCUSDT": [], "ETHUSDT": []}

while True:
    result = httpx.post(
        f"{BASE}/backtest/{session_id}/step/batch",
        headers=HEADERS,
        json={"steps": 60}
    ).json()

    for sym, price in result["prices"].items():
        prices_history[sym].append(float(price))

    portfolio = result["portfolio"]

    # --- YOUR STRATEGY LOGIC HERE ---

    if result["is_complete"]:
        break

# 4. Results
results = httpx.get(f"{BASE}/backtest/{session_id}/results", headers=HEADERS).json()
print(f"ROI: {results['summary']['roi_pct']}%")
print(f"Sharpe: {results['metrics']['sharpe_ratio']}")
"""
GUIDE = SHARED / "reference" / "stepwise-backtesting-guide.md"


def run_agent_loop(server: RunningServer, start_time: str, end_time: str) -> dict[str, Any]:
    """Run the loop, with the address, the dates and the agent changed; returns its variables."""
    with server.client() as client:
        agent_id = client.get("/api/v1/agents").json()["agents"][0]["agent_id"]
    program = AGENT_LOOP
    for published, ours in (
        ("http://localhost:8000", server.url),
        ("2025-06-01T00:00:00Z", start_time),
        ("2025-07-01T00:00:00Z", end_time),
        ("agent-uuid-here", agent_id),
    ):
        assert program.count(published) == 1
        program = program.replace(published, ours)
    variables: dict[str, Any] = {}
    exec(compile(program, "agent loop", "exec"), variables)  # noqa: S102
    return variables


@pytest.fixture
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)


def test_the_agent_loop_is_the_published_one() -> None:
    if not GUIDE.exists():
        pytest.skip("the guide is not here")
    published = GUIDE.read_text(encoding="utf-8").partition("Typical Agent Loop\n")[2]
    published = published.partition("Performance Notes")[0]

    def lines(program: str) -> list[str]:
        return [line.strip() for line in program.splitlines() if line.strip()]

    assert lines(AGENT_LOOP) == lines(published)


@pytest.mark.usefixtures("_no_proxy")
def test_the_agent_loop_runs_on_the_sample_market(
    server: RunningServer, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_agent_loop(server, "2025-01-15T00:00:00Z", "2025-01-18T00:00:00Z")
    assert [len(prices) for prices in run["prices_history"].values()] == [72, 72]
    assert run["result"]["step"] == 3 * 1440
    assert run["results"]["status"] == "completed"
    assert capsys.readouterr().out == "ROI: 0.00%\nSharpe: None\n"


@pytest.mark.usefixtures("_no_proxy")
def test_the_agent_loop_runs_on_real_candles(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [real_file(f"{symbol}-1m-2024-10.csv.gz") for symbol in ("BTCUSDT", "ETHUSDT")]
    store = Store.open(tmp_path)
    for file in files:
        import_file(store, file)
    store.close()
    with running(tmp_path) as server:
        run = run_agent_loop(server, "2024-10-20T00:00:00Z", "2024-10-23T00:00:00Z")
    assert [len(prices) for prices in run["prices_history"].values()] == [72, 72]
    assert run["prices_history"]["BTCUSDT"][-1] == float(run["result"]["prices"]["BTCUSDT"])
    assert run["result"]["portfolio"]["total_equity"] == "10000.00"
    assert capsys.readouterr().out == "ROI: 0.00%\nSharpe: None\n"
