"""The agent under test, run on one session: a command, or a service or a tool at an address."""

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import httpx

from candlestep.api.evaluation.plan import AgentFile

_SHOWN = 400


class Access(NamedTuple):
    """The session that an agent trades, and the key with which it may."""

    url: str
    session_id: str
    key: str | None
    """None on a server without keys."""

    @property
    def mcp_url(self) -> str:
        """The address of the tools for language models."""
        return f"{self.url}/mcp"

    @property
    def fields(self) -> dict[str, str | None]:
        """All of it, for the body of a request or the arguments of a tool."""
        return {
            "url": self.url,
            "mcp_url": self.mcp_url,
            "session_id": self.session_id,
            "key": self.key,
        }


def run_agent(agent: AgentFile, folder: Path, access: Access) -> str | None:
    """Let the agent trade one session until it returns; return why it failed, or None.

    A command gets the environment variables ``CANDLESTEP_URL``, ``CANDLESTEP_MCP_URL``,
    ``CANDLESTEP_SESSION`` and ``CANDLESTEP_KEY``, which is empty where there are no keys. A service
    gets a POST of ``Access.fields``, a tool gets them as its arguments; both answer when the session
    is done.
    """
    if agent.command is not None:
        return _run_command(agent.command, agent.seconds, folder, access)
    assert agent.address is not None, "a plan has one of the two"
    if agent.tool is not None:
        return _call_tool(agent.address, agent.tool, agent.seconds, access)
    return _call_service(agent.address, agent.seconds, access)


def _run_command(command: list[str], seconds: float, folder: Path, access: Access) -> str | None:
    program = sys.executable if command[0] == "python" else command[0]
    environment = {
        **os.environ,
        "CANDLESTEP_URL": access.url,
        "CANDLESTEP_MCP_URL": access.mcp_url,
        "CANDLESTEP_SESSION": access.session_id,
        "CANDLESTEP_KEY": access.key or "",
    }
    try:
        done = subprocess.run(
            [program, *command[1:]],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"it did not end within {seconds:g} seconds"
    except OSError as error:
        return f"{program} cannot be run: {error.strerror}"
    if done.returncode == 0:
        return None
    return f"it ended with code {done.returncode}: {done.stderr.strip()[-_SHOWN:]}"


def _call_service(address: str, seconds: float, access: Access) -> str | None:
    try:
        answer = httpx.post(address, json=access.fields, timeout=seconds)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return f"{address} cannot be reached or did not answer in time: {error}"
    if answer.is_success:
        return None
    return f"{address} answers {answer.status_code}: {answer.text[:_SHOWN]}"


def _call_tool(address: str, tool: str, seconds: float, access: Access) -> str | None:
    try:
        tools = import_module("candlestep.api.evaluation.tool_agent")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in ("mcp", "mcp_types"):
            raise
        return "tools cannot be called from here: pip install 'candlestep[mcp]'"
    failure: str | None = tools.call_tool(address, tool, access.fields, seconds)
    return None if failure is None else failure[:_SHOWN]
