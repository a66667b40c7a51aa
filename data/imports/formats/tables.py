"""Parquet and Arrow files, read through DuckDB."""

import glob
import io
import shutil
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray

from candlestep.data.errors import UnreadableFile
from candlestep.data.imports.formats.sources import Source
from candlestep.data.imports.layouts import Layout, layout_of_header
from candlestep.data.imports.reading import (
    ImportOptions,
    Problems,
    ReadFile,
    Row,
    Rows,
    file_of_rows,
    moved_to_utc,
)
from candlestep.data.imports.times import NO_ZONE, number_times, require_plausible, unit_of
from candlestep.data.imports.zones import SourceZone, zone_of_source
from candlestep.data.store.sql import quote_name

_TIME_TYPES = ("TIMESTAMP", "DATE")
_NUMBERS = (
    "DOUBLE", "FLOAT", "TINYINT", "SMALLINT", "INTEGER", "BIGINT",
    "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT",
)  # fmt: skip


def read_table(
    source: Source, stream: io.BufferedReader, start: bytes, options: ImportOptions, latest: int
) -> ReadFile:
    """Read a Parquet or an Arrow file through DuckDB."""
    file = source.name
    is_parquet = start.startswith(b"PAR1")
    with _unpacked(source, stream, start) as path, closing(duckdb.connect()) as connection:
        try:
            connection.execute("SET TimeZone = 'UTC'")
            if is_parquet:
                # DuckDB takes a path for a pattern.
                relation = connection.from_parquet(glob.escape(str(path)))
            else:
                relation = connection.from_arrow(_arrow_table(file, path))
            return _read_relation(file, relation, options, latest)
        except duckdb.OutOfMemoryException as error:
            raise MemoryError(str(error)) from None
        except duckdb.Error as error:
            kind = "Parquet" if is_parquet else "Arrow"
            raise UnreadableFile(
                file, f"it is not a readable {kind} file: {str(error).splitlines()[0]}"
            ) from None


@contextmanager
def _unpacked(source: Source, stream: io.BufferedReader, start: bytes) -> Iterator[Path]:
    """Write what is packed to a temporary file; return its path, or that of the file itself."""
    with source.path.open("rb") as file:
        is_packed = file.read(len(start)) != start
    if not is_packed:
        yield source.path
        return
    with TemporaryDirectory(prefix="candlestep-") as directory:
        path = Path(directory) / "table"
        with path.open("wb") as copy:
            shutil.copyfileobj(stream, copy)
        yield path


def _arrow_table(file: str, path: Path) -> Any:
    try:
        import pyarrow
        from pyarrow import feather
    except ImportError:
        raise UnreadableFile(
            file,
            "it is a Feather (Arrow) file, which needs pyarrow: pip install 'candlestep[arrow]'",
        ) from None
    try:
        return feather.read_table(path)
    except (pyarrow.ArrowInvalid, pyarrow.ArrowNotImplementedError) as error:
        raise UnreadableFile(file, f"it is not a readable Arrow file: {error}") from None


def _read_relation(
    file: str, relation: duckdb.DuckDBPyRelation, options: ImportOptions, latest: int
) -> ReadFile:
    layout = layout_of_header(file, relation.columns, options.kind)
    kinds = [str(kind) for kind in relation.types]
    numbers = [*layout.prices.values(), *layout.volumes.values()]
    [time, *more] = layout.time
    has_numbers = all(kinds[place] in _NUMBERS for place in numbers)
    is_told = options.day is not None or options.time_format is not None
    is_native = kinds[time].startswith((*_TIME_TYPES, *(() if is_told else _NUMBERS)))
    if has_numbers and not more and is_native:
        return _file_of_numbers(file, relation, layout, kinds, latest)
    return _file_of_texts(file, relation, layout, kinds, options, latest)


