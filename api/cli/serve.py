"""``candlestep serve``: start the server."""

import webbrowser

import click

from candlestep.api.cli.home import home_option
from candlestep.api.cli.messages import MISUSED, print_error, sentence
from candlestep.api.settings import DESCRIPTIONS, Settings, flag_name
from candlestep.sandbox import InvalidParameter


@click.command("serve")
@home_option
@click.option("--open", "opens", is_flag=True, help="Open its first page in a browser.")
def command(opens: bool, **flags: str | None) -> int:
    """Start the server, and print the address of its first page."""
    try:
        settings = Settings.from_environment(**flags)
    except InvalidParameter as error:
        print_error(error.message)
        return MISUSED
    # Imported late: the help of this command needs no server, which takes time to load.
    from candlestep.api.server.process import serve

    serve(settings, on_ready=webbrowser.open if opens else None)
    return 0


# All are texts, because ``Settings`` parses them.
command.params.extend(
    click.Option(
        [flag_name(setting)],
        metavar=setting.split("_")[-1].upper(),
        help=sentence(description),
    )
    for setting, description in DESCRIPTIONS.items()
    if setting != "home"
)
