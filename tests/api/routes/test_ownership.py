"""Nothing of one account is there for another, route by route, and nobody enters without a key.

The cases are held against ``candlestep.api.routes.ROUTES``: a route that has none fails here, so that a new one
cannot be forgotten.
"""

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpx
import pytest

from candlestep.api.http.route import Route
from candlestep.api.routes import ROUTES
from candlestep.api.schemas.decoding import PlainText
from tests.support.api_client import (
    BACKTEST,
    UNKNOWN_SESSION,
    Api,
    check_error,
    finished,
    has_ended,
    make_key,
    sample_home,
    wait_for,
)
from tests.support.backtests import (
    BACKTESTS,
    CONFIG,
    CROSS,
    STRATEGIES,
    TASKS,
    create,
    keep,
    task_ended,
)
from tests.support.command_line import candlestep
from tests.support.server_process import RunningServer, running

UNKNOWN_ID = "0123456789ABCDEFabcdef"
UNKNOWN_JOB = "bt_00000000000040008000000000000000"
UNKNOWN_AGENT = "00000000-0000-4000-8000-000000000000"
DAY = {"start_time": "2025-01-15T00:00:00Z", "end_time": "2025-01-16T00:00:00Z"}
ORDER = {"symbol": "BTCUSDT", "side": "buy", "type": "market", "quantity": "0.01"}

JOB = {
    "template_id": "tpl_breakout",
    "params": {"lookback": 20},
    "symbols": ["BTCUSDT"],
    "timeframe": "1h",
    "start": "2025-01-10T00:00:00Z",
    "end": "2025-01-20T00:00:00Z",
    "capital": "10000",
}

ACCOUNT_ROUTES = [route for route in ROUTES if route.access == "account"]
KEY_ROUTES = [route for route in ROUTES if route.access == "key"]
ADMIN_ROUTES = [route for route in ROUTES if route.access == "admin"]
PUBLIC_ROUTES = [route for route in ROUTES if route.access == "public"]

SAMPLES = {
    "symbol": "BTCUSDT",
    "order_id": "1",
    "exchangeId": "binance",
    "segment": "spot",
    "type": "ticker",
}
"""Values of parameters that do not belong to anyone by themselves."""
OWNED = (
    "session_id",
    "agent_id",
    "job_id",
    "strategy_id",
    "backtest_id",
    "task_id",
    "jobId",
    "strategyId",
    "run_id",
)
"""Parameters that name what belongs to an account."""

EXECUTE = f"{BACKTEST}/{{exchangeId}}/{{type}}"
SOURCE = "def on_candle(ctx):\n    pass\n"
RUNS = "/api/v2/backtest/runs"
RUN = {
    "dataset_id": "btcusdt-1h-2025",
    "strategy": {"template": "tpl_breakout"},
    "fees": 5,
    "slippage": 3,
    "funding": False,
}
PREPARE = {"instrument": "BTC/USDT", "from": "2025-01-10", "to": "2025-01-11"}

