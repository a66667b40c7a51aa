"""Shared by both commands: the options that name a session of a server."""

import os
from collections.abc import Callable
from typing import Any

import click

from candlestep.api.admin.dialects import ServedSession, server_url
from candlestep.api.cli.home import home_option
from candlestep.api.settings import home_directory

_KEY_VARIABLE = "CANDLESTEP_KEY"


def session_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of a command on a session: its home or its server, and the key."""
    for decorator in (
        click.option(
            "--key", metavar="KEY", help=f"API key for the server (default ${_KEY_VARIABLE})."
        ),
        click.option("--url", metavar="URL", help="Server of the session (default: the home's)."),
        home_option,
    ):
        function = decorator(function)
    return function


def served_session(
    home: str | None, url: str | None, key: str | None, session_id: str
) -> ServedSession:
    """Return the session that the options and the argument of a command name."""
    address = server_url(url, home_directory(home))
    return ServedSession(address, key or os.environ.get(_KEY_VARIABLE), session_id)
