"""Jobs over HTTP: what is asked for, what comes of it, and what is refused."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from candlestep.data.records.accounts import ensure_account
from candlestep.data.records.strategies import create_strategy
from candlestep.data.store.database import Store
from candlestep.sandbox import Market, SessionConfig, closed_trades, format_time, parse_time
from candlestep.sandbox.strategies import compile_strategy, run
from tests.support.api_client import (
    BACKTEST,
    Api,
    check_error,
    finished,
    sample_home,
    sample_market_of,
    wait_for,
)
from tests.support.cards import crossing
from tests.support.job_queue import SLOW, kill_workers, workers_of
from tests.support.server_process import RunningServer, running

JOBS = f"{BACKTEST}/jobs"
JOB: dict[str, Any] = {
    "template_id": "tpl_breakout",
    "params": {"lookback": 20},
    "symbols": ["BTCUSDT"],
    "timeframe": "1h",
    "start": "2025-01-10T00:00:00Z",
    "end": "2025-02-10T00:00:00Z",
    "capital": "10000",
}
CARD = crossing(5)
MONTH = (parse_time("2025-01-10"), parse_time("2025-02-10T01:00:00Z"))
"""The period of JOB; the candle that opens at its end belongs to it, and is complete an hour later."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sample_home(tmp_path_factory.mktemp("jobs") / "home")


@pytest.fixture(scope="module")
def market(home: Path) -> Market:
    return sample_market_of(home, "BTCUSDT", MONTH)


@pytest.fixture(scope="module")
def strategy_id(home: Path) -> str:
    """A strategy that the account keeps: the template with a timeframe and a universe."""
    store = Store.open(home)
    stored = create_strategy(
        store,
        ensure_account(store, "default").account_id,
        name="kept",
        universe=["BTCUSDT"],
        timeframe="4h",
        content={"template": "tpl_breakout", "parameters": {"lookback": 7, "exit_lookback": 3}},
    )
    store.close()
    return stored.strategy_id


@pytest.fixture(scope="module")
def server(home: Path, market: Market, strategy_id: str) -> Iterator[RunningServer]:
    with running(home) as server:
        yield server


@pytest.fixture
def api(server: RunningServer) -> Iterator[Api]:
    with server.client() as client:
        yield Api(client)


def done(api: Api, **changes: Any) -> Any:
    job = finished(api, api.post(JOBS, JOB | changes)["id"])
    assert job["status"] == "done", job
    return job


def refused(api: Api, expect: int = 422, /, **changes: Any) -> Any:
    body = {name: value for name, value in (JOB | changes).items() if value is not ...}
    return api.post(JOBS, body, expect)


def test_a_job_is_what_the_same_strategy_makes_in_process(api: Api, market: Market) -> None:
    job = done(api)
    config = SessionConfig(
        start_time=MONTH[0],
        end_time=MONTH[1],
        starting_balance=10_000,
        candle_interval="1h",
        fee_model="fixed_bps",
    )
    content = {"template": "tpl_breakout", "parameters": {"lookback": 20}, "timeframe": "1h"}
    session = run(compile_strategy(content), config, market).session
    trades = closed_trades(session.fills)
    metrics, figures = session.results().metrics, job["result"]["metrics"]

    assert len(trades) > 3
    assert figures["total_trades"] == len(trades)
    for name, value in {
        "sharpe": metrics.sharpe_ratio,
        "sortino": metrics.sortino_ratio,
        "calmar": metrics.calmar_ratio,
        "cagr": metrics.cagr,
        "profit_factor": metrics.profit_factor,
        "max_drawdown": -metrics.max_drawdown_pct / 100,
        "win_rate": (metrics.win_rate or 0) / 100,
    }.items():
        assert float(figures[name]) == pytest.approx(value, abs=1e-6), name
    assert Decimal(figures["expected_value"]) == metrics.expectancy
    mean = sum(trade.exit_time - trade.entry_time for trade in trades) / len(trades) / 1000
    assert figures["avg_trade_duration_seconds"] == round(mean)
    curve = [(format_time(point.time), point.total_equity) for point in session.equity_curve()]
    assert [(at, Decimal(text)) for at, text in job["result"]["equity_curve"]] == curve
    assert [
        (trade["id"], trade["side"], trade["symbol"], trade["entry_time"], trade["exit_time"])
        for trade in job["result"]["trades"]
    ] == [
        (number, "buy", "BTCUSDT", format_time(trade.entry_time), format_time(trade.exit_time))
        for number, trade in enumerate(trades, 1)
    ]
    for name, field in {
        "entry_price": "entry_price",
        "exit_price": "exit_price",
        "qty": "quantity",
        "pnl": "pnl",
        "fee": "fee",
    }.items():
        amounts = [Decimal(trade[name]) for trade in job["result"]["trades"]]
        assert amounts == [getattr(trade, field) for trade in trades], name


