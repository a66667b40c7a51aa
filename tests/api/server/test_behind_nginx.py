"""Two servers, each with a home and an account, behind one address: a real nginx tells them apart."""

import base64
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import expect

from tests.support.api_client import BACKTEST, Api, sample_home, wait_for
from tests.support.binance import Binance, checked
from tests.support.browser import WatchedPage, chromium
from tests.support.command_line import candlestep
from tests.support.nginx import EXAMPLE, nginx
from tests.support.patience import PATIENCE
from tests.support.ports import reserved_port
from tests.support.server_process import RunningServer

TOKEN = "/api/v1/auth/token"
PROXY = ("--trusted-proxies", "127.0.0.1")


class Team(NamedTuple):
    """Two servers behind one address, and a key of each account."""

    url: str
    homes: dict[str, Path]
    servers: dict[str, RunningServer]
    keys: dict[str, str]

    def api(self, name: str, prefix: str = "") -> Api:
        """Return a client that sends the key of a server's account to the address of both."""
        headers = {"X-API-Key": self.keys[name]}
        return Api(client_of(self.url + prefix, headers))


def client_of(url: str, headers: dict[str, str] | None = None) -> httpx.Client:
    return httpx.Client(base_url=url, headers=headers, trust_env=False, timeout=PATIENCE)


def new_key(home: Path, name: str, account: str) -> str:
    done = candlestep(
        "keys", "create", "x", "--account", account, "--server-name", name, "--home", home
    )
    assert done.code == 0, done.err
    return done.out.split()[1]


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    directory = tmp_path_factory.mktemp("team")
    homes = {name: sample_home(directory / name) for name in ("a", "b")}
    accounts = {"a": "ann", "b": "bob"}
    keys = {name: new_key(homes[name], name, accounts[name]) for name in homes}
    with ExitStack() as stack:
        servers: dict[str, RunningServer] = {}
        stack.callback(lambda: [server.stop() for server in servers.values()])
        for name, home in homes.items():
            port = str(stack.enter_context(reserved_port()))
            servers[name] = RunningServer(home, *PROXY, "--port", port)
        addresses = {name: server.url.removeprefix("http://") for name, server in servers.items()}
        url = stack.enter_context(nginx(directory, addresses))
        yield Team(url, homes, servers, keys)


def test_the_key_decides_which_server_answers(team: Team) -> None:
    for name, account in {"a": "ann", "b": "bob"}.items():
        assert team.keys[name].startswith(f"ak_{name}_")
        api = team.api(name)
        session_id = api.started()
        assert session_id.startswith(f"bt_{name}_")
        assert api.read(session_id, "status")["status"] == "running"
        fork = api.post(f"{BACKTEST}/{session_id}/fork", {"count": 1}, 201)
        assert fork["forks"][0]["session_id"].startswith(f"bt_{name}_")
        listed = api.get(f"{BACKTEST}/list")["backtests"]
        assert {session["session_id"] for session in listed} >= {session_id}
        log = (team.homes[name] / "server.log").read_text()
        assert f'"account": "{account}"' in log
    assert '"account": "ann"' not in (team.homes["b"] / "server.log").read_text()


def test_a_token_and_a_bearer_key_go_to_the_server_of_their_account(team: Team) -> None:
    for name in team.keys:
        api = team.api(name)
        session_id = api.started()
        token = api.post(TOKEN)["access_token"]
        for proof in (token, team.keys[name]):
            bearer = client_of(team.url, {"Authorization": f"Bearer {proof}"})
            assert Api(bearer).read(session_id, "status")["session_id"] == session_id
        head = base64.urlsafe_b64decode(token.split(".")[0] + "==")
        assert head == b'{"alg":"HS256","kid":"%b","typ":"JWT"}' % name.encode()
        assert (token.split(".")[0] in EXAMPLE.read_text()) == (name == "b")


def test_a_prefix_changes_nothing(team: Team) -> None:
    api = team.api("b", "/candlestep")
    session_id = api.started()
    assert api.step(session_id, 3)["step"] == 3
    page = api.client.get("/docs")
    assert (page.status_code, "docs/static/" in page.text) == (200, True)
    assert api.client.get("/docs/static/initializer.js").status_code == 200
    assert api.client.get("/openapi.json").status_code == 200


