"""A job that has not ended: its runs, and how far each of them is."""

import asyncio
from collections import deque

import msgspec

from candlestep.api.jobs.candle_holder import HeldCandles
from candlestep.api.jobs.run_errors import CANCELLED
from candlestep.data.records.jobs import JobRecord, JobStatus, RunError, RunOutcome


class ActiveJob:
    """A job that is queued or running."""

    def __init__(self, record: JobRecord) -> None:
        self.record = record
        """The job as it was submitted; once it has ended, as it ended."""
        self.outcomes = list(record.outcomes)
        self.stored = {n for n, outcome in enumerate(self.outcomes) if outcome is not None}
        """The runs whose outcomes are stored."""
        self.pending = deque(n for n, outcome in enumerate(self.outcomes) if outcome is None)
        """The runs that are still to be started."""
        self.running = 0
        """The number of runs that have been started and have not ended."""
        self.progress = [float(outcome is not None) for outcome in self.outcomes]
        self.attempts = [0] * len(self.outcomes)
        self.latest_candles: HeldCandles | None = None
        """The candles of the run that was started last."""
        self.started_at: int | None = None
        self.reason: str | None = None
        """Why it was cancelled, in the user's words."""
        self.is_ending = False
        """True from when its end is being stored; from then on it cannot be cancelled."""
        self.stop = asyncio.Event()
        self.ended = asyncio.Event()

    @property
    def has_run(self) -> bool:
        """Return whether all of its runs have ended."""
        return not self.pending and not self.running

    def as_of_now(self) -> JobRecord:
        """Return the job's record with its present progress and outcomes, or as it ended."""
        if self.ended.is_set():
            return self.record
        return msgspec.structs.replace(
            self.record,
            status="queued" if self.started_at is None else "running",
            progress=round(sum(self.progress) / len(self.progress), 4),
            attempts=max(self.attempts),
            started_at=self.started_at,
            outcomes=list(self.outcomes),
        )

    def unstored(self, record: JobRecord) -> dict[int, RunOutcome]:
        """Return the outcomes of ``record``, an earlier one of the job, that are not stored."""
        return {
            number: outcome
            for number, outcome in enumerate(record.outcomes)
            if outcome is not None and number not in self.stored
        }

    def as_ended(self, time: int) -> JobRecord:
        """Return the job's record as it ended at ``time`` (ms).

        It has failed if all of its runs have, with the error of the first.
        """
        status: JobStatus
        errors = [outcome.error for outcome in self.outcomes if outcome and outcome.error]
        codes = [error.code for error in errors]
        error: RunError | None = None
        if None in self.outcomes or CANCELLED.code in codes:
            status = "cancelled"
            if self.reason is not None:
                error = RunError(CANCELLED.code, self.reason)
        elif len(errors) == len(self.outcomes):
            status, error = "failed", errors[0]
        else:
            status = "done"
        record = self.as_of_now()
        return msgspec.structs.replace(
            record,
            status=status,
            progress=1.0 if status == "done" else record.progress,
            finished_at=time,
            error_code=error and error.code,
            error_message=error and error.message,
        )
