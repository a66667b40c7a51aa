"""An account cannot see or change anything of another account, on any route.

The cases are held against ``candlestep.api.routes.ROUTES``: a new route fails here until it has
one.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from candlestep.api.http.route import Route
from candlestep.api.routes import ROUTES
from tests.support.api_client import (
    BACKTEST,
    DAY,
    ORDER,
    UNKNOWN_SESSION,
    Api,
    check_error,
    finished,
    has_ended,
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
from tests.support.route_cases import (
    ACCOUNT_ROUTES,
    BODIES,
    EXECUTE,
    JOB,
    KEY_ROUTES,
    OWNED_PARAMETERS,
    PREPARE,
    PUBLIC_ROUTES,
    RUN,
    RUNS,
    SAMPLES,
    UNKNOWN_AGENT,
    UNKNOWN_ID,
    UNKNOWN_JOB,
    name_of,
    route_at,
    routes_with,
    send,
)
from tests.support.two_accounts import (
    Owned,
    TwoAccounts,
    create_owned,
    error_about,
    everything,
    serve_two_accounts,
)

SAMPLE = ["BTCUSDT", "ETHUSDT", "SOLUSDT-PERP"]


@pytest.fixture(scope="module")
def accounts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoAccounts]:
    with serve_two_accounts(tmp_path_factory.mktemp("accounts") / "home") as accounts:
        yield accounts


@pytest.fixture
def owned(accounts: TwoAccounts) -> Owned:
    return create_owned(accounts.ann)


def test_every_route_has_a_case() -> None:
    with_body = {(route.method, route.path) for route in ACCOUNT_ROUTES if route.body is not None}
    assert with_body == set(BODIES)
    parameters = {name for route in ACCOUNT_ROUTES for name in route.parameters}
    assert parameters == {*OWNED_PARAMETERS, *SAMPLES}
    without_owner = {
        (route.method, route.path)
        for route in ACCOUNT_ROUTES
        if not set(OWNED_PARAMETERS) & set(route.parameters)
    }
    assert without_owner == set(CHECKS)
    assert {route.access for route in ROUTES} == {
        "account", "key", "admin_key", "admin", "public", "signature",
    }  # fmt: skip
    assert [route.path for route in KEY_ROUTES] == ["/api/v1/auth/token"]
    assert {route.path for route in PUBLIC_ROUTES} == {
        "/health",
        "/metrics",
        "/openapi.json",
        "/docs",
        "/docs/static/{file}",
        "/login",
        "/logout",
        "/static/{file}",
    }


@pytest.mark.parametrize("route", routes_with("session_id"), ids=name_of)
def test_anothers_session_does_not_exist(accounts: TwoAccounts, owned: Owned, route: Route) -> None:
    ann, bob = accounts.ann, accounts.bob
    before = everything(ann, owned)
    unknown = error_about(send(bob, route, {"session_id": UNKNOWN_SESSION}), UNKNOWN_SESSION)
    assert unknown[0] == 404
    assert unknown[1]["code"] == "SESSION_NOT_FOUND"
    for session_id in owned.sessions.values():
        refused = send(bob, route, {"session_id": session_id})
        assert error_about(refused, session_id) == unknown
    assert everything(ann, owned) == before
    for state, session_id in owned.sessions.items():
        status = send(ann, route, {"session_id": session_id}).status_code
        assert status in (200, 201, 409), state


@pytest.mark.parametrize("route", routes_with("agent_id"), ids=name_of)
def test_anothers_agent_does_not_exist(accounts: TwoAccounts, owned: Owned, route: Route) -> None:
    ann, bob = accounts.ann, accounts.bob
    before = everything(ann, owned)
    unknown = error_about(send(bob, route, {"agent_id": UNKNOWN_AGENT}), UNKNOWN_AGENT)
    assert unknown[0] == 404
    assert unknown[1]["code"] == "AGENT_NOT_FOUND"
    refused = send(bob, route, {"agent_id": owned.agent_id})
    assert error_about(refused, owned.agent_id) == unknown
    assert everything(ann, owned) == before
    assert send(ann, route, {"agent_id": owned.agent_id}).status_code == 200


@pytest.mark.parametrize("route", routes_with("job_id"), ids=name_of)
def test_anothers_job_does_not_exist(accounts: TwoAccounts, route: Route) -> None:
    ann, bob = accounts.ann, accounts.bob
    job_id = ann.post(f"{BACKTEST}/jobs", JOB)["id"]
    unknown = error_about(send(bob, route, {"job_id": UNKNOWN_JOB}), UNKNOWN_JOB)
    assert unknown[0] == 404
    assert unknown[1]["code"] == "NOT_FOUND"
    assert error_about(send(bob, route, {"job_id": job_id}), job_id) == unknown
    ended = finished(ann, job_id)
    assert ended["status"] == "done"
    assert error_about(send(bob, route, {"job_id": job_id}), job_id) == unknown
    assert send(ann, route, {"job_id": job_id}).status_code in (200, 409)
    assert ann.get(f"{BACKTEST}/jobs/{job_id}") == ended


@pytest.mark.parametrize(
    ("parameter", "code"),
    [
        ("strategy_id", "STRATEGY_NOT_FOUND"),
        ("backtest_id", "BACKTEST_NOT_FOUND"),
        ("task_id", "NOT_FOUND"),
    ],
)
def test_anothers_backtests_do_not_exist(accounts: TwoAccounts, parameter: str, code: str) -> None:
    """Nor do another account's strategies and tasks, in whatever state they are."""
    ann, bob = accounts.ann, accounts.bob
    strategy_id = keep(ann, CROSS)
    backtest_id = create(ann, strategy_id)
    task_id = ann.post(f"{BACKTESTS}/{backtest_id}/execute/async")["task_id"]
    ids = {"strategy_id": strategy_id, "backtest_id": backtest_id, "task_id": task_id}
    owned_id = ids[parameter]
    routes = routes_with(parameter)

    def check_hidden() -> None:
        for route in routes:
            unknown = error_about(send(bob, route, {parameter: UNKNOWN_AGENT}), UNKNOWN_AGENT)
            assert unknown[0] == 404, route
            assert unknown[1]["code"] == code
            refused = send(bob, route, {parameter: owned_id})
            assert error_about(refused, owned_id) == unknown, route

    check_hidden()
    task = task_ended(ann, task_id)
    check_hidden()
    assert ann.get(f"{TASKS}/{task_id}") == task
    assert ann.get(f"{BACKTESTS}/{backtest_id}") == task["result"]
    assert ann.get(f"{STRATEGIES}/{strategy_id}")["version"] == 1
    for route in sorted(routes, key=lambda route: route.method == "DELETE"):
        assert send(ann, route, {parameter: owned_id}).status_code != 404, route


