"""The commands as a running server does them: each answers lines of JSON as it goes on.

A line is ``{"progress": …}``; the last is ``{"result": …}``, or ``{"error": {code, message,
details}}``. Only who can read the token in the server's home may call them.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import msgspec
import structlog

from candlestep.api.admin.operation import OPERATIONS, Operation, Progress
from candlestep.api.errors import InternalError
from candlestep.api.http.route import Handler, JsonLines, Lines, Request, Route
from candlestep.api.services import Services
from candlestep.sandbox import SandboxError

log = structlog.get_logger()


class ErrorLine(msgspec.Struct, frozen=True):
    """What the command was refused for."""

    code: str
    message: str
    details: dict[str, Any]


class Line(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of an answer: it has one of the three."""

    progress: Progress | None = None
    result: Any = None
    error: ErrorLine | None = None


def _handler(operation: Operation[Any, Any]) -> Handler:
    async def handle(services: Services, request: Request) -> Lines:
        return _lines(services, operation, request.body)

    return handle


async def _lines(
    services: Services, operation: Operation[Any, Any], request: msgspec.Struct
) -> AsyncIterator[bytes]:
    """The lines of a command, which runs to its end even if nobody reads them any more."""
    loop = asyncio.get_running_loop()
    lines: asyncio.Queue[Line] = asyncio.Queue()

    def send(line: Line) -> None:
        # A loop that is closed has nobody left to tell.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(lines.put_nowait, line)

    def report(progress: Progress) -> None:
        send(Line(progress=progress))

    def work() -> None:
        try:
            result = operation.run(services.store, request, report)
            services.gate.reload()
            line = Line(result=result)
        except SandboxError as error:
            line = Line(error=ErrorLine(error.code, error.message, error.details))
        except Exception:
            log.exception("command_failed", path=operation.path)
            message = "the server failed at this; its log says how"
            line = Line(error=ErrorLine(InternalError.code, message, {}))
        send(line)

    working = asyncio.create_task(services.threads.run_long(work))
    is_last = False
    while not is_last:
        line = await lines.get()
        is_last = line.progress is None
        yield msgspec.json.encode(line) + b"\n"
    await working


ROUTES = [
    Route(
        method="POST",
        path=operation.path,
        handler=_handler(operation),
        summary=operation.summary,
        answer=JsonLines,
        body=operation.request,
        access="admin",
    )
    for operation in OPERATIONS
]
