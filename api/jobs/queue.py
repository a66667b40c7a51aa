"""The queue of jobs: whose turn it is, how far each is, and what is stored of it.

First in, first out for each account, and accounts take turns. A job that is queued or runs is in
memory, and in the store, from which an earlier process's are taken up again.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import structlog

from candlestep.api.errors import RateLimited
from candlestep.api.jobs.executor import Executor, RunTask, WorkerDied
from candlestep.api.jobs.run_errors import CANCELLED, FAULT, worker_failed
from candlestep.api.threads import InThread
from candlestep.data.errors import JobNotFound, StorageUnavailable
from candlestep.data.imports.importer import latest_import
from candlestep.data.market.candle_cache import LOOK_BACK
from candlestep.data.market.mapped_candles import MappedCandles
from candlestep.data.records.jobs import (
    JobOrigin,
    JobRecord,
    JobStatus,
    RunError,
    RunOutcome,
    RunSpec,
    get_job,
    list_jobs,
    save_job,
    save_job_end,
    save_job_progress,
    save_outcomes,
    unfinished_jobs,
)
from candlestep.data.run_files.retention import delete_old_run_files
from candlestep.data.run_files.run_files import delete_job_files, run_directory
from candlestep.data.store.database import Store, now
from candlestep.sandbox import InvalidState, SandboxError

MOST_UNFINISHED = 5
"""Jobs of one account that may be queued or running at a time."""

_ATTEMPTS = 2
_PAUSE_SECONDS = 1.0
"""Between two writes of progress, and before a write that failed is tried again."""
_RETENTION_SECONDS = 3600

log = structlog.get_logger()


class CandleHolder(NamedTuple):
    """What ``MappedCandles.hold`` is asked for by a run."""

    exchange: str
    symbols: tuple[str, ...]
    as_of: int
    start: int
    end: int
    look_back: int

    @classmethod
    def of(cls, spec: RunSpec) -> "CandleHolder":
        assert spec.import_number is not None, "it is pinned when the job is submitted"
        return cls(
            spec.exchange,
            tuple(spec.pairs),
            spec.import_number,
            spec.start_time,
            spec.end_time,
            max(LOOK_BACK, spec.history),
        )


class ActiveJob:
    """A job that has not ended."""

    __slots__ = (
        "attempts", "ended", "is_ending", "latest_candles", "outcomes", "pending", "progress",
        "reason", "record", "running", "started_at", "stop", "unsaved",
    )  # fmt: skip

    def __init__(self, record: JobRecord) -> None:
        self.record = record
        self.outcomes = list(record.outcomes)
        self.latest_candles: tuple[CandleHolder, Sequence[Path]] | None = None
        """Those of the run that was started last, and their files."""
        self.pending = deque(n for n, outcome in enumerate(self.outcomes) if outcome is None)
        self.progress = [float(outcome is not None) for outcome in self.outcomes]
        self.attempts = [0] * len(self.outcomes)
        self.running = 0
        self.started_at: int | None = None
        self.reason: str | None = None
        self.unsaved: dict[int, RunOutcome] = {}
        """Outcomes that are not stored yet, by run."""
        self.is_ending = False
        """Whether how it ended is being stored, and nothing can change that any more."""
        self.stop = asyncio.Event()
        self.ended = asyncio.Event()

    @property
    def has_run(self) -> bool:
        """Whether nothing of it is left to be run."""
        return not self.pending and not self.running

    def as_of_now(self) -> JobRecord:
        return msgspec.structs.replace(
            self.record,
            status="queued" if self.started_at is None else "running",
            progress=round(sum(self.progress) / len(self.progress), 4),
            attempts=max(self.attempts),
            started_at=self.started_at,
            outcomes=list(self.outcomes),
        )

    def as_ended(self) -> JobRecord:
        """How the job ended: failed if all of its runs did, with what the first one says."""
        status: JobStatus
        errors = [outcome.error for outcome in self.outcomes if outcome and outcome.error]
        error: RunError | None = None
        codes = [each.code for each in errors]
        if None in self.outcomes or CANCELLED.code in codes:
            status = "cancelled"
            if self.reason is not None:
                error = RunError(CANCELLED.code, self.reason)
        elif len(errors) == len(self.outcomes):
            status, error = "failed", errors[0]
        else:
            status = "done"
        ended = self.as_of_now()
        return msgspec.structs.replace(
            ended,
            status=status,
            progress=1.0 if status == "done" else ended.progress,
            finished_at=now(),
            error_code=error and error.code,
            error_message=error and error.message,
        )


class JobQueue:
    """The jobs of all accounts. Its methods are called on the event loop."""

    def __init__(
        self,
        store: Store,
        candles: MappedCandles,
        executor: Executor,
        in_thread: InThread,
        load: InThread,
        *,
        home: Path,
        result_days: int,
    ) -> None:
        """``load`` is as ``in_thread``, for candles, which take seconds and room in memory."""
        self._store = store
        self._candles = candles
        self._executor = executor
        self._in_thread = in_thread
        self._load = load
        self._home = home
        self._result_days = result_days
        self._live: dict[str, ActiveJob] = {}
        self._of_account: dict[str, dict[str, ActiveJob]] = {}
        """The unfinished jobs of each account, first in first."""
        self._last_turn: dict[str, int] = {}
        """When each account last had a run started, counted in runs."""
        self._free = executor.slots
        self._submitting = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed: dict[str, ActiveJob] = {}
        self._noting: asyncio.Task[None] | None = None

    async def recover(self) -> None:
        """Take up the jobs that an earlier process left; runs that have ended stay so."""
        for record in await self._in_thread(unfinished_jobs, self._store):
            self._add(record)
        self._start(self._keep_to_retention())
        self._dispatch()

    def warm_up(self) -> None:
        """Have the workers started, in the background."""
        self._start(self._executor.start())

    async def submit(
        self,
        account_id: str,
        origin: JobOrigin,
        specs: Sequence[RunSpec],
        request: Mapping[str, Any],
        job_id: str | None = None,
    ) -> JobRecord:
        """Queue a job, which is stored when this returns.

        The job of a ``job_id`` that there is already is returned as it is, unless it has failed
        or was cancelled: then it runs again, anew. Runs are on the market as it is now where
        their specs do not say. Raises ``RateLimited``, ``InvalidParameter``.
        """
        async with self._submitting:
            if job_id is not None:
                existing = await self._existing(account_id, job_id)
                if existing is not None and existing.status not in ("failed", "cancelled"):
                    return existing
            if len(self._of_account.get(account_id, ())) >= MOST_UNFINISHED:
                raise RateLimited(
                    f"you have {MOST_UNFINISHED} jobs queued or running, which is all that one may"
                    " have; wait until one has ended, or cancel one",
                    limit=MOST_UNFINISHED,
                )
            record = await self._in_thread(self._put, account_id, origin, specs, request, job_id)
            self._add(record)
        self._dispatch()
        return record

    async def prepare(self, spec: RunSpec) -> None:
        """Have the candles of a run ready for the workers, whose import number it says.

        Raises what loading them does, and ``StorageUnavailable``.
        """
        self._candles.release(await self._hold(CandleHolder.of(spec)))

    async def get(self, account_id: str, job_id: str) -> JobRecord:
        """The account's job as of now; raises ``JobNotFound``."""
        live = self._of(account_id, job_id)
        if live is not None:
            return live.as_of_now()
        return await self._in_thread(get_job, self._store, account_id, job_id)

    async def list(self, account_id: str, **filters: Any) -> Sequence[JobRecord]:
        """As ``data.jobs.list_jobs``, with the progress of now."""
        if filters.get("status") is not None:
            await self._store_changed()
        found = await self._in_thread(list_jobs, self._store, account_id, **filters)
        return [
            live.as_of_now() if (live := self._of(account_id, each.job_id)) else each
            for each in found
        ]

    async def cancel(self, account_id: str, job_id: str, reason: str | None = None) -> JobRecord:
        """End a job, in the middle of its runs too, and return it as it ended: within a second.

        Raises ``JobNotFound``, and ``InvalidState`` when it has ended already.
        """
        live = self._of(account_id, job_id)
        if live is not None and live.is_ending and not live.stop.is_set():
            await live.ended.wait()
            live = None
        if live is None:
            record = await self._in_thread(get_job, self._store, account_id, job_id)
            raise InvalidState(f"the job is {record.status} already", status=record.status)
        if not live.stop.is_set():
            live.reason = reason
            live.stop.set()
            live.pending.clear()
            self._end_if_it_has_run(live)
        await live.ended.wait()
        return live.record

    async def wait(self, account_id: str, job_id: str, seconds: float) -> JobRecord:
        """The job when it has ended, or after so many seconds; raises ``JobNotFound``."""
        live = self._of(account_id, job_id)
        if live is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await live.ended.wait()
        return await self.get(account_id, job_id)

    async def close(self) -> None:
        """Stop everything; what has not ended is taken up again by the next process."""
        self._free = 0
        tasks = [*self._tasks, *([] if self._noting is None else [self._noting])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._executor.close()

    def _of(self, account_id: str, job_id: str) -> ActiveJob | None:
        live = self._live.get(job_id)
        return live if live is not None and live.record.account_id == account_id else None

    async def _existing(self, account_id: str, job_id: str) -> JobRecord | None:
        try:
            return await self.get(account_id, job_id)
        except JobNotFound:
            return None

    def _put(
        self,
        account_id: str,
        origin: JobOrigin,
        specs: Sequence[RunSpec],
        request: Mapping[str, Any],
        job_id: str | None,
    ) -> JobRecord:
        with self._store.transaction():
            number = latest_import(self._store)
            pinned = [
                spec
                if spec.import_number is not None
                else msgspec.structs.replace(spec, import_number=number)
                for spec in specs
            ]
            if job_id is not None:
                delete_job_files(self._home, job_id)
            return save_job(
                self._store, account_id, origin=origin, specs=pinned, request=request, job_id=job_id
            )

    def _add(self, record: JobRecord) -> None:
        live = self._live[record.job_id] = ActiveJob(record)
        self._of_account.setdefault(record.account_id, {})[record.job_id] = live
        self._end_if_it_has_run(live)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _dispatch(self) -> None:
        """Start runs as long as there is room for them."""
        while self._free and (live := self._next()) is not None:
            self._free -= 1
            live.running += 1
            live.started_at = live.started_at or now()
            self._note(live)
            self._start(self._run(live, live.pending.popleft()))

    def _next(self) -> ActiveJob | None:
        """The job whose turn it is: the first of the account that has waited for the longest."""
        waiting = {
            account_id: live
            for account_id, jobs in self._of_account.items()
            if (live := next((each for each in jobs.values() if each.pending), None)) is not None
        }
        if not waiting:
            return None
        account_id = min(waiting, key=lambda each: self._last_turn.get(each, 0))
        self._last_turn[account_id] = max(self._last_turn.values(), default=0) + 1
        return waiting[account_id]

    async def _run(self, live: ActiveJob, number: int) -> None:
        def on_progress(fraction: float) -> None:
            live.progress[number] = min(fraction, 0.99)
            self._note(live)

        try:
            outcome = await self._outcome(live, number, on_progress)
        finally:
            live.running -= 1
        self._free += 1
        self._dispatch()
        live.outcomes[number] = live.unsaved[number] = outcome
        if outcome.error is None:
            live.progress[number] = 1.0
        if not live.has_run:
            self._note(live)
        self._end_if_it_has_run(live)

    async def _outcome(
        self, live: ActiveJob, number: int, on_progress: Callable[[float], object]
    ) -> RunOutcome:
        """What becomes of a run, which is tried again where its worker dies."""
        try:
            while True:
                live.attempts[number] += 1
                live.progress[number] = 0.0
                try:
                    return await self._perform(live, number, on_progress)
                except WorkerDied as death:
                    log.warning(
                        "worker_died", job_id=live.record.job_id, run=number, how=str(death)
                    )
                    if live.stop.is_set():
                        return RunOutcome(error=CANCELLED)
                    if live.attempts[number] >= _ATTEMPTS:
                        return RunOutcome(error=worker_failed(str(death), _ATTEMPTS))
        except SandboxError as refusal:
            return RunOutcome(error=RunError(refusal.code, refusal.message))
        except Exception:
            log.exception("run_failed", job_id=live.record.job_id, run=number)
            return RunOutcome(error=FAULT)

    async def _perform(
        self, live: ActiveJob, number: int, on_progress: Callable[[float], object]
    ) -> RunOutcome:
        spec = live.record.specs[number]
        paths = await self._held(live, spec)
        if paths is None:
            return RunOutcome(error=CANCELLED)
        try:
            directory = run_directory(self._home, live.record.job_id, number)
            call = RunTask(spec, paths, directory)
            return await self._executor.perform(call, on_progress, live.stop)
        finally:
            self._candles.release(paths)

    async def _held(self, live: ActiveJob, spec: RunSpec) -> Sequence[Path] | None:
        """The candles of a run, held; None if the job is stopped before they are there.

        Most runs of a sweep are on those of the run before.
        """
        candles = CandleHolder.of(spec)
        if live.latest_candles is not None:
            latest, paths = live.latest_candles
            if latest == candles and self._candles.hold_again(paths):
                return paths
        found = await self._loaded(candles, live.stop)
        if found is not None:
            live.latest_candles = (candles, found)
        return found

    async def _loaded(self, candles: "CandleHolder", stop: asyncio.Event) -> Sequence[Path] | None:
        holding = asyncio.create_task(self._hold(candles))
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait((holding, stopping), return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            if not holding.done():
                holding.add_done_callback(self._give_back)
        return await holding if holding.done() else None

    def _give_back(self, holding: "asyncio.Task[Sequence[Path]]") -> None:
        """Release what nobody waits for any more."""
        if not holding.cancelled() and holding.exception() is None:
            self._candles.release(holding.result())

    async def _hold(self, candles: "CandleHolder") -> Sequence[Path]:
        return await self._load(self._candles.hold, *candles)

    def _end_if_it_has_run(self, live: ActiveJob) -> None:
        if live.has_run and not live.is_ending:
            live.is_ending = True
            self._start(self._end(live))

    async def _end(self, live: ActiveJob) -> None:
        """Store how a job ended, and only then let it be seen."""
        ended = live.as_ended()
        self._changed.pop(ended.job_id, None)
        try:
            while not await self._stored(save_job_end, self._store, ended):
                await asyncio.sleep(_PAUSE_SECONDS)
        except Exception:
            # Nobody is to wait for ever; the next process runs it again.
            log.exception("job_not_stored", job_id=ended.job_id)
        live.record = ended
        del self._live[ended.job_id]
        jobs = self._of_account[ended.account_id]
        del jobs[ended.job_id]
        if not jobs:
            del self._of_account[ended.account_id]
        live.ended.set()
        log.info("job_ended", job_id=ended.job_id, status=ended.status, error=ended.error_code)

    def _note(self, live: ActiveJob) -> None:
        """Store how far a job is, soon: one task writes for all."""
        self._changed[live.record.job_id] = live
        if self._noting is None or self._noting.done():
            self._noting = asyncio.create_task(self._store_progress())

    async def _store_progress(self) -> None:
        while self._changed:
            await self._store_changed()
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _store_changed(self) -> None:
        lives, self._changed = list(self._changed.values()), {}
        for live in lives:
            outcomes, live.unsaved = live.unsaved, {}
            record = live.as_of_now()
            if not await self._stored(self._save, record, outcomes):
                live.unsaved = outcomes | live.unsaved

    def _save(self, record: JobRecord, outcomes: Mapping[int, RunOutcome]) -> None:
        assert record.started_at is not None
        with self._store.transaction():
            save_outcomes(self._store, record.job_id, outcomes)
            save_job_progress(
                self._store,
                record.job_id,
                started_at=record.started_at,
                progress=record.progress,
                attempts=record.attempts,
            )

    async def _stored(self, save: Callable[..., None], *args: Any) -> bool:
        try:
            await self._in_thread(save, *args)
        except StorageUnavailable as error:
            log.warning("job_not_stored", error=str(error))
            return False
        return True

    async def _keep_to_retention(self) -> None:
        while True:
            try:
                deleted = await self._in_thread(
                    delete_old_run_files,
                    self._store,
                    self._home,
                    time=now(),
                    days=self._result_days,
                )
                if deleted:
                    log.info("results_deleted", jobs=len(deleted))
            except (StorageUnavailable, OSError) as error:
                log.warning("results_not_deleted", error=str(error))
            await asyncio.sleep(_RETENTION_SECONDS)
