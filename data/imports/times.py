"""Times in candle files: text or numbers of many forms, read as microseconds since the epoch.

A reading is believed only if no other one is possible. Numbers are told apart by their magnitude
within plausible times (1990 to the end of tomorrow), in which no two units overlap. Dates such as
06.01.2025 need a day above 12 somewhere in the file, or a format that is given.
"""

import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta, timezone
from itertools import chain
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from candlestep.data.errors import UnreadableFile

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
DAY = 86_400_000_000
EARLIEST = (datetime(1990, 1, 1, tzinfo=UTC) - EPOCH) // MICROSECOND
"""The earliest plausible time, in microseconds."""

_PER_MICROSECOND = {"seconds": 1e-6, "milliseconds": 1e-3, "microseconds": 1.0, "nanoseconds": 1e3}
"""The units of times that are numbers, and how much of each a microsecond is."""
_DATE_DIGITS = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
"""Dates that are written as whole numbers, by their number of digits."""

_NUMBER = re.compile(r"[+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?", re.ASCII)
_CLOCK = (
    r"(?P<hour>\d{1,2})"
    r"(?:(?::(?P<minute>\d{2})(?::(?P<second>\d{2})(?:[.,](?P<fraction>\d{1,9}))?)?)"
    r"|(?P<minutes>\d{2})(?P<seconds>\d{2})?)?"
    r"(?:[ -]?(?P<half>[AP]M))?"
    r"(?: ?(?P<zone>Z|UTC|GMT|[+-]\d{2}(?::?\d{2})?))?"
)
_TIME_OF_DAY = re.compile(_CLOCK, re.ASCII | re.IGNORECASE)
_YEAR_FIRST = re.compile(
    r"(?P<year>\d{4})(?P<mark>[-./])(?P<month>\d{1,2})(?P=mark)(?P<day>\d{1,2})"
    rf"(?:(?:T|,?\s+){_CLOCK})?",
    re.ASCII | re.IGNORECASE,
)
_YEAR_LAST = re.compile(
    r"(?P<left>\d{1,2})(?P<mark>[-./])(?P<right>\d{1,2})(?P=mark)(?P<year>\d{4})"
    rf"(?:(?:T|,?\s+){_CLOCK})?",
    re.ASCII | re.IGNORECASE,
)
_COMPACT = re.compile(
    rf"(?P<year>\d{{4}})(?P<month>\d{{2}})(?P<day>\d{{2}})(?:T|\s+){_CLOCK}",
    re.ASCII | re.IGNORECASE,
)

DateOrder = Literal["day first", "month first"]


class TimeForm(NamedTuple):
    """The form in which a file writes its times."""

    kind: Literal["number", "text", "pattern", "time of day"]
    order: DateOrder | None = None
    """The order of day and month, where the year comes last."""
    pattern: str | None = None
    """The format given by the caller, in the directives of ``strptime``."""
    day: date | None = None
    """The day given by the caller, for times that have no date."""