BODIES: dict[tuple[str, str], Any] = {
    ("POST", "/api/v1/agents"): {"name": "second"},
    ("PATCH", "/api/v1/agents/{agent_id}"): {"name": "renamed"},
    ("POST", f"{BACKTEST}/jobs"): JOB,
    ("POST", f"{BACKTEST}/jobs/{{job_id}}/cancel"): None,
    ("POST", STRATEGIES): {"name": "second", "pipeline_config": CROSS},
    ("PATCH", f"{STRATEGIES}/{{strategy_id}}"): {"name": "renamed"},
    ("POST", BACKTESTS): {"strategy_id": UNKNOWN_AGENT, "config": CONFIG},
    ("PATCH", f"{BACKTESTS}/{{backtest_id}}"): {"metrics": {"total_return": 1}},
    ("POST", f"{BACKTESTS}/{{backtest_id}}/execute"): None,
    ("POST", f"{BACKTESTS}/{{backtest_id}}/execute/async"): None,
    ("POST", f"{BACKTESTS}/compare"): {"backtest_ids": [UNKNOWN_AGENT, UNKNOWN_JOB]},
    ("POST", f"{BACKTESTS}/sweep"): {
        "strategy_id": UNKNOWN_AGENT,
        "base_config": CONFIG,
        "param_grid": [{}],
    },
    ("POST", "/api/v1/strategy"): SOURCE,
    ("POST", f"{EXECUTE}/prepare"): PREPARE,
    ("POST", f"{EXECUTE}/execute"): {"prepareJobId": UNKNOWN_ID, "strategyId": UNKNOWN_ID},
    ("POST", RUNS): RUN,
    ("POST", f"{RUNS}/{{run_id}}/cancel"): None,
    ("POST", f"{TASKS}/{{task_id}}/cancel"): None,
    ("POST", f"{BACKTEST}/create"): DAY,
    ("POST", f"{BACKTEST}/{{session_id}}/start"): None,
    ("POST", f"{BACKTEST}/{{session_id}}/step"): None,
    ("POST", f"{BACKTEST}/{{session_id}}/step/batch"): {"steps": 5},
    ("POST", f"{BACKTEST}/{{session_id}}/step/batch/fast"): {"steps": 5},
    ("POST", f"{BACKTEST}/{{session_id}}/cancel"): None,
    ("POST", f"{BACKTEST}/{{session_id}}/fork"): None,
    ("POST", f"{BACKTEST}/{{session_id}}/trade/order"): ORDER,
}
"""What is sent to each account route that takes a body."""


class World(NamedTuple):
    """A server with two accounts: ann has sessions and agents, bob may not know of them."""

    server: RunningServer
    ann: Api
    bob: Api
    revoked: str


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    home = sample_home(tmp_path_factory.mktemp("accounts") / "home")
    ann, bob = make_key(home, "ann"), make_key(home, "bob")
    revoked = make_key(home, "ann", revoked=True)
    with running(home) as server, server.client(ann) as one, server.client(bob) as two:
        yield World(server, Api(one), Api(two), revoked)


class Owned(NamedTuple):
    """What ann has: an agent, and a session in each state."""

    agent_id: str
    sessions: dict[str, str]


@pytest.fixture
def owned(world: World) -> Owned:
    ann = world.ann
    agent = ann.post("/api/v1/agents", {"name": "hers"}, expect=201)["agent_id"]
    sessions = {"created": ann.create("01-15", "01-16", agent_id=agent)}
    for state in ("running", "completed", "cancelled"):
        session_id = ann.started(strategy_label="hers", agent_id=agent)
        ann.order(session_id)
        ann.order(session_id, type="limit", price=1000)
        ann.step(session_id, 10_000 if state == "completed" else 100)
        if state == "cancelled":
            ann.post(f"{BACKTEST}/{session_id}/cancel")
        sessions[state] = session_id
    return Owned(agent, sessions)


def send(api: Api, route: Route, parameters: dict[str, str]) -> httpx.Response:
    """Call a route with its usual body and these path parameters."""
    path = route.path.format(**(SAMPLES | parameters))
    body = BODIES[route.method, route.path] if route.body is not None else None
    if route.body is PlainText:
        return api.client.request(route.method, path, content=body)
    return api.client.request(route.method, path, json=body)


def words(answer: httpx.Response, name: str) -> tuple[int, dict[str, Any]]:
    """An error without what differs from call to call, and without the name asked for."""
    error = check_error(answer)
    del error["timestamp"], error["request_id"]
    without: dict[str, Any] = json.loads(json.dumps(error).replace(name, "…"))
    return answer.status_code, without


def everything(api: Api, owned: Owned) -> dict[str, Any]:
    """All that an account can read of what it owns."""
    found = {"agent": api.get(f"/api/v1/agents/{owned.agent_id}")}
    for state, session_id in owned.sessions.items():
        found[f"{state} status"] = api.read(session_id, "status")
        if state != "created":
            for what in ("account/portfolio", "trade/orders", "trade/history", "market/prices"):
                found[f"{state} {what}"] = api.read(session_id, what)
    return found


def name_of(route: Route) -> str:
    return f"{route.method} {route.path.removeprefix('/api/v1')}"


