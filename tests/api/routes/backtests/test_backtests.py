"""Backtests over HTTP: what is kept, what an execution makes of it, and what is refused."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from candlestep.sandbox import (
    Market,
    Session,
    SessionConfig,
    closed_trades,
    format_time,
    parse_time,
)
from candlestep.sandbox.engines.run import engines
from candlestep.sandbox.performance.metrics import EquitySeries, with_risk_free_rate
from candlestep.sandbox.strategies import compile_strategy, run
from tests.support.api_client import BACKTEST, Api, sample_home, sample_market_of
from tests.support.backtests import (
    BACKTESTS,
    CONFIG,
    CROSS,
    ENDLESS,
    FAILING,
    HIGHER,
    LOWER,
    STRATEGIES,
    TASKS,
    create,
    execute,
    keep,
    task_ended,
)
from tests.support.server_process import RunningServer, running

MONTH = (parse_time("2025-01-10"), parse_time("2025-02-10T01:00:00Z"))
"""Of CONFIG: the candle that opens at its end is part of it, and completes an hour later."""
READ_FIELDS = {
    "id", "strategy_id", "engine", "status", "initial_capital", "commission", "slippage", "config",
    "metrics", "trades_uri", "equity_curve_uri", "created_at", "updated_at",
}  # fmt: skip
STRUCTURED = {
    "total_return": "total_return",
    "bars_in_market": "bars_in_market",
    "perf_cagr": "performance.cagr",
    "perf_sharpe_ratio": "performance.sharpe_ratio",
    "perf_sortino_ratio": "performance.sortino_ratio",
    "perf_calmar_ratio": "performance.calmar_ratio",
    "risk_max_drawdown": "risk.max_drawdown",
    "risk_max_drawdown_duration": "risk.max_drawdown_duration",
    "risk_var_95": "risk.var_95",
    "risk_cvar_95": "risk.cvar_95",
    "risk_var_99": "risk.var_99",
    "risk_cvar_99": "risk.cvar_99",
    "risk_volatility_annualised": "risk.volatility_annualised",
    "trade_total_trades": "trading.total_trades",
    "trade_win_rate": "trading.win_rate",
    "trade_profit_factor": "trading.profit_factor",
    "trade_avg_win": "trading.avg_win",
    "trade_avg_loss": "trading.avg_loss",
    "trade_expectancy": "trading.expectancy",
    "trade_turnover_annualised": "trading.turnover_annualised",
}
"""The table of the document."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sample_home(tmp_path_factory.mktemp("backtests") / "home")


@pytest.fixture(scope="module")
def market(home: Path) -> Market:
    return sample_market_of(home, "BTCUSDT", MONTH)


@pytest.fixture(scope="module")
def server(home: Path, market: Market) -> Iterator[RunningServer]:
    with running(home) as server:
        yield server


@pytest.fixture(scope="module")
def api(server: RunningServer) -> Iterator[Api]:
    with server.client() as client:
        yield Api(client)


@pytest.fixture(scope="module")
def cross(api: Api) -> str:
    return keep(api, CROSS)


@pytest.fixture(scope="module")
def completed(api: Api, cross: str) -> Any:
    """A backtest that was executed; no test changes it."""
    return execute(api, create(api, cross))


def in_process(market: Market, content: dict[str, Any] = CROSS, **config: Any) -> Session:
    """The session that the usual backtest is, with these changes."""
    settings: dict[str, Any] = {
        "start_time": MONTH[0],
        "end_time": MONTH[1],
        "starting_balance": 100_000,
        "candle_interval": "1h",
        "fee_rate": "0.0005",
        "slippage": {"model": "fixed_bps", "bps": 5},
    }
    strategy = compile_strategy(content | {"timeframe": "1h"})
    return run(strategy, SessionConfig(**settings | config), market).session


def field_of(error: Any) -> str:
    assert error["code"] == "INVALID_PARAMETER"
    return str(error["details"]["field"])


