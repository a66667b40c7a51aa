"""Fee models over HTTP: a session pays by the model it was created with, and its results name it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from candlestep.data.market.fee_schedules import FILE_NAME
from candlestep.sandbox import format_time
from tests.support.api_client import BACKTEST, Api, sample_home
from tests.support.candle_files import MINUTE, START, csv_text, rows, write
from tests.support.command_line import candlestep
from tests.support.server_process import RunningServer, running

NO_SLIPPAGE: dict[str, Any] = {"slippage": {"model": "none"}}
DAY = {"start_time": "2025-01-15T00:00:00Z", "end_time": "2025-01-16T00:00:00Z"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running(sample_home(tmp_path_factory.mktemp("server") / "home")) as server:
        yield server


@pytest.fixture(scope="module")
def api(server: RunningServer) -> Iterator[Api]:
    with server.client() as client:
        yield Api(client)


def fee_fraction(order: dict[str, Any]) -> float:
    """Return the fee of an order as a fraction of its notional."""
    return float(order["fee"]) / float(order["executed_price"]) / float(order["executed_qty"])


@pytest.mark.parametrize(
    ("fees", "taker", "config"),
    [
        ({}, 0.001, {"fee_rate": "0.001"}),
        ({"fee_rate": 2e-3}, 0.002, {"fee_rate": "0.002"}),
        ({"fee_model": "none"}, 0, {"fee_model": "none"}),
        ({"fee_model": "fixed_bps"}, 0.0005, {"fee_model": "fixed_bps", "fee_bps": "5"}),
        (
            {"fee_model": "fixed_bps", "fee_bps": "2.50"},
            0.00025,
            {"fee_model": "fixed_bps", "fee_bps": "2.5"},
        ),
        ({"fee_model": "tiered_maker_taker"}, 0.001, {"fee_model": "tiered_maker_taker"}),
        (
            {"fee_model": "match_exchange"},
            0.001,
            {
                "fee_model": "match_exchange",
                "fee_schedule": [
                    {
                        "from": "2018-07-21T01:00:00Z",
                        "until": None,
                        "symbols": None,
                        "maker": "0.001",
                        "taker": "0.001",
                    }
                ],
            },
        ),
    ],
)
def test_a_session_pays_by_its_model_and_says_so(
    api: Api, fees: dict[str, Any], taker: float, config: dict[str, Any]
) -> None:
    session_id = api.started(**NO_SLIPPAGE, **fees)
    assert fee_fraction(api.order(session_id)) == pytest.approx(taker, abs=1e-9)
    api.post(f"{BACKTEST}/{session_id}/cancel")
    absent = dict.fromkeys(("fee_rate", "fee_model", "fee_bps", "fee_schedule"))
    reported = api.read(session_id, "results")["config"]
    assert {name: reported[name] for name in absent} == absent | config


@pytest.mark.parametrize(
    ("fees", "field"),
    [
        ({"fee_model": "magic"}, "fee_model"),
        ({"fee_model": "none", "fee_rate": "0.001"}, "fee_rate"),
        ({"fee_model": "none", "fee_bps": "5"}, "fee_bps"),
        ({"fee_bps": "5"}, "fee_bps"),
        ({"fee_model": "fixed_bps", "fee_bps": "NaN"}, "fee_bps"),
        ({"fee_model": "fixed_bps", "fee_bps": "1e400"}, "fee_bps"),
        ({"fee_schedule": []}, "fee_schedule"),
    ],
)
def test_fees_that_are_refused(api: Api, fees: dict[str, Any], field: str) -> None:
    error = api.post(f"{BACKTEST}/create", DAY | fees, expect=422)
    assert error["code"] == "INVALID_PARAMETER"
    assert field in json.dumps(error["details"])
    assert field in error["message"]


def test_a_venue_without_a_schedule_is_refused_with_those_that_there_are(
    server: RunningServer, api: Api, tmp_path: Path
) -> None:
    file = write(tmp_path / "BTCUSDT-1m.csv", csv_text(rows(10)))
    imported = candlestep("data", "import", file, "--exchange", "elsewhere", "--home", server.home)
    assert imported.code == 0, imported.err
    times = {"start_time": format_time(START), "end_time": format_time(START + 10 * MINUTE)}
    body = times | {"exchange": "elsewhere", "fee_model": "match_exchange"}
    error = api.post(f"{BACKTEST}/create", body, expect=422)
    assert error["code"] == "INVALID_PARAMETER"
    assert error["details"] == {"field": "fee_model", "venues": ["binance", "coinbase"]}
    (server.home / FILE_NAME).write_text('{"venues": ')
    error = api.post(f"{BACKTEST}/create", body, expect=422)
    (server.home / FILE_NAME).unlink()
    assert FILE_NAME in error["message"]


def test_a_session_keeps_the_schedule_that_it_was_created_with(
    server: RunningServer, api: Api
) -> None:
    schedules = server.home / FILE_NAME

    def charge(maker: str, taker: str) -> None:
        entry = {"from": "2025-01-01", "maker": maker, "taker": taker, "source": "a test"}
        schedules.write_text(json.dumps({"venues": {"binance": {"entries": [entry]}}}))

    charge("0.01", "0.02")
    first = api.create("01-15", "01-16", fee_model="match_exchange", **NO_SLIPPAGE)
    charge("0.03", "0.04")
    second = api.create("01-15", "01-16", fee_model="match_exchange", **NO_SLIPPAGE)
    schedules.unlink()
    for session_id, fee in ((first, 0.02), (second, 0.04)):
        api.post(f"{BACKTEST}/{session_id}/start")
        assert fee_fraction(api.order(session_id)) == pytest.approx(fee, abs=1e-9)
