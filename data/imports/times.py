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
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from candlestep.data.errors import UnreadableFile

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
HOUR = 3_600_000_000
DAY = 24 * HOUR
EARLIEST = (datetime(1990, 1, 1, tzinfo=UTC) - EPOCH) // MICROSECOND
"""The earliest plausible time, in microseconds."""

_PER_MICROSECOND = {"seconds": 1e-6, "milliseconds": 1e-3, "microseconds": 1.0, "nanoseconds": 1e3}
"""The units of times that are numbers, and how much of each a microsecond is."""
_DATE_DIGITS = (8, 12, 14)
"""The numbers of digits of dates that are written as whole numbers, such as YYYYMMDD."""

NO_ZONE = "UTC (no zone is named)"

_NUMBER = re.compile(r"[+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?", re.ASCII)
_CLOCK = (
    r"(?P<hour>\d{1,2})"
    r"(?:(?::(?P<minute>\d{2})(?::(?P<second>\d{2})(?:[.,](?P<fraction>\d{1,9}))?)?)"
    r"|(?P<minutes>\d{2})(?P<seconds>\d{2})?)?"
    r"(?:[ -]?(?P<half>[AP]M))?"
    r"(?: ?(?P<zone>Z|(?:UTC|GMT)?[+-]\d{2}(?::?\d{2})?|UTC|GMT))?"
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

_DIRECTIVE = re.compile(r"%.", re.DOTALL)
_WIDTHS = {
    "%Y": "[0-9]{4}", "%f": "[0-9]{1,6}", "%p": "[AP]M", "%z": "[+-][01][0-9]:?[0-5][0-9]",
} | dict.fromkeys(("%m", "%d", "%H", "%I", "%M", "%S"), "[0-9]{2}")  # fmt: skip
"""Directives of ``strptime``, and regular expressions of what they read in their full width."""

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
    per_unit: int = 1000
    """The microseconds of a unit in which times of a day are numbers: seconds or milliseconds."""


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
        numbers = (float(value) for value in values if _is_number(value))
        in_seconds = max(numbers, default=0) < DAY / 1e6
        return TimeForm("time of day", day=day, per_unit=10**6 if in_seconds else 1000)
    if pattern is not None:
        if "%Z" in pattern:
            raise UnreadableFile(
                file,
                "the name of a zone (%Z in --time-format) does not tell its offset from UTC; write"
                " the times in UTC, or with an offset (%z)",
            )
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
            return _times_of_day(values, form.day, form.per_unit)
        case "pattern":
            assert form.pattern is not None
            moments = (_by_pattern(value, form.pattern) for value in values)
        case "number" | "text":
            if all(map(_is_number, values)):
                return number_times(np.fromiter(map(float, values), np.float64), latest)
            moments = (_by_number_or_text(value.strip(), form.order, latest) for value in values)
    times = np.fromiter(moments, np.int64, len(values))
    require_plausible(times, values, latest)
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
    times[~is_read] = _by_digits(numbers[~is_read])
    require_plausible(times, numbers, latest)
    return times


def are_plausible(times: Integers, latest: int) -> NDArray[np.bool_]:
    """Tell which times, in microseconds, are from 1990 up to the latest plausible one."""
    result: NDArray[np.bool_] = (times >= EARLIEST) & (times < latest)
    return result


def unit_of(number: float, latest: int) -> str:
    """Return the name of the unit in which a number is a plausible time."""
    for unit, per_microsecond in _PER_MICROSECOND.items():
        if EARLIEST * per_microsecond <= number < latest * per_microsecond:
            return unit
    return "YYYYMMDDHHMMSS"[: len(str(int(number)))]


def pattern_of(text: str, order: DateOrder | None) -> str | None:
    """Return the directives of ``strptime`` that a time in text is written in, if there are any."""
    parts = (_YEAR_LAST if order else _YEAR_FIRST).fullmatch(text) or _COMPACT.fullmatch(text)
    zone = None if parts is None else parts["zone"]
    if parts is None or (zone and re.fullmatch(r"[A-Z]{3}[+-].*", zone, re.IGNORECASE)):
        return None
    directives = {
        "year": "%Y", "month": "%m", "day": "%d", "minute": "%M", "minutes": "%M",
        "second": "%S", "seconds": "%S", "fraction": "%f", "half": "%p",
        "left": "%d" if order == "day first" else "%m",
        "right": "%m" if order == "day first" else "%d",
        "hour": "%I" if parts["half"] else "%H",
    }  # fmt: skip
    if parts["zone"] and re.fullmatch(r"[+-]\d{2}:?\d{2}", parts["zone"]):
        directives["zone"] = "%z"
    found = {name: value for name, value in parts.groupdict().items() if value is not None}
    pattern, at = "", 0
    for name in sorted(found.keys() & directives.keys(), key=parts.start):
        pattern += text[at : parts.start(name)] + directives[name]
        at = parts.end(name)
    return pattern + text[at:]


def full_width(pattern: str) -> str | None:
    """Return the regular expression of the times in which each directive has its full width.

    None where a directive is not a plain number, zone or half of the day, or where the date is
    incomplete.
    """
    directives = _DIRECTIVE.findall(pattern)
    is_plain = all(directive in _WIDTHS for directive in directives)
    is_whole = {"%Y", "%m", "%d"} <= set(directives) and len({*directives}) == len(directives)
    if not is_plain or not is_whole or ("%I" in directives) != ("%p" in directives):
        return None
    if "%H" in directives and "%I" in directives:
        return None
    literals = map(re.escape, _DIRECTIVE.split(pattern))
    widths = [*(_WIDTHS[directive] for directive in directives), ""]
    return "".join(chain.from_iterable(zip(literals, widths, strict=True)))


def describe(form: TimeForm, example: str, latest: int, source_zone: str | None = None) -> str:
    """Return the form of times in words, for the summary of an import.

    ``source_zone`` names the zone of times that name none.
    """
    zone = "" if source_zone is None else f", {source_zone}"
    match form.kind:
        case "number":
            return unit_of(float(example), latest) + zone
        case "pattern":
            return f"format {form.pattern}{zone}"
        case "time of day":
            return f"times of {form.day}{zone}"
        case _:
            order = "" if form.order is None else f", {form.order}"
            named = zone_of(example.strip())
            zone = f", {source_zone or NO_ZONE}" if named is None else f", zone {named}"
            return f"text{order}{zone}"


def names_zone(form: TimeForm, example: str) -> bool:
    """Return whether times are of a known zone: they name it, or count from the epoch."""
    match form.kind:
        case "number":
            return float(example) % 1 != 0 or len(str(int(float(example)))) not in _DATE_DIGITS
        case "pattern":
            assert form.pattern is not None
            return "%z" in form.pattern
        case "time of day":
            return False
        case _:
            return zone_of(example.strip()) is not None


def zone_of(text: str) -> str | None:
    """Return the zone that a time in text names, if it names one."""
    for pattern in (_YEAR_FIRST, _YEAR_LAST, _COMPACT):
        parts = pattern.fullmatch(text)
        if parts is not None:
            return parts["zone"]
    return None


def _is_number(value: str) -> bool:
    return _NUMBER.fullmatch(value.strip()) is not None


def _by_digits(numbers: Floats) -> Integers:
    """Return the times that whole numbers such as 20250131 write as dates."""
    times = np.zeros(len(numbers), dtype=np.int64)
    is_read = np.zeros(len(numbers), dtype=bool)
    for digits in _DATE_DIGITS:
        of_length = (numbers >= 10 ** (digits - 1)) & (numbers < 10**digits) & (numbers % 1 == 0)
        parts = numbers[of_length].astype(np.int64) * 10 ** (max(_DATE_DIGITS) - digits)
        times[of_length], is_read[of_length] = _from_parts(parts)
    if not is_read.all():
        raise ValueError(_implausible(float(numbers[~is_read][0])))
    return times


def _from_parts(numbers: Integers) -> tuple[Integers, NDArray[np.bool_]]:
    """Return the times of numbers of the form YYYYMMDDHHMMSS, and which of them exist."""
    seconds, minutes, hours = numbers % 100, numbers // 100 % 100, numbers // 10**4 % 100
    day, month, year = numbers // 10**6 % 100, numbers // 10**8 % 100, numbers // 10**10
    months = ((year - 1970) * 12 + month - 1).astype("datetime64[M]")
    days = months.astype("datetime64[D]") + (day - 1)
    exists = (month >= 1) & (month <= 12) & (day >= 1) & (days.astype("datetime64[M]") == months)
    exists &= (hours < 24) & (minutes < 60) & (seconds < 60)
    clock = (hours * 60 + minutes) * 60 + seconds
    return days.astype(np.int64) * DAY + clock * 10**6, exists


def _by_number_or_text(text: str, order: DateOrder | None, latest: int) -> int:
    """Return a time of a file that writes some as numbers and some as text."""
    if _is_number(text):
        return int(number_times(np.array([float(text)]), latest)[0])
    return _by_text(text, order)


def _by_text(text: str, order: DateOrder | None) -> int:
    # ISO 8601 lets digits follow each other, and so a number of seconds be a time of day.
    if order is None and text[4:5] == "-" and text[13:14] in ("", ":"):
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
    except (ValueError, re.error):
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
    zone = "" if zone is None else zone.upper().removeprefix("UTC").removeprefix("GMT")
    if zone in ("", "Z"):
        return timedelta()
    digits = zone[1:].replace(":", "").ljust(4, "0")
    offset = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    timezone(offset)  # Raises ValueError for an offset of a day or more.
    return -offset if zone[0] == "-" else offset


def _times_of_day(values: Sequence[str], day: date, per_unit: int) -> Integers:
    """Return the times of a day, written as a clock, in seconds or in milliseconds."""
    midnight = _microseconds(datetime(day.year, day.month, day.day, tzinfo=UTC))
    if all(map(_is_number, values)):
        numbers = np.fromiter(map(float, values), np.float64, len(values))
        times = np.rint(numbers * per_unit).astype(np.int64)
        if not ((times >= 0) & (times < DAY)).all():
            raise ValueError("time is not within a day in seconds or milliseconds")
        return midnight + times
    clocks = [_TIME_OF_DAY.fullmatch(value.strip()) for value in values]
    for value, parts in zip(values, clocks, strict=True):
        if parts is None:
            raise ValueError(_not_a_time(value))
    since_midnight = (_clock_microseconds(parts) for parts in clocks if parts is not None)
    return midnight + np.fromiter(since_midnight, np.int64, len(values))


def require_plausible(
    times: Integers, values: Sequence[object] | NDArray[Any], latest: int
) -> None:
    """Raise ``ValueError`` for the first value whose time is not plausible."""
    wrong = np.flatnonzero(~are_plausible(times, latest))
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