# Strategies


def test_a_strategy_is_kept_as_it_was_sent(api: Api) -> None:
    sent = {
        "name": "trend",
        "description": "follows it",
        "universe": ["BTCUSDT", "eth/usdt"],
        "timeframe": "4h",
        "pipeline_config": CROSS,
    }
    made = api.post(STRATEGIES, sent, 201)
    assert made == sent | {
        "universe": ["BTCUSDT", "ETHUSDT"],
        "id": made["id"],
        "status": "draft",
        "version": 1,
        "created_at": made["created_at"],
        "updated_at": made["created_at"],
    }
    assert api.get(f"{STRATEGIES}/{made['id']}") == made
    changed = api.call("PATCH", f"{STRATEGIES}/{made['id']}", {"name": "other", "timeframe": 3600})
    assert changed == made | {
        "name": "other", "timeframe": "1h", "version": 2, "updated_at": changed["updated_at"],
    }  # fmt: skip
    answer = api.client.delete(f"{STRATEGIES}/{made['id']}")
    assert (answer.status_code, answer.content) == (204, b"")
    assert "content-length" not in answer.headers
    for method in ("GET", "PATCH", "DELETE"):
        body: dict[str, Any] | None = {} if method == "PATCH" else None
        error = api.call(method, f"{STRATEGIES}/{made['id']}", body, 404)
        assert error["code"] == "STRATEGY_NOT_FOUND"


def test_strategies_are_listed_by_page(api: Api) -> None:
    before = len(api.get(STRATEGIES))
    ids = [keep(api, CROSS) for _ in range(3)]
    assert [each["id"] for each in api.get(STRATEGIES, skip=before)] == ids
    assert [each["id"] for each in api.get(STRATEGIES, skip=before + 1, limit=1)] == [ids[1]]
    least = api.post(STRATEGIES, {"name": "least"}, 201)
    assert (least["universe"], least["timeframe"], least["pipeline_config"]) == ([], "1d", {})
    assert field_of(api.get(STRATEGIES, 422, limit=0)) == "limit"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": ""}, "name"),
        ({"nam": "x"}, "nam"),
        ({"timeframe": "2h"}, "timeframe"),
        ({"universe": ["B$"]}, "symbol"),
        ({"pipeline_config": 5}, "pipeline_config"),
        ({"pipeline_config": {"template": "tpl_magic"}}, "pipeline_config.template"),
        ({"pipeline_config": {"entries": 5}}, "pipeline_config.entries"),
        ({"pipeline_config": {"source": "def"}}, "pipeline_config.source"),
    ],
)
def test_a_strategy_that_cannot_be_is_refused(
    api: Api, changes: dict[str, Any], field: str
) -> None:
    assert field_of(api.post(STRATEGIES, {"name": "x"} | changes, 422)) == field


def test_hostile_numbers_and_nesting_are_refused(api: Api) -> None:
    def sent(pipeline: str) -> Any:
        body = f'{{"name": "x", "pipeline_config": {pipeline}}}'
        headers = {"Content-Type": "application/json"}
        return api.client.post(STRATEGIES, content=body, headers=headers)

    assert field_of(sent('{"template": 1e400}').json()) == "pipeline_config"
    nested = sent('{"entries": ' + "[" * 40 + "]" * 40 + "}").json()
    assert field_of(nested).startswith("pipeline_config.entries[0]")
    assert sent("[" * 5000 + "]" * 5000).json()["code"] == "INVALID_JSON"


# Backtests


