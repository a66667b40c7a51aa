"""The guide's steps 1 to 6: each example is sent as printed, and answered as printed."""

from collections.abc import Iterator
from decimal import Decimal

import pytest

from candlestep.sandbox import INTERVALS
from tests.support.api_client import BACKTEST, Api, sample_home
from tests.support.guide import (
    CANDLE,
    CANDLES_ADD,
    CREATE,
    CREATED,
    DATA_RANGE,
    END,
    NULLABLE_IN_ORDERS,
    ORDER,
    ORDER_LISTED,
    ORDERS,
    PORTFOLIO_ADDS,
    POSITION,
    START,
    STEP,
    TICKER,
    TRADE,
    check,
    create,
    create_and_start,
    start,
)
from tests.support.server_process import RunningServer, running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running(sample_home(tmp_path_factory.mktemp("guide") / "home")) as server:
        yield server


@pytest.fixture(scope="module")
def api(server: RunningServer) -> Iterator[Api]:
    with server.client() as client:
        yield Api(client)


def test_step_1_the_range_of_the_data(api: Api) -> None:
    data_range = api.get("/api/v1/market/data-range")
    check(data_range, DATA_RANGE, {"pairs", "synthetic", "funding_gaps"})
    assert data_range == {
        "earliest": "2025-01-01T00:00:00Z",
        "latest": "2025-03-01T23:59:59Z",
        "total_pairs": 3,
        "intervals_available": list(INTERVALS),
        "data_gaps": [],
        "funding_gaps": [],
        "pairs": ["BTCUSDT", "ETHUSDT", "SOLUSDT-PERP"],
        "synthetic": True,
    }


def test_step_2_a_session_is_created(api: Api) -> None:
    agent_id = api.get("/api/v1/agents")["agents"][0]["agent_id"]
    body = CREATE | {"start_time": START, "end_time": END, "agent_id": agent_id}
    created = api.post(f"{BACKTEST}/create", body)
    assert created | {"session_id": ""} == CREATED | {
        "session_id": "",
        "warnings": [],
        "coverage": {"BTCUSDT": 1.0, "ETHUSDT": 1.0},
    }
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
    check(created, CREATED, CANDLES_ADD)
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
    started = start(api, session_id)
    printed = {"session_id": "", "status": "", "virtual_time": START, "prices": {}}
    check(started, printed, CANDLES_ADD)
    assert started["status"] == "running"
    assert started["virtual_time"] == START
    check(started["prices"], STEP["prices"])


def test_step_4_one_candle(api: Api) -> None:
    session_id = create_and_start(api)
    answer = api.client.post(f"{BACKTEST}/{session_id}/step")
    assert answer.status_code == 200
    step = answer.json()
    check(step, STEP, {"orders_closed"})
    assert (step["step"], step["remaining_steps"]) == (1, 43199)
    assert step["virtual_time"] == "2025-01-15T00:01:00Z"
    assert step["progress_pct"] == "0.00"


def test_step_4_a_hundred_candles(api: Api) -> None:
    session_id = create_and_start(api)
    step = api.step(session_id, 100)
    check(step, STEP, {"orders_closed"})
    check(step["portfolio"], STEP["portfolio"], PORTFOLIO_ADDS)
    check(step["prices"], STEP["prices"])
    for name in ("step", "total_steps", "progress_pct", "is_complete", "remaining_steps"):
        assert step[name] == STEP[name], name
    assert step["virtual_time"] == "2025-01-15T01:40:00Z"
    assert step["orders_filled"] == step["orders_closed"] == []
    assert step["portfolio"]["starting_balance"] == "10000.00"


def test_step_batch_fast_tells_how_many_steps_it_made(api: Api) -> None:
    session_id = create_and_start(api, end_time="2025-01-15T02:00:00Z")
    body = {"steps": 100, "include_intermediate_trades": False}
    step = api.post(f"{BACKTEST}/{session_id}/step/batch/fast", body)
    check(step, STEP, {"orders_closed", "steps_executed"})
    assert step["steps_executed"] == 100
    last = api.post(f"{BACKTEST}/{session_id}/step/batch/fast", {"steps": 100})
    assert (last["steps_executed"], last["step"], last["is_complete"]) == (20, 120, True)
    assert (last["progress_pct"], last["remaining_steps"]) == ("100.00", 0)


def test_step_5_orders_of_each_type(api: Api) -> None:
    session_id = create_and_start(api, starting_balance=20000)
    for number, body in enumerate(ORDERS, 1):
        order = api.order(session_id, **body)
        check(order, ORDER, {"id", "warnings"}, NULLABLE_IN_ORDERS)
        assert order["id"] == order["order_id"] == number
        assert order["status"] == ("filled" if body["type"] == "market" else "pending")
        for name in ("symbol", "side", "type"):
            assert order[name] == body[name]
        assert order["quantity"] == "0.10"
        for name in ("price", "trigger_price"):
            price = body.get(name)
            assert order[name] == (None if price is None else f"{price}.00")
        assert order["created_at"] == START
        is_filled = order["status"] == "filled"
        for name in ("executed_price", "executed_qty", "fee", "slippage_pct", "filled_at"):
            assert (order[name] is not None) == is_filled


def test_a_market_buy_pays_slippage_and_a_fee(api: Api) -> None:
    session_id = create_and_start(api)
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
    session_id = create_and_start(api)
    api.order(session_id)
    order = api.order(session_id, side="sell", type="stop_loss", price=58000)
    assert (order["price"], order["trigger_price"]) == (None, "58000.00")


def test_orders_that_fill_are_told_with_the_step(api: Api) -> None:
    session_id = create_and_start(api)
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
    session_id = create_and_start(api)
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
    minutes = api.read(session_id, "market/candles/BTCUSDT")
    check(minutes, {"symbol": "", "interval": "", "candles": [], "count": 1})
    assert (minutes["symbol"], minutes["interval"], minutes["count"]) == ("BTCUSDT", "1m", 100)
    for candle in minutes["candles"]:
        check(candle, CANDLE)
        assert candle["bucket"] == candle["open_time"]
    assert minutes["candles"][-1]["close"] == step["prices"]["BTCUSDT"]
    assert minutes["candles"][-1]["open_time"] == "2025-01-15T01:29:00Z"
    hours = api.read(session_id, "market/candles/BTC/USDT", interval="1h", limit=3)
    assert (hours["interval"], hours["count"]) == ("1h", 3)
    times = [candle["open_time"][11:16] for candle in hours["candles"]]
    assert times == ["22:00", "23:00", "00:00"]


def test_step_6_the_account(api: Api) -> None:
    session_id = create_and_start(api)
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
    session_id = create_and_start(api)
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
