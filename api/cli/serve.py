"""``candlestep serve``: start the server."""

from collections.abc import Callable
from typing import Any

import click

from candlestep.api.cli.home import home_option
from candlestep.api.cli.messages import MISUSED, print_error, sentence
from candlestep.api.settings import DESCRIPTIONS, Settings, flag_name
from candlestep.sandbox import InvalidParameter


def _setting_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add an option for each setting except the home; text, because ``Settings`` parses it."""
    for setting, description in reversed(DESCRIPTIONS.items()):
        if setting != "home":
            metavar = setting.split("_")[-1].upper()
            option = click.option(
                flag_name(setting), setting, metavar=metavar, help=sentence(description)
            )
            function = option(function)
    return function


@click.command("serve")
@home_option
@_setting_options
def command(**flags: str | None) -> int:
    """Start the server."""
    try:
        settings = Settings.from_environment(**flags)
    except InvalidParameter as error:
        print_error(error.message)
        return MISUSED
    # Imported late: the help of this command needs no server, which takes time to load.
    from candlestep.api.server.process import serve

    serve(settings)
    return 0
