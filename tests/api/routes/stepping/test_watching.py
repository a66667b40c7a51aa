"""Reads of watchers: charts, news, drawdowns, months and ranges of candles."""

from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

from candlestep.sandbox import format_time, parse_time
from tests.support.api_client import BACKTEST, Api, refused, sample_home, wait_for
from tests.support.server_process import running
from tests.support.traded_sessions import traded

DAY = 86_400_000


@pytest.fixture(scope="module")
def watched(api: Api) -> str:
    """Return a running session at step 1002 that has traded."""
    return traded(api)


@pytest.fixture(scope="module")
def ended(api: Api) -> str:
    session_id = traded(api)
    api.step(session_id, 10_000)
    return session_id


def trace(chart: Any, name: str) -> Any:
    return next(trace for trace in chart["data"] if trace["name"] == name)


def test_a_chart_ends_at_the_virtual_clock(api: Api, watched: str) -> None:
    chart = api.read(watched, "figure.json")
    now = parse_time(api.read(watched, "status")["virtual_time"])
    candles = trace(chart, "BTCUSDT")
    assert candles["x"][-1] == now - 60_000
    assert trace(chart, "equity")["x"][-1] == now
    prices = api.read(watched, "market/candles/BTCUSDT", limit=1)["candles"][0]
    assert candles["close"][-1] == float(prices["close"])


def test_the_markers_of_a_chart_are_the_trades(api: Api, ended: str) -> None:
    chart = api.read(ended, "figure.json", symbol="btc-usdt")
    trades = api.read(ended, "trade/history")["trades"]
    for side, name in (("buy", "buys"), ("sell", "sells")):
        markers = trace(chart, name)
        expected = [trade for trade in trades if trade["side"] == side]
        assert markers["x"] == [parse_time(trade["simulated_at"]) for trade in expected]
        assert markers["y"] == [float(trade["price"]) for trade in expected]


def test_a_chart_of_a_range_has_finer_candles(api: Api, ended: str) -> None:
    whole = trace(api.read(ended, "figure.json"), "BTCUSDT")
    start, end = whole["x"][0], whole["x"][0] + 3_600_000
    part = api.read(ended, "figure.json", start_time=format_time(start), end_time=format_time(end))
    x = trace(part, "BTCUSDT")["x"]
    assert x == list(range(start, end, 60_000))
    assert len(whole["x"]) <= 2000
    assert whole["x"][1] - whole["x"][0] > 60_000


def test_a_chart_refuses_what_there_is_not(client: httpx.Client, watched: str) -> None:
    path = f"{BACKTEST}/{watched}/figure.json"
    refused(client.get(path, params={"symbol": "XRPUSDT"}), 404, "SYMBOL_NOT_FOUND")
    times = {"start_time": "2025-01-16T00:00:00Z", "end_time": "2025-01-15T00:00:00Z"}
    assert refused(client.get(path, params=times), 422, "INVALID_PARAMETER")["field"] == "end_time"
    refused(client.get(path, params={"step": "1"}), 422, "INVALID_PARAMETER")


def test_since_adds_up_to_the_whole(api: Api) -> None:
    session_id = api.started("01-15", "01-17")
    seen: list[Any] = []
    closed: list[Any] = []
    candles: list[Any] = []
    step = 0
    for _ in range(5):
        api.order(session_id)
        api.order(session_id, side="sell")
        api.step(session_id, 100)
        news = api.read(session_id, "since", step=step, symbol="BTCUSDT")
        assert news["step"] == step + 100
        assert not news["is_truncated"]
        seen += news["trades"]
        closed += news["orders_closed"]
        candles += news["candles"]
        assert news["equity"][-1]["simulated_at"] == news["virtual_time"]
        assert Decimal(news["equity"][-1]["total_equity"]) == Decimal(news["total_equity"])
        step = news["step"]
    assert seen == api.read(session_id, "trade/history")["trades"]
    assert closed == api.read(session_id, "trade/orders")["orders"]
    assert candles == api.read(session_id, "market/candles/BTCUSDT", limit=500)["candles"]
    nothing = api.read(session_id, "since", step=step)
    assert (nothing["trades"], nothing["orders_closed"], nothing["equity"]) == ([], [], [])


def test_since_is_bounded(api: Api, ended: str) -> None:
    news = api.read(ended, "since", step=0, symbol="BTCUSDT")
    assert len(news["candles"]) == 1000
    assert news["is_truncated"]
    assert len(news["equity"]) <= 1000
    times = [parse_time(snapshot["simulated_at"]) for snapshot in news["equity"]]
    assert all(later > earlier for earlier, later in pairwise(times))


