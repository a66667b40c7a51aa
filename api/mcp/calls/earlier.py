"""Earlier looks of an account at a session's market: a result that follows one proves less.

A fork that stepped ahead, an earlier session or a job over the same days has shown what comes.
"""

from collections.abc import Sequence
from typing import NamedTuple

from candlestep.api.services import Services
from candlestep.api.sessions.blind import hidden_of
from candlestep.data.records.jobs import JobRecord
from candlestep.data.records.sessions import SessionRecord

_MOST_SESSIONS = 500
_MOST_JOBS = 50
"""The latest ones that are looked through."""
_MOST_NAMED = 3


class _Seen(NamedTuple):
    """The part of the real market that something has shown; times in milliseconds."""

    name: str
    exchange: str
    symbols: frozenset[str]
    start: int
    end: int

    def overlaps(self, other: "_Seen") -> bool:
        is_same_market = self.exchange == other.exchange and self.symbols & other.symbols
        return bool(is_same_market) and self.start < other.end and other.start < self.end


async def earlier_text(services: Services, record: SessionRecord) -> str:
    """Return the ids of the sessions and jobs that had shown the market of a session before it."""
    own = _of_session(record, record.total_steps)
    sessions, _ = await services.sessions.list(record.account_id, limit=_MOST_SESSIONS)
    jobs = await services.jobs.list(record.account_id, limit=_MOST_JOBS)
    shown = [
        _of_session(other, other.current_step)
        for other in sessions
        if other.created_at < record.created_at and other.session_id != record.session_id
    ] + [_of_job(job) for job in jobs if job.submitted_at < record.created_at]
    names = [seen.name for seen in shown if seen.overlaps(own)]
    return f"seen before by: {_named(names)}" if names else ""


def _named(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _of_session(record: SessionRecord, steps: int) -> _Seen:
    """Return the part of the market that the first steps of a session show, in disguise if it is blind."""
    hidden = hidden_of(record.blind)
    pairs = record.pairs if hidden is None else hidden.pairs
    start = record.start_time if hidden is None else hidden.start
    exchange = record.exchange if hidden is None else hidden.exchange
    end = start + steps * record.interval
    return _Seen(record.session_id, exchange, frozenset(pairs), start, end)


def _of_job(job: JobRecord) -> _Seen:
    spec = job.specs[0]
    pairs = frozenset(spec.pairs)
    return _Seen(job.job_id, spec.exchange, pairs, spec.start_time, spec.end_time)
