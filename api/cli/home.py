"""Shared by commands on a home: the option that names it, and operations on its store."""

import click

from candlestep.api.admin.operation import Input, Operation, Result
from candlestep.api.admin.running_server import run_operation
from candlestep.api.cli.messages import print_note, sentence
from candlestep.api.cli.terminal import ProgressBar
from candlestep.api.settings import DESCRIPTIONS, home_directory
from candlestep.data.store.home import is_open_to_others

home_option = click.option(
    "--home",
    metavar="DIRECTORY",
    help=sentence(DESCRIPTIONS["home"]),
    shell_complete=click.Path(file_okay=False).shell_complete,
)


def run(operation: Operation[Input, Result], home: str | None, request: Input) -> Result:
    """Run an operation on the store of a home, here or in its server, and show its progress."""
    directory = home_directory(home)
    was_open = is_open_to_others(directory)
    try:
        with ProgressBar() as bar:
            return run_operation(operation, directory, request, bar.show)
    finally:
        if was_open and not is_open_to_others(directory):
            print_note(
                f"{directory} was open to other users of this machine; it is yours alone now"
            )


def command_on(home: str | None, command: str) -> str:
    """Return how to call another command on the same home, quoted for a sentence."""
    option = f" --home {home}" if home else ""
    return f"`candlestep {command}{option}`"
