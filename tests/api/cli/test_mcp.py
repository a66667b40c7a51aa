"""``candlestep mcp`` as a host runs it: a process that speaks over standard input and output."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from mcp import Client, StdioServerParameters
from mcp_types import TextContent, TextResourceContents

from candlestep.data.store.server_file import SERVER_FILE
from tests.support.api_client import make_key, sample_home, wait_for
from tests.support.patience import PATIENCE
from tests.support.server_process import running

COMMAND = ["-m", "candlestep.api", "mcp", "--home"]


def spoken(home: Path, *lines: str, key: str = "") -> list[Any]:
    """Return what the command answers to lines on its standard input."""
    done = subprocess.run(
        [sys.executable, *COMMAND, str(home)],
        input="\n".join(lines) + "\n",
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE,
        env=os.environ | {"CANDLESTEP_KEY": key},
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_it_starts_a_server_on_the_home_and_ends_it(tmp_path: Path) -> None:
    home = sample_home(tmp_path / "home")

    async def talk() -> None:
        host = StdioServerParameters(command=sys.executable, args=[*COMMAND, str(home)])
        async with Client(host) as client:
            assert len((await client.list_tools()).tools) == 14
            assert client.instructions is not None
            assert (home / SERVER_FILE).exists()
            (content,) = (await client.call_tool("list_data", {"symbol": "ethusdt"})).content
            assert isinstance(content, TextContent)
            assert "binance ETHUSDT 1m" in content.text
            (rules,) = (await client.read_resource("candlestep://rules")).contents
            assert isinstance(rules, TextResourceContents)
            assert "stop_loss" in rules.text
            prompt = await client.get_prompt("build_strategy", {"idea": "buy × dips"})
            assert "buy × dips" in str(prompt.messages[0].content)

    asyncio.run(talk())
    # A host waits a moment for the command, which waits for the server: on a busy machine, not for long.
    wait_for((home / SERVER_FILE).exists, lambda exists: not exists)


def test_it_uses_the_server_that_runs_and_the_key_of_the_environment(tmp_path: Path) -> None:
    home = sample_home(tmp_path / "home")
    key = make_key(home, "ann")
    listed = json.dumps({"jsonrpc": "2.0", "id": 7, "method": "tools/list"})
    notified = json.dumps({"jsonrpc": "2.0", "method": "notifications/initialized"})
    with running(home):
        (refused,) = spoken(home, listed)
        assert refused["id"] == 7
        assert "CANDLESTEP_KEY" in refused["error"]["message"]
        wrong, answer = spoken(home, "{nonsense", notified, listed, key=key)
        assert wrong["error"]["code"] == -32700
        assert len(answer["result"]["tools"]) == 14
        assert (home / SERVER_FILE).exists()
