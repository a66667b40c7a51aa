"""The requests of agents under test that were refused, counted for whoever judges them."""

from collections import OrderedDict

_MOST_SESSIONS = 10_000
_NOT_THE_AGENTS = (401, 429)
"""Statuses that tell nothing of an agent: a stranger's key, and too many requests."""


class Refusals:
    """The number of refused requests of each session, kept until the server ends."""

    def __init__(self) -> None:
        self._counts: OrderedDict[str, int] = OrderedDict()

    def note(self, session_id: str | None, status: int = 422) -> None:
        """Count a request with a key of a session that was answered with a status.

        None, of a key that is not that of one session, and statuses of no refusal are left out.
        """
        if session_id is None or not 400 <= status < 500 or status in _NOT_THE_AGENTS:
            return
        self._counts[session_id] = self._counts.pop(session_id, 0) + 1
        if len(self._counts) > _MOST_SESSIONS:
            self._counts.popitem(last=False)

    def of(self, session_id: str) -> int:
        """Return the number of refused requests of a session."""
        return self._counts.get(session_id, 0)
