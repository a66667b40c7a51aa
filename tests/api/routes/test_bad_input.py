"""Invalid requests are refused, name the field that is wrong, and change nothing."""

import json
from typing import Any

import httpx
import pytest

from tests.support.api_client import (
    BACKTEST,
    DAY,
    JSON,
    ORDER,
    UNKNOWN_SESSION,
    Api,
    check_error,
    refused,
)

NO_LIMITS = {
    "max_order_size_pct": None,
    "max_position_size_pct": None,
    "daily_loss_limit_pct": None,
}


RANGES = [
    {"symbol": "BTCUSDT", "start": "2025-01-01T00:00:00Z", "end": "2025-03-02T00:00:00Z"},
    {"symbol": "ETHUSDT", "start": "2025-01-01T00:00:00Z", "end": "2025-03-02T00:00:00Z"},
]


HOSTILE_NUMBERS: list[bytes] = [
    b'"NaN"', b'"nan"', b'"Infinity"', b'"-inf"', b'"sNaN123"', b"1e400", b'"1e400"', b"-1e400",
    b'"1e999999"', b'"1e-999999"', b"1e-400", b'"1_000"', b'"1,000"', b'" 1"', b'"1 "', b'"\\n1"',
    '"٠٫١"'.encode(), '"１"'.encode(), '"Ⅳ"'.encode(), '"−1"'.encode(), b'"0x10"', b'"1/2"',
    b'""', b'"."', b'"e5"', b"true", b"null", b"[]", b"[1]", b'{"a": 1}', b"-0", b"-0.0", b'"-0"',
    b"0", b"0.0", b"-1", b'"0.00000000000000004"', b"10000000000000001", b"1" * 400, b"9" * 4299,
    b"1" * 4301, b"1" * 10_000, b'"' + b"1" * 10_000 + b'"', b"0." + b"0" * 10_000 + b"1",
    b'"1e' + b"9" * 10_000 + b'"', b"[" * 900 + b"]" * 900, b'{"a":' * 400 + b"1" + b"}" * 400,
]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("trade/order", ORDER | {"pirce": "1"}, "pirce"),
        ("trade/order", ORDER | {"Quantity": "1"}, "Quantity"),
        ("trade/order", {"symbol": "BTCUSDT", "side": "buy", "type": "market"}, "quantity"),
        ("trade/order", ORDER | {"side": "hold"}, "side"),
        ("trade/order", ORDER | {"type": "Market"}, "type"),
        ("trade/order", ORDER | {"side": None}, "side"),
        ("trade/order", ORDER | {"symbol": "BTC USDT"}, "symbol"),
        ("trade/order", ORDER | {"symbol": ["BTCUSDT"]}, "symbol"),
        ("trade/order", ORDER | {"symbol": ""}, "symbol"),
        ("trade/order", ORDER | {"symbol": "x" * 100_000}, "symbol"),
        ("trade/order", ORDER | {"price": "1"}, "price"),
        ("trade/order", ORDER | {"type": "limit"}, "price"),
        ("trade/order", ORDER | {"client_order_id": ""}, "client_order_id"),
        ("trade/order", ORDER | {"client_order_id": 7}, "client_order_id"),
        ("trade/order", ORDER | {"oco_group": "x" * 129}, "oco_group"),
        ("trade/order", ORDER | {"type": "limit", "price": 1, "expires_at": 5}, "expires_at"),
        ("trade/order", ORDER | {"type": "limit", "price": 1, "expires_at": "soon"}, "expires_at"),
        (
            "trade/order",
            ORDER | {"type": "limit", "price": 1, "expires_at": "2025-01-15T00:00:00Z"},
            "expires_at",
        ),
        ("step", {"steps": 5}, "steps"),
        ("step/batch", {}, "steps"),
        ("step/batch", {"steps": 0}, "steps"),
        ("step/batch", {"steps": -1}, "steps"),
        ("step/batch", {"steps": -(10**30)}, "steps"),
        ("step/batch", {"steps": 1.5}, "steps"),
        ("step/batch", {"steps": None}, "steps"),
        ("step/batch", {"steps": True}, "steps"),
        ("step/batch", {"steps": "٣"}, "steps"),
        ("step/batch", {"steps": "1_000"}, "steps"),
        ("step/batch", {"step": 5}, "step"),
        ("step/batch/fast", {"steps": 1, "include_intermediate_trades": "yes"}, "include_"),
        ("cancel", {"reason": "bored"}, "reason"),
    ],
)  # fmt: skip
def test_a_field_that_is_wrong_is_named(
    client: httpx.Client, api: Api, session_id: str, path: str, body: object, field: str
) -> None:
    before = api.read(session_id, "trade/orders")
    answer = client.post(f"{BACKTEST}/{session_id}/{path}", json=body)
    details = refused(answer, 422, "INVALID_PARAMETER")
    assert details["field"].startswith(field)
    assert field in answer.json()["message"]
    assert len(answer.content) < 2000
    assert api.read(session_id, "trade/orders") == before
    assert api.read(session_id, "status")["current_step"] == 0


