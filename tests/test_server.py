"""The server's manners: bad input, calls at once, clients that leave, restarts and full disks."""

import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import duckdb
import httpx
import pytest

from api.app import ROUTES
from data.store import FILE_NAME
from tests.command_line import ROOT, candlestep
from tests.over_http import BACKTEST, ERROR_KEYS, UNKNOWN_SESSION, Api, check_error, sample_home
from tests.server import RunningServer, running

DAY = {"start_time": "2025-01-15T00:00:00Z", "end_time": "2025-01-16T00:00:00Z"}
NO_LIMITS = {
    "max_order_size_pct": None,
    "max_position_size_pct": None,
    "daily_loss_limit_pct": None,
}
ORDER = {"symbol": "BTCUSDT", "side": "buy", "type": "market", "quantity": "0.01"}
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running(sample_home(tmp_path_factory.mktemp("server") / "home")) as server:
        yield server


@pytest.fixture(scope="module")
def client(server: RunningServer) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


@pytest.fixture(scope="module")
def api(client: httpx.Client) -> Api:
    return Api(client)


@pytest.fixture(scope="module")
def session_id(api: Api) -> str:
    """A session that refused calls leave as it is: at step 0, with one order."""
    session_id = api.started()
    api.order(session_id)
    return session_id


def refused(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The details of an error that is as expected."""
    assert (answer.status_code, answer.json().get("code")) == (status, code), answer.text
    details: dict[str, Any] = check_error(answer)["details"]
    return details


def raw(server: RunningServer, data: bytes) -> bytes:
    """What the server answers to these bytes, until it closes the connection."""
    address = urlsplit(server.url)
    with closing(socket.create_connection((address.hostname, address.port), 10)) as connection:
        connection.sendall(data)
        parts = []
        while part := connection.recv(65536):
            parts.append(part)
        return b"".join(parts)


def request_bytes(method: str, path: str, body: bytes = b"", *headers: str) -> bytes:
    """A request that ends its connection."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close", *headers]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


# One shape of errors.


@pytest.mark.parametrize(
    "path",
    ["/", "/api", "/api/v1/backtest", "/api/v1/backtest/", "/api/v1/backtest/x", "/API/V1/agents",
     "/api/v1/agents/", "/api/v1/backtest//status", "/api/v1/backtest/x/y", "/docs/x",
     "/api/v1/backtest/x/step/", "/../etc/passwd", "/%2e%2e/%00", "/" + "x" * 5000, "/é"],
)  # fmt: skip
def test_an_unknown_path(client: httpx.Client, path: str) -> None:
    for method in ("GET", "POST", "DELETE"):
        refused(client.request(method, path), 404, "NOT_FOUND")


def test_a_wrong_method_names_the_right_ones(client: httpx.Client, session_id: str) -> None:
    by_path: dict[str, set[str]] = {}
    for route in ROUTES:
        by_path.setdefault(route.path, set()).add(route.method)
    for path, methods in by_path.items():
        names = re.findall(r"{(\w+)}", path)
        known = {"session_id": session_id, "order_id": "1", "symbol": "BTCUSDT"}
        filled = path.format(**dict.fromkeys(names, "x") | known)
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} - methods:
            answer = client.request(method, filled)
            if answer.status_code == 404 and "/backtest/" in path:
                continue
            details = refused(answer, 405, "METHOD_NOT_ALLOWED")
            assert answer.headers["allow"].split(", ") == details["allowed"] == sorted(methods)


def test_head_is_get_without_a_body(client: httpx.Client) -> None:
    answer = client.head("/api/v1/agents")
    assert (answer.status_code, answer.content) == (200, b"")
    assert int(answer.headers["content-length"]) > 0


@pytest.mark.parametrize(
    "body",
    [b"{", b"nul", b"{'steps': 1}", b'{"steps": 1,}', b'{"steps": NaN}', b"\xff\xfe",
     b'{"steps": 01}', b'{"steps": 1} x', b"\x00", b" ", b"{" * 100_000,
     b'{"steps":' + b"[" * 100_000, b'{"steps": Infinity}', b'{"steps": 1_000}'],
)  # fmt: skip
def test_what_is_not_json(client: httpx.Client, session_id: str, body: bytes) -> None:
    path = f"{BACKTEST}/{session_id}/step/batch"
    refused(client.post(path, content=body, headers=JSON), 400, "INVALID_JSON")


