"""The server without its journal: the baseline that the journal's cost is measured against.

Run as ``python -m tests.benchmarks.without_journal serve …``.
"""

import sys
from collections.abc import Callable
from typing import Any

from candlestep.api.cli import main
from candlestep.api.sessions import hosted_session, player
from candlestep.data.journal.journal import Journal


def _append_nothing(journal: Journal, line: bytes) -> None:
    pass


def _empty_line(steps: int, at: int, digest: bytes) -> bytes:
    return b""


def _same_digest(digest: bytes, answer: bytes) -> bytes:
    return digest


def _replace(owner: object, name: str, function: Callable[..., Any]) -> None:
    """Replace a function that must exist: without it, the baseline would be a journaled server."""
    assert callable(getattr(owner, name))
    setattr(owner, name, function)


if __name__ == "__main__":
    _replace(Journal, "append", _append_nothing)
    _replace(hosted_session, "quiet_step", _empty_line)
    _replace(player, "chained", _same_digest)
    sys.exit(main())