def test_a_backtest_is_created_with_the_defaults_of_the_document(api: Api, cross: str) -> None:
    config = {name: CONFIG[name] for name in ("symbol", "start_date", "end_date")}
    made = api.post(BACKTESTS, {"strategy_id": cross, "config": config}, 201)
    assert made == {
        "id": made["id"],
        "strategy_id": cross,
        "engine": "sandbox",
        "status": "pending",
        "initial_capital": 100000,
        "commission": 0.0005,
        "slippage": 0.0005,
        "config": config
        | {
            "timeframe": "1d",
            "bars_per_year": 252,
            "risk_free_rate": 0,
            "size_type": "percent",
            "signal_plugin_key": None,
            "signal_plugin_params": {},
            "feature_ids": [],
            "model_id": None,
            "signal_logic_id": None,
            "exchange": "binance",
        },
        "metrics": {},
        "trades_uri": None,
        "equity_curve_uri": None,
        "created_at": made["created_at"],
        "updated_at": made["created_at"],
    }
    assert api.get(f"{BACKTESTS}/{made['id']}") == made | {"structured_metrics": None}
    for part in ("equity-curve", "equity-curve/parquet", "trades", "trades/parquet"):
        error = api.get(f"{BACKTESTS}/{made['id']}/{part}", 409)
        assert (error["code"], error["details"]) == ("INVALID_STATE", {"status": "pending"})


def test_numbers_may_be_text(api: Api, cross: str) -> None:
    text = {"initial_capital": "5e3", "commission": "0.001", "slippage": ".0"}
    made = api.post(
        BACKTESTS,
        {"strategy_id": cross, "config": CONFIG | {"bars_per_year": "365"}, **text},
        201,
    )
    assert (made["initial_capital"], made["commission"], made["slippage"]) == (5000, 0.001, 0)
    assert made["config"]["bars_per_year"] == 365


def test_an_execution_is_what_the_same_strategy_makes_in_process(
    api: Api, market: Market, completed: Any
) -> None:
    session = in_process(market)
    trades, metrics = closed_trades(session.fills), session.results().metrics
    flat = completed["metrics"]

    assert len(trades) > 3
    assert set(completed) == READ_FIELDS | {"structured_metrics"}
    assert completed["status"] == "completed"
    assert completed["created_at"] < completed["updated_at"]
    assert flat == {
        "total_return": metrics.total_return,
        "bars_in_market": metrics.candles_in_market,
        "perf_cagr": metrics.cagr,
        "perf_sharpe_ratio": metrics.sharpe_ratio,
        "perf_sortino_ratio": metrics.sortino_ratio,
        "perf_calmar_ratio": metrics.calmar_ratio,
        "risk_max_drawdown": metrics.max_drawdown_pct / 100,
        "risk_max_drawdown_duration": metrics.max_drawdown_duration_days,
        "risk_var_95": metrics.var_95,
        "risk_cvar_95": metrics.cvar_95,
        "risk_var_99": metrics.var_99,
        "risk_cvar_99": metrics.cvar_99,
        "risk_volatility_annualised": metrics.volatility,
        "trade_total_trades": len(trades),
        "trade_win_rate": (metrics.win_rate or 0) / 100,
        "trade_profit_factor": metrics.profit_factor,
        "trade_avg_win": float(metrics.avg_win or 0),
        "trade_avg_loss": float(metrics.avg_loss or 0),
        "trade_expectancy": float(metrics.expectancy or 0),
        "trade_turnover_annualised": metrics.turnover,
    }
    curve = session.equity_curve()
    points = [(format_time(each.time), float(each.total_equity)) for each in curve]
    found = api.get(f"{BACKTESTS}/{completed['id']}/equity-curve")
    assert [(each["date"], each["equity"]) for each in found] == points[1:]
    assert len(found) == (MONTH[1] - MONTH[0]) / 3_600_000, "one for each candle"
    listed = api.get(f"{BACKTESTS}/{completed['id']}/trades")
    assert listed == [
        {
            "entry_date": format_time(trade.entry_time),
            "exit_date": format_time(trade.exit_time),
            "side": "buy",
            "entry_price": float(trade.entry_price),
            "exit_price": float(trade.exit_price),
            "size": float(trade.quantity),
            "pnl": float(trade.pnl),
            "return_pct": float(trade.return_pct * Decimal("0.01")),
        }
        for trade in trades
        if trade.return_pct is not None
    ]


