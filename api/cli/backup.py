"""``candlestep backup`` and ``candlestep restore``: copy a home, and make a home of a copy."""

from pathlib import Path

import click

from candlestep.api.admin import backups
from candlestep.api.admin.operation import progress_of
from candlestep.api.cli.files import absolute_path, directory_argument
from candlestep.api.cli.home import command_on, home_option, run
from candlestep.api.cli.messages import suggest
from candlestep.api.cli.terminal import ProgressBar, minute
from candlestep.api.settings import home_directory
from candlestep.data.backups import restore
from candlestep.data.store.home import private_files


@click.command("backup")
@home_option
@directory_argument("directory", metavar="DIRECTORY")
def command(home: str | None, directory: str) -> None:
    """Copy the home into a new directory.

    A server that runs on the home goes on. The copy has the store, the journals and the results.
    """
    target = absolute_path(directory)
    backup = run(backups.BACK_UP, home, backups.BackUpTo(target))
    print(f"{target} has {backup.sessions:,} journals, in all {backup.size / 1e6:,.1f} MB.")
    suggest(f"`candlestep restore {target} --home NEW` makes a home of it")


@click.command("restore")
@home_option
@directory_argument("directory", metavar="DIRECTORY")
def restore_command(home: str | None, directory: str) -> None:
    """Make a new home of a backup.

    The home must not exist yet, or be empty.
    """
    source, target = Path(absolute_path(directory)), home_directory(home)
    with private_files(), ProgressBar() as bar:
        backup = restore(source, target, progress_of(source.name, "files", bar.show))
    print(f"{target} is as the home was at {minute(backup.made_at)} UTC; tokens have ended.")
    suggest(f"{command_on(home, 'serve')} starts a server on it")
