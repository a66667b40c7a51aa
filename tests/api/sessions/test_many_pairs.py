"""Sessions over more than a hundred pairs: their look-back fits the memory, and stays as it was."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from candlestep.data.imports.importer import import_candles
from candlestep.data.imports.validation import CandleColumns
from candlestep.data.market.candle_cache import LOOK_BACK
from candlestep.data.store.database import Store
from candlestep.data.symbols import parse_symbol
from candlestep.sandbox import parse_time
from candlestep.sandbox.clock import HOUR
from tests.support.api_client import BACKTEST, Api
from tests.support.server_process import running
from tests.support.traded_sessions import journal

PAIRS = 101
START = parse_time("2024-01-01")
HOURS = (31 + 29 + 31) * 24
SESSION = {"start_time": "2024-03-10", "end_time": "2024-03-11", "candle_interval": "1h"}
TIGHT = "10MiB"
"""Room for two of the three months of hours."""


def market_home(home: Path) -> Path:
    """Put three months of hours of many pairs into a home."""
    store = Store.open(home)
    times = START + np.arange(HOURS) * HOUR
    with store.transaction("candles"):
        for number in range(PAIRS):
            close = np.round(100 + number + np.sin(np.arange(HOURS) / 50), 2)
            columns = CandleColumns(times, close, close, close, close, close)
            pair = parse_symbol(f"P{number:03}USDT")
            import_candles(store, columns, pair, HOUR, source="test")
    store.close()
    return home


def header(home: Path, session_id: str) -> dict[str, Any]:
    with journal(home, session_id).open() as file:
        first: dict[str, Any] = json.loads(file.readline())
    return first


def history(api: Api, session_id: str) -> list[str]:
    candles = api.get(f"{BACKTEST}/{session_id}/market/candles/P007USDT", limit=1000)["candles"]
    return [candle["open_time"] for candle in candles]


def test_look_back_shrinks_to_the_budget_and_is_pinned(tmp_path: Path) -> None:
    home = market_home(tmp_path)
    with running(home, "--memory-budget", TIGHT) as server, server.client() as client:
        api = Api(client)
        shrunk, few = (
            api.post(f"{BACKTEST}/create", SESSION | more)["session_id"]
            for more in ({}, {"pairs": ["P007USDT"]})
        )
        started = api.post(f"{BACKTEST}/{shrunk}/start")
        assert len(started["prices"]) == PAIRS
        [warning] = started["warnings"]
        assert (warning["code"], warning["symbol"]) == ("SHORT_HISTORY", None)
        assert warning["to"] == "2024-02-01T00:00:00Z"
        api.post(f"{BACKTEST}/{shrunk}/step")
        [fork] = api.post(f"{BACKTEST}/{shrunk}/fork", {}, 201)["forks"]
        seen = history(api, shrunk)
        assert seen[0] == "2024-02-01T00:00:00Z"
        assert not api.post(f"{BACKTEST}/{few}/start")["warnings"]
        assert history(api, few)[0] == "2024-01-28T08:00:00Z"
    kept = header(home, shrunk)["look_back"]
    assert parse_time("2024-03-10") - kept >= parse_time("2024-02-01")
    assert kept < LOOK_BACK == header(home, few)["look_back"]
    assert header(home, fork["session_id"])["look_back"] == kept
    with running(home, "--memory-budget", "1GiB") as server, server.client() as client:
        api = Api(client)
        assert api.get(f"{BACKTEST}/{shrunk}/status")["warnings"] == [warning]
        assert history(api, shrunk) == seen
        assert api.post(f"{BACKTEST}/{shrunk}/step")["step"] == 2
        whole = api.post(f"{BACKTEST}/create", SESSION)["session_id"]
        api.post(f"{BACKTEST}/{whole}/start")
        assert header(home, whole)["look_back"] == LOOK_BACK
        assert history(api, whole)[0] == "2024-01-28T08:00:00Z"
