"""The log: a line for each request that changed something or failed, and who sent it."""

import json
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from candlestep.api.server.proxies import TrustedProxies
from tests.support.api_client import BACKTEST, Api, make_key, sample_home
from tests.support.binance import Binance
from tests.support.server_process import running

FORWARDED = {"X-Forwarded-For": "198.51.100.9, 203.0.113.7", "X-Request-Id": "mine"}


def lines(home: Path) -> list[dict[str, Any]]:
    """Return the lines about requests."""
    events = map(json.loads, (home / "server.log").read_text().splitlines())
    return [event for event in events if event["event"] == "request"]


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Return the log of a session that goes through a proxy that is trusted."""
    home = sample_home(tmp_path_factory.mktemp("logs") / "home")
    key = make_key(home, "ann")
    with (
        running(home, "--trusted-proxies", "127.0.0.1") as server,
        server.client(key) as client,
    ):
        client.headers.update(FORWARDED)
        api = Api(client)
        session_id = api.started()
        api.step(session_id, 5)
        client.post(f"{BACKTEST}/{session_id}/step")
        api.order(session_id)
        api.order(session_id, expect=422, quantity="-1")
        api.read(session_id, "status")
        api.get("/api/v1/nothing", expect=404)
        client.headers["X-API-Key"] = "ak_wrong"
        api.get("/api/v1/agents", expect=401)
    return lines(home)


def test_what_changed_something_or_failed_is_logged(logged: list[dict[str, Any]]) -> None:
    """Steps that succeed are counted only, and so are reads."""
    found = [(line["method"], line["path"].rsplit("/", 1)[1], line["status"]) for line in logged]
    assert found == [
        ("POST", "create", 200),
        ("POST", "start", 200),
        ("POST", "order", 201),
        ("POST", "order", 422),
        ("GET", "nothing", 404),
        ("GET", "agents", 401),
    ]


def test_a_line_says_who_sent_the_request(logged: list[dict[str, Any]]) -> None:
    created, *_, unknown, wrong = logged
    assert (created["account"], created["client"]) == ("ann", "203.0.113.7")
    assert created["key_id"].startswith("key_")
    assert {line["request_id"] for line in logged} == {"mine"}
    assert [line["code"] for line in logged[-3:]] == [
        "INVALID_PARAMETER",
        "NOT_FOUND",
        "UNAUTHORIZED",
    ]
    for line in (unknown, wrong):
        assert (line["account"], line["key_id"], line["client"]) == (None, None, "203.0.113.7")
    assert "ak_wrong" not in json.dumps(logged)


def test_a_line_about_a_bot_says_whose_session_it_trades(tmp_path: Path) -> None:
    home = sample_home(tmp_path)
    key = make_key(home, "ann")
    with running(home) as server, server.client(key) as client:
        api = Api(client)
        binance = Binance(api, api.started())
        binance.get("api/v3/time")
        binance.order()
        binance.signed("POST", "control/step", n=5)
        binance.order(400, quantity="1000")
        binance.opened["api_secret"] = "guessed"
        binance.order(400)
        client.get("/docs/static/nothing")
    found = [
        (line["path"].rsplit("/", 1)[1], line["status"], line["code"], line["account"])
        for line in lines(home)[-4:]
    ]
    assert found == [
        ("order", 200, None, "ann"),
        ("order", 400, "-2010", "ann"),
        ("order", 400, "-1022", None),
        ("nothing", 404, "NOT_FOUND", None),
    ]


def test_forwarded_headers_of_others_do_not_change_an_address(tmp_path: Path) -> None:
    forwarded = {"X-Forwarded-Proto": "https", "X-Forwarded-Prefix": "/under"}
    home = sample_home(tmp_path)
    key = make_key(home, "ann")
    for options, is_believed in ((("--trusted-proxies", "127.0.0.1"), True), ((), False)):
        with running(home, *options) as server, server.client(key) as client:
            api = Api(client)
            session_id = api.started()
            client.headers.update(forwarded)
            base = Binance(api, session_id).opened["base_url"]
            address = f"{server.url.replace('http', 'https')}/under" if is_believed else server.url
            assert base == f"{address}/binance/{session_id}"
            client.headers["X-Forwarded-Prefix"] = "/a b"
            if is_believed:
                path = f"{BACKTEST}/{session_id}/dialect"
                assert "X-Forwarded-Prefix" in api.post(path, expect=422)["message"]


@pytest.mark.parametrize(
    ("peer", "header", "expected"),
    [
        ("10.0.0.1", None, "10.0.0.1"),
        ("10.0.0.1", "203.0.113.7", "203.0.113.7"),
        ("10.0.0.1", "198.51.100.9, 203.0.113.7", "203.0.113.7"),
        ("10.0.0.1", "203.0.113.7, 10.0.0.2", "203.0.113.7"),
        ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("10.0.0.1", "somewhere", "10.0.0.1"),
        ("10.0.0.1", "203.0.113.7, unknown, 10.0.0.2", "10.0.0.2"),
        ("10.0.0.1", "2001:db8::1", "2001:db8::1"),
        ("192.0.2.1", "203.0.113.7", "192.0.2.1"),
    ],
)
def test_only_named_proxies_are_believed(peer: str, header: str | None, expected: str) -> None:
    proxies = TrustedProxies([ip_network("10.0.0.0/8")])
    headers = [] if header is None else [(b"x-forwarded-for", header.encode())]
    assert proxies.client_address((peer, 1), headers) == expected
    assert proxies.client_address((f"::ffff:{peer}", 1), headers) == expected
    assert TrustedProxies([]).client_address((peer, 1), headers) == peer
    assert proxies.client_address(None, headers) is None
