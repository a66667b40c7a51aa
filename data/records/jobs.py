"""Stored jobs: the runs that each consists of, its progress, and the outcome of each run.

A job is one run of a strategy, or the several runs of a sweep.
"""

import re
import uuid
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Literal

import msgspec

from candlestep.data.clock import now
from candlestep.data.errors import JobNotFound
from candlestep.data.store.database import Store
from candlestep.data.store.rows import named_values, to_json
from candlestep.data.symbols import DEFAULT_EXCHANGE
from candlestep.sandbox import InvalidParameter, Metrics, PairResult
from candlestep.sandbox.errors import abbreviate
from candlestep.sandbox.exchange.margin.reports import MarginFigures
from candlestep.sandbox.market.coverage import SessionWarning

JobOrigin = Literal["jobs", "execute", "backtests", "runs"]
"""The API through which a job was submitted."""
JobStatus = Literal["queued", "running", "done", "failed", "cancelled"]
UNFINISHED = ("queued", "running")

_JOB_ID = re.compile(r"[A-Za-z0-9_-]{1,100}", re.ASCII)
_COLUMNS = (
    "job_id, account_id, number, origin, status, progress, attempts, request,"
    " epoch_ms(submitted_at), epoch_ms(started_at), epoch_ms(finished_at), error_code,"
    " error_message, epoch_ms(payload_deleted_at)"
)


class RunSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A run: a strategy, a market and a period. Times and the interval are in milliseconds."""

    strategy: dict[str, Any]
    """The content of a strategy, for ``compile_strategy``."""
    pairs: list[str]
    start_time: int
    end_time: int
    interval: int
    starting_balance: str
    exchange: str = DEFAULT_EXCHANGE
    engine: str = "sandbox"
    config: dict[str, Any] = {}
    """Further arguments of ``SessionConfig``: fees, slippage, currency and so on."""
    risk_free_rate: float = 0.0
    """A yearly rate, as a fraction, for the Sharpe and similar ratios."""
    store_signals: bool = False
    import_number: int | None = None
    """The market is as of this import; None: of the latest one when the job is submitted."""
    history: int = 0
    """The least time before its start that candles must reach back, for the indicators, in ms."""
    overrides: dict[str, Any] = {}
    """The parameters by which a run of a sweep differs from the others, as its API names them."""
    warnings: list[SessionWarning] = []
    """The stretches of the run in which a symbol of the request has no candles; see ``Coverage``."""
    coverage: dict[str, float] = {}
    """By symbol of the request, the share of the steps that have a candle; see ``Coverage``. Empty
    in a run that an earlier version stored."""


class RunError(msgspec.Struct, frozen=True):
    """The reason why a run or a job failed, for its user to act on."""

    code: str
    message: str


class RunSummary(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a run. Amounts are in quote currency."""

    final_equity: Decimal
    total_pnl: Decimal
    roi_pct: Decimal
    total_fees: Decimal
    metrics: Metrics
    by_pair: list[PairResult]
    candles: int
    """The number of candles of its timeframe that the strategy saw, of all symbols."""
    signals: int
    fills: int
    closed_trades: int
    mean_trade_seconds: float | None
    """The mean time from entry to exit; None without closed trades."""
    open_positions: int
    open_value: Decimal
    """The value of the positions that are open at the end."""
    unrealized_pnl: Decimal
    margin: MarginFigures | None = None
    """The figures of a run on perpetuals alone: funding, liquidations and so on."""


class RunOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of a run: a summary and files, or an error."""

    summary: RunSummary | None = None
    error: RunError | None = None
    files: list[str] = []
    """The files that were written: ``equity``, ``trades``, ``signals`` or fewer."""
    seconds: float = 0.0
    """The wall-clock time that the run took."""
    host: str = ""
    """The machine on which it ran."""


class JobRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A stored job. Times are in milliseconds since the epoch."""

    job_id: str
    account_id: str
    number: int
    """The position of the job among the account's, in the order of their submission, from 1."""
    origin: JobOrigin
    status: JobStatus
    progress: float
    """From 0 to 1."""
    attempts: int
    """The number of times its run was started: 2 if a worker died. For a sweep, the maximum."""
    request: dict[str, Any]
    """The request, as its API resolved it."""
    submitted_at: int
    started_at: int | None
    finished_at: int | None
    error_code: str | None
    error_message: str | None
    files_deleted_at: int | None
    """When the files of its runs were deleted."""
    specs: list[RunSpec]
    outcomes: list[RunOutcome | None]
    """The outcome of each run, in the order of the specs; None until the run has ended."""

    @property
    def has_ended(self) -> bool:
        """True if the job is done, failed or cancelled."""
        return self.status not in UNFINISHED

    @property
    def covered_from(self) -> int:
        """The start of its runs: of the part of the period asked for that has candles."""
        return self.specs[0].start_time

    @property
    def covered_to(self) -> int:
        """The end of its runs."""
        return self.specs[0].end_time

    @property
    def warnings(self) -> Sequence[SessionWarning]:
        """The stretches of its first run in which a symbol has no candles."""
        return self.specs[0].warnings

    @property
    def coverage(self) -> Mapping[str, float]:
        """By symbol, the share of the steps of its first run that have a candle."""
        return self.specs[0].coverage

    @property
    def summary(self) -> RunSummary | None:
        """The summary of the first run, which is the only one except in a sweep; None unless the
        job is done."""
        outcome = self.outcomes[0]
        return outcome.summary if outcome is not None and self.status == "done" else None

    @property
    def error(self) -> RunError | None:
        """The reason why the job failed or was cancelled; None if neither happened."""
        if self.error_code is None:
            return None
        return RunError(self.error_code, self.error_message or "")


