"""The clock of a bot that ``candlestep drive`` has started. Python imports this file as it starts.

``time.time``, ``datetime.now`` and their like tell the virtual time, which stands while the bot
works. ``time.sleep``, ``asyncio.sleep`` and the time-outs of ``threading.Event.wait`` and
``queue.Queue.get`` end as soon as the session has been stepped to their end. Everything else, such
as time-outs of requests, ``time.monotonic`` and timers of asyncio, stays real. The bot needs
time-machine in its environment and nothing else of Candlestep.

Time moves when every thread and every task sleeps, or waits for one that does; of two sleepers with
the same end the one that began first goes on alone, and tasks send one request at a time. So two
runs of a bot send the same requests in the same sequence.
"""

from __future__ import annotations

import asyncio
import gc
import http.client
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import queue
import random
import sys
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from candlestep.api.dialects.driver.on_path.candlestep_clock import (
        MILLISECOND,
        NOW,
        Clock,
        moment,
    )
    from candlestep.api.dialects.driver.on_path.candlestep_control import Control
else:
    from candlestep_clock import MILLISECOND, NOW, Clock, moment
    from candlestep_control import Control

_VARIABLE = "CANDLESTEP_DRIVE"


class _WhenImported(importlib.abc.MetaPathFinder):
    """Changes modules of libraries once they are imported, if they ever are."""

    def __init__(self, changes: dict[str, Callable[[Any], None]]) -> None:
        self._changes = changes

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return the spec of a module that is to be changed, with a loader that changes it."""
        change = self._changes.pop(name, None)
        if change is None:
            return None
        spec = importlib.util.find_spec(name)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            change(module)

        _replace(spec.loader, "exec_module", exec_module)
        return spec


def _count_aiohttp(clock: Clock, base: str) -> Callable[[Any], None]:
    def change(module: Any) -> None:
        send = module.ClientSession._request

        async def request(self: Any, method: str, url: Any, **options: Any) -> Any:
            if not str(url).startswith(base):
                return await send(self, method, url, **options)
            clock.request_began()
            try:
                async with clock.lock_of(asyncio.get_running_loop()):
                    answer = await send(self, method, url, **options)
                    await answer.read()
                    return answer
            finally:
                clock.request_ended()

        module.ClientSession._request = request

    return change


def _count_httpx(clock: Clock, base: str) -> Callable[[Any], None]:
    def change(module: Any) -> None:
        plain = module.Client.send

        def told(self: Any, request: Any, **options: Any) -> Any:
            clock.tell()
            if not str(request.url).startswith(base):
                return plain(self, request, **options)
            clock.asks()
            try:
                return plain(self, request, **options)
            finally:
                clock.answered()

        module.Client.send = told
        send = module.AsyncClient.send

        async def counted(self: Any, request: Any, **options: Any) -> Any:
            if not str(request.url).startswith(base):
                return await send(self, request, **options)
            clock.request_began()
            try:
                async with clock.lock_of(asyncio.get_running_loop()):
                    answer = await send(self, request, **options)
                    await answer.aread()
                    return answer
            finally:
                clock.request_ended()

        module.AsyncClient.send = counted

    return change


def _count_plain_requests(clock: Clock, control: Control) -> None:
    """Let the session know the time before each request of what is made of ``http.client``."""
    put: Any = http.client.HTTPConnection.putrequest
    get: Any = http.client.HTTPConnection.getresponse

    def putrequest(self: http.client.HTTPConnection, *arguments: Any, **options: Any) -> Any:
        clock.tell()
        if control.reaches(self):
            clock.asks()
        return put(self, *arguments, **options)

    def getresponse(self: http.client.HTTPConnection, *arguments: Any, **options: Any) -> Any:
        try:
            return get(self, *arguments, **options)
        finally:
            if control.reaches(self):
                clock.answered()

    _replace(http.client.HTTPConnection, "putrequest", putrequest)
    _replace(http.client.HTTPConnection, "getresponse", getresponse)


def _count_threads(clock: Clock) -> None:
    """Let time stand while a thread starts, and while a loop waits for what it gave to one."""
    start = threading.Thread.start

    def start_counted(self: threading.Thread) -> None:
        clock.begin_thread(self)
        run = self.run

        def run_at_last() -> None:
            clock.runs(self)
            run()

        _replace(self, "run", run_at_last)
        start(self)

    _replace(threading.Thread, "start", start_counted)
    give = asyncio.to_thread

    async def to_thread(function: Callable[..., Any], /, *arguments: Any, **options: Any) -> Any:
        clock.request_began()
        try:
            return await give(function, *arguments, **options)
        finally:
            clock.request_ended()

    _replace(asyncio, "to_thread", to_thread)
    _replace(asyncio.threads, "to_thread", to_thread)
    run: Any = asyncio.base_events.BaseEventLoop.run_in_executor

    def run_in_executor(
        self: Any, executor: Any, function: Callable[..., Any], *arguments: Any
    ) -> Any:
        clock.request_began()
        future = run(self, executor, function, *arguments)
        future.add_done_callback(lambda _: clock.request_ended())
        return future

    _replace(asyncio.base_events.BaseEventLoop, "run_in_executor", run_in_executor)


def _count_queues(clock: Clock) -> None:
    """Let threads wait for items of queues on the clock of the session."""

    def get(self: queue.Queue[Any], block: bool = True, timeout: float | None = None) -> Any:
        return clock.get(self, block, timeout)

    def put(
        self: queue.Queue[Any], item: Any, block: bool = True, timeout: float | None = None
    ) -> None:
        clock.put(self, item, block, timeout)

    _replace(queue.Queue, "get", get)
    _replace(queue.Queue, "put", put)


def _replace(owner: object, name: str, value: object) -> None:
    setattr(owner, name, value)


def _same_names() -> None:
    """Draw the same random numbers and names in every run."""
    random.seed(0)
    names = random.Random(1)
    _replace(uuid, "uuid4", lambda: uuid.UUID(int=names.getrandbits(128), version=4))


def _start() -> None:
    text = os.environ.get(_VARIABLE)
    if text is None:
        return
    try:
        import time_machine
    except ImportError:
        sys.stderr.write(
            "candlestep drive: the environment of the bot lacks time-machine; install it there:"
            f" {sys.executable} -m pip install 'time-machine>=2.16'\n"
        )
        sys.stderr.flush()
        os._exit(3)
    settings = json.loads(text)
    is_child = NOW in os.environ
    now = int(os.environ[NOW]) if is_child else settings["now"] * MILLISECOND
    traveller = time_machine.travel(moment(now), tick=False).start()
    if is_child:
        return
    os.environ[NOW] = str(now)
    control = Control(settings)
    clock = Clock(control, settings, now, traveller)
    _count_plain_requests(clock, control)
    _same_names()
    _replace(time, "sleep", clock.sleep)
    _replace(threading.Event, "wait", lambda event, timeout=None: clock.wait(event, timeout))
    _replace(threading.Event, "set", lambda event: clock.set(event))
    _count_queues(clock)
    for module in (asyncio, asyncio.tasks):
        _replace(module, "sleep", clock.sleep_async)
    _count_threads(clock)
    base = settings["base_url"]
    sys.meta_path.insert(
        0,
        _WhenImported(
            {
                "aiohttp.client": _count_aiohttp(clock, base),
                "httpx._client": _count_httpx(clock, base),
            }
        ),
    )
    # The bot's garbage collections need not look through what the driver has loaded.
    gc.freeze()


def _next_sitecustomize() -> None:
    """Import the ``sitecustomize`` that this one hides, if there is one."""
    here = os.path.dirname(os.path.abspath(__file__))
    paths = [path for path in sys.path if os.path.abspath(path or ".") != here]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", paths)
    if spec is not None and spec.loader is not None:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


_start()
_next_sitecustomize()
