"""The virtual time of a bot, and who waits for it; see ``sitecustomize.py``."""

from __future__ import annotations

import asyncio
import datetime
import gc
import os
import queue
import sys
import threading
import time
from itertools import count
from types import FrameType
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from candlestep.api.dialects.driver.on_path.candlestep_control import Control

NOW = "CANDLESTEP_NOW"
"""The virtual time in nanoseconds, for the processes that the bot starts."""
MILLISECOND = 1_000_000
_SECOND = 1_000_000_000
_NEVER = 1 << 63
"""A time (ns) later than any."""
_LOOK_AGAIN = 0.02
"""Seconds after which a thread that waits for others looks whether they still live."""
_ANSWERS = 0.0005
"""Seconds after which a loop that waits for answers is looked at again."""
_WAITS = 0.2
"""Seconds at a lock, a queue or a join after which a thread counts as waiting for others."""
_LOOKS = 8
"""Looks for which it has to stand there: on a busy machine time passes while nobody runs."""
_STREAMS = 2.0
"""Seconds of reading after which a thread counts as one that follows a stream."""
_WAITING = frozenset({"threading.py", "queue.py", "selectors.py", "runners.py"})
_READING = frozenset({"socket.py", "ssl.py"})
"""Files of the standard library in which such threads stand."""
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_QUIET_ROUNDS = 3
"""Rounds of an event loop without anything new, after which all its tasks wait."""

_real_sleep = time.sleep
_real_async_sleep = asyncio.sleep
_real_wait = threading.Event.wait
_real_set = threading.Event.set
_real_get = queue.Queue.get
_real_put = queue.Queue.put
_monotonic = time.monotonic


