"""Web pages of other origins: refused, unless the settings name them."""

from pathlib import Path

import httpx

from tests.support.api_client import BACKTEST, make_key, refused, sample_home
from tests.support.command_line import candlestep
from tests.support.server_process import running

APP, OTHER = "https://app.example.org", "https://other.example.org"
LIST = f"{BACKTEST}/list"


def preflight(client: httpx.Client, origin: str) -> httpx.Response:
    """Ask as a browser does before a page of an origin may create a session."""
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type,x-api-key",
    }
    return client.options(f"{BACKTEST}/create", headers=asked)


def test_a_page_of_a_named_origin_may_read_every_answer(tmp_path: Path) -> None:
    home = sample_home(tmp_path / "home")
    key = make_key(home, "ann")
    with running(home, "--allow-origin", APP) as server, server.client() as client:
        allowed = preflight(client, APP)
        assert (allowed.status_code, allowed.content) == (204, b"")
        assert "POST" in allowed.headers["access-control-allow-methods"]
        assert allowed.headers["access-control-allow-headers"] == "content-type,x-api-key"
        read = client.get(LIST, headers={"Origin": APP, "X-API-Key": key})
        failed = client.get(LIST, headers={"Origin": APP})
        missing = client.get("/nothing", headers={"Origin": APP})
        assert [answer.status_code for answer in (read, failed, missing)] == [200, 401, 404]
        for answer in (allowed, read, failed, missing):
            assert answer.headers["access-control-allow-origin"] == APP
            assert answer.headers["vary"] == "origin"


def test_no_other_origin_is_permitted(tmp_path: Path) -> None:
    home = sample_home(tmp_path / "home")
    key = make_key(home, "ann")
    with running(home, "--allow-origin", APP) as server, server.client(key) as client:
        assert preflight(client, OTHER).status_code == 405
        for headers in ({"Origin": OTHER}, {"Origin": "null"}, {"Origin": APP + ".evil.org"}, {}):
            answer = client.get(LIST, headers=headers)
            assert not [name for name in answer.headers if name.startswith("access-control")]


def test_without_keys_only_named_origins_are_answered(tmp_path: Path) -> None:
    home = sample_home(tmp_path / "home")
    with running(home, "--allow-origin", APP) as server, server.client() as client:
        assert client.get(LIST, headers={"Origin": APP}).status_code == 200
        refused(client.get(LIST, headers={"Origin": OTHER}), 403, "FORBIDDEN")


def test_a_server_without_keys_is_not_put_behind_a_proxy(tmp_path: Path) -> None:
    done = candlestep("serve", "--home", tmp_path, "--port", 0, "--trusted-proxies", "127.0.0.1")
    assert done.code == 1
    assert "through its proxies" in done.err
