"""Rows of text files: CSV with any usual delimiter, preamble, header and footer.

Lines before the header that are an address or a comment, and up to a few lines after the last row
that begin with no digit, are left out and named.
"""

import csv
import io
import re
from collections.abc import Iterator
from itertools import islice

from candlestep.data.errors import UnreadableFile
from candlestep.data.imports.layouts import Layout, layout_of_header, layout_of_rows, normalised
from candlestep.data.imports.reading import Row

MAX_LINE = 1 << 20
"""The longest line, in characters."""

_DELIMITERS = ",;\t|"
_MOST_PREAMBLE = 10
_MOST_FOOTER = 5
_MOST_NAMED = 10
_DATA_START = re.compile(r'"?[+-]?\d')


class TextRows:
    """The rows of a text file, after what stands before them has been read.

    ``left_out`` has the lines that are not rows, in words.
    """

    def __init__(self, file: str, stream: io.BufferedReader) -> None:
        """Read the preamble and the header. Raises ``UnreadableFile`` for what is not a table."""
        self.file = file
        self.left_out: list[str] = []
        self.symbol: str | None = None
        """The symbol of all rows, where the header names it."""
        self._line = 0
        text = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
        self._lines = self._bounded_lines(text)
        head = self._first_line()
        self._delimiter = max(_DELIMITERS, key=head.count)
        cells = self._cells(head)
        self._pending: list[Row] = []
        if _DATA_START.match(head.lstrip()):
            self.layout = layout_of_rows(file, cells)
            self._pending.append(Row(self._line, cells))
        elif [normalised(cell) for cell in cells[:1]] == ["price"]:
            self.layout = self._multi_line_header(cells)
        else:
            self.layout = layout_of_header(file, cells)

    def chunks(self, size: int) -> Iterator[list[Row]]:
        """Yield the rows in lists of ``size``."""
        rows = self._rows()
        while chunk := list(islice(rows, size)):
            yield chunk

    def _rows(self) -> Iterator[Row]:
        yield from self._pending
        footer: list[Row] = []
        for line in self._lines:
            if not line.strip():
                continue
            if line.startswith("#"):
                self._leave_out(self._line, line)
                continue
            row = Row(self._line, self._cells(line))
            is_row = len(row.cells) == self.layout.width
            if not is_row and not _DATA_START.match(line.lstrip()):
                footer.append(row)
                continue
            # A line that is not a row is a footer only if no row comes after it.
            yield from footer
            footer.clear()
            yield row
        if len(footer) > _MOST_FOOTER:
            yield from footer
        else:
            for row in footer:
                self._leave_out(row.line, self._delimiter.join(row.cells))

    def _leave_out(self, line: int, text: str) -> None:
        if len(self.left_out) < _MOST_NAMED:
            self.left_out.append(f"line {line} ({text.strip()[:40]!r})")
        elif len(self.left_out) == _MOST_NAMED:
            self.left_out.append("further lines")

    def _first_line(self) -> str:
        """Return the header, or the first row of a file without one."""
        for line in islice(self._lines, _MOST_PREAMBLE):
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
        tickers = self._cells(next(self._lines, ""))
        index = self._cells(next(self._lines, ""))
        if [normalised(cell) for cell in tickers[:1]] != ["ticker"]:
            return layout_of_header(self.file, names)
        symbols = set(tickers[1:])
        if len(symbols) != 1:
            listed = ", ".join(sorted(symbols))[:60]
            raise UnreadableFile(
                self.file, f"its columns are of several symbols ({listed}); save one file for each"
            )
        self.symbol = symbols.pop()
        return layout_of_header(self.file, [index[0], *names[1:]])

    def _cells(self, line: str) -> list[str]:
        try:
            return next(csv.reader([line], delimiter=self._delimiter, strict=True), [])
        except csv.Error as error:
            raise UnreadableFile(self.file, f"line {self._line} is not CSV: {error}") from None

    def _bounded_lines(self, text: "io.TextIOWrapper[io.BufferedReader]") -> Iterator[str]:
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