def test_every_route_has_a_case() -> None:
    with_body = {(route.method, route.path) for route in ACCOUNT_ROUTES if route.body is not None}
    assert with_body == set(BODIES)
    parameters = {name for route in ACCOUNT_ROUTES for name in route.parameters}
    assert parameters == {*OWNED, *SAMPLES}
    without = {
        (route.method, route.path)
        for route in ACCOUNT_ROUTES
        if not set(OWNED) & set(route.parameters)
    }
    assert without == set(OF_ALL)
    assert {route.access for route in ROUTES} == {"account", "key", "admin", "public"}
    assert [route.path for route in KEY_ROUTES] == ["/api/v1/auth/token"]
    assert {route.path for route in PUBLIC_ROUTES} == {
        "/health",
        "/metrics",
        "/openapi.json",
        "/docs",
    }


@pytest.mark.parametrize(
    "route", [route for route in ACCOUNT_ROUTES if "session_id" in route.parameters], ids=name_of
)
def test_anothers_session_does_not_exist(world: World, owned: Owned, route: Route) -> None:
    before = everything(world.ann, owned)
    unknown = words(send(world.bob, route, {"session_id": UNKNOWN_SESSION}), UNKNOWN_SESSION)
    assert unknown[0] == 404
    assert unknown[1]["code"] == "SESSION_NOT_FOUND"
    for session_id in owned.sessions.values():
        refused = send(world.bob, route, {"session_id": session_id})
        assert words(refused, session_id) == unknown
    assert everything(world.ann, owned) == before
    for state, session_id in owned.sessions.items():
        status = send(world.ann, route, {"session_id": session_id}).status_code
        assert status in (200, 201, 409), state


@pytest.mark.parametrize(
    "route", [route for route in ACCOUNT_ROUTES if "agent_id" in route.parameters], ids=name_of
)
def test_anothers_agent_does_not_exist(world: World, owned: Owned, route: Route) -> None:
    before = everything(world.ann, owned)
    unknown = words(send(world.bob, route, {"agent_id": UNKNOWN_AGENT}), UNKNOWN_AGENT)
    assert unknown[0] == 404
    assert unknown[1]["code"] == "AGENT_NOT_FOUND"
    refused = send(world.bob, route, {"agent_id": owned.agent_id})
    assert words(refused, owned.agent_id) == unknown
    assert everything(world.ann, owned) == before
    assert send(world.ann, route, {"agent_id": owned.agent_id}).status_code == 200


@pytest.mark.parametrize(
    "route", [route for route in ACCOUNT_ROUTES if "job_id" in route.parameters], ids=name_of
)
def test_anothers_job_does_not_exist(world: World, route: Route) -> None:
    ann = world.ann
    hers = ann.post(f"{BACKTEST}/jobs", JOB)["id"]
    unknown = words(send(world.bob, route, {"job_id": UNKNOWN_JOB}), UNKNOWN_JOB)
    assert unknown[0] == 404
    assert unknown[1]["code"] == "NOT_FOUND"
    assert words(send(world.bob, route, {"job_id": hers}), hers) == unknown
    ended = finished(ann, hers)
    assert ended["status"] == "done"
    assert words(send(world.bob, route, {"job_id": hers}), hers) == unknown
    assert send(ann, route, {"job_id": hers}).status_code in (200, 409)
    assert ann.get(f"{BACKTEST}/jobs/{hers}") == ended


@pytest.mark.parametrize(
    ("parameter", "code"),
    [
        ("strategy_id", "STRATEGY_NOT_FOUND"),
        ("backtest_id", "BACKTEST_NOT_FOUND"),
        ("task_id", "NOT_FOUND"),
    ],
)
def test_anothers_backtests_do_not_exist(world: World, parameter: str, code: str) -> None:
    """Nor their strategies and tasks, whatever state they are in."""
    ann, bob = world.ann, world.bob
    strategy_id = keep(ann, CROSS)
    backtest_id = create(ann, strategy_id)
    task_id = ann.post(f"{BACKTESTS}/{backtest_id}/execute/async")["task_id"]
    hers = {"strategy_id": strategy_id, "backtest_id": backtest_id, "task_id": task_id}[parameter]
    routes = [route for route in ACCOUNT_ROUTES if parameter in route.parameters]

    def nothing_is_there() -> None:
        for route in routes:
            unknown = words(send(bob, route, {parameter: UNKNOWN_AGENT}), UNKNOWN_AGENT)
            assert unknown[0] == 404, route
            assert unknown[1]["code"] == code
            assert words(send(bob, route, {parameter: hers}), hers) == unknown, route

    nothing_is_there()
    task = task_ended(ann, task_id)
    nothing_is_there()
    assert ann.get(f"{TASKS}/{task_id}") == task
    assert ann.get(f"{BACKTESTS}/{backtest_id}") == task["result"]
    assert ann.get(f"{STRATEGIES}/{strategy_id}")["version"] == 1
    for route in sorted(routes, key=lambda route: route.method == "DELETE"):
        assert send(ann, route, {parameter: hers}).status_code != 404, route


