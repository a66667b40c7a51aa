"""Shared by ``show`` and ``plot``: what the argument names."""

from pathlib import Path

from candlestep.api.admin.pictures import Subject
from candlestep.api.cli.files import absolute_path


def subject_of(name: str) -> Subject:
    """Return the recording that a name is the path of, or else what has it as its id."""
    if Path(name).is_file():
        return Subject(absolute_path(name), is_file=True)
    return Subject(name)