def execute_program(api: Api) -> dict[str, str]:
    """Execute a program, and return the ids by the name that a path has for them."""
    strategy_id = send(api, route_at("POST", "/api/v1/strategy"), {}).json()["strategyId"]
    base = EXECUTE.format(**SAMPLES)
    prepare_id = api.post(f"{base}/prepare", PREPARE, 202)["jobId"]
    body = {"prepareJobId": prepare_id, "strategyId": strategy_id}
    execute_id = api.post(f"{base}/execute", body, 202)["jobId"]
    return {"strategyId": strategy_id, "prepare": prepare_id, "execute": execute_id}


@pytest.mark.parametrize("route", routes_with("jobId", "strategyId"), ids=name_of)
def test_anothers_program_preparation_and_execution_do_not_exist(
    accounts: TwoAccounts, route: Route
) -> None:
    ids = execute_program(accounts.ann)
    (name,) = {"jobId", "strategyId"} & set(route.parameters)
    owned_id = ids[name] if name == "strategyId" else ids[route.path.split("/")[-2]]
    unknown = error_about(send(accounts.bob, route, {name: UNKNOWN_ID}), UNKNOWN_ID)
    assert unknown[0] == 404
    assert error_about(send(accounts.bob, route, {name: owned_id}), owned_id) == unknown
    assert send(accounts.ann, route, {name: owned_id}).status_code in (200, 409)


