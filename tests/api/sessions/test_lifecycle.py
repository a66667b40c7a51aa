"""The lifecycle of a session over HTTP: start, end, and the limits on both."""

from decimal import Decimal
from pathlib import Path

import httpx
import pytest

from tests.support.api_client import BACKTEST, Api, refused, sample_home
from tests.support.server_process import RunningServer, running


def test_started_again_at_step_0_it_answers_the_same(client: httpx.Client, api: Api) -> None:
    session_id = api.create("01-15", "01-16")
    path = f"{BACKTEST}/{session_id}/start"
    first, second = client.post(path), client.post(path)
    assert (first.status_code, second.status_code) == (200, 200)
    assert first.json() == second.json()
    api.order(session_id)
    assert client.post(path).json() == first.json()
    assert api.read(session_id, "trade/orders")["total"] == 1
    api.step(session_id)
    details = refused(client.post(path), 409, "INVALID_STATE")
    assert details == {"status": "running", "current_step": 1}
    api.step(session_id, 10_000)
    assert refused(client.post(path), 409, "INVALID_STATE") == {"status": "completed"}


def test_before_the_start_nothing_can_be_done(client: httpx.Client, api: Api) -> None:
    session_id = api.create("01-15", "01-16")
    for method, path in (
        ("POST", "step"), ("POST", "cancel"), ("GET", "market/prices"), ("GET", "trade/orders"),
        ("GET", "account/portfolio"), ("GET", "results"), ("DELETE", "trade/order/1"),
    ):  # fmt: skip
        answer = client.request(method, f"{BACKTEST}/{session_id}/{path}")
        assert refused(answer, 409, "INVALID_STATE") == {"status": "created"}
    assert api.read(session_id, "status")["status"] == "created"


def test_results_are_there_at_the_end(client: httpx.Client, api: Api) -> None:
    session_id = api.started()
    for path in ("results", "results/trades", "results/equity-curve"):
        answer = client.get(f"{BACKTEST}/{session_id}/{path}")
        assert refused(answer, 409, "INVALID_STATE") == {"status": "running"}
    other = api.started()
    api.step(other, 2000)
    answer = client.get(f"{BACKTEST}/compare", params={"sessions": f"{other},{session_id}"})
    assert refused(answer, 409, "INVALID_STATE")["session_id"] == session_id


@pytest.mark.parametrize("steps", [1440, 1441, 10**9])
def test_steps_stop_at_the_end_and_not_beyond(api: Api, client: httpx.Client, steps: int) -> None:
    session_id = api.started()
    last = api.step(session_id, steps)
    assert (last["step"], last["is_complete"], last["remaining_steps"]) == (1440, True, 0)
    for command, body in (("step", None), ("step/batch", {"steps": 1}), ("cancel", None)):
        answer = client.post(f"{BACKTEST}/{session_id}/{command}", json=body)
        assert refused(answer, 409, "INVALID_STATE") == {"status": "completed"}
    assert api.order(session_id, expect=409)["code"] == "INVALID_STATE"
    assert api.read(session_id, "status")["status"] == "completed"


def test_a_session_may_end_at_the_last_completion(api: Api) -> None:
    latest = api.get("/api/v1/market/data-range")["latest"]
    assert latest == "2025-03-01T23:59:59Z"
    session_id = api.started("2025-03-01T00:00:00Z", "2025-03-02T00:00:00Z")
    last = api.step(session_id, 2000)
    assert (last["step"], last["virtual_time"]) == (1440, "2025-03-02T00:00:00Z")


def test_a_session_may_be_ten_years_long_and_no_longer(api: Api) -> None:
    times = {"start_time": "2025-01-15", "end_time": "2035-01-23"}
    body = times | {"candle_interval": "1d", "allow_gaps": True}
    assert api.post(f"{BACKTEST}/create", body)["total_steps"] == 3660
    error = api.post(f"{BACKTEST}/create", body | {"end_time": "2035-01-23T00:00:00.001Z"}, 422)
    assert (error["details"]["field"], "3660 days" in error["message"]) == ("end_time", True)


def test_a_client_order_id_sent_again_places_nothing(api: Api) -> None:
    session_id = api.started()
    first = api.order(session_id, client_order_id="one")
    assert api.order(session_id, expect=200, client_order_id="one") == first
    other = api.order(session_id, expect=409, client_order_id="one", quantity=7, side="sell")
    assert other["code"] == "CLIENT_ORDER_ID_IN_USE"
    assert other["details"]["different"] == ["side", "quantity"]
    assert api.read(session_id, "trade/orders")["total"] == 1
    api.step(session_id, 10_000)
    assert api.order(session_id, expect=200, client_order_id="one") == first
    assert api.order(session_id, expect=409, client_order_id="two")["code"] == "INVALID_STATE"


