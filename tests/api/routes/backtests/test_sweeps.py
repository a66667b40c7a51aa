"""Sweeps over HTTP: many configurations of a strategy as one job, and its leaderboard."""

from typing import Any

import pytest

from tests.support.api_client import Api
from tests.support.backtests import (
    BACKTESTS,
    CONFIG,
    ENDLESS,
    FAILING,
    HIGHER,
    LOWER,
    TASKS,
    create,
    execute,
    keep,
    task_ended,
)

SWEEP = f"{BACKTESTS}/sweep"


def sweep(api: Api, strategy_id: str, grid: list[Any], **body: Any) -> Any:
    """Run a sweep and return its task when it has ended."""
    sent = {"strategy_id": strategy_id, "base_config": CONFIG, "param_grid": grid} | body
    started = api.post(SWEEP, sent)
    assert started == {
        "task_id": started["task_id"], "status": "PENDING", "n_configs": len(grid),
    }  # fmt: skip
    task = task_ended(api, started["task_id"])
    assert set(task) == {"task_id", "status", "progress", "result", "error"}
    return task


def board(api: Api, strategy_id: str, grid: list[Any], **body: Any) -> list[Any]:
    task = sweep(api, strategy_id, grid, **body)
    assert (task["status"], task["progress"], task["error"]) == ("SUCCESS", 1, None)
    assert set(task["result"]) == {"leaderboard", "total_runs"}
    assert task["result"]["total_runs"] == len(grid)
    ranked: list[Any] = task["result"]["leaderboard"]
    assert [entry["rank"] for entry in ranked] == list(range(1, len(grid) + 1))
    return ranked


def test_each_run_is_the_backtest_of_its_configuration(api: Api, cross: str) -> None:
    grid = [
        {},
        {"fast": 8},
        {"signal_plugin_params": {"slow": 30}, "fast": 3},
        {"initial_capital": 5000, "commission": "0.002", "slippage": 0},
        {"timeframe": "4h", "end_date": "2025-02-01"},
        {"signal_plugin_key": "tpl_breakout", "lookback": 12},
    ]
    alone = [
        create(api, cross),
        create(api, cross, {"signal_plugin_params": {"fast": 8}}),
        create(api, cross, {"signal_plugin_params": {"slow": 30, "fast": 3}}),
        create(api, cross, initial_capital=5000, commission=0.002, slippage=0),
        create(api, cross, {"timeframe": "4h", "end_date": "2025-02-01"}),
        create(
            api,
            cross,
            {"signal_plugin_key": "tpl_breakout", "signal_plugin_params": {"lookback": 12}},
        ),
    ]
    ranked = board(api, cross, grid)
    scores = [entry["score"] for entry in ranked]
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) == len(grid)
    for entry in ranked:
        single = execute(api, alone[grid.index(entry["overrides"])])
        stored = api.get(f"{BACKTESTS}/{entry['backtest_id']}")
        assert set(entry) == {
            "rank", "backtest_id", "overrides", "status", "score", "rank_metric",
            "metrics_summary", "error",
        }  # fmt: skip
        assert (entry["status"], entry["error"]) == ("completed", None)
        assert entry["rank_metric"] == "perf_sharpe_ratio"
        assert entry["score"] == single["metrics"]["perf_sharpe_ratio"]
        assert entry["metrics_summary"].items() <= stored["metrics"].items()
        for name in ("config", "metrics", "initial_capital", "commission", "slippage", "status"):
            assert stored[name] == single[name], name
        for part in ("equity-curve", "trades"):
            mine = api.get(f"{BACKTESTS}/{entry['backtest_id']}/{part}")
            assert mine == api.get(f"{BACKTESTS}/{single['id']}/{part}")


@pytest.mark.parametrize("metric", ["total_return", "risk_max_drawdown", "trade_win_rate"])
def test_the_best_is_first_in_the_direction_of_the_metric(
    api: Api, cross: str, metric: str
) -> None:
    ranked = board(api, cross, [{"fast": fast} for fast in (3, 5, 9)], rank_metric=metric)
    scores = [entry["score"] for entry in ranked]
    assert len(set(scores)) > 1, scores
    assert metric in HIGHER | LOWER
    assert scores == sorted(scores, reverse=metric in HIGHER)
    assert all(entry["metrics_summary"][metric] == entry["score"] for entry in ranked)