def new_job_id() -> str:
    """Return a new, unique id."""
    return f"bt_{uuid.uuid4().hex}"


def save_job(
    store: Store,
    account_id: str,
    *,
    origin: JobOrigin,
    specs: Sequence[RunSpec],
    request: Mapping[str, Any],
    job_id: str | None = None,
) -> JobRecord:
    """Store a job as queued; it replaces an earlier one of the same id.

    ``job_id`` has up to 100 letters, digits, ``_`` and ``-``, and belongs to one account: callers
    that derive it from a request must derive it from the account too. Each spec must have its
    import number. Raises ``InvalidParameter``.
    """
    job_id = job_id or new_job_id()
    if not _JOB_ID.fullmatch(job_id):
        raise InvalidParameter("job_id", "must have 1 to 100 letters, digits, _ and -")
    with store.transaction():
        _delete(store, account_id, job_id)
        number = store.rows(
            "SELECT coalesce(max(number), 0) + 1 FROM jobs WHERE account_id = ?", account_id
        )[0][0]
        store.execute(
            "INSERT INTO jobs (job_id, account_id, number, origin, status, progress, attempts,"
            " request, submitted_at) VALUES (?, ?, ?, ?, 'queued', 0, 0, ?, epoch_ms(?::BIGINT))",
            job_id, account_id, number, origin, to_json(dict(request)), now(),
        )  # fmt: skip
        for run_number, spec in enumerate(specs):
            store.execute(
                "INSERT INTO job_runs (job_id, run_number, import_number, spec)"
                " VALUES (?, ?, ?, ?)",
                job_id, run_number, spec.import_number, to_json(spec),
            )  # fmt: skip
        return get_job(store, account_id, job_id)


def get_job(
    store: Store, account_id: str, job_id: str, *, origin: JobOrigin | None = None
) -> JobRecord:
    """Return the account's job.

    Raises ``JobNotFound``, also if the job belongs to another account or, with ``origin``, was
    submitted through another API.
    """
    jobs = _select(store, "account_id = ? AND job_id = ?", "", account_id, job_id)
    if not jobs or origin not in (None, jobs[0].origin):
        raise job_not_found(job_id)
    return jobs[0]


def find_job(store: Store, job_id: str) -> JobRecord | None:
    """Return the job of this id, whichever account it belongs to; None if there is none."""
    jobs = _select(store, "job_id = ?", "", job_id)
    return jobs[0] if jobs else None


def job_not_found(job_id: str) -> JobNotFound:
    """Return the error for an id that does not belong to any of the account's jobs."""
    return JobNotFound(f"there is no job {abbreviate(job_id)!r}", job_id=abbreviate(job_id))


def list_jobs(
    store: Store,
    account_id: str,
    *,
    origin: JobOrigin | None = None,
    status: JobStatus | None = None,
    template_id: str | None = None,
    submitted_from: int | None = None,
    submitted_to: int | None = None,
    before: int | None = None,
    limit: int = 20,
) -> list[JobRecord]:
    """Return a page of the account's jobs that pass all filters, newest first.

    ``template_id`` is that of the request. Both times, in ms, are inclusive. ``before`` is the
    number of the last job of the previous page. Scans the names of all stored runs: 3 ms for
    50,000.
    """
    filters = {
        "account_id = ?": account_id,
        "origin = ?": origin,
        "status = ?": status,
        "(request->>'$.template_id') = ?": template_id,
        "submitted_at >= epoch_ms(?::BIGINT)": submitted_from,
        "submitted_at <= epoch_ms(?::BIGINT)": submitted_to,
        "number < ?": before,
    }
    applied = {sql: value for sql, value in filters.items() if value is not None}
    return _select(
        store, " AND ".join(applied), "ORDER BY number DESC LIMIT ?", *applied.values(), limit
    )


def count_ended_jobs(store: Store) -> dict[str, int]:
    """Return the number of jobs that have ended, by status."""
    counts = store.rows(
        "SELECT status, count(*) FROM jobs WHERE status NOT IN ('queued', 'running') GROUP BY ALL"
    )
    return dict(counts)


def unfinished_jobs(store: Store) -> list[JobRecord]:
    """Return the queued and running jobs of all accounts, in the order of their submission."""
    return _select(
        store, "status IN ('queued', 'running')", "ORDER BY submitted_at, account_id, number"
    )


