"""Sessions over all of 600 pairs: how they start, what their candles take, and how they step."""

import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np

from candlestep.data.store.database import Store
from candlestep.sandbox import Candles, format_time
from candlestep.sandbox.clock import DAY
from tests.benchmarks.market import MINUTE, START
from tests.benchmarks.over_http import Load, baseline, fill_store, memory
from tests.benchmarks.table import Row
from tests.support.server_process import COMMAND, RunningServer, running

PAIRS = 600
DAYS = 10
CANDLES = PAIRS * DAYS * 1440
_RATE = 6.5e6
"""Candles a second: those of 30 days in 4 seconds."""
_SESSIONS = 16


def rows() -> list[Row]:
    """Return the rows of the speed table about many pairs; without wrk, none."""
    if not Load.is_possible():
        return []
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory)
        store = Store.open(home)
        with store.transaction("candles"):
            for candles in _pairs():
                fill_store(store, candles)
        store.close()
        scan = statistics.median(_seconds_to_scan(home) for _ in range(3))
        with running(home, "--memory-budget", "4GiB", command=COMMAND) as server:
            return [*_start(server, scan), *_stepping(server, home)]


def _pairs() -> Iterator[Candles]:
    """Yield candles of many pairs, from a hundredth of a cent to tens of thousands."""
    times = START + np.arange(DAYS * 1440) * MINUTE
    for number in range(PAIRS):
        random = np.random.default_rng(number)
        first = 10.0 ** random.uniform(-4, 4.5)
        places = 4 - int(np.floor(np.log10(first)))
        walk = np.sin(np.cumsum(random.normal(0, 0.002, len(times))))
        close = (first * (1 + walk / 3)).round(places)
        opens = np.concatenate([close[:1], close[:-1]])
        yield Candles(
            symbol=f"P{number:03}USDT",
            interval="1m",
            open_time=times,
            open=opens,
            high=np.maximum(opens, close),
            low=np.minimum(opens, close),
            close=close,
            volume=random.lognormal(4, 1.5, len(times)).round(2),
        )


def _seconds_to_scan(home: Path) -> float:
    """Return the seconds in which DuckDB adds up the columns of all candles."""
    store = Store.open(home)
    began = time.perf_counter()
    [[count, *_]] = store.rows(
        "SELECT count(*), max(open_time), sum(open), sum(high), sum(low), sum(close), sum(volume)"
        " FROM candles WHERE superseded_by IS NULL"
    )
    seconds = time.perf_counter() - began
    store.close()
    assert count == CANDLES
    return seconds


def _start(server: RunningServer, scan: float) -> list[Row]:
    before = memory(server)
    with server.client() as client:
        first = _seconds_to_start(client)
        taken = (memory(server) - before) * 1024 / CANDLES
        again = statistics.median(_seconds_to_start(client) for _ in range(5))
    return [
        Row(
            f"`start` of all of {PAIRS} pairs, {DAYS} days of minutes: first time · in memory",
            f"{first:.2f} s ({CANDLES / first / 1e6:.1f} M candles/s) · {again * 1e3:.0f} ms",
            f"{scan:.2f} s, DuckDB adding up the columns",
            f"{first / scan:.1f} ×",
            "≥ 6.5 M candles/s · ≤ 100 ms",
            CANDLES / first >= _RATE and again <= 0.1,
        ),
        Row(
            "memory of the server that this start takes, a candle",
            f"{taken:.0f} bytes",
            "",
            "",
            "≤ 64 bytes",
            taken <= 64,
        ),
    ]


def _seconds_to_start(client: httpx.Client) -> float:
    session = _create(client)
    began = time.perf_counter()
    client.post(f"/api/v1/backtest/{session}/start").raise_for_status()
    return time.perf_counter() - began


def _create(client: httpx.Client, day: int = 0) -> str:
    """Create a session of all pairs, from a day on; return its id."""
    start, end = START + day * DAY, START + DAYS * DAY
    body = {"start_time": format_time(start), "end_time": format_time(end)}
    answer = client.post("/api/v1/backtest/create", json=body).raise_for_status().json()
    session: str = answer["session_id"]
    return session


def _stepping(server: RunningServer, home: Path) -> list[Row]:
    with server.client() as client:
        sessions = [_create(client) for _ in range(_SESSIONS)]
        # More steps than one session has, at times that no other session has written.
        apart = [_create(client, day) for day in (1, 2)]
        for session in (*sessions, *apart):
            client.post(f"/api/v1/backtest/{session}/start").raise_for_status()
        answer = client.post(f"/api/v1/backtest/{sessions[0]}/step").raise_for_status()
    same_bytes = home / "answer.json"
    same_bytes.write_bytes(answer.content)
    paths, paths_apart = (
        [f"/api/v1/backtest/{session}/step" for session in ids] for ids in (sessions, apart)
    )
    load = Load(home)
    with baseline(same_bytes) as bare:
        alone = load.requests(server.url, paths_apart, connections=1)
        plain = load.requests(bare, ["/step"], connections=1)
        together = load.requests(server.url, paths)
        plain_together = load.requests(bare, ["/step"])
    return [
        _steps(f"a single step of {PAIRS} pairs over HTTP, one connection", alone, plain),
        _steps(f"the same, {_SESSIONS} sessions in turn, 16 connections", together, plain_together),
    ]


def _steps(what: str, ours: float, plain: float) -> Row:
    return Row(
        what,
        f"{ours:,.0f} requests/s",
        f"{plain:,.0f} requests/s, a Starlette app with the same bytes",
        f"{ours / plain:.2f} ×",
        "≥ 1,000 requests/s",
        ours >= 1_000,
    )


if __name__ == "__main__":
    from tests.benchmarks.table import print_table

    print_table(rows())
