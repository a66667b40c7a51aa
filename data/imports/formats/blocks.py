"""Blocks of regular lines of text, parsed at once through DuckDB's reader of CSV.

DuckDB finds the cells and casts them, to the double that is nearest to the text, as Python does.
What it may read in another way than our own parser is left to that: quotes, comments, blank lines,
lines of another width, times that are not all of one form, and everything that cannot be read.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self

import duckdb
import numpy as np
from numpy.typing import NDArray

from candlestep.data.imports.numbers import EXACT_DIGITS, MISSING
from candlestep.data.imports.reading import Integers, RowParser, Rows
from candlestep.data.imports.times import are_plausible, full_width, number_times, pattern_of
from candlestep.data.store.sql import quote_text

_STRANGE = (b'"', b"\r", b"\0", b"(")
"""Bytes of cells that DuckDB reads in another way, or reads where our own parser does not."""
_MOST_LINE = 1 << 16
_MISSING = ", ".join(map(quote_text, sorted(MISSING)))
_WHOLE_NUMBER = r"[0-9]+(\.[0-9]*)?"


class BlockParser:
    """Parses blocks of lines into the rows that a ``RowParser`` would return for them.

    Use it as a context: it has a database in memory and a temporary file of the size of a block.
    """

    def __init__(self, parser: RowParser, delimiter: str) -> None:
        self._parser = parser
        self._delimiter = delimiter
        self._has_missing = False
        """True if some cell so far was not a number: perhaps it stands for a missing one."""
        self._resources = ExitStack()

    def __enter__(self) -> Self:
        directory = self._resources.enter_context(TemporaryDirectory(prefix="candlestep-"))
        self._path = Path(directory) / "block.csv"
        self._database = duckdb.connect(config={"threads": 1})
        self._resources.callback(self._database.close)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._resources.close()

    def parse(self, block: bytes, first_line: int) -> Rows | None:
        """Return the rows of a block of whole lines; None if our own parser has to read it.

        ``first_line`` is the number of the first line.
        """
        block = self._without_quotes(block.replace(b"\r\n", b"\n"))
        starts = self._line_starts(block)
        if starts is None:
            return None
        time = self._time_value(self._cells(block, starts, 0))
        if time is None:
            return None
        self._path.write_bytes(block)
        try:
            columns = self._fetch(time)
        except duckdb.Error:
            return None
        rows = self._rows(columns, first_line)
        if rows is None or len(rows) != len(starts):
            return None
        self._note_inexact(rows, columns["is_long"], block, starts)
        return rows

    def _without_quotes(self, block: bytes) -> bytes:
        """Return a block without its quotes, if every cell stands in them and has none itself."""
        if b'"' not in block:
            return block
        width, delimiter = self._parser.layout.width, self._delimiter.encode()
        lines = block.removesuffix(b"\n").split(b"\n")
        are_quoted = (
            all(line.startswith(b'"') and line.endswith(b'"') for line in lines)
            and block.count(b'"' + delimiter + b'"') == (width - 1) * len(lines)
            and block.count(delimiter) == (width - 1) * len(lines)
            and block.count(b'"') == 2 * width * len(lines)
        )
        return block.replace(b'"', b"") if are_quoted else block

    def _line_starts(self, block: bytes) -> Integers | None:
        """Return where the lines of a block start; None if they are not all regular."""
        if not block.isascii() or any(byte in block for byte in _STRANGE):
            return None
        if b"_" in block and self._parser.layout.symbol is None:
            return None
        if b"+" in block and b"+-" in block:
            return None
        characters = np.frombuffer(block, dtype=np.uint8)
        ends = np.flatnonzero(characters == ord("\n"))
        if not block.endswith(b"\n"):
            ends = np.append(ends, len(block))
        starts = np.concatenate([[0], ends[:-1] + 1])
        lengths = ends - starts
        if lengths.min() == 0 or lengths.max() > _MOST_LINE:
            return None
        if (characters[starts] == ord("#")).any():
            return None
        delimiters = (self._parser.layout.width - 1) * len(starts)
        return starts if block.count(self._delimiter.encode()) == delimiters else None

    def _cells(self, block: bytes, starts: Integers, row: int) -> list[str]:
        end = starts[row + 1] if row + 1 < len(starts) else len(block)
        return block[starts[row] : end].decode().rstrip("\n").split(self._delimiter)

    def _time_value(self, cells: Sequence[str]) -> str | None:
        """Return the SQL of the time of a row, given the cells of the first one."""
        places = self._parser.layout.time
        text = " || ' ' || ".join(f"c{place}" for place in places)
        form = self._parser.form
        match form.kind:
            case "number":
                return _if_of_form(text, _WHOLE_NUMBER, f"TRY_CAST({text} AS DOUBLE)")
            case "text":
                pattern = pattern_of(" ".join(cells[place] for place in places), form.order)
            case "pattern":
                pattern = form.pattern
            case "time of day":
                return None
        expression = None if pattern is None else full_width(pattern)
        if pattern is None or expression is None:
            return None
        moment = f"epoch_us(try_strptime({text}, {quote_text(pattern)}))"
        return _if_of_form(text, expression, moment)

    def _fetch(self, time: str) -> dict[str, NDArray[Any]]:
        """Return the columns of the block, given the SQL of its time."""
        columns = self._database.execute(self._query(time)).fetchnumpy()
        if not self._has_missing and any(map(np.ma.is_masked, columns.values())):
            # Telling what is missing takes as long as all else: most files need it nowhere.
            self._has_missing = True
            columns = self._database.execute(self._query(time)).fetchnumpy()
        return columns

    def _query(self, time: str) -> str:
        layout = self._parser.layout
        cells = ", ".join(f"'c{place}': 'VARCHAR'" for place in range(layout.width))
        numbers = {*layout.prices.values(), *layout.volumes.values()}
        values = [f"{self._number_value(f'c{place}')} AS c{place}" for place in sorted(numbers)]
        if layout.symbol is not None:
            values.append(f"coalesce(c{layout.symbol}, '') AS symbol")
        is_long = " OR ".join(_is_long(f"c{place}") for place in layout.prices.values())
        return (
            f"SELECT {time} AS time, {', '.join(values)}, coalesce({is_long}, false) AS is_long"
            f" FROM read_csv({quote_text(str(self._path))}, columns = {{{cells}}},"
            f" delim = {quote_text(self._delimiter)}, auto_detect = false, header = false,"
            " quote = '', escape = '', comment = '', null_padding = false, parallel = false)"
        )

    def _number_value(self, cell: str) -> str:
        """Return the SQL of a number: NaN if it is missing, NULL if it is not a number."""
        text = cell
        if self._parser.decimal == ",":
            text = f"CASE WHEN NOT contains({cell}, '.') THEN replace({cell}, ',', '.') END"
        if self._parser.layout.symbol is not None:
            # Symbols may have an underscore, with which DuckDB lets numbers be grouped.
            text = f"CASE WHEN NOT contains({cell}, '_') THEN {text} END"
        if not self._has_missing:
            return f"TRY_CAST({text} AS DOUBLE)"
        return (
            f"coalesce(TRY_CAST({text} AS DOUBLE),"
            f" CASE WHEN {cell} IS NULL OR lower({cell}) IN ({_MISSING}) THEN 'nan'::DOUBLE END)"
        )

    def _rows(self, columns: dict[str, NDArray[Any]], first_line: int) -> Rows | None:
        """Return rows of the columns of a block; None if one of them could not be read."""
        layout = self._parser.layout
        numbers = [
            columns[f"c{place}"] for place in (*layout.prices.values(), *layout.volumes.values())
        ]
        if any(map(np.ma.is_masked, (columns["time"], *numbers))) or any(
            np.isinf(column).any() for column in numbers
        ):
            return None
        times = columns["time"]
        if self._parser.form.kind == "number":
            try:
                times = number_times(times, self._parser.latest)
            except ValueError:
                return None
        elif not are_plausible(times, self._parser.latest).all():
            return None
        symbols = None
        if layout.symbol is not None:
            symbols = np.array([text.strip() for text in columns["symbol"]], dtype=object)
        return Rows(
            np.arange(first_line, first_line + len(times)),
            times,
            {name: columns[f"c{place}"] for name, place in layout.prices.items()},
            {name: columns[f"c{place}"] for name, place in layout.volumes.items()},
            symbols,
        )

    def _note_inexact(
        self, rows: Rows, is_long: NDArray[np.bool_], block: bytes, starts: Integers
    ) -> None:
        places = np.flatnonzero(is_long)
        if len(places):
            cells = [self._cells(block, starts, place) for place in places.tolist()]
            self._parser.note_inexact(list(zip(*cells, strict=True)), rows.where(places))


def _if_of_form(text: str, expression: str, value: str) -> str:
    """Return the SQL of a value, NULL unless a text matches a regular expression."""
    return f"CASE WHEN regexp_full_match({text}, {quote_text(expression)}) THEN {value} END"


def _is_long(cell: str) -> str:
    """Return the SQL that tells whether a number may have more digits than its double.

    Zeros at the end need none, and a double that reads as the text has all of them.
    """
    # Not joined with AND, which evaluates all of it for every row.
    return (
        f"CASE WHEN length({cell}) <= {EXACT_DIGITS} THEN false"
        f" WHEN length(rtrim({cell}, '0.')) <= {EXACT_DIGITS}"
        f" AND NOT contains(lower({cell}), 'e') THEN false"
        f" ELSE {cell} IS DISTINCT FROM TRY_CAST({cell} AS DOUBLE)::VARCHAR END"
    )