def _strategies_are_listed_apart(bob: Api, owned: Owned) -> None:
    assert bob.get(STRATEGIES) == []


def _strategies_are_kept_apart(bob: Api, owned: Owned) -> None:
    made = keep(bob, CROSS)
    assert bob.client.delete(f"{STRATEGIES}/{made}").status_code == 204


def _backtests_are_listed_apart(bob: Api, owned: Owned) -> None:
    assert bob.get(BACKTESTS) == []


def _backtests_are_of_ones_own_strategies(bob: Api, owned: Owned) -> None:
    body = {"strategy_id": UNKNOWN_AGENT, "config": CONFIG}
    assert bob.post(BACKTESTS, body, 404)["code"] == "STRATEGY_NOT_FOUND"


def _sweeps_are_of_ones_own_strategies(bob: Api, owned: Owned) -> None:
    body = {"strategy_id": UNKNOWN_AGENT, "base_config": CONFIG, "param_grid": [{}]}
    assert bob.post(f"{BACKTESTS}/sweep", body, 404)["code"] == "STRATEGY_NOT_FOUND"


def _backtests_are_compared_apart(bob: Api, owned: Owned) -> None:
    body = {"backtest_ids": [UNKNOWN_AGENT, UNKNOWN_JOB]}
    assert bob.post(f"{BACKTESTS}/compare", body, 404)["code"] == "BACKTEST_NOT_FOUND"


def _engines_are_everybodys(bob: Api, owned: Owned) -> None:
    assert "sandbox" in bob.get(f"{BACKTESTS}/engines/available")["engines"]


def _executed(ann: Api) -> dict[str, str]:
    """What ann has of a program, a preparation and an execution, by the part of a path."""
    strategy_id = send(ann, _route("POST", "/api/v1/strategy"), {}).json()["strategyId"]
    here = EXECUTE.format(**SAMPLES)
    prepared = ann.post(f"{here}/prepare", PREPARE, 202)["jobId"]
    body = {"prepareJobId": prepared, "strategyId": strategy_id}
    executed = ann.post(f"{here}/execute", body, 202)["jobId"]
    return {"strategyId": strategy_id, "prepare": prepared, "execute": executed}


def _route(method: str, path: str) -> Route:
    return next(each for each in ROUTES if (each.method, each.path) == (method, path))


@pytest.mark.parametrize(
    "route",
    [route for route in ACCOUNT_ROUTES if {"jobId", "strategyId"} & set(route.parameters)],
    ids=name_of,
)
def test_anothers_program_preparation_and_execution_do_not_exist(
    world: World, route: Route
) -> None:
    ids = _executed(world.ann)
    (name,) = {"jobId", "strategyId"} & set(route.parameters)
    hers = ids[name] if name == "strategyId" else ids[route.path.split("/")[-2]]
    unknown = words(send(world.bob, route, {name: UNKNOWN_ID}), UNKNOWN_ID)
    assert unknown[0] == 404
    assert words(send(world.bob, route, {name: hers}), hers) == unknown
    assert send(world.ann, route, {name: hers}).status_code in (200, 409)


def _programs_are_compiled_apart(bob: Api, owned: Owned) -> None:
    """The same source has another id for another account; see also above."""
    mine = send(bob, _route("POST", "/api/v1/strategy"), {}).json()["strategyId"]
    assert bob.get(f"/api/v1/strategy/{mine}")["status"] == "Completed"


