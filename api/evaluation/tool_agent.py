"""An agent that is a server of tools: a call of one trades a session. Loading this loads the SDK."""

import asyncio
from collections.abc import Mapping
from typing import Any

from mcp import Client
from mcp.shared.exceptions import MCPError
from mcp_types import TextContent


def call_tool(address: str, tool: str, arguments: Mapping[str, Any], seconds: float) -> str | None:
    """Call a tool of the server at ``address``; return why it failed, or None.

    It must answer within ``seconds``.
    """
    try:
        return asyncio.run(asyncio.wait_for(_call(address, tool, dict(arguments)), seconds))
    except TimeoutError:
        return f"the tool {tool} of {address} did not answer within {seconds:g} seconds"
    except (ExceptionGroup, MCPError, RuntimeError) as error:
        return f"{address} cannot be called: {_cause(error)}"


async def _call(address: str, tool: str, arguments: dict[str, Any]) -> str | None:
    async with Client(address) as client:
        result = await client.call_tool(tool, arguments)
    if not result.is_error:
        return None
    texts = [part.text for part in result.content if isinstance(part, TextContent)]
    return f"the tool {tool} failed: {' '.join(texts)}"


def _cause(error: BaseException) -> BaseException:
    """Return the error that a group of errors is about."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
