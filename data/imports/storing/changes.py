"""Changes of lines: numbered, recorded with what they left, never mixed with synthetic rows."""

from typing import NamedTuple

import numpy as np

from candlestep.data.clock import now
from candlestep.data.errors import MixedMarket
from candlestep.data.imports.reading import Integers
from candlestep.data.imports.storing.day_digests import record_day_digests
from candlestep.data.imports.storing.row_tables import Series
from candlestep.data.records.line_names import SYMBOL_OF_LINE
from candlestep.data.store.database import Store

Span = tuple[int, int]


class Change(NamedTuple):
    """An import or a removal of rows of one series."""

    number: int
    source: str
    counts: tuple[int, int, int]
    """The numbers of new, superseded and unchanged rows."""
    synthetic: bool
    sha256: str | None = None


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


def record_candles(store: Store, series: Series, change: Change, open_times: Integers) -> None:
    """Record a change of a series of candles or mark prices, which now has these open times."""
    length = series[1] * 1000
    end = int(open_times[-1]) + length if len(open_times) else None
    record(store, series, change, open_times, end, find_gaps(open_times, length))
    record_day_digests(store, series, change.number)


def record(
    store: Store,
    series: Series,
    change: Change,
    times: Integers,
    end: int | None,
    gaps: list[Span],
) -> None:
    """Record a change of a series, which now has rows of these times, an end and gaps."""
    _record_gaps(store, series, gaps, change.number)
    store.execute(
        "INSERT INTO imports VALUES (?, epoch_ms(?::BIGINT), ?, ?, ?, ?, ?, ?, ?, ?, ?,"
        " epoch_ms(?::BIGINT), epoch_ms(?::BIGINT), false)",
        change.number, now(), *series, change.source, change.sha256, change.synthetic,
        *change.counts, len(times), int(times[0]) if len(times) else None, end,
    )  # fmt: skip


def refuse_mixture(store: Store, exchange: str, symbol: str, synthetic: bool) -> None:
    """Raise ``MixedMarket`` unless the rows of an instrument stay all synthetic or all real."""
    latest = store.rows(
        "SELECT DISTINCT first_value(synthetic) OVER newest"
        " FROM imports JOIN instruments USING (instrument_id)"
        f" WHERE exchange = ? AND {SYMBOL_OF_LINE} = ? WINDOW newest AS"
        "  (PARTITION BY instrument_id, interval_seconds ORDER BY import_number DESC)"
        " QUALIFY first_value(series_rows) OVER newest > 0",
        exchange, symbol,
    )  # fmt: skip
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


def _record_gaps(store: Store, series: Series, gaps: list[Span], number: int) -> None:
    if not gaps:
        return
    columns = np.array(gaps, dtype=np.int64)
    store.insert(
        f"INSERT INTO gaps SELECT {series[0]}, {series[1]}, {number},"
        " epoch_ms(gap_start), epoch_ms(gap_end) FROM incoming",
        {"gap_start": columns[:, 0].copy(), "gap_end": columns[:, 1].copy()},
    )