def _candles_are_prepared_apart(bob: Api, owned: Owned) -> None:
    here = EXECUTE.format(**SAMPLES)
    mine = bob.post(f"{here}/prepare", PREPARE, 202)["jobId"]
    assert bob.get(f"{here}/prepare/{mine}")["status"] == "Completed"


def _executions_are_of_ones_own(bob: Api, owned: Owned) -> None:
    here = EXECUTE.format(**SAMPLES)
    strategy_id = send(bob, _route("POST", "/api/v1/strategy"), {}).json()["strategyId"]
    prepared = bob.post(f"{here}/prepare", PREPARE, 202)["jobId"]
    for body in (
        {"prepareJobId": UNKNOWN_ID, "strategyId": strategy_id},
        {"prepareJobId": prepared, "strategyId": UNKNOWN_ID},
    ):
        assert bob.post(f"{here}/execute", body, 404)["code"].endswith("NOT_FOUND")


def test_what_one_has_compiled_and_prepared_is_not_for_another(world: World) -> None:
    """Nor is there one's id to be guessed: it is of the account."""
    ids = _executed(world.ann)
    here = EXECUTE.format(**SAMPLES)
    compiled = send(world.bob, _route("POST", "/api/v1/strategy"), {}).json()["strategyId"]
    prepared = world.bob.post(f"{here}/prepare", PREPARE, 202)["jobId"]
    assert compiled != ids["strategyId"]
    assert prepared != ids["prepare"]
    for body in (
        {"prepareJobId": ids["prepare"], "strategyId": compiled},
        {"prepareJobId": prepared, "strategyId": ids["strategyId"]},
    ):
        assert world.bob.post(f"{here}/execute", body, 404)["code"].endswith("NOT_FOUND")


def test_anothers_run_does_not_exist(world: World) -> None:
    hers = world.ann.post(RUNS, RUN, 202)["data"]["run_id"]
    for route in (each for each in ACCOUNT_ROUTES if "run_id" in each.parameters):
        unknown = words(send(world.bob, route, {"run_id": UNKNOWN_ID}), UNKNOWN_ID)
        assert unknown[0] == 404
        assert words(send(world.bob, route, {"run_id": hers}), hers) == unknown
        assert send(world.ann, route, {"run_id": hers}).status_code != 404


def _runs_are_counted_apart(bob: Api, owned: Owned) -> None:
    """What ann has tried does not make bob's result any likelier to be luck."""
    made = bob.post(RUNS, RUN, 202)["data"]["run_id"]
    found = wait_for(lambda: bob.get(f"{RUNS}/{made}")["data"], has_ended)
    assert found["metrics"]["trials"] == 1


def _datasets_are_shared(bob: Api, owned: Owned) -> None:
    assert bob.get("/api/v2/backtest/datasets")["data"][0]["symbols"] == ["BTCUSDT"]


def _jobs_are_listed_apart(bob: Api, owned: Owned) -> None:
    assert bob.get(f"{BACKTEST}/jobs") == {"data": [], "next_cursor": None}


def _jobs_are_made_apart(bob: Api, owned: Owned) -> None:
    """Of one's own strategies: what there is of others is as what there is not."""
    refused = bob.client.post(f"{BACKTEST}/jobs", json=JOB | {"strategy_id": UNKNOWN_AGENT})
    assert refused.status_code == 404
    assert check_error(refused)["code"] == "STRATEGY_NOT_FOUND"


def _templates_are_everybodys(bob: Api, owned: Owned) -> None:
    assert "tpl_grid" in [each["id"] for each in bob.get("/api/v1/strategy-templates")["data"]]


def _agents_are_listed_apart(bob: Api, owned: Owned) -> None:
    names = [agent["name"] for agent in bob.get("/api/v1/agents")["agents"]]
    assert "hers" not in names
    assert "default" in names


def _agents_are_made_apart(bob: Api, owned: Owned) -> None:
    made = bob.post("/api/v1/agents", {"name": "his"}, expect=201)
    assert made["agent_id"] != owned.agent_id
    bob.call("DELETE", f"/api/v1/agents/{made['agent_id']}")


