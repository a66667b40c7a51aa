"""Stored sessions: their configuration, their progress and their results in brief."""

import uuid
from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from typing import Any, Literal, NamedTuple, get_args

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
"""The fields by which a list of sessions can be sorted."""

_COLUMNS = (
    "session_id, account_id, agent_id, exchange, strategy_label, status, pairs,"
    " epoch_ms(start_time), epoch_ms(end_time), interval_seconds * 1000, starting_balance,"
    " config, risk_profile, import_number, total_steps, current_step, final_equity, total_pnl,"
    " roi_pct, total_trades, total_fees, sharpe_ratio, max_drawdown_pct, epoch_ms(created_at),"
    " epoch_ms(started_at), epoch_ms(completed_at), error, coalesce(command_count, 0), look_back, blind,"
    " coalesce(sealed, false)"
)
_JSON_COLUMNS = ("pairs", "config", "risk_profile", "blind")


class JournalPosition(NamedTuple):
    """The position of a session: its step, and the number of commands in its journal."""

    step: int
    commands: int


class SessionRecord(msgspec.Struct, frozen=True):
    """A stored session. Times and the interval are in milliseconds.

    Fields that are only known at its end are None until then.
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
    """The market is as of this import; pinned when the session starts."""
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
    command_count: int
    """The commands that its journal is known to have, at least."""
    look_back: int | None
    """The history before its start that it can read, at least; pinned when it starts. None: the
    usual one."""
    blind: dict[str, Any] | None = None
    """The real market of a blind session, whose names and times here are those that it shows."""
    is_sealed: bool = False
    """True if nothing of it can be taken out or tried again before its end."""

    @property
    def position(self) -> JournalPosition:
        """The position that the journal has reached, at least."""
        return JournalPosition(self.current_step, self.command_count)

    @property
    def allows_gaps(self) -> bool:
        """True if the session may start before its candles or end after them, as all once could."""
        return bool(self.config.get("allow_gaps", True))


SessionPage = tuple[list[SessionRecord], int]
"""Some of the sessions that were asked for, and the count of all."""


class NewSession(msgspec.Struct, frozen=True, kw_only=True):
    """A session to create. Times and the interval are in milliseconds."""

    agent_id: str
    exchange: str
    strategy_label: str
    pairs: Sequence[str]
    start_time: int
    end_time: int
    interval: int
    starting_balance: Decimal
    total_steps: int
    config: Mapping[str, Any]
    """The arguments of ``SessionConfig`` that are not fields here."""
    risk_profile: Mapping[str, Any]
    blind: Mapping[str, Any] | None = None
    is_sealed: bool = False


def new_session_id(server_name: str = "") -> str:
    """Return a new, unique id, which carries the name of a server: ``bt_…`` or ``bt_a_…``."""
    return f"bt_{server_name}_{uuid.uuid4()}" if server_name else f"bt_{uuid.uuid4()}"


def create_session(
    store: Store,
    account_id: str,
    session: NewSession,
    key: tuple[str, str] | None = None,
    server_name: str = "",
) -> SessionRecord:
    """Store a new session with status ``created``.

    ``key`` is the idempotency key of the request and a digest of its body; see
    ``session_of_key``. The id carries ``server_name``.
    """
    session_id = new_session_id(server_name)
    with store.transaction():
        rows = store.execute(
            "INSERT INTO sessions (session_id, account_id, agent_id, exchange, strategy_label,"
            " status, pairs, start_time, end_time, interval_seconds, starting_balance, config,"
            " risk_profile, total_steps, current_step, created_at, create_key, create_body,"
            " blind, sealed)"
            " VALUES (?, ?, ?, ?, ?, 'created', ?, epoch_ms(?::BIGINT), epoch_ms(?::BIGINT), ?,"
            " ?::DECIMAL(38, 8), ?, ?, ?, 0, epoch_ms(?::BIGINT), ?, ?, ?, ?)"
            f" RETURNING {_COLUMNS}",
            session_id, account_id, session.agent_id, session.exchange, session.strategy_label,
            to_json(list(session.pairs)), session.start_time, session.end_time,
            session.interval // 1000, f"{session.starting_balance:f}", to_json(session.config),
            to_json(session.risk_profile), session.total_steps, now(), *(key or (None, None)),
            None if session.blind is None else to_json(session.blind), session.is_sealed,
        )  # fmt: skip
    return _to_record(rows[0])


def get_session(store: Store, account_id: str, session_id: str) -> SessionRecord:
    """Return the account's session.

    Raises ``SessionNotFound``, also if the session belongs to another account.
    """
    rows = store.rows(
        f"SELECT {_COLUMNS} FROM sessions WHERE account_id = ? AND session_id = ?",
        account_id, session_id,
    )  # fmt: skip
    if not rows:
        raise SessionNotFound(
            f"there is no session {session_id!r}; GET /api/v1/backtest/list lists yours",
            session_id=session_id,
        )
    return _to_record(rows[0])


def session_of_key(store: Store, account_id: str, key: str) -> tuple[SessionRecord, str] | None:
    """Return the account's session that was created with a key, and the digest of its body."""
    rows = store.rows(
        "SELECT session_id, create_body FROM sessions WHERE account_id = ? AND create_key = ?",
        account_id, key,
    )  # fmt: skip
    return (get_session(store, account_id, rows[0][0]), rows[0][1]) if rows else None


