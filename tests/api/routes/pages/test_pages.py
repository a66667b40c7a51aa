"""The pages over HTTP: what they show, who may see them, and the files that they load."""

import csv
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from html import unescape
from pathlib import Path
from typing import Any

import duckdb
import httpx
import pytest

from candlestep.api.views.html import static_name
from candlestep.sandbox import parse_time
from tests.support.api_client import BACKTEST, UNKNOWN_SESSION, Api, refused, sample_home
from tests.support.backtests import BACKTESTS, CONFIG, CROSS, create, keep, task_ended
from tests.support.server_process import running
from tests.support.traded_sessions import traded
from tests.support.two_accounts import TwoAccounts, serve_two_accounts

EVIL = '<img src=x onerror="alert(1)">'


@pytest.fixture(scope="module")
def ended(api: Api) -> str:
    session_id = traded(api, strategy_label=EVIL)
    api.step(session_id, 10_000)
    return session_id


def rows_of(page: str, table: str) -> list[list[str]]:
    """Return the texts of a table's rows."""
    match = re.search(rf'<section id="{table}".*?</section>', page, re.DOTALL)
    assert match is not None
    body = match[0].partition("<tbody>")[2]
    return [
        [unescape(cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", row, re.DOTALL)]
        for row in re.findall(r"<tr.*?</tr>", body, re.DOTALL)
    ]


def page_of(client: httpx.Client, path: str, status: int = 200) -> str:
    answer = client.get(path)
    assert answer.status_code == status, answer.text[:500]
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "script-src" not in policy
    assert answer.headers["cache-control"] == "no-store"
    return answer.text


def test_tables_have_the_texts_of_the_api(client: httpx.Client, api: Api, ended: str) -> None:
    page = page_of(client, f"/sessions/{ended}")
    trades = api.read(ended, "trade/history")["trades"]
    names = ("id", "simulated_at", "symbol", "side", "type", "quantity", "price", "quote_amount",
             "fee", "slippage_pct", "realized_pnl", "order_id")  # fmt: skip
    assert rows_of(page, "trades") == [
        ["–" if trade[name] is None else str(trade[name]) for name in names] for trade in trades
    ]
    orders = api.read(ended, "trade/orders")["orders"]
    shown = rows_of(page, "orders")
    assert [row[0] for row in shown] == [str(order["id"]) for order in orders]
    assert [row[8] for row in shown] == [order["status"] for order in orders]
    assert [row[7] for row in shown] == [order["trigger_price"] or "–" for order in orders]
    (pair,) = api.read(ended, "results")["by_pair"]
    assert rows_of(page, "pairs")[0][:2] == [pair["symbol"], str(pair["trades"])]
    assert rows_of(page, "pairs")[0][3] == pair["net_pnl"]


def test_numbers_of_a_column_line_up_at_their_points(client: httpx.Client, ended: str) -> None:
    page = page_of(client, f"/sessions/{ended}")
    trades = page.partition('<section id="trades"')[2].partition("</section>")[0]
    cells = re.findall(r'<td class="number"(?: data-blank="([.0]+)")?>([^<]*)</td>', trades)
    assert any(blank for blank, _ in cells)
    columns = len(cells) // trades.count("<tr ")
    for place in range(columns):
        padded = [text + blank for blank, text in cells[place::columns]]
        assert len({len(text.partition(".")[2]) for text in padded}) == 1


def test_a_perpetual_session_shows_its_funding_and_leads_to_it(
    client: httpx.Client, api: Api
) -> None:
    perpetual = "SOLUSDT-PERP"
    session_id = api.started("01-10", "01-12", pairs=[perpetual], market_type="perp", leverage=5)
    api.order(session_id, symbol=perpetual, quantity="10")
    api.step(session_id, 10_000)
    page = page_of(client, f"/sessions/{session_id}")
    rows = rows_of(page, "funding")
    assert rows[0][0] == "2025-01-10T08:00:00Z", "the time comes first"
    funding = page.partition('<section id="funding"')[2]
    start, end = re.findall(r'data-from="(\d+)" data-to="(\d+)"', funding)[0]
    assert int(start) < parse_time(rows[0][0]) < int(end)
    total = sum(Decimal(row[-1]) for row in rows)
    shown = re.search(r"<dt>Funding</dt><dd[^>]*>([^<]*)</dd>", page)
    assert shown is not None
    assert shown[1] == f"{total:,.2f}"


def test_a_table_has_100_rows_a_page(client: httpx.Client, api: Api) -> None:
    session_id = api.started("01-15", "01-16")
    for number in range(130):
        api.order(session_id, side="sell" if number % 2 else "buy", quantity="0.001")
    page = page_of(client, f"/sessions/{session_id}")
    assert [row[0] for row in rows_of(page, "trades")] == [str(n) for n in range(1, 101)]
    second = page_of(client, f"/sessions/{session_id}?trades=2")
    assert [row[0] for row in rows_of(second, "trades")] == [str(n) for n in range(101, 131)]
    page_of(client, f"/sessions/{session_id}?trades=0", 422)


@pytest.mark.parametrize("state", ["created", "running", "cancelled"])
def test_a_session_in_any_state_has_a_page(client: httpx.Client, api: Api, state: str) -> None:
    session_id = api.create("01-15", "01-16") if state == "created" else api.started()
    if state == "cancelled":
        api.post(f"{BACKTEST}/{session_id}/cancel")
    page = page_of(client, f"/sessions/{session_id}")
    assert f'<span class="badge {state}">' in page
    assert ("data-follow=" in page) == (state == "running")


def test_a_label_is_text_everywhere(client: httpx.Client, ended: str) -> None:
    for path in ("/", f"/sessions/{ended}", f"/sessions/{ended}/file", f"/compare?ids={ended},x"):
        text = client.get(path).text
        assert "<img src=x" not in text
    assert "&lt;img src=x onerror=" in client.get("/").text


def test_the_first_page_lists_filters_and_sorts(client: httpx.Client, api: Api) -> None:
    label = "filter-me"
    first = api.started(strategy_label=f"{label}-a")
    second = api.started(strategy_label=f"{label}-b")
    page = page_of(client, f"/?strategy_label={label}&sort_by=strategy_label&order=asc")
    assert re.findall(r'href="/sessions/([^"]+)"', page) == [first, second]
    page = page_of(client, f"/?strategy_label={label}&sort_by=strategy_label&status=")
    assert re.findall(r'href="/sessions/([^"]+)"', page) == [second, first]
    assert "No session passes this filter" in page_of(client, "/?strategy_label=none-such")
    page_of(client, "/?sort_by=profit", 422)


def test_an_empty_server_says_what_to_do(tmp_path: Path) -> None:
    with running(tmp_path / "home") as server, server.client() as client:
        for path in ("/", "/data"):
            page = page_of(client, path)
            assert "candlestep data sample" in page
            assert "candlestep data import" in page
        assert "No session yet" in page_of(client, "/")


def test_unknown_things_have_a_page_that_says_so(client: httpx.Client) -> None:
    for path in (
        f"/sessions/{UNKNOWN_SESSION}", "/jobs/x", "/backtests/x", "/runs/x", "/sweeps/x",
        f"/sessions/{UNKNOWN_SESSION}/file", f"/sessions/{UNKNOWN_SESSION}/trades.csv",
    ):  # fmt: skip
        assert "Not found" in page_of(client, path, 404)


def test_data_shows_symbols_gaps_and_imports(client: httpx.Client) -> None:
    page = page_of(client, "/data")
    assert "BTCUSDT" in page
    assert 'title="2025-01: 100.00 %"' in page
    assert "2025-02: 100.00 %" in page
    assert rows_of(page, "gaps") == [] or "No gap" in page
    assert [(row[2], row[4], row[5]) for row in rows_of(page, "imports")] == [
        ("SOLUSDT-PERP", "funding", ""),
        ("SOLUSDT-PERP", "mark", "5m"),
        ("SOLUSDT-PERP", "candles", "5m"),
        ("ETHUSDT", "candles", "1m"),
        ("BTCUSDT", "candles", "1m"),
    ]


# Runs and sweeps


@pytest.fixture(scope="module")
def sweep(api: Api) -> dict[str, Any]:
    """Return a sweep that has ended."""
    body = {
        "strategy_id": keep(api, CROSS),
        "base_config": CONFIG,
        "param_grid": [{"fast": fast, "slow": slow} for fast in (5, 10) for slow in (50, 100)],
    }
    task_id = api.post(f"{BACKTESTS}/sweep", body)["task_id"]
    ended: dict[str, Any] = task_ended(api, task_id)
    return ended


def test_a_sweep_is_a_heatmap_and_a_leaderboard(
    client: httpx.Client, sweep: dict[str, Any]
) -> None:
    board = sweep["result"]["leaderboard"]
    path = f"/sweeps/{sweep['task_id']}"
    page = page_of(client, path)
    assert "Deflated Sharpe ratio" in page
    ids = re.findall(r'href="/backtests/([^"]+)"', page)
    assert sorted(ids) == sorted(run["backtest_id"] for run in board)
    assert ids[0] == board[0]["backtest_id"]
    (heat,) = client.get(f"{path}/figure.json?x=fast&y=slow&metric=sharpe_ratio").json()["data"]
    assert (heat["x"], heat["y"]) == (["5", "10"], ["50", "100"])
    for run in board:
        row = heat["y"].index(str(run["overrides"]["slow"]))
        column = heat["x"].index(str(run["overrides"]["fast"]))
        assert heat["z"][row][column] == run["score"]
        assert heat["customdata"][row][column] == run["backtest_id"]
    page_of(client, f"{path}?metric=profit", 422)
    page_of(client, f"{path}?x=profit", 422)


def test_a_backtest_is_shown_from_what_is_stored(client: httpx.Client, api: Api) -> None:
    backtest_id = create(api, keep(api, CROSS))
    assert "has not been executed" in page_of(client, f"/backtests/{backtest_id}", 409)
    api.post(f"{BACKTESTS}/{backtest_id}/execute")
    page = page_of(client, f"/backtests/{backtest_id}")
    trades = api.get(f"{BACKTESTS}/{backtest_id}/trades")
    shown = rows_of(page, "trades")
    assert [float(row[8]) for row in shown] == [trade["pnl"] for trade in trades]
    chart = client.get(f"/backtests/{backtest_id}/figure.json").json()
    names = [trace["name"] for trace in chart["data"]]
    assert names[0] == "BTCUSDT"
    assert "exposure" not in names
    sells = next(trace for trace in chart["data"] if trace["name"] == "sells")
    assert len(sells["x"]) == len(trades)


def test_things_of_all_kinds_are_compared(
    client: httpx.Client, api: Api, ended: str, sweep: dict[str, Any]
) -> None:
    backtest_id = sweep["result"]["leaderboard"][0]["backtest_id"]
    page = page_of(client, f"/compare?ids={ended},{backtest_id},none-such")
    assert "There is nothing with the id none-such." in page
    assert page.count('aria-label="the better one"') > 3
    chart = client.get(f"/compare/figure.json?ids={ended},{backtest_id}").json()
    starts = [trace["y"][0] for trace in chart["data"] if trace.get("yaxis") != "y2"]
    assert starts == [100.0, 100.0]
    page_of(client, "/compare?ids=" + ",".join("abcdefghijk"), 422)


# Files


def test_a_session_is_downloaded_as_one_file(client: httpx.Client, ended: str) -> None:
    answer = client.get(f"/sessions/{ended}/file")
    assert answer.headers["content-disposition"].startswith("attachment")
    assert "<script src=" not in answer.text
    assert '<link rel="stylesheet"' not in answer.text
    assert "Plotly" in answer.text


def test_trades_and_equity_are_downloaded(
    client: httpx.Client, api: Api, ended: str, tmp_path: Path
) -> None:
    trades = api.read(ended, "trade/history")["trades"]
    rows = list(csv.DictReader(io.StringIO(client.get(f"/sessions/{ended}/trades.csv").text)))
    assert rows == [
        {name: "" if value is None else str(value) for name, value in trade.items()}
        for trade in trades
    ]
    snapshots = api.read(ended, "results/equity-curve")["snapshots"]
    for name, expected, column in (
        ("trades", trades, "price"),
        ("equity", snapshots, "total_equity"),
    ):
        path = tmp_path / f"{name}.parquet"
        path.write_bytes(client.get(f"/sessions/{ended}/{name}.parquet").content)
        with duckdb.connect() as database:
            query = f"SELECT {column}::VARCHAR FROM '{path}'"
            found = database.execute(query).fetchall()
        assert [float(text) for (text,) in found] == [float(row[column]) for row in expected]
    page_of(client, f"/sessions/{ended}/other.csv", 404)


def test_static_files_stay_cached(client: httpx.Client) -> None:
    for name in ("pages.js", "pages.css", "plotly.js", "favicon.svg"):
        served = static_name(name)
        assert re.fullmatch(r"\w+\.[0-9a-f]{12}\.\w+", served)
        answer = client.get(f"/static/{served}")
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
        assert answer.headers["content-encoding"] == "gzip"
        plain = client.get(f"/static/{served}", headers={"Accept-Encoding": "identity"})
        assert "content-encoding" not in plain.headers
        assert plain.content == answer.content
    for name in ("pages.js", "pages.000000000000.js", "%2e%2e", "view.html", "x"):
        refused(client.get(f"/static/{name}"), 404, "NOT_FOUND")


# Keys and cookies


@pytest.fixture(scope="module")
def accounts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoAccounts]:
    with serve_two_accounts(tmp_path_factory.mktemp("accounts") / "home") as accounts:
        yield accounts


@contextmanager
def signed_in(accounts: TwoAccounts, api: Api) -> Iterator[httpx.Client]:
    """Yield a client with a cookie, and without a key, of the account of ``api``."""
    with accounts.server.client() as client:
        answer = client.post("/login", json={"key": api.client.headers["X-API-Key"]})
        assert answer.status_code == 200
        yield client


def test_pages_need_a_key_and_take_a_cookie(accounts: TwoAccounts) -> None:
    session_id = traded(accounts.ann)
    paths = (
        "/", "/data", f"/sessions/{session_id}", f"/compare?ids={session_id},x",
        f"{BACKTEST}/{session_id}/figure.json", f"{BACKTEST}/{session_id}/since",
        f"{BACKTEST}/{session_id}/recording", f"/sessions/{session_id}/trades.csv",
        f"/sessions/{session_id}/state",
    )  # fmt: skip
    with accounts.server.client() as nobody, signed_in(accounts, accounts.ann) as ann:
        for path in paths:
            assert nobody.get(path).status_code == 401, path
            assert ann.get(path).status_code == 200, path
            assert ann.head(path).status_code == 200, path
        assert "data-login" in nobody.get("/").text


def test_another_accounts_session_is_not_there(accounts: TwoAccounts) -> None:
    session_id = traded(accounts.ann)
    with signed_in(accounts, accounts.bob) as bob:
        for path in (f"/sessions/{session_id}{end}" for end in ("", "/file", "/state")):
            theirs, unknown = bob.get(path), bob.get(path.replace(session_id, UNKNOWN_SESSION))
            assert theirs.status_code == unknown.status_code == 404
        assert session_id not in bob.get("/").text
        assert "There is nothing with the id" in bob.get(f"/compare?ids={session_id},x").text
        assert bob.get(f"{BACKTEST}/{session_id}/figure.json").status_code == 404


def test_the_cookie_is_for_reading_pages_alone(accounts: TwoAccounts) -> None:
    session_id = traded(accounts.ann)
    key = accounts.ann.client.headers["X-API-Key"]
    with signed_in(accounts, accounts.ann) as ann:
        for method, path in (
            ("GET", "/api/v1/backtest/list"), ("GET", f"{BACKTEST}/{session_id}/status"),
            ("GET", f"{BACKTEST}/{session_id}/trade/history"),
            ("POST", f"{BACKTEST}/{session_id}/step"), ("POST", f"{BACKTEST}/{session_id}/cancel"),
            ("POST", "/api/v1/auth/token"), ("DELETE", f"{BACKTEST}/{session_id}/trade/order/2"),
        ):  # fmt: skip
            assert ann.request(method, path).status_code == 401, path
        # A key that is sent counts alone.
        for headers in ({"X-API-Key": "ak_wrong"}, {"Authorization": "Bearer ak_wrong"}):
            assert ann.get("/", headers=headers).status_code == 401
        assert ann.get("/", headers={"X-API-Key": key}).status_code == 200


def test_the_cookie_is_kept_from_scripts_and_other_sites(accounts: TwoAccounts) -> None:
    key = accounts.ann.client.headers["X-API-Key"]
    with accounts.server.client() as client:
        cookie = client.post("/login", json={"key": key}).headers["set-cookie"]
        parts = {part.strip() for part in cookie.split(";")}
        assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= parts
        assert "Secure" not in parts
        assert key not in cookie
        host = client.base_url.netloc.decode()
        secure = client.post(
            "/login", json={"key": key}, headers={"Origin": f"https://{host}"}
        ).headers["set-cookie"]
        assert secure.endswith("; Secure")


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1"])
def test_other_pages_cannot_sign_in(accounts: TwoAccounts, origin: str) -> None:
    key = accounts.ann.client.headers["X-API-Key"]
    with accounts.server.client() as client:
        for path, body in (("/login", {"key": key}), ("/logout", {})):
            answer = client.post(path, json=body, headers={"Origin": origin})
            refused(answer, 403, "FORBIDDEN")
            assert "set-cookie" not in answer.headers


def test_a_wrong_key_gives_no_cookie(accounts: TwoAccounts) -> None:
    with accounts.server.client() as client:
        for key in ("ak_wrong", accounts.revoked_key):
            answer = client.post("/login", json={"key": key})
            assert answer.status_code == 401
            assert "set-cookie" not in answer.headers


def test_signing_out_removes_the_cookie(accounts: TwoAccounts) -> None:
    with signed_in(accounts, accounts.ann) as ann:
        assert ann.get("/").status_code == 200
        assert "Max-Age=0" in ann.post("/logout", json={}).headers["set-cookie"]
        assert ann.get("/").status_code == 401


def test_no_page_is_in_the_openapi_document(client: httpx.Client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    assert not [path for path in paths if path.startswith(("/sessions", "/compare", "/login"))]
    assert f"{BACKTEST}/{{session_id}}/figure.json" in paths


def test_home_of_samples_is_served(tmp_path: Path) -> None:
    home = sample_home(tmp_path / "home")
    with running(home) as server, server.client() as client:
        assert "synthetic sample market" in page_of(client, "/")
