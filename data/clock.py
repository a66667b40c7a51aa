"""The wall clock, and the durations of what the system does."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

NoteSeconds = Callable[[float], object]
"""Notes how long something took."""


def now() -> int:
    """Return the current time, in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def ignore_seconds(seconds: float) -> None:
    """Note nothing."""


@contextmanager
def timed(note: NoteSeconds) -> Iterator[None]:
    """Call ``note`` with the seconds that the block took, whether or not it succeeded."""
    start = time.perf_counter()
    try:
        yield
    finally:
        note(time.perf_counter() - start)