def fork_session(
    store: Store,
    origin: SessionRecord,
    session_ids: Sequence[str],
    *,
    strategy_label: str,
    position: JournalPosition,
    time: int,
) -> list[SessionRecord]:
    """Store running sessions that share the past of ``origin`` up to a position.

    ``time``, in milliseconds, is when they were forked.
    """
    with store.transaction():
        store.execute(
            "INSERT INTO sessions (session_id, account_id, agent_id, exchange, strategy_label,"
            " status, pairs, start_time, end_time, interval_seconds, starting_balance, config,"
            " risk_profile, import_number, look_back, total_steps, current_step, command_count,"
            " created_at, started_at, forked_from, blind) SELECT fork.session_id, account_id, agent_id, exchange, ?, 'running',"
            " pairs, start_time, end_time, interval_seconds, starting_balance, config,"
            " risk_profile, import_number, look_back, total_steps, ?, ?, epoch_ms(?::BIGINT),"
            " epoch_ms(?::BIGINT), origin.session_id, blind"
            " FROM sessions origin, unnest(?::VARCHAR[]) fork(session_id)"
            " WHERE origin.session_id = ?",
            strategy_label, *position, time, time, list(session_ids), origin.session_id,
        )  # fmt: skip
        return [get_session(store, origin.account_id, session_id) for session_id in session_ids]


