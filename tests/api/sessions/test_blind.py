"""Blind sessions over HTTP: in disguise at every route until the end, and the same ever after."""

import csv
import io
import json
import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from candlestep.api.http.route import Route
from candlestep.api.routes import ROUTES
from candlestep.api.sessions.blind import hidden_instruments
from candlestep.data.market.loading import load_market
from candlestep.sandbox import Market, format_time, parse_time
from candlestep.sandbox.clock import DAY, MINUTE, WEEK
from candlestep.sandbox.market.blind.disguise import BlindSettings, Disguise
from candlestep.sandbox.market.blind.scale import Scale
from candlestep.sandbox.money import decimal_of
from tests.support.api_client import BACKTEST, Api, make_key, sample_home
from tests.support.binance import Binance
from tests.support.command_line import candlestep
from tests.support.in_process import HostedHome, hosted
from tests.support.route_cases import SAMPLES, UNKNOWN_ID
from tests.support.session_key_calls import (
    Told,
    agent_of,
    change_margin,
    read_everything,
    said_to_everybody,
    tool,
    trade_natively,
    use_the_dialect,
    use_the_tools,
)

REAL = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "BTC", "ETH", "binance", "secret-label", "grader")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sample_home(tmp_path_factory.mktemp("blind") / "home")


@pytest.fixture(scope="module")
def key(home: Path) -> str:
    return make_key(home, "ann")


@pytest.fixture(scope="module")
def market(home: Path) -> Market:
    """The real market; loaded before the server has the store."""
    return load_market(home=home)


@pytest.fixture(scope="module")
def server(home: Path, key: str, market: Market) -> Iterator[HostedHome]:
    with hosted(home) as server:
        yield server


@pytest.fixture
def api(server: HostedHome, key: str) -> Iterator[Api]:
    with server.client(key) as client:
        yield Api(client)


def blind(api: Api, **config: Any) -> tuple[str, list[str]]:
    """Start a blind session; return its id and its symbols."""
    settings: dict[str, Any] = {"blind": True, "strategy_label": "secret-label", **config}
    session_id = api.started("01-15", "01-16", **settings)
    return session_id, api.read(session_id, "status")["pairs"]


def traded(api: Api, session_id: str, symbol: str) -> None:
    """Trade in a session: an order that fills, one that waits, one that is refused, and steps."""
    price = float(api.read(session_id, f"market/price/{symbol}")["price"])
    api.order(session_id, symbol=symbol, quantity=round(1000 / price, 3))
    limit = f"{price * 0.9:.4f}"
    api.order(session_id, symbol=symbol, quantity=1, type="limit", price=limit)
    api.order(session_id, expect=422, symbol=symbol, quantity=10**9)
    api.step(session_id, 100)


def test_a_session_is_as_its_market_is_in_process(api: Api, market: Market) -> None:
    """The same seed makes the same prices of exactly the candles that the session may read."""
    session_id, symbols = blind(api, blind={"seed": 7}, pairs=["BTCUSDT", "ETHUSDT"])
    assert symbols == ["ASSET1USDT", "ASSET2USDT"]
    status = api.read(session_id, "status")
    start = parse_time(status["start_time"])
    assert 1990 <= int(status["start_time"][:4]) < 2005
    assert (start - parse_time("2025-01-15")) % WEEK == 0
    assert status["strategy_label"] == "secret-label"
    with pytest.raises(KeyError):
        status["blind"]
    both = Market([market.candles_of("BTCUSDT"), market.candles_of("ETHUSDT")])
    real = both.between(parse_time("2025-01-01"), parse_time("2025-01-16"))
    assert real is not None
    expected = real.blind(7)
    prices = api.read(session_id, "market/prices")["prices"]
    at = parse_time("2025-01-15") - real.span[0] + expected.span[0]
    assert prices == {symbol: str(price) for symbol, price in expected.prices(at).items()}
    for symbol in symbols:
        candles = api.read(session_id, f"market/candles/{symbol}", interval="1h", limit=1000)
        shown = [float(candle["close"]) for candle in candles["candles"]]
        assert shown == expected.window(symbol, at, 1000, ["close"], "1h")[:, 0].tolist()
        assert len(shown) == 14 * 24, "nothing before the first candle, nothing after the start"


