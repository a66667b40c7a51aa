"""Results of backtests over HTTP: figures, curves, trades, files and comparisons."""

import json
from datetime import UTC
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb

from candlestep.sandbox import (
    Market,
    closed_trades,
    format_time,
    parse_time,
)
from tests.support.api_client import Api
from tests.support.backtests import (
    BACKTEST_FIELDS,
    BACKTESTS,
    HIGHER,
    LOWER,
    MONTH,
    STRUCTURED,
    create,
    execute,
    field_of,
    in_process,
    keep,
)


def test_an_execution_is_what_the_same_strategy_makes_in_process(
    api: Api, market: Market, completed: Any
) -> None:
    session = in_process(market)
    trades, metrics = closed_trades(session.fills), session.results().metrics
    flat = completed["metrics"]

    assert len(trades) > 3
    assert set(completed) == BACKTEST_FIELDS | {"structured_metrics"}
    assert completed["status"] == "completed"
    assert parse_time(completed["created_at"]) <= parse_time(completed["updated_at"])
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
    points = [(format_time(entry.time), float(entry.total_equity)) for entry in curve]
    answer = api.get(f"{BACKTESTS}/{completed['id']}/equity-curve")
    assert [(entry["date"], entry["equity"]) for entry in answer] == points[1:]
    assert len(answer) == (MONTH[1] - MONTH[0]) / 3_600_000, "one for entry candle"
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


def test_compared_every_metric_has_its_best(api: Api, cross: str, completed: Any) -> None:
    cheap = execute(api, create(api, cross, commission=0))
    pending = api.get(f"{BACKTESTS}/{create(api, cross)}")
    runs = [cheap, pending, completed]
    ids = [entry["id"] for entry in runs]
    answer = api.post(f"{BACKTESTS}/compare", {"backtest_ids": ids})
    fields = ("id", "engine", "status", "metrics")
    assert answer["runs"] == [{name: entry[name] for name in fields} for entry in runs]
    assert set(answer["metric_diff"]) == set(STRUCTURED)
    for key, diff in answer["metric_diff"].items():
        values = {entry["id"]: entry["metrics"].get(key) for entry in runs}
        higher = True if key in HIGHER else False if key in LOWER else None
        assert (diff["values"], diff["higher_is_better"]) == (values, bool(higher)), key
        if higher is None:
            assert diff["best_id"] is None
            continue
        del values[pending["id"]]
        best = (max if higher else min)(values.values())
        first = completed["id"] if values[completed["id"]] == best else cheap["id"]
        assert diff["best_id"] == first, "of equals the older one"
    turned = api.post(f"{BACKTESTS}/compare", {"backtest_ids": ids[::-1]})
    assert turned["metric_diff"] == answer["metric_diff"]


def test_two_to_ten_are_compared_all_of_which_exist(api: Api, cross: str, completed: Any) -> None:
    ids = [completed["id"], *(create(api, cross) for _ in range(10))]

    def refused(ids: list[Any], expect: int) -> Any:
        return api.post(f"{BACKTESTS}/compare", {"backtest_ids": ids}, expect)

    assert len(api.post(f"{BACKTESTS}/compare", {"backtest_ids": ids[:10]})["runs"]) == 10
    for wrong in ([], ids[:1], ids, [ids[0], ids[0]]):
        assert field_of(refused(wrong, 422)) == "backtest_ids"
    assert refused([ids[0], "x"], 404)["code"] == "BACKTEST_NOT_FOUND"
    assert field_of(refused([ids[0], 5], 422)) == "backtest_ids[1]"
