"""The series in a file: one for each symbol, with an interval, a volume, and checked candles."""

from dataclasses import dataclass

import msgspec
import numpy as np

from candlestep.data.errors import BadRows, UnreadableFile
from candlestep.data.imports.evidence import evidence_of_text, require_spot, symbol_of
from candlestep.data.imports.formats import ReadFile
from candlestep.data.imports.reading import ImportOptions, Rows, by_symbol, without_trades
from candlestep.data.imports.spacing import (
    interval_from_name,
    require_interval,
    shared_delay,
    told_interval,
)
from candlestep.data.imports.validation import CandleColumns, check
from candlestep.data.imports.volumes import choose_volume
from candlestep.data.symbols import Instrument, parse_symbol
from candlestep.sandbox.clock import format_time, interval_name, parse_interval


class Taken(msgspec.Struct, frozen=True):
    """The columns, units and instrument told from a file, in words, for a summary."""

    times: str
    """The column of times and their form."""
    prices: str
    """The columns of open, high, low and close."""
    volume: str
    """The column of the volume, and why."""
    symbol: str
    """The symbol, and what told it."""
    interval: str
    notes: tuple[str, ...]
    """Rows that were left out, shifted or contradicted, in words."""


@dataclass(frozen=True)
class ReadSeries:
    """A series of a file: checked candles, ready to be imported."""

    instrument: Instrument
    interval: int
    """Milliseconds."""
    candles: CandleColumns
    taken: Taken


def series_of(file: ReadFile, options: ImportOptions, now: int) -> list[ReadSeries]:
    """Return the series of a file; ``now`` is the time in milliseconds.

    Raises ``UnreadableFile`` or ``BadRows`` if any of them cannot be what it should be, so that a
    file is imported as a whole or not at all.
    """
    rows, empty = without_trades(file.rows)
    groups = by_symbol(rows)
    if file.symbol is not None and None in groups:
        groups = {file.symbol: groups[None]}
    if not len(rows):
        raise (
            _bad_rows(file)
            if file.problems.count
            else UnreadableFile(file.name, "it has no candles")
        )
    if options.symbol is not None and len(groups) > 1:
        listed = ", ".join(sorted(str(name) for name in groups))[:100]
        raise UnreadableFile(
            file.name,
            f"it has the candles of several symbols ({listed}); leave out --symbol to import each",
        )
    notes = [f"left out {line}" for line in file.left_out]
    if empty:
        noun = "row" if empty == 1 else "rows"
        notes.append(f"left out {empty} {noun} without prices, as gaps")
    if file.problems.inexact_count:
        example = file.problems.inexact[0]
        notes.append(
            f"{file.problems.inexact_count} numbers have more digits than are kept: "
            f"{file.problems.unit} {example.line}: {example.reason}"
        )
    several = len(groups) > 1
    return [
        _series(file, name, group, options, now, notes, several) for name, group in groups.items()
    ]


def _series(
    file: ReadFile,
    name_in_rows: str | None,
    rows: Rows,
    options: ImportOptions,
    now: int,
    notes: list[str],
    several: bool,
) -> ReadSeries:
    symbol = _symbol(file, name_in_rows, options.symbol, several)
    instrument = parse_symbol(symbol)
    notes = list(notes)
    declared = _declared(file.name, options.interval)
    interval = declared or _told(file, rows, several)
    delay = shared_delay(rows.open_time // 1000)
    if delay:
        rows.open_time = rows.open_time + (interval - delay % interval) * 1000
        notes.append(
            f"all rows are {delay / 1000:g} seconds late; they were moved to the next"
            f" {interval_name(interval)}"
        )
    rows, unfinished = _complete(rows, interval, now)
    notes += unfinished
    volume, volume_words, contradictions = _volume(rows, instrument, options.no_volume)
    notes += contradictions
    candles = check(file.name, rows, volume, file.problems, interval)
    if declared is not None:
        require_interval(file.name, declared, candles.open_time)
    names = file.layout.names
    return ReadSeries(
        instrument,
        interval,
        candles,
        Taken(
            f"{file.layout.time_name}: {file.times}",
            ", ".join(names[place] for place in file.layout.prices.values()),
            volume_words,
            f"{instrument.symbol} ({instrument.base} quoted in {instrument.quote})",
            interval_name(interval),
            tuple(notes),
        ),
    )


def _symbol(file: ReadFile, in_rows: str | None, given: str | None, several: bool) -> str:
    if in_rows is None:
        return symbol_of(file.name, given, None)
    evidence = evidence_of_text(in_rows)
    require_spot(file.name, evidence, "its column of symbols")
    if several:
        assert evidence.symbol is not None
        return evidence.symbol
    return symbol_of(file.name, given, evidence.symbol)


def _declared(file: str, given: str | int | None) -> int | None:
    """Return the interval that the caller or the file's name declares, in milliseconds."""
    return interval_from_name(file) if given is None else parse_interval(given)


def _told(file: ReadFile, rows: Rows, several: bool) -> int:
    """Return the interval that the open times of a series tell, in milliseconds."""
    open_times = np.unique(rows.open_time // 1000)
    if several and len(open_times) < 2:
        # The only row of a symbol has the interval of the others.
        open_times = np.unique(file.rows.open_time // 1000)
    try:
        return told_interval(file.name, open_times)
    except UnreadableFile:
        if file.problems.count:
            # Times that cannot be read come first: they may be why.
            raise _bad_rows(file) from None
        raise


def _complete(rows: Rows, interval: int, now: int) -> tuple[Rows, list[str]]:
    """Leave out the candles that are not over."""
    is_over = rows.open_time // 1000 + interval <= now
    if is_over.all():
        return rows, []
    first = format_time(int(rows.open_time[~is_over].min()) // 1000)
    count = int((~is_over).sum())
    what = "the candle" if count == 1 else f"{count} candles"
    return rows.where(is_over), [f"left out {what} from {first} on, which are not over"]


def _volume(
    rows: Rows, instrument: Instrument, no_volume: bool
) -> tuple["np.ndarray[tuple[int], np.dtype[np.float64]]", str, list[str]]:
    if no_volume or not rows.volumes:
        words = "not used" if no_volume else "none in the file"
        return np.zeros(len(rows)), words, []
    choice = choose_volume(
        rows.volumes, (rows.prices["low"], rows.prices["high"]), instrument.base, instrument.quote
    )
    notes = []
    if choice.contradictions:
        notes.append(
            f"in {choice.contradictions} rows the columns of volume seem to be the other way round"
        )
    return rows.volumes[choice.column], f"{choice.column} ({choice.reason})", notes


def _bad_rows(file: ReadFile) -> BadRows:
    problems = file.problems
    return BadRows(file.name, problems.first, problems.count, problems.unit)