def test_a_job_has_the_fields_of_the_document(api: Api) -> None:
    queued = api.post(JOBS, JOB)
    job = finished(api, queued["id"])

    assert queued["id"].startswith("bt_")
    assert (queued["status"], queued["progress"]) == ("queued", 0)
    assert queued["started_at"] is queued["finished_at"] is queued["result"] is None
    assert set(queued) == set(job) == {
        "id", "status", "config", "submitted_at", "started_at", "finished_at", "progress",
        "result", "error", "covered_from", "covered_to", "warnings", "coverage",
    }  # fmt: skip
    assert (job["status"], job["progress"], job["error"]) == ("done", 1, None)
    times = [parse_time(job[name]) for name in ("submitted_at", "started_at", "finished_at")]
    assert times == sorted(times)
    assert (
        job["config"]
        == queued["config"]
        == {
            "template_id": "tpl_breakout",
            "params": {
                "lookback": 20,
                "exit_lookback": 10,
                "equity_share": "0.95",
                "stop_loss_pct": None,
                "take_profit_pct": None,
            },
            "card": None,
            "strategy_id": None,
            "exchange": "binance",
            "symbols": ["BTCUSDT"],
            "timeframe": "1h",
            "start": "2025-01-10T00:00:00Z",
            "end": "2025-02-10T00:00:00Z",
            "capital": "10000.00",
            "leverage": 1,
            "fee_model": "fixed_bps",
            "fee_bps": "5",
        }
    )
    assert set(job["result"]) == {"metrics", "equity_curve", "trades"}
    assert set(job["result"]["metrics"]) == {
        "sharpe", "sortino", "calmar", "max_drawdown", "win_rate", "profit_factor", "cagr",
        "expected_value", "total_trades", "avg_trade_duration_seconds",
    }  # fmt: skip
    assert set(job["result"]["trades"][0]) == {
        "id", "side", "symbol", "entry_time", "entry_price", "exit_time", "exit_price", "qty",
        "pnl", "fee",
    }  # fmt: skip


def test_both_ends_are_part_of_it(api: Api) -> None:
    """From the open of the first candle to the completion of the last: 24 hours and one."""
    curve = done(api, start="2025-01-10T00:00:00Z", end="2025-01-11T00:00:00Z")["result"][
        "equity_curve"
    ]
    assert len(curve) == 26
    assert curve[0] == ["2025-01-10T00:00:00Z", "10000.00"]
    assert curve[-1][0] == "2025-01-11T01:00:00Z"
    within = done(api, start="2025-01-09T23:00:01Z", end="2025-01-11T00:59:59Z")
    assert within["result"]["equity_curve"] == curve


def test_a_strategy_is_a_template_a_card_or_one_that_is_kept(api: Api, strategy_id: str) -> None:
    template = done(api)
    card = done(api, template_id=None, params=None, card=CARD)
    nothing = {"template_id": None, "params": None, "symbols": None, "timeframe": None}
    stored = done(api, **nothing, strategy_id=strategy_id)
    changed = done(api, **nothing | {"params": {"lookback": 9}}, strategy_id=strategy_id)
    other = done(api, strategy_id=strategy_id)

    assert card["config"]["template_id"] is None
    assert card["config"]["card"]["entries"][0]["when"]["op"] == "crosses_above"
    assert card["result"]["trades"]
    assert stored["config"]["strategy_id"] == strategy_id
    assert (stored["config"]["timeframe"], stored["config"]["symbols"]) == ("4h", ["BTCUSDT"])
    assert (stored["config"]["params"]["lookback"], stored["config"]["params"]["exit_lookback"]) == (
        7, 3,
    )  # fmt: skip
    lookbacks = (
        changed["config"]["params"]["lookback"],
        changed["config"]["params"]["exit_lookback"],
    )
    assert lookbacks == (9, 3)
    assert other["config"]["timeframe"] == "1h"
    assert other["config"]["params"]["lookback"] == 20
    assert template["result"]["trades"] != stored["result"]["trades"]


