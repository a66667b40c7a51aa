"""The formats of candle files: text, JSON, Parquet, Arrow. Each is recognised by its content."""

import glob
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import duckdb
import msgspec
import numpy as np
from numpy.typing import NDArray

from candlestep.data.errors import UnreadableFile
from candlestep.data.imports.layouts import Layout, layout_of_header, layout_of_rows
from candlestep.data.imports.reading import (
    ImportOptions,
    Problems,
    Row,
    RowParser,
    Rows,
    joined,
)
from candlestep.data.imports.sources import Source
from candlestep.data.imports.text_rows import TextRows
from candlestep.data.imports.times import TimeForm, describe, number_times, read_times, tell_form
from candlestep.data.store.sql import quote_name

Report = Callable[[int, int], None]
"""Receives the number of rows read, and the total as far as it is known."""

_CHUNK = 10_000
"""The rows parsed at once: few enough that other threads get their turn in between."""
_TIME_TYPES = ("TIMESTAMP", "DATE")


@dataclass
class ReadFile:
    """The rows of a file, and what was taken for what."""

    name: str
    rows: Rows
    layout: Layout
    problems: Problems
    times: str
    """The form of the times, in words."""
    symbol: str | None = None
    """The symbol of all rows, where the file names it outside of them."""
    left_out: list[str] = field(default_factory=list)
    """The lines that are not rows, in words."""


def read_file(
    source: Source, options: ImportOptions, latest: int, report: Report | None = None
) -> ReadFile:
    """Read a file of any format. ``latest`` is the latest plausible time, in microseconds.

    Raises ``UnreadableFile`` for a file that is empty, broken, or not recognised.
    """
    with source.open() as stream:
        start = stream.peek(64)[:64]
        if not start.strip():
            raise UnreadableFile(source.name, "it is empty")
        if start.startswith((b"PAR1", b"ARROW1", b"FEA1")):
            return _read_table(source, stream, start, options, latest)
        if start.removeprefix(b"\xef\xbb\xbf").lstrip().startswith((b"[", b"{")):
            return _read_json(source.name, stream, options, latest)
    return _read_text(source, options, latest, report)


def _read_text(
    source: Source, options: ImportOptions, latest: int, report: Report | None
) -> ReadFile:
    with source.open() as stream:
        text = TextRows(source.name, stream)
        cells = (row.cells for chunk in text.chunks(1) for row in chunk)
        times = chain.from_iterable(_time_texts(text.layout, row) for row in cells)
        form = tell_form(source.name, times, options.time_format, options.day)
    size = source.path.stat().st_size
    position = 0

    def note_position(read: int) -> None:
        nonlocal position
        position = read

    problems = Problems(source.name)
    parts, count, example = [], 0, ""
    with source.open(note_position) as stream:
        text = TextRows(source.name, stream)
        parser = RowParser(text.layout, form, latest, options.decimal, problems)
        for chunk in text.chunks(_CHUNK):
            example = example or next(_time_texts(text.layout, chunk[0].cells), "")
            parts.append(parser.parse(chunk))
            count += len(chunk)
            if report is not None:
                report(count, max(count, round(count * size / max(position, 1))))
    rows = joined(parts) if parts else parser.parse([])
    return ReadFile(
        source.name, rows, text.layout, problems, _form_in_words(form, example, latest, rows),
        text.symbol, text.left_out,
    )  # fmt: skip


def _read_json(
    file: str, stream: io.BufferedReader, options: ImportOptions, latest: int
) -> ReadFile:
    """Read lists of lists, as ccxt and freqtrade write them, or lists of objects."""
    decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(float_hook=str)
    try:
        content = decoder.decode(stream.read().removeprefix(b"\xef\xbb\xbf"))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UnreadableFile(file, f"it is not valid JSON: {error}") from None
    records, symbol = _json_records(file, content)
    names, rows = _json_rows(records)
    layout = layout_of_rows(file, rows[0].cells) if names is None else layout_of_header(file, names)
    problems = Problems(file, "row")
    texts = (text for row in rows for text in _time_texts(layout, row.cells))
    form = tell_form(file, texts, options.time_format, options.day)
    parser = RowParser(layout, form, latest, options.decimal, problems)
    parsed = [parser.parse(rows[at : at + _CHUNK]) for at in range(0, len(rows), _CHUNK)]
    example = next(_time_texts(layout, rows[0].cells), "")
    joined_rows = joined(parsed)
    return ReadFile(
        file, joined_rows, layout, problems, _form_in_words(form, example, latest, joined_rows),
        symbol,
    )  # fmt: skip


def _json_records(file: str, content: Any) -> tuple[list[Any], str | None]:
    """Return the records of a document, and the symbol that it names outside of them."""
    symbol = content.get("symbol") if isinstance(content, dict) else None
    if isinstance(content, dict) and "bars" in content:
        content = content["bars"]
        if isinstance(content, dict):
            if len(content) != 1:
                raise UnreadableFile(
                    file, "it has bars of several symbols; save a file for each symbol"
                )
            symbol, content = next(iter(content.items()))
    if not isinstance(content, list):
        raise UnreadableFile(file, "it is not a list of rows [ms, open, high, low, close, volume]")
    if not content:
        raise UnreadableFile(file, "it has no candles")
    return content, symbol if isinstance(symbol, str) else None


