"""Executions of backtests over HTTP, at once and as tasks."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from candlestep.sandbox import (
    Market,
)
from candlestep.sandbox.performance.metrics import EquitySeries, with_risk_free_rate
from tests.support.api_client import BACKTEST, Api, sample_home
from tests.support.backtests import (
    BACKTESTS,
    CONFIG,
    CROSS,
    ENDLESS,
    FAILING,
    STRATEGIES,
    TASKS,
    create,
    execute,
    in_process,
    keep,
    task_ended,
)
from tests.support.server_process import RunningServer, running


def test_commission_and_slippage_are_fractions(api: Api, market: Market, cross: str) -> None:
    costs: dict[str, Any] = {"commission": 0.002, "slippage": 0.001, "initial_capital": 5000}
    answer = execute(api, create(api, cross, **costs))["metrics"]["total_return"]
    session = in_process(
        market,
        starting_balance=5000,
        fee_rate="0.002",
        slippage={"model": "fixed_bps", "bps": 10},
    )
    assert answer == session.results().metrics.total_return
    free = execute(api, create(api, cross, commission=0, slippage=0))
    none = in_process(market, fee_rate=0, slippage={"model": "none"})
    assert free["metrics"]["total_return"] == none.results().metrics.total_return > answer


def test_the_risk_free_rate_moves_sharpe_and_sortino_alone(
    api: Api, market: Market, cross: str, completed: Any
) -> None:
    answer = execute(api, create(api, cross, {"risk_free_rate": 0.05}))["metrics"]
    session = in_process(market)
    curve = session.equity_curve()
    equity = np.array([float(entry.total_equity) for entry in curve])
    series = EquitySeries(curve.time, equity)
    expected = with_risk_free_rate(session.results().metrics, series, 100_000.0, 0.05)
    changed = {key for key, value in answer.items() if value != completed["metrics"][key]}
    assert changed == {"perf_sharpe_ratio", "perf_sortino_ratio"}
    assert answer["perf_sharpe_ratio"] == pytest.approx(expected.sharpe_ratio, rel=1e-12)
    assert answer["perf_sortino_ratio"] == pytest.approx(expected.sortino_ratio, rel=1e-12)
    assert answer["perf_sharpe_ratio"] < completed["metrics"]["perf_sharpe_ratio"]


def test_a_template_may_stand_in_for_what_the_strategy_has(
    api: Api, market: Market, cross: str
) -> None:
    breakout = {"template": "tpl_breakout", "parameters": {"lookback": 12}}
    stand_in = {"signal_plugin_key": "tpl_breakout", "signal_plugin_params": {"lookback": 12}}
    answer = execute(api, create(api, cross, stand_in))
    assert answer["config"]["signal_plugin_params"] == {"lookback": 12}
    expected = in_process(market, breakout).results().metrics.total_return
    assert answer["metrics"]["total_return"] == expected

    over = execute(api, create(api, cross, {"signal_plugin_params": {"fast": 8}}))
    merged = {**CROSS, "parameters": CROSS["parameters"] | {"fast": 8}}
    expected = in_process(market, merged).results().metrics.total_return
    assert over["metrics"]["total_return"] == expected


@pytest.mark.parametrize(
    ("content", "config", "says"),
    [
        (FAILING, {}, "line 2"),
        (CROSS, {"symbol": "DOGEUSDT"}, "no candles of DOGEUSDT"),
        (CROSS, {"start_date": "2024-01-01", "end_date": "2024-02-01"}, "no candles of BTCUSDT"),
    ],
)
def test_a_run_that_fails_says_why_and_is_no_error_of_the_server(
    api: Api, content: dict[str, Any], config: dict[str, Any], says: str
) -> None:
    backtest_id = create(api, keep(api, content), config)
    failed = execute(api, backtest_id)
    assert (failed["status"], failed["structured_metrics"]) == ("failed", None)
    assert set(failed["metrics"]) == {"error"}
    assert says in failed["metrics"]["error"]
    assert failed["trades_uri"] is failed["equity_curve_uri"] is None
    assert api.get(f"{BACKTESTS}/{backtest_id}") == failed
    error = api.get(f"{BACKTESTS}/{backtest_id}/trades", 409)
    assert error["details"] == {"status": "failed"}


@pytest.mark.parametrize(
    ("path", "body"), [("execute", {"async_mode": True}), ("execute/async", None)]
)
def test_an_execution_may_be_a_task(
    api: Api, cross: str, completed: Any, path: str, body: dict[str, Any] | None
) -> None:
    backtest_id = create(api, cross)
    started = api.post(f"{BACKTESTS}/{backtest_id}/{path}", body)
    assert started == {"task_id": started["task_id"], "status": "PENDING"}
    task = task_ended(api, started["task_id"])
    answer = api.get(f"{BACKTESTS}/{backtest_id}")
    assert task == {
        "task_id": started["task_id"],
        "status": "SUCCESS",
        "progress": 1,
        "result": answer,
        "error": None,
    }
    assert answer["metrics"] == completed["metrics"]


def test_a_task_that_fails_says_why(api: Api) -> None:
    backtest_id = create(api, keep(api, FAILING))
    started = api.post(f"{BACKTESTS}/{backtest_id}/execute/async")
    task = task_ended(api, started["task_id"])
    assert (task["status"], task["result"]) == ("FAILURE", None)
    assert "line 2" in task["error"]
    for unknown in ("bt_1", "x" * 5000):
        assert api.get(f"{TASKS}/{unknown}", 404)["code"] == "NOT_FOUND"


def test_a_job_of_another_api_is_no_task(api: Api) -> None:
    job = {
        "template_id": "tpl_sma_cross",
        "params": {},
        "symbols": ["BTCUSDT"],
        "timeframe": "1h",
        "start": CONFIG["start_date"],
        "end": CONFIG["end_date"],
        "capital": "100000",
    }
    job_id = api.post(f"{BACKTEST}/jobs", job)["id"]
    assert api.get(f"{TASKS}/{job_id}", 404)["code"] == "NOT_FOUND"


def test_what_runs_is_not_executed_twice_and_can_be_reset(api: Api) -> None:
    backtest_id = create(api, keep(api, ENDLESS), {"timeframe": "1m"})
    path = f"{BACKTESTS}/{backtest_id}"
    task_id = api.post(f"{path}/execute/async")["task_id"]
    assert api.get(path)["status"] == "running"
    assert api.get(f"{TASKS}/{task_id}")["status"] in ("PENDING", "STARTED", "PROGRESS")
    for again in ("execute", "execute/async"):
        error = api.post(f"{path}/{again}", expect=409)
        assert (error["code"], error["details"]) == ("INVALID_STATE", {"status": "running"})
    reset = api.call("PATCH", path, {"status": "pending"})
    assert (reset["status"], reset["metrics"]) == ("pending", {})
    task = task_ended(api, task_id)
    assert (task["status"], task["result"]) == ("FAILURE", None)
    assert "cancelled" in task["error"]
    assert api.get(path)["status"] == "pending"

    task_id = api.post(f"{path}/execute/async")["task_id"]
    assert api.client.delete(path).status_code == 204
    assert task_ended(api, task_id)["status"] == "FAILURE"
    assert api.get(path, 404)["code"] == "BACKTEST_NOT_FOUND"


def test_of_executions_at_once_one_is_carried_out(api: Api) -> None:
    path = f"{BACKTESTS}/{create(api, keep(api, ENDLESS), {'timeframe': '1m'})}"
    with ThreadPoolExecutor(8) as clients:
        statuses = list(
            clients.map(lambda _: api.client.post(f"{path}/execute/async").status_code, range(16))
        )
    assert sorted(statuses) == [200] + [409] * 15
    api.call("PATCH", path, {"status": "pending"})


def test_executed_again_it_is_the_strategy_as_it_is_now(api: Api, market: Market) -> None:
    strategy_id = keep(api, CROSS)
    backtest_id = create(api, strategy_id)
    first = execute(api, backtest_id)
    slower = {**CROSS, "parameters": CROSS["parameters"] | {"slow": 40}}
    api.call("PATCH", f"{STRATEGIES}/{strategy_id}", {"pipeline_config": slower})
    second = execute(api, backtest_id)
    expected = in_process(market, slower).results().metrics.total_return
    assert second["metrics"]["total_return"] == expected != first["metrics"]["total_return"]
    assert second["created_at"] == first["created_at"]
    api.client.delete(f"{STRATEGIES}/{strategy_id}")
    error = api.post(f"{BACKTESTS}/{backtest_id}/execute", expect=404)
    assert error["code"] == "STRATEGY_NOT_FOUND"
    assert api.get(f"{BACKTESTS}/{backtest_id}") == second


def test_a_run_goes_on_when_its_server_was_killed(tmp_path: Path) -> None:
    home = sample_home(tmp_path / "home")
    first = RunningServer(home)
    with first.client() as client:
        api = Api(client)
        endless, cross = keep(api, ENDLESS), keep(api, CROSS)
        ids = [create(api, endless, {"timeframe": "1m"}), *(create(api, cross) for _ in range(3))]
        tasks = [api.post(f"{BACKTESTS}/{entry}/execute/async")["task_id"] for entry in ids]
        first.kill()
    with running(home) as second, second.client() as client:
        api = Api(client)
        assert api.get(f"{BACKTESTS}/{ids[0]}")["status"] == "running"
        api.call("PATCH", f"{BACKTESTS}/{ids[0]}", {"status": "pending"})
        for backtest_id, task_id in zip(ids[1:], tasks[1:], strict=True):
            assert task_ended(api, task_id)["result"] == api.get(f"{BACKTESTS}/{backtest_id}")
            assert len(api.get(f"{BACKTESTS}/{backtest_id}/trades")) > 3
