"""Files and directories named on the command line."""

import os
from functools import partial
from pathlib import Path

import click


def _file_name(text: str) -> str:
    """Return the name of a file or directory, which need not exist; reject one that is not UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise click.BadParameter("its name is not UTF-8; rename the file") from None
    return text


file_argument = partial(
    click.argument, type=_file_name, shell_complete=click.Path(dir_okay=False).shell_complete
)
"""A ``click.argument`` that takes names of files, which the shell completes."""

directory_argument = partial(
    click.argument, type=_file_name, shell_complete=click.Path(file_okay=False).shell_complete
)
"""A ``click.argument`` that takes the name of a directory, which the shell completes."""

file_option = partial(
    click.option,
    type=_file_name,
    metavar="FILE",
    shell_complete=click.Path(dir_okay=False).shell_complete,
)
"""A ``click.option`` that takes the name of a file, which the shell completes."""


def absolute_path(name: str) -> str:
    """Return an absolute path, because a running server has a working directory of its own."""
    return os.path.abspath(Path(name).expanduser())
