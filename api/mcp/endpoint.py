"""``POST /mcp``: the tools over HTTP, loaded when somebody first asks for them.

The SDK takes a second and tens of megabytes to load, which a server without language models saves.
"""

import asyncio
from importlib import import_module
from typing import Any

from starlette.types import Receive, Scope, Send

from candlestep.api.errors import NotFound
from candlestep.api.http.auth import Caller
from candlestep.api.mcp.caller import CALLER
from candlestep.api.services import Services

PATH = "/mcp"


class McpEndpoint:
    """The tools of a server over HTTP. Call its methods on the event loop."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._loading = asyncio.Lock()
        self._manager: Any = None
        self._running: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()

    async def answer(self, caller: Caller, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request of a caller; raises ``NotFound`` where the SDK is not installed."""
        manager = await self._loaded()
        token = CALLER.set(caller)
        try:
            await manager.handle_request(scope, receive, send)
        finally:
            CALLER.reset(token)

    async def close(self) -> None:
        """End what runs in the background, if anything was loaded."""
        self._closing.set()
        if self._running is not None:
            await self._running

    async def _loaded(self) -> Any:
        """Return the SDK's manager of requests, loaded and running."""
        async with self._loading:
            if self._manager is None:
                server = await asyncio.to_thread(_load)
                manager = server.http_manager(self._services)
                started = asyncio.get_running_loop().create_future()
                self._running = asyncio.create_task(self._run(manager, started))
                await started
                self._manager = manager
        return self._manager

    async def _run(self, manager: Any, started: asyncio.Future[None]) -> None:
        """Run the manager: its tasks belong to the task that entered it, which must leave it too."""
        try:
            async with manager.run():
                started.set_result(None)
                await self._closing.wait()
        except Exception as error:
            if started.done():
                raise
            started.set_exception(error)


def _load() -> Any:
    try:
        return import_module("candlestep.api.mcp.server")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in ("mcp", "mcp_types"):
            raise
        raise NotFound(
            "the tools for language models are not installed here: pip install 'candlestep[mcp]'"
        ) from None
