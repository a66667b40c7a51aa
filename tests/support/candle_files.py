"""Candle files for tests of the importers, written from rows that are plain tuples."""

import gzip
import json
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import duckdb
import pytest

from candlestep.sandbox import format_time
from tests.support.real_candles import FILES

Row = tuple[int, float, float, float, float, float]
"""Open time in ms, open, high, low, close, volume."""

START = 1_704_067_200_000
"""2024-01-01T00:00:00Z in ms."""
MINUTE = 60_000
HEADER = "timestamp,open,high,low,close,volume"


def rows(count: int, start: int = START, interval: int = MINUTE, price: float = 100.0) -> list[Row]:
    """Return candles without gaps, each slightly different from the next."""
    return [
        (
            start + index * interval,
            price + index % 7 / 10,
            price + 1.25 + index % 7 / 10,
            price - 1.1,
            price + index % 5 / 100,
            1.5 + index % 11 / 1000,
        )
        for index in range(count)
    ]


def csv_text(candles: Iterable[Row], header: str | None = HEADER, time: str = "iso") -> str:
    """Return candles as CSV; ``time`` is iso, s, ms or us."""
    lines = [] if header is None else [header]
    for open_time, *numbers in candles:
        shown = {
            "iso": format_time(open_time),
            "s": str(open_time // 1000),
            "ms": str(open_time),
            "us": f"{open_time}000",
        }[time]
        lines.append(",".join([shown, *map(repr, numbers)]))
    return "\n".join(lines) + "\n"


def archive_text(candles: Iterable[Row], interval: int = MINUTE, time: str = "ms") -> str:
    """Return candles in the layout of the public kline archive: 12 columns, no header."""
    unit = {"ms": 1, "us": 1000}[time]
    return "".join(
        f"{t * unit},{o:.8f},{h:.8f},{low:.8f},{c:.8f},{v:.8f},"
        f"{(t + interval) * unit - 1},1.5,98,19523.1,0.55694227,0\n"
        for t, o, h, low, c, v in candles
    )


def write(path: Path, text: str) -> Path:
    """Write text to a file, packed if its name ends with .gz or .zip."""
    if path.suffix == ".gz":
        with gzip.open(path, "wt", encoding="utf-8") as file:
            file.write(text)
    elif path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(path.with_suffix(".csv").name, text)
    else:
        path.write_text(text, encoding="utf-8")
    return path


def write_json(path: Path, candles: Iterable[Sequence[float | str]]) -> Path:
    """Write candles as rows of JSON."""
    return write(path, json.dumps([list(row) for row in candles]))


def write_parquet(path: Path, candles: Iterable[Row], time: str, number: str = "x") -> Path:
    """Write Parquet; ``time`` is the SQL of a time from ``t`` (ms), ``number`` that of ``x``."""
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(
            "CREATE TABLE c (t BIGINT, o DOUBLE, h DOUBLE, l DOUBLE, c DOUBLE, v DOUBLE)"
        )
        connection.executemany("INSERT INTO c VALUES (?, ?, ?, ?, ?, ?)", list(candles))
        numbers = ", ".join(
            f"{number.replace('x', column)} AS {name}"
            for column, name in zip("ohlcv", HEADER.split(",")[1:], strict=True)
        )
        connection.execute(
            f"COPY (SELECT {time} AS timestamp, {numbers} FROM c) TO '{path}' (FORMAT parquet)"
        )
    return path


def real_file(name: str) -> Path:
    """Return the path of a file of real candles; skip the test if it is absent."""
    path = FILES / name
    if not path.exists():
        pytest.skip(f"real candles are not here: {name}")
    return path
