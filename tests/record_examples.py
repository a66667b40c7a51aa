"""Record the examples of the API's documentation: ``python -m tests.record_examples``.

A client goes through the APIs on a server of the sample market. Of each operation the first
successful request and answer are kept, with ids and times of day that are the same in every run, and
with lists cut to their first two items. The transcript of a session traded by tools is written anew, too.
"""

import json
import re
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx

from candlestep.api.http.route import Route
from candlestep.api.routes import ROUTES
from tests.support import transcript
from tests.support.api_client import BACKTEST, Api, finished, make_key, sample_home
from tests.support.backtests import BACKTESTS, CROSS, ENDLESS, STRATEGIES, TASKS, task_ended
from tests.support.project import ROOT
from tests.support.route_cases import EXECUTE, JOB, PREPARE, PROGRAM, RUN, RUNS, SAMPLES
from tests.support.server_process import running

FILE = ROOT / "api" / "routes" / "documentation" / "examples.json"

_LISTED = 2
_TODAY = "2026-01-01T00:00:00Z"
_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|[0-9a-f]{32}")
_TIME = re.compile(r"20(?:2[6-9]|[3-9]\d)-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z")
_RANDOM = (
    (re.compile(r"cs[A-Za-z0-9]{30}"), "cs" + 15 * "Ab"),
    (re.compile(r"ak_[A-Za-z0-9_-]{43}"), "ak_" + 14 * "Ab-" + "A"),
    (re.compile(r"eyJ[A-Za-z0-9_.-]{80,}"), "eyJhbGciOiJIUzI1NiJ9.e30.0a1b"),
    (re.compile(r"[0-9a-f]{64}"), 16 * "0a1b"),
    (re.compile(r"http://127\.0\.0\.1:[0-9]+"), "http://127.0.0.1:8000"),
)
"""Keys, secrets and addresses, and what stands for them."""
_CONFIG = {
    "symbol": "BTCUSDT",
    "timeframe": "1h",
    "start_date": "2025-01-10",
    "end_date": "2025-02-10",
}


