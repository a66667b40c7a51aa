"""The tools for language models, called through the SDK's client in this process."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any, NamedTuple

from mcp import Client
from mcp_types import CallToolResult, TextContent

from candlestep.api.http.auth import Authenticator, Caller
from candlestep.api.mcp.caller import CALLER
from candlestep.api.mcp.server import tools_server
from candlestep.api.services import Services
from candlestep.api.settings import Settings
from candlestep.data.records.accounts import default_agent, ensure_account
from candlestep.data.store.database import Store

PERIOD = {"start": "2025-01-05", "end": "2025-01-12"}


class Answer(NamedTuple):
    """An answer of a tool: its text, its structured content, and its bytes together."""

    text: str
    content: dict[str, Any]
    size: int
    is_error: bool


class Tools:
    """A client of the tools, which keeps the answer of every call."""

    def __init__(self, client: Client, services: Services) -> None:
        self.client = client
        self.services = services
        self.answers: list[tuple[str, Answer]] = []

    async def __call__(self, tool: str, **arguments: Any) -> Answer:
        """Call a tool that must do as it is told."""
        answer = await self.call(tool, arguments)
        assert not answer.is_error, answer.text
        return answer

    async def refusal(self, tool: str, **arguments: Any) -> str:
        """Return the text with which a tool refuses a call."""
        answer = await self.call(tool, arguments)
        assert answer.is_error, answer.text
        return answer.text

    async def call(self, tool: str, arguments: dict[str, Any]) -> Answer:
        answer = _answer(await self.client.call_tool(tool, arguments))
        self.answers.append((tool, answer))
        return answer

    async def start(self, **arguments: Any) -> str:
        """Create a session of a week of BTCUSDT; return its id."""
        answer = await self("create_session", **{"symbols": ["BTCUSDT"], **PERIOD, **arguments})
        session_id: str = answer.content["session_id"]
        return session_id


def with_tools(home: Path, test: Callable[[Tools], Awaitable[None]]) -> None:
    """Run a test with the tools over a home, as its default account."""

    async def run() -> None:
        async with tools_of(home) as tools:
            await test(tools)

    asyncio.run(run())


@asynccontextmanager
async def tools_of(home: Path) -> AsyncIterator[Tools]:
    """Yield the tools over a home, for its default account."""
    with closing(Store.open(home)) as store:
        authenticator = Authenticator(store)
        settings = Settings(home=home, workers=1)
        services = Services(settings, store, authenticator, 1024)
        await services.recover()
        try:
            CALLER.set(authenticator.caller("account", {b"host": b"localhost"}))
            async with Client(tools_server(services)) as client:
                yield Tools(client, services)
        finally:
            await services.close()


def become(services: Services, account: str) -> None:
    """Let what follows in this task call as another account."""
    account_id = ensure_account(services.store, account).account_id
    agent = default_agent(services.store, account_id)
    CALLER.set(Caller(account_id, agent.agent_id, None))


def _answer(result: CallToolResult) -> Answer:
    (content,) = result.content
    assert isinstance(content, TextContent)
    size = len(content.text.encode())
    if result.structured_content is not None:
        size += len(json.dumps(result.structured_content, separators=(",", ":")))
    return Answer(content.text, result.structured_content or {}, size, result.is_error)