def missing_sessions(store: Store, session_ids: Sequence[str]) -> list[str]:
    """Return the ids that do not belong to any session, in their order."""
    rows = store.rows(
        "SELECT session_id FROM sessions WHERE list_contains(?, session_id)", list(session_ids)
    )
    known = {session_id for (session_id,) in rows}
    return [session_id for session_id in session_ids if session_id not in known]


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
) -> SessionPage:
    """Return a page of the account's sessions that pass all filters, and the count of all pages.

    ``strategy_label`` matches as a prefix. Sessions without a value of ``sort_by`` come last.
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
    applied = {sql: value for sql, value in filters.items() if value is not None}
    where = f"FROM sessions WHERE {' AND '.join(applied)}"
    total: int = store.rows(f"SELECT count(*) {where}", *applied.values())[0][0]
    page = store.rows(
        f"SELECT {_COLUMNS} {where} ORDER BY {sort_by} {order} NULLS LAST,"
        f" created_at {order}, session_id LIMIT ? OFFSET ?",
        *applied.values(), limit, offset,
    )  # fmt: skip
    return [_to_record(row) for row in page], total


def latest_sessions(store: Store, *, status: str | None = None, limit: int) -> SessionPage:
    """Return the latest sessions of all accounts, newest first, and the count of all."""
    where = "WHERE coalesce(status = ?, true)"
    total: int = store.rows(f"SELECT count(*) FROM sessions {where}", status)[0][0]
    rows = store.rows(
        f"SELECT {_COLUMNS} FROM sessions {where} ORDER BY created_at DESC, session_id LIMIT ?",
        status, limit,
    )  # fmt: skip
    return [_to_record(row) for row in rows], total


def find_session(store: Store, session_id: str) -> SessionRecord | None:
    """Return the session of this id, whichever account it belongs to; None if there is none."""
    rows = store.rows(f"SELECT {_COLUMNS} FROM sessions WHERE session_id = ?", session_id)
    return _to_record(rows[0]) if rows else None


def running_sessions(store: Store) -> list[SessionRecord]:
    """Return the running sessions of all accounts, oldest first."""
    rows = store.rows(
        f"SELECT {_COLUMNS} FROM sessions WHERE status = 'running' ORDER BY created_at, session_id"
    )
    return [_to_record(row) for row in rows]


def ended_sessions(store: Store, time: int) -> list[str]:
    """Return the ids of the sessions of all accounts that ended before ``time`` (ms)."""
    rows = store.rows(
        "SELECT session_id FROM sessions WHERE status IN ('completed', 'cancelled', 'failed')"
        " AND completed_at < epoch_ms(?::BIGINT) ORDER BY completed_at, session_id",
        time,
    )
    return [session_id for (session_id,) in rows]


def started_sessions(store: Store) -> list[str]:
    """Return the ids of the sessions that have, or had, a journal, oldest first."""
    rows = store.rows(
        "SELECT session_id FROM sessions WHERE started_at IS NOT NULL"
        " ORDER BY created_at, session_id"
    )
    return [session_id for (session_id,) in rows]


def origins(store: Store) -> dict[str, str]:
    """Return the session that each fork was forked from, whose past it shares."""
    rows = store.rows(
        "SELECT session_id, forked_from FROM sessions WHERE forked_from IS NOT NULL"
        " ORDER BY session_id"
    )
    return dict(rows)


def save_start(
    store: Store, account_id: str, session_id: str, import_number: int, look_back: int
) -> SessionRecord:
    """Set a session running on the market as of ``import_number``, and return it.

    It can read ``look_back`` milliseconds before its start, at least.

    A repeated call keeps the first start time. Raises ``SessionNotFound``.
    """
    return _update(
        store, account_id, session_id,
        "status = 'running', import_number = ?, look_back = ?,"
        " started_at = coalesce(started_at, epoch_ms(?::BIGINT))",
        import_number, look_back, now(),
    )  # fmt: skip


def save_progress(store: Store, positions: Mapping[str, JournalPosition]) -> None:
    """Save how far sessions have come, by id; sessions that are not running stay as they are."""
    if not positions:
        return
    ids = text_column(list(positions))
    steps, commands = np.array(list(positions.values()), dtype=np.int64).T
    with store.transaction():
        store.insert(
            "UPDATE sessions SET current_step = incoming.step,"
            " command_count = greatest(incoming.commands, command_count) FROM incoming"
            " WHERE sessions.session_id = incoming.session_id AND status = 'running'",
            {"session_id": ids, "step": steps.copy(), "commands": commands.copy()},
        )


def save_failure(
    store: Store, account_id: str, session_id: str, error: str, position: JournalPosition
) -> SessionRecord:
    """Set a session failed at a position, with the reason, and return it.

    Raises ``SessionNotFound``.
    """
    return _update(
        store, account_id, session_id,
        "status = 'failed', error = ?, completed_at = epoch_ms(?::BIGINT), current_step = ?,"
        " command_count = ?", error, now(), *position,
    )  # fmt: skip


def pinned_imports(store: Store, journaled: Collection[str]) -> list[int]:
    """Return the import numbers that ``prune`` must keep, because sessions need their candles.

    These are those of running sessions, and of ended ones whose ids are in ``journaled``: without
    a journal, no session can be rebuilt. Linear in the sessions.
    """
    rows = store.rows(
        "SELECT session_id, import_number, status = 'running' FROM sessions"
        " WHERE import_number IS NOT NULL"
    )
    return sorted({number for name, number, runs in rows if runs or name in journaled})


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
