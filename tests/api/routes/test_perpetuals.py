"""Perpetuals behind the four APIs that run strategies: each run is what a session in process does."""

import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from candlestep.api.views.view import NOTHING
from candlestep.data.imports.importer import import_candles
from candlestep.data.imports.sample import sample_perpetual
from candlestep.data.market.fee_schedules import fee_schedule
from candlestep.data.market.loading import load_market
from candlestep.data.store.database import Store
from candlestep.data.symbols import parse_symbol
from candlestep.sandbox import Market, Session, SessionConfig, closed_trades, format_time
from candlestep.sandbox.strategies import compile_strategy, run
from tests.support.api_client import Api, finished, has_ended, sample_home, wait_for
from tests.support.backtests import BACKTESTS, create, execute, keep, task_ended
from tests.support.server_process import running

SOL = "SOLUSDT-PERP"
WITHOUT_RATES = "AVAXUSDT-PERP"
JOBS = "/api/v1/backtest/jobs"
RUNS = "/api/v2/backtest/runs"
TICKER = "/api/v1/backtest/binance/ticker"
BOTH_WAYS = {"fast": 5, "slow": 20, "equity_share": "0.9", "direction": "both"}
JOB: dict[str, Any] = {
    "template_id": "tpl_sma_cross",
    "params": BOTH_WAYS,
    "symbols": [SOL],
    "timeframe": "1h",
    "start": "2025-01-10T00:00:00Z",
    "end": "2025-02-10T00:00:00Z",
    "capital": "10000",
    "leverage": 3,
}
HELD_SHORT = {"entries": [{"every": 1, "side": "short", "size": {"quantity": 20}}]}
RUN: dict[str, Any] = {
    "dataset_id": "sol-perp-1h-2025",
    "strategy": HELD_SHORT,
    "fees": 5,
    "slippage": 3,
    "funding": True,
}
COSTS: dict[str, Any] = {
    "fee_model": "fixed_bps", "fee_bps": 5, "slippage": {"model": "fixed_bps", "bps": 3}
}  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a home with the sample market, and a perpetual without funding rates."""
    home = sample_home(tmp_path_factory.mktemp("perpetuals") / "home")
    sample = sample_perpetual()
    store = Store.open(home)
    import_candles(
        store, sample.candles, parse_symbol(WITHOUT_RATES), sample.interval,
        source="test", synthetic=True,
    )  # fmt: skip
    store.close()
    return home


@pytest.fixture(scope="module")
def market(home: Path) -> Market:
    return load_market(SOL, home=home)


@pytest.fixture(scope="module")
def api(home: Path, market: Market) -> Iterator[Api]:
    with running(home) as server, server.client() as client:
        yield Api(client)


def in_process(market: Market, content: dict[str, Any], **config: Any) -> Session:
    settings = {
        "start_time": "2025-01-10",
        "end_time": "2025-02-10T01:00:00Z",
        "starting_balance": 10_000,
        "candle_interval": "1h",
        "market_type": "perp",
        **config,
    }
    return run(compile_strategy(content), SessionConfig(**settings), market).session


# Jobs


@pytest.fixture(scope="module")
def job(api: Api) -> Any:
    ended = finished(api, api.post(JOBS, JOB)["id"])
    assert ended["status"] == "done", ended
    return ended


def test_a_job_is_a_session_over_the_same_span(api: Api, market: Market, job: Any) -> None:
    content = {"template": "tpl_sma_cross", "timeframe": "1h", "parameters": BOTH_WAYS}
    costs = {"fee_model": "fixed_bps", "fee_bps": 5}
    session = in_process(market, content, leverage=3, **costs)
    results, trades = session.results(), closed_trades(session.fills)
    assert {trade.side for trade in trades} == {"buy", "sell"}
    assert session.funding_payments
    shown = job["result"]["trades"]
    assert [(row["side"], Decimal(row["pnl"]), row["exit_time"]) for row in shown] == [
        (trade.side, trade.pnl, format_time(trade.exit_time)) for trade in trades
    ]
    equity = [(format_time(one.time), one.total_equity) for one in session.equity_curve()]
    curve = [(time, Decimal(value)) for time, value in job["result"]["equity_curve"]]
    assert curve == equity
    metrics = job["result"]["metrics"]
    assert Decimal(metrics["total_funding"]) == results.total_funding != 0
    assert Decimal(metrics["total_liquidation_fees"]) == results.total_liquidation_fees
    assert metrics["liquidations"] == results.liquidations
    assert float(metrics["max_leverage_used"]) == pytest.approx(
        float(results.max_leverage_used or 0)
    )
    assert float(metrics["sharpe"]) == pytest.approx(results.metrics.sharpe_ratio, abs=1e-6)


def test_a_job_names_its_assumptions(api: Api, market: Market, job: Any) -> None:
    assert job["config"]["leverage"] == 3
    assert job["config"]["params"]["direction"] == "both"
    assert job["assumptions"] == {
        "funding": True,
        "leverage": 3,
        "margin_mode": "cross",
        "mark_source": "mark",
        "funding_events": job["assumptions"]["funding_events"],
        "missing_marks": 0,
    }
    assert job["assumptions"]["funding_events"] > 50, "three a day while a position is held"
    spot = api.post(JOBS, JOB | {"symbols": ["BTCUSDT"], "leverage": 1, "params": {}})
    assert "assumptions" not in spot
    done = finished(api, spot["id"])
    assert "total_funding" not in done["result"]["metrics"]


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"symbols": ["BTCUSDT"], "params": {}}, "leverage", "trade a perpetual"),
        ({"leverage": 126}, "leverage", f"126 is above 125, the highest of {SOL}; lower it"),
        ({"leverage": "1.5"}, "leverage", "whole number"),
        ({"leverage": 0}, "leverage", "whole number"),
        ({"symbols": [SOL, "BTCUSDT"]}, "symbols", "a run trades one kind"),
        (
            {"symbols": ["BTCUSDT"], "leverage": 1},
            "params.direction",
            "sells short, which spot pairs do not allow",
        ),
        ({"params": BOTH_WAYS | {"direction": "up"}}, "params.direction", "long, short, both"),
    ],
)
def test_what_a_job_cannot_be_is_refused_by_the_name_of_the_field(
    api: Api, changes: dict[str, Any], field: str, words: str
) -> None:
    error = api.post(JOBS, JOB | changes, 422)
    assert error["details"]["field"] == field
    assert words in error["message"]


def test_a_contract_is_named_in_any_spelling(api: Api, job: Any) -> None:
    again = api.post(JOBS, JOB | {"symbols": ["SOL/USDT:USDT"]})
    assert again["config"]["symbols"] == [SOL]
    assert finished(api, again["id"])["result"] == job["result"]


def test_a_job_matches_the_fees_of_its_exchange_for_perpetuals(
    api: Api, market: Market, home: Path
) -> None:
    fees: dict[str, Any] = {"fee_model": "match_exchange"}
    ended = finished(api, api.post(JOBS, JOB | fees)["id"])
    content = {"template": "tpl_sma_cross", "timeframe": "1h", "parameters": BOTH_WAYS}
    rates = fee_schedule("binance", "perp", home)
    session = in_process(market, content, leverage=3, fee_schedule=rates, **fees)
    trades = closed_trades(session.fills)
    assert [Decimal(row["fee"]) for row in ended["result"]["trades"]] == [
        trade.fee for trade in trades
    ]


def test_missing_rates_are_refused_when_a_run_is_planned(api: Api) -> None:
    error = api.post(JOBS, JOB | {"symbols": [WITHOUT_RATES]}, 422)
    assert error["code"] == "NO_DATA"
    assert error["details"] == {
        "symbol": WITHOUT_RATES,
        "time": "2025-01-10T08:00:00Z",
        "missing": 31 * 3,
    }
    assert "import its funding rates" in error["message"]
    dataset = {"dataset_id": "avax-perp-1h-2025"}
    assert "or set funding to false" in api.post(RUNS, RUN | dataset, 422)["message"]
    without = api.post(RUNS, RUN | dataset | {"funding": False}, 202)["data"]["run_id"]
    assert ended_run(api, without)["assumptions"]["mark_source"] == "last"
    span = {"instrument": "AVAX/USDT:USDT", "from": "2025-01-10", "to": "2025-01-20"}
    assert api.post(f"{TICKER}/prepare", span, 400)["code"] == "NO_DATA"


# Runs


def ended_run(api: Api, run_id: str) -> Any:
    result = wait_for(lambda: api.get(f"{RUNS}/{run_id}")["data"], has_ended)
    assert result["status"] == "done", result
    return result


def run_of(api: Api, **changes: Any) -> Any:
    return ended_run(api, api.post(RUNS, RUN | changes, 202)["data"]["run_id"])


def test_funding_is_the_sum_of_its_payments_and_nothing_else(api: Api, market: Market) -> None:
    """The same positions with funding and without differ by exactly what was paid."""
    paid, unpaid = run_of(api), run_of(api, funding=False, dataset_id="solusdt-perp-1h-2025")
    span = {"start_time": "2025-01-01", "end_time": "2025-03-02"}
    session = in_process(market, HELD_SHORT, **span, **COSTS)
    total = sum(payment.amount for payment in session.funding_payments)
    assert len(session.funding_payments) > 100
    assert total != 0
    assert paid["metrics"]["total_funding"] == float(total)
    assert paid["metrics"]["final_equity"] == float(session.results().final_equity)
    difference = Decimal(str(paid["metrics"]["final_equity"])) - Decimal(
        str(unpaid["metrics"]["final_equity"])
    )
    assert difference == total
    assert unpaid["metrics"]["total_funding"] == 0
    assert paid["metrics"]["total_fees"] == unpaid["metrics"]["total_fees"]


def test_a_run_names_its_assumptions(api: Api) -> None:
    result = run_of(api)
    assert result["dataset_id"] == "solusdt-perp-1h-2025"
    assumptions = result["assumptions"]
    assert (assumptions["funding"], assumptions["funding_applied"]) == (True, True)
    assert assumptions["notes"] == [
        "funding: paid at the rates that were imported, at each settlement"
    ]
    named = ("leverage", "margin_mode", "mark_source", "missing_marks")
    assert [assumptions[name] for name in named] == [1, "cross", "mark", 0]
    assert assumptions["funding_events"] > 100
    off = run_of(api, funding=False)["assumptions"]
    assert (off["funding_applied"], off["funding_events"]) == (False, 0)
    assert off["notes"] == ["funding: none is applied"]


def test_a_short_on_a_spot_dataset_is_refused_in_words(api: Api) -> None:
    error = api.post(RUNS, RUN | {"dataset_id": "btcusdt-1h-2025"}, 422)
    assert error["details"]["field"] == "strategy.entries[0].side"
    assert "sells short, which spot pairs do not allow" in error["message"]


# Backtests


def test_backtests_run_perpetuals_with_every_engine(api: Api, market: Market) -> None:
    strategy_id = keep(api, {"template": "tpl_sma_cross", "parameters": BOTH_WAYS})
    levered = execute(api, create(api, strategy_id, {"symbol": SOL, "leverage": 2}))
    assert levered["config"]["leverage"] == 2
    session = in_process(
        market,
        {"template": "tpl_sma_cross", "timeframe": "1h", "parameters": BOTH_WAYS},
        leverage=2, starting_balance=100_000, fee_rate="0.0005",
        slippage={"model": "fixed_bps", "bps": 5},
    )  # fmt: skip
    assert levered["metrics"]["margin_total_funding"] == float(session.results().total_funding or 0)
    assert levered["metrics"]["trade_total_trades"] == len(closed_trades(session.fills))
    engine = {"engine": "vectorbt"}
    if "vectorbt" not in api.get(f"{BACKTESTS}/engines/available")["engines"]:
        pytest.skip("vectorbt is not installed")
    sent = {"strategy_id": strategy_id, "config": dict(levered["config"]) | {"leverage": 1}}
    refused = api.post(BACKTESTS, sent | engine, 422)
    assert refused["details"]["feature"] == "funding"
    unpaid = {"symbol": SOL, "funding": False}
    theirs = execute(api, create(api, strategy_id, unpaid, **engine))
    assert theirs["status"] == "completed", theirs
    assert theirs["metrics"]["trade_total_trades"] > 10


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"symbol": SOL, "leverage": 126}, "126 is above 125"),
        ({"symbol": "BTCUSDT", "leverage": 2}, "must be 1 for spot pairs"),
    ],
)
def test_a_leverage_that_cannot_be_is_refused(api: Api, config: dict[str, Any], words: str) -> None:
    sent = {
        "strategy_id": keep(api, {"template": "tpl_macd"}),
        "config": {"start_date": "2025-01-10", "end_date": "2025-01-20", **config},
    }
    error = api.post(BACKTESTS, sent, 422)
    assert error["details"]["field"] == "config.leverage"
    assert words in error["message"]


def test_a_backtest_that_lacks_rates_fails_in_words(api: Api) -> None:
    strategy_id = keep(api, {"template": "tpl_buy_and_hold"})
    failed = execute(api, create(api, strategy_id, {"symbol": WITHOUT_RATES}))
    assert failed["status"] == "failed"
    assert (
        f"{WITHOUT_RATES} has no funding rate at 2025-01-10T08:00:00Z" in failed["metrics"]["error"]
    )


def test_a_sweep_may_vary_the_leverage(api: Api) -> None:
    content = {"template": "tpl_buy_and_hold", "parameters": {"direction": "short"}}
    config = {
        "symbol": SOL, "timeframe": "1d", "start_date": "2025-01-10", "end_date": "2025-01-20",
    }  # fmt: skip
    sweep = {
        "strategy_id": keep(api, content),
        "base_config": config,
        "param_grid": [{"leverage": 1}, {"leverage": 2, "funding": False}],
    }
    ended = task_ended(api, api.post(f"{BACKTESTS}/sweep", sweep)["task_id"])
    board = ended["result"]["leaderboard"]
    used = {
        row["overrides"]["leverage"]: api.get(f"{BACKTESTS}/{row['backtest_id']}")["metrics"]
        for row in board
    }
    assert 0.9 < used[1]["margin_max_leverage_used"] < 1
    assert 1.8 < used[2]["margin_max_leverage_used"] < 2
    assert used[1]["margin_total_funding"] != 0
    assert used[2]["margin_total_funding"] == 0


# Prepare and execute


def test_a_program_on_a_contract_is_executed_with_its_funding(api: Api, market: Market) -> None:
    source = "def on_candle(ctx):\n    if ctx.position == 0:\n        ctx.short(quantity=10)\n"
    program = api.client.post(
        "/api/v1/strategy", content=source, headers={"Content-Type": "text/plain"}
    ).json()
    span = {"instrument": "SOL/USDT:USDT", "from": "2025-01-10", "to": "2025-01-20"}
    prepared = api.post(f"{TICKER}/prepare", span | {"cadence": "1h"}, 202)["jobId"]
    body = {"prepareJobId": prepared, "strategyId": program["strategyId"]}
    job_id = api.post(f"{TICKER}/execute", body, 202)["jobId"]
    answer = wait_for(
        lambda: api.get(f"{TICKER}/execute/{job_id}"),
        lambda answer: answer["state"]["status"] not in ("New", "Started"),
    )
    assert answer["state"]["status"] == "Completed", answer
    session = in_process(
        market, {"source": source, "timeframe": "1h"}, end_time="2025-01-20T01:00:00Z"
    )
    results = session.results()
    assert answer["results"]["fundingTotal"] == float(results.total_funding or 0) != 0
    assert answer["results"]["pnlTotal"] == float(results.total_pnl)
    assert answer["results"]["liquidations"] == 0


# Pages


def test_pages_show_funding_paid_and_the_coverage_of_its_data(api: Api, job: Any) -> None:
    paid = run_of(api)
    page = api.client.get(f"/compare?ids={job['id']},{paid['run_id']}").text
    (row,) = re.findall(r"<tr>\s*<t[hd][^>]*>Funding</t[hd]>.*?</tr>", page, re.DOTALL)
    assert f"{paid['metrics']['total_funding']:,.2f}" in row
    page = api.client.get("/data").text
    (table,) = re.findall(r'<section id="perpetuals".*?</section>', page, re.DOTALL)
    cells = re.findall(r"<td[^>]*>(.*?)</td>", table, re.DOTALL)
    assert cells == [
        WITHOUT_RATES, "binance", NOTHING, "0.00", "0", NOTHING, NOTHING, NOTHING,
        SOL, "binance", "5m", "100.00", "180", "2025-01-01 08:00", "2025-03-02 00:00", "0",
    ]  # fmt: skip
    shown = api.client.get(f"/jobs/{job['id']}").text
    assert "Highest leverage" in shown