def save_job_progress(
    store: Store, job_id: str, *, started_at: int, progress: float, attempts: int
) -> None:
    """Set a job running and save its progress; a job that has ended stays as it is."""
    with store.transaction():
        store.execute(
            "UPDATE jobs SET status = 'running', started_at = epoch_ms(?::BIGINT), progress = ?,"
            " attempts = ? WHERE job_id = ? AND status IN ('queued', 'running')",
            started_at, progress, attempts, job_id,
        )  # fmt: skip


def save_outcomes(store: Store, job_id: str, outcomes: Mapping[int, RunOutcome]) -> None:
    """Save the outcomes of runs, by their numbers."""
    with store.transaction():
        for run_number, outcome in outcomes.items():
            store.execute(
                "UPDATE job_runs SET outcome = ? WHERE job_id = ? AND run_number = ?",
                to_json(outcome), job_id, run_number,
            )  # fmt: skip


def save_job_end(store: Store, record: JobRecord) -> None:
    """Save the end of a job: its status, times, error and the outcomes of its runs."""
    outcomes = {
        number: outcome for number, outcome in enumerate(record.outcomes) if outcome is not None
    }
    with store.transaction():
        save_outcomes(store, record.job_id, outcomes)
        _update(
            store, record.job_id,
            "status = ?, progress = ?, attempts = ?, started_at = epoch_ms(?::BIGINT),"
            " finished_at = epoch_ms(?::BIGINT), error_code = ?, error_message = ?",
            record.status, record.progress, record.attempts, record.started_at,
            record.finished_at, record.error_code, record.error_message,
        )  # fmt: skip


def sharpe_ratios(
    store: Store, account_id: str, origin: JobOrigin, request: Mapping[str, str]
) -> list[float | None]:
    """Return the annualised Sharpe ratios of all runs of the account's matching jobs.

    Jobs match that are done, came through ``origin``, and whose requests have the fields
    ``request``. A run without a Sharpe ratio yields None.
    """
    matching = "".join(f" AND (request->>'$.{name}') = ?" for name in request)
    rows = store.rows(
        "SELECT (outcome->>'$.summary.metrics.sharpe_ratio')::DOUBLE"
        " FROM jobs JOIN job_runs USING (job_id) WHERE account_id = ? AND origin = ?"
        f" AND status = 'done' AND (outcome->>'$.summary') IS NOT NULL{matching}"
        " ORDER BY number, run_number",
        account_id, origin, *request.values(),
    )  # fmt: skip
    return [ratio for (ratio,) in rows]


def jobs_with_old_run_files(store: Store, finished_before: int) -> list[str]:
    """Return the ids of jobs that ended before a time (ms) and whose files are not deleted."""
    rows = store.rows(
        "SELECT job_id FROM jobs WHERE finished_at < epoch_ms(?::BIGINT)"
        " AND payload_deleted_at IS NULL ORDER BY finished_at, job_id",
        finished_before,
    )
    return [job_id for (job_id,) in rows]


def save_run_files_deleted(store: Store, job_id: str, time: int) -> None:
    """Save that the files of a job's runs were deleted; its summary stays."""
    _update(store, job_id, "payload_deleted_at = epoch_ms(?::BIGINT)", time)


def job_imports(store: Store) -> list[int]:
    """Return the import numbers on which unfinished jobs run, which ``prune`` must keep."""
    rows = store.rows(
        "SELECT DISTINCT import_number FROM job_runs JOIN jobs USING (job_id)"
        " WHERE status IN ('queued', 'running') ORDER BY ALL"
    )
    return [number for (number,) in rows]


def _delete(store: Store, account_id: str, job_id: str) -> None:
    rows = store.rows("SELECT account_id FROM jobs WHERE job_id = ?", job_id)
    if rows and rows[0][0] != account_id:
        raise InvalidParameter("job_id", "is taken; choose another")
    store.execute("DELETE FROM job_runs WHERE job_id = ?", job_id)
    store.execute("DELETE FROM jobs WHERE job_id = ?", job_id)


def _update(store: Store, job_id: str, setting: str, *values: Any) -> None:
    with store.transaction():
        store.execute(f"UPDATE jobs SET {setting} WHERE job_id = ?", *values, job_id)


def _select(store: Store, where: str, order: str, *values: Any) -> list[JobRecord]:
    rows = store.rows(f"SELECT {_COLUMNS} FROM jobs WHERE {where} {order}", *values)
    runs: dict[str, list[tuple[RunSpec, RunOutcome | None]]] = {row[0]: [] for row in rows}
    for job_id, spec, outcome in store.rows(
        "SELECT job_id, spec, outcome FROM job_runs"
        " WHERE list_contains(?::VARCHAR[], job_id) ORDER BY job_id, run_number",
        list(runs),
    ):
        runs[job_id].append(
            (_decode_spec(spec), None if outcome is None else decode_outcome(outcome))
        )
    *names, _, _ = JobRecord.__struct_fields__
    return [
        JobRecord(
            **named_values(names, row, ("request",)),
            specs=[spec for spec, _ in runs[row[0]]],
            outcomes=[outcome for _, outcome in runs[row[0]]],
        )
        for row in rows
    ]


_decode_spec = msgspec.json.Decoder(RunSpec).decode
decode_outcome = msgspec.json.Decoder(RunOutcome).decode