@pytest.mark.parametrize("variant", ["none", "mirror", "bootstrap"])
def test_what_was_real_is_told_at_the_end_and_the_recording_replays(
    api: Api, market: Market, variant: str, tmp_path: Path
) -> None:
    session_id, symbols = blind(api, blind={"variant": variant})
    traded(api, session_id, symbols[0])
    refused = api.read(session_id, "recording", expect=409)
    assert "sealed" in refused["message"]
    api.post(f"{BACKTEST}/{session_id}/fork", expect=409)
    api.post(f"{BACKTEST}/{session_id}/cancel")
    results = api.read(session_id, "results")
    assert results["config"]["exchange"] == "blind"
    real = results["real"]
    assert real["exchange"] == "binance"
    assert real["start_time"] == "2025-01-15T00:00:00Z"
    assert sorted(real["pairs"]) == sorted(symbols)
    assert sorted(real["pairs"].values()) == ["BTCUSDT", "ETHUSDT"]
    assert real["variant"] == variant
    [first] = api.read(session_id, "results/trades")["trades"]
    [same] = api.read(session_id, "results/trades", reading="real")["trades"]
    assert same["symbol"] == real["pairs"][first["symbol"]]
    assert float(same["price"]) * float(same["quantity"]) == pytest.approx(
        float(first["price"]) * float(first["quantity"]), rel=1e-6
    )
    if variant != "bootstrap":
        assert same["simulated_at"] == "2025-01-15T00:00:00Z"
        price = float(market.price(same["symbol"], parse_time("2025-01-15")))
        # The slippage of the one is on the other side of the mirror of the other.
        assert float(same["price"]) == pytest.approx(price, rel=0.01)
    for reading, name, other in (
        ("blind", symbols[0], "real"),
        ("real", real["pairs"][symbols[0]], "blind"),
    ):
        page = api.client.get(f"/sessions/{session_id}", params={"reading": reading}).text
        assert f'<a href="?reading={other}">' in page
        assert f"<td>{name}</td>" in page.replace(" >", ">")
        assert (same["price"] in page) == (reading == "real")
    page = api.client.get(f"/sessions/{session_id}?reading=real").text
    has_chart = variant != "bootstrap"
    assert ("figure.json?reading=real" in page) == has_chart
    assert ("it has no chart and no months" in page) == (not has_chart)
    assert ("of which the session showed the mirror" in page) == (variant == "mirror")
    assert ("<th>2025</th>" in page) == has_chart
    assert (
        f"{session_id}/figure.json?reading=real" in page.partition('class="calls"')[2]
    ) == has_chart
    progress = re.search(r"step [\d,]+ of [\d,]+ · (\d{4})", page)
    assert progress is not None
    assert progress[1] == "2025"
    first = parse_time("2025-01-15")
    spans = re.findall(r'data-from="(\d+)" data-to="(\d+)"', page.partition('id="trades"')[2])
    assert all(int(start) < first < int(end) for start, end in spans[:1])
    assert bool(spans) == has_chart
    chart = api.read(
        session_id, "figure.json", 200 if has_chart else 409, reading="real", symbol=same["symbol"]
    )
    if has_chart:
        assert_chart_is_real(chart, market, same)
        api.read(session_id, "figure.json", 404, reading="real", symbol=symbols[0])
    file = tmp_path / "session.jsonl"
    file.write_bytes(api.client.get(f"{BACKTEST}/{session_id}/recording").content)
    start = json.loads(file.read_bytes().splitlines()[0])
    assert start["blind"]["seed"] == real["seed"]
    assert start["pairs"] == symbols


