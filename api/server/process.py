"""Running the server: it has the home to itself, and saves what is running when it ends."""

import asyncio
import contextlib
import os
import resource
import signal
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import uvicorn
import uvloop

from candlestep.api.admin.running_server import SERVER_FILE, RunningServer
from candlestep.api.http.auth import Authenticator
from candlestep.api.routes import APIS
from candlestep.api.server.app import App
from candlestep.api.server.logs import configure_logs, release_logs
from candlestep.api.server.uvicorn_protocol import BoundedProtocol
from candlestep.api.services import Services
from candlestep.api.settings import Settings
from candlestep.data.store.database import Store
from candlestep.sandbox import InvalidState, SandboxError

_MAX_FILES = 65_536
_SHUTDOWN_SECONDS = 5
"""The time that unfinished requests get when the server is asked to stop."""
_WARM_UP_SECONDS = 1
"""The time after which workers are started even without a job, so as not to delay the start."""


class AddressRefused(SandboxError):
    """Raised when the server cannot listen on its address."""

    code = "INVALID_PARAMETER"


def serve(settings: Settings) -> None:
    """Serve until a signal stops the process; print the URL when the server is ready.

    Raises ``StoreLocked`` if another server runs on the home, ``InvalidState`` if there is no key
    and others can reach the address, and ``AddressRefused``.
    """
    configure_logs()
    try:
        with closing(Store.open(settings.home)) as store:
            authenticator = Authenticator(store)
            if authenticator.is_open and not settings.is_loopback:
                raise InvalidState(
                    f"there is no API key, and others can reach {settings.host}: create a key with"
                    " `candlestep keys create NAME`, or serve on 127.0.0.1"
                )
            with _listening(settings) as listener:
                uvloop.run(_run(settings, store, authenticator, listener))
    finally:
        release_logs()


class _Uvicorn(uvicorn.Server):
    """Leaves signals to ``_run``: uvicorn would raise them again before everything is saved."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _run(
    settings: Settings, store: Store, authenticator: Authenticator, listener: socket.socket
) -> None:
    services = Services(settings, store, authenticator, _raise_file_limit())
    await services.recover()
    url = _url(listener)
    config = uvicorn.Config(
        App(APIS, services),
        http=BoundedProtocol,
        lifespan="off",
        proxy_headers=False,
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
    )
    server = _Uvicorn(config)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, lambda: setattr(server, "should_exit", True))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    with _announced(settings.home, url, authenticator.command_token):
        while not server.started and not serving.done():
            await asyncio.sleep(0.005)
        _greet(url, is_open=authenticator.is_open)
        warming_up = loop.call_later(_WARM_UP_SECONDS, services.jobs.warm_up)
        try:
            await serving
        finally:
            warming_up.cancel()
            await services.close()


def _raise_file_limit() -> int:
    """Raise this process's limit of open files as far as allowed, and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, _MAX_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    return wanted if soft == resource.RLIM_INFINITY else soft


def _greet(url: str, *, is_open: bool) -> None:
    print(f"Candlestep serves {url} (API: {url}/docs)", flush=True)
    if is_open:
        print(
            "There is no API key, so anyone on this machine may use it;"
            " `candlestep keys create NAME` closes it.",
            flush=True,
        )


@contextlib.contextmanager
def _announced(home: Path, url: str, token: str) -> Iterator[None]:
    """Tell the command line where the server is, in a file that only this user can read."""
    path = home / SERVER_FILE
    temporary = path.with_suffix(".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.encode(RunningServer(os.getpid(), url, token)))
    temporary.replace(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _listening(settings: Settings) -> Iterator[socket.socket]:
    """Yield a listening socket on the host and port of ``settings``."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
    except OSError as error:
        raise AddressRefused(
            f"cannot listen on {settings.host} port {settings.port}: {error.strerror};"
            " choose another port with --port (0 takes any free one)"
        ) from None
    with listener:
        yield listener


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