def test_what_one_has_compiled_and_prepared_is_not_for_another(accounts: TwoAccounts) -> None:
    """Ids depend on the account, so an account cannot guess those of another."""
    ann_ids = execute_program(accounts.ann)
    bob = accounts.bob
    base = EXECUTE.format(**SAMPLES)
    strategy_id = send(bob, route_at("POST", "/api/v1/strategy"), {}).json()["strategyId"]
    prepare_id = bob.post(f"{base}/prepare", PREPARE, 202)["jobId"]
    assert strategy_id != ann_ids["strategyId"]
    assert prepare_id != ann_ids["prepare"]
    for body in (
        {"prepareJobId": ann_ids["prepare"], "strategyId": strategy_id},
        {"prepareJobId": prepare_id, "strategyId": ann_ids["strategyId"]},
    ):
        assert bob.post(f"{base}/execute", body, 404)["code"].endswith("NOT_FOUND")


def test_anothers_run_does_not_exist(accounts: TwoAccounts) -> None:
    run_id = accounts.ann.post(RUNS, RUN, 202)["data"]["run_id"]
    for route in routes_with("run_id"):
        unknown = error_about(send(accounts.bob, route, {"run_id": UNKNOWN_ID}), UNKNOWN_ID)
        assert unknown[0] == 404
        assert error_about(send(accounts.bob, route, {"run_id": run_id}), run_id) == unknown
        assert send(accounts.ann, route, {"run_id": run_id}).status_code != 404


# Routes that name nothing owned in their path.


def check_strategy_list(bob: Api, owned: Owned) -> None:
    assert bob.get(STRATEGIES) == []


def check_strategy_creation(bob: Api, owned: Owned) -> None:
    strategy_id = keep(bob, CROSS)
    assert bob.client.delete(f"{STRATEGIES}/{strategy_id}").status_code == 204


def check_backtest_list(bob: Api, owned: Owned) -> None:
    assert bob.get(BACKTESTS) == []


def check_backtest_creation(bob: Api, owned: Owned) -> None:
    body = {"strategy_id": UNKNOWN_AGENT, "config": CONFIG}
    assert bob.post(BACKTESTS, body, 404)["code"] == "STRATEGY_NOT_FOUND"


def check_sweep_creation(bob: Api, owned: Owned) -> None:
    body = {"strategy_id": UNKNOWN_AGENT, "base_config": CONFIG, "param_grid": [{}]}
    assert bob.post(f"{BACKTESTS}/sweep", body, 404)["code"] == "STRATEGY_NOT_FOUND"


def check_backtest_comparison(bob: Api, owned: Owned) -> None:
    body = {"backtest_ids": [UNKNOWN_AGENT, UNKNOWN_JOB]}
    assert bob.post(f"{BACKTESTS}/compare", body, 404)["code"] == "BACKTEST_NOT_FOUND"


def check_turns_of_sessions(bob: Api, owned: Owned) -> None:
    ids = [UNKNOWN_SESSION, *owned.sessions.values()]
    body = {"turns": [{"session_id": session_id, "orders": [ORDER]} for session_id in ids]}
    answers = bob.post(f"{BACKTEST}/sessions/turn", body)["turns"]
    assert {answer["error"]["code"] for answer in answers} == {"SESSION_NOT_FOUND"}


def check_engines_are_shared(bob: Api, owned: Owned) -> None:
    assert "sandbox" in bob.get(f"{BACKTESTS}/engines/available")["engines"]


def check_instruments_are_shared(bob: Api, owned: Owned) -> None:
    listed = bob.get("/api/v1/data/instruments")["instruments"]
    assert [instrument["symbol"] for instrument in listed] == SAMPLE
    assert bob.get("/api/v1/data/instruments/BTCUSDT") == listed[0]


def check_program_creation(bob: Api, owned: Owned) -> None:
    strategy_id = send(bob, route_at("POST", "/api/v1/strategy"), {}).json()["strategyId"]
    assert bob.get(f"/api/v1/strategy/{strategy_id}")["status"] == "Completed"


