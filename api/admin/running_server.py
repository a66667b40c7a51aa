"""Operations on a home whose store a running server has open: the server runs them."""

import os
from contextlib import closing
from pathlib import Path

import httpx
import msgspec

from candlestep.api.admin.operation import Input, Line, Operation, Report, Result
from candlestep.api.errors import RefusedByServer
from candlestep.api.http.auth import TOKEN_HEADER
from candlestep.data.errors import StorageUnavailable
from candlestep.data.store.database import Store

SERVER_FILE = "server.json"
"""The file in a home that says where its server runs, readable by the user only."""

_TIMEOUT = httpx.Timeout(5.0, read=None)
"""Without a limit on reading, because a long operation may send nothing for minutes."""


class RunningServer(msgspec.Struct, frozen=True):
    """A server as it announces itself in its home: process, URL, and token for operations."""

    pid: int
    url: str
    token: str


def run_operation(
    operation: Operation[Input, Result], home: Path, request: Input, report: Report
) -> Result:
    """Run an operation on the store of ``home``, in the server that runs on it if there is one.

    Raises ``SandboxError`` for a refusal, whether by the store or by the server.
    """
    server = running_server(home)
    if server is not None:
        try:
            return _run_on_server(server, operation, request, report)
        except httpx.ConnectError:
            pass  # The server has ended or is about to: opening the store shows whether it has.
        except httpx.HTTPError as error:
            raise StorageUnavailable(
                f"the connection to the server at {server.url} broke ({error});"
                " the server finishes or undoes what it has begun: try again"
            ) from None
    with closing(Store.open(home)) as store:
        return operation.run(store, request, report)


def running_server(home: Path) -> RunningServer | None:
    """Return the server that runs on ``home``; None if its file is absent, broken or left behind."""
    try:
        server = msgspec.json.decode((home / SERVER_FILE).read_bytes(), type=RunningServer)
        os.kill(server.pid, 0)
    except (FileNotFoundError, NotADirectoryError, msgspec.MsgspecError, ProcessLookupError):
        return None
    except PermissionError:
        raise StorageUnavailable(
            f"{home} is in use by a server of another user; run the command as that user"
        ) from None
    return server


def _run_on_server(
    server: RunningServer, operation: Operation[Input, Result], request: Input, report: Report
) -> Result:
    # The server is on this machine, so the environment's proxies must not be used.
    with httpx.stream(
        "POST",
        server.url + operation.path,
        json=msgspec.to_builtins(request),
        headers={TOKEN_HEADER.decode(): server.token},
        timeout=_TIMEOUT,
        trust_env=False,
    ) as answer:
        if answer.status_code != httpx.codes.OK:
            raise RefusedByServer.of_answer(server.url, answer.status_code, answer.read())
        for text in answer.iter_lines():
            line = msgspec.json.decode(text, type=Line)
            if line.error:
                raise RefusedByServer(line.error.message)
            if line.progress is None:
                return msgspec.convert(line.result, operation.result)
            report(line.progress)
    raise httpx.RemoteProtocolError("the answer is not complete")
