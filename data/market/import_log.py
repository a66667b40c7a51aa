"""The imports of candles, as they are listed for people."""

from typing import NamedTuple

from candlestep.data.imports.kinds import Kind
from candlestep.data.records.line_names import KIND_OF_LINE, SYMBOL_OF_LINE
from candlestep.data.store.database import Store


class ImportEntry(NamedTuple):
    """An import of one series. Times and the interval are in milliseconds; rates have none (0)."""

    number: int
    imported_at: int
    exchange: str
    symbol: str
    kind: Kind
    interval: int
    source: str
    rows_new: int
    rows_replaced: int
    rows_unchanged: int


def list_imports(store: Store, *, limit: int, offset: int) -> list[ImportEntry]:
    """Return a page of the imports, the latest first."""
    rows = store.rows(
        f"SELECT import_number, epoch_ms(imported_at), exchange, {SYMBOL_OF_LINE},"
        f" {KIND_OF_LINE}, interval_seconds * 1000,"
        " source, rows_new, rows_replaced, rows_unchanged"
        " FROM imports JOIN instruments USING (instrument_id)"
        " ORDER BY import_number DESC LIMIT ? OFFSET ?",
        limit, offset,
    )  # fmt: skip
    return [ImportEntry(*row) for row in rows]


def count_imports(store: Store) -> int:
    """Return the number of imports."""
    count: int = store.rows("SELECT count(*) FROM imports")[0][0]
    return count
