"""Reading: the rows of a file of any format made into raw series, one for each symbol in it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date

import msgspec
import numpy as np
from numpy.typing import NDArray

from candlestep.data.errors import BadRow, BadRows
from candlestep.data.imports.layouts import PRICES, Layout
from candlestep.data.imports.numbers import DecimalMark, inexact, parse_numbers
from candlestep.data.imports.times import TimeForm, read_times

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


class ImportOptions(msgspec.Struct, frozen=True):
    """Options of the caller that override what a file's name and content tell."""

    symbol: str | None = None
    interval: str | int | None = None
    no_volume: bool = False
    """Take the volume for unusable, whatever the file has."""
    time_format: str | None = None
    """The directives of ``strptime`` for its times."""
    day: date | None = None
    """The day of times that have no date."""
    decimal: DecimalMark | None = None
    """The decimal mark of its numbers."""


NO_OPTIONS = ImportOptions()

MAX_BAD_ROWS = 10_000
"""The number of bad rows at which a file is given up."""


class Row(msgspec.Struct, frozen=True, gc=False):
    """A row of a file as text, with the number of its line, from 1."""

    line: int
    cells: Sequence[str]


@dataclass
class Rows:
    """Rows of a file as numbers, in the order of the file, and unchecked."""

    line: Integers
    open_time: Integers
    """Microseconds since the epoch."""
    prices: dict[str, Floats]
    volumes: dict[str, Floats]
    """Every column that can be the volume, by its normalised name."""
    symbols: NDArray[np.object_] | None
    """The symbol of each row, where there is a column of symbols."""

    def __len__(self) -> int:
        return len(self.line)

    def where(self, chosen: "NDArray[np.bool_] | Integers") -> "Rows":
        """Return the chosen rows."""
        return Rows(
            self.line[chosen],
            self.open_time[chosen],
            {name: column[chosen] for name, column in self.prices.items()},
            {name: column[chosen] for name, column in self.volumes.items()},
            None if self.symbols is None else self.symbols[chosen],
        )


@dataclass
class Problems:
    """The rows of a file that are not candles, and those that are not quite."""

    file: str
    unit: str = "line"
    """The unit of a row's number: ``line`` or ``row``."""
    first: list[BadRow] = field(default_factory=list)
    """The first bad rows."""
    count: int = 0
    """The number of bad rows."""
    inexact: list[BadRow] = field(default_factory=list)
    """The first rows with a number that has more digits than a double."""
    inexact_count: int = 0

    def add(self, line: int, reason: str) -> None:
        """Count a bad row; rows have to be added in the order of the file."""
        self.count += 1
        if self.count <= BadRows.SHOWN:
            self.first.append(BadRow(line, reason))
        if self.count == MAX_BAD_ROWS:
            raise BadRows(self.file, self.first, self.count, self.unit)

    def add_inexact(self, line: int, reason: str) -> None:
        """Count a row with a number that its double does not reproduce."""
        self.inexact_count += 1
        if self.inexact_count <= BadRows.SHOWN:
            self.inexact.append(BadRow(line, reason))


@dataclass(frozen=True)
class RowParser:
    """Parses the rows of a file, given what is known of it."""

    layout: Layout
    form: TimeForm
    latest: int
    """The latest plausible time, in microseconds."""
    decimal: DecimalMark | None
    problems: Problems

    def parse(self, rows: Sequence[Row]) -> Rows:
        """Return the rows that can be parsed; the others go to the problems."""
        whole = [row for row in rows if len(row.cells) == self.layout.width]
        if len(whole) < len(rows):
            return self._parse_unequal(rows)
        return self._parse(whole)

    def _parse_unequal(self, rows: Sequence[Row]) -> Rows:
        """Parse rows, some of which have another number of columns."""
        parts = []
        for row in rows:
            if len(row.cells) == self.layout.width:
                parts.append(row)
            else:
                self.problems.add(
                    row.line, f"has {len(row.cells)} columns instead of {self.layout.width}"
                )
        return self._parse(parts)

    def _parse(self, rows: Sequence[Row]) -> Rows:
        columns = list(zip(*(row.cells for row in rows), strict=True))
        columns = columns or [()] * self.layout.width
        lines = np.fromiter((row.line for row in rows), np.int64, len(rows))
        try:
            parsed = self._convert(columns, lines)
        except (ValueError, OverflowError) as error:
            if len(rows) == 1:
                self.problems.add(int(lines[0]), str(error))
                return self._convert([()] * self.layout.width, lines[:0])
        else:
            self._note_inexact(columns, parsed)
            return parsed
        # Whole columns are parsed fast; halving finds the few rows that spoil them.
        middle = len(rows) // 2
        return joined([self._parse(rows[:middle]), self._parse(rows[middle:])])

    def _convert(self, columns: Sequence[Sequence[str]], lines: Integers) -> Rows:
        layout = self.layout
        prices = {name: self._numbers(name, columns[i]) for name, i in layout.prices.items()}
        symbols = None
        if layout.symbol is not None:
            symbols = np.array([text.strip() for text in columns[layout.symbol]], dtype=object)
        return Rows(
            lines,
            read_times(self._time_texts(columns), self.form, self.latest),
            prices,
            {name: self._numbers(name, columns[i]) for name, i in layout.volumes.items()},
            symbols,
        )

    def _time_texts(self, columns: Sequence[Sequence[str]]) -> Sequence[str]:
        places = self.layout.time
        if len(places) == 1:
            return columns[places[0]]
        return [" ".join(parts) for parts in zip(*(columns[i] for i in places), strict=True)]

    def _numbers(self, name: str, texts: Sequence[str]) -> Floats:
        try:
            return parse_numbers(texts, self.decimal)
        except ValueError as error:
            raise ValueError(f"{name} {error}") from None

    def _note_inexact(self, columns: Sequence[Sequence[str]], parsed: Rows) -> None:
        for name, place in self.layout.prices.items():
            texts, numbers = columns[place], parsed.prices[name]
            for row in inexact(texts, numbers):
                self.problems.add_inexact(
                    int(parsed.line[row]), f"{name} {texts[row]} becomes {float(numbers[row])!r}"
                )


def joined(parts: Sequence[Rows]) -> Rows:
    """Return the parts of a file, at least one, as one."""
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    return Rows(
        np.concatenate([part.line for part in parts]),
        np.concatenate([part.open_time for part in parts]),
        {name: np.concatenate([part.prices[name] for part in parts]) for name in first.prices},
        {name: np.concatenate([part.volumes[name] for part in parts]) for name in first.volumes},
        None
        if first.symbols is None
        else np.concatenate([part.symbols for part in parts if part.symbols is not None]),
    )


def without_trades(rows: Rows) -> tuple[Rows, int]:
    """Leave out the rows that have none of the prices; return their number too."""
    is_empty = np.logical_and.reduce([np.isnan(rows.prices[name]) for name in PRICES])
    if not is_empty.any():
        return rows, 0
    return rows.where(~is_empty), int(is_empty.sum())


def by_symbol(rows: Rows) -> dict[str | None, Rows]:
    """Return the rows of each symbol, in the order in which the symbols first appear."""
    if rows.symbols is None:
        return {None: rows}
    names, first, groups = np.unique(
        rows.symbols.astype(str), return_index=True, return_inverse=True
    )
    order = np.argsort(first)
    return {str(names[place]): rows.where(groups == place) for place in order.tolist()}