def test_downloads_have_the_reading_that_is_asked_for(api: Api, market: Market) -> None:
    session_id, symbols = blind(api, blind={"seed": 5, "variant": "mirror"})
    traded(api, session_id, symbols[0])
    page = f"/sessions/{session_id}"
    assert api.client.get(f"{page}/trades.csv?reading=real").status_code == 409, "it runs"
    api.post(f"{BACKTEST}/{session_id}/cancel")
    for reading, suffix in (("blind", ""), ("real", "_real")):
        [trade] = api.read(session_id, "results/trades", reading=reading)["trades"]
        curve = api.read(session_id, "results/equity-curve", reading=reading)["snapshots"]
        assert (curve[0]["simulated_at"] == "2025-01-15T00:00:00Z") == (reading == "real")
        for name, row in (("trades", trade), ("equity", curve[-1])):
            answer = api.client.get(f"{page}/{name}.csv", params={"reading": reading})
            assert f"{session_id}_{name}{suffix}.csv" in answer.headers["content-disposition"]
            last = list(csv.DictReader(io.StringIO(answer.text)))[-1]
            assert last.items() <= {key: str(value or "") for key, value in row.items()}.items()
        parquet = api.client.get(f"{page}/trades.parquet", params={"reading": reading})
        assert (trade["symbol"].encode() in parquet.content) is True
        file = api.client.get(f"{page}/file", params={"reading": reading}).text
        assert f"<td>{trade['symbol']}</td>" in file.replace(" >", ">")
        assert (f'"x":[{parse_time("2025-01-15")},' in file) == (reading == "real")
        html = api.client.get(page, params={"reading": reading}).text
        assert (f"/sessions/{session_id}/trades.csv?reading=real" in html) == (reading == "real")
    plain = api.started("01-15", "01-16")
    api.post(f"{BACKTEST}/{plain}/cancel")
    assert api.client.get(f"/sessions/{plain}/trades.csv?reading=real").status_code == 409


def test_a_bootstrap_shows_the_days_it_was_made_of(api: Api) -> None:
    session_id, symbols = blind(api, blind={"seed": 3, "variant": "bootstrap"})
    traded(api, session_id, symbols[0])
    api.post(f"{BACKTEST}/{session_id}/cancel")
    [trade] = api.read(session_id, "results/trades", reading="real")["trades"]
    shown = api.read(session_id, "results/trades")["trades"][0]["simulated_at"]
    page = api.client.get(f"/sessions/{session_id}?reading=real").text.replace(" >", ">")
    assert "Days as they were drawn" in page
    # The session begins with the day that the midnight before the trade ends.
    day = format_time(parse_time(trade["simulated_at"]))[:10]
    assert trade["simulated_at"].endswith("T00:00:00Z")
    rows = re.findall(r"<td>([-\d]{10})</td><td>([-\d]{10})</td>", page)
    assert [start for start, _ in rows] == [shown[:10]]
    assert abs(parse_time(rows[0][1]) - parse_time(day)) % DAY == 0
    assert "2025-01-01" <= rows[0][1] < "2025-01-16"


def perpetual_story(api: Api, hidden: dict[str, Any] | None) -> dict[str, Any]:
    """Hold a long through a settlement, then a short at 25x until it is liquidated.

    Return what came of it, under what was real if it was hidden.
    """
    config: dict[str, Any] = {"pairs": ["SOLUSDT-PERP"], "market_type": "perp"}
    config |= {"candle_interval": "5m", "slippage": {"model": "none"}}
    more: dict[str, Any] = {} if hidden is None else {"blind": hidden}
    session_id = api.started("01-15", "01-18", **config, **more)
    [symbol] = api.read(session_id, "status")["pairs"]
    path = f"{BACKTEST}/{session_id}"
    prices = api.read(session_id, "market/prices")
    scale = Decimal(prices["prices"][symbol]) / Decimal("252.76")
    story: dict[str, Any] = {
        "basis": float(prices["mark_prices"][symbol]) / float(prices["prices"][symbol]),
        "scale": float(scale),
        "rates": [
            (one["time"][10:], one["rate"])
            for one in api.read(session_id, f"market/funding/{symbol}")["rates"]
        ],
    }

    def order(side: str, real_quantity: str) -> None:
        quantity = (Decimal(real_quantity) / scale).quantize(Decimal("1e-8"))
        api.order(session_id, symbol=symbol, side=side, quantity=str(quantity))

    order("buy", "12.8")
    api.step(session_id, 200)
    order("sell", "12.8")
    api.post(f"{path}/account/margin-mode", {"symbol": symbol, "margin_mode": "isolated"})
    story["leverage"] = api.post(f"{path}/account/leverage", {"symbol": symbol, "leverage": 25})
    order("sell", "6.4")
    [position] = api.read(session_id, "account/positions")["positions"]
    story |= {name: position[name] for name in ("initial_margin", "max_notional", "margin_mode")}
    story["liquidated_below"] = float(position["liquidation_price"]) / float(scale)
    api.step(session_id, 1000)
    results = api.read(session_id, "results")
    story["tiers"] = list(results["config"]["margin_tiers"].values())
    story["summary"] = results["summary"]
    story["metrics"] = {
        name: value for name, value in results["metrics"].items() if not str(value).endswith("Z")
    }
    reading: dict[str, Any] = {} if hidden is None else {"reading": "real"}
    for what, name in (("trades", "trades"), ("funding", "payments"), ("liquidations",) * 2):
        story[what] = api.read(session_id, f"results/{what}", **reading)[name]
    return story


