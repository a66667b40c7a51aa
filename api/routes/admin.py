"""The commands as a running server does them: each answers lines of JSON as it goes on.

A line is ``{"progress": …}``; the last is ``{"result": …}``, or ``{"error": {code, message,
details}}``. Only who can read the token in the server's home may call them.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec
import structlog

from candlestep.api.admin.operation import COMMANDS, Command, Progress
from candlestep.api.errors import InternalError
from candlestep.api.http.route import Call, Handler, Lines, Route, Stream
from candlestep.sandbox import SandboxError

if TYPE_CHECKING:
    from candlestep.api.services import Server

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


def _handler(command: Command[Any, Any]) -> Handler:
    async def handle(server: "Server", call: Call) -> Lines:
        return _lines(server, command, call.body)

    return handle


async def _lines(
    server: "Server", command: Command[Any, Any], request: msgspec.Struct
) -> AsyncIterator[bytes]:
    """The lines of a command, which runs to its end even if nobody reads them any more."""
    loop = asyncio.get_running_loop()
    lines: asyncio.Queue[Line] = asyncio.Queue()

    def send(line: Line) -> None:
        # A loop that is closed has nobody left to tell.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(lines.put_nowait, line)

    def tell(progress: Progress) -> None:
        send(Line(progress=progress))

    def work() -> None:
        try:
            result = command.run(server.store, request, tell)
            server.gate.reload()
            line = Line(result=result)
        except SandboxError as error:
            line = Line(error=ErrorLine(error.code, error.message, error.details))
        except Exception:
            log.exception("command_failed", path=command.path)
            message = "the server failed at this; its log says how"
            line = Line(error=ErrorLine(InternalError.code, message, {}))
        send(line)

    working = asyncio.create_task(server.threads.run_long(work))
    is_last = False
    while not is_last:
        line = await lines.get()
        is_last = line.progress is None
        yield msgspec.json.encode(line) + b"\n"
    await working


ROUTES = [
    Route(
        method="POST",
        path=command.path,
        handler=_handler(command),
        summary=command.summary,
        answer=Stream,
        body=command.request,
        access="admin",
    )
    for command in COMMANDS
]