def _sessions_are_created_with_ones_own_agents(bob: Api, owned: Owned) -> None:
    path = f"{BACKTEST}/create"
    unknown = bob.client.post(path, json=DAY | {"agent_id": UNKNOWN_AGENT})
    refused = bob.client.post(path, json=DAY | {"agent_id": owned.agent_id})
    assert words(refused, owned.agent_id) == words(unknown, UNKNOWN_AGENT)
    assert refused.status_code == 404
    assert check_error(refused)["code"] == "AGENT_NOT_FOUND"


def _sessions_are_listed_apart(bob: Api, owned: Owned) -> None:
    queries: tuple[dict[str, Any], ...] = (
        {},
        {"agent_id": owned.agent_id},
        {"strategy_label": "hers"},
        {"status": "running"},
    )
    for query in queries:
        assert bob.get(f"{BACKTEST}/list", **query) == {"backtests": [], "total": 0}


def _sessions_are_compared_apart(bob: Api, owned: Owned) -> None:
    hers = owned.sessions["completed"]
    path = f"{BACKTEST}/compare"
    refused = bob.client.get(path, params={"sessions": f"{hers},{owned.sessions['cancelled']}"})
    unknown = bob.client.get(path, params={"sessions": f"{UNKNOWN_SESSION},bt_1"})
    assert words(refused, hers) == words(unknown, UNKNOWN_SESSION)
    assert refused.status_code == 404


def _the_best_is_ones_own(bob: Api, owned: Owned) -> None:
    for metric in ("roi_pct", "final_equity", "total_trades"):
        error = bob.get(f"{BACKTEST}/best", expect=404, metric=metric)
        assert error["code"] == "SESSION_NOT_FOUND"


def _data_is_shared(bob: Api, owned: Owned) -> None:
    assert bob.get("/api/v1/market/data-range")["pairs"] == ["BTCUSDT", "ETHUSDT"]


def _exchanges_are_shared(bob: Api, owned: Owned) -> None:
    assert [each["id"] for each in bob.get("/api/v1/exchanges")] == ["binance"]
    path = "/api/v1/exchange/binance"
    every = ["BTC/USDT", "ETH/USDT"]
    assert [each["id"] for each in bob.get(f"{path}/instruments")] == every
    assert [each["id"] for each in bob.get(f"{path}/spot/instruments")["data"]] == every
    assert bob.get(f"{path}/spot/instruments/BTCUSDT")["id"] == "BTC/USDT"


OF_ALL: dict[tuple[str, str], Callable[[Api, Owned], None]] = {
    ("GET", f"{BACKTEST}/jobs"): _jobs_are_listed_apart,
    ("POST", f"{BACKTEST}/jobs"): _jobs_are_made_apart,
    ("GET", "/api/v1/strategy-templates"): _templates_are_everybodys,
    ("GET", STRATEGIES): _strategies_are_listed_apart,
    ("POST", STRATEGIES): _strategies_are_kept_apart,
    ("GET", BACKTESTS): _backtests_are_listed_apart,
    ("POST", BACKTESTS): _backtests_are_of_ones_own_strategies,
    ("POST", f"{BACKTESTS}/sweep"): _sweeps_are_of_ones_own_strategies,
    ("POST", f"{BACKTESTS}/compare"): _backtests_are_compared_apart,
    ("GET", f"{BACKTESTS}/engines/available"): _engines_are_everybodys,
    ("GET", "/api/v1/agents"): _agents_are_listed_apart,
    ("POST", "/api/v1/agents"): _agents_are_made_apart,
    ("POST", f"{BACKTEST}/create"): _sessions_are_created_with_ones_own_agents,
    ("GET", f"{BACKTEST}/list"): _sessions_are_listed_apart,
    ("GET", f"{BACKTEST}/compare"): _sessions_are_compared_apart,
    ("GET", f"{BACKTEST}/best"): _the_best_is_ones_own,
    ("GET", "/api/v1/market/data-range"): _data_is_shared,
    ("POST", RUNS): _runs_are_counted_apart,
    ("GET", "/api/v2/backtest/datasets"): _datasets_are_shared,
    ("POST", "/api/v1/strategy"): _programs_are_compiled_apart,
    ("POST", f"{EXECUTE}/prepare"): _candles_are_prepared_apart,
    ("POST", f"{EXECUTE}/execute"): _executions_are_of_ones_own,
    ("GET", "/api/v1/exchanges"): _exchanges_are_shared,
    ("GET", "/api/v1/exchange/{exchangeId}/instruments"): _exchanges_are_shared,
    ("GET", "/api/v1/exchange/{exchangeId}/{segment}/instruments"): _exchanges_are_shared,
    ("GET", "/api/v1/exchange/{exchangeId}/{segment}/instruments/{symbol}"): _exchanges_are_shared,
}
"""The routes that name nobody's in their path, and how each keeps accounts apart."""