@pytest.mark.parametrize("prices", ["exact", True])
def test_a_blind_perpetual_has_the_story_of_the_open_one(api: Api, prices: Any) -> None:
    was = perpetual_story(api, None)
    assert [one["side"] for one in was["liquidations"]] == ["buy"]
    assert len(was["funding"]) == 2
    now = perpetual_story(api, {"seed": 4, "prices": prices})
    assert was.pop("scale") == 1
    assert now.pop("scale") != pytest.approx(1, abs=0.1)
    exactly = ("leverage", "rates", "tiers", "margin_mode", "max_notional")
    for name in exactly:
        spelled = json.dumps(now[name]).replace("ASSET1USDT-PERP", "SOLUSDT-PERP")
        assert spelled == json.dumps(was[name]), name
    # Prices are read back to 8 digits; rounded and blurred ones are off by half a tick of 250, by
    # which four trades of some 3,000 may be off as well.
    assert_near(now, was, 1e-7 if prices == "exact" else 3e-5, 1e-5 if prices == "exact" else 0.4)
    if prices == "exact":
        assert now["summary"] == was["summary"]


def test_a_mirrored_perpetual_receives_what_was_paid(api: Api) -> None:
    was = perpetual_story(api, {"seed": 4, "prices": "exact"})
    now = perpetual_story(api, {"seed": 4, "variant": "mirror"})
    flipped = [str(-Decimal(rate)) for _, rate in was["rates"]]
    assert [str(Decimal(rate)) for _, rate in now["rates"]] == flipped
    [first, *_], [mirrored, *_] = was["funding"], now["funding"]
    assert mirrored["rate"] == first["rate"], "read as it was"
    assert mirrored["symbol"] == "SOLUSDT-PERP"
    assert mirrored["simulated_at"] == first["simulated_at"]
    assert float(mirrored["mark_price"]) == pytest.approx(float(first["mark_price"]), rel=1e-4)
    assert float(mirrored["amount"]) * float(first["amount"]) < 0


def assert_near(now: Any, was: Any, share: float, least: float) -> None:
    """Require that two answers are equal, but for numbers that are off by a share, or by the least."""
    if isinstance(was, dict):
        assert now.keys() == was.keys()
        for name, value in was.items():
            assert_near(now[name], value, share, least)
    elif isinstance(was, list):
        assert len(now) == len(was)
        for one, other in zip(now, was, strict=True):
            assert_near(one, other, share, least)
    elif isinstance(was, str) and re.fullmatch(r"-?[\d.]+", was):
        assert float(now) == pytest.approx(float(was), rel=share, abs=least)
    elif isinstance(was, float):
        assert now == pytest.approx(was, rel=share * 100, abs=least)
    else:
        assert str(now).replace("ASSET1USDT-PERP", "SOLUSDT-PERP") == str(was)


def assert_chart_is_real(chart: Any, market: Market, trade: dict[str, Any]) -> None:
    """Require the candles, the fill, the order and the times of the real market, up to the end."""
    traces = {trace["name"]: trace for trace in chart["data"]}
    real, shown = market.candles_of(trade["symbol"]), chart["data"][0]
    start = parse_time("2025-01-15")
    assert shown["x"] == [start + minute * MINUTE for minute in range(100)]
    rows = slice(*real.open_time.searchsorted([start, start + 100 * MINUTE]).tolist())
    for name in ("open", "high", "low", "close"):
        assert shown[name] == getattr(real, name)[rows].tolist()
    assert traces["buys"]["x"][0] == start
    assert traces["buys"]["y"][0] == float(trade["price"])
    assert traces["equity"]["x"][0] == start