@pytest.mark.parametrize("body", [b"1", b"null", b'"x"', b"[]", b"[1]", b"true", b"1e5"])
def test_json_that_is_no_object(client: httpx.Client, session_id: str, body: bytes) -> None:
    path = f"{BACKTEST}/{session_id}/step/batch"
    refused(client.post(path, content=body, headers=JSON), 422, "INVALID_PARAMETER")


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "", "json"]
)
def test_another_kind_of_body(client: httpx.Client, session_id: str, kind: str) -> None:
    path = f"{BACKTEST}/{session_id}/step/batch"
    answer = client.post(path, content=b'{"steps": 1}', headers={"Content-Type": kind})
    refused(answer, 415, "UNSUPPORTED_MEDIA_TYPE")


@pytest.mark.parametrize(
    "kind", ["application/json", "Application/JSON; charset=utf-8", "application/vnd.x+json"]
)
def test_kinds_of_json(client: httpx.Client, api: Api, kind: str) -> None:
    path = f"{BACKTEST}/{api.started()}/step/batch"
    answer = client.post(path, content=b'{"steps": 1}', headers={"Content-Type": kind})
    assert answer.status_code == 200


def test_an_empty_body_needs_no_kind(client: httpx.Client, api: Api) -> None:
    path = f"{BACKTEST}/{api.started()}/step"
    for headers in ({}, {"Content-Type": "text/plain"}, JSON):
        assert client.post(path, headers=headers).status_code == 200
    assert client.post(path, json={}).json()["step"] == 4


def test_a_body_that_is_too_large(server: RunningServer, api: Api, session_id: str) -> None:
    path = f"{BACKTEST}/{session_id}/step/batch"
    with server.client() as client:
        content = b'{"steps": "' + b"x" * 50_000_000 + b'"}'
        with suppress(httpx.WriteError):  # It does not read on.
            details = refused(
                client.post(path, content=content, headers=JSON), 413, "PAYLOAD_TOO_LARGE"
            )
            assert details == {"max_bytes": 1 << 20}
    with server.client() as client:
        chunks = (b" " * 65536 for _ in range(800))
        with suppress(httpx.WriteError):
            refused(client.post(path, content=chunks, headers=JSON), 413, "PAYLOAD_TOO_LARGE")
    almost = b'{"steps": 0' + b" " * ((1 << 20) - 12) + b"}"
    answer = api.client.post(path, content=almost, headers=JSON)
    refused(answer, 422, "INVALID_PARAMETER")
    refused(api.client.post(path, content=almost + b" ", headers=JSON), 413, "PAYLOAD_TOO_LARGE")
    assert api.read(session_id, "status")["current_step"] == 0


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


HOSTILE_NUMBERS: list[bytes] = [
    b'"NaN"', b'"nan"', b'"Infinity"', b'"-inf"', b'"sNaN123"', b"1e400", b'"1e400"', b"-1e400",
    b'"1e999999"', b'"1e-999999"', b"1e-400", b'"1_000"', b'"1,000"', b'" 1"', b'"1 "', b'"\\n1"',
    '"٠٫١"'.encode(), '"１"'.encode(), '"Ⅳ"'.encode(), '"−1"'.encode(), b'"0x10"', b'"1/2"',
    b'""', b'"."', b'"e5"', b"true", b"null", b"[]", b"[1]", b'{"a": 1}', b"-0", b"-0.0", b'"-0"',
    b"0", b"0.0", b"-1", b'"0.00000000000000004"', b"10000000000000001", b"1" * 400, b"9" * 4299,
    b"1" * 4301, b"1" * 10_000, b'"' + b"1" * 10_000 + b'"', b"0." + b"0" * 10_000 + b"1",
    b'"1e' + b"9" * 10_000 + b'"', b"[" * 900 + b"]" * 900, b'{"a":' * 400 + b"1" + b"}" * 400,
]  # fmt: skip


