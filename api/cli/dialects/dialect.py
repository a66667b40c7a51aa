"""``candlestep dialect``: what a client of an exchange has to say to trade in a session."""

from contextlib import closing

import click

from candlestep.api.cli.dialects.session import served_session, session_options
from candlestep.api.dialects.binance.clients import CLIENTS, Client, snippet


@click.command("dialect")
@session_options
@click.argument("session_id", metavar="SESSION")
@click.option(
    "--client",
    type=click.Choice(CLIENTS),
    default="ccxt",
    show_default=True,
    help="Library of the bot.",
)
@click.option(
    "--clock",
    type=click.Choice(["manual", "paced"]),
    default="manual",
    show_default=True,
    help="How time passes: by steps, or with the wall clock.",
)
def command(
    home: str | None, url: str | None, key: str | None, session_id: str, client: Client, clock: str
) -> None:
    """Print the lines by which a client of Binance trades here.

    They name SESSION and a key of it, made by this call; its secret is shown here alone. SESSION
    is started if it is not.
    """
    with closing(served_session(home, url, key, session_id)) as session:
        opened = session.open(clock)
    print(snippet(client, opened.base_url, opened.api_key, opened.api_secret), end="")
