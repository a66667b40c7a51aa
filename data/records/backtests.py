"""Stored backtests: each a stored strategy, the terms on which it is run, and its last run.

The outcome of the run is stored with its job. A backtest reports it, unless a field was set by
hand.
"""

import uuid
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Literal

import msgspec

from candlestep.data.clock import now
from candlestep.data.errors import BacktestNotFound
from candlestep.data.records import jobs
from candlestep.data.store.database import Store
from candlestep.data.store.rows import named_values, to_json
from candlestep.sandbox.errors import abbreviate
from candlestep.sandbox.market.coverage import SessionWarning

BacktestStatus = Literal["pending", "running", "completed", "failed"]

_COLUMNS = (
    "b.strategy_id, b.engine, b.initial_capital, b.commission, b.slippage, b.config,"
    " b.backtest_id, b.account_id, b.number, b.set_status, b.set_metrics, b.hides_trades,"
    " b.hides_equity, epoch_ms(b.created_at), epoch_ms(b.updated_at)"
)
"""The fields of a ``BacktestRecord`` except its run."""
_RUN_COLUMNS = (
    "j.job_id, b.run_number, j.status, epoch_ms(j.finished_at), j.error_message,"
    " j.payload_deleted_at IS NOT NULL, r.outcome, r.spec->'$.warnings', r.spec->'$.coverage'"
)
"""The fields of a ``BacktestRun``."""
_SELECT = (
    f"SELECT {_COLUMNS}, {_RUN_COLUMNS} FROM backtests b LEFT JOIN jobs j ON j.job_id = b.job_id"
    " LEFT JOIN job_runs r ON r.job_id = b.job_id AND r.run_number = b.run_number"
)


class BacktestSetup(msgspec.Struct, frozen=True, kw_only=True):
    """A strategy and the terms on which a backtest runs it."""

    strategy_id: str
    engine: str
    initial_capital: Decimal
    commission: Decimal
    """A fraction of the notional."""
    slippage: Decimal
    """A fraction of the price."""
    config: dict[str, Any]
    """The configuration of the request, with its defaults."""


class BacktestRun(msgspec.Struct, frozen=True, kw_only=True):
    """The run of a job by which a backtest was last executed."""

    job_id: str
    run_number: int
    job_status: jobs.JobStatus
    finished_at: int | None
    """When the job ended, in milliseconds since the epoch."""
    job_error: str | None
    files_are_deleted: bool
    outcome: jobs.RunOutcome | None
    """None until the run has ended."""
    warnings: list[SessionWarning] = []
    """The stretches of the run in which its symbol has no candles."""
    coverage: dict[str, float] = {}
    """By symbol, the share of the run's steps that have a candle."""

    @classmethod
    def of(cls, job: jobs.JobRecord, run_number: int) -> "BacktestRun":
        """Return a run of ``job`` in its current state."""
        return cls(
            job_id=job.job_id,
            run_number=run_number,
            job_status=job.status,
            finished_at=job.finished_at,
            job_error=job.error_message,
            files_are_deleted=job.files_deleted_at is not None,
            outcome=job.outcomes[run_number],
            warnings=job.specs[run_number].warnings,
            coverage=job.specs[run_number].coverage,
        )

    @property
    def is_under_way(self) -> bool:
        """True if it is queued or running."""
        return self.job_status in jobs.UNFINISHED and self.outcome is None

    @property
    def summary(self) -> jobs.RunSummary | None:
        """The summary of the run; None unless it was completed."""
        return None if self.outcome is None else self.outcome.summary

    @property
    def error(self) -> str | None:
        """The reason why the run failed or was cancelled; None otherwise."""
        if self.outcome is not None:
            return None if self.outcome.error is None else self.outcome.error.message
        return None if self.is_under_way else self.job_error or "the run was cancelled"

    @property
    def has_files(self) -> bool:
        """True if the run wrote equity and trades that have not been deleted."""
        return self.summary is not None and not self.files_are_deleted


