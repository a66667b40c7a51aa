"""Files named on the command line."""

import os
from pathlib import Path

import click
from click.shell_completion import CompletionItem


def file_name(text: str) -> str:
    """Return the name of a file, which need not exist; reject one that is not UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise click.BadParameter("its name is not UTF-8; rename the file") from None
    return text


def absolute_path(name: str) -> str:
    """Return an absolute path, because a running server has a working directory of its own."""
    return os.path.abspath(Path(name).expanduser())


def complete_file(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Have the shell complete the name of a file."""
    return [CompletionItem(incomplete, type="file")]


def complete_directory(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Have the shell complete the name of a directory."""
    return [CompletionItem(incomplete, type="dir")]
