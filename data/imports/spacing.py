"""The interval of a series, told from its open times and held against what is declared."""

import re

import numpy as np
from numpy.typing import NDArray

from candlestep.data.errors import UnreadableFile
from candlestep.sandbox.clock import INTERVALS, MINUTE, interval_name

Integers = NDArray[np.int64]


_INTERVAL_LIKE = re.compile(r"\d{1,2}[smhdwM]")
_LENGTHS = frozenset(INTERVALS.values())


def interval_from_name(file_name: str) -> int | None:
    """Return the interval in a name, in milliseconds; None without one.

    Raises ``UnreadableFile`` for an interval that is not supported.
    """
    for word in re.split(r"[-_. ]+", file_name):
        if word in INTERVALS:
            return INTERVALS[word]
        if _INTERVAL_LIKE.fullmatch(word):
            raise UnreadableFile(
                file_name,
                f"its name says that its candles are of {word}; only {', '.join(INTERVALS)}"
                " can be imported (if the name is wrong, give --interval)",
            )
    return None


def shared_delay(open_times: Integers) -> int:
    """Return the time after a whole minute that all candles share, 0 if they share none."""
    delays = np.unique(open_times % MINUTE)
    return int(delays[0]) if len(delays) == 1 and len(open_times) >= 2 else 0


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
    raise UnreadableFile(
        file,
        f"the interval of its candles cannot be told: most rows are {_duration(common)} apart, the"
        f" nearest {_duration(int(spacings.min()))}; give it with --interval, which is one of"
        f" {', '.join(INTERVALS)}",
    )


def require_interval(file: str, interval: int, open_times: Integers) -> None:
    """Raise ``UnreadableFile`` if no two of the sorted open times are one interval apart.

    The interval is what the caller or the file's name declares; then it is wrong.
    """
    spacings, counts = np.unique(np.diff(open_times), return_counts=True)
    if not len(spacings) or interval in spacings:
        return
    common = int(spacings[counts.argmax()])
    remedy = f"; give --interval {interval_name(common)}" if common in _LENGTHS else ""
    raise UnreadableFile(
        file,
        f"rows are {_duration(common)} apart; no two are {_duration(interval)} apart, so they are"
        f" not {interval_name(interval)} candles{remedy}",
    )


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