@pytest.mark.parametrize("number", HOSTILE_NUMBERS, ids=lambda number: str(number[:20]))
def test_a_hostile_number_is_refused_wherever_it_stands(
    client: httpx.Client, session_id: str, number: bytes
) -> None:
    def sent(path: str, body: dict[str, Any], field: str, *, is_refused: bool = True) -> None:
        whole = body | {field.partition(".")[0]: "?"}
        if "." in field:
            whole[field.partition(".")[0]] = {"model": "fixed_bps", "bps": "?"}
        content = json.dumps(whole).encode().replace(b'"?"', number)
        answer = client.request(
            "PATCH" if "agents" in path else "POST", path, content=content, headers=JSON
        )
        if not is_refused and answer.status_code == 200:
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
    sent(order, ORDER, "quantity")
    if not is_null:
        sent(order, ORDER | {"type": "limit"}, "price")
        sent(order, ORDER | {"type": "stop_loss"}, "trigger_price")
    sent(f"{BACKTEST}/create", DAY, "starting_balance")
    # These may be zero, and what rounds to zero is zero.
    may_pass = {"is_refused": False}
    sent(f"{BACKTEST}/create", DAY, "fee_rate", **may_pass)
    sent(f"{BACKTEST}/create", DAY | {"fee_model": "fixed_bps"}, "fee_bps", **may_pass)
    sent(f"{BACKTEST}/create", DAY, "slippage.bps", **may_pass)
    agent = client.get("/api/v1/agents").json()["agents"][0]["agent_id"]
    content = b'{"risk_profile": {"max_order_size_pct": ' + number + b"}}"
    answer = client.patch(f"/api/v1/agents/{agent}", content=content, headers=JSON)
    assert answer.status_code in (200, 400, 422)
    reset = client.patch(f"/api/v1/agents/{agent}", json={"risk_profile": NO_LIMITS})
    assert reset.status_code == 200


def test_deep_nesting_is_never_a_fault_of_the_server(client: httpx.Client, session_id: str) -> None:
    for depth in (*range(20, 1200, 20), *range(900, 1010)):
        content = json.dumps(ORDER | {"quantity": "?"}).encode()
        content = content.replace(b'"?"', b"[" * depth + b"]" * depth)
        path = f"{BACKTEST}/{session_id}/trade/order"
        answer = client.post(path, content=content, headers=JSON)
        assert answer.status_code in (400, 422), depth


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


RANGES = [
    {"symbol": "BTCUSDT", "start": "2025-01-01T00:00:00Z", "end": "2025-03-02T00:00:00Z"},
    {"symbol": "ETHUSDT", "start": "2025-01-01T00:00:00Z", "end": "2025-03-02T00:00:00Z"},
]


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
    assert all(each["start"] in answer.json()["message"] for each in ranges[:3])


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
    found = api.get(f"{BACKTEST}/list", strategy_label=label)
    assert [each["session_id"] for each in found["backtests"]] == [session_id]
    assert api.read(session_id, "trade/orders")["orders"][0]["client_order_id"] == label


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
        ("market/candles/BTCUSDT", {"interval": "2h"}, "interval"),
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
    """``step?steps=100`` must not make one step of a hundred that were meant."""
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
    for method, what in (("GET", "status"), ("POST", "step"), ("GET", "trade/order/1")):
        answer = client.request(method, f"{BACKTEST}/{session}/{what}")
        assert answer.status_code == 404
        assert check_error(answer)["code"] in ("SESSION_NOT_FOUND", "NOT_FOUND")


