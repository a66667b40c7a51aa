"""Jobs in the store."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from candlestep.data.errors import JobNotFound
from candlestep.data.records.jobs import (
    JobRecord,
    RunError,
    RunOutcome,
    get_job,
    job_imports,
    list_jobs,
    save_job,
    save_job_end,
    save_job_progress,
    unfinished_jobs,
)
from candlestep.data.store.database import Store
from candlestep.sandbox import InvalidParameter
from tests.data.records.outcomes import done
from tests.support.job_queue import spec

PINNED = spec(import_number=2)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def store(home: Path) -> Iterator[Store]:
    opened = Store.open(home)
    yield opened
    opened.close()


def put(store: Store, account: str = "ann", job_id: str | None = None) -> JobRecord:
    return save_job(store, account, origin="jobs", specs=[PINNED], request={}, job_id=job_id)


def end(store: Store, job: JobRecord, finished_at: int) -> JobRecord:
    outcome = RunOutcome(error=RunError("NO_DATA", "none"))
    ended = msgspec.structs.replace(
        job, status="failed", finished_at=finished_at, error_code="NO_DATA", outcomes=[outcome]
    )
    save_job_end(store, ended)
    return ended


def test_a_job_is_read_as_it_was_written(store: Store) -> None:
    job = put(store)
    assert get_job(store, "ann", job.job_id) == job
    assert job.specs == [PINNED]
    save_job_progress(store, job.job_id, started_at=5, progress=0.5, attempts=1)
    running = get_job(store, "ann", job.job_id)
    assert (running.status, running.started_at, running.progress) == ("running", 5, 0.5)
    ended = end(store, running, 7)
    assert get_job(store, "ann", job.job_id) == ended
    save_job_progress(store, job.job_id, started_at=6, progress=0.6, attempts=2)
    assert get_job(store, "ann", job.job_id) == ended
    with pytest.raises(JobNotFound):
        get_job(store, "bob", job.job_id)


def test_a_job_is_found_by_the_api_that_it_came_by(store: Store) -> None:
    job = put(store)
    assert get_job(store, "ann", job.job_id, origin="jobs") == job
    with pytest.raises(JobNotFound, match=job.job_id):
        get_job(store, "ann", job.job_id, origin="runs")


def test_a_job_has_a_summary_when_it_is_done_and_an_error_when_it_failed(store: Store) -> None:
    job = put(store)
    assert (job.summary, job.error) == (None, None)
    assert end(store, job, 7).error == RunError("NO_DATA", "")
    cancelled = msgspec.structs.replace(job, status="cancelled", outcomes=[done()])
    assert cancelled.summary is None
    assert msgspec.structs.replace(cancelled, status="done").summary == done().summary


def test_an_id_belongs_to_one_account_and_is_a_name_of_a_directory(store: Store) -> None:
    put(store, job_id="one")
    anew = put(store, job_id="one")
    assert [job.number for job in list_jobs(store, "ann")] == [anew.number]
    with pytest.raises(InvalidParameter, match="taken"):
        put(store, "bob", "one")
    for hostile in ("../x", "a/b", "x" * 101, "a\0", "."):
        with pytest.raises(InvalidParameter):
            put(store, job_id=hostile)


def test_what_unfinished_jobs_run_on_is_not_pruned(store: Store) -> None:
    job = put(store)
    assert job_imports(store) == [2]
    assert unfinished_jobs(store) == [job]
    end(store, job, 1)
    assert job_imports(store) == []
    assert unfinished_jobs(store) == []