def test_what_has_no_score_is_behind_and_what_failed_is_last(api: Api, cross: str) -> None:
    """Without closed trades the win rate is undefined."""
    grid = [
        {"symbol": "DOGEUSDT"},
        {"signal_plugin_key": "tpl_buy_and_hold"},
        {"fast": 3},
        {"symbol": "XRPUSDT"},
    ]
    ranked = board(api, cross, grid, rank_metric="trade_win_rate")
    assert [entry["overrides"] for entry in ranked] == [grid[2], grid[1], grid[0], grid[3]]
    assert [entry["status"] for entry in ranked] == ["completed", "completed", "failed", "failed"]
    assert ranked[1]["score"] is ranked[2]["score"] is None
    assert ranked[1]["error"] is None
    assert ranked[2]["metrics_summary"] == {}
    assert "no candles of DOGEUSDT" in ranked[2]["error"]
    failed = api.get(f"{BACKTESTS}/{ranked[2]['backtest_id']}")
    assert (failed["status"], failed["metrics"]) == ("failed", {"error": ranked[2]["error"]})


def test_a_sweep_of_which_all_runs_fail_is_a_failure_and_says_of_each_why(api: Api) -> None:
    task = sweep(api, keep(api, FAILING), [{}, {"timeframe": "4h"}])
    assert task["status"] == "FAILURE"
    assert "line 2" in task["error"]
    for ranked in task["result"]["leaderboard"]:
        assert (ranked["status"], ranked["score"]) == ("failed", None)
        assert "line 2" in ranked["error"]


def test_a_task_can_be_cancelled(api: Api, cross: str) -> None:
    body = {"strategy_id": keep(api, ENDLESS), "base_config": CONFIG, "param_grid": [{}, {}]}
    task_id = api.post(SWEEP, body)["task_id"]
    cancelled = api.post(f"{TASKS}/{task_id}/cancel")
    assert (cancelled["status"], cancelled["result"]) == ("FAILURE", None)
    assert cancelled["error"] == "it was cancelled"
    assert api.get(f"{TASKS}/{task_id}") == cancelled
    assert api.post(f"{TASKS}/{task_id}/cancel", expect=409)["code"] == "INVALID_STATE"
    assert api.post(f"{TASKS}/nothing/cancel", expect=404)["code"] == "NOT_FOUND"
    backtest_id = create(api, cross)
    task_id = api.post(f"{BACKTESTS}/{backtest_id}/execute/async")["task_id"]
    task_ended(api, task_id)
    assert api.post(f"{TASKS}/{task_id}/cancel", expect=409)["details"] == {"status": "done"}


def test_the_largest_sweep_is_one_job(api: Api, cross: str) -> None:
    short = CONFIG | {"end_date": "2025-01-12"}
    grid = [{"fast": 2 + place % 10, "slow": 20 + place} for place in range(50)]
    assert len(board(api, cross, grid, base_config=short)) == 50
    assert api.post(f"{BACKTESTS}/compare", {"backtest_ids": [
        entry["backtest_id"] for entry in board(api, cross, grid[:3], base_config=short)
    ]})["metric_diff"]["total_return"]["best_id"]  # fmt: skip


