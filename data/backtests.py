"""Backtests as they are stored: a stored strategy, what it is to be run with, and its last run.

What came of the run is kept with its job. A backtest follows it, unless something was set by hand.
"""

import uuid
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Literal

import msgspec

from data.errors import BacktestNotFound
from data.jobs import UNFINISHED, JobRecord, JobStatus, RunOutcome
from data.store import Store, now
from sandbox.errors import shown

BacktestStatus = Literal["pending", "running", "completed", "failed"]

_COLUMNS = (
    "b.backtest_id, b.account_id, b.number, b.strategy_id, b.engine, b.initial_capital,"
    " b.commission, b.slippage, b.config, b.job_id, b.run_number, b.set_status, b.set_metrics,"
    " b.hides_trades, b.hides_equity, epoch_ms(b.created_at), epoch_ms(b.updated_at), j.status,"
    " epoch_ms(j.finished_at), j.error_message, j.payload_deleted_at IS NOT NULL, r.outcome"
)
_JOINED = (
    "backtests b LEFT JOIN jobs j ON j.job_id = b.job_id"
    " LEFT JOIN job_runs r ON r.job_id = b.job_id AND r.run_number = b.run_number"
)


class BacktestSetup(msgspec.Struct, frozen=True, kw_only=True):
    """What a backtest runs, and with what."""

    strategy_id: str
    engine: str
    initial_capital: Decimal
    commission: Decimal
    """A fraction of the notional."""
    slippage: Decimal
    """A fraction of the price."""
    config: dict[str, Any]
    """As it was asked for, with its defaults."""


class BacktestRecord(BacktestSetup, frozen=True, kw_only=True):
    """A backtest as the store knows it, with its run; times in milliseconds since the epoch."""

    backtest_id: str
    account_id: str
    number: int
    """Counts the account's backtests in the order in which they were created."""
    job_id: str | None = None
    """Of its last execution."""
    run_number: int | None = None
    set_status: BacktestStatus | None = None
    """By hand, in place of what the run says; so is ``set_metrics``."""
    set_metrics: dict[str, Any] | None = None
    hides_trades: bool = False
    hides_equity: bool = False
    created_at: int
    changed_at: int
    """When something of it was last set, or its execution began."""
    job_status: JobStatus | None = None
    finished_at: int | None = None
    """When its job ended."""
    job_error: str | None = None
    payload_is_deleted: bool = False
    outcome: RunOutcome | None = None
    """Of its run; None until it has ended."""

    @property
    def is_under_way(self) -> bool:
        """Whether its run is queued or running."""
        return self.job_status in UNFINISHED and self.outcome is None

    @property
    def status(self) -> BacktestStatus:
        """What was set by hand, else how far its run is."""
        if self.set_status is not None:
            return self.set_status
        if self.job_status is None:
            return "pending"
        if self.is_under_way:
            return "running"
        return "completed" if self.outcome is not None and self.outcome.summary else "failed"

    @property
    def error(self) -> str | None:
        """Why its run failed, in words."""
        if self.outcome is not None:
            return None if self.outcome.error is None else self.outcome.error.message
        if self.job_status is None or self.is_under_way:
            return None
        return self.job_error or "the run was cancelled"

    @property
    def updated_at(self) -> int:
        """When it last changed: by hand, or because its run began or ended."""
        return max(self.changed_at, self.finished_at or 0)

    @property
    def has_files(self) -> bool:
        """Whether its run has left equity and trades, and they are still there."""
        outcome = self.outcome
        return outcome is not None and outcome.summary is not None and not self.payload_is_deleted


def new_backtest_id() -> str:
    """An id that no backtest has."""
    return str(uuid.uuid4())


def create_backtests(
    store: Store, account_id: str, setups: Mapping[str, BacktestSetup], job_id: str | None = None
) -> list[BacktestRecord]:
    """Store new backtests by their ids: pending, or as the runs of a job, in their order."""
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
                setup.initial_capital, setup.commission, setup.slippage, _json(setup.config),
                job_id, None if job_id is None else place, time, time,
            )  # fmt: skip
        return get_backtests(store, account_id, list(setups))


def get_backtest(store: Store, account_id: str, backtest_id: str) -> BacktestRecord:
    """The account's backtest; raises ``BacktestNotFound``, also if it is another account's."""
    return get_backtests(store, account_id, [backtest_id])[0]


def get_backtests(store: Store, account_id: str, ids: Sequence[str]) -> list[BacktestRecord]:
    """The account's backtests of these ids, in their order; raises ``BacktestNotFound``."""
    rows = store.rows(
        f"SELECT {_COLUMNS} FROM {_JOINED}"
        " WHERE b.account_id = ? AND list_contains(?::VARCHAR[], b.backtest_id)",
        account_id, list(ids),
    )  # fmt: skip
    found = {row[0]: _record(row) for row in rows}
    for backtest_id in ids:
        if backtest_id not in found:
            raise _not_found(backtest_id)
    return [found[backtest_id] for backtest_id in ids]


def list_backtests(
    store: Store, account_id: str, *, strategy_id: str | None = None, skip: int, limit: int
) -> list[BacktestRecord]:
    """A page of the account's backtests, of one strategy if it is given, the newest first."""
    found = store.rows(
        f"SELECT {_COLUMNS} FROM {_JOINED}"
        " WHERE b.account_id = ? AND coalesce(b.strategy_id = ?, true)"
        " ORDER BY b.number DESC LIMIT ? OFFSET ?",
        account_id, strategy_id, limit, skip,
    )  # fmt: skip
    return [_record(row) for row in found]


def save_execution(
    store: Store, account_id: str, backtest_id: str, job: JobRecord
) -> BacktestRecord:
    """Note that the only run of ``job`` is the backtest's, which follows it since it was submitted.

    What was set by hand is forgotten. Raises ``BacktestNotFound``.
    """
    return _update(
        store, account_id, backtest_id,
        "job_id = ?, run_number = 0, set_status = NULL, set_metrics = NULL, hides_trades = false,"
        " hides_equity = false, ", job.job_id, time=job.submitted_at,
    )  # fmt: skip


def forget_execution(store: Store, account_id: str, backtest_id: str) -> BacktestRecord:
    """Have the backtest be as if it had not been executed; raises ``BacktestNotFound``."""
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
    """Set by hand what is given; raises ``BacktestNotFound``."""
    given = {
        "set_status": status,
        "set_metrics": None if metrics is None else _json(dict(metrics)),
        "hides_trades": hides_trades,
        "hides_equity": hides_equity,
    }
    changes = {column: value for column, value in given.items() if value is not None}
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
    """Whether there are backtests that follow a run of the job."""
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
        f"there is no backtest {shown(backtest_id)!r}", backtest_id=shown(backtest_id)
    )


_NAMES = (
    "backtest_id", "account_id", "number", "strategy_id", "engine", "initial_capital",
    "commission", "slippage", "config", "job_id", "run_number", "set_status", "set_metrics",
    "hides_trades", "hides_equity", "created_at", "changed_at", "job_status", "finished_at",
    "job_error", "payload_is_deleted", "outcome",
)  # fmt: skip
"""Of the columns, in their order."""


def _record(row: tuple[Any, ...]) -> BacktestRecord:
    values = dict(zip(_NAMES, row, strict=True))
    for name in ("config", "set_metrics"):
        if values[name] is not None:
            values[name] = msgspec.json.decode(values[name])
    if values["outcome"] is not None:
        values["outcome"] = _outcome(values["outcome"])
    return BacktestRecord(**values)


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


_outcome = msgspec.json.Decoder(RunOutcome).decode