def test_structured_metrics_are_the_flat_ones(completed: Any) -> None:
    structured = completed["structured_metrics"]
    leaves = {
        f"{name}.{inner}" if isinstance(value, dict) else name: leaf
        for name, value in structured.items()
        for inner, leaf in (value.items() if isinstance(value, dict) else [("", value)])
    }
    assert set(completed["metrics"]) == set(STRUCTURED)
    assert leaves == {path: completed["metrics"][key] for key, path in STRUCTURED.items()}


def test_commission_and_slippage_are_fractions(api: Api, market: Market, cross: str) -> None:
    costs: dict[str, Any] = {"commission": 0.002, "slippage": 0.001, "initial_capital": 5000}
    found = execute(api, create(api, cross, **costs))["metrics"]["total_return"]
    session = in_process(
        market,
        starting_balance=5000,
        fee_rate="0.002",
        slippage={"model": "fixed_bps", "bps": 10},
    )
    assert found == session.results().metrics.total_return
    free = execute(api, create(api, cross, commission=0, slippage=0))
    none = in_process(market, fee_rate=0, slippage={"model": "none"})
    assert free["metrics"]["total_return"] == none.results().metrics.total_return > found


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


def test_the_risk_free_rate_moves_sharpe_and_sortino_alone(
    api: Api, market: Market, cross: str, completed: Any
) -> None:
    found = execute(api, create(api, cross, {"risk_free_rate": 0.05}))["metrics"]
    session = in_process(market)
    curve = session.equity_curve()
    equity = np.array([float(each.total_equity) for each in curve])
    series = EquitySeries(curve.time, equity)
    expected = with_risk_free_rate(session.results().metrics, series, 100_000.0, 0.05)
    changed = {key for key, value in found.items() if value != completed["metrics"][key]}
    assert changed == {"perf_sharpe_ratio", "perf_sortino_ratio"}
    assert found["perf_sharpe_ratio"] == pytest.approx(expected.sharpe_ratio, rel=1e-12)
    assert found["perf_sortino_ratio"] == pytest.approx(expected.sortino_ratio, rel=1e-12)
    assert found["perf_sharpe_ratio"] < completed["metrics"]["perf_sharpe_ratio"]


def test_a_template_may_stand_in_for_what_the_strategy_has(
    api: Api, market: Market, cross: str
) -> None:
    breakout = {"template": "tpl_breakout", "parameters": {"lookback": 12}}
    stand_in = {"signal_plugin_key": "tpl_breakout", "signal_plugin_params": {"lookback": 12}}
    found = execute(api, create(api, cross, stand_in))
    assert found["config"]["signal_plugin_params"] == {"lookback": 12}
    expected = in_process(market, breakout).results().metrics.total_return
    assert found["metrics"]["total_return"] == expected

    over = execute(api, create(api, cross, {"signal_plugin_params": {"fast": 8}}))
    merged = {**CROSS, "parameters": CROSS["parameters"] | {"fast": 8}}
    expected = in_process(market, merged).results().metrics.total_return
    assert over["metrics"]["total_return"] == expected


