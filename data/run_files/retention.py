"""How long the files of runs are kept: the summaries of jobs stay for ever, their files do not."""

from pathlib import Path

from candlestep.data.records.jobs import jobs_with_old_run_files, save_run_files_deleted
from candlestep.data.run_files.run_files import delete_job_files
from candlestep.data.store.database import Store
from candlestep.sandbox.clock import DAY


def delete_old_run_files(store: Store, home: Path, *, time: int, days: int) -> list[str]:
    """Delete the files of jobs that ended more than ``days`` before ``time`` (ms).

    Returns the ids of those jobs. What fails half way is done again the next time.
    """
    old = jobs_with_old_run_files(store, time - days * DAY)
    for job_id in old:
        delete_job_files(home, job_id)
        save_run_files_deleted(store, job_id, time)
    return old