@pytest.mark.parametrize(
    "data",
    [
        b"\x00\x01\x02\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n",
        b"POST /api/v1/backtest/create HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n",
        b"BREW /api/v1/agents HTTP/1.1\r\nHost: localhost\r\n\r\n",
        request_bytes("GET", "/api/v1/agents", b"", "Upgrade: websocket", "Connection: Upgrade",
                      "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13"),
        request_bytes("GET", "/api/v1/agents", b"", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk"),
        request_bytes("GET", "/api/v1/agents", b"", "X-Request-Id: a b\x7f", "Accept: \xff"),
        request_bytes("GET", "/api/v1/agents", b"", "X-API-Key: \xff\xfe", "Authorization: \xe9"),
        request_bytes("GET", "/api/v1/agents?\xe9=1"),
        request_bytes("TRACE", "/api/v1/agents"),
    ],
)  # fmt: skip
def test_bytes_of_any_kind_are_no_fault_of_the_server(server: RunningServer, data: bytes) -> None:
    answer = raw(server, data)
    assert b"500" not in answer.partition(b"\r\n")[0]
    with server.client() as client:
        assert client.get("/health").status_code == 200


def test_a_request_id_is_answered(client: httpx.Client) -> None:
    given = client.get("/nowhere", headers={"X-Request-Id": "mine-1"})
    assert given.headers["x-request-id"] == given.json()["request_id"] == "mine-1"
    for odd in ("", "a b", "x" * 65, "<script>"):
        made = client.get("/nowhere", headers={"X-Request-Id": odd})
        assert made.headers["x-request-id"].startswith("req_")


# The life of a session.


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
    for method, what in (
        ("POST", "step"), ("POST", "cancel"), ("GET", "market/prices"), ("GET", "trade/orders"),
        ("GET", "account/portfolio"), ("GET", "results"), ("DELETE", "trade/order/1"),
    ):  # fmt: skip
        answer = client.request(method, f"{BACKTEST}/{session_id}/{what}")
        assert refused(answer, 409, "INVALID_STATE") == {"status": "created"}
    assert api.read(session_id, "status")["status"] == "created"


def test_results_are_there_at_the_end(client: httpx.Client, api: Api) -> None:
    session_id = api.started()
    for what in ("results", "results/trades", "results/equity-curve"):
        answer = client.get(f"{BACKTEST}/{session_id}/{what}")
        assert refused(answer, 409, "INVALID_STATE") == {"status": "running"}
    other = api.started()
    api.step(other, 2000)
    answer = client.get(f"{BACKTEST}/compare", params={"sessions": f"{other},{session_id}"})
    assert refused(answer, 409, "INVALID_STATE")["session_id"] == session_id


@pytest.mark.parametrize("steps", [1440, 1441, 10**9, 10**30, 10**400])
def test_steps_stop_at_the_end_and_not_beyond(api: Api, client: httpx.Client, steps: int) -> None:
    session_id = api.started()
    last = api.step(session_id, steps)
    assert (last["step"], last["is_complete"], last["remaining_steps"]) == (1440, True, 0)
    for what, body in (("step", None), ("step/batch", {"steps": 1}), ("cancel", None)):
        answer = client.post(f"{BACKTEST}/{session_id}/{what}", json=body)
        assert refused(answer, 409, "INVALID_STATE") == {"status": "completed"}
    assert api.order(session_id, expect=409)["code"] == "INVALID_STATE"
    assert api.read(session_id, "status")["status"] == "completed"


def test_a_session_may_end_at_the_last_completion(api: Api) -> None:
    latest = api.get("/api/v1/market/data-range")["latest"]
    assert latest == "2025-03-01T23:59:59Z"
    session_id = api.started("2025-03-01T00:00:00Z", "2025-03-02T00:00:00Z")
    last = api.step(session_id, 2000)
    assert (last["step"], last["virtual_time"]) == (1440, "2025-03-02T00:00:00Z")


def test_a_client_order_id_sent_again_places_nothing(api: Api) -> None:
    session_id = api.started()
    first = api.order(session_id, client_order_id="one")
    assert api.order(session_id, expect=200, client_order_id="one") == first
    other = api.order(session_id, expect=200, client_order_id="one", quantity=7, side="sell")
    assert other == first
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


# Calls at once, and clients that leave.


def at_once(calls: list[Callable[[], httpx.Response]]) -> list[httpx.Response]:
    """Make all calls at the same time."""
    barrier = threading.Barrier(len(calls))

    def make(call: Callable[[], httpx.Response]) -> httpx.Response:
        barrier.wait(10)
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(make, calls))