def test_the_size_type_is_what_the_strategy_says(api: Api) -> None:
    def card(size: dict[str, Any]) -> str:
        return keep(api, {"entries": [{"every": 5, "size": size}]})

    for size, fits, refused in (
        ({"equity_share": 0.1}, "percent", "shares"),
        ({"quantity": 0.01}, "shares", "percent"),
        ({"quote": 100}, "signal_weight", "percent"),
    ):
        strategy_id = card(size)
        body = {"strategy_id": strategy_id, "config": CONFIG}
        assert api.post(BACKTESTS, body, 201)["config"]["size_type"] == fits
        for given in (fits, "signal_weight"):
            create(api, strategy_id, {"size_type": given})
        body = {"strategy_id": strategy_id, "config": CONFIG | {"size_type": refused}}
        assert field_of(api.post(BACKTESTS, body, 422)) == "config.size_type"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"symbol": "B$"}, "config.symbol"),
        ({"symbol": None}, "config.symbol"),
        ({"symbl": "BTCUSDT"}, "config.symbl"),
        ({"timeframe": "2h"}, "config.timeframe"),
        ({"start_date": "soon"}, "config.start_date"),
        ({"start_date": "2025-02-10T00:00:00Z"}, "config.end_date"),
        ({"end_date": "2100-01-01"}, "config.end_date"),
        ({"start_date": "1900-01-01"}, "config.end_date"),
        ({"start_date": "2025-01-10T00:00:01Z", "end_date": "2025-01-10T00:59:59Z"},
         "config.end_date"),
        ({"bars_per_year": 0}, "config.bars_per_year"),
        ({"bars_per_year": "NaN"}, "config.bars_per_year"),
        ({"risk_free_rate": -1}, "config.risk_free_rate"),
        ({"size_type": "all"}, "config.size_type"),
        ({"signal_plugin_key": "tpl_magic"}, "config.signal_plugin_key"),
        ({"signal_plugin_params": {"fast": 20}}, "config.signal_plugin_params.fast"),
        ({"signal_plugin_params": {"fasst": 9}}, "config.signal_plugin_params.fasst"),
        ({"signal_plugin_params": []}, "config.signal_plugin_params"),
        ({"feature_ids": ["x"]}, "config.feature_ids"),
        ({"model_id": "x"}, "config.model_id"),
        ({"signal_logic_id": "x"}, "config.signal_logic_id"),
    ],
)  # fmt: skip
def test_a_configuration_that_cannot_be_is_refused(
    api: Api, cross: str, changes: dict[str, Any], field: str
) -> None:
    body = {"strategy_id": cross, "config": CONFIG | changes}
    assert field_of(api.post(BACKTESTS, body, 422)) == field


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"initial_capital": 0}, "initial_capital"),
        ({"initial_capital": "1e400"}, "initial_capital"),
        ({"commission": -0.1}, "commission"),
        ({"commission": "1.1"}, "commission"),
        ({"slippage": 0.6}, "slippage"),
        ({"slippage": "NaN"}, "slippage"),
        ({"config": None}, "config"),
        ({"sweep": 1}, "sweep"),
    ],
)
def test_a_backtest_that_cannot_be_is_refused(
    api: Api, cross: str, changes: dict[str, Any], field: str
) -> None:
    body = {"strategy_id": cross, "config": CONFIG} | changes
    assert field_of(api.post(BACKTESTS, body, 422)) == field


def test_what_is_empty_may_be_sent_and_what_is_not_there_is_refused_in_words(api: Api) -> None:
    strategy_id = api.post(STRATEGIES, {"name": "empty"}, 201)["id"]
    body = {"strategy_id": strategy_id, "config": CONFIG}
    assert field_of(api.post(BACKTESTS, body, 422)) == "config.signal_plugin_key"
    empty: dict[str, Any] = {"feature_ids": [], "model_id": "", "signal_logic_id": None}
    create(api, strategy_id, empty | {"signal_plugin_key": "tpl_rsi"})
    error = api.post(BACKTESTS, body | {"strategy_id": "x"}, 404)
    assert error["code"] == "STRATEGY_NOT_FOUND"


def test_what_has_few_values_says_which(api: Api, cross: str) -> None:
    backtest_id = create(api, cross)
    error = api.call("PATCH", f"{BACKTESTS}/{backtest_id}", {"status": "done"}, 422)
    assert error["message"].endswith("it must be one of pending, running, completed, failed")
    body = {"strategy_id": cross, "config": CONFIG | {"size_type": "lots"}}
    error = api.post(BACKTESTS, body, 422)
    assert field_of(error) == "config.size_type"
    assert error["message"].endswith("it must be one of percent, shares, signal_weight")
    session = {"start_time": "2025-01-10", "end_time": "2025-01-11", "fee_model": "free"}
    error = api.post(f"{BACKTEST}/create", session, 422)
    assert "one of none, fixed_bps, tiered_maker_taker, match_exchange" in error["message"]


