"""Strategies and compiled programs that accounts have stored."""

import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from candlestep.data.clock import now
from candlestep.data.errors import StrategyNotFound
from candlestep.data.store.database import Store
from candlestep.data.store.rows import to_json, to_struct
from candlestep.sandbox.errors import abbreviate

StrategyStatus = Literal["draft"]

_COLUMNS = (
    "strategy_id, account_id, name, description, universe, timeframe, content, status, version,"
    " epoch_ms(created_at), epoch_ms(updated_at)"
)
_JSON_COLUMNS = ("universe", "content")


class StoredStrategy(msgspec.Struct, frozen=True):
    """A stored strategy. Times are in milliseconds since the epoch."""

    strategy_id: str
    account_id: str
    name: str
    description: str
    universe: list[str]
    """The symbols that the strategy is meant for."""
    timeframe: str
    content: dict[str, Any]
    """A card, a template with parameters, or a program, for ``compile_strategy``."""
    status: StrategyStatus
    version: int
    """The number of changes, counted from 1."""
    created_at: int
    updated_at: int


class StoredProgram(msgspec.Struct, frozen=True):
    """A stored program. It never changes, and its id is derived from its source."""

    strategy_id: str
    source: str
    error: str | None
    """The reason why it does not compile; None if it does."""


def create_strategy(
    store: Store,
    account_id: str,
    *,
    name: str,
    description: str = "",
    universe: Sequence[str] = (),
    timeframe: str = "1d",
    content: Mapping[str, Any],
) -> StoredStrategy:
    """Store a new strategy: a draft of version 1. The caller has checked its content."""
    strategy_id, time = str(uuid.uuid4()), now()
    with store.transaction():
        store.execute(
            "INSERT INTO strategies VALUES (?, ?, ?, ?, ?, ?, ?, 'draft', 1,"
            " epoch_ms(?::BIGINT), epoch_ms(?::BIGINT))",
            strategy_id, account_id, name, description, to_json(list(universe)), timeframe,
            to_json(dict(content)), time, time,
        )  # fmt: skip
        return get_strategy(store, account_id, strategy_id)


def get_strategy(store: Store, account_id: str, strategy_id: str) -> StoredStrategy:
    """Return the account's strategy.

    Raises ``StrategyNotFound``, also if the strategy belongs to another account.
    """
    rows = store.rows(
        f"SELECT {_COLUMNS} FROM strategies WHERE account_id = ? AND strategy_id = ?",
        account_id, strategy_id,
    )  # fmt: skip
    if not rows:
        raise _not_found(strategy_id)
    return _to_strategy(rows[0])


def list_strategies(
    store: Store, account_id: str, *, skip: int = 0, limit: int = 100
) -> list[StoredStrategy]:
    """Return a page of the account's strategies, oldest first."""
    rows = store.rows(
        f"SELECT {_COLUMNS} FROM strategies WHERE account_id = ?"
        " ORDER BY created_at, strategy_id LIMIT ? OFFSET ?",
        account_id, limit, skip,
    )  # fmt: skip
    return [_to_strategy(row) for row in rows]


def update_strategy(
    store: Store,
    account_id: str,
    strategy_id: str,
    *,
    name: str | None = None,
    description: str | None = None,
    universe: Sequence[str] | None = None,
    timeframe: str | None = None,
    content: Mapping[str, Any] | None = None,
) -> StoredStrategy:
    """Change the given fields, which makes the next version. Raises ``StrategyNotFound``."""
    columns = {
        "name": name,
        "description": description,
        "universe": None if universe is None else to_json(list(universe)),
        "timeframe": timeframe,
        "content": None if content is None else to_json(dict(content)),
    }
    changes = {column: value for column, value in columns.items() if value is not None}
    setting = "".join(f"{column} = ?, " for column in changes)
    with store.transaction():
        rows = store.execute(
            f"UPDATE strategies SET {setting}version = version + 1,"
            " updated_at = epoch_ms(?::BIGINT) WHERE account_id = ? AND strategy_id = ?"
            f" RETURNING {_COLUMNS}",
            *changes.values(), now(), account_id, strategy_id,
        )  # fmt: skip
    if not rows:
        raise _not_found(strategy_id)
    return _to_strategy(rows[0])


def delete_strategy(store: Store, account_id: str, strategy_id: str) -> None:
    """Delete the account's strategy; jobs keep their copy. Raises ``StrategyNotFound``."""
    with store.transaction():
        deleted = store.execute(
            "DELETE FROM strategies WHERE account_id = ? AND strategy_id = ? RETURNING 1",
            account_id, strategy_id,
        )  # fmt: skip
    if not deleted:
        raise _not_found(strategy_id)


def save_program(
    store: Store, account_id: str, strategy_id: str, source: str, error: str | None
) -> None:
    """Store a program, or replace the error of the one of this id.

    ``strategy_id`` is derived from the account and the source.
    """
    with store.transaction():
        store.execute(
            "INSERT OR REPLACE INTO programs VALUES (?, ?, ?, ?, epoch_ms(?::BIGINT))",
            strategy_id, account_id, source, error, now(),
        )  # fmt: skip


def get_program(store: Store, account_id: str, strategy_id: str) -> StoredProgram:
    """Return the account's program.

    Raises ``StrategyNotFound``, also if the program belongs to another account.
    """
    rows = store.rows(
        "SELECT strategy_id, source, error FROM programs WHERE account_id = ? AND strategy_id = ?",
        account_id, strategy_id,
    )  # fmt: skip
    if not rows:
        raise StrategyNotFound(
            f"there is no strategy {abbreviate(strategy_id)!r}; POST /api/v1/strategy its source",
            strategy_id=abbreviate(strategy_id),
        )
    return StoredProgram(*rows[0])


def _not_found(strategy_id: str) -> StrategyNotFound:
    return StrategyNotFound(
        f"there is no strategy {abbreviate(strategy_id)!r}", strategy_id=abbreviate(strategy_id)
    )


def _to_strategy(row: tuple[Any, ...]) -> StoredStrategy:
    return to_struct(StoredStrategy, row, _JSON_COLUMNS)
