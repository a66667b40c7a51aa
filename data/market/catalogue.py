"""What candles there are: per series, and over all what a session may be run on."""

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

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
    """Open time of the first candle."""
    end: int
    """Completion of the last candle."""
    rows: int
    gaps: tuple[Span, ...]
    """Holes: from a candle's completion to the open time of the next."""
    import_number: int
    """The import that changed it last."""
    synthetic: bool
    """Candles of the sample market, which never were."""


@dataclass(frozen=True)
class Gap:
    """A time in which a symbol has no candle of any interval."""

    exchange: str
    symbol: str
    start: int
    end: int


@dataclass(frozen=True)
class DataRange:
    """All data there is. Times are in milliseconds, and None where there is no data."""

    earliest: int | None
    """The first open time of any symbol."""
    latest: int | None
    """The last completion of any symbol, less one second."""
    total_pairs: int
    intervals_available: tuple[str, ...]
    """Every interval that the finest candles are of or can be aggregated to."""
    data_gaps: tuple[Gap, ...]


class Catalogue:
    """Answers what candles there are as of an import; each answer is worked out once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._markets: dict[int, tuple[Series, ...]] = {}
        self._ranges: dict[int, DataRange] = {}

    def series(self, as_of: int | None = None) -> tuple[Series, ...]:
        """All series as of an import number, by default the latest; by exchange and symbol."""
        with self._lock:
            return self._series(latest_import(self._store) if as_of is None else as_of)

    def of_symbol(self, exchange: str, symbol: str) -> list[Series]:
        """The series of one symbol as of the latest import, the finest first."""
        return [
            each for each in self.series() if (each.exchange, each.symbol) == (exchange, symbol)
        ]

    def data_range(self, as_of: int | None = None) -> DataRange:
        """The times, symbols, intervals and holes of all series as of an import number."""
        with self._lock:
            number = latest_import(self._store) if as_of is None else as_of
            if number not in self._ranges:
                _make_room(self._ranges)
                self._ranges[number] = _range(self._series(number))
            return self._ranges[number]

    def pairs(
        self, exchange: str, start: int, end: int, as_of: int | None = None
    ) -> tuple[str, ...]:
        """The symbols that have a candle between two times, in ms; sorted."""
        return tuple(
            sorted(
                {
                    each.symbol
                    for each in self.series(as_of)
                    if each.exchange == exchange and has_candle(each, start, end)
                }
            )
        )

    def _series(self, number: int) -> tuple[Series, ...]:
        if number not in self._markets:
            _make_room(self._markets)
            self._markets[number] = _read_series(self._store, number)
        return self._markets[number]


def by_symbol(series: Iterable[Series]) -> dict[tuple[str, str], list[Series]]:
    """Series by exchange and symbol, in their order."""
    groups: dict[tuple[str, str], list[Series]] = {}
    for each in series:
        groups.setdefault((each.exchange, each.symbol), []).append(each)
    return groups


def effective_imports(
    store: Store, exchange: str, symbols: Sequence[str], as_of: int
) -> dict[str, int]:
    """For each symbol, the latest import up to ``as_of`` that changed it; none: it is left out.

    As of both numbers the symbol's candles are the same. Raises ``MarketPruned`` if those of one
    have been dropped.
    """
    found = store.rows(
        "SELECT symbol, m.import_number, m.pruned"
        " FROM imports m JOIN instruments USING (instrument_id)"
        " WHERE exchange = ? AND list_contains(?::VARCHAR[], symbol) AND import_number <= ?"
        " QUALIFY row_number() OVER"
        "  (PARTITION BY symbol, interval_seconds ORDER BY import_number DESC) = 1",
        exchange,
        list(symbols),
        as_of,
    )
    for symbol, _, pruned in found:
        if pruned:
            raise MarketPruned(
                f"the candles of {symbol} as of import {as_of} have been pruned;"
                " use a later import number",
                symbol=symbol,
                import_number=as_of,
            )
    numbers: dict[str, int] = {}
    for symbol, number, _ in found:
        numbers[symbol] = max(number, numbers.get(symbol, 0))
    return numbers


def merged_gaps(series: list[Series]) -> list[Span]:
    """The holes of the merged time line of one symbol's series, of different intervals.

    A candle is in the time line only if no finer candle opens inside it; so a coarser candle
    covers a hole of the finer ones only where it lies in the hole as a whole.
    """
    candles: list[Span] = []
    time_line: list[Span] = []
    start, end = min(each.start for each in series), max(each.end for each in series)
    for each in sorted(series, key=lambda one: one.interval):
        spans = subtract_spans(each.start, each.end, each.gaps)
        free = subtract_spans(start, end, candles)
        aligned = [candle_span(a, b, each.interval) for a, b in free]
        time_line = union_spans(
            time_line + intersect_spans(spans, [(a, b) for a, b in aligned if a < b])
        )
        candles = union_spans(candles + spans)
    return subtract_spans(start, end, time_line)


def covered_periods(series: Iterable[Series], interval: int) -> list[Span]:
    """The times of which one symbol's series have candles of ``interval`` ms, sorted.

    Finer candles are aggregated, where there is one at least; the last one is whole.
    """
    finer = [each for each in series if each.interval <= interval]
    end = max((each.end for each in finer), default=0) // interval * interval
    spans = [
        (a // interval * interval, min(-(-b // interval) * interval, end))
        for each in finer
        for a, b in subtract_spans(each.start, each.end, each.gaps)
    ]
    return union_spans([(a, b) for a, b in spans if a < b])


def _read_series(store: Store, as_of: int) -> tuple[Series, ...]:
    found = store.rows(
        "SELECT exchange, symbol, base, quote, interval_seconds, epoch_ms(series_start),"
        " epoch_ms(series_end), series_rows, m.import_number, synthetic, instrument_id"
        " FROM imports m JOIN instruments USING (instrument_id) WHERE m.import_number <= ?"
        " QUALIFY row_number() OVER"
        "  (PARTITION BY instrument_id, interval_seconds ORDER BY m.import_number DESC) = 1"
        " ORDER BY exchange, symbol, interval_seconds",
        as_of,
    )
    gaps: dict[int, list[Span]] = {}
    numbers = [row[8] for row in found]
    for number, gap_start, gap_end in store.rows(
        "SELECT import_number, epoch_ms(gap_start), epoch_ms(gap_end) FROM gaps"
        " WHERE list_contains(?::INTEGER[], import_number) ORDER BY gap_start",
        numbers,
    ):
        gaps.setdefault(number, []).append((gap_start, gap_end))
    return tuple(
        Series(
            exchange=exchange,
            symbol=symbol,
            base=base,
            quote=quote,
            interval=seconds * 1000,
            start=start,
            end=end,
            rows=rows,
            gaps=tuple(gaps.get(number, ())),
            import_number=number,
            synthetic=synthetic,
        )
        for exchange, symbol, base, quote, seconds, start, end, rows, number, synthetic, _ in found
        if rows
    )


def _range(series: tuple[Series, ...]) -> DataRange:
    groups = by_symbol(series)
    finest = min((each.interval for each in series), default=None)
    return DataRange(
        earliest=min((each.start for each in series), default=None),
        latest=max(each.end for each in series) - _SECOND if series else None,
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
    """Whether a candle, or a part of one, is between two times in ms."""
    return any(
        a < end and b > start for a, b in subtract_spans(series.start, series.end, series.gaps)
    )


def _make_room(cache: dict[int, Any]) -> None:
    while len(cache) >= _KEPT_MARKETS:
        del cache[next(iter(cache))]