def _json_rows(records: Sequence[Any]) -> tuple[list[str] | None, list[Row]]:
    """Return rows of text, and the names of their columns if the records are objects."""
    first = records[0]
    if isinstance(first, dict):
        names = [str(name) for name in first]
        cells = (
            [_json_text(record.get(name)) for name in names] if isinstance(record, dict) else []
            for record in records
        )
        return names, [Row(number, row) for number, row in enumerate(cells, 1)]
    lists = (record if isinstance(record, list) else [] for record in records)
    # Some exchanges append further figures to the six that are known.
    texts = ([_json_text(value) for value in values[:6]] for values in lists)
    return None, [Row(number, row) for number, row in enumerate(texts, 1)]


def _json_text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else str(value)


def _read_table(
    source: Source, stream: io.BufferedReader, start: bytes, options: ImportOptions, latest: int
) -> ReadFile:
    """Read a Parquet or an Arrow file through DuckDB."""
    file = source.name
    connection = duckdb.connect()
    try:
        connection.execute("SET TimeZone = 'UTC'")
        if start.startswith(b"PAR1"):
            if source.member is not None:
                raise UnreadableFile(file, "it is a Parquet file within an archive; unpack it")
            # DuckDB takes a path for a pattern.
            relation = connection.from_parquet(glob.escape(str(source.path)))
        else:
            relation = connection.from_arrow(_arrow_table(file, stream))
        return _read_relation(file, relation, options, latest)
    except duckdb.Error as error:
        kind = "Parquet" if start.startswith(b"PAR1") else "Arrow"
        raise UnreadableFile(
            file, f"it is not a readable {kind} file: {str(error).splitlines()[0]}"
        ) from None
    finally:
        connection.close()


def _arrow_table(file: str, stream: io.BufferedReader) -> Any:
    try:
        from pyarrow import feather
    except ImportError:
        raise UnreadableFile(
            file,
            "it is a Feather (Arrow) file, which needs pyarrow: pip install 'candlestep[arrow]'",
        ) from None
    return feather.read_table(stream)


def _read_relation(
    file: str, relation: duckdb.DuckDBPyRelation, options: ImportOptions, latest: int
) -> ReadFile:
    layout = layout_of_header(file, relation.columns)
    kinds = [str(kind) for kind in relation.types]
    wanted = {*layout.prices.values(), *layout.volumes.values()}
    selected = [_table_value(name, kind, place in wanted)
                for place, (name, kind) in enumerate(zip(relation.columns, kinds, strict=True))]  # fmt: skip
    names = [f"c{place}" for place in range(len(selected))]
    query = ", ".join(f"{value} AS {name}" for value, name in zip(selected, names, strict=True))
    arrays: dict[str, NDArray[Any]] = relation.project(query).fetchnumpy()
    columns = [arrays[name] for name in names]
    problems = Problems(file, "row")
    times, words = _table_times(file, layout, columns, kinds, options, latest)
    rows = Rows(
        np.arange(1, len(times) + 1),
        times,
        {name: _floats(columns[place]) for name, place in layout.prices.items()},
        {name: _floats(columns[place]) for name, place in layout.volumes.items()},
        None if layout.symbol is None else np.ma.getdata(columns[layout.symbol]).astype(object),
    )
    return ReadFile(file, rows, layout, problems, words)


def _table_value(name: str, kind: str, is_number: bool) -> str:
    """Return the SQL of a column: times in microseconds, numbers as their shortest text says."""
    column = quote_name(name)
    if kind.startswith(_TIME_TYPES):
        return f"epoch_us({column}::TIMESTAMP{'TZ' if 'ZONE' in kind else ''})"
    if not is_number or kind in ("DOUBLE",):
        return column
    return f"CAST(CAST({column} AS VARCHAR) AS DOUBLE)"


def _table_times(
    file: str,
    layout: Layout,
    columns: Sequence[NDArray[Any]],
    kinds: Sequence[str],
    options: ImportOptions,
    latest: int,
) -> tuple[NDArray[np.int64], str]:
    place = layout.time[0]
    values = columns[place]
    if np.ma.getmaskarray(values).any():
        row = int(np.flatnonzero(np.ma.getmaskarray(values))[0]) + 1
        raise UnreadableFile(file, f"row {row}: time is missing")
    values = np.ma.getdata(values)
    try:
        if kinds[place].startswith(_TIME_TYPES):
            zone = "with a zone" if "ZONE" in kinds[place] else "UTC (no zone is named)"
            return number_times(values.astype(np.float64), latest), f"timestamps, {zone}"
        if kinds[place] == "VARCHAR":
            texts = [str(value) for value in values]
            form = tell_form(file, texts, options.time_format, options.day)
            return read_times(texts, form, latest), describe(form, texts[0], latest)
        numbers = values.astype(np.float64)
        form = TimeForm("number")
        return number_times(numbers, latest), describe(form, repr(float(numbers[0])), latest)
    except ValueError as error:
        raise UnreadableFile(file, str(error)) from None


def _floats(values: NDArray[Any]) -> NDArray[np.float64]:
    numbers: NDArray[np.float64] = np.ma.filled(values.astype(np.float64), np.nan)
    return numbers


def _time_texts(layout: Layout, cells: Sequence[str]) -> Iterator[str]:
    """Yield the text of a row's time, if the row has one."""
    if len(cells) > max(layout.time):
        yield " ".join(cells[place] for place in layout.time)


def _form_in_words(form: TimeForm, example: str, latest: int, rows: Rows) -> str:
    return describe(form, example, latest) if len(rows) else form.kind
