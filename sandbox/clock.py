"""Time: intervals, parsing and formatting, and the virtual clock's grid of steps.

Internally a time is an ``int`` of milliseconds since the epoch, UTC; externally it is ISO 8601.
"""

from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from candlestep.sandbox.errors import InvalidParameter, abbreviate
from candlestep.sandbox.money import python_number

MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
WEEK = 7 * DAY

INTERVALS = {
    "1m": MINUTE,
    "3m": 3 * MINUTE,
    "5m": 5 * MINUTE,
    "15m": 15 * MINUTE,
    "30m": 30 * MINUTE,
    "1h": HOUR,
    "2h": 2 * HOUR,
    "4h": 4 * HOUR,
    "6h": 6 * HOUR,
    "8h": 8 * HOUR,
    "12h": 12 * HOUR,
    "1d": DAY,
    "1w": WEEK,
}
"""The name of each candle interval and its length in milliseconds, finest first.

The greatest common divisor of any two is one of them.
"""

_NAMES = {length: name for name, length in INTERVALS.items()}
_MONTHS = frozenset(["1M", "1mo", "1mon", "1month", "month", "monthly"])
_FIRST_MONDAY = 4 * DAY
EARLIEST = -62_135_596_800_000
LATEST = 253_402_300_799_999
"""The first and the last millisecond of the years 1 to 9999, to which times are limited."""

Times = TypeVar("Times", int, NDArray[np.int64])

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MINUTES_OF_DAY = tuple(f"T{m // 60:02d}:{m % 60:02d}:00Z" for m in range(DAY // MINUTE))
_MILLISECOND = timedelta(milliseconds=1)


def parse_interval(value: object, field: str = "interval") -> int:
    """Parse an interval to milliseconds, given by name (``"1h"``) or in seconds (``3600``)."""
    value = python_number(value)
    if isinstance(value, str):
        length = INTERVALS.get(value) or (int(value) * 1000 if _is_short_number(value) else 0)
    elif isinstance(value, int) and not isinstance(value, bool):
        length = value * 1000
    else:
        length = 0
    if length not in _NAMES:
        if isinstance(value, str) and value in _MONTHS:
            raise InvalidParameter(
                field, "must not be a month, whose length varies; use 1d, and import the days"
            )
        seconds = ", ".join(str(length // 1000) for length in _NAMES)
        raise InvalidParameter(
            field, f"must be one of {', '.join(INTERVALS)}, or in seconds one of {seconds}"
        )
    return length


def interval_name(length: int) -> str:
    """Return the name of an interval of ``length`` milliseconds: ``"1h"`` for 3,600,000."""
    return _NAMES[length]


def bucket_start(time: Times, interval: int) -> Times:
    """Return the start of the bucket of ``interval`` ms in which each time lies.

    Coarser candles gather finer ones in these buckets: days and what divides them from midnight
    UTC on, weeks from Monday on.

    >>> format_time(bucket_start(1_704_931_200_000, WEEK))
    '2024-01-08T00:00:00Z'
    """
    first = _FIRST_MONDAY if interval == WEEK else 0
    return time - (time - first) % interval


def candle_span(start: int, end: int, interval: int) -> tuple[int, int]:
    """Return the start of the first and the end of the last bucket between two times.

    All in milliseconds. Without such a bucket, the first is not before the second.

    >>> candle_span(10, 31, 10), candle_span(11, 19, 10)
    ((10, 30), (20, 10))
    """
    return bucket_start(start + interval - 1, interval), bucket_start(end, interval)


def parse_time(value: object, field: str = "time") -> int:
    """Parse an ISO 8601 string, a point in time or milliseconds to milliseconds since the epoch.

    A point in time is a ``datetime`` (a pandas ``Timestamp`` is one), a ``date``, which is its
    midnight, or a NumPy ``datetime64``. A naive time is UTC; any offset is accepted; digits beyond
    the millisecond are cut off. Raises ``InvalidParameter`` naming ``field``.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        time = value
    elif isinstance(value, str):
        time = _milliseconds(_parse_iso(value, field))
    else:
        time = _point_in_time(value, field)
    if not EARLIEST <= time <= LATEST:
        raise InvalidParameter(field, "must lie in the years 1 to 9999, UTC")
    return time


def format_time(time: int) -> str:
    """Format a time as ISO 8601 with ``Z``, with milliseconds only if they are not zero."""
    day, minute, rest = time // DAY, time % DAY // MINUTE, time % MINUTE
    if not rest:
        return _date(day) + _MINUTES_OF_DAY[minute]
    second, millisecond = divmod(rest, 1000)
    fraction = f".{millisecond:03d}" if millisecond else ""
    return f"{_date(day)}T{minute // 60:02d}:{minute % 60:02d}:{second:02d}{fraction}Z"


@lru_cache(maxsize=4096)
def _date(day: int) -> str:
    """Return the date of a day since the epoch."""
    return (_EPOCH + timedelta(days=day)).date().isoformat()


def _point_in_time(value: object, field: str) -> int:
    if isinstance(value, np.datetime64 | datetime) and str(value) == "NaT":
        raise InvalidParameter(field, "is missing (NaT); give a time, or leave it out")
    if isinstance(value, np.datetime64):
        return int(value.astype("datetime64[ms]").astype(np.int64))
    if isinstance(value, datetime):
        return _milliseconds(value)
    if isinstance(value, date):
        return _milliseconds(datetime(value.year, value.month, value.day))
    number = python_number(value)
    if isinstance(number, int) and not isinstance(number, bool):
        return number
    raise InvalidParameter(
        field,
        f"must be an ISO 8601 time, a datetime or whole milliseconds, got a {type(value).__name__}",
    )


def _milliseconds(moment: datetime) -> int:
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // _MILLISECOND


def _parse_iso(text: str, field: str) -> datetime:
    try:
        if text.isascii() and len(text) <= 64:
            return datetime.fromisoformat(text)
    except ValueError:
        pass
    raise InvalidParameter(
        field, f"{abbreviate(text)!r} is not an ISO 8601 time such as '2025-06-01T00:00:00Z'"
    )


def _is_short_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 6


class Clock(msgspec.Struct, frozen=True, gc=False):
    """The grid of a session's steps: step *k* is at ``start + k * interval`` (milliseconds)."""

    start: int
    interval: int
    total_steps: int

    @classmethod
    def between(cls, start: int, end: int, interval: int) -> "Clock":
        """Return the clock of a session from ``start`` to ``end``; at least one step must fit."""
        total_steps = (end - start) // interval
        if total_steps < 1:
            raise InvalidParameter(
                "end_time",
                f"must be at least one {interval_name(interval)} candle after start_time"
                f" ({format_time(start)})",
            )
        return cls(start, interval, total_steps)

    @property
    def end(self) -> int:
        """The time of the last step."""
        return self.start + self.total_steps * self.interval

    def time(self, step: int) -> int:
        """Return the time of ``step``."""
        return self.start + step * self.interval
