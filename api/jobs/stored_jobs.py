"""The jobs of a home as they are stored: their rows, and the files of their runs."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from candlestep.data.clock import now
from candlestep.data.imports.storing.changes import latest_import
from candlestep.data.records import jobs as records
from candlestep.data.records.instruments import instruments_to_copy
from candlestep.data.run_files import run_files
from candlestep.data.store.database import Store


class StoredJobs:
    """The jobs in a store. Its methods block for milliseconds; raise ``StorageUnavailable``."""

    def __init__(self, store: Store, home: Path, clock: Callable[[], int] = now) -> None:
        self._store = store
        self._home = home
        self._clock = clock

    def create(
        self,
        account_id: str,
        origin: records.JobOrigin,
        specs: Sequence[records.RunSpec],
        request: Mapping[str, Any],
        job_id: str | None,
    ) -> records.JobRecord:
        """Store a queued job, in place of an earlier one of its id, whose files are deleted.

        Runs whose specs name no import are pinned to the latest one. All copy their instruments.
        """
        with self._store.transaction():
            number = latest_import(self._store)
            pinned = [self._pinned(spec, number) for spec in specs]
            if job_id is not None:
                run_files.delete_job_files(self._home, job_id)
            return records.save_job(
                self._store, account_id, origin=origin, specs=pinned, request=request, job_id=job_id
            )

    def _pinned(self, spec: records.RunSpec, number: int) -> records.RunSpec:
        """Return a run that nothing changes any more: of an import, with its instruments copied."""
        instruments = instruments_to_copy(self._store, spec.exchange, spec.pairs, spec.start_time)
        config = spec.config | ({"instruments": instruments} if instruments else {})
        if spec.import_number is not None:
            number = spec.import_number
        return msgspec.structs.replace(spec, import_number=number, config=config)

    def get(
        self, account_id: str, job_id: str, origin: records.JobOrigin | None = None
    ) -> records.JobRecord:
        """Return the account's job, of one API if ``origin`` names it; raises ``JobNotFound``."""
        return records.get_job(self._store, account_id, job_id, origin=origin)

    def list(self, account_id: str, **filters: Any) -> Sequence[records.JobRecord]:
        """Return a page of the account's jobs, as ``data.records.jobs.list_jobs`` does."""
        return records.list_jobs(self._store, account_id, **filters)

    def unfinished(self) -> Sequence[records.JobRecord]:
        """Return the jobs of all accounts that are queued or running."""
        return records.unfinished_jobs(self._store)

    def save_progress(
        self, changes: Sequence[tuple[records.JobRecord, Mapping[int, records.RunOutcome]]]
    ) -> None:
        """Store the progress of started jobs, each with the new outcomes of its runs."""
        with self._store.transaction():
            for record, outcomes in changes:
                assert record.started_at is not None
                records.save_outcomes(self._store, record.job_id, outcomes)
                records.save_job_progress(
                    self._store,
                    record.job_id,
                    started_at=record.started_at,
                    progress=record.progress,
                    attempts=record.attempts,
                )

    def save_end(self, record: records.JobRecord) -> None:
        """Store a job that has ended, with all of its outcomes."""
        records.save_job_end(self._store, record)

    def run_directory(self, job_id: str, run_number: int) -> Path:
        """Return the directory for the files of a run."""
        return run_files.run_directory(self._home, job_id, run_number)

    def delete_old_files(self, days: int) -> Sequence[str]:
        """Delete the files of jobs that ended more than ``days`` ago; return the jobs' ids."""
        return run_files.delete_old_run_files(
            self._store, self._home, time=self._clock(), days=days
        )
