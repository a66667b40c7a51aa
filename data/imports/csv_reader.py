"""A reader of CSV, with a header of common names or in the kline archive's layout without one."""

import csv
from collections.abc import Callable, Iterator
from io import TextIOWrapper
from itertools import chain, islice
from typing import IO

import numpy as np

from candlestep.data.errors import UnreadableFile
from candlestep.data.imports.columns import (
    RawCandles,
    Unparsable,
    find_columns,
    parse_columns,
    parse_times,
)

_CHUNK = 10_000
"""Rows parsed at once: few enough that other threads run in between."""

_ARCHIVE_LAYOUT = {"time": 0, "open": 1, "high": 2, "low": 3, "close": 4, "volume": 5}
_HEADERLESS_WIDTHS = (6, 12)


def read_csv(
    file: str, stream: IO[bytes], bad: Unparsable, progress: Callable[[int], None]
) -> list[RawCandles]:
    """Read the candles of a CSV file in parts; rows that fail are added to ``bad`` instead.

    ``progress`` is called with the number of rows read so far. Raises ``UnreadableFile`` if the
    file is not a CSV of candles.
    """
    text = TextIOWrapper(stream, encoding="utf-8-sig", newline="")
    try:
        return list(_parts(file, text, bad, progress))
    except UnicodeDecodeError:
        raise UnreadableFile(file, "it is not UTF-8 text; save it as CSV in UTF-8") from None
    except csv.Error as error:
        raise UnreadableFile(file, f"it is not a CSV file: {error}") from None


def _parts(
    file: str, text: TextIOWrapper, bad: Unparsable, progress: Callable[[int], None]
) -> Iterator[RawCandles]:
    line = 1
    first_line = text.readline()
    while first_line and not first_line.strip():
        first_line = text.readline()
        line += 1
    delimiter = max(",;\t", key=first_line.count)
    reader = csv.reader(chain([first_line], text), delimiter=delimiter, strict=True)
    first = next(reader, [])
    if not first:
        raise UnreadableFile(file, "it is empty")
    if _is_data(first):
        if len(first) not in _HEADERLESS_WIDTHS:
            raise UnreadableFile(
                file,
                f"it has no header, and {len(first)} columns instead of the 12 of the kline"
                " archive; add a header: timestamp,open,high,low,close,volume",
            )
        columns, rows = _ARCHIVE_LAYOUT, chain([first], reader)
    else:
        columns, rows = find_columns(file, first), chain(reader)
        line += 1
    width = len(first)
    read = 0
    while chunk := list(islice(rows, _CHUNK)):
        yield _parse_rows(chunk, columns, width, line, bad)
        line += len(chunk)
        read += len(chunk)
        progress(read)


def _is_data(cells: list[str]) -> bool:
    try:
        parse_times(cells[:1])
    except (ValueError, OverflowError):
        return False
    return True


def _parse_rows(
    rows: list[list[str]], columns: dict[str, int], width: int, first_line: int, bad: Unparsable
) -> RawCandles:
    lines = np.arange(first_line, first_line + len(rows))
    if any(len(row) != width for row in rows):
        whole = []
        for index, row in enumerate(rows):
            if len(row) == width:
                whole.append(index)
            elif row:
                bad.add(first_line + index, f"has {len(row)} columns instead of {width}")
        rows, lines = [rows[index] for index in whole], lines[whole]
    transposed = list(zip(*rows, strict=True)) or [()] * width
    return parse_columns({name: transposed[i] for name, i in columns.items()}, lines, bad)