@pytest.mark.parametrize("prefix", ["", "/candlestep"])
def test_a_bot_reaches_the_server_of_its_session(team: Team, prefix: str) -> None:
    """It sends the key of its session alone, to the address that it was told."""
    for name in team.keys:
        api = team.api(name, prefix)
        api.client.headers.update({"X-Forwarded-Proto": "https", "X-Forwarded-Prefix": "/forged"})
        session_id = api.started()
        binance = Binance(api, session_id)
        base = f"{team.url}{prefix}/binance/{session_id}"
        assert binance.opened["base_url"] == base
        bot = client_of(base, binance.headers)
        order = {"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET", "quantity": "0.01"}
        placed = checked(bot.post("/api/v3/order", content=binance.signed_text(order)), 200)
        assert placed["status"] == "FILLED"
        control = client_of(binance.opened["control_url"], binance.headers)
        stepped = checked(control.post("/step", content=binance.signed_text({"n": 5})), 200)
        assert stepped["step"] == 5


def test_operations_are_tried_out_under_the_prefix(team: Team) -> None:
    """An address that is shared with others may have something else at its root."""
    requested: list[str] = []
    with chromium() as browser, browser.new_page() as page:
        page.on("request", lambda request: requested.append(urlsplit(request.url).path))
        docs = WatchedPage(page, f"{team.url}/candlestep/docs")
        block = page.locator(".opblock-get").filter(has=page.locator('[data-path="/health"]'))
        block.locator(".opblock-summary-control").click()
        block.get_by_role("button", name="Try it out").click()
        block.get_by_role("button", name="Execute").click()
        status = block.locator(".live-responses-table .response-col_status").last
        expect(status).to_contain_text("200")
        assert docs.problems == []
    assert "/candlestep/health" in requested
    assert all(path.startswith("/candlestep/") for path in requested)


def test_everyone_signs_in_at_the_one_address(team: Team) -> None:
    session_id = team.api("b").started()
    with chromium() as browser, browser.new_page() as page:
        page.goto(f"{team.url}/login")
        page.get_by_label("API key").fill(team.keys["b"])
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("heading", name="This server")).to_be_visible()
        page.goto(f"{team.url}/sessions/{session_id}")
        expect(page.locator("#head")).to_contain_text("step 0 of 1,440")
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_the_client_is_the_one_before_nginx_whatever_it_says(team: Team) -> None:
    client = team.api("a").client
    client.headers.update({"X-Forwarded-For": "203.0.113.7", "X-Request-Id": "forged"})
    assert client.get(f"{BACKTEST}/nothing/nothing").status_code == 404
    log = (team.homes["a"] / "server.log").read_text().splitlines()
    (line,) = (line for line in log if "forged" in line)
    assert '"client": "127.0.0.1"' in line


def test_each_server_is_watched_by_its_name_and_its_command_line_is_not_reachable(
    team: Team,
) -> None:
    session_id = team.api("b").started()
    opened = {name: read_health(team, name)["open_sessions"] for name in team.keys}
    assert session_id
    assert opened["b"] >= 1
    anyone = client_of(team.url)
    metrics = anyone.get("/b/metrics")
    assert "candlestep_open_sessions" in metrics.text
    for path in ("/admin/keys/list", "/candlestep/admin/keys/list"):
        assert anyone.post(path).status_code == 404
    for path in ("/metrics", "/candlestep/metrics"):
        assert anyone.get(path).status_code == 404


def read_health(team: Team, name: str) -> Any:
    answer = client_of(team.url).get(f"/{name}/health")
    return answer.json() if answer.is_success else None


def test_a_server_that_is_killed_does_not_touch_the_other_and_comes_back(team: Team) -> None:
    ann, bob = team.api("a"), team.api("b")
    hers, his = ann.started(), bob.started()
    ann.step(hers, 5)
    bob.step(his, 7)
    port = team.servers["b"].url.rpartition(":")[2]
    team.servers["b"].kill()
    assert bob.client.post(f"{BACKTEST}/{his}/step").status_code == 502
    assert ann.step(hers, 5)["step"] == 10
    assert read_health(team, "b") is None
    assert read_health(team, "a")["status"] == "ok"
    team.servers["b"] = RunningServer(team.homes["b"], *PROXY, "--port", port)
    wait_for(lambda: read_health(team, "b"), lambda health: health is not None)
    assert bob.step(his, 3)["step"] == 10
    assert ann.step(hers, 1)["step"] == 11


def test_a_home_keeps_the_name_of_its_server(team: Team) -> None:
    done = candlestep("keys", "create", "y", "--server-name", "c", "--home", team.homes["a"])
    assert done.code == 1
    assert "named a" in done.err
    assert (
        candlestep("keys", "create", "y", "--home", team.homes["a"]).out.split()[1][:5] == "ak_a_"
    )