class BacktestRecord(BacktestSetup, frozen=True, kw_only=True):
    """A stored backtest with its last run. Times are in milliseconds since the epoch."""

    backtest_id: str
    account_id: str
    number: int
    """The position of the backtest among the account's, in the order of creation, from 1."""
    set_status: BacktestStatus | None = None
    """A status set by hand, which replaces that of the run; ``set_metrics`` likewise."""
    set_metrics: dict[str, Any] | None = None
    hides_trades: bool = False
    hides_equity: bool = False
    created_at: int
    changed_at: int
    """When a field was last set, or the execution began."""
    run: BacktestRun | None = None
    """The run of its last execution."""

    @property
    def is_under_way(self) -> bool:
        """True if its run is queued or running."""
        return self.run is not None and self.run.is_under_way

    @property
    def status(self) -> BacktestStatus:
        """The status that was set by hand, or else that of its run."""
        if self.set_status is not None:
            return self.set_status
        if self.run is None:
            return "pending"
        if self.run.is_under_way:
            return "running"
        return "failed" if self.run.summary is None else "completed"

    @property
    def error(self) -> str | None:
        """The reason why its run failed or was cancelled; None otherwise."""
        return None if self.run is None else self.run.error

    @property
    def updated_at(self) -> int:
        """When the backtest last changed, by hand or because its run began or ended."""
        ended_at = None if self.run is None else self.run.finished_at
        return max(self.changed_at, ended_at or 0)

    @property
    def has_files(self) -> bool:
        """True if its run wrote equity and trades that have not been deleted."""
        return self.run is not None and self.run.has_files


def new_backtest_id() -> str:
    """Return a new, unique id."""
    return str(uuid.uuid4())


def create_backtests(
    store: Store, account_id: str, setups: Mapping[str, BacktestSetup], job_id: str | None = None
) -> list[BacktestRecord]:
    """Store new backtests by id, pending or, with ``job_id``, as the runs of a job in order."""
    time = now()
    with store.transaction():
        last = store.rows(
            "SELECT coalesce(max(number), 0) FROM backtests WHERE account_id = ?", account_id
        )[0][0]
        for place, (backtest_id, setup) in enumerate(setups.items()):
            store.execute(
                "INSERT INTO backtests VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, NULL, false,"
                " false, epoch_ms(?::BIGINT), epoch_ms(?::BIGINT))",
                backtest_id, account_id, last + 1 + place, setup.strategy_id, setup.engine,
                setup.initial_capital, setup.commission, setup.slippage, to_json(setup.config),
                job_id, None if job_id is None else place, time, time,
            )  # fmt: skip
        return get_backtests(store, account_id, list(setups))


def get_backtest(store: Store, account_id: str, backtest_id: str) -> BacktestRecord:
    """Return the account's backtest.

    Raises ``BacktestNotFound``, also if the backtest belongs to another account.
    """
    return get_backtests(store, account_id, [backtest_id])[0]


def get_backtests(store: Store, account_id: str, ids: Sequence[str]) -> list[BacktestRecord]:
    """Return the account's backtests of these ids, in order; raises ``BacktestNotFound``."""
    rows = store.rows(
        f"{_SELECT} WHERE b.account_id = ? AND list_contains(?::VARCHAR[], b.backtest_id)",
        account_id, list(ids),
    )  # fmt: skip
    records = {record.backtest_id: record for record in map(_to_record, rows)}
    for backtest_id in ids:
        if backtest_id not in records:
            raise _not_found(backtest_id)
    return [records[backtest_id] for backtest_id in ids]


def find_backtest(store: Store, backtest_id: str) -> BacktestRecord | None:
    """Return the backtest of this id, whichever account it belongs to; None if there is none."""
    rows = store.rows(f"{_SELECT} WHERE b.backtest_id = ?", backtest_id)
    return _to_record(rows[0]) if rows else None


def list_backtests(
    store: Store, account_id: str, *, strategy_id: str | None = None, skip: int, limit: int
) -> list[BacktestRecord]:
    """Return a page of the account's backtests, optionally of one strategy, newest first."""
    rows = store.rows(
        f"{_SELECT} WHERE b.account_id = ? AND coalesce(b.strategy_id = ?, true)"
        " ORDER BY b.number DESC LIMIT ? OFFSET ?",
        account_id, strategy_id, limit, skip,
    )  # fmt: skip
    return [_to_record(row) for row in rows]