@pytest.mark.parametrize("number", HOSTILE_NUMBERS, ids=lambda number: str(number[:20]))
def test_a_hostile_number_is_refused_wherever_it_stands(
    client: httpx.Client, session_id: str, number: bytes
) -> None:
    def check(path: str, body: dict[str, Any], field: str, *, may_pass: bool = False) -> None:
        with_number = body | {field.partition(".")[0]: "?"}
        if "." in field:
            with_number[field.partition(".")[0]] = {"model": "fixed_bps", "bps": "?"}
        content = json.dumps(with_number).encode().replace(b'"?"', number)
        answer = client.post(path, content=content, headers=JSON)
        if may_pass and answer.status_code == 200:
            return
        if number.startswith(b"[" * 900):
            assert answer.status_code in (400, 422)
            check_error(answer)
            return
        details = refused(answer, 422, "INVALID_PARAMETER")
        assert details["field"].startswith(field.partition(".")[0])
        assert len(answer.content) < 2000

    order = f"{BACKTEST}/{session_id}/trade/order"
    is_null = number == b"null"
    check(order, ORDER, "quantity")
    if not is_null:
        check(order, ORDER | {"type": "limit"}, "price")
        check(order, ORDER | {"type": "stop_loss"}, "trigger_price")
    create = f"{BACKTEST}/create"
    check(create, DAY, "starting_balance")
    # Zero is valid for these, and so is a number that rounds to zero.
    check(create, DAY, "fee_rate", may_pass=True)
    check(create, DAY | {"fee_model": "fixed_bps"}, "fee_bps", may_pass=True)
    check(create, DAY, "slippage.bps", may_pass=True)
    agent_id = client.get("/api/v1/agents").json()["agents"][0]["agent_id"]
    content = b'{"risk_profile": {"max_order_size_pct": ' + number + b"}}"
    answer = client.patch(f"/api/v1/agents/{agent_id}", content=content, headers=JSON)
    assert answer.status_code in (200, 400, 422)
    reset = client.patch(f"/api/v1/agents/{agent_id}", json={"risk_profile": NO_LIMITS})
    assert reset.status_code == 200


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"start_time": "2025-01-15T00:00:00Z"}, "end_time"),
        (DAY | {"start_time": "yesterday"}, "start_time"),
        (DAY | {"start_time": 1736899200}, "start_time"),
        (DAY | {"start_time": "2025-02-30T00:00:00Z"}, "start_time"),
        (DAY | {"start_time": "٢٠٢٥-01-15T00:00:00Z"}, "start_time"),
        (DAY | {"end_time": "9999-12-31T23:59:59-23:59"}, "end_time"),
        (DAY | {"start_time": "0001-01-01T00:00:00+23:59"}, "start_time"),
        (DAY | {"start_time": "0001-01-01T00:00:00Z"}, "end_time"),
        (DAY | {"end_time": "2036-01-15T00:00:00Z"}, "end_time"),
        (DAY | {"end_time": "2025-01-15T00:00:30Z"}, "end_time"),
        (DAY | {"end_time": DAY["start_time"]}, "end_time"),
        (DAY | {"end_time": "2025-01-14T00:00:00Z"}, "end_time"),
        (DAY | {"candle_interval": "2m"}, "candle_interval"),
        (DAY | {"candle_interval": 0}, "candle_interval"),
        (DAY | {"candle_interval": 10**30}, "candle_interval"),
        (DAY | {"candle_interval": 60.5}, "candle_interval"),
        (DAY | {"pairs": []}, "pairs"),
        (DAY | {"pairs": "BTCUSDT"}, "pairs"),
        (DAY | {"pairs": [1]}, "pairs"),
        (DAY | {"pairs": ["BTC USDT"]}, "symbol"),
        (DAY | {"pairs": [f"X{number}USDT" for number in range(1001)]}, "pairs"),
        (DAY | {"exchange": "../x"}, "exchange"),
        (DAY | {"slippage": {"model": "linear"}}, "slippage"),
        (DAY | {"slippage": {"model": "fixed_bps"}}, "bps"),
        (DAY | {"slippage": {"model": "none", "bps": 5}}, "bps"),
        (DAY | {"slippage": "none"}, "slippage"),
        (DAY | {"trigger": "open"}, "trigger"),
        (DAY | {"liquidate_at_end": "yes"}, "liquidate_at_end"),
        (DAY | {"strategy_label": "x" * 201}, "strategy_label"),
        (DAY | {"balance": 5}, "balance"),
    ],
)  # fmt: skip
def test_a_session_that_cannot_be(client: httpx.Client, body: object, field: str) -> None:
    before = client.get(f"{BACKTEST}/list").json()["total"]
    details = refused(client.post(f"{BACKTEST}/create", json=body), 422, "INVALID_PARAMETER")
    assert details["field"].endswith(field) or details["field"].startswith(field)
    assert client.get(f"{BACKTEST}/list").json()["total"] == before


