"""The series in a file: one for each symbol, with an interval, a volume, and checked candles."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from candlestep.data.errors import BadRow, BadRows, UnreadableFile
from candlestep.data.imports.evidence import evidence_of_text, pair_of, require_importable
from candlestep.data.imports.kinds import Kind
from candlestep.data.imports.reading import (
    ImportOptions,
    Integers,
    ReadFile,
    Rows,
    by_symbol,
    without_trades,
)
from candlestep.data.imports.spacing import (
    interval_from_name,
    refuse_odd_minutes,
    refuse_overlaps,
    require_interval,
    shared_delay,
    told_interval,
    utc_days,
)
from candlestep.data.imports.validation import CandleColumns, check
from candlestep.data.imports.volumes import choose_volume
from candlestep.data.symbols import Pair
from candlestep.sandbox import InvalidSymbol
from candlestep.sandbox.clock import DAY, HOUR, format_time, interval_name, parse_interval


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
    kind: Kind = "candles"


@dataclass(frozen=True)
class ReadSeries:
    """A series of a file: checked candles, or those of mark prices, ready to be imported."""

    pair: Pair
    interval: int
    """Milliseconds."""
    candles: CandleColumns
    taken: Taken
    kind: Kind = "candles"
    """``candles`` or ``mark``."""


def series_of(
    file: ReadFile, options: ImportOptions, now: int, is_perp: bool = False
) -> list[ReadSeries]:
    """Return the series of a file; ``now`` is the time in milliseconds.

    ``is_perp`` says that something else than the rows tells a perpetual. Raises ``UnreadableFile``
    or ``BadRows`` if any of them cannot be what it should be, so that a file is imported as a whole
    or not at all.
    """
    rows, empty = without_trades(file.rows)
    groups, says_perp = groups_of(file, rows)
    is_perp = is_perp or says_perp or file.layout.is_futures
    if not len(rows):
        raise (
            _bad_rows(file)
            if file.problems.count
            else UnreadableFile(file.name, "it has no candles")
        )
    refuse_several(file.name, options.symbol, groups)
    notes = row_notes(file)
    if file.zone is not None:
        notes.append(file.zone.note)
    if empty:
        noun = "row" if empty == 1 else "rows"
        notes.append(f"left out {empty} {noun} without prices, as gaps")
    others = list(groups.values())
    return [
        _series(file, name, group, options, now, notes, others, is_perp)
        for name, group in groups.items()
    ]


def row_notes(file: ReadFile) -> list[str]:
    """Return what is said of the rows of a file of any kind: lines left out, digits not kept."""
    notes = [f"left out {line}" for line in file.left_out]
    if file.problems.inexact_count:
        example = file.problems.inexact[0]
        notes.append(
            f"{file.problems.inexact_count} numbers have more digits than are kept: "
            f"{file.problems.unit} {example.line}: {example.reason}"
        )
    return notes


def refuse_several(file: str, symbol: str | None, groups: Mapping[str | None, Rows]) -> None:
    """Raise ``UnreadableFile`` if one symbol is given for a file of several."""
    if symbol is not None and len(groups) > 1:
        listed = ", ".join(sorted(str(name) for name in groups))[:100]
        raise UnreadableFile(
            file,
            f"it has the rows of several symbols ({listed}); leave out --symbol to import each",
        )


def refuse_contradictions(archive: str, all_series: Sequence[ReadSeries]) -> None:
    """Raise ``UnreadableFile`` if files of an archive have other numbers for the same candle."""
    parts: dict[tuple[str, int, Kind], list[CandleColumns]] = {}
    for series in all_series:
        line = (series.pair.symbol, series.interval, series.kind)
        parts.setdefault(line, []).append(series.candles)
    for (symbol, interval, _), candles in parts.items():
        if len(candles) == 1:
            continue
        columns = [
            np.concatenate(column) for column in zip(*(c.numbers() for c in candles), strict=True)
        ]
        times = np.concatenate([one.open_time for one in candles])
        order = np.argsort(times, kind="stable")
        is_same_time = np.diff(times[order]) == 0
        is_other = np.logical_or.reduce([np.diff(column[order]) != 0 for column in columns])
        wrong = np.flatnonzero(is_same_time & is_other)
        if len(wrong):
            first = format_time(int(times[order][wrong[0]]))
            raise UnreadableFile(
                archive,
                f"several of its files have candles of {symbol} {interval_name(interval)} at the same"
                f" time with different values ({len(wrong)}), such as those of {first}; import the"
                " right file alone",
            )


def groups_of(file: ReadFile, rows: Rows) -> tuple[dict[str | None, Rows], bool]:
    """Return the rows of each symbol, by the first of its spellings, and whether they are perpetuals.

    Raises ``UnreadableFile`` for rows of what cannot be imported, and of spot and perpetuals in one
    file.
    """
    if rows.symbols is None:
        told = None if file.symbol is None else evidence_of_text(file.symbol)
        if told is not None:
            require_importable(file.name, told, "its symbol")
        return {file.symbol: rows}, told is not None and told.market == "perp"
    spellings: dict[tuple[str, bool], str] = {}
    first = {
        text: spellings.setdefault(_symbol_in_rows(file, rows, text), text)
        for text in dict.fromkeys(rows.symbols)
    }
    markets = {is_perp for _, is_perp in spellings}
    if len(markets) > 1:
        names = {is_perp: symbol for symbol, is_perp in spellings}
        raise UnreadableFile(
            file.name,
            f"it has rows of perpetuals, such as {names[True]}, beside those of spot pairs, such as"
            f" {names[False]}; import them from a file each",
        )
    if len(first) > len(spellings):
        rows.symbols = np.array([first[text] for text in rows.symbols], dtype=object)
    return by_symbol(rows), True in markets


def _symbol_in_rows(file: ReadFile, rows: Rows, text: str) -> tuple[str, bool]:
    """Return the symbol that a cell of the column of symbols names, and whether of a perpetual."""
    if not text:
        without = rows.line[rows.symbols == text]
        missing = [BadRow(int(line), "symbol is missing") for line in without[: BadRows.SHOWN]]
        raise BadRows(file.name, missing, len(without), file.problems.unit)
    try:
        evidence = evidence_of_text(text)
    except InvalidSymbol as error:
        raise UnreadableFile(file.name, f"in its column of symbols, {error}") from None
    require_importable(file.name, evidence, "its column of symbols")
    assert evidence.symbol is not None
    return evidence.symbol, evidence.market == "perp"


def _series(
    file: ReadFile,
    name_in_rows: str | None,
    rows: Rows,
    options: ImportOptions,
    now: int,
    notes: list[str],
    all_series: list[Rows],
    is_perp: bool,
) -> ReadSeries:
    several = len(all_series) > 1
    kind: Kind = "mark" if options.kind == "mark" else "candles"
    pair = pair_of(file.name, options.symbol, name_in_rows, several, is_perp)
    notes = list(notes)
    declared = _declared(file.name, options.interval)
    if options.as_dates:
        declared = declared or DAY
        notes += _as_utc_days(file.name, rows, declared)
    interval = declared or _told(file, rows, all_series)
    delay = shared_delay(rows.open_time // 1000)
    if 0 < delay < interval / 2:
        rows.open_time = rows.open_time + (interval - delay % interval) * 1000
        notes.append(
            f"all rows are {delay / 1000:g} seconds late; they were moved to the next"
            f" {interval_name(interval)}"
        )
    rows, unfinished = _complete(file.name, rows, interval, now)
    notes += unfinished
    _require_kind(file, rows, options.kind, is_perp)
    volume, volume_words, contradictions = _volume(
        file, rows, pair, options.no_volume or kind == "mark"
    )
    notes += contradictions
    candles = check(file.name, rows, volume, file.problems, interval)
    if declared is not None:
        require_interval(file.name, declared, candles.open_time)
    refuse_overlaps(file.name, interval, candles.open_time)
    refuse_odd_minutes(file.name, interval, candles.open_time)
    names = file.layout.names
    return ReadSeries(
        pair,
        interval,
        candles,
        Taken(
            f"{file.layout.time_name}: {file.times}",
            ", ".join(names[place] for place in file.layout.prices.values()),
            volume_words,
            f"{pair.symbol} ({pair.base} quoted in {pair.quote})"
            if not is_perp
            else f"{pair.symbol} (perpetual of {pair.base}, margined in {pair.quote})",
            interval_name(interval),
            tuple(notes),
            kind,
        ),
        kind,
    )


def _require_kind(file: ReadFile, rows: Rows, told: Kind | None, is_perp: bool) -> None:
    """Raise ``UnreadableFile`` if the volumes say that candles are mark prices, or the reverse."""
    has_volume = any((column > 0).any() for column in rows.volumes.values())
    if told == "mark" and has_volume:
        raise UnreadableFile(
            file.name,
            "it has a volume, which mark prices do not have, so it has candles; give --kind candles"
            " if they are",
        )
    if told == "mark":
        return
    if file.layout.is_futures and not has_volume:
        raise UnreadableFile(
            file.name,
            "it has no volume in any row, as mark and index prices in the public kline archive have;"
            " give --kind mark if they are mark prices (index prices cannot be imported)",
        )
    if is_perp and told is None and not has_volume:
        raise UnreadableFile(
            file.name,
            "it has prices of a perpetual without a volume; give --kind mark if they are mark"
            " prices, or --kind candles if they are the candles of trades",
        )


def _as_utc_days(file: str, rows: Rows, interval: int) -> list[str]:
    """Let daily rows open at the midnight UTC before they do; return that in words.

    Raises ``UnreadableFile`` where that might show the future.
    """
    if interval != DAY:
        raise UnreadableFile(
            file,
            f"only daily candles can be imported as dates, not those of {interval_name(interval)}",
        )
    require_interval(file, DAY, _distinct(rows.open_time // 1000))
    days = utc_days(file, rows.open_time // 1000)
    latest = int((rows.open_time // 1000 - days).max())
    rows.open_time = days * 1000
    if not latest:
        return []
    note = f"rows open up to {latest / HOUR:g} hours after midnight UTC; they were imported as UTC"
    return [f"{note} days, which are complete at the next midnight"]


def _declared(file: str, given: str | int | None) -> int | None:
    """Return the interval that the caller or the file's name declares, in milliseconds."""
    return interval_from_name(file) if given is None else parse_interval(given)


