"""The catalogue of candles: every series, and the range of all data."""

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

from candlestep.data.errors import MarketPruned
from candlestep.data.imports.importer import latest_import
from candlestep.data.market.spans import Span, intersect_spans, subtract_spans, union_spans
from candlestep.data.store.database import Store
from candlestep.sandbox.clock import INTERVALS, candle_span, interval_name

_SECOND = 1000

_KEPT_MARKETS = 8


@dataclass(frozen=True)
class Series:
    """The candles of one symbol and interval. Times are in milliseconds since the epoch."""

    exchange: str
    symbol: str
    base: str
    quote: str
    interval: int
    """Milliseconds."""
    start: int
    """The open time of the first candle."""
    end: int
    """The completion of the last candle."""
    rows: int
    gaps: tuple[Span, ...]
    """The gaps, each from a candle's completion to the open time of the next one."""
    import_number: int
    """The import that last changed the series."""
    synthetic: bool
    """True if the candles are those of the synthetic sample market."""


@dataclass(frozen=True)
class Gap:
    """A period without a candle of any interval of a symbol."""

    exchange: str
    symbol: str
    start: int
    end: int


@dataclass(frozen=True)
class DataRange:
    """The range of all data. Times are in milliseconds, and None if there is no data."""

    earliest: int | None
    """The first open time of any symbol."""
    latest: int | None
    """The last completion of any symbol, minus one second."""
    total_pairs: int
    intervals_available: tuple[str, ...]
    """The interval of the finest candles and all to which they can be aggregated."""
    data_gaps: tuple[Gap, ...]


class Catalogue:
    """The series of the store as of an import. Each answer is computed once."""

    def __init__(self, store: Store) -> None:
        series = lru_cache(_KEPT_MARKETS)(partial(_read_series, store))
        self._store = store
        self._lock = threading.Lock()
        self._series = series
        self._range = lru_cache(_KEPT_MARKETS)(lambda number: _range(series(number)))

    def series(self, as_of: int | None = None) -> tuple[Series, ...]:
        """Return all series as of an import, by default the latest, by exchange and symbol."""
        with self._lock:
            return self._series(latest_import(self._store) if as_of is None else as_of)

    def data_range(self, as_of: int | None = None) -> DataRange:
        """Return the times, symbols, intervals and gaps of all series as of an import."""
        with self._lock:
            return self._range(latest_import(self._store) if as_of is None else as_of)


def by_symbol(all_series: Iterable[Series]) -> dict[tuple[str, str], list[Series]]:
    """Return series grouped by exchange and symbol, in their order."""
    groups: dict[tuple[str, str], list[Series]] = {}
    for series in all_series:
        groups.setdefault((series.exchange, series.symbol), []).append(series)
    return groups


def effective_imports(
    store: Store, exchange: str, symbols: Sequence[str], as_of: int
) -> dict[str, int]:
    """Return, for each symbol, the latest import up to ``as_of`` that changed it.

    Its candles are the same as of both numbers. A symbol without imports up to then is left out.
    Raises ``MarketPruned`` if candles of one have been dropped.
    """
    rows = store.rows(
        "SELECT symbol, m.import_number, m.pruned"
        " FROM imports m JOIN instruments USING (instrument_id)"
        " WHERE exchange = ? AND list_contains(?::VARCHAR[], symbol) AND import_number <= ?"
        " QUALIFY row_number() OVER"
        "  (PARTITION BY symbol, interval_seconds ORDER BY import_number DESC) = 1",
        exchange,
        list(symbols),
        as_of,
    )
    for symbol, _, pruned in rows:
        if pruned:
            raise MarketPruned(
                f"the candles of {symbol} as of import {as_of} have been pruned;"
                " use a later import number",
                symbol=symbol,
                import_number=as_of,
            )
    numbers: dict[str, int] = {}
    for symbol, number, _ in rows:
        numbers[symbol] = max(number, numbers.get(symbol, 0))
    return numbers


def merged_gaps(group: list[Series]) -> list[Span]:
    """Return the gaps that the series of one symbol, of different intervals, leave together.

    A candle counts only if no finer candle opens inside it, so a coarser candle covers a gap of
    the finer ones only where the whole of it lies in the gap.
    """
    candles: list[Span] = []
    covered: list[Span] = []
    start, end = min(series.start for series in group), max(series.end for series in group)
    for series in sorted(group, key=lambda series: series.interval):
        spans = subtract_spans(series.start, series.end, series.gaps)
        free = subtract_spans(start, end, candles)
        aligned = [candle_span(a, b, series.interval) for a, b in free]
        covered = union_spans(
            covered + intersect_spans(spans, [(a, b) for a, b in aligned if a < b])
        )
        candles = union_spans(candles + spans)
    return subtract_spans(start, end, covered)


def covered_periods(group: Iterable[Series], interval: int) -> list[Span]:
    """Return the periods for which one symbol's series give candles of ``interval`` ms, sorted.

    A candle is aggregated from one or more finer ones; the last candle must be whole.
    """
    finer = [series for series in group if series.interval <= interval]
    end = max((series.end for series in finer), default=0) // interval * interval
    spans = [
        (a // interval * interval, min(-(-b // interval) * interval, end))
        for series in finer
        for a, b in subtract_spans(series.start, series.end, series.gaps)
    ]
    return union_spans([(a, b) for a, b in spans if a < b])


def _read_series(store: Store, as_of: int) -> tuple[Series, ...]:
    rows = store.rows(
        "SELECT exchange, symbol, base, quote, interval_seconds * 1000, epoch_ms(series_start),"
        " epoch_ms(series_end), series_rows, m.import_number, synthetic"
        " FROM imports m JOIN instruments USING (instrument_id) WHERE m.import_number <= ?"
        " QUALIFY row_number() OVER"
        "  (PARTITION BY instrument_id, interval_seconds ORDER BY m.import_number DESC) = 1"
        " AND series_rows > 0 ORDER BY exchange, symbol, interval_seconds",
        as_of,
    )
    gaps: dict[int, list[Span]] = {}
    numbers = [row[8] for row in rows]
    for number, gap_start, gap_end in store.rows(
        "SELECT import_number, epoch_ms(gap_start), epoch_ms(gap_end) FROM gaps"
        " WHERE list_contains(?::INTEGER[], import_number) ORDER BY gap_start",
        numbers,
    ):
        gaps.setdefault(number, []).append((gap_start, gap_end))
    return tuple(
        Series(*[*columns, tuple(gaps.get(number, ())), number, synthetic])
        for *columns, number, synthetic in rows
    )


def _range(all_series: tuple[Series, ...]) -> DataRange:
    groups = by_symbol(all_series)
    finest = min((series.interval for series in all_series), default=None)
    return DataRange(
        earliest=min((series.start for series in all_series), default=None),
        latest=max(series.end for series in all_series) - _SECOND if all_series else None,
        total_pairs=len(groups),
        intervals_available=tuple(
            interval_name(length)
            for length in INTERVALS.values()
            if finest is not None and length >= finest
        ),
        data_gaps=tuple(
            Gap(exchange, symbol, start, end)
            for (exchange, symbol), group in groups.items()
            for start, end in merged_gaps(group)
        ),
    )


def has_candle(series: Series, start: int, end: int) -> bool:
    """Return whether a candle, or a part of one, lies between two times in ms."""
    return any(
        a < end and b > start for a, b in subtract_spans(series.start, series.end, series.gaps)
    )
