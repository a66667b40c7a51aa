"""Requests: paths, methods, bodies, and bytes of any kind."""

import json
import re
from contextlib import suppress

import httpx
import pytest

from candlestep.api.routes import ROUTES
from tests.support.api_client import (
    BACKTEST,
    JSON,
    ORDER,
    Api,
    check_error,
    refused,
)
from tests.support.raw_http import raw, request_bytes
from tests.support.server_process import RunningServer


@pytest.mark.parametrize(
    "path",
    ["/api", "/api/v1/backtest", "/api/v1/backtest/", "/api/v1/backtest/x", "/API/V1/agents",
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
        with suppress(httpx.WriteError):  # The server stops reading.
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


def test_deep_nesting_is_never_a_fault_of_the_server(client: httpx.Client, session_id: str) -> None:
    for depth in (*range(20, 1200, 20), *range(900, 1010)):
        content = json.dumps(ORDER | {"quantity": "?"}).encode()
        content = content.replace(b'"?"', b"[" * depth + b"]" * depth)
        path = f"{BACKTEST}/{session_id}/trade/order"
        answer = client.post(path, content=content, headers=JSON)
        assert answer.status_code in (400, 422), depth


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
    named = client.get("/nowhere", headers={"X-Request-Id": "mine-1"})
    assert named.headers["x-request-id"] == named.json()["request_id"] == "mine-1"
    for odd in ("", "a b", "x" * 65, "<script>"):
        answer = client.get("/nowhere", headers={"X-Request-Id": odd})
        assert answer.headers["x-request-id"].startswith("req_")


def test_an_error_is_an_object_where_clients_of_the_stepping_api_read_it(
    client: httpx.Client, session_id: str
) -> None:
    """Beside the same fields, flat; everywhere else it is the code alone."""
    as_objects = (
        f"{BACKTEST}/{session_id}/trade/order/99",
        f"{BACKTEST}/bt_unknown/status",
        "/api/v1/agents/unknown",
        "/api/v1/market/data-range?x=1",
    )
    as_texts = (
        f"{BACKTEST}/jobs/unknown",
        "/api/v2/backtest/runs/unknown",
        "/api/v1/backtests/unknown",
        "/api/v1/strategy/unknown",
        "/unknown",
    )
    for path in (*as_objects, *as_texts):
        error = check_error(client.get(path))
        as_object = {name: error[name] for name in ("code", "message", "details")}
        assert error["error"] == (as_object if path in as_objects else error["code"]), path


@pytest.mark.parametrize(
    ("path", "body", "says"),
    [
        (
            "trade/order",
            {"symbol": "BTCUSDT", "side": "buy", "amount": 1},
            "did you mean `quantity`",
        ),
        ("trade/order", {"symbol": "BTCUSDT", "side": "buy", "qauntity": 1}, "mean `quantity`?"),
        (
            "trade/order",
            {"symbol": "BTCUSDT", "side": "buy", "pirce": 1},
            "It may have symbol, side",
        ),
        ("step", {"steps": 5}, "did you mean `POST …/step/batch`, which takes it?"),
        ("step/batch", {"step": 5}, "did you mean `steps`? It may have steps, from_step"),
    ],
)
def test_a_foreign_field_gets_the_name_that_is_meant(
    client: httpx.Client, session_id: str, path: str, body: dict[str, object], says: str
) -> None:
    answer = client.post(f"{BACKTEST}/{session_id}/{path}", json=body)
    refused(answer, 422, "INVALID_PARAMETER")
    assert says in answer.json()["message"]


def test_an_order_may_leave_out_its_type_and_name_its_trigger_stop_price(api: Api) -> None:
    session_id = api.started()
    path = f"{BACKTEST}/{session_id}/trade/order"
    market = api.post(path, {"symbol": "BTCUSDT", "side": "buy", "quantity": "0.01"}, 201)
    assert (market["type"], market["status"]) == ("market", "filled")
    stop = {"symbol": "BTCUSDT", "side": "sell", "type": "stop_loss", "quantity": "0.01"}
    order = api.post(path, stop | {"stop_price": "5"}, 201)
    assert (order["trigger_price"], order["price"]) == ("5.00", None)
    order = api.post(path, stop | {"stop_price": None, "trigger_price": "5"}, 201)
    assert order["trigger_price"] == "5.00", "null is as good as left out"
    both = api.client.post(path, json=stop | {"stop_price": "5", "trigger_price": "5"})
    assert "another name of trigger_price" in both.json()["message"]
    refused(both, 422, "INVALID_PARAMETER")
