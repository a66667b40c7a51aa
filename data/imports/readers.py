"""Readers of candle files in every format; the content decides which reader is used."""

import glob
import gzip
import zipfile
import zlib
from collections.abc import Callable
from contextlib import ExitStack, suppress
from io import BufferedReader
from pathlib import Path
from typing import Any, cast
from zipfile import ZipExtFile

import duckdb
import msgspec
import numpy as np
from numpy.typing import NDArray

from candlestep.data.errors import UnreadableFile
from candlestep.data.imports.columns import (
    NUMBERS,
    RawCandles,
    Unparsable,
    find_columns,
    join_parts,
    parse_columns,
    unit_times,
)
from candlestep.data.imports.csv_reader import read_csv
from candlestep.data.store.sql import quote_name

ReportRows = Callable[[int, int], None]
"""Receives the number of rows read, and an estimate of their total."""

_ROW = ("time", *NUMBERS)
_BUFFER = 1 << 20
_TIME_TYPES = ("TIMESTAMP", "DATE")


def read_candles(path: Path, progress: ReportRows | None = None) -> tuple[RawCandles, Unparsable]:
    """Return the unchecked rows of a CSV, JSON or Parquet file, and those that failed to parse.

    CSV and JSON may be packed as .gz or .zip. Raises ``UnreadableFile`` for a file that is empty,
    damaged or of another format.
    """
    file = path.name
    try:
        with ExitStack() as opened, path.open("rb") as raw:
            parts, bad = _read(file, path, raw, opened, progress)
    except (EOFError, zlib.error, gzip.BadGzipFile, zipfile.BadZipFile):
        raise UnreadableFile(file, "it is damaged or was cut off; get it again") from None
    except (RuntimeError, NotImplementedError) as error:
        raise UnreadableFile(file, f"it cannot be unpacked: {error}") from None
    except OSError as error:
        raise UnreadableFile(file, f"it cannot be read: {error.strerror or error}") from None
    if not bad.count and not any(len(part.line) for part in parts):
        raise UnreadableFile(file, "it has no candles")
    return join_parts(parts), bad


def _read(
    file: str, path: Path, raw: BufferedReader, opened: ExitStack, progress: ReportRows | None
) -> tuple[list[RawCandles], Unparsable]:
    size = path.stat().st_size
    magic = raw.peek(4)[:4]
    if not magic:
        raise UnreadableFile(file, "it is empty")
    if magic == b"PAR1":
        bad = Unparsable("row")
        return [_read_parquet(file, path, bad)], bad

    def read_so_far(rows: int) -> None:
        if progress:
            share = min(1.0, raw.tell() / size)
            progress(rows, max(rows, round(rows / share)))

    stream = opened.enter_context(_unpacked(file, raw, magic))
    start = stream.peek(64)
    if not start.strip():
        raise UnreadableFile(file, "it is empty")
    if start.removeprefix(b"\xef\xbb\xbf").lstrip().startswith((b"[", b"{")):
        bad = Unparsable("row")
        return [_read_json(file, stream, bad)], bad
    bad = Unparsable()
    return read_csv(file, stream, bad, read_so_far), bad


def _unpacked(file: str, raw: BufferedReader, magic: bytes) -> BufferedReader:
    if magic[:2] == b"\x1f\x8b":
        return BufferedReader(gzip.GzipFile(fileobj=raw), _BUFFER)
    if magic[:2] == b"PK":
        archive = zipfile.ZipFile(raw)
        members = [member for member in archive.infolist() if not member.is_dir()]
        if len(members) != 1:
            raise UnreadableFile(file, f"it has {len(members)} files; one is expected")
        return BufferedReader(cast(ZipExtFile, archive.open(members[0])), _BUFFER)
    return raw


def _read_json(file: str, stream: BufferedReader, bad: Unparsable) -> RawCandles:
    try:
        rows = msgspec.json.decode(stream.read().removeprefix(b"\xef\xbb\xbf"))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UnreadableFile(file, f"it is not valid JSON: {error}") from None
    if not isinstance(rows, list):
        raise UnreadableFile(file, "it is not a list of rows [ms, open, high, low, close, volume]")
    lines = np.arange(1, len(rows) + 1)
    whole = [
        index for index, row in enumerate(rows) if isinstance(row, list) and len(row) >= len(_ROW)
    ]
    if len(whole) < len(rows):
        for index in sorted(set(range(len(rows))) - set(whole)):
            bad.add(index + 1, f"is not a list of {', '.join(_ROW)}")
        rows = [rows[index] for index in whole]
    columns = {name: [row[index] for row in rows] for index, name in enumerate(_ROW)}
    return parse_columns(columns, lines[whole], bad)


def _read_parquet(file: str, path: Path, bad: Unparsable) -> RawCandles:
    connection = duckdb.connect()
    try:
        connection.execute("SET TimeZone = 'UTC'")
        # DuckDB reads a path as a pattern.
        source = [glob.escape(str(path))]
        described = connection.execute("DESCRIBE SELECT * FROM read_parquet(?)", source)
        names, types = zip(*[row[:2] for row in described.fetchall()], strict=True)
        selected = ", ".join(
            f"{_parquet_value(name, names[index], types[index])} AS {name}"
            for name, index in find_columns(file, names).items()
        )
        result = connection.execute(f"SELECT {selected} FROM read_parquet(?)", source)
        arrays: dict[str, NDArray[Any]] = result.fetchnumpy()
    except duckdb.Error as error:
        raise UnreadableFile(
            file, f"it is not a readable Parquet file: {str(error).splitlines()[0]}"
        ) from None
    finally:
        connection.close()
    lines = np.arange(1, len(arrays["time"]) + 1)
    if not any(_has_text_or_null(values) for values in arrays.values()):
        columns = {name: np.ma.getdata(values) for name, values in arrays.items()}
        times = columns.pop("time")
        with suppress(ValueError):
            return RawCandles(
                lines, times if times.dtype == np.int64 else unit_times(times), columns
            )
    return parse_columns({name: values.tolist() for name, values in arrays.items()}, lines, bad)


def _has_text_or_null(values: NDArray[Any]) -> bool:
    return values.dtype == object or bool(np.ma.getmaskarray(values).any())


def _parquet_value(name: str, column: str, kind: str) -> str:
    """Return the SQL of a column as a time, text, or the double nearest to its decimal text."""
    quoted = quote_name(column)
    if name == "time" and kind.startswith(_TIME_TYPES):
        return (
            f"epoch_us({quoted}::TIMESTAMPTZ)"
            if "ZONE" in kind
            else f"epoch_us({quoted}::TIMESTAMP)"
        )
    if kind in ("DOUBLE", "VARCHAR"):
        return quoted
    return f"CAST(CAST({quoted} AS VARCHAR) AS DOUBLE)"
