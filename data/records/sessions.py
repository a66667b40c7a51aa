"""Sessions as they are stored: what each was created with, how far it is, how it came out."""

import uuid
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Literal, get_args

import msgspec
import numpy as np

from candlestep.data.clock import now
from candlestep.data.errors import SessionNotFound
from candlestep.data.store.database import Store
from candlestep.data.store.rows import text_column, to_json, to_struct
from candlestep.sandbox import InvalidParameter

SortOrder = Literal["asc", "desc"]

SessionStatus = Literal["created", "running", "completed", "cancelled", "failed"]
SortBy = Literal[
    "created_at", "started_at", "completed_at", "strategy_label", "status", "start_time",
    "end_time", "starting_balance", "current_step", "total_steps", "final_equity", "total_pnl",
    "roi_pct", "total_trades", "total_fees", "sharpe_ratio", "max_drawdown_pct",
]  # fmt: skip
SORTABLE: tuple[str, ...] = get_args(SortBy)
"""What a list of sessions can be sorted by."""

_COLUMNS = (
    "session_id, account_id, agent_id, exchange, strategy_label, status, pairs,"
    " epoch_ms(start_time), epoch_ms(end_time), interval_seconds * 1000, starting_balance,"
    " config, risk_profile, import_number, total_steps, current_step, final_equity, total_pnl,"
    " roi_pct, total_trades, total_fees, sharpe_ratio, max_drawdown_pct, epoch_ms(created_at),"
    " epoch_ms(started_at), epoch_ms(completed_at), error"
)
_JSON_COLUMNS = ("pairs", "config", "risk_profile")


class SessionRecord(msgspec.Struct, frozen=True):
    """A session as the store knows it. Times and the interval are in milliseconds.

    What is only known at its end is None until then.
    """

    session_id: str
    account_id: str
    agent_id: str
    exchange: str
    strategy_label: str
    status: SessionStatus
    """created, running, completed, cancelled or failed."""
    pairs: list[str]
    start_time: int
    end_time: int
    interval: int
    starting_balance: Decimal
    config: dict[str, Any]
    risk_profile: dict[str, Any]
    import_number: int | None
    """The market it runs on is as of this import; pinned when it starts."""
    total_steps: int
    current_step: int
    final_equity: Decimal | None
    total_pnl: Decimal | None
    roi_pct: Decimal | None
    total_trades: int | None
    total_fees: Decimal | None
    sharpe_ratio: float | None
    max_drawdown_pct: float | None
    created_at: int
    started_at: int | None
    completed_at: int | None
    error: str | None


def new_session_id() -> str:
    """An id that no session has (``bt_…``)."""
    return f"bt_{uuid.uuid4()}"


def create_session(
    store: Store,
    account_id: str,
    *,
    agent_id: str,
    exchange: str,
    strategy_label: str,
    pairs: Sequence[str],
    start_time: int,
    end_time: int,
    interval: int,
    starting_balance: Decimal,
    total_steps: int,
    config: Mapping[str, Any],
    risk_profile: Mapping[str, Any],
    key: str | None = None,
    key_body: str | None = None,
) -> SessionRecord:
    """Store a new session, with status ``created`` and an id of its own.

    ``key`` and ``key_body`` tell what it was asked for with; see ``session_of_key``.
    """
    session_id = new_session_id()
    with store.transaction():
        store.execute(
            "INSERT INTO sessions (session_id, account_id, agent_id, exchange, strategy_label,"
            " status, pairs, start_time, end_time, interval_seconds, starting_balance, config,"
            " risk_profile, total_steps, current_step, created_at, create_key, create_body)"
            " VALUES (?, ?, ?, ?, ?, 'created', ?, epoch_ms(?::BIGINT), epoch_ms(?::BIGINT), ?,"
            " ?::DECIMAL(38, 8), ?, ?, ?, 0, epoch_ms(?::BIGINT), ?, ?)",
            session_id, account_id, agent_id, exchange, strategy_label, to_json(list(pairs)),
            start_time, end_time, interval // 1000, f"{starting_balance:f}", to_json(config),
            to_json(risk_profile), total_steps, now(), key, key_body,
        )  # fmt: skip
        return get_session(store, account_id, session_id)


def get_session(store: Store, account_id: str, session_id: str) -> SessionRecord:
    """The account's session; raises ``SessionNotFound``, also if it is another account's."""
    found = store.rows(
        f"SELECT {_COLUMNS} FROM sessions WHERE account_id = ? AND session_id = ?",
        account_id, session_id,
    )  # fmt: skip
    if not found:
        raise SessionNotFound(
            f"there is no session {session_id!r}; GET /api/v1/backtest/list lists yours",
            session_id=session_id,
        )
    return _to_record(found[0])


def session_of_key(store: Store, account_id: str, key: str) -> tuple[SessionRecord, str] | None:
    """The account's session that was created with a key, and the body it was asked for with."""
    found = store.rows(
        "SELECT session_id, create_body FROM sessions WHERE account_id = ? AND create_key = ?",
        account_id, key,
    )  # fmt: skip
    return (get_session(store, account_id, found[0][0]), found[0][1]) if found else None