def test_engines_are_those_that_there_are(api: Api, cross: str) -> None:
    there = api.get(f"{BACKTESTS}/engines/available")
    assert there == {"engines": sorted(engines())}
    assert "sandbox" in there["engines"]
    error = api.post(BACKTESTS, {"strategy_id": cross, "config": CONFIG, "engine": "zipline"}, 422)
    assert field_of(error) == "engine"
    assert "sandbox" in error["message"]


@pytest.mark.parametrize("engine", [name for name in engines() if name != "sandbox"])
def test_what_an_engine_cannot_do_is_refused_before_anything_is_kept(api: Api, engine: str) -> None:
    """At its creation; and at its execution, if the strategy has become another since."""
    program = keep(api, FAILING)
    before = len(api.get(BACKTESTS, limit=1000))
    body = {"strategy_id": program, "config": CONFIG, "engine": engine}
    error = api.post(BACKTESTS, body, 422)
    assert field_of(error) == "engine"
    assert error["details"]["feature"] == "source"
    assert "as a card" in error["message"]
    assert len(api.get(BACKTESTS, limit=1000)) == before
    changed = keep(api, CROSS)
    backtest_id = create(api, changed, engine=engine)
    api.call("PATCH", f"{STRATEGIES}/{changed}", {"pipeline_config": FAILING})
    assert field_of(api.post(f"{BACKTESTS}/{backtest_id}/execute", expect=422)) == "engine"
    assert api.get(f"{BACKTESTS}/{backtest_id}")["status"] == "pending"


def test_parquet_is_what_the_json_is(api: Api, completed: Any, tmp_path: Path) -> None:
    for part, name, uri in (
        ("equity-curve", "equity", "equity_curve_uri"),
        ("trades", "trades", "trades_uri"),
    ):
        answer = api.client.get(completed[uri])
        assert completed[uri] == f"{BACKTESTS}/{completed['id']}/{part}/parquet"
        assert answer.headers["content-type"] == "application/vnd.apache.parquet"
        assert answer.headers["content-disposition"] == (
            f"attachment; filename={name}_{completed['id']}.parquet"
        )
        file = tmp_path / f"{name}.parquet"
        file.write_bytes(answer.content)
        cursor = duckdb.execute(f"SELECT * FROM '{file}'")
        names = [column[0] for column in cursor.description or ()]
        rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
        for row in rows:
            for key in row.keys() & {"date", "entry_date", "exit_date"}:
                row[key] = format_time(int(row[key].replace(tzinfo=UTC).timestamp() * 1000))
        listed = api.get(f"{BACKTESTS}/{completed['id']}/{part}")
        assert [list(row) for row in rows[:1]] == [list(listed[0])]
        assert rows == listed
    described = duckdb.execute(
        f"SELECT value FROM parquet_kv_metadata('{tmp_path}/equity.parquet')"
        " WHERE decode(key) = 'pandas'"
    ).fetchone()
    assert described is not None
    assert json.loads(described[0])["index_columns"] == ["date"]


def test_no_closed_trades_are_an_empty_list(api: Api, tmp_path: Path) -> None:
    holding = execute(api, create(api, keep(api, {"template": "tpl_buy_and_hold"})))
    assert api.get(f"{BACKTESTS}/{holding['id']}/trades") == []
    file = tmp_path / "trades.parquet"
    file.write_bytes(api.client.get(holding["trades_uri"]).content)
    assert duckdb.execute(f"SELECT count(*) FROM '{file}'").fetchone() == (0,)
    assert holding["metrics"]["trade_win_rate"] is None
    assert holding["structured_metrics"]["trading"]["total_trades"] == 0


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
    found = api.get(f"{BACKTESTS}/{backtest_id}")
    assert task == {
        "task_id": started["task_id"],
        "status": "SUCCESS",
        "progress": 1,
        "result": found,
        "error": None,
    }
    assert found["metrics"] == completed["metrics"]