def _told(file: ReadFile, rows: Rows, all_series: list[Rows]) -> int:
    """Return the interval that the open times of a series tell, in milliseconds.

    The only row of a symbol has the interval of the others.
    """
    open_times = _distinct(rows.open_time // 1000)
    try:
        if len(all_series) > 1 and len(open_times) < 2:
            return _told_by_others(file, all_series)
        return told_interval(file.name, open_times)
    except UnreadableFile:
        if file.problems.count:
            # Times that cannot be read come first: they may be why.
            raise _bad_rows(file) from None
        raise


def _told_by_others(file: ReadFile, all_series: list[Rows]) -> int:
    """Return the one interval of the symbols that have several rows, or of all rows together."""
    times = [_distinct(rows.open_time // 1000) for rows in all_series]
    told = {told_interval(file.name, one) for one in times if len(one) > 1}
    if len(told) > 1:
        listed = ", ".join(map(interval_name, sorted(told)))
        raise UnreadableFile(
            file.name,
            f"a symbol has one row, and the others are of several intervals ({listed}); import it"
            " from a file of its own, with --interval",
        )
    return told.pop() if told else told_interval(file.name, _distinct(np.concatenate(times)))


def _distinct(times: Integers) -> Integers:
    """Return the different times, sorted. Most are sorted already, so this beats ``np.unique``."""
    in_order = np.sort(times, kind="stable")
    is_first = np.ones(len(times), dtype=bool)
    is_first[1:] = in_order[1:] != in_order[:-1]
    return in_order[is_first]


def _complete(file: str, rows: Rows, interval: int, now: int) -> tuple[Rows, list[str]]:
    """Leave out the candles that are not over. Raises ``UnreadableFile`` if none is."""
    is_over = rows.open_time // 1000 + interval <= now
    if is_over.all():
        return rows, []
    first = format_time(int(rows.open_time[~is_over].min()) // 1000)
    if not is_over.any():
        raise UnreadableFile(
            file,
            f"none of its candles of {interval_name(interval)} is over: the first opens at {first};"
            " import it when they are",
        )
    count = int((~is_over).sum())
    what = (
        f"the candle of {first}, which is"
        if count == 1
        else f"{count} candles from {first} on, which are"
    )
    return rows.where(is_over), [f"left out {what} not over"]


def _volume(
    file: ReadFile, rows: Rows, pair: Pair, no_volume: bool
) -> tuple["np.ndarray[tuple[int], np.dtype[np.float64]]", str, list[str]]:
    if no_volume or not rows.volumes:
        words = "not used" if no_volume else "none in the file"
        return np.zeros(len(rows)), words, []
    choice = choose_volume(
        rows.volumes, (rows.prices["low"], rows.prices["high"]), pair.base, pair.quote
    )
    if choice is None:
        listed = " and ".join(rows.volumes)
        raise UnreadableFile(
            file.name,
            f"its volume ({listed}) counts {pair.quote}, the currency of the prices, and not"
            f" {pair.base}; give --no-volume to import its candles without a volume",
        )
    notes = []
    count = len(choice.contradictions)
    if count:
        line = int(rows.line[choice.contradictions].min())
        noun = "row" if count == 1 else "rows"
        notes.append(
            f"in {count} {noun} the columns of volume seem to be the other way round, such as"
            f" {file.problems.unit} {line}"
        )
    return rows.volumes[choice.column], f"{choice.column} ({choice.reason})", notes


def _bad_rows(file: ReadFile) -> BadRows:
    problems = file.problems
    return BadRows(file.name, problems.first, problems.count, problems.unit)
