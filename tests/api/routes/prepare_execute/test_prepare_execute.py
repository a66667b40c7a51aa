"""Prepare and execute over HTTP, field by field as the document prints it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import httpx
import pytest

from candlestep.data.imports.importer import import_file
from candlestep.data.imports.sample import drop_sample
from candlestep.data.store.database import Store
from candlestep.sandbox import Market, SessionConfig, closed_trades, parse_time
from candlestep.sandbox.strategies import compile_strategy, run
from tests.support.api_client import (
    BACKTEST,
    Api,
    check_error,
    refused,
    sample_home,
    sample_market_of,
    wait_for,
)
from tests.support.server_process import RunningServer, running

STRATEGY = "/api/v1/strategy"
BINANCE = f"{BACKTEST}/binance/ticker"
CROSS = """
indicators = {"fast": {"kind": "sma", "period": 10}, "slow": {"kind": "sma", "period": 40}}

def on_candle(ctx):
    if ctx.position == 0 and ctx.fast > ctx.slow:
        ctx.buy(equity_share=0.5)
    elif ctx.position > 0 and ctx.fast < ctx.slow:
        ctx.sell()
"""
IDLE = "def on_candle(ctx):\n    pass\n"
SLOW = "def on_candle(ctx):\n    for _ in range(200000):\n        pass\n"
BROKEN = "def on_candle(ctx):\n    ctx.state[1] // 0\n"
SPAN = {
    "instrument": "BTC/USDT",
    "from": "2025-01-10T00:00:00Z",
    "to": "2025-01-20T00:00:00Z",
    "cadence": "15m",
}
RESULTS = {
    "hostName", "iops", "strategyId", "instrument", "pnlTotal", "totalTrades", "winRate",
    "sharpeRatio", "sortinoRatio", "cagr", "maxDrawdown", "maxDrawdownPercent", "signalCount",
}  # fmt: skip
SIGNALS = {"signalsId", "signalsUpload", "signalsUploadedAt"}
STATE = {
    "contextId", "status", "statusDetail", "size", "completed", "startTime", "endTime",
    "coveredFrom", "coveredTo", "warnings", "coverage",
}  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sample_home(tmp_path_factory.mktemp("prepare") / "home")


@pytest.fixture(scope="module")
def market(home: Path) -> Market:
    return sample_market_of(home, "BTCUSDT", (parse_time(SPAN["from"]), parse_time(SPAN["to"])))


@pytest.fixture(scope="module")
def server(home: Path, market: Market) -> Iterator[RunningServer]:
    with running(home) as server:
        yield server


@pytest.fixture
def api(server: RunningServer) -> Iterator[Api]:
    with server.client() as client:
        yield Api(client)


def send(
    api: Api, source: str | bytes, expect: int = 200, kind: str = "text/plain", **headers: str
) -> Any:
    sent = {"Content-Type": kind} | {name.replace("_", "-"): text for name, text in headers.items()}
    answer = api.client.post(STRATEGY, content=source, headers=sent)
    assert answer.status_code == expect, answer.text
    return answer.json() if expect < 400 else check_error(answer)


def compiled(api: Api, source: str = CROSS) -> str:
    return str(send(api, source)["strategyId"])


def prepared(api: Api, path: str = BINANCE, **changes: Any) -> str:
    return str(api.post(f"{path}/prepare", SPAN | changes, 202)["jobId"])


def executed(api: Api, source: str = CROSS, *, signals: bool = False, **changes: Any) -> Any:
    body = {"prepareJobId": prepared(api, **changes), "strategyId": compiled(api, source)}
    job_id = api.post(f"{BINANCE}/execute", body | {"storeSignals": signals}, 202)["jobId"]
    return ended(api, job_id)


def ended(api: Api, job_id: str) -> Any:
    """The execution at its end: usually what the first answer says, which waits for it."""
    return wait_for(
        lambda: api.get(f"{BINANCE}/execute/{job_id}"),
        lambda answer: answer["state"]["status"] not in ("New", "Started"),
    )


def test_an_instrument_that_changes_makes_another_preparation_and_execution(api: Api) -> None:
    """And the plain instrument has the ids that it always had."""
    instrument = "/api/v1/data/instruments/ETHUSDT"
    change: dict[str, Any] = {"instrument": "ETH/USDT"}
    source = "def on_candle(ctx):\n    if ctx.position == 0:\n        ctx.buy(equity_share=0.5)\n"
    plain_id, plain = prepared(api, **change), executed(api, source, **change)
    try:
        api.call("PATCH", instrument, {"filters": {"min_notional": "1000000"}})
        filtered_id, filtered = prepared(api, **change), executed(api, source, **change)
    finally:
        api.call("PATCH", instrument, {"filters": {"min_notional": None}})
    assert filtered_id != plain_id
    assert filtered["state"]["contextId"] != plain["state"]["contextId"]
    assert plain["results"]["pnlTotal"] != 0
    assert filtered["results"]["pnlTotal"] == 0, "its only order was too small for the filter"
    assert prepared(api, **change) == plain_id
    assert executed(api, source, **change) == plain


def test_the_path_of_the_document(api: Api, home: Path, market: Market) -> None:
    strategy_id = send(api, CROSS)
    assert set(strategy_id) == {"strategyId"}
    plain = {name: text for name, text in SPAN.items() if name != "cadence"}
    assert api.post(f"{BINANCE}/prepare", plain, 202)["cadence"] == "1m"
    prepared = api.post(f"{BINANCE}/prepare", SPAN, 202)
    assert (set(prepared), prepared["cadence"]) == ({"jobId", "cadence"}, "15m")
    state = api.get(f"{BINANCE}/prepare/{prepared['jobId']}")
    assert set(state) == STATE
    assert (state["status"], state["statusDetail"]) == ("Completed", None)
    assert (state["size"], state["completed"]) == (0, 240)
    assert state["contextId"].startswith("jctx:ticker:")
    assert f":binance:{prepared['jobId']}:btc/usdt:" in state["contextId"]
    assert parse_time(state["startTime"]) <= parse_time(state["endTime"])
    assert (state["warnings"], state["coverage"]) == ([], {"BTCUSDT": 1.0})

    body = {"prepareJobId": prepared["jobId"], "storeSignals": True} | strategy_id
    job = api.post(f"{BINANCE}/execute", body, 202)
    assert set(job) == {"jobId"}
    answer = ended(api, job["jobId"])
    assert set(answer) == {"state", "results"}
    state, results = answer["state"], answer["results"]
    assert set(state) == STATE
    assert (state["status"], state["statusDetail"], state["size"]) == ("Completed", None, 0)
    assert f":binance:{job['jobId']}:btc/usdt:" in state["contextId"]
    assert parse_time(state["startTime"]) <= parse_time(state["endTime"])
    assert set(results) == RESULTS | SIGNALS
    assert results["strategyId"].startswith("strategy:")
    assert results["strategyId"].endswith(f":ticker:{strategy_id['strategyId']}")
    assert results["instrument"] == "BTC/USDT"

    config = SessionConfig(
        start_time=SPAN["from"],
        end_time="2025-01-20T00:15:00Z",
        starting_balance=10_000,
        candle_interval="15m",
    )
    done = run(compile_strategy({"source": CROSS}), config, market)
    expected, metrics = done.session.results(), done.session.results().metrics
    trades = closed_trades(done.session.fills)
    assert len(trades) > 5
    assert results["totalTrades"] == len(trades)
    assert results["pnlTotal"] == float(expected.total_pnl)
    assert results["winRate"] == metrics.win_rate
    assert results["sharpeRatio"] == metrics.sharpe_ratio
    assert results["sortinoRatio"] == metrics.sortino_ratio
    assert results["cagr"] == metrics.cagr
    assert results["maxDrawdown"] == float(metrics.max_drawdown_amount or 0) > 0
    assert results["maxDrawdownPercent"] == metrics.max_drawdown_pct
    assert results["signalCount"] == len(done.signals)
    assert state["completed"] == done.candles == 961
    assert results["iops"] > 0

    assert results["signalsUpload"] == "Done"
    assert results["signalsUploadedAt"] == state["endTime"]
    with duckdb.connect() as connection:
        rows = connection.execute(
            "SELECT epoch_ms(time), action FROM read_parquet(?) ORDER BY time",
            [str(home / results["signalsId"])],
        ).fetchall()
    assert rows == [(signal.time, signal.action) for signal in done.signals]


def test_the_same_has_the_same_id(api: Api) -> None:
    """However the times and the instrument are spelt."""
    first = prepared(api)
    assert len(first) == 22
    same: list[dict[str, Any]] = [
        {"from": "2025-01-10", "to": "20250120"},
        {"instrument": "btcusdt", "cadence": 900},
        {"from": "2025-01-10T01:00:00+01:00"},
    ]
    for changes in same:
        assert prepared(api, **changes) == first
    assert prepared(api, cadence="1s") == prepared(api, cadence=None) == prepared(api, cadence="1m")
    others = {
        prepared(api, instrument="ETHUSDT"),
        prepared(api, to="2025-01-21"),
        prepared(api, cadence="5m"),
        prepared(api, f"{BACKTEST}/binance/kline"),
    }
    assert len(others | {first}) == 5

    assert compiled(api) == compiled(api)
    assert compiled(api) != compiled(api, CROSS + "\n")
    body = {"prepareJobId": first, "strategyId": compiled(api)}
    job_id = api.post(f"{BINANCE}/execute", body, 202)
    assert api.post(f"{BINANCE}/execute", body | {"storeSignals": False}, 202) == job_id
    assert api.post(f"{BINANCE}/execute", body | {"storeSignals": True}, 202) != job_id
    result = ended(api, job_id["jobId"])
    assert api.post(f"{BINANCE}/execute", body, 202) == job_id
    assert api.get(f"{BINANCE}/execute/{job_id['jobId']}") == result


def test_other_candles_make_another_job_and_the_old_one_keeps_its_own(tmp_path: Path) -> None:
    home = sample_home(tmp_path / "home")
    with running(home) as server, server.client() as client:
        api = Api(client)
        first = prepared(api)
        body = {"prepareJobId": first, "strategyId": compiled(api)}
        job_id = api.post(f"{BINANCE}/execute", body, 202)["jobId"]
        before = ended(api, job_id)
        states = [api.get(f"{BINANCE}/prepare/{first}")]
    store = Store.open(home)
    other = home / "SOLUSDT-1m.json"
    other.write_text(json.dumps([[parse_time("2025-01-15"), 1, 1, 1, 1, 1]]))
    import_file(store, other)
    store.close()
    with running(home) as server, server.client() as client:
        api = Api(client)
        assert prepared(api) == first, "nothing of this symbol has changed"
        assert api.get(f"{BINANCE}/execute/{job_id}") == before
        states.append(api.get(f"{BINANCE}/prepare/{first}"))
    assert states[0] == states[1]
    store = Store.open(home)
    coarse = home / "BTCUSDT-1d.json"
    coarse.write_text(json.dumps([[parse_time("2024-12-31"), 90000, 95000, 90000, 94000, 1]]))
    drop_sample(store)
    import_file(store, coarse)
    store.close()
    with running(home) as server, server.client() as client:
        api = Api(client)
        assert api.post(f"{BINANCE}/prepare", SPAN, 400)["code"] == "NO_DATA"
        again = api.post(f"{BINANCE}/execute", body | {"storeSignals": True}, 202)["jobId"]
        answer = ended(api, again)["results"]
        for name in RESULTS - {"iops", "hostName"}:
            assert answer[name] == before["results"][name], name
        assert answer["signalsUpload"] == "Done"


def test_what_there_are_candles_of_is_prepared(api: Api) -> None:
    span: dict[str, Any] = {"from": "2024-12-01", "to": "2025-01-02T12:20:30Z"}
    job_id = prepared(api, **span)
    assert api.get(f"{BINANCE}/prepare/{job_id}")["completed"] == 36
    executed_on = executed(api, IDLE, **span)
    # From 2025-01-01T00:15 to 2025-01-02T12:15; at 12:30, the end, no order can be placed.
    assert executed_on["state"]["completed"] == 36 * 4 + 1


def test_without_trades_there_is_no_key_for_what_has_no_value(api: Api) -> None:
    results = executed(api, IDLE, signals=True)["results"]
    assert set(results) == {
        "hostName", "iops", "strategyId", "instrument", "pnlTotal", "totalTrades", "cagr",
        "maxDrawdown", "maxDrawdownPercent", "signalCount", "signalsUpload",
    }  # fmt: skip
    assert (results["pnlTotal"], results["totalTrades"], results["signalCount"]) == (0, 0, 0)
    assert (results["maxDrawdown"], results["signalsUpload"]) == (0, "Skipped")
    assert not SIGNALS & set(executed(api)["results"])


def test_a_program_that_fails_says_so_and_runs_again_when_asked_again(api: Api) -> None:
    failed = executed(api, BROKEN)
    assert failed["state"]["status"] == "Failed"
    assert "line 2" in failed["state"]["statusDetail"]
    assert set(failed["results"]) == {"strategyId", "instrument"}
    again = executed(api, BROKEN)
    assert again["state"]["contextId"] == failed["state"]["contextId"]
    started = [parse_time(answer["state"]["startTime"]) for answer in (failed, again)]
    assert started[0] < started[1]


def test_an_execution_can_be_cancelled_and_run_again(api: Api) -> None:
    body = {"prepareJobId": prepared(api, cadence="1m"), "strategyId": compiled(api, SLOW)}
    job_id = api.post(f"{BINANCE}/execute", body, 202)["jobId"]
    path = f"{BINANCE}/execute/{job_id}"
    assert api.call("DELETE", path) == {"status": "cancelling", "jobId": job_id}
    answer = api.get(path)
    assert answer["state"]["status"] == "Aborted"
    assert set(answer["results"]) == {"strategyId", "instrument"}
    error = api.call("DELETE", path, expect=409)
    assert (error["code"], error["details"]) == ("INVALID_STATE", {"status": "cancelled"})

    assert api.post(f"{BINANCE}/execute", body, 202)["jobId"] == job_id
    held = api.get(path)
    assert held["state"]["status"] in ("New", "Started")
    assert set(held["results"]) == {"strategyId", "instrument"}
    api.call("DELETE", path)


def test_a_compilation_may_be_asked_for_later(api: Api) -> None:
    assert send(api, IDLE, X_Compile_Async="false") == {"strategyId": compiled(api, IDLE)}
    job = send(api, IDLE, X_Compile_Async="true")
    assert set(job) == {"jobId"}
    assert api.get(f"{STRATEGY}/{job['jobId']}") == {
        "jobId": job["jobId"],
        "status": "Completed",
        "strategyId": compiled(api, IDLE),
        "statusDetail": None,
        "validation": "passed",
    }
    bad = send(api, "def on_candle(ctx):\n    if\n", X_Compile_Async="true")["jobId"]
    state = api.get(f"{STRATEGY}/{bad}")
    assert (state["status"], state["strategyId"], state["validation"]) == ("Failed", None, "failed")
    assert "line 2, column 7" in state["statusDetail"]
    body = {"prepareJobId": prepared(api), "strategyId": bad}
    error = api.post(f"{BINANCE}/execute", body, 400)
    assert error["details"]["field"] == "strategyId"
    wrong = send(api, IDLE, 400, X_Compile_Async="perhaps")
    assert wrong["details"]["field"] == "X-Compile-Async"


@pytest.mark.parametrize("mode", ["true", "false"])
def test_a_compilation_without_a_source_is_refused_in_both_modes(api: Api, mode: str) -> None:
    headers = {"X-Compile-Async": mode}
    for body in (b"", None):
        answer = api.client.post(STRATEGY, content=body, headers=headers)
        assert refused(answer, 400, "INVALID_PARAMETER")["field"] == "body"
    answer = api.client.post(STRATEGY, json={"source": "x"}, headers=headers)
    refused(answer, 415, "UNSUPPORTED_MEDIA_TYPE")


def test_the_source_is_taken_as_it_is_whatever_it_is_called(api: Api) -> None:
    for kind in ("text/plain; charset=utf-8", "application/octet-stream", ""):
        assert send(api, IDLE, kind=kind)["strategyId"] == compiled(api, IDLE)
    java = send(api, "public class Cross extends Strategy { }", 400)
    assert (java["details"]["line"], java["details"]["column"]) == (1, 8)
    assert "line 1, column 8" in java["message"]
    for nothing in (b"\n", b"x = 1\n", b'{"template": "tpl_grid"}'):
        assert "line 1" in send(api, nothing, 400)["message"]
    assert send(api, b"\xff\xfe", 400)["details"]["field"] == "body"
    assert send(api, "#" * 70_000, 400)["code"] == "INVALID_PARAMETER"
    assert send(api, "#" * 2_000_000, 413)["code"] == "PAYLOAD_TOO_LARGE"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"instrument": "?"}, "instrument"),
        ({"instrument": 5}, "instrument"),
        ({"from": "yesterday"}, "from"),
        ({"from": "2025-13-01"}, "from"),
        ({"from": 1e400}, "from"),
        ({"to": "2025-01-10"}, "to"),
        ({"from": "2025-01-10T00:00:01Z", "to": "2025-01-10T00:14:59Z"}, "to"),
        ({"to": "2030-01-01"}, "to"),
        ({"from": "2010-01-01"}, "to"),
        ({"to": None}, "to"),
        ({"cadence": "1q"}, "cadence"),
        ({"cadence": "2s"}, "cadence"),
        ({"cadence": 0}, "cadence"),
        ({"candence": "1m"}, "candence"),
        ({"start": "2025-01-10"}, "start"),
    ],
)
def test_bad_input_is_400_and_named(api: Api, changes: dict[str, Any], field: str) -> None:
    content = json.dumps(SPAN | changes).replace("Infinity", "1e400")
    kind = {"Content-Type": "application/json"}
    answer = api.client.post(f"{BINANCE}/prepare", content=content, headers=kind)
    assert answer.status_code == 400, answer.text
    error = check_error(answer)
    assert (error["code"], error["details"]["field"]) == ("INVALID_PARAMETER", field)


def test_what_there_is_not_is_400_or_404(api: Api) -> None:
    assert api.post(f"{BINANCE}/prepare", SPAN | {"instrument": "DOGE/USDT"}, 400)["details"] == {
        "instrument": "DOGEUSDT"
    }
    early = {"from": "2024-01-01", "to": "2024-02-01"}
    assert "from 2025-01-01" in api.post(f"{BINANCE}/prepare", SPAN | early, 400)["message"]
    nowhere = api.post(f"{BACKTEST}/nowhere/ticker/prepare", SPAN, 404)
    assert nowhere["code"] == "EXCHANGE_NOT_FOUND"
    funding = api.post(f"{BACKTEST}/binance/funding/prepare", SPAN, 400)
    assert funding["details"]["field"] == "type"

    job_id, strategy_id = prepared(api), compiled(api)
    body = {"prepareJobId": job_id, "strategyId": strategy_id}
    kline = f"{BACKTEST}/binance/kline"
    assert api.get(f"{kline}/prepare/{job_id}", 404)["code"] == "NOT_FOUND"
    assert api.post(f"{kline}/execute", body, 404)["code"] == "NOT_FOUND"
    unknown = api.post(f"{BINANCE}/execute", body | {"strategyId": "x"}, 404)
    assert unknown["code"] == "STRATEGY_NOT_FOUND"
    assert api.post(f"{BINANCE}/execute", body | {"prepareJobId": "x"}, 404)["code"] == "NOT_FOUND"
    assert api.post(f"{BINANCE}/execute", {"strategyId": "x"}, 400)["code"] == "INVALID_PARAMETER"
    misspelt = api.post(f"{BINANCE}/execute", body | {"storeSignal": True}, 400)
    assert "storeSignals" in misspelt["message"]
    execution_id = api.post(f"{BINANCE}/execute", body, 202)["jobId"]
    for method, path in (
        ("GET", f"{kline}/execute/{execution_id}"),
        ("GET", f"{BINANCE}/execute/{job_id}"),
        ("GET", f"{BINANCE}/prepare/{execution_id}"),
        ("GET", f"{BACKTEST}/jobs/{execution_id}"),
        ("DELETE", f"{BINANCE}/execute/bt_3c91ef"),
        ("GET", f"{STRATEGY}/{job_id}"),
        ("GET", f"{STRATEGY}/{'x' * 5000}"),
    ):
        assert api.call(method, path, expect=404)["code"].endswith("NOT_FOUND")


def test_sessions_and_exchanges_do_not_get_into_each_others_way(api: Api) -> None:
    """Both stand at the same place of a path."""
    session_id = api.started()
    for path in (f"{BACKTEST}/{session_id}/ticker", f"{BACKTEST}/bt_1/ticker"):
        assert api.post(f"{path}/prepare", SPAN, 404)["code"] == "EXCHANGE_NOT_FOUND"
        assert api.get(f"{path}/execute/x", 404)["code"] == "NOT_FOUND"
    for what in ("status", "market/prices", "trade/orders", "results/trades"):
        answer = api.get(f"{BACKTEST}/binance/{what}", 404)
        assert answer["code"] == "SESSION_NOT_FOUND"
    assert api.post(f"{BACKTEST}/binance/step", expect=404)["code"] == "SESSION_NOT_FOUND"
    order = api.order(session_id)
    assert api.get(f"{BACKTEST}/{session_id}/trade/order/{order['order_id']}")["status"] == "filled"
    assert api.read(session_id, "market/price/BTC/USDT")["symbol"] == "BTCUSDT"
    assert api.step(session_id)["step"] == 1
    # What stands second may be called as a part of a session is, and is no type.
    for name in ("trade", "market", "step", "jobs"):
        error = api.post(f"{BACKTEST}/binance/{name}/prepare", SPAN, 400)
        assert error["details"]["field"] == "type"
    allowed = httpx.put(str(api.client.base_url.join(f"{BINANCE}/prepare")), trust_env=False)
    assert allowed.status_code == 405
    assert allowed.headers["allow"] == "POST"
