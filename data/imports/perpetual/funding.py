"""Funding rates of a file: the rules that its rows must obey, checked column by column."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from candlestep.data.errors import BadRow, BadRows, UnreadableFile
from candlestep.data.imports.evidence import evidence_of_name, pair_of
from candlestep.data.imports.numbers import Floats
from candlestep.data.imports.perpetual.intervals import (
    find_holes,
    stated_intervals,
    told_intervals,
)
from candlestep.data.imports.reading import ImportOptions, Integers, ReadFile, Rows
from candlestep.data.imports.series import Taken, groups_of, refuse_several, row_notes
from candlestep.data.symbols import Pair
from candlestep.sandbox import interval_name
from candlestep.sandbox.clock import INTERVALS, MINUTE, format_time, parse_interval
from candlestep.sandbox.money import MAXIMUM

Mask = NDArray[np.bool_]

_LEAST_ROWS = 3
_LARGE = 0.005
"""The middle of the rates of a file from which on they may be percents, or something else."""


@dataclass(frozen=True)
class FundingColumns:
    """Checked settlements of one perpetual, sorted by their times, which are all different."""

    time: Integers
    """Milliseconds since the epoch, on a whole minute."""
    raw_time: Integers
    """The time as the file has it, in milliseconds."""
    rate: Floats
    """The part of the notional that longs pay to shorts."""
    interval: Integers
    """Milliseconds until the next settlement."""
    mark: Floats
    """The mark price of the settlement; NaN where the file has none."""

    def __len__(self) -> int:
        return len(self.time)

    def columns(self) -> tuple[Integers, Integers, Floats, Integers, Floats]:
        """Return time, raw time, rate, interval and mark."""
        return self.time, self.raw_time, self.rate, self.interval, self.mark

    def where(self, rows: Mask | slice) -> "FundingColumns":
        """Return the settlements that ``rows`` selects."""
        return FundingColumns(
            self.time[rows],
            self.raw_time[rows],
            self.rate[rows],
            self.interval[rows],
            self.mark[rows],
        )


@dataclass(frozen=True)
class ReadFunding:
    """The funding rates of one perpetual in a file, ready to be imported."""

    pair: Pair
    funding: FundingColumns
    taken: Taken


def funding_of(
    file: ReadFile, options: ImportOptions, now: int, is_certain: bool = False
) -> list[ReadFunding]:
    """Return the funding rates of a file, one for each symbol in it; ``now`` is in milliseconds.

    ``is_certain`` says that the caller has named them as such. Raises ``UnreadableFile`` or
    ``BadRows`` if any of them cannot be what it should be.
    """
    groups, _ = groups_of(file, file.rows)
    if not len(file.rows):
        if file.problems.count:
            raise BadRows(file.name, file.problems.first, file.problems.count, file.problems.unit)
        raise UnreadableFile(file.name, "it has no funding rates")
    refuse_several(file.name, options.symbol, groups)
    several = len(groups) > 1
    return [
        _funding(file, name, rows, options, now, several, is_certain)
        for name, rows in groups.items()
    ]


def refuse_contradictions(archive: str, contents: Sequence[ReadFunding]) -> None:
    """Raise ``UnreadableFile`` if files of an archive have other rates for the same settlement."""
    known: dict[tuple[str, int], float] = {}
    for one in contents:
        symbol = one.pair.symbol
        for time, rate in zip(one.funding.time.tolist(), one.funding.rate.tolist(), strict=True):
            if known.setdefault((symbol, time), rate) != rate:
                raise UnreadableFile(
                    archive,
                    f"several of its files have other funding rates of {symbol} at"
                    f" {format_time(time)}; import the right file alone",
                )


def _funding(
    file: ReadFile,
    name_in_rows: str | None,
    rows: Rows,
    options: ImportOptions,
    now: int,
    several: bool,
    is_certain: bool,
) -> ReadFunding:
    notes = row_notes(file)
    quote = file.layout.quote
    if name_in_rows is not None and quote is not None:
        # Its rows name the coin alone, or with USD, which stands for what it margins in.
        name_in_rows = re.sub(r"[-/]USDC?$", "", name_in_rows)
        is_named = not several and evidence_of_name(file.name).symbol is not None
        if options.symbol is None and not is_named:
            name_in_rows = f"{name_in_rows}/{quote}"
            notes.append(f"the exchange of this layout margins in {quote}")
    pair = pair_of(file.name, options.symbol, name_in_rows, several, is_perp=True)
    rows, coming = _settled(file.name, rows, now)
    notes += coming
    times = _minutes(rows.open_time)
    rows, times = _distinct(file, rows, times)
    if not is_certain:
        _require_small(file.name, rows.prices["rate"])
    intervals, words = _intervals(file.name, rows, times, options.interval)
    raw = rows.open_time // 1000
    off = int(np.abs(raw - times).max())
    if off:
        notes.append(f"times are up to {off:,} ms off a whole minute; they were rounded to it")
    holes = find_holes(times, intervals)
    if holes:
        noun = "hole" if len(holes) == 1 else "holes"
        first, until = map(format_time, holes[0])
        notes.append(f"{len(holes)} {noun} between settlements, such as from {first} until {until}")
    mark = rows.prices.get("mark", np.full(len(rows), np.nan))
    columns = FundingColumns(times, raw, rows.prices["rate"] + 0.0, intervals, mark)
    names = file.layout.names
    taken = Taken(
        f"{file.layout.time_name}: {file.times}",
        ", ".join(
            f"{name} {names[place]}"
            for name, place in file.layout.prices.items()
            if name in ("rate", "mark")
        ),
        "none",
        f"{pair.symbol} (perpetual of {pair.base}, margined in {pair.quote})",
        words,
        tuple(notes),
        "funding",
    )
    return ReadFunding(pair, columns, taken)


def _settled(file: str, rows: Rows, now: int) -> tuple[Rows, list[str]]:
    """Leave out the settlements to come, whose rates are not known. Raises if none is over."""
    is_over = rows.open_time // 1000 <= now
    if is_over.all():
        return rows, []
    first = format_time(int(rows.open_time[~is_over].min()) // 1000)
    if not is_over.any():
        raise UnreadableFile(
            file, f"none of its settlements is over: the first is at {first}; import it later"
        )
    return rows.where(is_over), [
        f"left out {int((~is_over).sum())} settlements from {first} on, which are to come"
    ]


def _minutes(microseconds: Integers) -> Integers:
    """Return the minutes that are nearest to times, in milliseconds."""
    unit = MINUTE * 1000
    return (microseconds + unit // 2) // unit * MINUTE


def _distinct(file: ReadFile, rows: Rows, times: Integers) -> tuple[Rows, Integers]:
    """Return the rows sorted by time, without those that repeat another.

    Raises ``BadRows`` if a row breaks a rule, or if the file has a problem already.
    """
    rules = _rules(rows.prices)
    broken = np.zeros(len(rows), dtype=np.int8)
    for number, (mask, _) in enumerate(rules, 1):
        broken[(broken == 0) & mask] = number
    order = np.argsort(times, kind="stable")
    order = order[broken[order] == 0]
    repeats = np.zeros(len(order), dtype=bool)
    repeats[1:] = times[order][1:] == times[order][:-1]
    same = repeats.copy()
    for column in rows.prices.values():
        values = column[order]
        same[1:] &= (values[1:] == values[:-1]) | (np.isnan(values[1:]) & np.isnan(values[:-1]))
    broken[order[repeats & ~same]] = -1
    wrong = np.flatnonzero(broken)
    if len(wrong) or file.problems.count:
        bad = [
            BadRow(
                int(rows.line[row]), _reason(rules, int(broken[row]), rows, int(times[row]), row)
            )
            for row in wrong[: BadRows.SHOWN].tolist()
        ]
        first = sorted([*bad, *file.problems.first], key=lambda row: row.line)
        raise BadRows(file.name, first, len(wrong) + file.problems.count, file.problems.unit)
    distinct = order[~repeats]
    return rows.where(distinct), times[distinct]


def _rules(numbers: dict[str, Floats]) -> list[tuple[Mask, str]]:
    """Return, for each rule, the rows that break it and the reason; ``{name}`` is a number."""
    rate = numbers["rate"]
    rules = [
        (np.isnan(rate), "rate is missing"),
        (np.abs(rate) >= 1, "rate {rate} is not between -1 and 1, so it is no funding rate"),
    ]
    for name, value in numbers.items():
        if name not in ("rate", "interval", "mark"):
            reason = f"{name} {{{name}}} is not 0, so the row is a candle and no funding rate"
            rules.append(((value != 0) & ~np.isnan(value), reason))
    if "mark" in numbers:
        mark = numbers["mark"]
        rules.append(((mark <= 0) | (mark > float(MAXIMUM)), "mark {mark} is no price"))
    if "interval" in numbers:
        is_none = stated_intervals(numbers["interval"]) == 0
        rules.append((is_none, "interval {interval} is no number of hours up to 24"))
    return rules


def _reason(rules: list[tuple[Mask, str]], broken: int, rows: Rows, time: int, row: int) -> str:
    if broken < 0:
        return (
            f"{format_time(time)}, to which times are rounded, occurs twice, with different values"
        )
    values = {name: repr(float(column[row])) for name, column in rows.prices.items()}
    return rules[broken - 1][1].format(**values)


def _require_small(file: str, rates: Floats) -> None:
    """Raise ``UnreadableFile`` if the rates are so large that they may be percents."""
    middle = float(np.median(np.abs(rates)))
    if len(rates) >= _LEAST_ROWS and middle >= _LARGE:
        raise UnreadableFile(
            file,
            f"half of its rates are {middle:g} or more, which is {middle:.2%} of a position at each"
            " settlement; if they are percents, divide them by 100, and if they are not, give --kind"
            " funding",
        )


def _intervals(
    file: str, rows: Rows, times: Integers, given: str | int | None
) -> tuple[Integers, str]:
    """Return the interval of each settlement, and all of them in words."""
    declared = None if given is None else parse_interval(given)
    if "interval" in rows.prices:
        intervals, source = stated_intervals(rows.prices["interval"]), ""
        if declared is not None and (intervals != declared).any():
            raise UnreadableFile(
                file,
                f"--interval says {interval_name(declared)}, but its column says"
                f" {_in_words(intervals)}; leave out --interval",
            )
    elif declared is not None:
        if len(times) > 1 and float(np.median(np.diff(times))) < declared:
            raise UnreadableFile(
                file,
                f"most of its settlements are nearer to each other than {interval_name(declared)},"
                " the --interval that was given",
            )
        intervals, source = np.full(len(times), declared, dtype=np.int64), " (as given)"
    else:
        intervals, source = told_intervals(file, times), " (told from the times)"
    return intervals, _in_words(intervals) + source


def _in_words(intervals: Integers) -> str:
    """Return the shortest and the longest of intervals: ``8h``, ``1h to 8h``."""
    shortest, longest = _name(int(intervals.min())), _name(int(intervals.max()))
    return shortest if shortest == longest else f"{shortest} to {longest}"


def _name(interval: int) -> str:
    return (
        interval_name(interval)
        if interval in INTERVALS.values()
        else f"{interval / MINUTE:g} minutes"
    )
