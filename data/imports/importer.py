"""Imports: numbered changes of the candles of one series each, all or nothing.

A candle row has the number of the import that added it and of the one that superseded it. The
market as of import *n* is the rows with ``import_number <= n`` that no import up to *n* has
superseded, so no later import changes it.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from candlestep.data.clock import now
from candlestep.data.errors import MixedMarket
from candlestep.data.imports.formats import Report, read_file
from candlestep.data.imports.reading import NO_OPTIONS, ImportOptions, Integers
from candlestep.data.imports.series import ReadSeries, Taken, series_of
from candlestep.data.imports.sources import sources_of
from candlestep.data.imports.times import end_of_tomorrow
from candlestep.data.imports.validation import CandleColumns
from candlestep.data.store.database import Store
from candlestep.data.symbols import DEFAULT_EXCHANGE, Instrument, normalise_exchange

_SERIES = "instrument_id = ? AND interval_seconds = ?"


@dataclass(frozen=True)
class ImportSummary:
    """The result of an import. Times are in milliseconds since the epoch."""

    exchange: str
    symbol: str
    interval: int
    """Milliseconds."""
    rows: int
    """The number of candles in the file: the sum of the next three."""
    new: int
    """Candles whose open time is new."""
    replaced: int
    """Candles that superseded another one of the same open time."""
    unchanged: int
    """Candles that were in the store already."""
    start: int
    """The open time of the file's first candle."""
    end: int
    """The completion of the file's last candle."""
    gaps: tuple[tuple[int, int], ...]
    """The gaps of the whole series after this import, each from a completion to an open time."""
    import_number: int | None
    """None if nothing changed."""
    taken: Taken | None = None
    """The columns, units and instrument that were told from the file."""


def read_series(
    path: Path,
    options: ImportOptions = NO_OPTIONS,
    progress: Report | None = None,
    time: int | None = None,
) -> list[ReadSeries]:
    """Read the series of a file, or of the files in an archive, without importing them.

    ``time`` is the present, in milliseconds. Raises ``UnreadableFile``, ``BadRows`` or
    ``InvalidSymbol``.
    """
    present = now() if time is None else time
    series = []
    for source in sources_of(path):
        file = read_file(source, options, end_of_tomorrow(present), progress)
        series += series_of(file, options, present)
    return series


def import_file(
    store: Store,
    path: str | Path,
    options: ImportOptions = NO_OPTIONS,
    *,
    exchange: str = DEFAULT_EXCHANGE,
    progress: Report | None = None,
) -> list[ImportSummary]:
    """Import every series of a file; ``options`` say what it does not tell.

    Raises ``UnreadableFile``, ``BadRows``, ``InvalidSymbol``, ``MixedMarket`` or
    ``StorageUnavailable`` with nothing changed.
    """
    path = Path(path).expanduser()
    exchange = normalise_exchange(exchange)
    series = read_series(path, options, progress)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    with store.transaction():
        return [
            import_candles(
                store,
                one_series.candles,
                one_series.instrument,
                one_series.interval,
                exchange=exchange,
                source=path.name,
                sha256=digest,
                taken=one_series.taken,
            )
            for one_series in series
        ]