def _file_of_numbers(
    file: str,
    relation: duckdb.DuckDBPyRelation,
    layout: Layout,
    kinds: Sequence[str],
    latest: int,
) -> ReadFile:
    """Read a table whose times and numbers are stored as such."""
    columns = _fetch(
        relation,
        [_native_value(quote_name(name), kind)
         for name, kind in zip(relation.columns, kinds, strict=True)],
    )  # fmt: skip
    kind = kinds[layout.time[0]]
    has_zone = not kind.startswith(_TIME_TYPES) or "ZONE" in kind
    zone = None if has_zone else zone_of_source(file, layout)
    times, words = _native_times(file, columns[layout.time[0]], kind, latest, zone)
    rows = Rows(
        np.arange(1, len(times) + 1),
        times,
        {name: _floats(columns[place]) for name, place in layout.prices.items()},
        {name: _floats(columns[place]) for name, place in layout.volumes.items()},
        None if layout.symbol is None else np.ma.filled(columns[layout.symbol], "").astype(object),
    )
    return moved_to_utc(ReadFile(file, rows, layout, Problems(file, "row"), words), zone)


def _file_of_texts(
    file: str,
    relation: duckdb.DuckDBPyRelation,
    layout: Layout,
    kinds: Sequence[str],
    options: ImportOptions,
    latest: int,
) -> ReadFile:
    """Read a table that has numbers or times as text, or numbers with more digits than a double."""
    columns = _fetch(
        relation,
        [_text_value(quote_name(name), kind, options)
         for name, kind in zip(relation.columns, kinds, strict=True)],
    )  # fmt: skip
    rows = [Row(number, cells) for number, cells in enumerate(zip(*columns, strict=True), 1)]
    return file_of_rows(file, rows, layout, Problems(file, "row"), options, latest)


def _fetch(relation: duckdb.DuckDBPyRelation, values: Sequence[str]) -> list[NDArray[Any]]:
    """Return the columns of the SQL of values, some of which may be masked."""
    names = [f"c{place}" for place in range(len(values))]
    query = ", ".join(f"{value} AS {name}" for value, name in zip(values, names, strict=True))
    arrays: dict[str, NDArray[Any]] = relation.project(query).fetchnumpy()
    return [arrays[name] for name in names]


def _native_value(column: str, kind: str) -> str:
    """Return the SQL of a column: times in microseconds, single floats as their text says."""
    if kind.startswith(_TIME_TYPES):
        return f"epoch_us({column}::TIMESTAMP{'TZ' if 'ZONE' in kind else ''})"
    return f"CAST(CAST({column} AS VARCHAR) AS DOUBLE)" if kind == "FLOAT" else column


def _text_value(column: str, kind: str, options: ImportOptions) -> str:
    text = f"coalesce(CAST({column} AS VARCHAR), '')"
    # Only text has the decimal mark that the caller names.
    is_number = kind.startswith((*_NUMBERS, "DECIMAL", "HUGEINT"))
    return f"replace({text}, '.', ',')" if is_number and options.decimal == "," else text


def _native_times(
    file: str, values: NDArray[Any], kind: str, latest: int, zone: SourceZone | None
) -> tuple[NDArray[np.int64], str]:
    if not len(values):
        raise UnreadableFile(file, "it has no candles")
    if np.ma.getmaskarray(values).any():
        row = int(np.flatnonzero(np.ma.getmaskarray(values))[0]) + 1
        raise UnreadableFile(file, f"row {row}: time is missing")
    values = np.ma.getdata(values)
    try:
        if kind.startswith(_TIME_TYPES):
            times = values.astype(np.int64)
            require_plausible(times, times.astype("datetime64[us]"), latest)
            assumed = NO_ZONE if zone is None else zone.name
            return times, f"timestamps, {'with a zone' if 'ZONE' in kind else assumed}"
        numbers = values.astype(np.float64)
        return number_times(numbers, latest), unit_of(float(numbers[0]), latest)
    except ValueError as error:
        raise UnreadableFile(file, str(error)) from None


def _floats(values: NDArray[Any]) -> NDArray[np.float64]:
    numbers: NDArray[np.float64] = np.ma.filled(values.astype(np.float64), np.nan)
    return numbers
