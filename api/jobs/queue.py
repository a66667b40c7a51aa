"""The queue of jobs: it decides whose turn it is, runs jobs on an executor, and stores them.

Jobs of one account run in the order in which they were submitted; accounts take turns. A job that
is queued or running is in memory and in the store, from which the next process resumes it.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import structlog

from candlestep.api.errors import RateLimited
from candlestep.api.jobs.active_job import ActiveJob
from candlestep.api.jobs.candle_holder import CandleHolder
from candlestep.api.jobs.executor import Executor, RunTask, WorkerDied
from candlestep.api.jobs.run_errors import CANCELLED, FAULT, worker_failed
from candlestep.api.jobs.stored_jobs import StoredJobs
from candlestep.api.threads import InThread, ProgressWriter
from candlestep.data.clock import now
from candlestep.data.errors import JobNotFound, StorageUnavailable
from candlestep.data.records.jobs import JobOrigin, JobRecord, RunError, RunOutcome, RunSpec
from candlestep.sandbox import InvalidState, SandboxError

MOST_UNFINISHED = 5
"""The number of jobs that an account may have queued or running at a time."""

_ATTEMPTS = 2
_RETENTION_SECONDS = 3600

log = structlog.get_logger()


class QueueLoad(NamedTuple):
    """The jobs and runs of a queue that have not ended."""

    queued_jobs: int
    running_jobs: int
    waiting_runs: int
    running_runs: int
    slots: int
    """The number of runs that the executor does at a time."""


class JobQueue:
    """The jobs of all accounts. Its methods are called on the event loop."""

    def __init__(
        self,
        stored: StoredJobs,
        candles: CandleHolder,
        executor: Executor,
        in_thread: InThread,
        read: InThread,
        *,
        result_days: int,
        pause_seconds: float = 1.0,
        clock: Callable[[], int] = now,
    ) -> None:
        """Keep the files of runs for ``result_days``.

        ``pause_seconds`` pass between two writes of progress, and before a failed write of a
        job's end is tried again.
        """
        self._stored = stored
        self._candles = candles
        self._executor = executor
        self._in_thread = in_thread
        self._read = read
        self._result_days = result_days
        self._pause_seconds = pause_seconds
        self._clock = clock
        self._active: dict[str, ActiveJob] = {}
        self._of_account: dict[str, dict[str, ActiveJob]] = {}
        """The active jobs of each account, in the order of their submission."""
        self._last_turn: dict[str, int] = {}
        """When each account last had a run started, counted in runs."""
        self._free = executor.slots
        self._submitting = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._progress = ProgressWriter(self._save_progress, pause_seconds)

    async def recover(self) -> None:
        """Resume the jobs that an earlier process left; runs that have ended are not repeated."""
        for record in await self._read(self._stored.unfinished):
            self._add(record)
        self._start(self._enforce_retention())
        self._dispatch()

    def warm_up(self) -> None:
        """Start the workers in the background."""
        self._start(self._executor.start())

    async def submit(
        self,
        account_id: str,
        origin: JobOrigin,
        specs: Sequence[RunSpec],
        request: Mapping[str, Any],
        job_id: str | None = None,
    ) -> JobRecord:
        """Store a job, queue it, and return it.

        With a ``job_id`` that exists, that job is returned as it is, unless it failed or was
        cancelled: then it runs again from the beginning. Specs without an import number are run
        on the market as it is now. Raises ``RateLimited``, ``InvalidParameter``.
        """
        async with self._submitting:
            if job_id is not None:
                with suppress(JobNotFound):
                    existing = await self.get(account_id, job_id)
                    if existing.status not in ("failed", "cancelled"):
                        return existing
            if len(self._of_account.get(account_id, ())) >= MOST_UNFINISHED:
                raise RateLimited(
                    f"you already have {MOST_UNFINISHED} unfinished jobs, the maximum; wait for"
                    " one to finish or cancel one",
                    limit=MOST_UNFINISHED,
                )
            record = await self._in_thread(
                self._stored.create, account_id, origin, specs, request, job_id
            )
            self._add(record)
        self._dispatch()
        return record

    async def prepare(self, spec: RunSpec) -> None:
        """Make the candles of a run, which names its import, ready for the workers.

        Raises what loading them raises, and ``StorageUnavailable``.
        """
        await self._candles.prepare(spec)

    async def get(
        self, account_id: str, job_id: str, *, origin: JobOrigin | None = None
    ) -> JobRecord:
        """Return the account's job as of now; raises ``JobNotFound``.

        With ``origin``, a job that was submitted through another API is not found either.
        """
        job = self._active_job(account_id, job_id, origin)
        if job is not None:
            return job.as_of_now()
        return await self._read(self._stored.get, account_id, job_id, origin)

    async def list(self, account_id: str, **filters: Any) -> Sequence[JobRecord]:
        """Return a page of jobs as ``data.records.jobs.list_jobs`` does, with their progress."""
        status = filters.get("status")
        if status is not None:
            await self._progress.flush()
        # A job may end while the store is read, and its record still be that of a running one.
        active = dict(self._of_account.get(account_id, {}))

        def latest(record: JobRecord) -> JobRecord:
            if record.finished_at is not None or record.job_id not in active:
                return record
            known = active[record.job_id].as_of_now()
            # One that has begun or ended since the store was read is listed as it was then.
            return known if status in (None, known.status) else record

        return [
            latest(record) for record in await self._read(self._stored.list, account_id, **filters)
        ]

    async def cancel(
        self,
        account_id: str,
        job_id: str,
        reason: str | None = None,
        *,
        origin: JobOrigin | None = None,
    ) -> JobRecord:
        """End a job within a second, even in the middle of its runs, and return it as it ended.

        Raises ``JobNotFound`` as ``get`` does, and ``InvalidState`` if it has ended already.
        """
        job = self._active_job(account_id, job_id, origin)
        if job is not None and job.is_ending and not job.stop.is_set():
            await job.ended.wait()
            job = None
        if job is None:
            record = await self.get(account_id, job_id, origin=origin)
            raise InvalidState(f"the job is {record.status} already", status=record.status)
        if not job.stop.is_set():
            job.reason = reason
            job.stop.set()
            job.pending.clear()
            self._end_if_it_has_run(job)
        await job.ended.wait()
        return job.record

    async def cancel_if_running(self, account_id: str, job_id: str) -> None:
        """End a job unless it has ended already; raises ``JobNotFound``."""
        with suppress(InvalidState):
            await self.cancel(account_id, job_id)

    async def wait(self, account_id: str, job_id: str, seconds: float) -> JobRecord:
        """Return the job when it has ended, or after ``seconds``; raises ``JobNotFound``."""
        job = self._active_job(account_id, job_id)
        if job is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await job.ended.wait()
        return await self.get(account_id, job_id)

    def load(self) -> QueueLoad:
        """Return the number of jobs and runs that have not ended, from any thread."""
        jobs = list(self._active.values())
        running_jobs = sum(job.started_at is not None for job in jobs)
        return QueueLoad(
            len(jobs) - running_jobs,
            running_jobs,
            sum(len(job.pending) for job in jobs),
            sum(job.running for job in jobs),
            self._executor.slots,
        )

    async def close(self) -> None:
        """Stop all runs; the next process resumes the jobs that have not ended."""
        self._free = 0
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, self._progress.stop(), return_exceptions=True)
        await self._executor.close()

    def _active_job(
        self, account_id: str, job_id: str, origin: JobOrigin | None = None
    ) -> ActiveJob | None:
        job = self._active.get(job_id)
        if job is None or job.record.account_id != account_id:
            return None
        return job if origin in (None, job.record.origin) else None

    def _add(self, record: JobRecord) -> None:
        job = self._active[record.job_id] = ActiveJob(record)
        self._of_account.setdefault(record.account_id, {})[record.job_id] = job
        self._end_if_it_has_run(job)

    def _remove(self, job: ActiveJob) -> None:
        account_id, job_id = job.record.account_id, job.record.job_id
        del self._active[job_id]
        del self._of_account[account_id][job_id]
        if not self._of_account[account_id]:
            del self._of_account[account_id]

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _dispatch(self) -> None:
        """Start runs as long as the executor has slots for them."""
        while self._free and (job := self._next()) is not None:
            self._free -= 1
            job.running += 1
            job.started_at = job.started_at or self._clock()
            self._note(job)
            self._start(self._run(job, job.pending.popleft()))

    def _next(self) -> ActiveJob | None:
        """Return the first job of the account that has waited longest for its turn."""
        waiting = {
            account_id: first
            for account_id, jobs in self._of_account.items()
            if (first := next((job for job in jobs.values() if job.pending), None)) is not None
        }
        if not waiting:
            return None
        account_id = min(waiting, key=lambda account_id: self._last_turn.get(account_id, 0))
        self._last_turn[account_id] = max(self._last_turn.values(), default=0) + 1
        return waiting[account_id]

    async def _run(self, job: ActiveJob, number: int) -> None:
        def on_progress(fraction: float) -> None:
            job.progress[number] = min(fraction, 0.99)
            self._note(job)

        try:
            outcome = await self._outcome(job, number, on_progress)
        finally:
            job.running -= 1
        self._free += 1
        self._dispatch()
        job.outcomes[number] = outcome
        if outcome.error is None:
            job.progress[number] = 1.0
        if not job.has_run:
            self._note(job)
        self._end_if_it_has_run(job)

    async def _outcome(
        self, job: ActiveJob, number: int, on_progress: Callable[[float], object]
    ) -> RunOutcome:
        """Return the outcome of a run, which gets another attempt if its worker dies."""
        try:
            while True:
                job.attempts[number] += 1
                job.progress[number] = 0.0
                try:
                    return await self._execute(job, number, on_progress)
                except WorkerDied as death:
                    log.warning("worker_died", job_id=job.record.job_id, run=number, how=str(death))
                    if job.stop.is_set():
                        return RunOutcome(error=CANCELLED)
                    if job.attempts[number] >= _ATTEMPTS:
                        return RunOutcome(error=worker_failed(str(death), _ATTEMPTS))
        except SandboxError as refusal:
            return RunOutcome(error=RunError(refusal.code, refusal.message))
        except Exception:
            log.exception("run_failed", job_id=job.record.job_id, run=number)
            return RunOutcome(error=FAULT)

    async def _execute(
        self, job: ActiveJob, number: int, on_progress: Callable[[float], object]
    ) -> RunOutcome:
        spec = job.record.specs[number]
        held = await self._candles.acquire(spec, job.latest_candles, job.stop)
        if held is None:
            return RunOutcome(error=CANCELLED)
        job.latest_candles = held
        try:
            directory = self._stored.run_directory(job.record.job_id, number)
            task = RunTask(spec, held.paths, directory)
            return await self._executor.run(task, on_progress, job.stop)
        finally:
            self._candles.release(held)

    def _end_if_it_has_run(self, job: ActiveJob) -> None:
        if job.has_run and not job.is_ending:
            job.is_ending = True
            self._start(self._end(job))

    async def _end(self, job: ActiveJob) -> None:
        """Store the end of a job, and only then make it visible."""
        record = job.as_ended(self._clock())
        self._progress.forget(record.job_id)
        try:
            while not await self._is_saved(record):
                await asyncio.sleep(self._pause_seconds)
        except Exception:
            # Nobody should wait for ever; the next process runs the job again.
            log.exception("job_not_stored", job_id=record.job_id)
        job.record = record
        self._remove(job)
        job.ended.set()
        log.info("job_ended", job_id=record.job_id, status=record.status, error=record.error_code)

    async def _is_saved(self, record: JobRecord) -> bool:
        """Store a job that has ended; return whether the store was available."""
        try:
            await self._in_thread(self._stored.save_end, record)
        except StorageUnavailable as error:
            log.warning("job_not_stored", error=str(error))
            return False
        return True

    def _note(self, job: ActiveJob) -> None:
        """Schedule the job's progress to be stored soon."""
        self._progress.note(job.record.job_id, job.as_of_now())

    async def _save_progress(self, records: Mapping[str, JobRecord]) -> None:
        """Store the progress of jobs that have not ended, and outcomes that are not stored yet."""
        jobs = [self._active[job_id] for job_id in records if job_id in self._active]
        changes = [(record := records[job.record.job_id], job.unstored(record)) for job in jobs]
        await self._in_thread(self._stored.save_progress, changes)
        for job, (_, outcomes) in zip(jobs, changes, strict=True):
            job.stored.update(outcomes)

    async def _enforce_retention(self) -> None:
        """Delete the files of old runs, at regular intervals."""
        while True:
            try:
                job_ids = await self._in_thread(self._stored.delete_old_files, self._result_days)
                if job_ids:
                    log.info("results_deleted", jobs=len(job_ids))
            except (StorageUnavailable, OSError) as error:
                log.warning("results_not_deleted", error=str(error))
            await asyncio.sleep(_RETENTION_SECONDS)
