"""The server without its journal, which is what the journal's cost is measured against.

Run as ``python -m tests.benchmarks.without_journal serve …``.
"""

import sys

from candlestep.api.cli import main
from candlestep.api.sessions import hosted_session as live
from candlestep.api.sessions import player as playing
from candlestep.data.journal.journal import Journal


def _nothing_written(journal: Journal, line: bytes) -> None:
    pass


def _no_line(steps: int, at: int, digest: bytes) -> bytes:
    return b""


def _same_digest(digest: bytes, answer: bytes) -> bytes:
    return digest


if __name__ == "__main__":
    setattr(Journal, "append", _nothing_written)  # noqa: B010
    setattr(live, "quiet_step", _no_line)  # noqa: B010
    setattr(playing, "chained", _same_digest)  # noqa: B010
    sys.exit(main())
