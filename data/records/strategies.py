"""Strategies that accounts keep under a name."""

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
    """A strategy as the store knows it; times in milliseconds since the epoch."""

    strategy_id: str
    account_id: str
    name: str
    description: str
    universe: list[str]
    """The symbols that it is meant for."""
    timeframe: str
    content: dict[str, Any]
    """A card, a template with parameters, or a program, as ``compile_strategy`` takes it."""
    status: StrategyStatus
    version: int
    """Counts its changes, from 1."""
    created_at: int
    updated_at: int


class StoredProgram(msgspec.Struct, frozen=True):
    """A program as the store knows it: it never changes."""

    strategy_id: str
    source: str
    error: str | None
    """Why it does not compile; None: it does."""


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
    """Store a new strategy, a draft of version 1; who calls has checked its content."""
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
    """The account's strategy; raises ``StrategyNotFound``, also if it is another account's."""
    found = store.rows(
        f"SELECT {_COLUMNS} FROM strategies WHERE account_id = ? AND strategy_id = ?",
        account_id, strategy_id,
    )  # fmt: skip
    if not found:
        raise _not_found(strategy_id)
    return _to_strategy(found[0])


def list_strategies(
    store: Store, account_id: str, *, skip: int = 0, limit: int = 100
) -> list[StoredStrategy]:
    """A page of the account's strategies, the oldest first."""
    found = store.rows(
        f"SELECT {_COLUMNS} FROM strategies WHERE account_id = ?"
        " ORDER BY created_at, strategy_id LIMIT ? OFFSET ?",
        account_id, limit, skip,
    )  # fmt: skip
    return [_to_strategy(row) for row in found]


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
    """Change what is given, which makes the next version. Raises ``StrategyNotFound``."""
    given = {
        "name": name,
        "description": description,
        "universe": None if universe is None else to_json(list(universe)),
        "timeframe": timeframe,
        "content": None if content is None else to_json(dict(content)),
    }
    changes = {column: value for column, value in given.items() if value is not None}
    setting = "".join(f"{column} = ?, " for column in changes)
    with store.transaction():
        changed = store.execute(
            f"UPDATE strategies SET {setting}version = version + 1,"
            " updated_at = epoch_ms(?::BIGINT) WHERE account_id = ? AND strategy_id = ?"
            f" RETURNING {_COLUMNS}",
            *changes.values(), now(), account_id, strategy_id,
        )  # fmt: skip
    if not changed:
        raise _not_found(strategy_id)
    return _to_strategy(changed[0])


def delete_strategy(store: Store, account_id: str, strategy_id: str) -> None:
    """Delete the account's strategy; jobs keep what they were given. Raises
    ``StrategyNotFound``."""
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
    """Store a program under the id that its account and its source give it; again: what it
    compiles to now."""
    with store.transaction():
        store.execute(
            "INSERT OR REPLACE INTO programs VALUES (?, ?, ?, ?, epoch_ms(?::BIGINT))",
            strategy_id, account_id, source, error, now(),
        )  # fmt: skip


def get_program(store: Store, account_id: str, strategy_id: str) -> StoredProgram:
    """The account's program; raises ``StrategyNotFound``, also if it is another account's."""
    found = store.rows(
        "SELECT strategy_id, source, error FROM programs WHERE account_id = ? AND strategy_id = ?",
        account_id, strategy_id,
    )  # fmt: skip
    if not found:
        raise StrategyNotFound(
            f"there is no strategy {abbreviate(strategy_id)!r}; POST /api/v1/strategy its source",
            strategy_id=abbreviate(strategy_id),
        )
    return StoredProgram(*found[0])


def _not_found(strategy_id: str) -> StrategyNotFound:
    return StrategyNotFound(
        f"there is no strategy {abbreviate(strategy_id)!r}", strategy_id=abbreviate(strategy_id)
    )


def _to_strategy(row: tuple[Any, ...]) -> StoredStrategy:
    return to_struct(StoredStrategy, row, _JSON_COLUMNS)
