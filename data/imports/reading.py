"""Reading: the rows of a file of any format made into raw series, one for each symbol in it."""

from bisect import insort
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from itertools import chain

import msgspec
import numpy as np
from numpy.typing import NDArray

from candlestep.data.errors import BadRow, BadRows, UnreadableFile
from candlestep.data.imports.kinds import Kind
from candlestep.data.imports.layouts import PRICES, Layout
from candlestep.data.imports.numbers import DecimalMark, inexact, parse_numbers
from candlestep.data.imports.times import (
    TimeForm,
    describe,
    names_zone,
    read_times,
    tell_form,
    zone_of,
)
from candlestep.data.imports.zones import SourceZone, zone_of_source

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
    """The day of times that have no date, or from which margin tiers are in force."""
    decimal: DecimalMark | None = None
    """The decimal mark of its numbers."""
    as_dates: bool = False
    """Take daily candles for those of the UTC days on which they open."""
    kind: Kind | None = None
    """The kind of the rows; None if the file tells it."""
    is_perp: bool = False
    """Take the symbol for that of a perpetual."""


NO_OPTIONS = ImportOptions()

Report = Callable[[int, int], None]
"""Receives the number of rows read, and the total as far as it is known."""

CHUNK = 10_000
"""The rows parsed at once: few enough that other threads get their turn in between."""
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
        """Count a bad row."""
        self.count += 1
        insort(self.first, BadRow(line, reason))
        del self.first[BadRows.SHOWN :]

    def require_few(self) -> None:
        """Raise ``BadRows`` if so many rows are bad that the file is given up."""
        if self.count >= MAX_BAD_ROWS:
            raise BadRows(self.file, self.first, MAX_BAD_ROWS, self.unit)

    def add_inexact(self, line: int, reason: str) -> None:
        """Count a row with a number that its double does not reproduce."""
        self.inexact_count += 1
        if self.inexact_count <= BadRows.SHOWN:
            self.inexact.append(BadRow(line, reason))


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
    zone: SourceZone | None = None
    """The zone of its source, from which its times were moved to UTC."""


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
            self._note_unequal(rows)
        parsed = self._parse(whole)
        self.problems.require_few()
        return parsed

    def _note_unequal(self, rows: Sequence[Row]) -> None:
        """Note the rows that have another number of columns."""
        for row in rows:
            if len(row.cells) != self.layout.width:
                self.problems.add(
                    row.line, f"has {len(row.cells)} columns instead of {self.layout.width}"
                )

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
            self.note_inexact(columns, parsed)
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

    def note_inexact(self, columns: Sequence[Sequence[str]], parsed: Rows) -> None:
        """Note the prices of rows whose cells have more digits than their doubles reproduce."""
        found = sorted(
            (row, order, name)
            for order, (name, place) in enumerate(self.layout.prices.items())
            for row in inexact(columns[place], parsed.prices[name], self.decimal)
        )
        for row, _, name in found:
            text, number = columns[self.layout.prices[name]][row], float(parsed.prices[name][row])
            self.problems.add_inexact(int(parsed.line[row]), f"{name} {text} becomes {number!r}")


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
    numbers: dict[str, int] = {}
    groups = np.fromiter(
        (numbers.setdefault(symbol, len(numbers)) for symbol in rows.symbols), np.int64, len(rows)
    )
    return {symbol: rows.where(groups == number) for symbol, number in numbers.items()}


def file_of_rows(
    file: str,
    rows: Sequence[Row],
    layout: Layout,
    problems: Problems,
    options: ImportOptions,
    latest: int,
    symbol: str | None = None,
) -> ReadFile:
    """Return a file whose rows are all in memory; ``symbol`` is that of all of them, if named."""
    form, example = form_of_times(file, layout, rows, options)
    parser = RowParser(layout, form, latest, options.decimal, problems)
    # At least one part, even of no rows.
    starts = range(0, max(len(rows), 1), CHUNK)
    parsed = joined([parser.parse(rows[start : start + CHUNK]) for start in starts])
    read = ReadFile(file, parsed, layout, problems, form.kind, symbol)
    return in_utc(read, form, example, latest)


def form_of_times(
    file: str, layout: Layout, rows: Iterable[Row], options: ImportOptions
) -> tuple[TimeForm, str]:
    """Tell the form of the times of all rows, and return it with the first of them.

    Raises ``UnreadableFile`` where two readings are possible.
    """
    texts = chain.from_iterable(_time_texts(layout, row.cells) for row in rows)
    example = next(texts, "")
    form = tell_form(file, chain([example], texts), options.time_format, options.day)
    if layout.is_local and form.kind == "text" and zone_of(example) is None:
        raise UnreadableFile(
            file,
            f"its times are of a zone that it does not name (column {layout.time_name!r}); export it"
            " with times in UTC, or with their offset",
        )
    return form, example


def _time_texts(layout: Layout, cells: Sequence[str]) -> Iterator[str]:
    """Yield the text of a row's time, if the row has one."""
    if len(cells) > max(layout.time):
        yield " ".join(cells[place] for place in layout.time)


def in_utc(file: ReadFile, form: TimeForm, example: str, latest: int) -> ReadFile:
    """Return a file with its times in UTC, and their form in words; ``example`` is the first.

    Times that name no zone are of the zone that the file's source writes, or of UTC.
    """
    if not len(file.rows):
        return file
    zone = None if names_zone(form, example) else zone_of_source(file.name, file.layout)
    words = describe(form, example, latest, None if zone is None else zone.name)
    return moved_to_utc(replace(file, times=words), zone)


def moved_to_utc(file: ReadFile, zone: SourceZone | None) -> ReadFile:
    """Return a file whose times are of a zone with its times in UTC."""
    if zone is not None:
        file.rows.open_time = file.rows.open_time + zone.delay
    return replace(file, zone=zone)