def check_preparation(bob: Api, owned: Owned) -> None:
    base = EXECUTE.format(**SAMPLES)
    prepare_id = bob.post(f"{base}/prepare", PREPARE, 202)["jobId"]
    assert bob.get(f"{base}/prepare/{prepare_id}")["status"] == "Completed"


def check_execution(bob: Api, owned: Owned) -> None:
    base = EXECUTE.format(**SAMPLES)
    strategy_id = send(bob, route_at("POST", "/api/v1/strategy"), {}).json()["strategyId"]
    prepare_id = bob.post(f"{base}/prepare", PREPARE, 202)["jobId"]
    for body in (
        {"prepareJobId": UNKNOWN_ID, "strategyId": strategy_id},
        {"prepareJobId": prepare_id, "strategyId": UNKNOWN_ID},
    ):
        assert bob.post(f"{base}/execute", body, 404)["code"].endswith("NOT_FOUND")


def check_run_creation(bob: Api, owned: Owned) -> None:
    """Ann's trials do not count as bob's, so they do not make his result likelier to be luck."""
    run_id = bob.post(RUNS, RUN, 202)["data"]["run_id"]
    run = wait_for(lambda: bob.get(f"{RUNS}/{run_id}")["data"], has_ended)
    assert run["metrics"]["trials"] == 1


def check_datasets_are_shared(bob: Api, owned: Owned) -> None:
    assert bob.get("/api/v2/backtest/datasets")["data"][0]["symbols"] == ["BTCUSDT"]


def check_job_list(bob: Api, owned: Owned) -> None:
    assert bob.get(f"{BACKTEST}/jobs") == {"data": [], "next_cursor": None}


def check_job_creation(bob: Api, owned: Owned) -> None:
    """A job runs a strategy of its own account only."""
    refused = bob.client.post(f"{BACKTEST}/jobs", json=JOB | {"strategy_id": UNKNOWN_AGENT})
    assert refused.status_code == 404
    assert check_error(refused)["code"] == "STRATEGY_NOT_FOUND"


def check_templates_are_shared(bob: Api, owned: Owned) -> None:
    templates = bob.get("/api/v1/strategy-templates")["data"]
    assert "tpl_grid" in [template["id"] for template in templates]


def check_agent_list(bob: Api, owned: Owned) -> None:
    names = [agent["name"] for agent in bob.get("/api/v1/agents")["agents"]]
    assert "hers" not in names
    assert "default" in names


def check_agent_creation(bob: Api, owned: Owned) -> None:
    agent = bob.post("/api/v1/agents", {"name": "his"}, expect=201)
    assert agent["agent_id"] != owned.agent_id
    bob.call("DELETE", f"/api/v1/agents/{agent['agent_id']}")


def check_session_creation(bob: Api, owned: Owned) -> None:
    path = f"{BACKTEST}/create"
    unknown = bob.client.post(path, json=DAY | {"agent_id": UNKNOWN_AGENT})
    refused = bob.client.post(path, json=DAY | {"agent_id": owned.agent_id})
    assert error_about(refused, owned.agent_id) == error_about(unknown, UNKNOWN_AGENT)
    assert refused.status_code == 404
    assert check_error(refused)["code"] == "AGENT_NOT_FOUND"


def check_session_list(bob: Api, owned: Owned) -> None:
    queries: tuple[dict[str, Any], ...] = (
        {},
        {"agent_id": owned.agent_id},
        {"strategy_label": "hers"},
        {"status": "running"},
    )
    for query in queries:
        assert bob.get(f"{BACKTEST}/list", **query) == {"backtests": [], "total": 0}


def check_session_comparison(bob: Api, owned: Owned) -> None:
    completed, cancelled = owned.sessions["completed"], owned.sessions["cancelled"]
    path = f"{BACKTEST}/compare"
    refused = bob.client.get(path, params={"sessions": f"{completed},{cancelled}"})
    unknown = bob.client.get(path, params={"sessions": f"{UNKNOWN_SESSION},bt_1"})
    assert error_about(refused, completed) == error_about(unknown, UNKNOWN_SESSION)
    assert refused.status_code == 404


