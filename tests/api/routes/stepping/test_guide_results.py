"""The guide's step 7: the results of sessions, and lists and comparisons of them."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from tests.support.api_client import BACKTEST, Api, sample_home
from tests.support.guide import (
    CANDLES_ADD,
    COMPARED,
    COMPARISON_ADDS,
    CONFIG_ADDS,
    KNOWN_AT_THE_END,
    METRICS_ADD,
    RESULTS,
    SESSION,
    SNAPSHOT,
    START,
    TRADE,
    check,
    complete_session,
    create_and_start,
    kind,
)
from tests.support.server_process import RunningServer, running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running(sample_home(tmp_path_factory.mktemp("guide") / "home")) as server:
        yield server


@pytest.fixture(scope="module")
def api(server: RunningServer) -> Iterator[Api]:
    with server.client() as client:
        yield Api(client)


@pytest.fixture(scope="module")
def completed(api: Api) -> str:
    return complete_session(api, "momentum_v1", hours=12)


def test_step_7_results(api: Api, completed: str) -> None:
    results = api.read(completed, "results")
    check(results, RESULTS, CANDLES_ADD)
    check(results["config"], RESULTS["config"], CONFIG_ADDS)
    check(results["summary"], RESULTS["summary"])
    check(results["metrics"], RESULTS["metrics"], METRICS_ADD)
    assert len(results["by_pair"]) == 2
    for pair, printed in zip(results["by_pair"], RESULTS["by_pair"], strict=True):
        check(pair, printed)
        assert pair["symbol"] == printed["symbol"]
    assert results["session_id"] == completed
    assert results["status"] == "completed"
    summary = {name: Decimal(value) for name, value in results["summary"].items()}
    assert summary["final_equity"] == 10000 + summary["total_pnl"]
    assert abs(summary["roi_pct"] - summary["total_pnl"] / 100) <= Decimal("5e-9")
    assert summary["total_trades"] == sum(pair["trades"] for pair in results["by_pair"]) == 80
    net_pnl = sum(Decimal(pair["net_pnl"]) for pair in results["by_pair"])
    assert net_pnl == summary["total_pnl"]


def test_step_7_curve_and_trades(api: Api, completed: str) -> None:
    curve = api.read(completed, "results/equity-curve")
    check(curve, {"session_id": "", "interval": 1, "snapshots": []})
    for snapshot in curve["snapshots"]:
        check(snapshot, SNAPSHOT)
    times = [snapshot["simulated_at"] for snapshot in curve["snapshots"]]
    assert (times[0], times[1], times[-1]) == (
        START,
        "2025-01-15T01:00:00Z",
        "2025-02-04T00:00:00Z",
    )
    assert len(times) == 20 * 24 + 1
    final = api.read(completed, "results")["summary"]["final_equity"]
    assert curve["snapshots"][-1]["total_equity"] == final
    every_fifth = api.read(completed, "results/equity-curve", interval=5)
    assert every_fifth["snapshots"] == curve["snapshots"][::5]
    trades = api.read(completed, "results/trades")
    check(trades, {"trades": [], "count": 1, "total": 1})
    assert (trades["count"], trades["total"]) == (80, 80)
    for trade in trades["trades"]:
        check(trade, TRADE, nullable={"realized_pnl"})
    assert api.read(completed, "trade/history") == trades
    page = api.read(completed, "results/trades", limit=3, offset=70)
    assert page == {"trades": trades["trades"][70:73], "count": 3, "total": 80}


def test_cancelling_early_saves_partial_results(api: Api) -> None:
    session_id = create_and_start(api)
    api.order(session_id)
    api.step(session_id, 1440)
    cancelled = api.post(f"{BACKTEST}/{session_id}/cancel")
    check(cancelled, {"session_id": "", "status": "", "total_trades": 1, "roi_pct": "0.00"})
    assert (cancelled["status"], cancelled["total_trades"]) == ("cancelled", 1)
    results = api.read(session_id, "results")
    assert results["status"] == "cancelled"
    assert results["summary"]["roi_pct"] == cancelled["roi_pct"]
    assert len(api.read(session_id, "results/equity-curve")["snapshots"]) == 25
    assert api.read(session_id, "results/trades")["total"] == 1


def test_sessions_are_listed(api: Api, completed: str) -> None:
    other = create_and_start(api, strategy_label="mean_reversion")
    query: dict[str, Any] = {
        "strategy_label": "momentum",
        "status": "completed",
        "sort_by": "sharpe_ratio",
    }
    listed = api.get(f"{BACKTEST}/list", **query)
    check(listed, {"backtests": [], "total": 1})
    ids = [session["session_id"] for session in listed["backtests"]]
    assert completed in ids
    assert other not in ids
    for session in listed["backtests"]:
        check(session, SESSION, nullable={"error", "sharpe_ratio"})
        status = api.read(session["session_id"], "status")
        assert session == {name: status[name] for name in status.keys() - CANDLES_ADD}
    ratios = [session["sharpe_ratio"] for session in listed["backtests"]]
    defined = [ratio for ratio in ratios if ratio is not None]
    undefined = [None] * (len(ratios) - len(defined))
    assert ratios == sorted(defined, reverse=True) + undefined
    status = api.read(other, "status")
    check(status, SESSION, CANDLES_ADD, KNOWN_AT_THE_END)
    assert all(status[name] is None for name in KNOWN_AT_THE_END)


def test_sessions_are_compared(api: Api, completed: str) -> None:
    other = complete_session(api, "momentum_v2", hours=30)
    compared = api.get(f"{BACKTEST}/compare", sessions=f"{completed},{other}")
    check(compared, COMPARED, {"best_by_drawdown"})
    for row, printed in zip(compared["comparisons"], COMPARED["comparisons"], strict=True):
        check(row, printed, COMPARISON_ADDS)
        results = api.read(row["session_id"], "results")
        assert row["roi_pct"] == float(results["summary"]["roi_pct"])
        assert row["sharpe_ratio"] == results["metrics"]["sharpe_ratio"]
    rows = {row["session_id"]: row for row in compared["comparisons"]}
    assert list(rows) == [completed, other]
    assert compared["best_by_roi"] == max(rows, key=lambda name: rows[name]["roi_pct"])
    assert compared["best_by_sharpe"] == max(rows, key=lambda name: rows[name]["sharpe_ratio"])
    assert compared["best_by_drawdown"] == min(
        rows, key=lambda name: rows[name]["max_drawdown_pct"]
    )
    winners = {compared[f"best_by_{figure}"] for figure in ("roi", "sharpe", "drawdown")}
    assert all(f"{winner} (momentum_v" in compared["recommendation"] for winner in winners)
    if len(winners) == 1:
        assert compared["recommendation"].endswith(" outperforms on all key metrics")
    best = api.get(f"{BACKTEST}/best", metric="sharpe_ratio")
    check(best, {"session_id": "", "strategy_label": "", "metric": "", "value": 1.5})
    assert best["value"] >= rows[compared["best_by_sharpe"]]["sharpe_ratio"]


def test_the_best_session_is_found_by_any_metric(api: Api, completed: str) -> None:
    for metric, expected in (
        ("sharpe_ratio", "number"),
        ("roi_pct", "money"),
        ("final_equity", "money"),
        ("total_trades", "integer"),
        ("max_drawdown_pct", "number"),
    ):
        best = api.get(f"{BACKTEST}/best", metric=metric)
        assert set(best) == {"session_id", "strategy_label", "metric", "value"}
        assert best["metric"] == metric
        assert kind(best["value"]) == expected


def test_an_agents_risk_profile_is_enforced(api: Api) -> None:
    body = {"name": "careful", "risk_profile": {"max_order_size_pct": 5}}
    agent = api.post("/api/v1/agents", body, expect=201)
    assert set(agent) == {"agent_id", "name", "risk_profile", "created_at"}
    session_id = create_and_start(api, agent_id=agent["agent_id"])
    assert api.order(session_id, quantity="0.005")["status"] == "filled"
    refused = api.order(session_id, expect=422, quantity="0.05")
    assert refused["code"] == "RISK_LIMIT_EXCEEDED"
    assert refused["details"]["limit"] == "max_order_size_pct"
    rejected = api.read(session_id, "trade/orders", status="rejected")
    assert [order["id"] for order in rejected["orders"]] == [2]
