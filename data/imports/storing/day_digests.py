"""Digests of the candles of each UTC day and series, computed once when the candles change."""

from collections.abc import Sequence

import numpy as np

from candlestep.data.store.database import Store
from candlestep.sandbox.clock import DAY
from candlestep.sandbox.market.candles import PRICES
from candlestep.sandbox.market.fingerprint import day_digests

_SERIES = "instrument_id = ? AND interval_seconds = ?"


def record_day_digests(store: Store, series: tuple[int, int], number: int) -> None:
    """Store the digests of the days that the import ``number`` changed, as of this import.

    ``series`` is an instrument and an interval in seconds. Call it in the import's transaction,
    after the candles have been written. Reads the candles of these days.
    """
    changed = f"{_SERIES} AND (import_number = ? OR superseded_by = ?)"
    [[first, last]] = store.rows(
        f"SELECT epoch_ms(min(open_time)), epoch_ms(max(open_time)) FROM candles WHERE {changed}",
        *series, number, number,
    )  # fmt: skip
    if first is None:
        return
    columns = store.arrays(
        f"SELECT epoch_ms(open_time) AS open_time, {', '.join(PRICES)},"
        " superseded_by IS NULL AS is_current,"
        " import_number = ? OR superseded_by IS NOT NULL AS is_changed"
        f" FROM candles WHERE {_SERIES} AND (superseded_by IS NULL OR superseded_by = ?)"
        " AND open_time >= epoch_ms(?::BIGINT) AND open_time < epoch_ms(?::BIGINT)",
        number, *series, number, first // DAY * DAY, (last // DAY + 1) * DAY,
    )  # fmt: skip
    days = np.unique(columns["open_time"][columns["is_changed"]] // DAY).tolist()
    current = np.flatnonzero(columns["is_current"])
    rows = current[np.argsort(columns["open_time"][current], kind="stable")]
    if not len(rows):
        return
    times = columns["open_time"][rows]
    digests = day_digests(
        [times, times + series[1] * 1000, *(columns[name][rows] for name in PRICES)]
    )
    kept = [day for day in days if day in digests]
    store.insert(
        f"INSERT INTO day_digests SELECT {series[0]}, {series[1]}, day, {number}, unhex(digest)"
        " FROM incoming",
        {
            "day": np.array(kept, dtype=np.int64),
            "digest": np.array([digests[day].hex() for day in kept], dtype=object),
        },
    )


def read_day_digests(
    store: Store, ids: Sequence[int], as_of: int, start: int, end: int
) -> dict[tuple[int, int], dict[int, bytes]]:
    """Return the digests of the days of instruments as of an import, from ``start`` to ``end``.

    They are by instrument and interval in seconds, then by day since 1970. A day is missing if its
    candles were imported by a version that stored no digests. A day without candles may have one.
    """
    rows = store.rows(
        "SELECT instrument_id, interval_seconds, day, arg_max(digest, import_number)"
        " FROM day_digests WHERE instrument_id IN (SELECT unnest(?::INTEGER[]))"
        " AND import_number <= ? AND day >= ? AND day < ? GROUP BY ALL",
        list(ids),
        as_of,
        start // DAY,
        end // DAY,
    )
    digests: dict[tuple[int, int], dict[int, bytes]] = {}
    for instrument_id, seconds, day, digest in rows:
        digests.setdefault((instrument_id, seconds), {})[day] = digest
    return digests