def test_a_sweep_counts_once_and_ends_as_a_whole(api: Api, cross: str) -> None:
    endless = keep(api, ENDLESS)
    body = {
        "strategy_id": endless,
        "base_config": CONFIG | {"timeframe": "1m"},
        "param_grid": [{}, {"commission": 0}, {"slippage": 0}],
    }
    before = {entry["id"] for entry in api.get(BACKTESTS, limit=1000)}
    task_id = api.post(SWEEP, body)["task_id"]
    runs = [entry["id"] for entry in api.get(BACKTESTS, limit=1000) if entry["id"] not in before]
    assert len(runs) == 3
    assert {api.get(f"{BACKTESTS}/{run_id}")["status"] for run_id in runs} == {"running"}
    assert api.post(f"{BACKTESTS}/{runs[0]}/execute", expect=409)["code"] == "INVALID_STATE"
    error = api.call("PATCH", f"{BACKTESTS}/{runs[0]}", {"status": "pending"}, 409)
    assert "sweep" in error["message"]
    assert api.client.delete(f"{BACKTESTS}/{runs[0]}").status_code == 204
    assert api.get(f"{TASKS}/{task_id}")["status"] != "FAILURE"

    alone = [create(api, endless, {"timeframe": "1m"}) for _ in range(5)]
    for backtest_id in alone[:4]:
        api.post(f"{BACKTESTS}/{backtest_id}/execute/async")
    refused = api.post(f"{BACKTESTS}/{alone[4]}/execute", expect=429)
    assert refused["code"] == "RATE_LIMITED"
    assert api.get(f"{BACKTESTS}/{alone[4]}")["status"] == "pending"
    assert api.post(SWEEP, body, 429)["code"] == "RATE_LIMITED"
    for backtest_id in alone[:4]:
        api.call("PATCH", f"{BACKTESTS}/{backtest_id}", {"status": "failed"})
    assert len(api.get(BACKTESTS, limit=1000)) == len(before) + 2 + 5, (
        "a refused sweep leaves no backtests"
    )

    api.client.delete(f"{BACKTESTS}/{runs[1]}")
    assert api.get(f"{TASKS}/{task_id}")["status"] != "FAILURE"
    api.client.delete(f"{BACKTESTS}/{runs[2]}")
    ended = task_ended(api, task_id)
    assert (ended["status"], ended["result"]) == ("FAILURE", None)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"param_grid": []}, "param_grid"),
        ({"param_grid": [{}] * 51}, "param_grid"),
        ({"param_grid": [{}, 5]}, "param_grid[1]"),
        ({"param_grid": [{}, {"fast": 30}]}, "param_grid[1].fast"),
        ({"param_grid": [{"fasst": 3}]}, "param_grid[0].fasst"),
        ({"param_grid": [{"signal_plugin_params": {"slow": 1}}]},
         "param_grid[0].signal_plugin_params.slow"),
        ({"param_grid": [{"signal_plugin_params": 5, "fast": 3}]},
         "param_grid[0].signal_plugin_params"),
        ({"param_grid": [{"signal_plugin_key": 5}]}, "param_grid[0].signal_plugin_key"),
        ({"param_grid": [{"timeframe": "3h"}]}, "param_grid[0].timeframe"),
        ({"param_grid": [{"initial_capital": "-1"}]}, "param_grid[0].initial_capital"),
        ({"param_grid": [{"slippage": [1]}]}, "param_grid[0].slippage"),
        ({"param_grid": [{"model_id": "x"}]}, "param_grid[0].model_id"),
        ({"base_config": 5}, "base_config"),
        ({"base_config": {}}, "base_config.symbol"),
        ({"base_config": CONFIG | {"symbl": "x"}}, "base_config.symbl"),
        ({"base_config": CONFIG | {"commission": 2}}, "base_config.commission"),
        ({"rank_metric": "trade_total_trades"}, "rank_metric"),
        ({"rank_metric": "sharpe"}, "rank_metric"),
        ({"engine": "zipline"}, "engine"),
        ({"grid": []}, "grid"),
    ],
)  # fmt: skip
def test_a_sweep_that_cannot_be_is_refused_where_it_was_said(
    api: Api, cross: str, changes: dict[str, Any], field: str
) -> None:
    body = {"strategy_id": cross, "base_config": CONFIG, "param_grid": [{}]} | changes
    before = len(api.get(BACKTESTS, limit=1000))
    error = api.post(SWEEP, body, 422)
    assert (error["code"], error["details"]["field"]) == ("INVALID_PARAMETER", field), error
    assert len(api.get(BACKTESTS, limit=1000)) == before
