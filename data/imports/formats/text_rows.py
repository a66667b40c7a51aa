"""Rows of text files: CSV with any usual delimiter, preamble, header and footer.

Lines before the header that are an address or a comment, and up to a few lines after the last row
that begin with no digit, are left out and named.
"""

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Protocol

from candlestep.data.errors import UnreadableFile
from candlestep.data.imports.kinds import Kind
from candlestep.data.imports.layouts import Layout, layout_of_header, layout_of_rows, normalised
from candlestep.data.imports.reading import CHUNK, Row, Rows

MAX_LINE = 1 << 20
"""The longest line, in characters."""
_MOST_LINE_BYTES = 4 * MAX_LINE

_FIRST_BLOCK = 1 << 14
_DELIMITERS = ",;\t|"
_MOST_PREAMBLE = 10
_MOST_FOOTER = 5
_MOST_NAMED = 10
_MOST_LEFT_OUT = 100_000
_DATA_START = re.compile(r'"?[+-]?\d')


class ParseBlock(Protocol):
    """Parses a block of whole lines, of which the first has this number, or returns None."""

    def __call__(self, block: bytes, first_line: int) -> Rows | None: ...


class TextRows:
    """The rows of a text file, after what stands before them has been read.

    The file is read in blocks of whole lines. ``left_out`` has the lines that are not rows, in
    words.
    """

    def __init__(
        self,
        file: str,
        stream: io.BufferedReader,
        block_size: int,
        kind: Kind | None = None,
    ) -> None:
        """Read the preamble and the header; ``kind`` is what is known of the rows.

        Raises ``UnreadableFile`` for what is not a table.
        """
        self._kind = kind
        self.file = file
        self.left_out: list[str] = []
        self.symbol: str | None = None
        """The symbol of all rows, where the header names it."""
        self._line = 0
        self._left_out_count = 0
        self._footer: list[Row] = []
        self._encoding = "utf-8-sig"
        self._blocks = _blocks(stream, min(_FIRST_BLOCK, block_size), block_size)
        self._current: Iterator[str] = iter(())
        """The lines of the current block."""
        head = self._first_line()
        self.delimiter = max(_DELIMITERS, key=head.count)
        cells = self._cells(head)
        self._pending: list[Row] = []
        if _DATA_START.match(head.lstrip()):
            self.layout = layout_of_rows(file, cells, kind)
            self._pending.append(Row(self._line, cells))
        elif [normalised(cell) for cell in cells[:1]] == ["price"]:
            self.layout = self._multi_line_header(cells)
        else:
            self.layout = layout_of_header(file, cells, kind)

    def rows(self) -> Iterator[Row]:
        """Yield every row."""
        yield from self._rows_of_current()
        for block in self._blocks:
            yield from self._rows_in(self._lines_of(block))
        yield from self._end_of_rows()

    def parsed(
        self, parse: Callable[[Sequence[Row]], Rows], parse_block: ParseBlock
    ) -> Iterator[Rows]:
        """Yield every row, parsed by ``parse_block`` or, where that returns None, by ``parse``."""
        yield from map(parse, _chunks(self._rows_of_current()))
        for block in self._blocks:
            rows = parse_block(block, self._line + 1)
            if rows is None:
                yield from map(parse, _chunks(self._rows_in(self._lines_of(block))))
            else:
                self._line += len(rows)
                yield from map(parse, _chunks(self._not_a_footer()))
                yield rows
        yield from map(parse, _chunks(self._end_of_rows()))

    def _rows_of_current(self) -> Iterator[Row]:
        yield from self._pending
        yield from self._rows_in(self._current)

    def _rows_in(self, lines: Iterable[str]) -> Iterator[Row]:
        for line in lines:
            if not line.strip():
                continue
            if line.startswith("#"):
                self._leave_out(self._line, line)
                continue
            row = Row(self._line, self._cells(line))
            # A row that was cut off may begin with a symbol, but it has most of its cells.
            is_row = 2 * len(row.cells) > self.layout.width
            if not is_row and not _DATA_START.match(line.lstrip()):
                self._footer.append(row)
                continue
            yield from self._not_a_footer()
            yield row

    def _not_a_footer(self) -> Iterator[Row]:
        """Yield the lines that are not rows, because a row comes after them."""
        yield from self._footer
        self._footer.clear()

    def _end_of_rows(self) -> Iterator[Row]:
        if len(self._footer) > _MOST_FOOTER:
            yield from self._not_a_footer()
        for row in self._footer:
            self._leave_out(row.line, self.delimiter.join(row.cells))

    def _leave_out(self, line: int, text: str) -> None:
        self._left_out_count += 1
        if self._left_out_count > _MOST_LEFT_OUT:
            raise UnreadableFile(
                self.file, f"more than {_MOST_LEFT_OUT:,} lines of it are comments"
            )
        if len(self.left_out) < _MOST_NAMED:
            self.left_out.append(f"line {line} ({text.strip()[:40]!r})")
        elif len(self.left_out) == _MOST_NAMED:
            self.left_out.append("further lines")

    def _first_line(self) -> str:
        """Return the header, or the first row of a file without one."""
        for line in islice(iter(self._next_line, ""), _MOST_PREAMBLE):
            text = line.strip()
            if not text:
                continue
            if text.startswith("#") or re.match(r"https?://", text):
                self._leave_out(self._line, text)
                continue
            return line
        raise UnreadableFile(self.file, "it is empty" if not self._line else "it has no header")

    def _multi_line_header(self, names: list[str]) -> Layout:
        """Read a header of three lines: names of columns, tickers, and the name of the index."""
        line = self._next_line()
        tickers = self._cells(line)
        if [normalised(cell) for cell in tickers[:1]] != ["ticker"]:
            if line:
                self._pending.append(Row(self._line, tickers))
            return layout_of_header(self.file, names, self._kind)
        index = self._cells(self._next_line())
        symbols = set(tickers[1:])
        if len(symbols) != 1:
            listed = ", ".join(sorted(symbols))[:60]
            raise UnreadableFile(
                self.file, f"its columns are of several symbols ({listed}); save one file for each"
            )
        self.symbol = symbols.pop()
        return layout_of_header(self.file, [index[0], *names[1:]], self._kind)

    def _cells(self, line: str) -> list[str]:
        try:
            return next(csv.reader([line], delimiter=self.delimiter, strict=True), [])
        except csv.Error as error:
            raise UnreadableFile(self.file, f"line {self._line} is not CSV: {error}") from None

    def _next_line(self) -> str:
        """Return the next line, of the next block if need be; an empty text at the end."""
        while not (line := next(self._current, "")):
            block = next(self._blocks, None)
            if block is None:
                return ""
            self._current = self._lines_of(block)
        return line

    def _lines_of(self, block: bytes) -> Iterator[str]:
        if block.isspace():
            self._line += block.count(b"\n") or block.count(b"\r")
            return
        text = io.TextIOWrapper(io.BytesIO(block), encoding=self._encoding, newline="")
        self._encoding = "utf-8"
        try:
            while line := text.readline(MAX_LINE + 1):
                self._line += 1
                if len(line) > MAX_LINE:
                    raise UnreadableFile(
                        self.file, f"line {self._line} is longer than {MAX_LINE >> 20} MiB"
                    )
                yield line
        except UnicodeDecodeError:
            raise UnreadableFile(
                self.file, "it is not UTF-8 text; save it as CSV in UTF-8"
            ) from None


def _blocks(stream: io.BufferedReader, first_size: int, size: int) -> Iterator[bytes]:
    """Yield a stream in blocks of whole lines, each of about a number of bytes."""
    block, wanted = b"", first_size
    while data := stream.read(wanted):
        block += data
        # Old files end their lines with a carriage return alone.
        end = block.rfind(b"\n") + 1 or block.rfind(b"\r", 0, len(block) - 1) + 1
        if not end and len(block) <= _MOST_LINE_BYTES:
            continue
        end = end or len(block)
        yield block[:end]
        block, wanted = block[end:], size
    if block:
        yield block


def _chunks(rows: Iterator[Row]) -> Iterator[list[Row]]:
    while chunk := list(islice(rows, CHUNK)):
        yield chunk