def check_best_session(bob: Api, owned: Owned) -> None:
    for metric in ("roi_pct", "final_equity", "total_trades"):
        error = bob.get(f"{BACKTEST}/best", expect=404, metric=metric)
        assert error["code"] == "SESSION_NOT_FOUND"


def check_data_range_is_shared(bob: Api, owned: Owned) -> None:
    assert bob.get("/api/v1/market/data-range")["pairs"] == SAMPLE


def check_exchanges_are_shared(bob: Api, owned: Owned) -> None:
    assert [exchange["id"] for exchange in bob.get("/api/v1/exchanges")] == ["binance"]
    path = "/api/v1/exchange/binance"
    expected = ["BTC/USDT", "ETH/USDT"]
    instruments = bob.get(f"{path}/instruments")
    assert [instrument["id"] for instrument in instruments] == expected
    instruments = bob.get(f"{path}/spot/instruments")["data"]
    assert [instrument["id"] for instrument in instruments] == expected
    assert bob.get(f"{path}/spot/instruments/BTCUSDT")["id"] == "BTC/USDT"


CHECKS: dict[tuple[str, str], Callable[[Api, Owned], None]] = {
    ("GET", f"{BACKTEST}/jobs"): check_job_list,
    ("POST", f"{BACKTEST}/jobs"): check_job_creation,
    ("POST", f"{BACKTEST}/sessions/turn"): check_turns_of_sessions,
    ("GET", "/api/v1/strategy-templates"): check_templates_are_shared,
    ("GET", STRATEGIES): check_strategy_list,
    ("POST", STRATEGIES): check_strategy_creation,
    ("GET", BACKTESTS): check_backtest_list,
    ("POST", BACKTESTS): check_backtest_creation,
    ("POST", f"{BACKTESTS}/sweep"): check_sweep_creation,
    ("POST", f"{BACKTESTS}/compare"): check_backtest_comparison,
    ("GET", f"{BACKTESTS}/engines/available"): check_engines_are_shared,
    ("GET", "/api/v1/data/instruments"): check_instruments_are_shared,
    ("GET", "/api/v1/data/instruments/{symbol}"): check_instruments_are_shared,
    ("GET", "/api/v1/agents"): check_agent_list,
    ("POST", "/api/v1/agents"): check_agent_creation,
    ("POST", f"{BACKTEST}/create"): check_session_creation,
    ("GET", f"{BACKTEST}/list"): check_session_list,
    ("GET", f"{BACKTEST}/compare"): check_session_comparison,
    ("GET", f"{BACKTEST}/best"): check_best_session,
    ("GET", "/api/v1/market/data-range"): check_data_range_is_shared,
    ("POST", RUNS): check_run_creation,
    ("GET", "/api/v2/backtest/datasets"): check_datasets_are_shared,
    ("POST", "/api/v1/strategy"): check_program_creation,
    ("POST", f"{EXECUTE}/prepare"): check_preparation,
    ("POST", f"{EXECUTE}/execute"): check_execution,
    ("GET", "/api/v1/exchanges"): check_exchanges_are_shared,
    ("GET", "/api/v1/exchange/{exchangeId}/instruments"): check_exchanges_are_shared,
    ("GET", "/api/v1/exchange/{exchangeId}/{segment}/instruments"): check_exchanges_are_shared,
    (
        "GET",
        "/api/v1/exchange/{exchangeId}/{segment}/instruments/{symbol}",
    ): check_exchanges_are_shared,
}
"""Account routes without an owned id in their path, and a check that each keeps accounts apart."""


@pytest.mark.parametrize("path", CHECKS, ids=" ".join)
def test_what_is_of_all_is_of_ones_own(
    accounts: TwoAccounts, owned: Owned, path: tuple[str, str]
) -> None:
    CHECKS[path](accounts.bob, owned)