class Recorder:
    """Keeps the first successful request and answer of each operation."""

    def __init__(self) -> None:
        self.examples: dict[str, dict[str, Any]] = {}
        self._ids: dict[str, str] = {}

    def note(self, answer: httpx.Response) -> None:
        """Keep an exchange, unless there is one of its operation, or it failed."""
        answer.read()
        route = route_of(answer.request)
        if route is None or not answer.is_success or "json" not in answer.headers["content-type"]:
            return
        name = f"{route.method} {route.path}"
        if name not in self.examples:
            self.examples[name] = {"response": self._stable(answer.json())}
            sent = answer.request.content
            if sent and route.body is not None and sent.startswith(b"{"):
                self.examples[name]["request"] = self._stable(json.loads(sent))

    def _stable(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self._stable(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [self._stable(inner) for inner in value[:_LISTED]]
        if isinstance(value, str):
            for pattern, constant in _RANDOM:
                value = pattern.sub(constant, value)
            return _TIME.sub(_TODAY, _ID.sub(self._stable_id, value))
        return value

    def _stable_id(self, match: re.Match[str]) -> str:
        number = len(self._ids) + 1
        dashed = f"00000000-0000-4000-8000-{number:012x}"
        new = dashed if "-" in match[0] else dashed.replace("-", "")
        return self._ids.setdefault(match[0], new)


class Succeeding(Api):
    """A client whose calls must succeed, with whatever status."""

    def call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        expect: int = 200,
        query: Mapping[str, Any] | None = None,
    ) -> Any:
        """Make a call and return its decoded answer."""
        answer = self.client.request(method, path, json=body, params=query or None)
        assert answer.is_success, (method, path, answer.text)
        return answer.json()


def route_of(request: httpx.Request) -> Route | None:
    """Return the documented route that answers a request, the most literal one first."""
    path = request.url.path
    found = [
        route
        for route in ROUTES
        if route.is_documented
        and route.method == request.method
        and re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", route.path), path)
    ]
    return min(found, key=lambda route: route.path.count("{"), default=None)


def main() -> None:
    recorder = Recorder()
    with tempfile.TemporaryDirectory() as folder:
        home = sample_home(Path(folder))
        # Keys of sessions are made where there are keys already.
        key = make_key(home, "default", is_admin=True)
        hooks: dict[str, list[Callable[..., Any]]] = {"response": [recorder.note]}
        with (
            running(home) as server,
            httpx.Client(
                base_url=server.url,
                headers={"X-API-Key": key},
                trust_env=False,
                timeout=60,
                event_hooks=hooks,
            ) as client,
        ):
            go_through(Succeeding(client))
    examples = {name: recorder.examples[name] for name in sorted(recorder.examples)}
    FILE.write_text(json.dumps(examples, indent=1, ensure_ascii=False) + "\n")
    print(f"{FILE.relative_to(ROOT)}: {len(examples)} operations")
    transcript.rewrite()


def go_through(api: Api) -> None:
    """Call every operation that answers with JSON and is not reserved for the command line."""
    for path in ("/health", "/api/v1/market/data-range", "/api/v1/strategy-templates",
                 "/api/v2/backtest/datasets", "/api/v1/exchanges"):  # fmt: skip
        api.get(path)
    api.post("/api/v1/auth/token")
    stepping(api)
    perpetuals(api)
    strategies(api)
    programs(api)
    data(api)


def stepping(api: Api) -> None:
    agent = api.post(
        "/api/v1/agents",
        {"name": "trend follower", "risk_profile": {"max_position_size_pct": "50"}},
        201,
    )["agent_id"]
    api.get("/api/v1/agents")
    api.get(f"/api/v1/agents/{agent}")
    api.call("PATCH", f"/api/v1/agents/{agent}", {"name": "trend follower 2"})
    sessions = []
    for label in ("momentum", "reversal"):
        session = api.started(
            "01-15", "01-17", pairs=["BTCUSDT"], strategy_label=label, agent_id=agent
        )
        sessions.append(session)
        trade(api, session)
    first, second = sessions
    for path in (
        "status", "trade/orders", "trade/orders/open", "trade/order/1", "trade/history",
        "account/balance", "account/positions", "account/portfolio", "market/prices",
        "market/price/BTCUSDT", "market/ticker/BTCUSDT", "market/candles/BTCUSDT?interval=1h",
        "since?step=120&symbol=BTCUSDT", "results/drawdowns", "results/monthly", "figure.json",
    ):  # fmt: skip
        api.read(first, path)
    api.post(f"{BACKTEST}/{first}/dialect", {"clock": "lockstep"}, 201)
    api.post(f"{BACKTEST}/{first}/keys", {"name": "agent under test"}, 201)
    api.read(first, "keys")
    api.post(f"{BACKTEST}/{first}/fork", {"count": 2, "strategy_label": "variant"}, 201)
    api.step(first, 10_000)
    api.post(f"{BACKTEST}/{second}/cancel")
    for path in ("results", "results/equity-curve?interval=10", "results/trades"):
        api.read(first, path)
    api.get(f"{BACKTEST}/list")
    api.get(f"{BACKTEST}/compare", sessions=f"{first},{second}")
    api.get(f"{BACKTEST}/best")
    unused = api.post("/api/v1/agents", {"name": "unused"})["agent_id"]
    api.call("DELETE", f"/api/v1/agents/{unused}")


def trade(api: Api, session: str) -> None:
    price = float(api.read(session, "market/price/BTCUSDT")["price"])
    bought = {"symbol": "BTCUSDT", "side": "buy", "quantity": "0.03"}
    api.post(f"{BACKTEST}/{session}/trade/order", bought, 201)
    stop = api.order(
        session, side="sell", type="stop_loss", quantity="0.03", trigger_price=f"{price * 0.98:.2f}"
    )
    api.post(f"{BACKTEST}/{session}/step")
    api.step(session, 119)
    api.post(f"{BACKTEST}/{session}/step/batch/fast", {"steps": 60})
    api.order(session, side="sell", quantity="0.01")
    api.call("DELETE", f"{BACKTEST}/{session}/trade/order/{stop['id']}")
    api.order(session, type="limit", quantity="0.02", price=f"{price * 0.97:.2f}")
    waiting = {**bought, "quantity": "0.001"}
    pair = [
        {**waiting, "type": "limit", "price": f"{price * 0.95:.2f}"},
        {**waiting, "type": "stop_loss", "trigger_price": f"{price * 1.05:.2f}"},
    ]
    listed = api.post(f"{BACKTEST}/{session}/trade/oco", {"orders": pair}, 201)["list_id"]
    api.call(
        "PATCH",
        f"{BACKTEST}/{session}/trade/order/{listed}",
        {"price": f"{price * 0.96:.2f}"},
    )
    turn = {"orders": [{**bought, "quantity": "0.01"}], "cancel": [4], "steps": 10}
    api.post(f"{BACKTEST}/{session}/turn", turn)
    api.post(f"{BACKTEST}/sessions/turn", {"turns": [{"session_id": session, "steps": 5}]})
    api.step(session, 585)


def perpetuals(api: Api) -> None:
    """Be short with leverage in the sample's perpetual, whose price rises on these days."""
    session = api.started(
        "01-09", "01-14", market_type="perp", pairs=["SOLUSDT-PERP"], candle_interval="5m",
        starting_balance="2000", leverage=10, margin_mode="isolated",
    )  # fmt: skip
    path = f"{BACKTEST}/{session}"
    api.post(f"{path}/account/margin-mode", {"symbol": "SOLUSDT-PERP", "margin_mode": "isolated"})
    api.post(f"{path}/account/leverage", {"symbol": "SOLUSDT-PERP", "leverage": 20})
    api.order(session, symbol="SOLUSDT-PERP", side="sell", quantity="40")
    api.post(f"{path}/account/margin", {"symbol": "SOLUSDT-PERP", "amount": "25"})
    api.step(session, 288)
    for what in ("account/margin", "account/funding", "market/funding/SOLUSDT-PERP"):
        api.read(session, what)
    api.step(session, 10_000)
    for what in ("results/funding", "results/liquidations"):
        api.read(session, what)


def strategies(api: Api) -> None:
    job = api.post(f"{BACKTEST}/jobs", JOB, 202)["id"]
    finished(api, job)
    other = api.post(f"{BACKTEST}/jobs", JOB)["id"]
    api.client.post(f"{BACKTEST}/jobs/{other}/cancel", json={"reason": "another idea"})
    api.get(f"{BACKTEST}/jobs")
    strategy = api.post(STRATEGIES, {"name": "cross", "pipeline_config": CROSS}, 201)["id"]
    api.get(STRATEGIES)
    api.get(f"{STRATEGIES}/{strategy}")
    api.call("PATCH", f"{STRATEGIES}/{strategy}", {"name": "cross of averages"})
    backtest = api.post(BACKTESTS, {"strategy_id": strategy, "config": _CONFIG}, 201)["id"]
    api.post(f"{BACKTESTS}/{backtest}/execute", {})
    task = api.post(f"{BACKTESTS}/{backtest}/execute/async")["task_id"]
    task_ended(api, task)
    api.get(BACKTESTS)
    api.get(f"{BACKTESTS}/{backtest}")
    api.get(f"{BACKTESTS}/{backtest}/equity-curve")
    api.get(f"{BACKTESTS}/{backtest}/trades")
    api.get(f"{BACKTESTS}/engines/available")
    grid = [{"fast": fast, "slow": slow} for fast in (5, 10) for slow in (50, 100)]
    body = {"strategy_id": strategy, "base_config": _CONFIG, "param_grid": grid}
    sweep = task_ended(api, api.post(f"{BACKTESTS}/sweep", body)["task_id"])
    ids = [run["backtest_id"] for run in sweep["result"]["leaderboard"][:2]]
    api.post(f"{BACKTESTS}/compare", {"backtest_ids": ids})
    api.client.get(f"{TASKS}/{task}")
    cancelled = api.post(f"{BACKTESTS}/sweep", body)["task_id"]
    api.client.post(f"{TASKS}/{cancelled}/cancel")
    api.call("PATCH", f"{BACKTESTS}/{backtest}", {"status": "completed"})
    run = api.post(RUNS, RUN, 202)["data"]["run_id"]
    until = time.monotonic() + 60
    while api.client.get(f"{RUNS}/{run}").json()["data"]["metrics"] is None:
        assert time.monotonic() < until
        time.sleep(0.05)
    other_run = api.post(RUNS, RUN)["data"]["run_id"]
    api.client.post(f"{RUNS}/{other_run}/cancel")


def programs(api: Api) -> None:
    strategy = api.client.post("/api/v1/strategy", content=PROGRAM).json()["strategyId"]
    api.get(f"/api/v1/strategy/{strategy}")
    base = EXECUTE.format(**SAMPLES)
    prepared = api.post(f"{base}/prepare", PREPARE, 202)["jobId"]
    api.get(f"{base}/prepare/{prepared}")
    body = {"prepareJobId": prepared, "strategyId": strategy}
    executed = api.post(f"{base}/execute", body, 202)["jobId"]
    api.get(f"{base}/execute/{executed}")
    endless = api.client.post("/api/v1/strategy", content=ENDLESS["source"]).json()["strategyId"]
    running_id = api.post(f"{base}/execute", body | {"strategyId": endless})["jobId"]
    api.call("DELETE", f"{base}/execute/{running_id}")
    api.get("/api/v1/exchange/binance/spot/instruments/BTCUSDT")
    api.get("/api/v1/exchange/binance/instruments")
    api.get("/api/v1/exchange/binance/spot/instruments")


def data(api: Api) -> None:
    api.get("/api/v1/data/instruments")
    api.get("/api/v1/data/instruments/BTCUSDT")
    api.call("PATCH", "/api/v1/data/instruments/ETHUSDT", {"filters": {"tick_size": "0.01"}})
    rows = "time,open,high,low,close,volume\n2024-01-01,10,12,9,11,100\n2024-01-02,11,13,10,12,90\n"
    answer = api.client.post("/api/v1/data/import", params={"file": "SOLUSDT-1d.csv"}, content=rows)
    import_id = answer.json()["import_id"]
    until = time.monotonic() + 60
    while api.client.get(f"/api/v1/data/import/{import_id}").json()["state"] in (
        "queued",
        "running",
    ):
        assert time.monotonic() < until
        time.sleep(0.05)


if __name__ == "__main__":
    main()
