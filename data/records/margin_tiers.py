"""Margin tiers of perpetuals that were imported, each in force from a day on."""

from collections.abc import Collection

import msgspec

from candlestep.data.records.line_names import SYMBOL_OF_LINE
from candlestep.data.store.database import Store
from candlestep.sandbox import MarginTiers
from candlestep.sandbox.clock import LATEST

_NO_IMPORT = 2**31 - 1


def tiers_in_force(
    store: Store,
    exchange: str,
    symbols: Collection[str] | None = None,
    *,
    time: int = LATEST,
    as_of: int = _NO_IMPORT,
) -> dict[str, MarginTiers]:
    """Return the tiers of each symbol that are in force at ``time`` (ms), as of an import.

    By default they are the last of all symbols. A symbol that has none yet is left out.
    """
    chosen = "" if symbols is None else f" AND list_contains(?::VARCHAR[], {SYMBOL_OF_LINE})"
    rows = store.rows(
        f"SELECT {SYMBOL_OF_LINE}, arg_max(tiers, in_force_from)"
        " FROM tiers JOIN instruments USING (instrument_id)"
        " WHERE import_number <= ? AND (superseded_by IS NULL OR superseded_by > ?)"
        f" AND in_force_from <= epoch_ms(?::BIGINT) AND exchange = ?{chosen}"
        " GROUP BY symbol ORDER BY symbol",
        as_of, as_of, time, exchange, *([] if symbols is None else [list(symbols)]),
    )  # fmt: skip
    return {symbol: parse_stored(text) for symbol, text in rows}


def parse_stored(text: str) -> MarginTiers:
    """Return tiers as they are stored: the JSON of their settings."""
    return MarginTiers.parse(msgspec.json.decode(text))