@pytest.mark.parametrize("path", OF_ALL, ids=" ".join)
def test_what_is_of_all_is_of_ones_own(world: World, owned: Owned, path: tuple[str, str]) -> None:
    OF_ALL[path](world.bob, owned)


@pytest.mark.parametrize("route", ACCOUNT_ROUTES, ids=name_of)
def test_no_route_is_open_without_a_key(world: World, route: Route) -> None:
    unknown = dict.fromkeys(OWNED, UNKNOWN_ID) | {
        "session_id": UNKNOWN_SESSION,
        "agent_id": UNKNOWN_AGENT,
        "job_id": UNKNOWN_JOB,
    }
    path = route.path.format(**SAMPLES, **unknown)
    headers: list[dict[str, str]] = [
        {},
        {"X-API-Key": ""},
        {"X-API-Key": "ak_wrong"},
        {"X-API-Key": world.revoked},
        {"Authorization": f"Bearer {world.revoked}"},
        {"Authorization": "Bearer"},
        {"Authorization": "Basic YW5uOmFubg=="},
    ]
    with world.server.client() as client:
        for sent in headers:
            answer = client.request(route.method, path, headers=sent)
            assert answer.status_code == 401, sent
            assert check_error(answer)["code"] == "UNAUTHORIZED"


@pytest.mark.parametrize("route", ADMIN_ROUTES, ids=name_of)
def test_commands_are_for_who_can_read_the_home(world: World, route: Route) -> None:
    for headers in ({}, {"X-Candlestep-Token": ""}, {"X-Candlestep-Token": "wrong"}):
        answer = world.ann.client.request(route.method, route.path, headers=headers, json={})
        assert answer.status_code == 401
        assert check_error(answer)["code"] == "UNAUTHORIZED"


@pytest.mark.parametrize("route", PUBLIC_ROUTES, ids=name_of)
def test_what_is_public_needs_no_key(world: World, route: Route) -> None:
    with world.server.client() as client:
        assert client.get(route.path).status_code == 200


def test_a_key_may_be_sent_in_two_ways(world: World) -> None:
    key = world.ann.client.headers["X-API-Key"]
    for headers in (
        {"X-API-Key": key},
        {"Authorization": f"Bearer {key}"},
        {"Authorization": f"bearer {key}", "X-API-Key": ""},
        {"X-API-Key": key, "Authorization": ""},
        {"X-API-Key": key, "Authorization": "Bearer"},
    ):
        with world.server.client() as client:
            assert client.get("/api/v1/agents", headers=headers).status_code == 200


def test_a_key_that_is_revoked_is_refused_from_then_on(tmp_path: Path) -> None:
    home = sample_home(tmp_path / "home")
    with running(home) as server:
        with server.client() as client:
            assert client.get("/api/v1/agents").status_code == 200
        made = candlestep("keys", "create", "one", "--home", home)
        assert (made.code, made.err) == (0, "")
        (key,) = [word for word in made.out.split() if word.startswith("ak_")]
        with server.client(key) as client, server.client() as nobody:
            assert client.get("/api/v1/agents").status_code == 200
            assert nobody.get("/api/v1/agents").status_code == 401
            (listed,) = json.loads(candlestep("keys", "list", "--json", "--home", home).out)
            assert candlestep("keys", "revoke", listed["key_id"], "--home", home).code == 0
            assert client.get("/api/v1/agents").status_code == 401
            assert nobody.get("/api/v1/agents").status_code == 401


# Without keys: open to this machine alone.


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
        same = {"Host": host, "Origin": f"http://{host}"}
        assert client.get("/api/v1/agents", headers=same).status_code == 200


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
    with closing(socket.create_connection((address.hostname, address.port), 10)) as connection:
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