@pytest.mark.parametrize(
    ("changes", "ranges"),
    [
        ({"pairs": ["DOGEUSDT"]}, RANGES),
        ({"pairs": [f"X{number}USDT" for number in range(700)]}, RANGES),
        ({"exchange": "kraken"}, []),
        ({"pairs": ["ETHUSDT"], "end_time": "2024-02-01", "start_time": "2024-01-01"}, RANGES[1:]),
        ({"start_time": "2025-03-02T00:00:00Z", "end_time": "2025-03-03T00:00:00Z"}, RANGES),
    ],
)
def test_no_data_tells_what_data_there_is(
    client: httpx.Client, changes: dict[str, Any], ranges: list[dict[str, str]]
) -> None:
    answer = client.post(f"{BACKTEST}/create", json=DAY | changes)
    assert refused(answer, 422, "NO_DATA") == {"available": ranges}
    assert all(available["start"] in answer.json()["message"] for available in ranges[:3])


@pytest.mark.parametrize(
    ("path", "query", "field"),
    [
        ("trade/orders", {"state": "filled"}, "state"),
        ("trade/orders", {"status": "done"}, "status"),
        ("trade/orders", {"limit": "0"}, "limit"),
        ("trade/orders", {"limit": "1001"}, "limit"),
        ("trade/orders", {"limit": "1e2"}, "limit"),
        ("trade/orders", {"limit": "1_0"}, "limit"),
        ("trade/orders", {"limit": "٣"}, "limit"),
        ("trade/orders", {"limit": ""}, "limit"),
        ("trade/orders", {"limit": "9" * 5000}, "limit"),
        ("trade/orders", {"offset": "-1"}, "offset"),
        ("trade/orders", {"offset": "9" * 30}, "offset"),
        ("trade/orders", {"symbol": "!"}, "symbol"),
        ("trade/orders/open", {"status": "pending"}, "status"),
        ("trade/history", {"limit": "x"}, "limit"),
        ("market/candles/BTCUSDT", {"interval": "3h"}, "interval"),
        ("market/candles/BTCUSDT", {"interval": "30"}, "interval"),
        ("market/candles/BTCUSDT", {"limit": "1001"}, "limit"),
        ("market/candles/BTCUSDT", {"until": "2025-02-01"}, "until"),
        ("market/prices", {"at": "2025-02-01"}, "at"),
        ("market/price/BTC..USDT", {}, "symbol"),
        ("market/ticker/", {}, "symbol"),
        ("account/portfolio", {"x": "1"}, "x"),
        ("status", {"x": "1"}, "x"),
    ],
)
def test_a_query_that_is_wrong_is_named(
    client: httpx.Client, session_id: str, path: str, query: dict[str, str], field: str
) -> None:
    answer = client.get(f"{BACKTEST}/{session_id}/{path}", params=query)
    assert refused(answer, 422, "INVALID_PARAMETER")["field"] == field


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("list?sort_by=secret", "sort_by"),
        ("list?sort_by=created_at;drop", "sort_by"),
        ("list?order=up", "order"),
        ("list?limit=1&limit=2", "query"),
        ("list?strategy_label=%ff", "query"),
        ("list?" + "&".join(f"a{number}=1" for number in range(60)), "query"),
        ("list?" + "x" * 5000, "x" * 40),
        ("best?metric=luck", "metric"),
        ("best?metric=returns_grid", "metric"),
        ("compare", "sessions"),
        ("compare?sessions=", "sessions"),
        ("compare?sessions=a,a", "sessions"),
        ("compare?sessions=" + ",".join(map(str, range(101))), "sessions"),
    ],
)
def test_a_list_that_cannot_be(client: httpx.Client, path: str, field: str) -> None:
    details = refused(client.get(f"{BACKTEST}/{path}"), 422, "INVALID_PARAMETER")
    assert details["field"].startswith(field)


