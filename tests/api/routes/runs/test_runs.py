"""Runs on datasets over HTTP, field by field as the document prints them."""

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from candlestep.sandbox import INTERVALS, Market, SessionConfig, closed_trades, parse_time
from candlestep.sandbox.performance.deflated_sharpe import deflated_sharpe_ratio
from candlestep.sandbox.strategies import compile_strategy, run
from tests.support.api_client import (
    Api,
    has_ended,
    make_key,
    sample_home,
    sample_market_of,
    wait_for,
)
from tests.support.cards import crossing
from tests.support.server_process import running

RUNS = "/api/v2/backtest/runs"
DATASETS = "/api/v2/backtest/datasets"
SPAN = (parse_time("2025-01-01"), parse_time("2025-03-02"))
CARD = crossing(30)
RUN: dict[str, Any] = {
    "dataset_id": "btcusdt-1h-2025",
    "strategy": CARD,
    "fees": 5,
    "slippage": 3,
    "funding": True,
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sample_home(tmp_path_factory.mktemp("runs") / "home")


@pytest.fixture(scope="module")
def market(home: Path) -> Market:
    return sample_market_of(home, "BTCUSDT", SPAN)


@pytest.fixture(scope="module")
def token_api(home: Path, market: Market) -> Iterator[Api]:
    """Everything is called with a token, as the document has it."""
    key = make_key(home, "ann")
    with running(home) as server, server.client(key) as keyed, server.client() as client:
        token = Api(keyed).post("/api/v1/auth/token")["access_token"]
        client.headers["Authorization"] = f"Bearer {token}"
        yield Api(client)


@pytest.fixture
def api(token_api: Api) -> Api:
    return token_api


def ended(api: Api, run_id: str) -> Any:
    return wait_for(lambda: api.get(f"{RUNS}/{run_id}")["data"], has_ended)


def done(api: Api, **changes: Any) -> Any:
    result = ended(api, api.post(RUNS, RUN | changes, 202)["data"]["run_id"])
    assert result["status"] == "done", result
    return result


def in_process(market: Market, fees: float = 5, strategy: Any = CARD) -> Any:
    config = SessionConfig(
        start_time=SPAN[0],
        end_time=SPAN[1],
        starting_balance=10_000,
        candle_interval="1h",
        fee_model="fixed_bps",
        fee_bps=fees,
        slippage={"model": "fixed_bps", "bps": 3},
    )
    return run(compile_strategy(strategy), config, market).session


def test_a_run_is_accepted_and_has_the_fields_of_the_document(api: Api, market: Market) -> None:
    answer = api.post(RUNS, RUN, 202)
    assert set(answer) == {"success", "data"}
    assert (answer["success"], set(answer["data"])) == (True, {"run_id", "status"})
    assert answer["data"]["status"] == "queued"
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", answer["data"]["run_id"])
    result = ended(api, answer["data"]["run_id"])
    assert api.get(f"{RUNS}/{result['run_id']}") == {"success": True, "data": result}
    assert set(result) == {
        "run_id", "status", "dataset_id", "strategy", "assumptions", "progress", "submitted_at",
        "started_at", "finished_at", "metrics", "error", "covered_from", "covered_to",
        "warnings", "coverage",
    }  # fmt: skip
    assert (result["status"], result["progress"], result["error"]) == ("done", 1, None)
    assert result["dataset_id"] == "btcusdt-1h-2025"
    times = [parse_time(result[name]) for name in ("submitted_at", "started_at", "finished_at")]
    assert times == sorted(times)
    (note,) = result["assumptions"].pop("notes")
    assert "spot" in note
    assert "changes nothing" in note
    assert result["assumptions"] == {
        "fees_bps": 5,
        "slippage_bps": 3,
        "funding": True,
        "funding_applied": False,
        "starting_balance": 10_000,
    }

    session = in_process(market)
    results, metrics = session.results(), session.results().metrics
    trades = closed_trades(session.fills)
    assert len(trades) > 10
    numbers = result["metrics"]
    assert numbers["final_equity"] == float(results.final_equity)
    assert numbers["total_fees"] == float(results.total_fees) > 0
    assert numbers["total_trades"] == len(trades)
    assert numbers["trials"] == 1
    for name in ("sharpe_ratio", "sortino_ratio", "cagr", "win_rate", "returns_skewness"):
        assert numbers[name] == getattr(metrics, name), name
    for name in ("expectancy", "max_drawdown_amount", "best_trade"):
        assert numbers[name] == float(getattr(metrics, name)), name
    assert numbers["deflated_sharpe_ratio"] == deflated_sharpe_ratio(
        metrics.sharpe_ratio / math.sqrt(365),
        trials=1,
        trial_sharpes=[],
        returns=metrics.returns_count,
        skewness=metrics.returns_skewness,
        kurtosis=metrics.returns_kurtosis,
    )


def test_trials_are_the_finished_runs_of_the_strategy_on_the_dataset(
    api: Api, market: Market
) -> None:
    """Whatever its numbers; other strategies and other datasets are none."""

    def strategy(slow: int) -> dict[str, Any]:
        return {"template": "tpl_sma_cross", "parameters": {"fast": 5, "slow": slow}}

    slows = (20, 40, 80)
    runs = [done(api, strategy=strategy(slow)) for slow in slows]
    done(api, strategy=strategy(20), dataset_id="ethusdt-1h-2025")
    done(api, strategy=strategy(20), dataset_id="btcusdt-4h-2025")
    done(api, strategy={"template": "tpl_rsi"})
    assert [item["metrics"]["trials"] for item in runs] == [1, 2, 3]

    sessions = [in_process(market, strategy=strategy(slow)) for slow in slows]
    metrics = [session.results().metrics for session in sessions]
    ratios = [item.sharpe_ratio / math.sqrt(365) for item in metrics]
    assert len(set(ratios)) == 3
    for item, own, ratio in zip(runs, metrics, ratios, strict=True):
        now = api.get(f"{RUNS}/{item['run_id']}")["data"]["metrics"]
        assert now["trials"] == 3
        expected = deflated_sharpe_ratio(
            ratio,
            trials=3,
            trial_sharpes=ratios,
            returns=own.returns_count,
            skewness=own.returns_skewness,
            kurtosis=own.returns_kurtosis,
        )
        assert now["deflated_sharpe_ratio"] == pytest.approx(expected, rel=1e-12)
        assert now["sharpe_ratio"] == item["metrics"]["sharpe_ratio"]


def test_a_card_in_which_only_numbers_differ_is_the_same_strategy(api: Api) -> None:
    rule = {"left": "close", "op": "crosses_below", "right": 93_000.5}

    def card(level: float, share: object) -> dict[str, Any]:
        entry = {"when": rule | {"right": level}, "size": {"equity_share": share}}
        return CARD | {"entries": [entry]}

    trials = [
        done(api, strategy=strategy, dataset_id="btcusdt-1d-2025")["metrics"]["trials"]
        for strategy in (
            card(93_000.5, 0.5),
            card(94_000, "0.75"),
            card(94_000.25, 1) | {"timeframe": "1d"},
            CARD,
            card(93_000.5, 0.5) | {"exits": []},
        )
    ]
    assert trials == [1, 2, 3, 1, 1]


def test_datasets_can_be_named_as_they_are_listed(api: Api) -> None:
    listed = api.get(DATASETS)
    assert (set(listed), listed["success"]) == ({"success", "data"}, True)
    # Each symbol at each interval in 2025; and the weeks from the one that begins in 2024. The
    # perpetual has candles of 5 minutes.
    assert len(listed["data"]) == 2 * (len(INTERVALS) + 1) + len(INTERVALS) + 1 - 2
    assert "solusdt-perp-1h-2025" in {item["dataset_id"] for item in listed["data"]}
    assert listed["data"][0] == {
        "dataset_id": "btcusdt-1m-2025",
        "exchange": "binance",
        "symbols": ["BTCUSDT"],
        "interval": "1m",
        "start": "2025-01-01T00:00:00Z",
        "end": "2025-03-02T00:00:00Z",
        "candles": 86_400,
    }
    hold = {"template": "tpl_buy_and_hold"}
    for item in listed["data"][1:3]:
        result = done(api, strategy=hold, dataset_id=item["dataset_id"].upper().replace("M-", "m-"))
        assert result["dataset_id"] == item["dataset_id"]
    part = done(api, strategy=hold, dataset_id="btcusdt-1m-20250110-20250112")
    assert part["metrics"]["returns_grid"] == "1h"
    assert part["metrics"]["returns_count"] == 72


def test_a_coarser_timeframe_and_funding_left_off(api: Api) -> None:
    own = done(
        api, dataset_id="btcusdt-1m-2025", strategy=CARD | {"timeframe": "1h"}, funding=False
    )
    assert own["strategy"]["timeframe"] == "1h"
    assert own["assumptions"]["funding"] is False
    assert own["assumptions"]["notes"] == ["funding: none is applied"]
    named = done(api, strategy=CARD | {"symbols": ["BTCUSDT"]})
    plain = done(api)
    assert named["metrics"]["total_pnl"] == plain["metrics"]["total_pnl"]
    program = done(
        api, strategy={"source": "def on_candle(ctx):\n    ctx.buy(equity_share=0.01)\n"}
    )
    assert program["strategy"]["timeframe"] == "1h"
    free = done(api, fees="0", slippage=0.0)
    assert free["assumptions"] | {"notes": []} == plain["assumptions"] | {
        "fees_bps": 0,
        "slippage_bps": 0,
        "notes": [],
    }
    assert free["metrics"]["total_fees"] == 0
    assert done(api, fees="2.5e0")["assumptions"]["fees_bps"] == 2.5


def test_a_program_that_fails_says_why(api: Api) -> None:
    submitted = api.post(
        RUNS, RUN | {"strategy": {"source": "def on_candle(ctx):\n    ctx.no\n"}}, 202
    )
    result = ended(api, submitted["data"]["run_id"])
    assert (result["status"], result["metrics"]) == ("failed", None)
    assert "line 2" in result["error"]["message"]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"fees": ...}, "fees"),
        ({"slippage": ...}, "slippage"),
        ({"funding": ...}, "funding"),
        ({"dataset_id": ...}, "dataset_id"),
        ({"strategy": ...}, "strategy"),
        ({"fees": -1}, "fees"),
        ({"fees": "1e400"}, "fees"),
        ({"fees": None}, "fees"),
        ({"fees": True}, "fees"),
        ({"slippage": None}, "slippage"),
        ({"slippage": "NaN"}, "slippage"),
        ({"slippage": 5001}, "slippage"),
        ({"funding": "yes"}, "funding"),
        ({"strategy": {}}, "strategy.entries"),
        ({"strategy": 5}, "strategy"),
        ({"strategy": {"template": "tpl_magic"}}, "strategy.template"),
        ({"strategy": {"source": "on_candle("}}, "strategy.source"),
        ({"strategy": CARD | {"timeframe": "1m"}}, "strategy.timeframe"),
        ({"strategy": CARD | {"symbols": ["ETHUSDT"]}}, "strategy.symbols"),
        ({"strategy": CARD | {"entry": 5}}, "strategy.entry"),
        ({"strategy": CARD | {"strategy": 5}}, "strategy.strategy"),
        ({"strategy": CARD | {"fee_bps": 5}}, "strategy.fee_bps"),
        ({"leverage": 2}, "leverage"),
    ],
)
def test_what_cannot_be_is_refused_by_the_name_of_the_field(
    api: Api, changes: dict[str, Any], field: str
) -> None:
    body = {name: value for name, value in (RUN | changes).items() if value is not ...}
    error = api.post(RUNS, body, 422)
    assert (error["code"], error["details"]["field"]) == ("INVALID_PARAMETER", field), error


