"""Shared by all commands: exit codes, the style of errors, and advice on what to do next."""

import sys

REFUSED = 1
MISUSED = 2
NOT_COMPARED = 3
INTERRUPTED = 130
"""Exit codes besides 0; the third is that of replays alone, whose 1 means a difference."""


def print_error(message: str) -> None:
    """Print an error to standard error."""
    print(f"candlestep: {message}", file=sys.stderr)


def print_note(message: str) -> None:
    """Print what a command did besides what it was asked for, to standard error."""
    print(f"candlestep: {message}", file=sys.stderr)


def suggest(advice: str) -> None:
    """Print what to do next."""
    print(f"\nNext: {advice}.")


def sentence(text: str) -> str:
    """Return a description as a sentence, for the help of an option."""
    return f"{text[:1].upper()}{text[1:]}."
