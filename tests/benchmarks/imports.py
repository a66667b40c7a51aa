"""Imports of minutes in the usual layouts, against DuckDB's own reader of CSV into a table."""

import gzip
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import duckdb
import httpx
import numpy as np

from candlestep.data.imports.importer import import_contents
from candlestep.data.imports.process.file_reader import FileReader
from candlestep.data.imports.reading import NO_OPTIONS
from candlestep.data.imports.sample import START as SAMPLE_START
from candlestep.data.imports.sample import load_sample
from candlestep.data.store.database import Store
from candlestep.data.symbols import DEFAULT_EXCHANGE
from candlestep.sandbox.clock import DAY, format_time
from tests.benchmarks.market import MINUTE, START, YEAR, synthetic_year
from tests.benchmarks.table import Row
from tests.support.server_process import COMMAND, running

_YEARS = 3
_START = START - (_YEARS - 1) * YEAR * MINUTE
_BAR = 500_000
"""Rows a second."""


def rows() -> list[Row]:
    """Return the rows of the speed table about imports."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        table = [_row(what, path, directory) for what, path in _files(directory)]
        return [*table, _stepping(directory / "BTCUSDT.csv.gz", directory)]


def _files(directory: Path) -> Iterator[tuple[str, Path]]:
    """Write the candles of three years in each layout."""
    year = synthetic_year("BTCUSDT")
    times = _START + np.arange(_YEARS * YEAR) * MINUTE
    columns = [
        [f"{value:.2f}" for value in np.tile(column, _YEARS).tolist()]
        for column in (year.open, year.high, year.low, year.close)
    ]
    volume = [f"{value:.5f}" for value in np.tile(year.volume, _YEARS).tolist()]
    texts = [",".join(cells) for cells in zip(*columns, volume, strict=True)]
    header = "timestamp,open,high,low,close,volume\n"
    milliseconds = times.tolist()
    iso = np.datetime_as_string(times.astype("datetime64[ms]"), unit="s").tolist()
    plain = directory / "BTCUSDT.csv"
    plain.write_text(header + _lines(milliseconds, texts))
    yield "CSV of minutes, in milliseconds", plain
    packed = directory / "BTCUSDT.csv.gz"
    with plain.open("rb") as source, gzip.open(packed, "wb", 6) as target:
        shutil.copyfileobj(source, target)
    yield "the same, packed by gzip", packed
    plain.write_text(header + _lines([f"{time}Z" for time in iso], texts))
    yield "CSV of minutes, in ISO 8601", plain
    tails = [
        f"{text},{time + MINUTE - 1},19523.10000000,98,0.55694227,1.5,0"
        for text, time in zip(texts, milliseconds, strict=True)
    ]
    plain.write_text(_lines(milliseconds, tails))
    yield "the 12 columns of the kline archive", plain


def _lines(times: list[int] | list[str], texts: list[str]) -> str:
    return "".join(f"{time},{text}\n" for time, text in zip(times, texts, strict=True))


def _row(what: str, path: Path, directory: Path) -> Row:
    ours = sorted(_import_seconds(path, directory) for _ in range(3))[1]
    baseline = sorted(_read_seconds(path, directory) for _ in range(3))[1]
    a_second = _YEARS * YEAR / ours
    return Row(
        f"import of {_YEARS} years of {what}",
        f"{a_second:,.0f} rows/s",
        f"{_YEARS * YEAR / baseline:,.0f} rows/s, read_csv of DuckDB into a table, nothing checked",
        f"{baseline / ours:.2f} ×",
        f"≥ {_BAR:,} rows/s",
        a_second >= _BAR,
    )


def _import_seconds(path: Path, directory: Path) -> float:
    """Return the seconds from a file to its candles in a new store, in a process of its own."""
    home = directory / "home"
    with closing(Store.open(home)) as store:
        began = time.perf_counter()
        with FileReader(home) as reader:
            series, sha256 = reader.read(path, NO_OPTIONS)
            (summary,) = import_contents(
                store, series, exchange=DEFAULT_EXCHANGE, source=path.name, sha256=sha256
            )
        seconds = time.perf_counter() - began
    assert summary.new == _YEARS * YEAR
    shutil.rmtree(home)
    return seconds


def _read_seconds(path: Path, directory: Path) -> float:
    database = directory / "baseline.duckdb"
    with duckdb.connect(database) as connection:
        connection.execute("SET enable_progress_bar = false")
        began = time.perf_counter()
        connection.execute("CREATE TABLE candles AS FROM read_csv(?)", [str(path)])
        seconds = time.perf_counter() - began
    database.unlink()
    return seconds


def _stepping(path: Path, directory: Path) -> Row:
    """Step a session of a server while it imports a file."""
    home = directory / "served"
    with closing(Store.open(home)) as store:
        load_sample(store)
    with running(home, command=COMMAND) as server, server.client() as client:
        alone = _step_seconds(client, lambda count: count < 3000)
        command = ["data", "import", path, "--exchange", "other", "--home", home]
        with subprocess.Popen(
            [sys.executable, "-m", "candlestep.api", *map(str, command)], stdout=subprocess.DEVNULL
        ) as importing:
            beside = _step_seconds(client, lambda count: importing.poll() is None)
        assert importing.returncode == 0
    latency, usual = (float(np.percentile(seconds, 99)) for seconds in (beside, alone))
    return Row(
        f"a step over HTTP while the server imports that file: p99 of {len(beside):,}",
        f"{latency * 1e3:.1f} ms, at most {max(beside) * 1e3:.0f} ms",
        f"{usual * 1e3:.1f} ms alone",
        f"{latency / usual:.1f} ×",
        "< 50 ms",
        latency < 0.05,
    )


def _step_seconds(client: httpx.Client, goes_on: Callable[[int], bool]) -> list[float]:
    """Return the seconds of each step of sessions over the sample market."""
    times = {"start_time": format_time(SAMPLE_START), "end_time": format_time(SAMPLE_START + DAY)}
    seconds: list[float] = []
    while goes_on(len(seconds)):
        created = client.post("/api/v1/backtest/create", json=times).raise_for_status().json()
        session = f"/api/v1/backtest/{created['session_id']}"
        client.post(f"{session}/start").raise_for_status()
        for _ in range(DAY // MINUTE - 1):
            began = time.perf_counter()
            client.post(f"{session}/step").raise_for_status()
            seconds.append(time.perf_counter() - began)
            if not goes_on(len(seconds)):
                break
    return seconds