def test_a_card_may_have_numbers_with_decimals(api: Api) -> None:
    bands = {"kind": "bollinger", "period": 20, "deviations": 2.5}
    when = {"all": [{"left": "close", "op": "<", "right": 94000.5}, CARD["entries"][0]["when"]]}
    entry = {"when": when, "size": {"equity_share": 0.25}}
    card = CARD | {"indicators": CARD["indicators"] | {"bands": bands}, "entries": [entry]}
    job = done(api, template_id=None, params=None, card=card)
    assert job["config"]["card"]["indicators"]["bands"]["deviations"] == 2.5
    assert job["config"]["card"]["entries"][0]["when"]["all"][0]["right"] == 94000.5
    assert job["config"]["card"]["entries"][0]["size"] == {"equity_share": "0.25"}


@pytest.mark.parametrize("model", ["none", "tiered_maker_taker", "match_exchange"])
def test_fees_follow_the_model(api: Api, model: str) -> None:
    job = done(api, fee_model=model, start="2025-01-10T00:00:00Z", end="2025-01-30T00:00:00Z")
    assert (job["config"]["fee_model"], job["config"]["fee_bps"]) == (model, None)
    fees = [Decimal(trade["fee"]) for trade in job["result"]["trades"]]
    assert fees
    assert all(fee == 0 for fee in fees) == (model == "none")


def test_several_symbols_trade_side_by_side(api: Api) -> None:
    job = done(api, symbols=["ETH/USDT", "btcusdt", "BTCUSDT"])
    assert job["config"]["symbols"] == ["ETHUSDT", "BTCUSDT"]
    assert {trade["symbol"] for trade in job["result"]["trades"]} == {"ETHUSDT", "BTCUSDT"}


def test_the_span_is_refused_where_the_document_says_so(api: Api) -> None:
    def field(**changes: Any) -> str:
        error = refused(api, **changes)
        assert error["code"] == "INVALID_PARAMETER"
        return str(error["details"]["field"])

    soon = datetime.now(UTC) + timedelta(minutes=5)
    assert field(start="2025-01-10", end="2025-01-10") == "end"
    assert field(start="2025-01-11", end="2025-01-10") == "end"
    assert field(end=soon.isoformat()) == "end"
    assert field(start="2019-06-30T23:59:59Z", end="2024-07-01") == "end"
    between = refused(api, start="2025-01-10T10:10", end="2025-01-10T10:50")
    assert between["message"] == "end: no candle opens from start to end"
    exactly = refused(api, start="2019-07-01", end="2024-07-01")
    assert exactly["code"] == "NO_DATA", "5 years are allowed, there are only no candles"
    assert refused(api, start="2016-02-29", end="2021-03-01")["code"] == "NO_DATA"
    assert field(start="2016-02-29", end="2021-03-01T00:00:00.001Z") == "end"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"template_id": ...}, "params"),
        ({"template_id": ..., "params": ...}, "template_id"),
        ({"template_id": "tpl_magic"}, "template_id"),
        ({"params": ...}, "params"),
        ({"params": {"lookback": 0}}, "params.lookback"),
        ({"params": {"lookback": "1e400"}}, "params.lookback"),
        ({"params": {"lokback": 5}}, "params.lokback"),
        ({"card": CARD}, "card"),
        ({"template_id": ..., "params": ..., "card": {"template": "tpl_grid"}}, "card"),
        ({"template_id": ..., "params": ..., "card": {"entries": 5}}, "card.entries"),
        ({"symbols": ...}, "symbols"),
        ({"symbols": []}, "symbols"),
        ({"timeframe": ...}, "timeframe"),
        ({"timeframe": "3h"}, "timeframe"),
        ({"start": ...}, "start"),
        ({"end": ...}, "end"),
        ({"start": "yesterday"}, "start"),
        ({"capital": ...}, "capital"),
        ({"capital": "NaN"}, "capital"),
        ({"capital": "-0"}, "capital"),
        ({"capital": "1e400"}, "capital"),
        ({"leverage": 2}, "leverage"),
        ({"leverage": True}, "leverage"),
        ({"fee_bps": -1}, "fee_bps"),
        ({"fee_model": "none", "fee_bps": 5}, "fee_bps"),
        ({"fee_model": "free"}, "fee_model"),
        ({"symbol": "BTCUSDT"}, "symbol"),
        (
            {
                "template_id": "tpl_grid",
                "params": {"lower_price": 1, "upper_price": 2},
                "symbols": ["BTCUSDT", "ETHUSDT"],
            },
            "symbols",
        ),
    ],
)
def test_what_cannot_be_is_refused_by_the_name_of_the_field(
    api: Api, changes: dict[str, Any], field: str
) -> None:
    error = refused(api, **changes)
    assert (error["code"], error["details"]["field"]) == ("INVALID_PARAMETER", field), error


