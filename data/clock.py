"""The wall clock, and the measurement of durations."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

NoteSeconds = Callable[[float], object]
"""Called with the seconds that an operation took."""


def now() -> int:
    """Return the current time, in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def ignore_seconds(seconds: float) -> None:
    """Ignore a duration."""


@contextmanager
def timed(note: NoteSeconds) -> Iterator[None]:
    """Call ``note`` with the seconds that the block takes, even if it raises."""
    start = time.perf_counter()
    try:
        yield
    finally:
        note(time.perf_counter() - start)
