"""Commands beside a running server: it has the store open, so it does their work."""

import os
from pathlib import Path

import httpx
import msgspec

from candlestep.api.admin.operation import Input, Operation, Report, Result
from candlestep.api.http.auth import TOKEN_HEADER
from candlestep.api.routes.admin import Line
from candlestep.data.errors import StorageUnavailable
from candlestep.data.store.database import Store
from candlestep.sandbox import SandboxError

FILE_NAME = "server.json"
"""In the home: where the running server is, readable by its user alone."""

_TIMEOUT = httpx.Timeout(5.0, read=None)
"""A long command may be silent for as long as it takes."""


class RunningServer(msgspec.Struct, frozen=True):
    """What a server writes into its home: its process, where it listens, and what opens it."""

    pid: int
    url: str
    token: str


class RefusedByServer(SandboxError):
    """The server refused a command, in its words."""

    code = "REFUSED"


def perform(
    command: Operation[Input, Result], home: Path, request: Input, report: Report
) -> Result:
    """Run a command on the store of ``home``, or have the server do it that runs on it.

    Raises ``SandboxError`` for what is refused, from here or from there.
    """
    server = running_server(home)
    if server is not None:
        try:
            return _send(server, command, request, report)
        except httpx.ConnectError:
            pass  # It has ended, or is about to: the store tells whether it is free.
        except httpx.HTTPError as error:
            raise StorageUnavailable(
                f"the connection to the server at {server.url} broke ({error});"
                " what it had begun, it finishes or undoes: try again"
            ) from None
    store = Store.open(home)
    try:
        return command.run(store, request, report)
    finally:
        store.close()


def running_server(home: Path) -> RunningServer | None:
    """The server that runs on ``home``; None if there is none, or only what one left behind."""
    try:
        server = msgspec.json.decode((home / FILE_NAME).read_bytes(), type=RunningServer)
        os.kill(server.pid, 0)
    except (FileNotFoundError, NotADirectoryError, msgspec.MsgspecError, ProcessLookupError):
        return None
    except PermissionError:
        raise StorageUnavailable(
            f"{home} is in use by a server of another user; run the command as that user"
        ) from None
    return server


def _send(
    server: RunningServer, command: Operation[Input, Result], request: Input, report: Report
) -> Result:
    # The server is on this machine: no proxy of the environment is of any use.
    with (
        httpx.Client(base_url=server.url, timeout=_TIMEOUT, trust_env=False) as client,
        client.stream(
            "POST",
            command.path,
            content=msgspec.json.encode(request),
            headers={"content-type": "application/json", TOKEN_HEADER.decode(): server.token},
        ) as answer,
    ):
        if answer.status_code != httpx.codes.OK:
            raise _refusal(server, answer)
        for text in answer.iter_lines():
            line = msgspec.json.decode(text, type=Line)
            if line.error:
                raise RefusedByServer(line.error.message)
            if line.progress is None:
                return msgspec.convert(line.result, command.result)
            report(line.progress)
    raise httpx.RemoteProtocolError("the answer is not complete")


def _refusal(server: RunningServer, answer: httpx.Response) -> RefusedByServer:
    try:
        message = msgspec.json.decode(answer.read())["message"]
    except (msgspec.DecodeError, KeyError, TypeError):
        message = "is it a server of Candlestep?"
    return RefusedByServer(f"the server at {server.url} answers {answer.status_code}: {message}")
