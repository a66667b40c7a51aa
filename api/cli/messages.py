"""Exit codes, errors in one style, and advice on what to do next."""

import sys

REFUSED = 1
MISUSED = 2
INTERRUPTED = 130
"""Exit codes besides 0."""


def print_error(message: str) -> None:
    """Print an error to standard error."""
    print(f"candlestep: {message}", file=sys.stderr)


def suggest(sentence: str) -> None:
    """Print what to do next; ``sentence`` comes without its full stop."""
    print(f"\nNext: {sentence}.")