def moment(now: int) -> datetime.datetime:
    """Return a time in ns as a point in time; a float would lose the last digits."""
    return _EPOCH + datetime.timedelta(microseconds=now // 1000)


def _frame_of(thread: threading.Thread) -> FrameType | None:
    """Return where a thread stands; the clock's lock is held.

    No garbage is collected meanwhile: in older releases of Python, that can stop all threads for
    ever (CPython issue 106883).
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        return sys._current_frames().get(thread.ident or 0)
    finally:
        if collects:
            gc.enable()


class Turn:
    """The place of a thread among those that wait for items of a queue, which come first served."""

    def __init__(self, items: queue.Queue[Any], row: list[Turn]) -> None:
        self._items = items
        self._row = row

    def is_set(self) -> bool:
        """Return whether there is an item for this thread, or there will be none."""
        items = self._items
        # Queues can be shut down from Python 3.13 on.
        return getattr(items, "is_shutdown", False) or items._qsize() > self._row.index(self)


class Sleeper:
    """A thread or a task that waits for a time (ns), a thread perhaps for something before it."""

    def __init__(
        self,
        wake: int,
        number: int,
        future: asyncio.Future[None] | None = None,
        event: threading.Event | Turn | None = None,
    ) -> None:
        self.wake = wake
        self.number = number
        self.future = future
        self.event = event
        self.is_awake = False

    @property
    def is_done(self) -> bool:
        """True once it may go on."""
        return self.is_awake or (self.event is not None and self.event.is_set())


class Clock:
    """The virtual time of the bot, and who waits for it."""

    def __init__(
        self, control: Control, settings: dict[str, Any], now: int, traveller: Any
    ) -> None:
        self._control = control
        self._traveller = traveller
        self._changed = threading.Condition()
        self._numbers = count()
        self._events_awaited = 0
        """The threads that wait for an event with a time-out, or for an item of a queue."""
        self._rows: WeakKeyDictionary[queue.Queue[Any], list[Turn]] = WeakKeyDictionary()
        """The threads that wait for items of each queue, in the sequence in which they began."""
        self._threads: dict[threading.Thread, Sleeper | None] = {}
        """Each thread since the start, and its sleeper, or None while it runs."""
        self._waiting_since: dict[threading.Thread, tuple[float, int, object]] = {}
        """When a thread was first seen where it waits, how often since, and where."""
        self._at_work: set[threading.Thread] = set()
        """Threads that start, or whose request is not answered: they run, wherever they stand."""
        self._threads[threading.main_thread()] = None
        self._loops: dict[asyncio.AbstractEventLoop, list[Sleeper]] = {}
        """Each event loop, with the sleepers of its tasks."""
        self._watched: set[asyncio.AbstractEventLoop] = set()
        self._idle_loops: set[asyncio.AbstractEventLoop] = set()
        self._loop_threads: dict[asyncio.AbstractEventLoop, threading.Thread] = {}
        self._locks: dict[asyncio.AbstractEventLoop, asyncio.Lock] = {}
        self._open_requests = 0
        self._events = 0
        """Counts what the tasks do: while it changes, some of them still run."""
        self.now = now
        self._first: int = settings["first"]
        self._interval: int = settings["interval"]
        self._told = now // MILLISECOND
        """The time (ms) that the session knows of."""
        self.is_over = False
        self.owner = os.getpid()

    # Threads

    def sleep(self, seconds: float) -> None:
        """Wait until the virtual time is ``seconds`` later, as ``time.sleep`` does."""
        if os.getpid() != self.owner:
            _real_sleep(seconds)
            return
        if seconds < 0:
            raise ValueError("sleep length must be non-negative")
        self._wait(self._after(seconds), None)

    def wait(self, event: threading.Event, timeout: float | None = None) -> bool:
        """Wait until an event is set, or ``timeout`` seconds of the virtual time have passed."""
        if timeout is None or timeout <= 0 or os.getpid() != self.owner:
            return _real_wait(event, timeout)
        if not event.is_set():
            self._wait(self._after(timeout), event)
        return event.is_set()

    def set(self, event: threading.Event) -> None:
        """Set an event, so that the threads that wait for it go on."""
        _real_set(event)
        self._notice()

    def get(self, items: queue.Queue[Any], block: bool = True, timeout: float | None = None) -> Any:
        """Take an item, once there is one; raise ``Empty`` after ``timeout`` virtual seconds."""
        is_brief = not block or (timeout is not None and timeout <= 0)
        if is_brief or os.getpid() != self.owner:
            return _real_get(items, block, timeout)
        wake = _NEVER if timeout is None else self._after(timeout)
        with self._changed:
            row = self._rows.setdefault(items, [])
            turn = Turn(items, row)
            row.append(turn)
        try:
            while True:
                self._wait(wake, turn)
                try:
                    return _real_get(items, False)
                except queue.Empty:
                    # Unless one that did not wait has taken the item.
                    if self.now >= wake:
                        raise
        finally:
            with self._changed:
                row.remove(turn)
            self._notice()

    def put(
        self,
        items: queue.Queue[Any],
        item: Any,
        block: bool = True,
        timeout: float | None = None,
    ) -> None:
        """Put an item into a queue, so that a thread that waits for it goes on."""
        _real_put(items, item, block, timeout)
        self._notice()

    def _notice(self) -> None:
        """Have the threads that wait look whether they may go on."""
        if self._events_awaited and os.getpid() == self.owner:
            with self._changed:
                self._changed.notify_all()

    def _after(self, seconds: float) -> int:
        return self.now + round(seconds * _SECOND)

    def _wait(self, wake: int, event: threading.Event | Turn | None) -> None:
        thread = threading.current_thread()
        with self._changed:
            sleeper = Sleeper(wake, next(self._numbers), event=event)
            self._threads[thread] = sleeper
            self._events_awaited += event is not None
            self._at_work.discard(thread)
            self._changed.notify_all()
            try:
                while not sleeper.is_done:
                    if not self._move():
                        self._changed.wait(_LOOK_AGAIN)
            finally:
                # A signal's handler may raise in the main thread, which then runs.
                self._events_awaited -= event is not None
                self._threads[thread] = None
                self._seen_at_work(thread)

    def _move(self) -> bool:
        """Wake the next sleeper if nobody runs; return whether one was woken. Holds the lock."""
        if self.is_over or self._someone_runs():
            return False
        sleepers = [sleeper for sleeper in self._threads.values() if sleeper is not None]
        for loop in self._idle_loops:
            sleepers += self._loops.get(loop, [])
        if not sleepers or any(sleeper.is_done for sleeper in sleepers):
            return False
        first = min(sleepers, key=lambda sleeper: (sleeper.wake, sleeper.number))
        if first.wake == _NEVER or not self._advance(first.wake):
            return False
        first.is_awake = True
        if first.future is not None:
            self._wake_task(first, first.future)
        self._changed.notify_all()
        return True

    def _someone_runs(self) -> bool:
        """Return whether a thread, or a loop whose tasks have slept, is at work."""
        for thread, sleeper in list(self._threads.items()):
            if thread.ident is not None and not thread.is_alive():
                del self._threads[thread]
                self._at_work.discard(thread)
            elif sleeper is None and not self._waits_for_others(thread):
                return True
        for loop in list(self._loops):
            if loop.is_closed():
                del self._loops[loop]
                self._idle_loops.discard(loop)
            elif self._loops[loop] and loop not in self._idle_loops:
                return True
        return False

    def _waits_for_others(self, thread: threading.Thread) -> bool:
        """Return whether a thread has long been at a lock, a queue, a join or an idle event loop."""
        if thread in self._at_work:
            return False
        if any(self._loop_threads.get(loop) is thread for loop in self._idle_loops):
            return True
        frame = _frame_of(thread)
        name = "" if frame is None else os.path.basename(frame.f_code.co_filename)
        is_worker = frame is not None and (name, frame.f_code.co_name) == ("thread.py", "_worker")
        if not is_worker and name not in _WAITING | _READING:
            self._waiting_since.pop(thread, None)
            return False
        place = (id(frame), None if frame is None else frame.f_lasti)
        since, looks, known = self._waiting_since.get(thread, (0.0, 0, object()))
        if known != place:
            since, looks = _monotonic(), 0
        self._waiting_since[thread] = (since, looks + 1, place)
        least = _STREAMS if name in _READING else _WAITS
        return looks >= _LOOKS and _monotonic() - since >= least

    def _seen_at_work(self, thread: threading.Thread) -> None:
        """Forget where a thread stood: it may come to the same place anew, which is no long wait."""
        self._waiting_since.pop(thread, None)

    def _advance(self, wake: int) -> bool:
        """Step the session to a time (ns) and turn the clock of the bot to it."""
        if wake > self.now:
            to = wake // MILLISECOND
            if self._step_of(to) > self._step_of(self._told):
                self._tell(to)
            self._turn(wake)
        return not self.is_over

    def _turn(self, to: int) -> None:
        """Turn the clock of the bot to a time (ns)."""
        seconds, part = divmod(to - self.now, _SECOND)
        if part:
            self._traveller.move_to(moment(to))
        else:
            # As exact, and ``move_to`` reads the time zone of the process anew, twice.
            self._traveller.shift(seconds)
        self.now = to
        os.environ[NOW] = str(to)

    def _step_of(self, time_ms: int) -> int:
        return (time_ms - self._first) // self._interval

    def _tell(self, to: int) -> None:
        """Step the session to a time (ms)."""
        if self._control.advance(to)["status"] != "running":
            self.is_over = True
        self._told = to

    def tell(self) -> None:
        """Let the session know what time it is, before it is asked something.

        What is less than a step needs no request of its own.
        """
        # Without the lock, because time stands while this thread runs.
        if self.now // MILLISECOND > self._told:
            with self._changed:
                now = self.now // MILLISECOND
                if now > self._told and not self.is_over:
                    self._tell(now)

    # Tasks of event loops

    async def sleep_async(self, delay: float, result: Any = None) -> Any:
        """Wait until the virtual time is ``delay`` seconds later, as ``asyncio.sleep`` does."""
        if os.getpid() != self.owner or delay <= 0:
            self._events += 1
            return await _real_async_sleep(delay, result)
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        with self._changed:
            sleeper = Sleeper(self.now + round(delay * _SECOND), next(self._numbers), future)
            sleepers = self._loops.get(loop)
            if sleepers is None:
                sleepers = self._loops[loop] = []
            self._loop_threads[loop] = threading.current_thread()
            sleepers.append(sleeper)
            self._events += 1
        self._watch(loop)
        try:
            await future
        finally:
            with self._changed:
                if sleeper in sleepers:
                    sleepers.remove(sleeper)
                self._events += 1
                self._idle_loops.discard(loop)
        return result

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look at a loop again and again, as long as tasks of it sleep."""
        if loop not in self._watched:
            self._watched.add(loop)
            loop.call_soon(self._look, loop, self._events, 0)

    def _look(self, loop: asyncio.AbstractEventLoop, events: int, rounds: int) -> None:
        """Let time move once nothing new has happened in some rounds of a loop."""
        if not self._loops.get(loop) or self.is_over:
            self._watched.discard(loop)
            self._idle_loops.discard(loop)
            return
        if events != self._events or self._open_requests:
            self._idle_loops.discard(loop)
            if self._open_requests:
                # Answers arrive while the loop waits for them: do not keep it busy.
                loop.call_later(_ANSWERS, self._look, loop, self._events, 0)
            else:
                loop.call_soon(self._look, loop, self._events, 0)
        elif rounds < _QUIET_ROUNDS:
            loop.call_soon(self._look, loop, events, rounds + 1)
        else:
            with self._changed:
                self._idle_loops.add(loop)
                moved = self._move()
            if moved:
                loop.call_soon(self._look, loop, self._events, 0)
            else:
                loop.call_later(_LOOK_AGAIN / 10, self._look, loop, self._events, rounds)

    def _wake_task(self, sleeper: Sleeper, future: asyncio.Future[None]) -> None:
        """Let the task of a sleeper go on, in its own loop."""
        loop = future.get_loop()
        self._idle_loops.discard(loop)
        sleepers = self._loops.get(loop, [])
        if sleeper in sleepers:
            sleepers.remove(sleeper)
        self._events += 1

        def wake() -> None:
            if not future.done():
                future.set_result(None)

        loop.call_soon_threadsafe(wake)

    def begin_thread(self, thread: threading.Thread) -> None:
        """Let time stand until a thread that is about to start sleeps, waits or ends."""
        with self._changed:
            self._threads[thread] = None
            self._at_work.add(thread)

    def runs(self, thread: threading.Thread) -> None:
        """Let time move once this thread, which has started, sleeps, waits or ends."""
        self._at_work.discard(thread)
        self._seen_at_work(thread)

    def asks(self) -> None:
        """Let time stand until this thread is ``answered``, or sleeps."""
        self._at_work.add(threading.current_thread())

    def answered(self) -> None:
        """Let time move again, once this thread sleeps or waits for others."""
        thread = threading.current_thread()
        self._at_work.discard(thread)
        self._seen_at_work(thread)

    def lock_of(self, loop: asyncio.AbstractEventLoop) -> asyncio.Lock:
        """Return the lock with which the tasks of a loop send one request at a time."""
        return self._locks.setdefault(loop, asyncio.Lock())

    def request_began(self) -> None:
        """Let time stand until ``request_ended``."""
        self.tell()
        self._seen_at_work(threading.current_thread())
        self._open_requests += 1
        self._events += 1

    def request_ended(self) -> None:
        """Let time move again."""
        self._seen_at_work(threading.current_thread())
        self._open_requests -= 1
        self._events += 1