def test_a_step_takes_no_query(client: httpx.Client, api: Api, session_id: str) -> None:
    """A client that sends ``step?steps=100`` must not get one step when it means a hundred."""
    answer = client.post(f"{BACKTEST}/{session_id}/step?steps=100")
    assert refused(answer, 422, "INVALID_PARAMETER") == {"field": "steps"}
    assert api.read(session_id, "status")["current_step"] == 0


@pytest.mark.parametrize(
    "order_id",
    ["0", "2", "-1", "1e9", "1.0", "+1", "01x", "x", "%20", "٣", "9" * 13, "9" * 5000, "1%00",
     "..%2f1", "%2e%2e", "NaN", "null"],
)  # fmt: skip
def test_an_order_that_is_not_there(
    client: httpx.Client, api: Api, session_id: str, order_id: str
) -> None:
    for method in ("GET", "DELETE"):
        path = f"{BACKTEST}/{session_id}/trade/order/{order_id}"
        answer = client.request(method, path)
        assert answer.status_code in (404, 422 if "%2f" in order_id else 404)
        assert check_error(answer)["code"] in ("ORDER_NOT_FOUND", "NOT_FOUND")
    assert api.read(session_id, "trade/orders")["total"] == 1


@pytest.mark.parametrize("session", [UNKNOWN_SESSION, "x", "%00", "'", "bt_%ff", "9" * 5000, "%2f"])
def test_a_session_that_is_not_there(client: httpx.Client, session: str) -> None:
    for method, path in (("GET", "status"), ("POST", "step"), ("GET", "trade/order/1")):
        answer = client.request(method, f"{BACKTEST}/{session}/{path}")
        assert answer.status_code == 404
        assert check_error(answer)["code"] in ("SESSION_NOT_FOUND", "NOT_FOUND")
