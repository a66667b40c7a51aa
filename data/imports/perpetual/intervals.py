"""The intervals of settlements, and the holes between them."""

from itertools import pairwise

import numpy as np

from candlestep.data.errors import UnreadableFile
from candlestep.data.imports.numbers import Floats
from candlestep.data.imports.reading import Integers
from candlestep.sandbox.clock import DAY, HOUR, MINUTE, format_time

_LEAST_RUN = 3
"""The number of equal spacings from which on a longer one is an interval, and not a hole."""
_HOLE = 1.5
"""The multiple of the interval beyond which two settlements have a hole between them."""


def stated_intervals(hours: Floats) -> Integers:
    """Return intervals in milliseconds of hours; what is none becomes 0."""
    is_plausible = np.isfinite(hours) & (hours > 0) & (hours * HOUR <= DAY)
    whole: Integers = np.rint(np.where(is_plausible, hours, 0) * HOUR).astype(np.int64)
    whole[whole % MINUTE != 0] = 0
    return whole


def told_intervals(file: str, times: Integers) -> Integers:
    """Return the interval after each of sorted, distinct settlements, told from their spacing.

    A shorter spacing is an interval at once. A longer one is an interval if it repeats, and a hole
    otherwise. Raises ``UnreadableFile`` if the times tell none.
    """
    spacings = np.diff(times)
    if not len(spacings):
        raise UnreadableFile(
            file,
            "the interval of its settlements cannot be told from one row; give it with --interval",
        )
    starts = np.concatenate([[0], np.flatnonzero(np.diff(spacings)) + 1, [len(spacings)]])
    runs = [(int(spacings[start]), stop - start) for start, stop in pairwise(starts.tolist())]
    is_interval = [count >= _LEAST_RUN and length <= DAY for length, count in runs]
    if not any(is_interval):
        shortest = min(length for length, _ in runs)
        is_interval = [length == shortest and length <= DAY for length, _ in runs]
    if not any(is_interval):
        raise UnreadableFile(
            file,
            f"its settlements are more than a day apart, such as those of"
            f" {format_time(int(times[0]))} and {format_time(int(times[1]))}; give their interval"
            " with --interval if they are settlements",
        )
    current = next(length for (length, _), is_one in zip(runs, is_interval, strict=True) if is_one)
    intervals = []
    for (length, count), is_one in zip(runs, is_interval, strict=True):
        if is_one or length < current:
            current = length
        intervals += [current] * count
    return np.array([*intervals, current], dtype=np.int64)


def find_holes(times: Integers, intervals: Integers) -> list[tuple[int, int]]:
    """Return the holes between settlements: from the first that is missing to the next that is not.

    Two rows have a hole between them if they are more than 1.5 intervals of the first one apart.
    """
    before = np.flatnonzero(np.diff(times) > _HOLE * intervals[:-1])
    starts = (times[before] + intervals[before]).tolist()
    return list(zip(starts, times[before + 1].tolist(), strict=True))
