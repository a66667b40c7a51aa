"""Running the server: it has the home to itself, and saves what is running when it ends."""

import asyncio
import contextlib
import os
import resource
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import structlog
import uvicorn
import uvloop
from starlette.types import ASGIApp

from candlestep import __version__
from candlestep.api.http.auth import Authenticator
from candlestep.api.routes import APIS
from candlestep.api.server.app import App
from candlestep.api.server.cors import CrossOriginAccess
from candlestep.api.server.first_key import create_first_key
from candlestep.api.server.logs import configure_logs, release_logs
from candlestep.api.server.uvicorn_protocol import ConnectionLimits, Connections
from candlestep.api.services import Services
from candlestep.api.sessions.host import SessionHost
from candlestep.api.settings import Settings
from candlestep.data.errors import StorageUnavailable
from candlestep.data.records.accounts import name_server, server_name
from candlestep.data.store.database import Store
from candlestep.data.store.home import is_open_to_others, private_files
from candlestep.data.store.server_file import SERVER_FILE, RunningServer
from candlestep.sandbox import InvalidState, SandboxError

log = structlog.get_logger()

_MAX_FILES = 65_536
_SHUTDOWN_SECONDS = 5
"""The time that unfinished requests get when the server is asked to stop."""
_WARM_UP_SECONDS = 10
"""The time after which workers are started even without a job: a server that is up for a moment only,
as a command starts it, needs none."""


class AddressRefused(SandboxError):
    """Raised when the server cannot listen on its address."""

    code = "INVALID_PARAMETER"


def serve(
    settings: Settings,
    host: type[SessionHost] = SessionHost,
    on_ready: Callable[[str], object] | None = None,
) -> None:
    """Serve until a signal stops the process; print the URL when the server is ready.

    ``host`` makes the host of its sessions, from the arguments of ``SessionHost``. ``on_ready`` is
    called with the URL.

    Raises ``StoreLocked`` if another server runs on the home, ``InvalidState`` if there is no key
    and others can reach the address or a proxy, ``InvalidParameter`` for a file without a first
    key or another name than the home has, and ``AddressRefused``.
    """
    configure_logs()
    if is_open_to_others(settings.home):
        log.warning("home_narrowed", home=str(settings.home), reason="other users could enter it")
    try:
        with private_files(), closing(Store.open(settings.home)) as store:
            settings = _prepared(settings, store)
            authenticator = Authenticator(store, settings.allow_origin)
            if authenticator.is_open:
                _require_local(settings)
            with _listening(settings) as listener:
                uvloop.run(_run(settings, store, authenticator, listener, host, on_ready))
    finally:
        release_logs()


def _prepared(settings: Settings, store: Store) -> Settings:
    """Name the server, create its first key, and return the settings with the name it has."""
    if settings.server_name:
        name_server(store, settings.server_name)
    if settings.first_key_file is not None:
        create_first_key(store, settings.first_key_file)
    return msgspec.structs.replace(settings, server_name=server_name(store))


def _require_local(settings: Settings) -> None:
    """Raise ``InvalidState`` if others than this machine could use a server without keys."""
    if not settings.is_loopback:
        raise InvalidState(
            f"there is no API key, and others can reach {settings.host}: create a key with"
            " `candlestep keys create NAME`, or serve on 127.0.0.1"
        )
    if settings.trusted_proxies:
        raise InvalidState(
            "there is no API key, and others can reach the server through its proxies: create a"
            " key with `candlestep keys create NAME`, or leave out --trusted-proxies"
        )


class _Uvicorn(uvicorn.Server):
    """Leaves signals to ``_run``: uvicorn would raise them again before everything is saved."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _run(
    settings: Settings,
    store: Store,
    authenticator: Authenticator,
    listener: socket.socket,
    host: type[SessionHost],
    on_ready: Callable[[str], object] | None,
) -> None:
    max_files = raise_file_limit()
    limits = ConnectionLimits(
        min(settings.max_connections, max_files // 2),
        settings.head_seconds,
        settings.body_seconds,
        settings.keep_alive_seconds,
    )
    connections = Connections(limits)
    services = Services(settings, store, authenticator, max_files - limits.most, host)
    await services.recover()
    url = _url(listener)
    app = App(APIS, services)
    served: ASGIApp = app
    if settings.allow_origin:
        served = CrossOriginAccess(app, settings.allow_origin)
    config = uvicorn.Config(
        served,
        interface="asgi3",
        http=connections.new_protocol,  # type: ignore[arg-type]
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

    def stop() -> None:
        server.should_exit = True
        # uvicorn waits for answers that are being sent, also for those of long commands.
        services.threads.stop_all_long()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    closing_late_ones = asyncio.create_task(connections.keep_closing_late_ones())
    with _announced(settings.home, url, authenticator.command_token):
        while not server.started and not serving.done():
            await asyncio.sleep(0.005)
        _greet(url, is_open=authenticator.is_open)
        if on_ready is not None:
            on_ready(url)
        warming_up = loop.call_later(_WARM_UP_SECONDS, services.jobs.warm_up)
        try:
            await serving
        finally:
            warming_up.cancel()
            closing_late_ones.cancel()
            await app.tools.close()
            await services.close()


def raise_file_limit() -> int:
    """Raise this process's limit of open files as far as allowed, and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, _MAX_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        # macOS says that there is no limit, and refuses more than it allows a process.
        with contextlib.suppress(OSError, ValueError):
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
    announced = RunningServer(os.getpid(), url, token, __version__)
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.encode(announced))
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise StorageUnavailable(f"{path} cannot be written: {error.strerror}") from None
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
