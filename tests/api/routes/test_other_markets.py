"""Runs on candles of another exchange, on a market with a gap, and with years of history."""

from collections.abc import Iterator
from typing import Any

import pytest

from candlestep.data.imports.importer import import_file
from candlestep.data.store.database import Store
from candlestep.sandbox import parse_time
from candlestep.sandbox.clock import HOUR
from tests.support.api_client import BACKTEST, Api, finished, has_ended, wait_for
from tests.support.backtests import BACKTESTS, CROSS, create, execute, keep
from tests.support.candle_files import csv_text, rows, write
from tests.support.server_process import running

JOBS = f"{BACKTEST}/jobs"
RUNS = "/api/v2/backtest/runs"
FIRST = parse_time("2020-01-01")
GAP = (parse_time("2023-01-01"), parse_time("2023-03-01"))
END = parse_time("2024-03-01")
JOB: dict[str, Any] = {
    "template_id": "tpl_sma_cross",
    "params": {"fast": 3, "slow": 10},
    "symbols": ["SOLUSDT"],
    "exchange": "kraken",
    "timeframe": "1h",
    "start": "2024-01-10T00:00:00Z",
    "end": "2024-02-10T00:00:00Z",
    "capital": "10000",
}
PREPARE = f"{BACKTEST}/kraken/kline/prepare"


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """Serve hours of SOLUSDT on kraken from 2020 to February 2024, except two months of 2023."""
    home = tmp_path_factory.mktemp("kraken")
    hours = [
        row for row in rows((END - FIRST) // HOUR, FIRST, HOUR) if not GAP[0] <= row[0] < GAP[1]
    ]
    store = Store.open(home)
    import_file(store, write(home / "SOLUSDT-1h.csv", csv_text(hours)), exchange="kraken")
    store.close()
    with running(home) as server, server.client() as client:
        yield Api(client)


def test_jobs_and_backtests_name_the_exchange(api: Api) -> None:
    job = finished(api, api.post(JOBS, JOB)["id"])
    assert (job["status"], job["config"]["exchange"]) == ("done", "kraken")
    assert job["result"]["metrics"]["total_trades"] > 0
    without_exchange = {name: value for name, value in JOB.items() if name != "exchange"}
    error = api.post(JOBS, without_exchange, 422)
    assert error["code"] == "NO_DATA"
    assert "no candles of SOLUSDT on binance" in error["message"]
    assert api.post(JOBS, JOB | {"exchange": "?"}, 422)["details"]["field"] == "exchange"

    config = {"symbol": "SOLUSDT", "timeframe": "1h", "start_date": JOB["start"],
              "end_date": JOB["end"], "exchange": "Kraken"}  # fmt: skip
    backtest = execute(api, create(api, keep(api, CROSS), config))
    assert (backtest["status"], backtest["config"]["exchange"]) == ("completed", "kraken")
    error = api.post(
        BACKTESTS,
        {"strategy_id": backtest["strategy_id"], "config": config | {"exchange": "bt_x"}},
        422,
    )
    assert error["details"]["field"] == "config.exchange"


def test_in_a_hole_there_are_no_candles(api: Api) -> None:
    error = api.post(JOBS, JOB | {"start": "2023-01-10", "end": "2023-02-10"}, 422)
    assert error["code"] == "NO_DATA"
    available = (
        "but from 2020-01-01T00:00:00Z to 2023-01-01T00:00:00Z and from 2023-03-01T00:00:00Z to"
        " 2024-03-01T00:00:00Z"
    )
    assert available in error["message"]
    body = {"instrument": "SOL/USDT", "from": "2023-01-10", "to": "2023-02-10"}
    error = api.post(PREPARE, body, 400)
    assert error["code"] == "NO_DATA"
    assert available in error["message"]


def test_no_session_is_created_where_no_candles_are(api: Api) -> None:
    times = {"exchange": "kraken", "start_time": "2023-01-10", "end_time": "2023-02-10"}
    error = api.post(f"{BACKTEST}/create", times, 422)
    assert error["code"] == "NO_DATA"
    api.post(f"{BACKTEST}/create", times | {"end_time": "2023-03-02"}, 200)


def test_a_run_is_of_the_time_that_there_are_candles_of(api: Api) -> None:
    """Time beyond the candles would otherwise count as months in which nothing happened."""
    body = JOB | {"start": "2024-02-01T00:00:00Z"}
    within = finished(api, api.post(JOBS, body | {"end": "2024-02-29T23:00:00Z"})["id"])
    beyond = finished(api, api.post(JOBS, body | {"end": "2025-06-01T00:00:00Z"})["id"])
    assert beyond["result"] == within["result"]
    assert beyond["config"]["end"] == "2025-06-01T00:00:00Z"
    assert beyond["result"]["equity_curve"][-1][0] == "2024-03-01T00:00:00Z"

    config = {"symbol": "SOLUSDT", "exchange": "kraken", "timeframe": "1h"}
    spans = [("2024-02-01", "2024-02-29T23:00:00Z"), ("2024-02-01", "2025-06-01")]
    strategy_id = keep(api, CROSS)
    within, beyond = (
        execute(api, create(api, strategy_id, config | {"start_date": start, "end_date": end}))
        for start, end in spans
    )
    assert within["metrics"] == beyond["metrics"]
    after = config | {"start_date": "2024-06-01", "end_date": "2024-07-01"}
    failed = execute(api, create(api, strategy_id, after))
    assert failed["status"] == "failed"
    assert "no candles of SOLUSDT in the period of the run" in failed["metrics"]["error"]


def test_hours_without_candles_are_not_prepared(api: Api) -> None:
    body = {"instrument": "SOL/USDT", "from": "2022-12-31", "to": "2023-03-02T23:00:00Z"}
    job_id = api.post(PREPARE, body, 202)["jobId"]
    assert api.get(f"{PREPARE}/{job_id}")["completed"] == 24 + 48


def test_a_preparation_may_end_where_the_candles_begin(api: Api) -> None:
    """The end of a preparation is included."""
    body = {"instrument": "SOL/USDT", "from": "2019-12-01", "to": "2020-01-01T00:00:00Z"}
    job_id = api.post(PREPARE, body, 202)["jobId"]
    assert api.get(f"{PREPARE}/{job_id}")["completed"] == 1


def test_no_run_is_longer_than_five_years(api: Api) -> None:
    long = {"start": "2018-01-01", "end": "2024-01-01"}
    assert api.post(JOBS, JOB | long, 422)["details"]["field"] == "end"
    preparation = {"instrument": "SOL/USDT", "from": "2018-01-01", "to": "2024-01-01"}
    assert api.post(PREPARE, preparation, 400)["details"]["field"] == "to"
    config = {"symbol": "SOLUSDT", "exchange": "kraken", "start_date": "2018-01-01",
              "end_date": "2024-01-01"}  # fmt: skip
    body = {"strategy_id": keep(api, CROSS), "config": config}
    assert api.post(BACKTESTS, body, 422)["details"]["field"] == "config.end_date"


def test_indicators_reach_back_as_far_as_they_need(api: Api) -> None:
    """They get years of days before the start, although a session's usual history is six weeks."""
    card = {
        "indicators": {"slow": {"kind": "sma", "period": 300}},
        "entries": [{"when": {"left": "slow", "op": ">", "right": 0}, "size": {"quote": 100}}],
        "exits": [{"when": {"left": "close", "op": ">", "right": 0}}],
    }
    scope = {name: value for name, value in JOB.items() if name not in ("template_id", "params")}
    job = finished(api, api.post(JOBS, scope | {"timeframe": "1d", "card": card})["id"])
    assert job["result"]["trades"][0]["entry_time"] == JOB["start"]

    source = (
        'indicators = {"slow": {"kind": "sma", "period": 900}}\n'
        "def on_candle(ctx):\n    if ctx.position == 0:\n        ctx.buy(quote=100)\n"
        "    else:\n        ctx.sell()\n"
    )
    body = {
        "dataset_id": "kraken:solusdt-1h-20240110-20240210",
        "strategy": {"source": source, "timeframe": "1d"},
        "fees": 5,
        "slippage": 0,
        "funding": False,
    }
    run_id = api.post(RUNS, body, 202)["data"]["run_id"]
    run = wait_for(lambda: api.get(f"{RUNS}/{run_id}")["data"], has_ended)
    assert run["metrics"]["total_trades"] == 16, "every second day"