def test_calls_on_one_session_are_served_one_after_the_other(
    server: RunningServer, api: Api
) -> None:
    session_id = api.started("01-15", "01-20")
    path = f"{BACKTEST}/{session_id}"
    limit = ORDER | {"type": "limit", "price": "1000", "quantity": "0.001"}
    clients = [server.client() for _ in range(16)]

    def calls(client: httpx.Client, number: int) -> list[httpx.Response]:
        made = []
        for turn in range(6):
            if (number + turn) % 3 == 0:
                made.append(client.post(f"{path}/step/batch", json={"steps": 7}))
            elif (number + turn) % 3 == 1:
                made.append(client.post(f"{path}/trade/order", json=limit))
            else:
                made.append(client.post(f"{path}/step"))
        return made

    with ThreadPoolExecutor(len(clients)) as pool:
        answers = [each for made in pool.map(calls, clients, range(16)) for each in made]
    for client in clients:
        client.close()
    assert {answer.status_code for answer in answers} == {200, 201}
    steps = [answer.json()["step"] for answer in answers if answer.status_code == 200]
    orders = [answer.json() for answer in answers if answer.status_code == 201]
    assert len(steps) == len(set(steps)) == 64
    assert max(steps) == 32 * 7 + 32 == api.read(session_id, "status")["current_step"]
    assert sorted(order["order_id"] for order in orders) == list(range(1, 33))
    times = {order["order_id"]: order["created_at"] for order in orders}
    assert [times[each] for each in sorted(times)] == sorted(times.values())


def test_one_of_many_calls_makes_the_last_step(server: RunningServer, api: Api) -> None:
    session_id = api.started()
    path = f"{BACKTEST}/{session_id}/step/batch"
    clients = [server.client() for _ in range(8)]
    answers = at_once(
        [lambda each=each: each.post(path, json={"steps": 5000}) for each in clients]  # type: ignore[misc]
    )
    for client in clients:
        client.close()
    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 7
    assert api.read(session_id, "results")["status"] == "completed"


def test_started_many_times_at_once_it_starts_once(server: RunningServer, api: Api) -> None:
    session_id = api.create("01-15", "01-16")
    clients = [server.client() for _ in range(8)]
    answers = at_once(
        [lambda each=each: each.post(f"{BACKTEST}/{session_id}/start") for each in clients]  # type: ignore[misc]
    )
    for client in clients:
        client.close()
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.text for answer in answers}) == 1


def test_one_client_order_id_at_once_places_one_order(server: RunningServer, api: Api) -> None:
    session_id = api.started()
    path = f"{BACKTEST}/{session_id}/trade/order"
    body = ORDER | {"client_order_id": "same"}
    clients = [server.client() for _ in range(8)]
    answers = at_once([lambda each=each: each.post(path, json=body) for each in clients])  # type: ignore[misc]
    for client in clients:
        client.close()
    assert sorted(answer.status_code for answer in answers) == [200] * 7 + [201]
    assert api.read(session_id, "trade/orders")["total"] == 1


