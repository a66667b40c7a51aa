"""Maintenance operations on a running server: each answers with lines of JSON while it runs.

Only callers that can read the token in the server's home may use them.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import msgspec
import structlog

from candlestep.api.admin import candles, keys, recordings
from candlestep.api.admin.operation import ErrorLine, Line, Operation
from candlestep.api.errors import InternalError
from candlestep.api.http.api import Api
from candlestep.api.http.route import Handler, JsonLines, Lines, Request, Route
from candlestep.api.services import Services
from candlestep.sandbox import SandboxError

log = structlog.get_logger()


def _handler(operation: Operation[Any, Any]) -> Handler:
    async def handle(services: Services, request: Request) -> Lines:
        return _lines(services, operation, request.body)

    return handle


async def _lines(
    services: Services, operation: Operation[Any, Any], request: msgspec.Struct
) -> AsyncIterator[bytes]:
    """Yield the lines of an operation, which runs to its end even if the client disconnects."""
    loop = asyncio.get_running_loop()
    lines: asyncio.Queue[Line] = asyncio.Queue()

    def send(line: Line) -> None:
        # The loop may be closed already; then nobody reads the lines.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(lines.put_nowait, line)

    def run() -> None:
        try:
            result = operation.run(services.store, request, lambda part: send(Line(progress=part)))
            services.authenticator.reload()
            line = Line(result=result)
        except SandboxError as error:
            line = Line(error=ErrorLine(error.code, error.message, error.details))
        except Exception:
            log.exception("command_failed", path=operation.path)
            message = "the server failed to run the command; its log has the error"
            line = Line(error=ErrorLine(InternalError.code, message, {}))
        send(line)

    running = asyncio.create_task(services.threads.run_long(run))
    is_last = False
    while not is_last:
        line = await lines.get()
        is_last = line.progress is None
        yield msgspec.json.encode(line) + b"\n"
    await running


_LINES = """Lines of JSON, sent while the command runs: each is `{"progress": {part, done, total, unit}}`,
except the last, which is `{"result": …}` or `{"error": {code, message, details}}`."""

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
    for operation in (*candles.OPERATIONS, *recordings.OPERATIONS, *keys.OPERATIONS)
]
API = Api(routes={"command line": _ROUTES})