def test_a_task_that_fails_says_why(api: Api) -> None:
    backtest_id = create(api, keep(api, FAILING))
    started = api.post(f"{BACKTESTS}/{backtest_id}/execute/async")
    task = task_ended(api, started["task_id"])
    assert (task["status"], task["result"]) == ("FAILURE", None)
    assert "line 2" in task["error"]
    for unknown in ("bt_1", "x" * 5000):
        assert api.get(f"{TASKS}/{unknown}", 404)["code"] == "NOT_FOUND"


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


def test_backtests_are_listed_by_page_and_strategy(api: Api) -> None:
    strategy_id = keep(api, CROSS)
    ids = [create(api, strategy_id) for _ in range(3)]
    listed = api.get(BACKTESTS, strategy_id=strategy_id)
    assert [each["id"] for each in listed] == ids[::-1]
    assert all(set(each) == READ_FIELDS for each in listed)
    page = api.get(BACKTESTS, strategy_id=strategy_id, skip=1, limit=1)
    assert [each["id"] for each in page] == [ids[1]]
    assert [each["id"] for each in api.get(BACKTESTS, limit=3)] == ids[::-1]
    assert api.get(BACKTESTS, strategy_id="nobody's") == []
    assert field_of(api.get(BACKTESTS, 422, skip=-1)) == "skip"


# By hand


def test_a_backtest_is_corrected_by_hand_until_it_is_executed(api: Api, cross: str) -> None:
    backtest_id = create(api, cross)
    path = f"{BACKTESTS}/{backtest_id}"
    changed = api.call(
        "PATCH", path, {"status": "completed", "metrics": {"total_return": "0.25", "own": 3}}
    )
    assert (changed["status"], changed["metrics"]) == (
        "completed",
        {"total_return": 0.25, "own": 3},
    )
    assert set(changed) == READ_FIELDS
    structured = api.get(path)["structured_metrics"]
    assert structured["total_return"] == 0.25
    assert structured["performance"]["cagr"] is None
    error = api.get(f"{path}/equity-curve", 409)
    assert "execute it again" in error["message"]
    api.call("PATCH", path, {"status": "running"})
    api.post(f"{path}/execute", expect=409)
    api.call("PATCH", path, {"status": "failed"})
    executed = execute(api, backtest_id)
    assert executed["status"] == "completed"
    assert set(executed["metrics"]) == set(STRUCTURED)


def test_an_address_that_the_server_did_not_make_is_refused_and_none_is_followed(
    api: Api, cross: str
) -> None:
    other = execute(api, create(api, cross))
    backtest_id = create(api, cross)
    path = f"{BACKTESTS}/{backtest_id}"
    addresses = ("file:///etc/passwd", "s3://b/trades.parquet", "http://127.0.0.1/x", "",
                 other["trades_uri"])  # fmt: skip
    for field in ("trades_uri", "equity_curve_uri"):
        for address in addresses:
            assert field_of(api.call("PATCH", path, {field: address}, 422)) == field
    found = execute(api, backtest_id)
    hidden = api.call("PATCH", path, {"trades_uri": None})
    assert (hidden["trades_uri"], hidden["equity_curve_uri"]) == (None, found["equity_curve_uri"])
    api.get(f"{path}/trades", 409)
    api.get(f"{path}/equity-curve")
    shown = api.call("PATCH", path, {"trades_uri": found["trades_uri"]})
    assert shown["trades_uri"] == found["trades_uri"]
    assert api.get(f"{path}/trades")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"status": "done"}, "status"),
        ({"metrics": 5}, "metrics"),
        ({"metrics": {"x": "much"}}, "metrics.x"),
        ({"metrics": {"x": [1]}}, "metrics.x"),
        ({"metrics": {"x": True}}, "metrics.x"),
        ({"metrics": {"x" * 65: 1}}, "metrics." + "x" * 40 + "…"),
        ({"metrics": {str(n): n for n in range(201)}}, "metrics"),
        ({"metrics": {"trade_total_trades": 1.5}}, "metrics.trade_total_trades"),
        ({"metrics": {"error": 5}}, "metrics.error"),
        ({"name": "x"}, "name"),
    ],
)
def test_a_correction_that_cannot_be_is_refused(
    api: Api, completed: Any, body: dict[str, Any], field: str
) -> None:
    path = f"{BACKTESTS}/{completed['id']}"
    assert field_of(api.call("PATCH", path, body, 422)) == field
    assert api.get(path) == completed