def fork_session(
    store: Store,
    origin: SessionRecord,
    session_ids: Sequence[str],
    *,
    strategy_label: str,
    step: int,
    time: int,
) -> list[SessionRecord]:
    """Store running sessions that share a session's past up to a step, forked at ``time``."""
    with store.transaction():
        store.execute(
            "INSERT INTO sessions (session_id, account_id, agent_id, exchange, strategy_label,"
            " status, pairs, start_time, end_time, interval_seconds, starting_balance, config,"
            " risk_profile, import_number, total_steps, current_step, created_at, started_at,"
            " forked_from) SELECT fork.session_id, account_id, agent_id, exchange, ?, 'running',"
            " pairs, start_time, end_time, interval_seconds, starting_balance, config,"
            " risk_profile, import_number, total_steps, ?, epoch_ms(?::BIGINT),"
            " epoch_ms(?::BIGINT), origin.session_id"
            " FROM sessions origin, unnest(?::VARCHAR[]) fork(session_id)"
            " WHERE origin.session_id = ?",
            strategy_label, step, time, time, list(session_ids), origin.session_id,
        )  # fmt: skip
        return [get_session(store, origin.account_id, each) for each in session_ids]


def missing_sessions(store: Store, session_ids: Sequence[str]) -> list[str]:
    """Those of the ids that no session has, in their order."""
    found = store.rows(
        "SELECT session_id FROM sessions WHERE list_contains(?, session_id)", list(session_ids)
    )
    known = {session_id for (session_id,) in found}
    return [each for each in session_ids if each not in known]


def list_sessions(
    store: Store,
    account_id: str,
    *,
    strategy_label: str | None = None,
    status: str | None = None,
    agent_id: str | None = None,
    sort_by: str = "created_at",
    order: SortOrder = "desc",
    limit: int = 50,
    offset: int = 0,
) -> tuple[list[SessionRecord], int]:
    """A page of the account's sessions that pass every filter given, and how many do in all.

    ``strategy_label`` is a prefix. Sessions in which ``sort_by`` is undefined come last.
    """
    if sort_by not in SORTABLE:
        raise InvalidParameter("sort_by", f"must be one of {', '.join(SORTABLE)}")
    if order not in ("asc", "desc"):
        raise InvalidParameter("order", "must be asc or desc")
    filters = {
        "account_id = ?": account_id,
        "starts_with(strategy_label, ?)": strategy_label,
        "status = ?": status,
        "agent_id = ?": agent_id,
    }
    given = {sql: value for sql, value in filters.items() if value is not None}
    where = f"FROM sessions WHERE {' AND '.join(given)}"
    total: int = store.rows(f"SELECT count(*) {where}", *given.values())[0][0]
    page = store.rows(
        f"SELECT {_COLUMNS} {where} ORDER BY {sort_by} {order} NULLS LAST,"
        f" created_at {order}, session_id LIMIT ? OFFSET ?",
        *given.values(), limit, offset,
    )  # fmt: skip
    return [_to_record(row) for row in page], total


def running_sessions(store: Store) -> list[SessionRecord]:
    """The sessions of all accounts that are running, oldest first."""
    found = store.rows(
        f"SELECT {_COLUMNS} FROM sessions WHERE status = 'running' ORDER BY created_at, session_id"
    )
    return [_to_record(row) for row in found]


def save_start(store: Store, account_id: str, session_id: str, import_number: int) -> SessionRecord:
    """Note that the session runs, on the market as of ``import_number``, and return it.

    Raises ``SessionNotFound``. Said again, it keeps the first time.
    """
    return _update(
        store, account_id, session_id,
        "status = 'running', import_number = ?,"
        " started_at = coalesce(started_at, epoch_ms(?::BIGINT))",
        import_number, now(),
    )  # fmt: skip


def save_progress(store: Store, steps: Mapping[str, int]) -> None:
    """Note how far sessions are, by id; of those that are not running, nothing changes."""
    if not steps:
        return
    ids = text_column(list(steps))
    with store.transaction():
        store.insert(
            "UPDATE sessions SET current_step = incoming.step FROM incoming"
            " WHERE sessions.session_id = incoming.session_id AND status = 'running'",
            {"session_id": ids, "step": np.array(list(steps.values()), dtype=np.int64)},
        )


def save_failure(store: Store, account_id: str, session_id: str, error: str) -> None:
    """Note that the session cannot go on, and why. Raises ``SessionNotFound``."""
    _update(
        store, account_id, session_id,
        "status = 'failed', error = ?, completed_at = epoch_ms(?::BIGINT)", error, now(),
    )  # fmt: skip


def pinned_imports(store: Store) -> list[int]:
    """The import numbers that sessions run on, or ran on: what ``prune`` must keep."""
    found = store.rows(
        "SELECT DISTINCT import_number FROM sessions WHERE import_number IS NOT NULL ORDER BY ALL"
    )
    return [number for (number,) in found]


def _update(
    store: Store, account_id: str, session_id: str, setting: str, *values: Any
) -> SessionRecord:
    with store.transaction():
        changed = store.execute(
            f"UPDATE sessions SET {setting} WHERE account_id = ? AND session_id = ?"
            f" RETURNING {_COLUMNS}",
            *values, account_id, session_id,
        )  # fmt: skip
    return _to_record(changed[0]) if changed else get_session(store, account_id, session_id)


def _to_record(row: tuple[Any, ...]) -> SessionRecord:
    return to_struct(SessionRecord, row, _JSON_COLUMNS)