def test_what_there_is_not(api: Api) -> None:
    missing = api.post(RUNS, RUN | {"dataset_id": "btcusdt-1h-2024"}, 422)
    assert (missing["code"], missing["details"]) == ("NO_DATA", {"dataset_id": "btcusdt-1h-2024"})
    assert "btcusdt-1h-2025" in missing["message"]
    for unknown in ("x", "b4f1c2a0-6d3e-4f7a-9c1b-0a2d3e4f5a6b", "y" * 5000):
        assert api.get(f"{RUNS}/{unknown}", 404)["code"] == "NOT_FOUND"
    run_id = done(api)["run_id"]
    assert api.get(f"/api/v1/backtest/jobs/{run_id}", 404)["code"] == "NOT_FOUND"
    nested: Any = 1.5
    for _ in range(500):
        nested = [nested]
    assert api.post(RUNS, RUN | {"strategy": {"entries": nested}}, 422)


def test_a_run_can_be_cancelled(api: Api) -> None:
    endless = {"source": "def on_candle(ctx):\n    for i in range(100000000):\n        pass\n"}
    run_id = api.post(RUNS, RUN | {"strategy": endless}, 202)["data"]["run_id"]
    cancelled = api.post(f"{RUNS}/{run_id}/cancel")["data"]
    assert (cancelled["status"], cancelled["metrics"]) == ("cancelled", None)
    assert api.get(f"{RUNS}/{run_id}")["data"] == cancelled
    assert api.post(f"{RUNS}/{run_id}/cancel", expect=409)["code"] == "INVALID_STATE"
    assert api.post(f"{RUNS}/nothing/cancel", expect=404)["code"] == "NOT_FOUND"
