"""Removal of rows, which sessions that have started keep, and pruning of those that none needs."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from candlestep.data.imports.kinds import KIND_WORDS, Kind
from candlestep.data.imports.perpetual.intervals import find_holes
from candlestep.data.imports.storing.changes import (
    Change,
    latest_import,
    record,
    record_candles,
)
from candlestep.data.imports.storing.row_tables import CANDLES, FUNDING, TABLES, TIERS, Series
from candlestep.data.store.database import Store
from candlestep.data.symbols import (
    DEFAULT_EXCHANGE,
    name_of_line,
    normalise_exchange,
    normalise_symbol,
)
from candlestep.sandbox import InvalidParameter, NoPrice, SymbolNotFound
from candlestep.sandbox.clock import EARLIEST, LATEST


@dataclass(frozen=True)
class Removal:
    """The rows of one series that were removed. Times are in milliseconds since the epoch."""

    exchange: str
    symbol: str
    interval: int
    """Milliseconds; 0 for funding rates and margin tiers."""
    rows: int
    """The number of removed rows."""
    start: int
    """The first time of a removed row: the open time of a candle."""
    end: int
    """The completion of the last removed candle; the time of another row."""
    rows_left: int
    """The number of rows that the series still has."""
    import_number: int
    kind: Kind = "candles"


def remove_candles(
    store: Store,
    symbol: str,
    *,
    exchange: str = DEFAULT_EXCHANGE,
    interval: int | None = None,
    start: int = EARLIEST,
    end: int = LATEST,
    source: str = "removed",
    kind: Kind = "candles",
) -> list[Removal]:
    """Remove the candles of a symbol that open from ``start`` until just before ``end``.

    With another ``kind``, remove its mark prices, funding rates or margin tiers instead. Each series
    is changed under a number of its own, or only that of ``interval`` milliseconds; the market as of
    earlier imports keeps the rows. Raises ``SymbolNotFound``, ``NoPrice`` if there are no such rows,
    and ``StorageUnavailable``, with nothing changed.
    """
    symbol, exchange = normalise_symbol(symbol), normalise_exchange(exchange)
    if start >= end:
        raise InvalidParameter("end", "must be after the start")
    removals = []
    with store.transaction("candles"):
        current = _current_series(store, exchange, name_of_line(symbol, kind))
        if not current:
            raise SymbolNotFound(
                f"there are no {KIND_WORDS[kind]} of {symbol} on {exchange}; `candlestep data list`"
                " lists all",
                symbol=symbol,
            )
        for series in current:
            if interval is None or series[1] * 1000 == interval:
                listing = (exchange, symbol, kind)
                removals += _remove(store, listing, series, (start, end), source)
        if not removals:
            raise NoPrice(
                f"there are no such {KIND_WORDS[kind]} of {symbol} on {exchange}; `candlestep data"
                " list` lists intervals and times",
                symbol=symbol,
            )
    return removals


def _remove(
    store: Store,
    listing: tuple[str, str, Kind],
    series: Series,
    period: tuple[int, int],
    source: str,
) -> list[Removal]:
    """Remove the rows of a series whose times are in a period; return none if it has none."""
    exchange, symbol, kind = listing
    table = TABLES[kind]
    times = table.times(store, series)
    first, stop = times.searchsorted(period).tolist()
    removed = times[first:stop]
    if not len(removed):
        return []
    left = np.delete(times, slice(first, stop))
    [[synthetic]] = store.rows(
        "SELECT synthetic FROM imports WHERE instrument_id = ? AND interval_seconds = ?"
        " ORDER BY import_number DESC LIMIT 1",
        *series,
    )
    change = Change(latest_import(store) + 1, source, (0, len(removed), 0), synthetic)
    table.supersede(store, series, removed, change.number)
    if table is CANDLES:
        record_candles(store, series, change, left)
    else:
        record_rows(store, series, change, kind)
    length = series[1] * 1000
    return [
        Removal(
            exchange, symbol, length, len(removed), int(removed[0]), int(removed[-1]) + length,
            len(left), change.number, kind,
        )
    ]  # fmt: skip


def record_rows(store: Store, series: Series, change: Change, kind: Kind) -> list[tuple[int, int]]:
    """Record a change of funding rates or margin tiers; return the holes of funding rates."""
    times, holes = TABLES[kind].times(store, series), holes_of(store, series, kind)
    record(store, series, change, times, int(times[-1]) if len(times) else None, holes)
    return holes


def holes_of(store: Store, series: Series, kind: Kind) -> list[tuple[int, int]]:
    """Return the holes between the current funding rates of a series; margin tiers have none."""
    if kind != "funding":
        return []
    columns = store.arrays(
        f"SELECT epoch_ms(settled_at) AS time, interval_ms FROM funding WHERE {FUNDING.of_series}"
        " AND superseded_by IS NULL ORDER BY settled_at",
        *series,
    )
    return find_holes(columns["time"], columns["interval_ms"])


def prune(store: Store, pinned: Iterable[int]) -> int:
    """Drop superseded rows that neither the latest market nor those as of ``pinned`` need.

    Returns the number of dropped rows. The market as of other imports then raises ``MarketPruned``.
    """
    pins = np.array(sorted({*pinned}), dtype=np.int64)
    with store.transaction("candles"):
        store.execute("CREATE OR REPLACE TEMP TABLE pins (import_number BIGINT)")
        store.insert("INSERT INTO pins SELECT number FROM incoming", {"number": pins})
        dropped = sum(
            _prune(store, table.name, table.length) for table in (CANDLES, FUNDING, TIERS)
        )
        store.execute(
            "DELETE FROM gaps USING imports i"
            " WHERE gaps.import_number = i.import_number AND i.pruned"
        )
        store.execute("DROP TABLE pins")
    return dropped


def _prune(store: Store, table: str, length: str) -> int:
    """Drop the rows of a table that no pinned market needs, and mark the imports of the others."""
    # A row belongs to the markets as of import_number up to, not including, superseded_by.
    store.execute(
        "CREATE OR REPLACE TEMP TABLE spans AS WITH superseded AS"
        f" (SELECT instrument_id, {length} AS seconds, import_number, superseded_by,"
        f"  count(*) AS rows FROM {table} WHERE superseded_by IS NOT NULL GROUP BY ALL)"
        " SELECT * FROM superseded s WHERE NOT EXISTS (SELECT 1 FROM pins p"
        "  WHERE p.import_number >= s.import_number AND p.import_number < s.superseded_by)"
    )
    dropped: int = store.rows("SELECT coalesce(sum(rows), 0)::BIGINT FROM spans")[0][0]
    store.execute(
        f"DELETE FROM {table} c USING spans s"
        f" WHERE s.instrument_id = c.instrument_id AND s.seconds = {length}"
        " AND s.import_number = c.import_number AND s.superseded_by = c.superseded_by"
    )
    store.execute(
        "UPDATE imports i SET pruned = true FROM spans s"
        " WHERE s.instrument_id = i.instrument_id AND s.seconds = i.interval_seconds"
        " AND i.import_number >= s.import_number AND i.import_number < s.superseded_by"
    )
    store.execute("DROP TABLE spans")
    return dropped


def _current_series(store: Store, exchange: str, symbol: str) -> list[tuple[int, int]]:
    """Return the series of a symbol that have candles: instrument and interval in seconds."""
    rows = store.rows(
        "SELECT instrument_id, interval_seconds FROM imports JOIN instruments USING (instrument_id)"
        " WHERE exchange = ? AND symbol = ?"
        " QUALIFY row_number() OVER (PARTITION BY interval_seconds ORDER BY import_number DESC) = 1"
        " AND series_rows > 0 ORDER BY interval_seconds",
        exchange, symbol,
    )  # fmt: skip
    return [(instrument_id, seconds) for instrument_id, seconds in rows]
