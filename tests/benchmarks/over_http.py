"""The server under load from a compiled client, against a bare Starlette app in the same run."""

import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from operator import truediv
from pathlib import Path

import httpx

from candlestep.data.imports.importer import import_candles
from candlestep.data.imports.validation import CandleColumns
from candlestep.data.store.database import Store
from candlestep.data.symbols import parse_symbol
from candlestep.sandbox import Candles, format_time
from tests.benchmarks.market import END, START, SYMBOLS, synthetic_year
from tests.benchmarks.table import Row
from tests.support.server_process import COMMAND, RunningServer, running

CONNECTIONS = 16
SECONDS = 3
ROUNDS = 3
MANY = 1_000
WRK = "wrk -t1"
HOW_TO_GET_WRK = (
    "the HTTP rows need wrk: install it with `apt-get install wrk` or `brew install wrk`"
)


def rows() -> list[Row]:
    """Return the HTTP rows of the speed table; without wrk, none, and print how to install it."""
    if not Load.is_possible():
        return []
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory)
        store = Store.open(home)
        for symbol in SYMBOLS:
            fill_store(store, synthetic_year(symbol))
        store.close()
        with running(home, "--memory-budget", "4GiB", command=COMMAND) as server:
            return [_start(server), *_stepping(server, home)]


def fill_store(store: Store, candles: Candles) -> None:
    """Import candles from memory."""
    names = ("open_time", "open", "high", "low", "close", "volume")
    import_candles(
        store,
        CandleColumns(*(getattr(candles, name) for name in names)),
        parse_symbol(candles.symbol),
        candles.intervals[0],
        exchange="binance",
        source="benchmark",
        sha256=None,
        synthetic=True,
    )


def _start(server: RunningServer) -> Row:
    with server.client() as client:
        first = seconds_to_start(client)
        again = statistics.median(seconds_to_start(client) for _ in range(5))
    return Row(
        "`start` of a year of 2 symbols: first time · already in memory",
        f"{first * 1e3:.0f} ms · {again * 1e3:.1f} ms",
        "",
        "",
        "≤ 500 ms · ≤ 10 ms",
        first <= 0.5 and again <= 10e-3,
    )


def seconds_to_start(client: httpx.Client) -> float:
    """Create a session over the year, start it, and return the seconds that ``start`` took."""
    session = create(client)
    began = time.perf_counter()
    client.post(f"/api/v1/backtest/{session}/start").raise_for_status()
    return time.perf_counter() - began


def start_one(client: httpx.Client) -> str:
    """Create and start a session, and return its id."""
    session = create(client)
    client.post(f"/api/v1/backtest/{session}/start").raise_for_status()
    return session


def memory(server: RunningServer) -> float:
    """Return the resident memory of a server in KiB, which Linux shows under /proc."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return float(status.split("VmRSS:")[1].split()[0])


def create(client: httpx.Client) -> str:
    """Create a session over the year, and return its id."""
    answer = client.post(
        "/api/v1/backtest/create",
        json={"start_time": format_time(START), "end_time": format_time(END)},
    )
    session: str = answer.raise_for_status().json()["session_id"]
    return session


def _stepping(server: RunningServer, home: Path) -> list[Row]:
    with server.client() as client:
        for _ in range(100):
            start_one(client)
        before = memory(server)
        sessions = [start_one(client) for _ in range(MANY)]
        per_session = (memory(server) - before) / MANY
        for session in sessions[:CONNECTIONS]:
            order = {"symbol": "BTCUSDT", "side": "buy", "type": "market", "quantity": "0.01"}
            client.post(f"/api/v1/backtest/{session}/trade/order", json=order).raise_for_status()
        answer = client.post(f"/api/v1/backtest/{sessions[0]}/step").raise_for_status()
    same_bytes = home / "answer.json"
    same_bytes.write_bytes(answer.content)
    paths = [f"/api/v1/backtest/{session}/step" for session in sessions]
    with baseline(same_bytes) as bare:
        load = Load(home)
        ours, starlette, alone, in_turn = [], [], [], []
        for _ in range(ROUNDS):
            ours.append(load.requests(server.url, paths[:CONNECTIONS]))
            starlette.append(load.requests(bare, ["/step"]))
            alone.append(load.requests(server.url, paths[-1:], connections=1))
            in_turn.append(load.requests(server.url, paths, connections=1))
    return [
        Row(
            "memory of one more started session in the server",
            f"{per_session:.1f} KiB",
            "",
            "",
            "≤ 16 KiB",
            per_session <= 16,
        ),
        _ratio(
            "`POST …/step` over HTTP, 16 connections, one server process",
            ours,
            starlette,
            "a Starlette app with the same bytes",
        ),
        _ratio("1,000 open sessions stepping in turn, over HTTP", in_turn, alone, "one session"),
    ]


def _ratio(what: str, ours: list[float], rates: list[float], baseline: str) -> Row:
    ratio = statistics.median(map(truediv, ours, rates))
    return Row(
        what,
        f"{statistics.median(ours):,.0f} requests/s",
        f"{statistics.median(rates):,.0f} requests/s, {baseline}",
        f"{ratio:.2f} ×",
        "≥ 0.8 ×",
        ratio >= 0.8,
    )


class Load:
    """A load of POST requests to some paths in turn, made by wrk."""

    def __init__(self, directory: Path) -> None:
        self._script = directory / "paths.lua"

    @staticmethod
    def is_possible() -> bool:
        """Return whether wrk is installed; if not, print how to install it."""
        if shutil.which("wrk") is None:
            print(f"{HOW_TO_GET_WRK}\n", file=sys.stderr)
            return False
        return True

    def requests(self, url: str, paths: Sequence[str], connections: int = CONNECTIONS) -> float:
        """Return the requests per second; raises ``RuntimeError`` unless every answer is a success."""
        paths_in_lua = ",".join(f'"{path}"' for path in paths)
        self._script.write_text(
            f"local paths = {{{paths_in_lua}}}\nlocal next = 0\n"
            "function request()\n"
            "  next = next % #paths + 1\n"
            '  return wrk.format("POST", paths[next])\n'
            "end\n"
        )
        report = subprocess.run(
            [*WRK.split(), f"-c{connections}", f"-d{SECONDS}s", "-s", str(self._script), url],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        if "Non-2xx" in report or "Socket errors" in report:
            raise RuntimeError(report)
        rate = re.search(r"Requests/sec:\s+([\d.]+)", report)
        assert rate is not None, report
        return float(rate[1])


@contextmanager
def baseline(answer: Path) -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.baseline", str(answer)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()
