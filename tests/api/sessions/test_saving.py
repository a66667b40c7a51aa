"""The progress and the results of sessions are saved, also after a full disk refused to."""

import json
import resource
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.support.api_client import BACKTEST, DAY, ORDER, Api, refused, sample_home
from tests.support.command_line import candlestep
from tests.support.server_process import RunningServer, running

READS = (
    "status", "results", "results/trades", "results/equity-curve", "trade/orders",
    "trade/orders/open", "trade/history", "trade/order/2", "account/portfolio",
    "account/positions", "account/balance", "market/prices", "market/price/ETHUSDT",
    "market/ticker/BTCUSDT", "market/candles/BTCUSDT", "market/candles/ETHUSDT?interval=4h",
)  # fmt: skip


def traded(api: Api, **config: Any) -> str:
    """Return the id of a running session that has orders of every status."""
    session_id = api.started("01-15", "01-17", **config)
    price = Decimal(api.read(session_id, "market/price/BTCUSDT")["price"])
    api.order(session_id, quantity="0.03", client_order_id="first")
    api.order(session_id, type="limit", price=str(price * Decimal("0.99")))
    api.order(session_id, type="limit", price=1, expires_at="2025-01-15T05:00:00Z")
    api.order(session_id, side="sell", type="stop_loss", price=1, oco_group="g")
    api.order(session_id, side="sell", type="take_profit", price=str(price * 2), oco_group="g")
    api.step(session_id, 1000)
    api.order(session_id, symbol="ETHUSDT", quantity="1.5")
    api.order(session_id, side="sell", quantity="0.01")
    api.call("DELETE", f"{BACKTEST}/{session_id}/trade/order/4")
    return session_id


def everything(api: Api, session_id: str) -> dict[str, Any]:
    """Return all that can be read of a session, by path."""
    return {path: api.read(session_id, path) for path in READS}


def test_an_ended_session_answers_the_same_after_a_restart(tmp_path: Path) -> None:
    home = sample_home(tmp_path)
    with running(home) as server, server.client() as client:
        api = Api(client)
        ids = [traded(api), traded(api, liquidate_at_end=True), traded(api)]
        for session_id in ids[:2]:
            api.step(session_id, 10_000)
        api.post(f"{BACKTEST}/{ids[2]}/cancel")
        created = api.create("01-15", "01-16")
        before = [everything(api, session_id) for session_id in ids]
        listed = api.get(f"{BACKTEST}/list")
        compared = api.get(f"{BACKTEST}/compare", sessions=",".join(ids))
        best = api.get(f"{BACKTEST}/best", metric="roi_pct")
    with running(home) as server, server.client() as client:
        api = Api(client)
        assert [everything(api, session_id) for session_id in ids] == before
        assert api.get(f"{BACKTEST}/list") == listed
        assert api.get(f"{BACKTEST}/compare", sessions=",".join(ids)) == compared
        assert api.get(f"{BACKTEST}/best", metric="roi_pct") == best
        first = api.read(ids[0], "trade/order/1")
        again = api.order(ids[0], expect=200, quantity="0.03", client_order_id="first")
        assert again == first | {"warnings": []}
        assert api.order(ids[0], expect=409)["code"] == "INVALID_STATE"
        api.post(f"{BACKTEST}/{created}/start")
        assert api.step(created, 2000)["is_complete"]


def test_progress_is_stored_every_500_steps(
    server: RunningServer, api: Api, tmp_path: Path
) -> None:
    """A copy of the store, exported while the server runs, shows how far each session is."""
    session_id = api.started()
    for _ in range(7):
        api.step(session_id, 100)
    for _ in range(5):
        api.create("01-15", "01-16")  # Written after the progress, so its write has finished.
    copy = tmp_path / "copy.duckdb"
    assert candlestep("data", "export", copy, "--home", server.home).code == 0
    with duckdb.connect(str(copy), read_only=True) as store:
        query = "SELECT current_step FROM sessions WHERE session_id = ?"
        [(step,)] = store.execute(query, [session_id]).fetchall()
    assert step >= 500


@pytest.mark.parametrize("end", ["step", "cancel"])
def test_an_end_that_cannot_be_saved_can_be_saved_again(tmp_path: Path, end: str) -> None:
    home = sample_home(tmp_path)
    with running(home) as server, server.client() as client:
        api = Api(client)
        session_id, twin = traded(api), traded(api)
        path = f"{BACKTEST}/{session_id}/{'step/batch' if end == 'step' else 'cancel'}"
        body = {"steps": 10_000} if end == "step" else None
        server.limit_files(4096)
        while client.post(f"{BACKTEST}/{session_id}/step").is_success:
            pass  # The journal has room for a few more records.
        for _ in range(3):
            answer = client.post(path, json=body)
            refused(answer, 503, "STORAGE_UNAVAILABLE")
            assert int(answer.headers["retry-after"]) > 0
        for method, target in (("POST", "create"), ("GET", f"{session_id}/market/prices")):
            answer = client.request(method, f"{BACKTEST}/{target}", json=DAY)
            assert answer.status_code in (200, 503)
        refused_at = api.read(session_id, "status")["virtual_time"]
        server.limit_files(resource.RLIM_INFINITY)
        saved = api.post(path, body)
        if end == "step":
            assert (saved["step"], saved["is_complete"]) == (2880, True)
            assert [order["id"] for order in saved["orders_filled"]] == sorted(
                order["id"]
                for order in api.read(session_id, "trade/orders", status="filled")["orders"]
                if order["filled_at"] > refused_at
            )
        status = api.read(session_id, "status")
        assert status["status"] == ("completed" if end == "step" else "cancelled")
        assert status["error"] is None
        refused(client.post(path, json=body), 409, "INVALID_STATE")
        before = everything(api, session_id)
        if end == "step":
            api.step(twin, 10)
            assert api.step(twin, 10_000)["is_complete"]
            expected = api.read(twin, "results")
            assert before["results"]["summary"] == expected["summary"]
            assert before["results"]["metrics"] == expected["metrics"]
    with running(home) as server, server.client() as client:
        assert everything(Api(client), session_id) == before


def test_a_session_that_cannot_be_stored_fails_and_says_why(tmp_path: Path) -> None:
    start = 1_704_067_200_000
    prices = [1e-14] * 20 + [1e16] * 100
    rows = [
        [start + minute * 60_000, price, price, price, price, 1e9]
        for minute, price in enumerate(prices)
    ]
    file = tmp_path / "MOONUSDT-1m.json"
    file.write_text(json.dumps(rows))
    candlestep("data", "import", str(file), "--interval", "1m", "--home", str(tmp_path))
    with running(tmp_path) as server, server.client() as client:
        api = Api(client)
        times = {"start_time": "2024-01-01T00:10:00Z", "end_time": "2024-01-01T01:00:00Z"}
        session_id = api.post(f"{BACKTEST}/create", times | {"starting_balance": 100})["session_id"]
        api.post(f"{BACKTEST}/{session_id}/start")
        buy = ORDER | {"symbol": "MOONUSDT", "quantity": "5000000000000000"}
        api.post(f"{BACKTEST}/{session_id}/trade/order", buy, expect=201)
        answer = client.post(f"{BACKTEST}/{session_id}/step/batch", json={"steps": 500})
        assert refused(answer, 409, "INVALID_STATE")["status"] == "failed"
        assert "too large to be stored" in answer.json()["message"]
        assert api.read(session_id, "status")["status"] == "failed"
        refused(client.post(f"{BACKTEST}/{session_id}/cancel"), 409, "INVALID_STATE")
