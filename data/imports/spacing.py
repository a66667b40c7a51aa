"""The interval of a series, told from its open times and held against what is declared."""

import re

import numpy as np
from numpy.typing import NDArray

from candlestep.data.errors import UnreadableFile
from candlestep.sandbox.clock import DAY, HOUR, INTERVALS, MINUTE, format_time, interval_name

Integers = NDArray[np.int64]


_INTERVAL_LIKE = re.compile(r"\d{1,2}[smhdwM]|1mo")
_LENGTHS = frozenset(INTERVALS.values())
_MONTHS = ("1M", "1mo")
_SHORTEST_MONTH, _LONGEST_MONTH = 28 * DAY, 31 * DAY
_MOST_PHASES = 4
"""The phases that one file may have: two sessions a day, and other hours in summer."""
_LATEST_START = 8 * HOUR
"""The latest midnight, in UTC, of a zone in which 16:00 is on the same UTC day."""
_NEARLY_ALL = 0.9
"""The share of the spacings from which on a single one tells the interval."""
_LEAST_SHARE = 0.01
"""The share of the rows that a phase other than the most common one must have."""


def interval_from_name(file_name: str) -> int | None:
    """Return the interval in a name, in milliseconds; None without one.

    Raises ``UnreadableFile`` for an interval that is not supported.
    """
    for word in re.split(r"[-_. ]+", file_name):
        if word in INTERVALS:
            return INTERVALS[word]
        if _INTERVAL_LIKE.fullmatch(word):
            advice = "; import the days instead of months" if word in _MONTHS else ""
            raise UnreadableFile(
                file_name,
                f"its name says that its candles are of {word}; only {', '.join(INTERVALS)}"
                f" can be imported{advice} (if the name is wrong, give --interval)",
            )
    return None


def shared_delay(open_times: Integers) -> int:
    """Return the time after a whole minute that all candles share, 0 if they share none."""
    delays = open_times % MINUTE
    return int(delays[0]) if len(open_times) >= 2 and (delays == delays[0]).all() else 0


def told_interval(file: str, open_times: Integers) -> int:
    """Return the interval that sorted, distinct open times tell: the smallest and most common.

    Raises ``UnreadableFile`` if they tell none that is supported.
    """
    spacings, counts = np.unique(np.diff(open_times), return_counts=True)
    if not len(spacings):
        raise UnreadableFile(
            file, "the interval of its candles cannot be told from one row; give it with --interval"
        )
    common = int(spacings[counts.argmax()])
    if common in _LENGTHS and int(spacings.min()) == common:
        return common
    if _SHORTEST_MONTH <= common <= _LONGEST_MONTH:
        raise UnreadableFile(
            file, "its candles are of months, whose length varies; import the days instead"
        )
    raise UnreadableFile(
        file,
        f"the interval of its candles cannot be told: most rows are {_duration(common)} apart, the"
        f" nearest {_duration(int(spacings.min()))}; give it with --interval, which is one of"
        f" {', '.join(INTERVALS)}",
    )


def require_interval(file: str, interval: int, open_times: Integers) -> None:
    """Raise ``UnreadableFile`` if the sorted open times tell that the interval is wrong.

    The interval is what the caller or the file's name declares. It is wrong if no two of the times
    are one interval apart, or if nearly all are another one apart: a row at a time of its own does
    not make minutes of half hours.
    """
    spacings, counts = np.unique(np.diff(open_times), return_counts=True)
    if not len(spacings):
        return
    common = int(spacings[counts.argmax()])
    most, total = int(counts.max()), int(counts.sum())
    if interval in spacings and (common == interval or most <= _NEARLY_ALL * total):
        return
    if interval in spacings:
        raise UnreadableFile(
            file,
            f"{most:,} of its {total + 1:,} rows are {_duration(common)} after the one before, so"
            f" they are not {interval_name(interval)} candles; remove the rows between them",
        )
    remedy = f"; give --interval {interval_name(common)}" if common in _LENGTHS else ""
    raise UnreadableFile(
        file,
        f"rows are {_duration(common)} apart; no two are {_duration(interval)} apart, so they are"
        f" not {interval_name(interval)} candles{remedy}",
    )


def refuse_overlaps(file: str, interval: int, open_times: Integers) -> None:
    """Raise ``UnreadableFile`` if any of the sorted open times are less than one interval apart."""
    spacings = np.diff(open_times)
    rows = np.flatnonzero(spacings < interval)
    if len(rows):
        raise UnreadableFile(
            file,
            f"{len(rows)} candles overlap: {format_time(int(open_times[rows[0] + 1]))} is only"
            f" {_duration(int(spacings[rows[0]]))} after the open time before it, and not"
            f" {_duration(interval)}",
        )


def refuse_odd_minutes(file: str, interval: int, open_times: Integers) -> None:
    """Raise ``UnreadableFile`` if candles open at a minute that hardly any others open at.

    Series have a phase, such as hourly from 09:30. It may change by whole hours with the clocks,
    and a market with two sessions a day may have two.
    """
    phases = open_times % (min(interval, HOUR))
    if (phases == phases[0]).all():
        return
    known, places, counts = np.unique(phases, return_inverse=True, return_counts=True)
    most = min(_MOST_PHASES, max(2, interval // MINUTE // 2))
    common = np.argsort(-counts, kind="stable")[:most]
    is_usual = np.zeros(len(known), dtype=bool)
    is_usual[common[counts[common] >= max(2, _LEAST_SHARE * len(open_times))]] = True
    is_usual[common[:1]] = True
    odd = open_times[~is_usual[places]]
    if len(odd):
        raise UnreadableFile(
            file,
            f"{len(odd)} open at other minutes than candles of {interval_name(interval)} do in this"
            f" file, such as {format_time(int(odd[0]))}",
        )


def utc_days(file: str, open_times: Integers) -> Integers:
    """Return the midnight UTC before each open time of a daily candle.

    As a UTC day, a candle is complete at the next midnight, so its market must have closed by then.
    Raises ``UnreadableFile`` where it may not have: where a day begins late, such as at 16:00 of
    the day before, or where the market never closes.
    """
    times_of_day = open_times % DAY
    late = open_times[times_of_day > _LATEST_START]
    if len(late):
        raise UnreadableFile(
            file,
            f"as UTC days its candles would be known before they are over: the one of"
            f" {format_time(int(late[0]))} begins too late in the day for its market to close by"
            " midnight UTC; leave out --as-dates, and they are complete a day after they open",
        )
    weekdays = np.unique(open_times // DAY % 7)
    if len(weekdays) == 7 and times_of_day.any():
        raise UnreadableFile(
            file,
            "as UTC days its candles would be known before they are over: it has candles of all seven"
            " days of the week, so its market does not close; leave out --as-dates, and they are"
            " complete a day after they open",
        )
    return open_times - times_of_day


def _duration(milliseconds: int) -> str:
    """Return a duration in words: ``30 minutes``, ``1 day``."""
    for name, length in (
        ("week", 604_800_000),
        ("day", 86_400_000),
        ("hour", 3_600_000),
        ("minute", MINUTE),
    ):
        if milliseconds % length == 0:
            count = milliseconds // length
            return f"{count} {name}" + ("" if count == 1 else "s")
    return f"{milliseconds / 1000:g} seconds"
