"""Access to a server: keys where there are any, and otherwise requests of this machine only."""

import json
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from candlestep.api.http.route import Route
from candlestep.api.views.html import static_name
from tests.support.api_client import (
    BACKTEST,
    DAY,
    UNKNOWN_SESSION,
    check_error,
    make_key,
    sample_home,
)
from tests.support.command_line import candlestep
from tests.support.patience import PATIENCE
from tests.support.route_cases import (
    ACCOUNT_ROUTES,
    ADMIN_KEY_ROUTES,
    ADMIN_ROUTES,
    OWNED_PARAMETERS,
    PUBLIC_ROUTES,
    SAMPLES,
    UNKNOWN_AGENT,
    UNKNOWN_ID,
    UNKNOWN_JOB,
    name_of,
)
from tests.support.server_process import RunningServer, running
from tests.support.two_accounts import TwoAccounts, serve_two_accounts


@pytest.fixture(scope="module")
def accounts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoAccounts]:
    with serve_two_accounts(tmp_path_factory.mktemp("accounts") / "home") as accounts:
        yield accounts


@pytest.mark.parametrize("route", [*ACCOUNT_ROUTES, *ADMIN_KEY_ROUTES], ids=name_of)
def test_no_route_is_open_without_a_key(accounts: TwoAccounts, route: Route) -> None:
    unknown = dict.fromkeys(OWNED_PARAMETERS, UNKNOWN_ID) | {
        "session_id": UNKNOWN_SESSION,
        "agent_id": UNKNOWN_AGENT,
        "job_id": UNKNOWN_JOB,
    }
    path = route.path.format(**SAMPLES, **unknown, import_id=UNKNOWN_ID)
    rejected_headers: list[dict[str, str]] = [
        {},
        {"X-API-Key": ""},
        {"X-API-Key": "ak_wrong"},
        {"X-API-Key": accounts.revoked_key},
        {"Authorization": f"Bearer {accounts.revoked_key}"},
        {"Authorization": "Bearer"},
        {"Authorization": "Basic YW5uOmFubg=="},
    ]
    with accounts.server.client() as client:
        for headers in rejected_headers:
            answer = client.request(route.method, path, headers=headers)
            assert answer.status_code == 401, headers
            assert check_error(answer)["code"] == "UNAUTHORIZED"


@pytest.mark.parametrize("route", ADMIN_KEY_ROUTES, ids=name_of)
def test_what_all_accounts_share_is_changed_by_admin_keys_only(
    accounts: TwoAccounts, route: Route
) -> None:
    path = route.path.format(**SAMPLES, import_id=UNKNOWN_ID)
    token = accounts.bob.post("/api/v1/auth/token")["access_token"]
    with accounts.server.client() as client:
        for headers in (accounts.bob.client.headers, {"Authorization": f"Bearer {token}"}):
            answer = client.request(route.method, path, headers=headers)
            assert answer.status_code == 403
            assert check_error(answer)["code"] == "FORBIDDEN"


@pytest.mark.parametrize("route", ADMIN_ROUTES, ids=name_of)
def test_operations_are_for_who_can_read_the_home(accounts: TwoAccounts, route: Route) -> None:
    for headers in ({}, {"X-Candlestep-Token": ""}, {"X-Candlestep-Token": "wrong"}):
        answer = accounts.ann.client.request(route.method, route.path, headers=headers, json={})
        assert answer.status_code == 401
        assert check_error(answer)["code"] == "UNAUTHORIZED"


@pytest.mark.parametrize(
    "route", [route for route in PUBLIC_ROUTES if route.method == "GET"], ids=name_of
)
def test_what_is_public_needs_no_key(accounts: TwoAccounts, route: Route) -> None:
    file = static_name("pages.css") if route.path.startswith("/static") else "initializer.js"
    with accounts.server.client() as client:
        assert client.get(route.path.format(file=file)).status_code == 200


