"""The keys of dialects: which session each one speaks for, and how."""

from collections.abc import Mapping
from typing import Any

import msgspec

from candlestep.data.clock import now
from candlestep.data.store.database import Store
from candlestep.data.store.rows import to_json, to_struct

_COLUMNS = "session_id, account_id, dialect, key_hash, settings, epoch_ms(created_at)"


class DialectKey(msgspec.Struct, frozen=True):
    """A key of a session for one dialect. Of the key itself only a hash is known."""

    session_id: str
    account_id: str
    dialect: str
    key_hash: str
    settings: dict[str, Any]
    """The clock and the other choices that were made with the key."""
    created_at: int


def add_dialect_key(
    store: Store,
    account_id: str,
    session_id: str,
    dialect: str,
    key_hash: str,
    settings: Mapping[str, Any],
) -> DialectKey:
    """Store a key of the account's session."""
    with store.transaction():
        rows = store.execute(
            "INSERT INTO dialect_keys VALUES (?, ?, ?, ?, ?, epoch_ms(?::BIGINT))"
            f" RETURNING {_COLUMNS}",
            session_id, account_id, dialect, key_hash, to_json(settings), now(),
        )  # fmt: skip
    return to_struct(DialectKey, rows[0], ("settings",))


def dialect_keys(store: Store, session_id: str) -> list[DialectKey]:
    """Return the keys of a session, of whichever account, oldest first."""
    rows = store.rows(
        f"SELECT {_COLUMNS} FROM dialect_keys WHERE session_id = ? ORDER BY created_at, key_hash",
        session_id,
    )
    return [to_struct(DialectKey, row, ("settings",)) for row in rows]
