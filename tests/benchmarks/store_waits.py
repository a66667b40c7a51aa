"""Waits for the store: a list beside clients that create, and reads and writes beside long work."""

import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from pathlib import Path

import httpx

from tests.benchmarks.table import Row
from tests.support.api_client import BACKTEST, DAY, sample_home
from tests.support.candle_files import csv_text, write
from tests.support.candle_files import rows as candle_rows
from tests.support.server_process import COMMAND, RunningServer, running

_CREATORS = 32
_SECONDS = 6.0
_BAR_LIST = 5.0
_BAR_WAIT = 0.25
_IMPORTED = 600_000
"""Rows of the file that is imported."""


def rows() -> list[Row]:
    """Return the rows of the speed table about waits for the store."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        with running(sample_home(directory / "home"), command=COMMAND) as server:
            with server.client() as client:
                for _ in range(100):
                    _create(client)
            return [_lists(server), _waits(server, directory)]


def _lists(server: RunningServer) -> Row:
    """Read lists, alone and beside clients that create."""
    alone = _list_seconds(server)
    with _busy(server, _CREATORS, _create):
        beside = _list_seconds(server)
    usual, busy = statistics.median(alone), statistics.median(beside)
    return Row(
        f"the list of sessions beside {_CREATORS} clients that create: median of {len(beside):,}",
        f"{busy * 1e3:.1f} ms",
        f"{usual * 1e3:.1f} ms alone",
        f"{busy / usual:.1f} ×",
        f"≤ {_BAR_LIST:.0f} ×",
        busy <= _BAR_LIST * usual,
    )


def _list_seconds(server: RunningServer) -> list[float]:
    with server.client() as client:
        return _repeat(lambda: client.get(f"{BACKTEST}/list", params={"limit": 20}))


def _waits(server: RunningServer, directory: Path) -> Row:
    """Read and write records while an import, starts and backups run."""
    path = write(directory / "WAITUSDT-1m.csv", csv_text(candle_rows(_IMPORTED)))
    commands = [
        ["data", "import", path],
        ["backup", directory / "backup"],
        ["data", "export", directory / "candles.duckdb"],
    ]
    with _busy(server, 2, _start), server.client() as client:
        processes = [
            subprocess.Popen(
                [sys.executable, "-m", "candlestep.api", *map(str, command), "--home", server.home],
                stdout=subprocess.DEVNULL,
            )
            for command in commands
        ]
        seconds = _repeat(
            lambda: client.get(f"{BACKTEST}/list", params={"limit": 1}),
            lambda: client.post(f"{BACKTEST}/create", json=DAY),
            lambda: client.get("/api/v1/agents"),
            until=lambda: all(process.poll() is not None for process in processes),
        )
    assert [process.returncode for process in processes] == [0] * len(processes)
    longest = max(seconds)
    return Row(
        f"reads and writes of records beside an import, starts, a backup and an export: {len(seconds):,}",
        f"at most {longest * 1e3:.0f} ms",
        f"{statistics.median(seconds) * 1e3:.1f} ms in the median",
        "",
        f"≤ {_BAR_WAIT * 1e3:.0f} ms",
        longest <= _BAR_WAIT,
    )


def _repeat(
    *requests: Callable[[], httpx.Response], until: Callable[[], bool] | None = None
) -> list[float]:
    """Return the seconds of each request, sent in turn until a condition holds or time is over."""
    durations: list[float] = []
    ends = time.perf_counter() + _SECONDS
    while not until() if until else time.perf_counter() < ends:
        for request in requests:
            began = time.perf_counter()
            answer = request()
            durations.append(time.perf_counter() - began)
            assert answer.is_success, answer.text
    return durations


@contextmanager
def _busy(
    server: RunningServer, clients: int, work: Callable[[httpx.Client], object]
) -> Iterator[None]:
    """Have ``clients`` of another process do ``work`` again and again for the length of a block."""
    context = get_context("spawn")
    begun = context.Barrier(clients + 1)
    process = context.Process(target=_work_on, args=(server.url, clients, work, begun))
    process.start()
    try:
        begun.wait(60)
        yield
    finally:
        process.terminate()
        process.join()


def _work_on(
    url: str, clients: int, work: Callable[[httpx.Client], object], begun: Barrier
) -> None:
    def go_on() -> None:
        with httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
            work(client)
            begun.wait()
            while True:
                work(client)

    for _ in range(clients):
        threading.Thread(target=go_on).start()


def _create(client: httpx.Client) -> str:
    session_id: str = _post(client, "create", DAY)["session_id"]
    return session_id


def _start(client: httpx.Client) -> None:
    session_id = _create(client)
    _post(client, f"{session_id}/start")
    _post(client, f"{session_id}/cancel")


def _post(client: httpx.Client, path: str, body: dict[str, str] | None = None) -> dict[str, str]:
    answer = client.post(f"{BACKTEST}/{path}", json=body)
    assert answer.is_success, answer.text
    decoded: dict[str, str] = answer.json()
    return decoded