def test_sessions_go_on_where_they_were_after_a_restart(tmp_path: Path) -> None:
    home = sample_home(tmp_path / "home")
    with hosted(home) as server, server.client() as client:
        api = Api(client)
        session_id, symbols = blind(api, blind={"variant": "bootstrap", "seed": 3})
        traded(api, session_id, symbols[1])
        before = [api.read(session_id, what) for what in ("account/portfolio", "trade/orders")]
    with hosted(home) as server, server.client() as client:
        api = Api(client)
        after = [api.read(session_id, what) for what in ("account/portfolio", "trade/orders")]
        assert after == before
        api.step(session_id, 2000)
        assert api.read(session_id, "results")["real"]["seed"] == 3
        lines = client.get(f"{BACKTEST}/{session_id}/recording").content
        ended = api.read(session_id, "results")["summary"]
    file = tmp_path / "session.jsonl"
    file.write_bytes(lines)
    replayed = candlestep("replay", file, "--home", home)
    assert replayed.code == 0, replayed.out + replayed.err
    shown = candlestep("show", session_id, "--json", "--home", home)
    assert ended["final_equity"][:8] in shown.out


def test_a_key_of_a_session_steps_trades_and_reads_it_and_nothing_else(
    api: Api, server: HostedHome
) -> None:
    session_id, symbols = blind(api)
    other_id, _ = blind(api)
    secret = api.post(f"{BACKTEST}/{session_id}/keys", {"name": "agent"}, expect=201)["key"]
    with server.client(secret) as client:
        agent = Api(client)
        traded(agent, session_id, symbols[0])
        assert agent.read(session_id, "status")["strategy_label"] == ""
        agent.read(other_id, "status", expect=404)
        sealed = agent.post(f"{BACKTEST}/{session_id}/cancel", expect=403)
        assert "owner" in sealed["message"]
        for route in ROUTES:
            if route.for_session_key or route.access in ("public", "signature"):
                continue
            path = path_of(route, session_id)
            answer = client.request(route.method, path)
            assert answer.status_code in (401, 403), (route.method, path, answer.text)
        # The owner's key under the same Idempotency-Key is another.
        same = {"Idempotency-Key": "k"}
        for caller, price in ((api.client, 1), (client, 2)):
            body = {"symbol": symbols[0], "side": "buy", "type": "limit", "quantity": 1}
            path = f"{BACKTEST}/{session_id}/trade/order"
            answer = caller.post(path, json=body | {"price": price}, headers=same)
            assert answer.status_code == 201, answer.text


def test_what_was_refused_to_a_key_of_a_session_is_counted_for_its_owner(
    api: Api, server: HostedHome
) -> None:
    session_id, [symbol, *_] = blind(api)
    made = api.post(f"{BACKTEST}/{session_id}/keys", expect=201)
    too_much = {"symbol": symbol, "side": "buy", "quantity": 10**9}

    def refused() -> int:
        told = api.read(session_id, "keys")
        assert told["key_ids"] == [made["key_id"]]
        count: int = told["refused"]
        return count

    api.order(session_id, expect=422, **too_much)
    assert refused() == 0, "the owner's own"
    with server.client(made["key"]) as client:
        agent = Api(client)
        agent.step(session_id)
        assert refused() == 0
        requests: tuple[Callable[[], Any], ...] = (
            lambda: agent.order(session_id, expect=422, **too_much),
            lambda: agent.order(session_id, expect=422, symbol=symbol, pears=1),
            lambda: agent.read(session_id, "market/price/BTCUSDT", expect=404),
            lambda: agent.get(f"{BACKTEST}/list", expect=403),
            lambda: agent.post(f"{BACKTEST}/{session_id}/turn", {"orders": [too_much]}),
            lambda: tool(agent, "act", orders=[too_much]),
            lambda: tool(agent, "observe", interval="1x"),
            lambda: tool(agent, "list_data"),
            lambda: Binance(agent, session_id).order(400, symbol="BTCUSDT", quantity="1"),
        )  # fmt: skip
        for count, send in enumerate(requests, 1):
            send()
            assert refused() == count
        agent.read(session_id, "keys", expect=403)