def end_of_tomorrow(now: int) -> int:
    """Return the latest plausible time, in microseconds; ``now`` is in milliseconds."""
    return (now * 1000 // DAY + 2) * DAY


def tell_form(
    file: str, values: Iterable[str], pattern: str | None = None, day: date | None = None
) -> TimeForm:
    """Tell the form of the times of a file from all of them.

    Raises ``UnreadableFile`` where two readings are possible, naming both.
    """
    if day is not None:
        return TimeForm("time of day", day=day)
    if pattern is not None:
        return TimeForm("pattern", pattern=pattern)
    texts = (value.strip() for value in values)
    first = next(texts, "")
    if _NUMBER.fullmatch(first):
        return TimeForm("number")
    if not _YEAR_LAST.fullmatch(first):
        return TimeForm("text")
    return TimeForm("text", order=_date_order(file, chain([first], texts)))


def _date_order(file: str, texts: Iterable[str]) -> DateOrder:
    """Tell the order of day and month from the first part that cannot be a month."""
    example = None
    for text in texts:
        parts = _YEAR_LAST.fullmatch(text)
        if parts is None:
            continue
        left, right = int(parts["left"]), int(parts["right"])
        if left > 12:
            return "day first"
        if right > 12:
            return "month first"
        if example is None or left != right:
            example = parts
    assert example is not None
    mark, clock = example["mark"], _clock_directives(example)
    left, right, year = int(example["left"]), int(example["right"]), example["year"]
    patterns = [mark.join(order) + clock for order in (("%d", "%m", "%Y"), ("%m", "%d", "%Y"))]
    raise UnreadableFile(
        file,
        f"its times cannot be read for certain: {example[0]!r} is {year}-{right:02}-{left:02} with"
        f" the day first, and {year}-{left:02}-{right:02} with the month first; give"
        f" --time-format '{patterns[0]}' or --time-format '{patterns[1]}'",
    )


def _clock_directives(parts: "re.Match[str]") -> str:
    """Return the directives for the time of day of a matched time."""
    if parts["hour"] is None:
        return ""
    directives = " %I" if parts["half"] else " %H"
    if parts["minute"]:
        directives += ":%M"
    if parts["second"]:
        directives += ":%S"
    if parts["fraction"]:
        directives += ".%f"
    if parts["half"]:
        directives += " %p"
    return directives + (" %z" if parts["zone"] else "")


def read_times(values: Sequence[str], form: TimeForm, latest: int) -> Integers:
    """Return times in microseconds since the epoch; text without an offset is UTC.

    ``latest`` is the latest plausible time. Raises ``ValueError`` with the reason for the first
    value that is not a plausible time.
    """
    match form.kind:
        case "time of day":
            assert form.day is not None
            return _times_of_day(values, form.day)
        case "pattern":
            assert form.pattern is not None
            moments = (_by_pattern(value, form.pattern) for value in values)
        case "number" | "text":
            if all(map(_is_number, values)):
                return number_times(np.fromiter(map(float, values), np.float64), latest)
            moments = (_by_number_or_text(value.strip(), form.order, latest) for value in values)
    times = np.fromiter(moments, np.int64, len(values))
    _require_plausible(times, values, latest)
    return times


def number_times(numbers: Floats, latest: int) -> Integers:
    """Return times that are numbers in microseconds, each in the one unit that is plausible."""
    times = np.zeros(len(numbers), dtype=np.int64)
    is_read = np.zeros(len(numbers), dtype=bool)
    for per_microsecond in _PER_MICROSECOND.values():
        first, last = EARLIEST * per_microsecond, latest * per_microsecond
        fits = (numbers >= first) & (numbers < last)
        times[fits] = np.rint(numbers[fits] / per_microsecond).astype(np.int64)
        is_read |= fits
    for place in np.flatnonzero(~is_read).tolist():
        times[place] = _by_digits(float(numbers[place]))
    _require_plausible(times, numbers.tolist(), latest)
    return times


def unit_of(number: float, latest: int) -> str:
    """Return the name of the unit in which a number is a plausible time."""
    for unit, per_microsecond in _PER_MICROSECOND.items():
        if EARLIEST * per_microsecond <= number < latest * per_microsecond:
            return unit
    return "YYYYMMDDHHMMSS"[: len(str(int(number)))]


def describe(form: TimeForm, example: str, latest: int) -> str:
    """Return the form of times in words, for the summary of an import."""
    match form.kind:
        case "number":
            return unit_of(float(example), latest)
        case "pattern":
            return f"format {form.pattern}"
        case "time of day":
            return f"times of {form.day}"
        case _:
            order = "" if form.order is None else f", {form.order}"
            zone = _zone_of(example.strip())
            return f"text{order}, {'UTC (no zone is named)' if zone is None else f'zone {zone}'}"


def _zone_of(text: str) -> str | None:
    for pattern in (_YEAR_FIRST, _YEAR_LAST, _COMPACT):
        parts = pattern.fullmatch(text)
        if parts is not None:
            return parts["zone"]
    return None


def _is_number(value: str) -> bool:
    return _NUMBER.fullmatch(value.strip()) is not None


def _by_digits(number: float) -> int:
    """Return the time that a whole number such as 20250131 writes as a date."""
    text = f"{number:.0f}"
    pattern = _DATE_DIGITS.get(len(text))
    if pattern is None or number != int(number):
        raise ValueError(_implausible(number))
    try:
        return _microseconds(datetime.strptime(text, pattern).replace(tzinfo=UTC))
    except ValueError:
        raise ValueError(_implausible(number)) from None


def _by_number_or_text(text: str, order: DateOrder | None, latest: int) -> int:
    """Return a time of a file that writes some as numbers and some as text."""
    if _is_number(text):
        return int(number_times(np.array([float(text)]), latest)[0])
    return _by_text(text, order)


def _by_text(text: str, order: DateOrder | None) -> int:
    if order is None and text[4:5] == "-":
        with suppress(ValueError):  # Fast, and enough for most files.
            moment = datetime.fromisoformat(text)
            return _microseconds(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    parts = (_YEAR_LAST if order else _YEAR_FIRST).fullmatch(text) or _COMPACT.fullmatch(text)
    if parts is None:
        raise ValueError(_not_a_time(text))
    if order is None or parts.re is _COMPACT:
        month, day = int(parts["month"]), int(parts["day"])
    else:
        left, right = int(parts["left"]), int(parts["right"])
        day, month = (left, right) if order == "day first" else (right, left)
    try:
        midnight = datetime(int(parts["year"]), month, day, tzinfo=UTC)
        return _microseconds(midnight) + _clock_microseconds(parts)
    except ValueError:
        raise ValueError(_not_a_time(text)) from None


def _by_pattern(value: str, pattern: str) -> int:
    try:
        moment = datetime.strptime(value.strip(), pattern)
    except ValueError:
        raise ValueError(f"time {value[:40]!r} does not match the format {pattern!r}") from None
    return _microseconds(moment if moment.tzinfo else moment.replace(tzinfo=UTC))


def _clock_microseconds(parts: "re.Match[str]") -> int:
    """Return the microseconds from midnight UTC to the time of day of a matched time."""
    if parts["hour"] is None:
        return 0
    hour = int(parts["hour"])
    if parts["half"]:
        if not 1 <= hour <= 12:
            raise ValueError("hour")
        hour = hour % 12 + (12 if parts["half"].upper() == "PM" else 0)
    minute = int(parts["minute"] or parts["minutes"] or 0)
    second = int(parts["second"] or parts["seconds"] or 0)
    if hour > 23 or minute > 59 or second > 59:
        raise ValueError("time of day")
    fraction = int((parts["fraction"] or "").ljust(6, "0")[:6])
    offset = _offset(parts["zone"])
    return ((hour * 60 + minute) * 60 + second) * 10**6 + fraction - offset // MICROSECOND


def _offset(zone: str | None) -> timedelta:
    if zone is None or zone.upper() in ("Z", "UTC", "GMT"):
        return timedelta()
    digits = zone[1:].replace(":", "").ljust(4, "0")
    offset = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    timezone(offset)  # Raises ValueError for an offset of a day or more.
    return -offset if zone[0] == "-" else offset


def _times_of_day(values: Sequence[str], day: date) -> Integers:
    """Return the times of a day, written as a clock, in seconds or in milliseconds."""
    midnight = _microseconds(datetime(day.year, day.month, day.day, tzinfo=UTC))
    if all(map(_is_number, values)):
        numbers = np.fromiter(map(float, values), np.float64, len(values))
        factor = 1e6 if numbers.max(initial=0) < DAY / 1e6 else 1e3
        times = np.rint(numbers * factor).astype(np.int64)
        if not ((times >= 0) & (times < DAY)).all():
            raise ValueError("time is not within a day in seconds or milliseconds")
        return midnight + times
    clocks = [_TIME_OF_DAY.fullmatch(value.strip()) for value in values]
    for value, parts in zip(values, clocks, strict=True):
        if parts is None:
            raise ValueError(_not_a_time(value))
    since_midnight = (_clock_microseconds(parts) for parts in clocks if parts is not None)
    return midnight + np.fromiter(since_midnight, np.int64, len(values))


def _require_plausible(times: Integers, values: Sequence[object], latest: int) -> None:
    wrong = np.flatnonzero((times < EARLIEST) | (times >= latest))
    if len(wrong):
        raise ValueError(_implausible(values[int(wrong[0])]))


def _not_a_time(value: str) -> str:
    if not value.strip():
        return "time is missing"
    return f"time {value.strip()[:40]!r} is not a time that is known; give --time-format"


def _implausible(value: object) -> str:
    is_long = isinstance(value, float) and abs(value) < 1e18
    text = f"{value:.0f}" if is_long else str(value).strip()[:40]
    return (
        f"time {text} is not between 1990 and tomorrow in any unit; if times are of one day, give"
        " the day with --date"
    )


def _microseconds(moment: datetime) -> int:
    return (moment - EPOCH) // MICROSECOND