def test_a_client_that_leaves_leaves_a_whole_state(server: RunningServer, api: Api) -> None:
    """Of a command that was sent in part nothing is done; of one sent whole, all."""
    session_id = api.started()
    path = f"{BACKTEST}/{session_id}/trade/order"
    address = urlsplit(server.url)
    whole = request_bytes("POST", path, json.dumps(ORDER).encode())
    cuts = [10, len(whole) // 2, len(whole) - 1, len(whole)]
    for cut in cuts * 5:
        connection = socket.create_connection((address.hostname, address.port), 10)
        connection.sendall(whole[:cut])
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        connection.close()
    api.post(f"{BACKTEST}/{session_id}/cancel")  # What has not come by now comes too late.
    orders = api.read(session_id, "trade/orders")["orders"]
    assert len(orders) <= 5, "a reset may overtake what was sent"
    assert [order["id"] for order in orders] == list(range(1, len(orders) + 1))
    portfolio = api.read(session_id, "account/portfolio")
    paid = sum(
        round(Decimal(order["executed_price"]) * Decimal("0.01"), 8) + Decimal(order["fee"])
        for order in orders
    )
    assert Decimal(portfolio["available_cash"]) == 10000 - paid
    held = sum(Decimal(each["quantity"]) for each in portfolio["positions"])
    assert held == Decimal("0.01") * len(orders)


def test_a_client_that_leaves_at_the_end_finds_it_saved_or_not_come(
    server: RunningServer, api: Api
) -> None:
    address = urlsplit(server.url)
    for _ in range(5):
        session_id = api.started()
        data = request_bytes("POST", f"{BACKTEST}/{session_id}/step/batch", b'{"steps": 2000}')
        with closing(socket.create_connection((address.hostname, address.port), 10)) as connection:
            connection.sendall(data)
        again = api.client.post(f"{BACKTEST}/{session_id}/step/batch", json={"steps": 2000})
        assert again.status_code in (200, 409)
        assert api.read(session_id, "results")["status"] == "completed"


# Ends and beginnings of the server.

READS = (
    "status", "results", "results/trades", "results/equity-curve", "trade/orders",
    "trade/orders/open", "trade/history", "trade/order/2", "account/portfolio",
    "account/positions", "account/balance", "market/prices", "market/price/ETHUSDT",
    "market/ticker/BTCUSDT", "market/candles/BTCUSDT", "market/candles/ETHUSDT?interval=4h",
)  # fmt: skip


def played(api: Api, **config: Any) -> str:
    """A session with orders of every status, short of its end."""
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
    return {what: api.read(session_id, what) for what in READS}


def test_an_ended_session_answers_the_same_after_a_restart(tmp_path: Path) -> None:
    home = sample_home(tmp_path)
    with running(home) as server, server.client() as client:
        api = Api(client)
        ids = [played(api), played(api, liquidate_at_end=True), played(api)]
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
        assert api.order(ids[0], expect=200, client_order_id="first") == first
        assert api.order(ids[0], expect=409)["code"] == "INVALID_STATE"
        api.post(f"{BACKTEST}/{created}/start")
        assert api.step(created, 2000)["is_complete"]


def test_a_client_that_says_nothing_does_not_hold_up_the_end(tmp_path: Path) -> None:
    with running(sample_home(tmp_path)) as server, server.client() as client:
        api = Api(client)
        session_id = api.started()
        address = urlsplit(server.url)
        part = request_bytes("POST", f"{BACKTEST}/{session_id}/step/batch", b'{"steps": 5}')[:-3]
        with closing(socket.create_connection((address.hostname, address.port), 10)) as idle:
            idle.sendall(part)
            api.step(session_id)
            assert server.stop() == 0
    with running(tmp_path) as server, server.client() as client:
        status = Api(client).read(session_id, "status")
        assert (status["status"], status["current_step"]) == ("running", 1)


def test_progress_is_stored_every_500_steps(tmp_path: Path) -> None:
    """Whoever opens a copy of the store beside the server sees how far sessions are."""
    with running(sample_home(tmp_path)) as server, server.client() as client:
        api = Api(client)
        session_id = api.started()
        for _ in range(7):
            api.step(session_id, 100)
        for _ in range(5):
            api.create("01-15", "01-16")  # They are written after it.
        copy = tmp_path / "copy.duckdb"
        assert candlestep("data", "export", copy, "--home", tmp_path).code == 0
        with duckdb.connect(str(copy), read_only=True) as store:
            query = "SELECT current_step FROM sessions WHERE session_id = ?"
            [(step,)] = store.execute(query, [session_id]).fetchall()
        assert step >= 500


def limit_files(server: RunningServer, size: int) -> None:
    """Make every write of the server beyond ``size`` fail, as on a disk that is full."""
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


@pytest.mark.parametrize("end", ["step", "cancel"])
def test_an_end_that_cannot_be_saved_can_be_saved_again(tmp_path: Path, end: str) -> None:
    home = sample_home(tmp_path)
    with running(home) as server, server.client() as client:
        api = Api(client)
        session_id, twin = played(api), played(api)
        path = f"{BACKTEST}/{session_id}/{'step/batch' if end == 'step' else 'cancel'}"
        body = {"steps": 10_000} if end == "step" else None
        limit_files(server, 4096)
        while client.post(f"{BACKTEST}/{session_id}/step").is_success:
            pass  # There is some room in its journal.
        for _ in range(3):
            answer = client.post(path, json=body)
            refused(answer, 503, "STORAGE_UNAVAILABLE")
            assert int(answer.headers["retry-after"]) > 0
        for method, what in (("POST", "create"), ("GET", f"{session_id}/market/prices")):
            answer = client.request(method, f"{BACKTEST}/{what}", json=DAY)
            assert answer.status_code in (200, 503)
        refused_at = api.read(session_id, "status")["virtual_time"]
        limit_files(server, resource.RLIM_INFINITY)
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
            same = api.read(twin, "results")
            assert same["summary"] == before["results"]["summary"]
            assert same["metrics"] == before["results"]["metrics"]
    with running(home) as server, server.client() as client:
        assert everything(Api(client), session_id) == before


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


def test_a_second_server_on_the_home_is_refused(server: RunningServer, api: Api) -> None:
    second = subprocess.run(
        [sys.executable, "-m", "api.cli", "serve", "--home", str(server.home), "--port", "0"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (second.returncode, second.stdout) == (1, "")
    assert f"in use by process {server.process.pid}" in second.stderr
    assert "Traceback" not in second.stderr
    api.get("/health")
    assert json.loads((server.home / "server.json").read_text())["pid"] == server.process.pid


def test_a_port_that_is_taken_is_refused(server: RunningServer, tmp_path: Path) -> None:
    port = str(urlsplit(server.url).port)
    done = candlestep("serve", "--home", tmp_path, "--port", port)
    assert (done.code, done.out) == (1, "")
    assert "cannot listen" in done.err


def test_an_interrupted_server_ends_as_a_stopped_one(tmp_path: Path) -> None:
    server = RunningServer(sample_home(tmp_path))
    with server.client() as client:
        session_id = Api(client).started()
    server.process.send_signal(signal.SIGINT)
    assert server.stop() == 0
    log = (tmp_path / "server.log").read_text()
    assert all(json.loads(line) for line in log.splitlines()), "nothing is said but what is logged"
    assert not (tmp_path / "server.json").exists()
    assert (tmp_path / FILE_NAME).exists()
    with running(tmp_path) as again, again.client() as client:
        assert Api(client).read(session_id, "status")["status"] == "running"


def test_no_input_of_these_tests_was_a_fault_of_the_server(server: RunningServer) -> None:
    log = (server.home / "server.log").read_text()
    assert "request_failed" not in log
    assert "Traceback" not in log
    assert set(ERROR_KEYS) == {
        "success", "error", "code", "message", "details", "timestamp", "request_id",
    }  # fmt: skip


def test_a_session_that_cannot_be_stored_fails_and_says_why(tmp_path: Path) -> None:
    start = 1_704_067_200_000
    prices = [1e-14] * 20 + [1e16] * 100
    rows = [[start + i * 60_000, p, p, p, p, 1e9] for i, p in enumerate(prices)]
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


def test_a_call_during_the_start_is_not_told_that_the_session_has_failed(tmp_path: Path) -> None:
    with running(sample_home(tmp_path)) as server, server.client() as client:
        api = Api(client)
        with ThreadPoolExecutor(8) as threads:
            for _ in range(10):
                session_id = api.create("01-15", "01-16")
                path = f"{BACKTEST}/{session_id}"
                calls = [threads.submit(client.post, f"{path}/start")]
                calls += [threads.submit(client.post, f"{path}/step") for _ in range(7)]
                for answer in [call.result() for call in calls]:
                    assert (
                        answer.status_code == 200
                        or "not started" in answer.text
                        or ("at step" in answer.text)
                    ), answer.text


def test_a_change_of_one_limit_leaves_the_others(tmp_path: Path) -> None:
    with running(sample_home(tmp_path)) as server, server.client() as client:
        api = Api(client)
        limits = {"max_order_size_pct": "10.00", "daily_loss_limit_pct": "5.00"}
        made = api.post("/api/v1/agents", {"name": "a", "risk_profile": limits}, expect=201)
        path = f"/api/v1/agents/{made['agent_id']}"
        changed = client.patch(path, json={"risk_profile": {"max_order_size_pct": 20}}).json()
        assert changed["risk_profile"] == made["risk_profile"] | {"max_order_size_pct": "20.00"}
        lifted = client.patch(path, json={"risk_profile": {"daily_loss_limit_pct": None}}).json()
        assert lifted["risk_profile"] == changed["risk_profile"] | {"daily_loss_limit_pct": None}
