"""The targets of a replay: a session, in this process or on a server."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

from candlestep.api.sessions.player import Reply
from candlestep.data.journal.candle_fingerprints import Fingerprints
from candlestep.data.journal.records import CommandRecord


class ReplayTarget(Protocol):
    """A session to play commands on."""

    def candles(self) -> Fingerprints:
        """Return the fingerprints of the candles that the session can read, by month."""

    def days(self) -> Fingerprints | None:
        """Return the digests of these candles by day; None if there are too many."""

    def start_digest(self) -> bytes:
        """Return the digest of the reply to the start."""

    def play(self, command: CommandRecord) -> Reply:
        """Play one command, once; a refusal is a reply."""

    def account(self) -> dict[str, Any]:
        """Return the portfolio, as the API shows it."""

    def candle(self, symbol: str) -> dict[str, Any] | None:
        """Return the latest complete candle of a symbol, as the API shows it; None without one."""


OpenTarget = Callable[[], AbstractContextManager[ReplayTarget]]
"""Opens a new session at its start, on the same candles each time."""