def test_symbols_without_candles_are_left_out_and_named(api: Api) -> None:
    """The job is that of the other symbols, and says so from its submission on."""
    alone = done(api)
    assert (alone["warnings"], alone["coverage"]) == ([], {"BTCUSDT": 1.0})
    submitted = api.post(JOBS, JOB | {"symbols": ["DOGEUSDT", "BTCUSDT"]})
    [left_out] = submitted["warnings"]
    assert left_out == {
        "code": "NO_CANDLES",
        "symbol": "DOGEUSDT",
        "from": "2025-01-10T00:00:00Z",
        "to": "2025-02-10T01:00:00Z",
        "message": "DOGEUSDT has no candles in the whole run: it is left out",
    }
    job = finished(api, submitted["id"])
    assert (job["status"], job["config"]["symbols"]) == ("done", ["DOGEUSDT", "BTCUSDT"])
    assert job["result"]["equity_curve"] == alone["result"]["equity_curve"]
    assert job["warnings"] == [left_out]
    assert job["coverage"] == {"BTCUSDT": 1.0, "DOGEUSDT": 0.0}
    listed = next(item for item in api.get(JOBS)["data"] if item["id"] == job["id"])
    assert (listed["warnings"], listed["coverage"]) == (job["warnings"], job["coverage"])


def test_a_card_that_names_its_symbols_runs_on_those_with_candles(api: Api) -> None:
    named: dict[str, Any] = {"symbols": ["BTCUSDT", "DOGEUSDT"], "card": CARD}
    of_strategy = done(api, template_id=None, params=None, **named)
    assert [warning["symbol"] for warning in of_strategy["warnings"]] == ["DOGEUSDT"]
    assert of_strategy["config"]["card"]["symbols"] == ["BTCUSDT"]


def test_a_job_is_refused_if_no_symbol_has_candles(api: Api) -> None:
    assert refused(api, symbols=["SHIBUSDT", "DOGEUSDT"])["details"] == {"symbol": "SHIBUSDT"}
    early = refused(api, start="2024-01-01", end="2024-02-01")
    assert early["code"] == "NO_DATA"
    assert "from 2025-01-01T00:00:00Z to" in early["message"]


def test_jobs_are_listed_by_page_and_filter(api: Api) -> None:
    before = format_time(int(time.time()) * 1000)
    ids = [done(api, template_id="tpl_dca", params={})["id"] for _ in range(3)]
    listed = api.get(JOBS, limit=2, template_id="tpl_dca")
    assert [item["id"] for item in listed["data"]] == [ids[2], ids[1]]
    assert set(listed["data"][0]["result"]) == {"metrics"}
    rest = api.get(JOBS, limit=2, template_id="tpl_dca", cursor=listed["next_cursor"])
    assert [item["id"] for item in rest["data"]] == [ids[0]]
    assert rest["next_cursor"] is None
    assert api.get(JOBS, status="failed", template_id="tpl_dca")["data"] == []
    filters: dict[str, Any] = {"from": before, "status": "done"}
    since = api.get(JOBS, **filters)["data"]
    assert [item["id"] for item in since][:3] == ids[::-1]
    assert api.get(JOBS, to="2025-01-01")["data"] == []