def save_execution(
    store: Store, account_id: str, backtest_id: str, job: jobs.JobRecord
) -> BacktestRecord:
    """Save that a backtest is executed by the only run of ``job``, since its submission.

    Clears the fields that were set by hand. Raises ``BacktestNotFound``.
    """
    return _update(
        store, account_id, backtest_id,
        "job_id = ?, run_number = 0, set_status = NULL, set_metrics = NULL, hides_trades = false,"
        " hides_equity = false, ", job.job_id, time=job.submitted_at,
    )  # fmt: skip


def forget_execution(store: Store, account_id: str, backtest_id: str) -> BacktestRecord:
    """Reset the backtest to one that was never executed; raises ``BacktestNotFound``."""
    return _update(store, account_id, backtest_id, "job_id = NULL, run_number = NULL, ")


def change_backtest(
    store: Store,
    account_id: str,
    backtest_id: str,
    *,
    status: BacktestStatus | None = None,
    metrics: Mapping[str, Any] | None = None,
    hides_trades: bool | None = None,
    hides_equity: bool | None = None,
) -> BacktestRecord:
    """Set the given fields by hand; raises ``BacktestNotFound``."""
    columns = {
        "set_status": status,
        "set_metrics": None if metrics is None else to_json(dict(metrics)),
        "hides_trades": hides_trades,
        "hides_equity": hides_equity,
    }
    changes = {column: value for column, value in columns.items() if value is not None}
    setting = "".join(f"{column} = ?, " for column in changes)
    return _update(store, account_id, backtest_id, setting, *changes.values())


def delete_backtest(store: Store, account_id: str, backtest_id: str) -> None:
    """Delete the account's backtest; its job and its files stay. Raises ``BacktestNotFound``."""
    with store.transaction():
        deleted = store.execute(
            "DELETE FROM backtests WHERE account_id = ? AND backtest_id = ? RETURNING 1",
            account_id, backtest_id,
        )  # fmt: skip
    if not deleted:
        raise _not_found(backtest_id)


def has_backtests(store: Store, job_id: str) -> bool:
    """Return whether any backtest was executed by a run of the job."""
    return bool(store.rows("SELECT 1 FROM backtests WHERE job_id = ? LIMIT 1", job_id))


def _update(
    store: Store,
    account_id: str,
    backtest_id: str,
    setting: str,
    *values: Any,
    time: int | None = None,
) -> BacktestRecord:
    with store.transaction():
        store.execute(
            f"UPDATE backtests SET {setting}updated_at = epoch_ms(?::BIGINT)"
            " WHERE account_id = ? AND backtest_id = ?",
            *values, now() if time is None else time, account_id, backtest_id,
        )  # fmt: skip
        return get_backtest(store, account_id, backtest_id)


def _not_found(backtest_id: str) -> BacktestNotFound:
    return BacktestNotFound(
        f"there is no backtest {abbreviate(backtest_id)!r}", backtest_id=abbreviate(backtest_id)
    )


def _to_record(row: Sequence[Any]) -> BacktestRecord:
    *own_names, _ = BacktestRecord.__struct_fields__
    own, run = row[: len(own_names)], row[len(own_names) :]
    values = named_values(own_names, own, ("config", "set_metrics"))
    return BacktestRecord(**values, run=_to_run(run))


def _to_run(row: Sequence[Any]) -> BacktestRun | None:
    values = named_values(BacktestRun.__struct_fields__, row)
    if values["job_id"] is None:
        return None
    if values["outcome"] is not None:
        values["outcome"] = jobs.decode_outcome(values["outcome"])
    values["warnings"] = _decode_warnings(values["warnings"] or "[]")
    values["coverage"] = _decode_coverage(values["coverage"] or "{}")
    return BacktestRun(**values)


_decode_warnings = msgspec.json.Decoder(list[SessionWarning]).decode
_decode_coverage = msgspec.json.Decoder(dict[str, float]).decode