def import_candles(
    store: Store,
    candles: CandleColumns,
    instrument: Instrument,
    interval: int,
    *,
    exchange: str = DEFAULT_EXCHANGE,
    source: str,
    sha256: str | None = None,
    synthetic: bool = False,
    taken: Taken | None = None,
) -> ImportSummary:
    """Import checked candles of ``interval`` milliseconds in one transaction.

    Raises ``MixedMarket`` if synthetic candles would be mixed with real ones, and
    ``StorageUnavailable``, with nothing changed.
    """
    with store.transaction():
        instrument_id = _instrument_id(store, exchange, instrument)
        _refuse_mixture(store, instrument_id, instrument.symbol, synthetic)
        series = (instrument_id, interval // 1000)
        same, other = _compare(store, series, candles)
        new = int(len(candles) - same.sum() - other.sum())
        changed = ~same
        number = None
        if changed.any():
            number = latest_import(store) + 1
            _supersede(store, series, candles.open_time[other], number)
            _insert(store, series, candles.where(changed), number)
        open_times = _open_times(store, series)
        gaps = find_gaps(open_times, interval)
        if number is not None:
            _record_gaps(store, series, gaps, number)
            store.execute(
                "INSERT INTO imports VALUES (?, epoch_ms(?::BIGINT), ?, ?, ?, ?, ?, ?, ?, ?, ?,"
                " epoch_ms(?::BIGINT), epoch_ms(?::BIGINT), false)",
                number, now(), *series, source, sha256, synthetic,
                new, int(other.sum()), int(same.sum()),
                len(open_times), int(open_times[0]), int(open_times[-1]) + interval,
            )  # fmt: skip
    return ImportSummary(
        exchange=exchange,
        symbol=instrument.symbol,
        interval=interval,
        rows=len(candles),
        new=new,
        replaced=int(other.sum()),
        unchanged=int(same.sum()),
        start=int(candles.open_time[0]),
        end=int(candles.open_time[-1]) + interval,
        gaps=tuple(gaps),
        import_number=number,
        taken=taken,
    )


def latest_import(store: Store) -> int:
    """Return the number of the latest import; 0 if there is none.

    The market as of this number stays as it is now.
    """
    number: int = store.rows("SELECT coalesce(max(import_number), 0) FROM imports")[0][0]
    return number


def find_gaps(open_times: Integers, interval: int) -> list[tuple[int, int]]:
    """Return the gaps between sorted open times, each from a completion to an open time."""
    before = np.flatnonzero(np.diff(open_times) > interval)
    starts = (open_times[before] + interval).tolist()
    return list(zip(starts, open_times[before + 1].tolist(), strict=True))


def withdraw(store: Store, instrument_id: int, source: str) -> None:
    """Withdraw the synthetic candles of an instrument; the market as of earlier imports keeps them."""
    with store.transaction():
        current = store.rows(
            "SELECT DISTINCT interval_seconds FROM candles"
            " WHERE instrument_id = ? AND superseded_by IS NULL",
            instrument_id,
        )
        for (seconds,) in sorted(current):
            number = latest_import(store) + 1
            open_times = _open_times(store, (instrument_id, seconds))
            _supersede(store, (instrument_id, seconds), open_times, number)
            store.execute(
                "INSERT INTO imports VALUES"
                " (?, epoch_ms(?::BIGINT), ?, ?, ?, NULL, true, 0, ?, 0, 0, NULL, NULL, false)",
                number, now(), instrument_id, seconds, source, len(open_times),
            )  # fmt: skip


def prune(store: Store, pinned: Iterable[int]) -> int:
    """Drop superseded candles that neither the latest market nor those as of ``pinned`` need.

    Returns the number of dropped candles. The market as of other imports then raises
    ``MarketPruned``.
    """
    pins = np.array(sorted({*pinned}), dtype=np.int64)
    with store.transaction():
        store.execute("CREATE OR REPLACE TEMP TABLE pins (import_number BIGINT)")
        store.insert("INSERT INTO pins SELECT number FROM incoming", {"number": pins})
        # A row belongs to the markets as of import_number up to, not including, superseded_by.
        store.execute(
            "CREATE OR REPLACE TEMP TABLE spans AS WITH superseded AS"
            " (SELECT instrument_id, interval_seconds, import_number, superseded_by,"
            "  count(*) AS rows FROM candles WHERE superseded_by IS NOT NULL GROUP BY ALL)"
            " SELECT * FROM superseded s WHERE NOT EXISTS (SELECT 1 FROM pins p"
            "  WHERE p.import_number >= s.import_number AND p.import_number < s.superseded_by)"
        )
        dropped: int = store.rows("SELECT coalesce(sum(rows), 0)::BIGINT FROM spans")[0][0]
        same_series = (
            "s.instrument_id = {0}.instrument_id AND s.interval_seconds = {0}.interval_seconds"
        )
        store.execute(
            "DELETE FROM candles c USING spans s WHERE " + same_series.format("c")
            + " AND s.import_number = c.import_number AND s.superseded_by = c.superseded_by"
        )  # fmt: skip
        store.execute(
            "UPDATE imports i SET pruned = true FROM spans s WHERE " + same_series.format("i")
            + " AND i.import_number >= s.import_number AND i.import_number < s.superseded_by"
        )  # fmt: skip
        store.execute(
            "DELETE FROM gaps USING imports i"
            " WHERE gaps.import_number = i.import_number AND i.pruned"
        )
        store.execute("DROP TABLE spans")
        store.execute("DROP TABLE pins")
    return dropped


def _instrument_id(store: Store, exchange: str, instrument: Instrument) -> int:
    rows = store.rows(
        "SELECT instrument_id FROM instruments WHERE exchange = ? AND symbol = ?",
        exchange, instrument.symbol,
    )  # fmt: skip
    if rows:
        instrument_id: int = rows[0][0]
        return instrument_id
    store.execute(
        "INSERT INTO instruments"
        " SELECT coalesce(max(instrument_id), 0) + 1, ?, ?, ?, ? FROM instruments",
        exchange, *instrument,
    )  # fmt: skip
    return _instrument_id(store, exchange, instrument)


def _refuse_mixture(store: Store, instrument_id: int, symbol: str, synthetic: bool) -> None:
    """Raise ``MixedMarket`` unless the instrument's candles stay all synthetic or all real."""
    latest = store.rows(
        "SELECT DISTINCT first_value(synthetic) OVER newest FROM imports WHERE instrument_id = ?"
        " WINDOW newest AS (PARTITION BY interval_seconds ORDER BY import_number DESC)"
        " QUALIFY first_value(series_rows) OVER newest > 0",
        instrument_id,
    )
    if (not synthetic,) not in latest:
        return
    if synthetic:
        raise MixedMarket(
            f"{symbol} has real candles, with which the synthetic sample market must not be mixed;"
            " use another home for it",
            symbol=symbol,
        )
    raise MixedMarket(
        f"{symbol} has the synthetic candles of the sample market; remove these first with"
        " `candlestep data drop-sample`, or use another home",
        symbol=symbol,
    )


def _compare(
    store: Store, series: tuple[int, int], candles: CandleColumns
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which candles are current already, and which supersede a current one."""
    current = store.arrays(
        "SELECT epoch_ms(open_time) AS open_time, open, high, low, close, volume FROM candles"
        f" WHERE {_SERIES} AND superseded_by IS NULL"
        " AND open_time BETWEEN epoch_ms(?::BIGINT) AND epoch_ms(?::BIGINT)",
        *series, int(candles.open_time[0]), int(candles.open_time[-1]),
    )  # fmt: skip
    rows = np.searchsorted(candles.open_time, current["open_time"])
    theirs = candles.open_time[rows] == current["open_time"]
    known = rows[theirs]
    same = np.ones(len(known), dtype=bool)
    for name in ("open", "high", "low", "close", "volume"):
        same &= current[name][theirs] == getattr(candles, name)[known]
    is_same = np.zeros(len(candles), dtype=bool)
    is_same[known[same]] = True
    is_other = np.zeros(len(candles), dtype=bool)
    is_other[known[~same]] = True
    return is_same, is_other


def _supersede(store: Store, series: tuple[int, int], open_times: Integers, number: int) -> None:
    if not len(open_times):
        return
    store.insert(
        f"UPDATE candles SET superseded_by = {number} FROM incoming"
        f" WHERE instrument_id = {series[0]} AND interval_seconds = {series[1]}"
        " AND superseded_by IS NULL AND open_time = epoch_ms(incoming.time)",
        {"time": open_times},
    )


def _insert(store: Store, series: tuple[int, int], candles: CandleColumns, number: int) -> None:
    store.insert(
        f"INSERT INTO candles SELECT {series[0]}, {series[1]}, epoch_ms(open_time),"
        f" open, high, low, close, volume, {number}, NULL FROM incoming",
        {
            "open_time": candles.open_time,
            "open": candles.open,
            "high": candles.high,
            "low": candles.low,
            "close": candles.close,
            "volume": candles.volume,
        },
    )


def _open_times(store: Store, series: tuple[int, int]) -> Integers:
    """Return the open times of the current candles of a series, sorted."""
    columns = store.arrays(
        f"SELECT epoch_ms(open_time) AS open_time FROM candles WHERE {_SERIES}"
        " AND superseded_by IS NULL",
        *series,
    )
    return np.sort(columns["open_time"])


def _record_gaps(
    store: Store, series: tuple[int, int], gaps: list[tuple[int, int]], number: int
) -> None:
    if not gaps:
        return
    columns = np.array(gaps, dtype=np.int64)
    store.insert(
        f"INSERT INTO gaps SELECT {series[0]}, {series[1]}, {number},"
        " epoch_ms(gap_start), epoch_ms(gap_end) FROM incoming",
        {"gap_start": columns[:, 0].copy(), "gap_end": columns[:, 1].copy()},
    )