def test_a_key_may_be_sent_in_two_ways(accounts: TwoAccounts) -> None:
    key = accounts.ann.client.headers["X-API-Key"]
    for headers in (
        {"X-API-Key": key},
        {"Authorization": f"Bearer {key}"},
        {"Authorization": f"bearer {key}", "X-API-Key": ""},
        {"X-API-Key": key, "Authorization": ""},
        {"X-API-Key": key, "Authorization": "Bearer"},
    ):
        with accounts.server.client() as client:
            assert client.get("/api/v1/agents", headers=headers).status_code == 200


def test_a_key_that_is_revoked_is_refused_from_then_on(tmp_path: Path) -> None:
    home = sample_home(tmp_path / "home")
    with running(home) as server:
        with server.client() as client:
            assert client.get("/api/v1/agents").status_code == 200
        created = candlestep("keys", "create", "one", "--home", home)
        assert (created.code, created.err) == (0, "")
        (key,) = [word for word in created.out.split() if word.startswith("ak_")]
        with server.client(key) as client, server.client() as nobody:
            assert client.get("/api/v1/agents").status_code == 200
            assert nobody.get("/api/v1/agents").status_code == 401
            (listed,) = json.loads(candlestep("keys", "list", "--json", "--home", home).out)
            assert candlestep("keys", "revoke", listed["key_id"], "--home", home).code == 0
            assert client.get("/api/v1/agents").status_code == 401
            assert nobody.get("/api/v1/agents").status_code == 401


# Without keys, a server answers this machine only.


@pytest.fixture(scope="module")
def open_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running(sample_home(tmp_path_factory.mktemp("open") / "home")) as server:
        yield server


def test_without_keys_any_key_is_ignored(open_server: RunningServer) -> None:
    for headers in ({}, {"X-API-Key": "ak_live_..."}, {"Authorization": "Bearer x"}):
        with open_server.client() as client:
            assert client.get("/api/v1/agents", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST", "localhost:1", "127.0.0.1", "127.0.0.2:8000", "[::1]:8000"]
)
def test_without_keys_names_of_this_machine_are_answered(
    open_server: RunningServer, host: str
) -> None:
    with open_server.client() as client:
        assert client.get("/api/v1/agents", headers={"Host": host}).status_code == 200
        same_origin = {"Host": host, "Origin": f"http://{host}"}
        assert client.get("/api/v1/agents", headers=same_origin).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "192.168.0.1:8000",
        "0.0.0.0", "[::]", "[2001:db8::1]", "localhost@evil.example", "evil.example#localhost",
        "[", "]", "[::1", "[x]", "[v1.localhost]", ":", ":8000", "a:b:c", "-", "xn--localhost-",
    ],
)  # fmt: skip
def test_without_keys_other_names_are_refused(open_server: RunningServer, host: str) -> None:
    for route in ("/api/v1/agents", "/health", "/docs"):
        with open_server.client() as client:
            answer = client.get(route, headers={"Host": host})
            assert answer.status_code == 403
            assert check_error(answer)["code"] == "FORBIDDEN"


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "https://localhost.evil.example", "null", "", "http://127.0.0.1"],
)
def test_without_keys_web_pages_are_refused(open_server: RunningServer, origin: str) -> None:
    with open_server.client() as client:
        answer = client.post(f"{BACKTEST}/create", json=DAY, headers={"Origin": origin})
        assert answer.status_code == 403
        assert check_error(answer)["code"] == "FORBIDDEN"


def test_a_request_without_a_host_is_refused(open_server: RunningServer) -> None:
    address = urlsplit(open_server.url)
    with closing(
        socket.create_connection((address.hostname, address.port), PATIENCE)
    ) as connection:
        connection.sendall(b"GET /api/v1/agents HTTP/1.0\r\n\r\n")
        assert connection.recv(1000).split()[1] == b"403"


def test_other_addresses_need_a_key(tmp_path: Path) -> None:
    refused = candlestep("serve", "--host", "0.0.0.0", "--port", "0", "--home", tmp_path)
    assert refused.code == 1
    assert "there is no API key" in refused.err
    make_key(tmp_path, "ann")
    with running(tmp_path, "--host", "0.0.0.0") as server:
        port = urlsplit(server.url).port
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            assert client.get("/api/v1/agents").status_code == 401
            assert client.get("/health", headers={"Host": "evil.example"}).status_code == 200