def test_drawdowns_and_months_are_those_of_the_results(api: Api, ended: str) -> None:
    metrics = api.read(ended, "results")["metrics"]
    drawdowns = api.read(ended, "results/drawdowns")["drawdowns"]
    assert drawdowns[0]["depth_pct"] == pytest.approx(metrics["max_drawdown_pct"])
    assert len(drawdowns) <= 5
    assert len(api.read(ended, "results/drawdowns", limit=1)["drawdowns"]) == 1
    (month,) = api.read(ended, "results/monthly")["months"]
    assert month["month"] == "2025-01"
    assert month["return_pct"] == pytest.approx(metrics["total_return"] * 100)


# Ranges of candles


def test_a_range_of_candles_is_a_part_of_all(api: Api, ended: str) -> None:
    everything = api.read(ended, "market/candles/BTCUSDT", interval="1h", limit=48)["candles"]
    part = api.read(
        ended, "market/candles/BTCUSDT", interval="1h",
        start_time=everything[5]["open_time"], end_time=everything[20]["open_time"],
    )["candles"]  # fmt: skip
    assert part == everything[5:20]
    first = api.read(
        ended, "market/candles/BTCUSDT", interval="1h", start_time=everything[5]["open_time"],
        limit=3,
    )["candles"]  # fmt: skip
    assert first == everything[5:8]
    last = api.read(
        ended, "market/candles/BTCUSDT", interval="1h", end_time=everything[20]["open_time"],
        limit=3,
    )["candles"]  # fmt: skip
    assert last == everything[17:20]


def test_a_range_is_clipped_to_the_virtual_time(api: Api, watched: str) -> None:
    status = api.read(watched, "status")
    candles = api.read(
        watched, "market/candles/BTCUSDT", limit=1000, start_time="2025-01-15T16:00:00Z",
        end_time="2025-03-01T00:00:00Z",
    )["candles"]  # fmt: skip
    assert parse_time(candles[-1]["open_time"]) + 60_000 == parse_time(status["virtual_time"])
    assert candles[0]["open_time"] == "2025-01-15T16:00:00Z"
    later = api.read(watched, "market/candles/BTCUSDT", start_time="2025-02-01T00:00:00Z")
    assert later["candles"] == []


def test_a_range_that_ends_before_it_starts_is_refused(client: httpx.Client, watched: str) -> None:
    times = {"start_time": "2025-01-16T00:00:00Z", "end_time": "2025-01-15T00:00:00Z"}
    answer = client.get(f"{BACKTEST}/{watched}/market/candles/BTCUSDT", params=times)
    assert refused(answer, 422, "INVALID_PARAMETER")["field"] == "end_time"


# A watcher is not an agent


def test_watching_does_not_keep_a_session_in_memory(tmp_path: Path) -> None:
    """Nor does it bring one back: the watcher reads a copy of its own."""
    home = sample_home(tmp_path / "home")
    with running(home, "--idle-seconds", "1") as server, server.client() as client:
        api = Api(client)
        session_id = traded(api)
        before = api.read(session_id, "trade/orders")

        def in_memory() -> float:
            chart = api.read(session_id, "figure.json")
            assert trace(chart, "buys")["x"]
            lines = client.get("/metrics").text.splitlines()
            (line,) = [text for text in lines if text.startswith("candlestep_sessions_in_memory ")]
            return float(line.split()[1])

        assert wait_for(in_memory, lambda count: count == 0) == 0
        assert api.read(session_id, "since", step=0)["step"] == 1002
        assert client.get(f"/sessions/{session_id}").status_code == 200
        assert in_memory() == 0
        assert api.read(session_id, "trade/orders") == before
        api.step(session_id)
        assert api.read(session_id, "since", step=1002)["step"] == 1003


def test_a_session_without_its_journal_shows_what_is_stored(tmp_path: Path) -> None:
    home = sample_home(tmp_path / "home")
    with running(home) as server, server.client() as client:
        api = Api(client)
        session_id = traded(api)
        api.step(session_id, 10_000)
        roi = api.read(session_id, "results")["summary"]["roi_pct"]
    (home / "journals" / f"{session_id}.jsonl").unlink()
    with running(home) as server, server.client() as client:
        page = client.get(f"/sessions/{session_id}")
        assert page.status_code == 200
        assert "cannot be replayed" in page.text
        assert f"{Decimal(roi):.2f} %" in page.text
        refused(client.get(f"{BACKTEST}/{session_id}/figure.json"), 409, "INVALID_STATE")
