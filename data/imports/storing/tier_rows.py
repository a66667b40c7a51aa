"""Margin tiers in the store: a row for each day from which others are in force."""

import numpy as np

from candlestep.data.imports.storing.row_tables import TIERS, Series
from candlestep.data.records.margin_tiers import parse_stored
from candlestep.data.store.database import Store
from candlestep.data.store.rows import to_json
from candlestep.sandbox import MarginTiers


def write_tiers(
    store: Store, series: Series, start: int, tiers: MarginTiers, number: int
) -> tuple[int, int, int]:
    """Write the tiers that are in force from ``start`` (ms) on, under an import number.

    Returns whether they are new, superseded others of that day, or were there already, as numbers of
    rows. Only inside ``transaction("candles")``.
    """
    known = store.rows(
        f"SELECT tiers FROM tiers WHERE {TIERS.of_series} AND superseded_by IS NULL"
        " AND in_force_from = epoch_ms(?::BIGINT)",
        *series, start,
    )  # fmt: skip
    if known and parse_stored(known[0][0]) == tiers:
        return 0, 0, 1
    TIERS.supersede(store, series, np.array([start], dtype=np.int64), number)
    store.execute(
        "INSERT INTO tiers VALUES (?, epoch_ms(?::BIGINT), ?, ?, NULL)",
        series[0], start, to_json(tiers.settings()), number,
    )  # fmt: skip
    return (0, 1, 0) if known else (1, 0, 0)