def test_a_run_goes_on_when_its_server_was_killed(tmp_path: Path) -> None:
    home = sample_home(tmp_path / "home")
    first = RunningServer(home)
    with first.client() as client:
        api = Api(client)
        endless, cross = keep(api, ENDLESS), keep(api, CROSS)
        ids = [create(api, endless, {"timeframe": "1m"}), *(create(api, cross) for _ in range(3))]
        tasks = [api.post(f"{BACKTESTS}/{each}/execute/async")["task_id"] for each in ids]
        first.kill()
    with running(home) as second, second.client() as client:
        api = Api(client)
        assert api.get(f"{BACKTESTS}/{ids[0]}")["status"] == "running"
        api.call("PATCH", f"{BACKTESTS}/{ids[0]}", {"status": "pending"})
        for backtest_id, task_id in zip(ids[1:], tasks[1:], strict=True):
            assert task_ended(api, task_id)["result"] == api.get(f"{BACKTESTS}/{backtest_id}")
            assert len(api.get(f"{BACKTESTS}/{backtest_id}/trades")) > 3


# Side by side


def test_compared_every_metric_has_its_best(api: Api, cross: str, completed: Any) -> None:
    cheap = execute(api, create(api, cross, commission=0))
    pending = api.get(f"{BACKTESTS}/{create(api, cross)}")
    runs = [cheap, pending, completed]
    ids = [each["id"] for each in runs]
    found = api.post(f"{BACKTESTS}/compare", {"backtest_ids": ids})
    fields = ("id", "engine", "status", "metrics")
    assert found["runs"] == [{name: each[name] for name in fields} for each in runs]
    assert set(found["metric_diff"]) == set(STRUCTURED)
    for key, diff in found["metric_diff"].items():
        values = {each["id"]: each["metrics"].get(key) for each in runs}
        higher = True if key in HIGHER else False if key in LOWER else None
        assert (diff["values"], diff["higher_is_better"]) == (values, higher), key
        if higher is None:
            assert diff["best_id"] is None
            continue
        del values[pending["id"]]
        best = (max if higher else min)(values.values())
        first = completed["id"] if values[completed["id"]] == best else cheap["id"]
        assert diff["best_id"] == first, "of equals the older one"
    turned = api.post(f"{BACKTESTS}/compare", {"backtest_ids": ids[::-1]})
    assert turned["metric_diff"] == found["metric_diff"]


def test_two_to_ten_are_compared_all_of_which_exist(api: Api, cross: str, completed: Any) -> None:
    ids = [completed["id"], *(create(api, cross) for _ in range(10))]

    def refused(ids: list[Any], expect: int) -> Any:
        return api.post(f"{BACKTESTS}/compare", {"backtest_ids": ids}, expect)

    assert len(api.post(f"{BACKTESTS}/compare", {"backtest_ids": ids[:10]})["runs"]) == 10
    for wrong in ([], ids[:1], ids, [ids[0], ids[0]]):
        assert field_of(refused(wrong, 422)) == "backtest_ids"
    assert refused([ids[0], "x"], 404)["code"] == "BACKTEST_NOT_FOUND"
    assert field_of(refused([ids[0], 5], 422)) == "backtest_ids[1]"