def test_the_dialect_of_a_session_key_is_that_of_its_session_and_ends_with_the_key(
    api: Api, server: HostedHome
) -> None:
    session_id, symbols = blind(api)
    other_id, _ = blind(api)
    owners = Binance(api, other_id)
    made = api.post(f"{BACKTEST}/{session_id}/keys", expect=201)
    with server.client(made["key"]) as client:
        agent = Api(client)
        agent.post(f"{BACKTEST}/{other_id}/dialect", expect=404)
        pair, own = Binance(agent, session_id), Binance(api, session_id)
        path, pair.path = pair.path, owners.path
        code, _ = pair.signed("GET", "api/v3/account", 401)
        assert code == -2015, "the pair of one session opens no other"
        pair.path = path
        with server.client(pair.opened["api_key"]) as stranger:
            Api(stranger).read(session_id, "status", expect=401)
        for action in ("cancel", "fork", "end", "start", "recording"):
            pair.signed("POST", f"control/{action}", 404)
        # While the agent's bot makes the time nobody else does; its owner can end it all the same.
        pair.signed("POST", "control/hold", holder="bot")
        api.step(session_id, expect=409)
        ahead = pair.signed("POST", "control/advance", holder="bot", to=10**15)
        assert (ahead["status"], ahead["step"]) == ("completed", ahead["totalSteps"])
        pair.signed("POST", "control/step", 400)
        assert pair.order(400, symbol=symbols[0])[1] == "Market is closed."
        agent.post(f"{BACKTEST}/{session_id}/start", expect=409)
        pair.signed("GET", "api/v3/account")
        token = {"X-Candlestep-Token": server.services.authenticator.command_token}
        gone = api.client.post("/admin/keys/revoke", json={"key_id": made["key_id"]}, headers=token)
        assert gone.status_code == 200, gone.text
        assert pair.signed("GET", "api/v3/account", 401)[0] == -2015
        own.signed("GET", "api/v3/account")
    held = Binance(api, other_id)
    held.signed("POST", "control/hold", holder="bot")
    api.post(f"{BACKTEST}/{other_id}/cancel")


def path_of(route: Route, session_id: str) -> str:
    known = dict.fromkeys(route.parameters, UNKNOWN_ID) | SAMPLES
    return route.path.format(**known | {"session_id": session_id, "file": "trades.csv"})


@pytest.mark.parametrize("variant", ["none", "mirror", "bootstrap"])
def test_nothing_that_a_key_of_a_session_is_told_names_what_is_real(
    api: Api, server: HostedHome, market: Market, variant: str
) -> None:
    """By every route, in the dialect and by the tools; before it starts, as it runs, and ended."""
    told = Told()
    agent_id = api.post("/api/v1/agents", {"name": "grader"}, expect=201)["agent_id"]
    hidden = {"blind": {"variant": variant, "seed": 11}, "strategy_label": "secret-label"}
    hidden |= {"agent_id": agent_id, "fee_model": "match_exchange"}
    perpetual = {"pairs": ["SOLUSDT-PERP"], "market_type": "perp", "candle_interval": "5m"}
    for more in ({"pairs": ["BTCUSDT", "ETHUSDT", "SOLUSDT"]}, perpetual):
        session_id = api.create("01-15", "01-16", **hidden, **more)
        secret = api.post(f"{BACKTEST}/{session_id}/keys", expect=201)["key"]
        with agent_of(server, secret, told) as agent:
            read_everything(agent, session_id, "ASSET1USDT")
            agent.post(f"{BACKTEST}/{session_id}/start")
            symbol = agent.read(session_id, "status")["pairs"][0]
            if more is perpetual:
                change_margin(agent, session_id, symbol)
            else:
                trade_natively(agent, session_id, symbol)
                use_the_dialect(agent, told, session_id, symbol)
            use_the_tools(agent, session_id, symbol)
            read_everything(agent, session_id, symbol)
            agent.step(session_id, 5000)
            read_everything(agent, session_id, symbol)
        trade = api.read(session_id, "results/trades", reading="real")["trades"][0]
        if variant != "bootstrap":
            chart = api.read(session_id, "figure.json", reading="real")
            assert min(chart["data"][0]["x"]) == parse_time("2025-01-15")
        assert_hidden(told.texts, (*REAL, agent_id, f'"{trade["price"]}"'))
    missing = [
        (route.method, route.path)
        for route in ROUTES
        if route.for_session_key and not told.has_done(route.method, route.path)
    ]
    assert missing == [("POST", f"{BACKTEST}/{{session_id}}/cancel")]
    closes = set(market.candles_of("BTCUSDT").close.tolist())
    assert min(closes) > 50_000, "above the prices of a market in disguise, and above the equity"
    for text in told.texts:
        assert not closes & set(map(float, re.findall(r"(?<![\w.])\d{5,6}\.\d+", text))), text
    with server.client(secret) as client:
        assert said_to_everybody(Api(client)) == said_to_everybody(api)


