"""Programs that accounts have had compiled, each known by an id that its source gives it."""

import msgspec

from candlestep.data.errors import StrategyNotFound
from candlestep.data.store.database import Store, now
from candlestep.sandbox.errors import abbreviate


class StoredProgram(msgspec.Struct, frozen=True):
    """A program as the store knows it: it never changes."""

    strategy_id: str
    source: str
    error: str | None
    """Why it does not compile; None: it does."""


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
