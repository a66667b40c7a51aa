"""Turns: cancellations, orders and steps in one request and one record, of one session or of many."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.api_client import BACKTEST, UNKNOWN_SESSION, Api, check_error, sample_home
from tests.support.command_line import candlestep
from tests.support.server_process import RunningServer, running
from tests.support.traded_sessions import everything

BUY = {"symbol": "BTCUSDT", "side": "buy", "type": "market", "quantity": "0.01"}
REST = {**BUY, "type": "limit", "price": "1000"}
STOP = {**BUY, "side": "sell", "type": "stop_loss"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running(sample_home(tmp_path_factory.mktemp("home"))) as server:
        yield server


@pytest.fixture(scope="module")
def api(server: RunningServer) -> Iterator[Api]:
    with server.client() as client:
        yield Api(client)


def turn(api: Api, session_id: str, expect: int = 200, **body: Any) -> Any:
    return api.post(f"{BACKTEST}/{session_id}/turn", body, expect)


def price(api: Api, session_id: str) -> float:
    return float(api.read(session_id, "market/price/BTCUSDT")["price"])


def test_a_turn_does_what_its_commands_do(api: Api) -> None:
    at_once, separate = api.started(), api.started()
    now = price(api, at_once)
    orders: list[dict[str, Any]] = [
        BUY,
        REST,
        {**STOP, "trigger_price": now * 0.999},
        {**STOP, "trigger_price": now * 0.9},
    ]
    answer = turn(api, at_once, orders=orders, steps=30)
    placed = [api.order(separate, **order) for order in orders]
    step = api.step(separate, 30)
    assert answer["cancelled"] == []
    assert answer["refused"] is None
    assert answer["orders"] == [{k: v for k, v in o.items() if k != "warnings"} for o in placed]
    assert answer["step"] == step
    answer = turn(api, at_once, cancel=[2], orders=[BUY], steps="2", from_step=30)
    path = f"{BACKTEST}/{separate}/trade/order"
    api.call("DELETE", f"{path}/2")
    assert answer["cancelled"] == [api.call("GET", f"{path}/2")]
    api.order(separate)
    assert answer["step"] == api.step(separate, 2)
    for what in ("trade/orders", "trade/history", "account/portfolio", "account/balance"):
        assert api.read(at_once, what) == api.read(separate, what)


def test_a_turn_ends_at_the_first_refusal(server: RunningServer, api: Api) -> None:
    agent = api.post(
        "/api/v1/agents", {"name": "a", "risk_profile": {"max_order_size_pct": 50}}, 201
    )
    session_id = api.started(agent_id=agent["agent_id"])
    answer = turn(api, session_id, orders=[BUY, {**BUY, "quantity": 1000}, BUY], steps=5)
    assert [order["status"] for order in answer["orders"]] == ["filled"]
    refused = answer["refused"]
    assert (refused["part"], refused["index"]) == ("orders", 1)
    assert refused["error"]["code"] == "INSUFFICIENT_BALANCE"
    assert answer["step"] is None
    answer = turn(api, session_id, orders=[{**BUY, "quantity": "0.06"}, BUY])
    assert answer["refused"]["error"]["code"] == "RISK_LIMIT_EXCEEDED"
    assert answer["refused"]["error"]["details"]["order_id"] == 2
    answer = turn(api, session_id, cancel=[1], orders=[BUY])
    assert answer["refused"]["part"] == "cancel"
    assert answer["refused"]["error"]["code"] == "INVALID_STATE"
    assert api.read(session_id, "trade/orders")["total"] == 2
    assert api.read(session_id, "status")["current_step"] == 0
    assert replays(server, api, session_id)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"steps": -1}, "steps"),
        ({"steps": 1.5}, "steps"),
        ({"steps": 0}, "steps"),
        ({"cancel": [0]}, "cancel[0]"),
        ({"orders": [{**BUY, "pirce": 1}]}, "orders[0].pirce"),
        ({"orders": [BUY], "until": "price"}, "until"),
        ({"orders": [BUY], "until": {"symbol": "BTCUSDT"}}, "until"),
        ({"orders": [BUY], "until": {"symbol": "BTCUSDT", "above": "x"}}, "until.above"),
        ({"order": [BUY]}, "order"),
    ],
)
def test_a_turn_that_makes_no_sense_does_nothing(api: Api, body: Any, field: str) -> None:
    session_id = api.started()
    assert turn(api, session_id, 422, **body)["details"]["field"] == field
    assert api.read(session_id, "trade/orders")["total"] == 0
    assert turn(api, session_id, 409, orders=[BUY], from_step=3)["code"] == "INVALID_STATE"


def test_steps_end_at_a_change_or_at_a_price(server: RunningServer, api: Api) -> None:
    session_id, stepwise = api.started(), api.started()
    level = price(api, session_id) * 1.002
    until = {"symbol": "btc-usdt", "above": level}
    step = api.post(f"{BACKTEST}/{session_id}/step/batch", {"steps": 1440, "until": until})
    while True:
        expected = api.post(f"{BACKTEST}/{stepwise}/step")
        candle = api.read(stepwise, "market/candles/BTCUSDT", limit=1)["candles"][0]
        if float(candle["high"]) >= level:
            break
    assert step == expected
    assert 1 < step["step"] < 1440
    fast = f"{BACKTEST}/{session_id}/step/batch/fast"
    api.order(session_id, type="limit", price=str(price(api, session_id) * 0.999))
    step = api.post(fast, {"steps": 1440, "until": "order_change"})
    assert [order["status"] for order in step["orders_filled"]] == ["filled"]
    assert step["steps_executed"] < 1440 - step["step"]
    unknown = {"symbol": "NOTHERE", "below": 1}
    assert api.post(fast, {"steps": 1, "until": unknown}, 404)["code"] == "SYMBOL_NOT_FOUND"
    assert replays(server, api, session_id)


def test_many_sessions_take_their_turns_in_one_request(api: Api) -> None:
    first, second, third = api.started(), api.started(), api.create("01-15", "01-16")
    bodies: list[dict[str, Any]] = [
        {"session_id": second, "orders": [BUY], "steps": 3},
        {"session_id": UNKNOWN_SESSION},
        {"session_id": first, "cancel": [7]},
        {"session_id": third},
    ]
    path = f"{BACKTEST}/sessions/turn"
    answers = send(api, path, "many", {"turns": bodies}).json()["turns"]
    assert [answer["session_id"] for answer in answers] == [body["session_id"] for body in bodies]
    assert answers[0]["turn"]["step"]["step"] == 3
    assert answers[1]["error"]["code"] == "SESSION_NOT_FOUND"
    assert answers[2]["turn"]["refused"]["error"]["code"] == "ORDER_NOT_FOUND"
    assert answers[3]["error"]["code"] == "INVALID_STATE"
    assert send(api, path, "many", {"turns": bodies}).json()["turns"] == answers
    assert api.read(second, "status")["current_step"] == 3
    twice = api.post(path, {"turns": [{"session_id": first}, {"session_id": first}]}, 422)
    assert twice["details"]["field"] == "turns[1].session_id"
    assert api.post(path, {"turns": []}, 422)["details"]["field"] == "turns"
    assert api.read(first, "status")["current_step"] == 0


def test_an_order_is_cancelled_once_for_a_key(api: Api) -> None:
    session_id = api.started()
    turn(api, session_id, orders=[REST, REST], steps=0)
    path = f"{BACKTEST}/{session_id}/trade/order"
    headers = {"Idempotency-Key": "c"}
    first, again = (api.client.delete(f"{path}/1", headers=headers) for _ in range(2))
    assert first.json() == {"order_id": 1, "status": "cancelled", "cancelled": True}
    assert again.content == first.content
    assert api.client.delete(f"{path}/2", headers=headers).status_code == 422
    assert api.client.delete(f"{path}/1").status_code == 409


def send(api: Api, path: str, key: str, body: Any) -> httpx.Response:
    return api.client.post(path, json=body, headers={"Idempotency-Key": key})


def test_a_turn_with_a_key_is_taken_once_even_by_the_server_after(tmp_path: Path) -> None:
    home = sample_home(tmp_path)
    server = RunningServer(home)
    bodies: list[dict[str, Any]] = [
        {"steps": 1},
        {"orders": [{**BUY, "client_order_id": "a"}], "steps": 60},
        {"orders": [{**BUY, "client_order_id": "a"}, REST, {**BUY, "quantity": 99}], "steps": 60},
        {"cancel": [9], "orders": [BUY]},
        {"cancel": [2], "steps": 2000, "until": "order_change"},
    ]
    with server.client() as client:
        api = Api(client)
        session_id = api.started()
        path = f"{BACKTEST}/{session_id}/turn"
        firsts = [send(api, path, f"k{i}", body) for i, body in enumerate(bodies)]
        assert [first.status_code for first in firsts] == [200] * len(bodies)
        partial = firsts[2].json()
        assert [order["id"] for order in partial["orders"]] == [1, 2]
        assert (partial["refused"]["part"], partial["refused"]["index"]) == ("orders", 2)
        assert firsts[4].json()["step"]["is_complete"]
        other = api.started()
        turn(api, other, orders=[BUY, REST], steps=5)
        before = everything(api, other)
        server.kill()
    with running(home) as server, server.client() as client:
        api = Api(client)
        for i, body in enumerate(bodies):
            assert send(api, path, f"k{i}", body).content == firsts[i].content
        check_error(send(api, path, "k0", {"steps": 2}))
        check_error(send(api, path, "new", {"steps": 2}))
        assert api.read(session_id, "trade/orders")["total"] == 2
        assert everything(api, other) == before
        recording = api.client.get(f"{BACKTEST}/{session_id}/recording").text
        kinds = [json.loads(line)["do"] for line in recording.splitlines()]
        assert kinds == ["start", "turn", "turn", "turn", "turn"]
        assert replays(server, api, session_id)
        assert replays(server, api, session_id, "--url", server.url)


def replays(server: RunningServer, api: Api, session_id: str, *where: str) -> bool:
    """Return whether the recording of a session replays with every answer the same."""
    file = server.home / "recording.jsonl"
    file.write_bytes(api.client.get(f"{BACKTEST}/{session_id}/recording").content)
    done = candlestep("replay", file, *(where or ("--home", server.home)))
    return done.code == 0 and "every answer is the one recorded" in done.out