def assert_hidden(texts: list[str], names: tuple[str, ...]) -> None:
    """Require that texts have none of the names, and no time of this century but today's."""
    for text in texts:
        for name in names:
            assert name not in text, (name, text)
        # Times of the wall clock are those of today.
        assert not re.search(r"20(?:2[0-5]|1\d)-\d\d", text), text
        since_epoch = map(int, re.findall(r"(?<![\w.])1\d{12}(?![\w.])", text))
        assert not [time for time in since_epoch if 2010 <= _year(time) <= 2025], text


def _year(time: int) -> int:
    return int(format_time(time)[:4])


@pytest.mark.parametrize(
    ("real_price", "real_tick", "tick"),
    # 0.01 of 67,000 would be 0.0000067 of 45.5429, finer than its sixth digit; 1 % of 0.35 is coarse.
    [(67_000.0, "0.01", "0.0001"), (0.35, "0.0035", "0.1")],
)
def test_no_tick_is_finer_than_the_digits_of_a_blind_price(
    real_price: float, real_tick: str, tick: str
) -> None:
    disguise = Disguise(BlindSettings.parse(1), {"BTCUSDT": "ASSET1USDT"}, 0)
    scale = Scale(real_price, decimal_of(45.5429 / real_price), False)
    filters = {"tick_size": real_tick, "min_notional": "5"}
    real = {"symbol": "BTCUSDT", "base": "BTC", "quote": "USDT", "filters": filters}
    [shown] = hidden_instruments([real], disguise, {"BTCUSDT": scale})
    assert (shown["symbol"], shown["base"]) == ("ASSET1USDT", "ASSET1")
    assert shown["filters"] == {"tick_size": tick, "min_notional": "5"}


def test_wrong_requests_change_nothing(api: Api) -> None:
    before = api.get(f"{BACKTEST}/list")["total"]
    body = {"start_time": "2025-01-15", "end_time": "2025-01-16"}
    for wrong, field in (
        ({"seed": -1}, "blind.seed"),
        ({"seeds": 1}, "blind"),
        ({"variant": "reverse"}, "blind.variant"),
        ("yes", "blind"),
    ):
        refusal = api.post(f"{BACKTEST}/create", body | {"blind": wrong}, expect=422)
        assert field in refusal["message"], refusal
    assert api.get(f"{BACKTEST}/list")["total"] == before
    short = {"start_time": "2025-01-01T01:00:00Z", "end_time": "2025-01-01T09:00:00Z"}
    session_id = api.post(
        f"{BACKTEST}/create", short | {"blind": {"variant": "bootstrap"}}, expect=422
    )
    assert "whole UTC days" in session_id["message"]


def test_unsealed_sessions_fork_and_open_servers_make_no_keys(tmp_path: Path) -> None:
    with hosted(sample_home(tmp_path / "home")) as server, server.client() as client:
        api = Api(client)
        session_id, symbols = blind(api, sealed=False)
        [fork] = api.post(f"{BACKTEST}/{session_id}/fork", expect=201)["forks"]
        traded(api, fork["session_id"], symbols[0])
        api.post(f"{BACKTEST}/{fork['session_id']}/cancel")
        assert "real" in api.read(fork["session_id"], "results")
        refusal = api.post(f"{BACKTEST}/{session_id}/keys", expect=409)
        assert "candlestep keys create" in refusal["message"]