def test_money_that_is_not_there(api: Api) -> None:
    session_id = api.started()
    error = api.order(session_id, expect=422, quantity=5)
    assert error["code"] == "INSUFFICIENT_BALANCE"
    assert Decimal(error["details"]["required"]) > Decimal(error["details"]["available"]) == 10000
    error = api.order(session_id, expect=422, side="sell")
    assert error["code"] == "INSUFFICIENT_BALANCE"
    assert api.read(session_id, "trade/orders")["total"] == 0


def test_hundreds_of_pairs_of_which_one_has_candles(api: Api) -> None:
    pairs = [f"X{number}USDT" for number in range(700)]
    session_id = api.started(pairs=[*pairs, "BTC/USDT", "btcusdt"])
    assert len(api.read(session_id, "status")["pairs"]) == 701
    assert list(api.step(session_id)["prices"]) == ["BTCUSDT"]
    assert api.read(session_id, "market/candles/X7USDT") == {
        "symbol": "X7USDT",
        "interval": "1m",
        "candles": [],
        "count": 0,
    }
    assert api.order(session_id, expect=404, symbol="X7USDT")["code"] == "SYMBOL_NOT_FOUND"
    assert api.read(session_id, "market/price/Y7USDT", expect=404)["code"] == "SYMBOL_NOT_FOUND"


def test_words_of_any_script_come_back_as_they_were(api: Api) -> None:
    label = "日本語 \u0000 \n 'quoted' \"twice\" \\ 🙂 \u202e ${x} %s {}"
    session_id = api.started(strategy_label=label)
    order = api.order(session_id, client_order_id=label, type="limit", price=1, oco_group=label)
    assert order["client_order_id"] == order["oco_group"] == label
    api.step(session_id, 10_000)
    assert api.read(session_id, "results")["config"]["strategy_label"] == label
    sessions = api.get(f"{BACKTEST}/list", strategy_label=label)["backtests"]
    assert [session["session_id"] for session in sessions] == [session_id]
    assert api.read(session_id, "trade/orders")["orders"][0]["client_order_id"] == label


def test_counters_count(server: RunningServer, api: Api) -> None:
    def counted(name: str) -> float:
        lines = api.client.get("/metrics").text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(name))

    session_id = api.started()
    before = counted("candlestep_steps_total")
    api.step(session_id, 100)
    api.post(f"{BACKTEST}/{session_id}/step")
    assert counted("candlestep_steps_total") == before + 101
    assert counted("candlestep_open_sessions") >= 1
    name = 'candlestep_requests_total{method="GET",path="unknown",status="404"}'
    unknown = counted(name)
    api.get("/nowhere", expect=404)
    assert counted(name) == unknown + 1


def test_a_start_beyond_the_memory_budget_says_so(tmp_path: Path) -> None:
    with (
        running(sample_home(tmp_path), "--memory-budget", "5MB") as server,
        server.client() as client,
    ):
        api = Api(client)
        session_id = api.create("01-15", "01-16")
        answer = client.post(f"{BACKTEST}/{session_id}/start")
        details = refused(answer, 422, "INVALID_PARAMETER")
        assert details["budget_bytes"] == 5_000_000 < details["needed_bytes"]
        assert "memory" in answer.json()["message"]
        assert api.read(session_id, "status")["status"] == "created"


def test_pending_orders_are_bounded(tmp_path: Path) -> None:
    with (
        running(sample_home(tmp_path), "--max-pending-orders", "2") as server,
        server.client() as client,
    ):
        api = Api(client)
        session_id = api.started()
        first = api.order(session_id, type="limit", price=1, client_order_id="a")
        api.order(session_id, type="limit", price=2)
        error = api.order(session_id, expect=422, type="limit", price=3)
        assert error["code"] == "INVALID_PARAMETER"
        assert error["details"]["limit"] == 2
        again = api.order(session_id, expect=200, type="limit", price=1, client_order_id="a")
        assert again == first
        assert api.order(session_id)["status"] == "filled"
        api.call("DELETE", f"{BACKTEST}/{session_id}/trade/order/1")
        api.order(session_id, type="limit", price=3)


def test_a_change_of_one_limit_leaves_the_others(client: httpx.Client, api: Api) -> None:
    limits = {"max_order_size_pct": "10.00", "daily_loss_limit_pct": "5.00"}
    agent = api.post("/api/v1/agents", {"name": "a", "risk_profile": limits}, expect=201)
    path = f"/api/v1/agents/{agent['agent_id']}"
    changed = client.patch(path, json={"risk_profile": {"max_order_size_pct": 20}}).json()
    assert changed["risk_profile"] == agent["risk_profile"] | {"max_order_size_pct": "20.00"}
    lifted = client.patch(path, json={"risk_profile": {"daily_loss_limit_pct": None}}).json()
    assert lifted["risk_profile"] == changed["risk_profile"] | {"daily_loss_limit_pct": None}
