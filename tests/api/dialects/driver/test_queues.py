"""Queues of a bot: items come in turn, and time-outs are of the clock of the session."""

import gc
import queue
import sys
import threading
from collections.abc import Iterator
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest

from candlestep.api.dialects.driver.on_path import candlestep_clock
from candlestep.api.dialects.driver.on_path.candlestep_clock import Clock

MINUTE = 60_000
SECOND = 1_000_000_000


class Stand:
    """A session that can always be stepped, and a clock of a process that nobody reads."""

    def __init__(self) -> None:
        self.reached: list[int] = []

    def advance(self, to: int) -> dict[str, object]:
        """Note a time in ms."""
        self.reached.append(to)
        return {"status": "running"}

    def shift(self, seconds: int) -> None:
        """Turn the clock of the process on."""

    move_to = shift


@pytest.fixture
def stand() -> Stand:
    return Stand()


@pytest.fixture
def clock(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    monkeypatch.setenv("CANDLESTEP_NOW", "0")
    control: Any = stand
    clock = Clock(control, {"first": 0, "interval": MINUTE}, 0, stand)
    yield clock
    # Threads that still wait look at nothing any more.
    clock.is_over = True


def started(clock: Clock, work: Any) -> threading.Thread:
    """Return a thread that has begun, as the driver has it."""
    thread = threading.Thread(target=work, daemon=True)
    clock.begin_thread(thread)
    thread.start()
    return thread


def test_nothing_comes_until_the_time_is_over(clock: Clock, stand: Stand) -> None:
    items: queue.Queue[int] = queue.Queue()
    with pytest.raises(queue.Empty):
        clock.get(items, timeout=150)
    assert (clock.now, stand.reached) == (150 * SECOND, [150_000])
    with pytest.raises(queue.Empty):
        clock.get(items, block=False)
    with pytest.raises(queue.Empty):
        clock.get(items, timeout=0)
    with pytest.raises(ValueError, match="non-negative"):
        clock.get(items, timeout=-1)
    assert clock.now == 150 * SECOND


def test_the_item_of_a_thread_ends_the_wait_at_its_time(clock: Clock) -> None:
    items: queue.Queue[str] = queue.Queue()

    def watch() -> None:
        clock.sleep(90)
        clock.put(items, "signal")
        clock.sleep(10_000)

    started(clock, watch)
    assert clock.get(items, timeout=600) == "signal"
    assert clock.now == 90 * SECOND
    clock.put(items, "there already")
    assert clock.get(items, timeout=600) == "there already"
    assert clock.now == 90 * SECOND


def test_who_waits_first_is_served_first(clock: Clock) -> None:
    items: queue.Queue[int] = queue.Queue()
    taken: list[tuple[str, int]] = []

    def take(name: str) -> None:
        while True:
            taken.append((name, clock.get(items)))
            clock.sleep(1)

    for name in ("first", "second", "third"):
        started(clock, lambda name=name: take(name))
        clock.sleep(1)
    for item in range(7):
        clock.put(items, item)
        clock.sleep(10)
    names = ["first", "second", "third"] * 3
    assert taken == list(zip(names, range(7), strict=False))


@pytest.mark.skipif(sys.version_info < (3, 13), reason="queues cannot be shut down before")
def test_the_end_of_a_queue_ends_the_wait(clock: Clock) -> None:
    items: Any = queue.Queue()

    def close() -> None:
        clock.sleep(90)
        items.shutdown()
        clock.sleep(10_000)

    started(clock, close)
    with pytest.raises(vars(queue)["ShutDown"]):
        clock.get(items, timeout=600)
    assert clock.now == 90 * SECOND


def test_a_thread_that_has_slept_has_not_waited_before(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen each time at the same lock, it counts as one that waits at the ninth look without a sleep."""
    thread = threading.current_thread()
    code = SimpleNamespace(co_filename="threading.py", co_name="__enter__")
    at_a_lock = SimpleNamespace(f_code=code, f_lasti=2)
    monkeypatch.setattr(sys, "_current_frames", lambda: {thread.ident: at_a_lock})
    monkeypatch.setattr(candlestep_clock, "_monotonic", count().__next__)
    for _ in range(3):
        assert not any(clock._waits_for_others(thread) for _ in range(8))
        clock.sleep(1)
    looks = [clock._waits_for_others(thread) for _ in range(9)]
    assert looks == [False] * 8 + [True]


@pytest.mark.parametrize("collects", [True, False])
def test_no_garbage_is_collected_while_threads_are_looked_at(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, collects: bool
) -> None:
    seen: list[bool] = []

    def look() -> dict[int, Any]:
        seen.append(gc.isenabled())
        return {}

    monkeypatch.setattr(sys, "_current_frames", look)
    if not collects:
        gc.disable()
    try:
        clock._waits_for_others(threading.current_thread())
        assert (seen, gc.isenabled()) == ([False], collects)
    finally:
        gc.enable()