def test_a_job_that_has_ended_cannot_be_cancelled_and_an_unknown_one_is_not_found(api: Api) -> None:
    job = done(api)
    error = api.post(f"{JOBS}/{job['id']}/cancel", expect=409)
    assert (error["code"], error["details"]) == ("INVALID_STATE", {"status": "done"})
    assert api.post(f"{JOBS}/{job['id']}/cancel", {"reason": "x" * 201}, 422)
    for unknown in ("bt_3c91ef", "status", "results", "cancel", "x" * 5000):
        assert api.get(f"{JOBS}/{unknown}", 404)["code"] == "NOT_FOUND"
        assert api.post(f"{JOBS}/{unknown}/cancel", expect=404)["code"] == "NOT_FOUND"


def test_templates_say_what_they_take(api: Api) -> None:
    listed = {item["id"]: item for item in api.get("/api/v1/strategy-templates")["data"]}
    grid = listed["tpl_grid"]
    assert grid["params"]["required"] == ["lower_price", "upper_price"]
    assert {"grid_levels", "upper_price", "lower_price"} <= set(grid["params"]["properties"])
    assert not grid["several_symbols"]
    assert listed["tpl_breakout"]["params"]["properties"]["lookback"]["default"] == 20


def test_a_killed_server_takes_its_jobs_up_again(tmp_path: Path) -> None:
    home = sample_home(tmp_path / "home")
    store = Store.open(home)
    account_id = ensure_account(store, "default").account_id
    slow = create_strategy(store, account_id, name="slow", content=SLOW).strategy_id
    store.close()
    body = JOB | {"template_id": None, "params": None, "strategy_id": slow, "timeframe": "1m"}
    server = RunningServer(home, "--workers", "1")
    with server.client() as client:
        api = Api(client)
        running_job, queued = api.post(JOBS, body)["id"], api.post(JOBS, JOB)["id"]
        wait_for(lambda: api.get(f"{JOBS}/{running_job}")["progress"], bool)
        workers = workers_of(server.process.pid)
        server.kill()
    assert workers
    with running(home, "--workers", "1") as server, server.client() as client:
        api = Api(client)
        assert [item["id"] for item in api.get(JOBS)["data"]] == [queued, running_job]
        wait_for(lambda: api.get(f"{JOBS}/{running_job}")["progress"], bool)
        assert api.get(f"{JOBS}/{queued}")["status"] == "queued"
        cancelled = api.post(f"{JOBS}/{running_job}/cancel", {"reason": "too slow"})
        assert cancelled["status"] == "cancelled"
        assert cancelled["error"] == {"code": "CANCELLED", "message": "too slow"}
        assert finished(api, queued)["status"] == "done"
        # They end as soon as they find that nobody listens.
        wait_for(
            lambda: [worker for worker in workers if is_alive(worker)], lambda alive: not alive
        )


def test_workers_are_replaced_after_results_have_been_read(server: RunningServer, api: Api) -> None:
    """A fork of the server, whose threads have databases open, would crash before it is a worker."""
    for _ in range(2):
        job = done(api)
        assert job["result"]["equity_curve"]
        assert kill_workers(server.process.pid)


def test_the_sixth_job_has_to_wait(api: Api) -> None:
    jobs: list[str] = []
    while len(jobs) < 50:
        answer = api.client.post(JOBS, json=JOB | {"timeframe": "1m"})
        if answer.status_code == 429:
            break
        jobs.append(answer.json()["id"])
    error = check_error(answer)
    assert (error["code"], error["details"]) == ("RATE_LIMITED", {"limit": 5})
    assert int(answer.headers["retry-after"]) > 0
    for job_id in jobs:
        assert finished(api, job_id)["status"] == "done"
    assert done(api)


def is_alive(process: int) -> bool:
    """Return whether a process exists and has not ended."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
