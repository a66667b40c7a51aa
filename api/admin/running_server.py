"""Operations on a home whose store a running server has open: the server runs them."""

from contextlib import closing
from functools import cache
from pathlib import Path

import httpx
import msgspec

from candlestep.api.admin.operation import Input, Line, OpenHome, Operation, Report, Result
from candlestep.api.errors import RefusedByServer
from candlestep.api.settings import Settings
from candlestep.data.errors import StorageUnavailable
from candlestep.data.market.candle_cache import CandleCache
from candlestep.data.store.database import Store
from candlestep.data.store.home import private_files
from candlestep.data.store.server_file import TOKEN_HEADER, RunningServer, running_server

_TIMEOUT = httpx.Timeout(5.0, read=30.0)
"""The seconds to connect, and those to wait for a server, which sends something every second."""


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
        except httpx.TimeoutException:
            raise StorageUnavailable(
                f"the server at {server.url} does not answer; its process {server.pid} has the"
                " store: let it go on, or end it, and try again"
            ) from None
        except httpx.HTTPError as error:
            raise StorageUnavailable(
                f"the connection to the server at {server.url} broke ({error});"
                " the server undoes what it has not finished: try again"
            ) from None
    if operation.check is not None:
        operation.check(request, Settings.from_environment(home=str(home)), report)
    with private_files(), closing(Store.open(home)) as store:
        return operation.run(_with_cache(store), request, report)


def _with_cache(store: Store) -> OpenHome:
    """Return a home with a cache of its own, which is made when candles are first needed."""

    @cache
    def candle_cache() -> CandleCache:
        home = str(store.path.parent)
        return CandleCache(store, Settings.from_environment(home=home).memory_budget)

    return OpenHome(store, lambda request: candle_cache().parts(request))


def _run_on_server(
    server: RunningServer, operation: Operation[Input, Result], request: Input, report: Report
) -> Result:
    # The server is on this machine, so the environment's proxies must not be used.
    with httpx.stream(
        "POST",
        server.url + operation.path,
        json=msgspec.to_builtins(request),
        headers={TOKEN_HEADER: server.token},
        timeout=_TIMEOUT,
        trust_env=False,
    ) as answer:
        if answer.status_code != httpx.codes.OK:
            raise RefusedByServer.of_answer(server.url, answer.status_code, answer.read())
        for text in answer.iter_lines():
            if not text:
                continue
            line = msgspec.json.decode(text, type=Line)
            if line.error:
                raise RefusedByServer(line.error.message)
            if line.progress is None:
                return msgspec.convert(line.result, operation.result)
            report(line.progress)
    raise httpx.RemoteProtocolError("the answer is not complete")
