"""Maintenance operations on a running server: each answers with lines of JSON while it runs.

Only callers that can read the token in the server's home may use them.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import Any

import msgspec
import structlog

from candlestep.api.admin import (
    backups,
    candles,
    instruments,
    keys,
    orders,
    pictures,
    recordings,
)
from candlestep.api.admin.operation import ErrorLine, Line, OpenHome, Operation, Progress
from candlestep.api.errors import InternalError
from candlestep.api.http.api import Api
from candlestep.api.http.route import Handler, JsonLines, Lines, Request, Route
from candlestep.api.services import Services
from candlestep.api.threads import LongWork
from candlestep.data.errors import BudgetInUse, OverBudget, StorageUnavailable
from candlestep.data.market.loading import MAP_PATH, MappedFiles, WantedCandles, candle_request
from candlestep.sandbox import NoPrice, SandboxError, SymbolNotFound

log = structlog.get_logger()

_SILENT_SECONDS = 0.5
"""The time after which an empty line is sent, because only a write shows that a client has left."""
_PROGRESS_SECONDS = 0.1
"""The least time between two lines of one part's progress: each takes the event loop a turn."""
_STOPPED = (
    "the server stops and has broken off the command; what it had not finished is undone: run it"
    " again when the server is back"
)


def _handler(operation: Operation[Any, Any]) -> Handler:
    async def handle(services: Services, request: Request) -> Lines:
        return _lines(services, operation, request.body)

    return handle


async def _lines(
    services: Services, operation: Operation[Any, Any], request: msgspec.Struct
) -> AsyncGenerator[bytes, None]:
    """Yield the lines of an operation, which is stopped if this is closed before the last.

    While it says nothing, empty lines show whether the client is still there.
    """
    loop = asyncio.get_running_loop()
    lines: asyncio.Queue[Line] = asyncio.Queue()

    def send(line: Line) -> None:
        # The loop may be closed already; then nobody reads the lines.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(lines.put_nowait, line)

    home = OpenHome(
        services.store,
        partial(services.load_parts, loop),
        partial(services.sessions_as_of_now, loop),
    )

    def work(long: LongWork) -> None:
        send(_last_line(services, home, operation, request, long, send))

    long = services.threads.start_long(work, services.store.interrupt)
    try:
        is_last = False
        while not is_last:
            try:
                line = await asyncio.wait_for(lines.get(), _SILENT_SECONDS)
            except TimeoutError:
                yield b"\n"
                continue
            is_last = line.progress is None
            yield msgspec.json.encode(line) + b"\n"
    finally:
        services.threads.stop_long(long)


def _last_line(
    services: Services,
    home: OpenHome,
    operation: Operation[Any, Any],
    request: msgspec.Struct,
    long: LongWork,
    send: Callable[[Line], None],
) -> Line:
    """Run an operation, and return its result or its error. Blocks."""

    latest_part, latest_time = "", 0.0

    def report(progress: Progress) -> None:
        nonlocal latest_part, latest_time
        long.require_wanted()
        now = monotonic()
        if progress.part != latest_part or now - latest_time >= _PROGRESS_SECONDS:
            latest_part, latest_time = progress.part, now
            send(Line(progress=progress))

    try:
        with long.interruptible():
            if operation.check is not None:
                operation.check(request, services.settings, report)
            result = operation.run(home, request, report)
        services.authenticator.reload()
        return Line(result=result)
    except Exception as raised:
        # What was broken off raises errors of many kinds.
        error = raised if long.is_wanted else StorageUnavailable(_STOPPED)
        if isinstance(error, SandboxError):
            return Line(error=ErrorLine(error.code, error.message, error.details))
        log.exception("command_failed", path=operation.path)
        message = "the server failed to run the command; its log has the error"
        return Line(error=ErrorLine(InternalError.code, message, {}))


async def _map_candles(services: Services, request: Request) -> MappedFiles:
    """Write candles into files, which another process of this user maps into its memory."""
    wanted = await services.read(candle_request, services.store, request.body)
    return MappedFiles([str(path) for path in await services.candle_holder.load(wanted)])


_LINES = """Lines of JSON, sent while the command runs: each is `{"progress": {part, done, total, unit}}`,
except the last, which is `{"result": …}` or `{"error": {code, message, details}}`. Empty lines, sent while it says nothing,
mean nothing. The command is stopped when its client disconnects."""

_ROUTES = [
    Route(
        method="POST",
        path=operation.path,
        handler=_handler(operation),
        summary=operation.summary,
        answer=JsonLines,
        body=operation.request,
        access="admin",
        answer_description=_LINES,
    )
    for module in (candles, instruments, recordings, orders, keys, backups, pictures)
    for operation in module.OPERATIONS
]
_MAP_ROUTE = Route(
    method="POST",
    path=MAP_PATH,
    handler=_map_candles,
    summary="Map candles for another process",
    body=WantedCandles,
    errors=(NoPrice.code, SymbolNotFound.code, OverBudget.code, BudgetInUse.code),
    access="admin",
)
API = Api(routes={"command line": [*_ROUTES, _MAP_ROUTE]})
