"""A server in this process: the app and its services on an event loop in a thread, without sockets."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx

from candlestep.api.http.auth import Authenticator
from candlestep.api.routes import APIS
from candlestep.api.server.app import App
from candlestep.api.services import Services
from candlestep.api.settings import Settings
from candlestep.data.store.database import Store


class _Bridge(httpx.BaseTransport):
    """Sends the requests of a plain client to an app on another thread's event loop."""

    def __init__(self, app: App, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = httpx.ASGITransport(app)
        self._loop = loop

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return asyncio.run_coroutine_threadsafe(self._answer(request), self._loop).result(60)

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        response = await self._transport.handle_async_request(request)
        content = await response.aread()
        return httpx.Response(response.status_code, headers=response.headers, content=content)


class HostedHome:
    """The server of a home, as long as its context lasts."""

    def __init__(self, services: Services, app: App, loop: asyncio.AbstractEventLoop) -> None:
        self.services = services
        self._bridge = _Bridge(app, loop)

    def client(self, key: str | None = None) -> httpx.Client:
        """Return a client of the server, with or without an API key."""
        headers = {} if key is None else {"X-API-Key": key}
        return httpx.Client(transport=self._bridge, base_url="http://localhost", headers=headers)


@contextmanager
def hosted(home: Path, **settings: Any) -> Iterator[HostedHome]:
    """Serve a home in this process; its end is that of a server that is stopped."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        with closing(Store.open(home)) as store:
            options = Settings(home=home, workers=1, **settings)

            async def start() -> Services:
                services = Services(options, store, Authenticator(store), 1024)
                await services.recover()
                return services

            services = asyncio.run_coroutine_threadsafe(start(), loop).result(60)
            app = App(APIS, services)
            try:
                yield HostedHome(services, app, loop)
            finally:
                asyncio.run_coroutine_threadsafe(app.tools.close(), loop).result(60)
                asyncio.run_coroutine_threadsafe(services.close(), loop).result(60)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
