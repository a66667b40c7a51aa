"""The command, which an MCP host runs: it answers each line of its standard input."""

import os
import signal
import sys
from typing import Any

import click

from candlestep.api.cli.home import home_option
from candlestep.api.cli.mcp.home_server import HomeServer
from candlestep.api.cli.mcp.proxy import KEY_VARIABLE, Proxy
from candlestep.api.settings import home_directory


@click.command("mcp")
@home_option
def command(home: str | None) -> None:
    """Offer tools to a language model, over standard input and output.

    An MCP host runs this command. It uses the server that runs on the home, with the key in
    CANDLESTEP_KEY if the server has keys, or else starts one until the host leaves.
    """
    signal.signal(signal.SIGTERM, _leave)
    with HomeServer(home_directory(home)).used() as server:
        proxy = Proxy(server, os.environ.get(KEY_VARIABLE, ""))
        for line in sys.stdin.buffer:
            if line.strip():
                for answer in proxy.answers(line):
                    sys.stdout.buffer.write(answer + b"\n")
                    sys.stdout.buffer.flush()


def _leave(number: int, frame: Any) -> None:
    sys.exit(0)
