"""The catalogue of the store: every series, and the range of all data."""

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

from candlestep.data.errors import MarketPruned
from candlestep.data.imports.kinds import Kind
from candlestep.data.imports.storing.changes import latest_import
from candlestep.data.market.time_line import makes, periods, time_line
from candlestep.data.records.line_names import KIND_OF_LINE, SYMBOL_OF_LINE
from candlestep.data.store.database import Store
from candlestep.sandbox.clock import INTERVALS
from candlestep.sandbox.market.spans import Span, subtract_spans, union_spans

_SECOND = 1000

_KEPT_MARKETS = 8


@dataclass(frozen=True)
class Series:
    """The candles of one symbol and interval, or its mark prices, funding rates or margin tiers.

    Times are in milliseconds since the epoch.
    """

    exchange: str
    symbol: str
    base: str
    quote: str
    interval: int
    """Milliseconds; 0 for funding rates and margin tiers."""
    start: int
    """The open time of the first candle, or the time of the first row."""
    end: int
    """The completion of the last candle, or the time of the last row."""
    rows: int
    gaps: tuple[Span, ...]
    """The gaps, each from a candle's completion to the open time of the next one; of funding rates,
    from the first settlement that is missing to the next that is not."""
    import_number: int
    """The import that last changed the series."""
    synthetic: bool
    """True if the rows are those of the synthetic sample market."""
    kind: Kind = "candles"


@dataclass(frozen=True)
class Gap:
    """A period without a candle of any interval of a symbol, or without its funding rates."""

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
    """The intervals of candles that there are, and all to which they can be aggregated."""
    data_gaps: tuple[Gap, ...]
    funding_gaps: tuple[Gap, ...] = ()
    """Holes between settlements of perpetuals, of more than 1.5 intervals."""


class Catalogue:
    """The series of the store as of an import. Each answer is computed once."""

    def __init__(self, store: Store) -> None:
        lines = lru_cache(_KEPT_MARKETS)(partial(_read_lines, store))
        series = lru_cache(_KEPT_MARKETS)(lambda number: _candles_of(lines(number)))
        self._store = store
        self._lines = lines
        self._lock = threading.Lock()
        self._series = series
        self._range = lru_cache(_KEPT_MARKETS)(lambda number: _range(series(number), lines(number)))
        self._covered = lru_cache(_KEPT_MARKETS)(lambda number: _covered(series(number)))

    def latest_import(self) -> int:
        """Return the number of the latest import, for several calls about one market."""
        return latest_import(self._store)

    def series(self, as_of: int | None = None) -> tuple[Series, ...]:
        """Return all series of candles as of an import, by default the latest.

        They are sorted by exchange and symbol.
        """
        number = self._number(as_of)
        with self._lock:
            return self._series(number)

    def lines(self, as_of: int | None = None) -> tuple[Series, ...]:
        """Return the series of candles as ``series`` does, with those of all other kinds."""
        number = self._number(as_of)
        with self._lock:
            return self._lines(number)

    def data_range(self, as_of: int | None = None) -> DataRange:
        """Return the times, symbols, intervals and gaps of all series as of an import."""
        number = self._number(as_of)
        with self._lock:
            return self._range(number)

    def covered(
        self, exchange: str, symbols: Iterable[str], as_of: int | None = None
    ) -> dict[str, Sequence[Span]]:
        """Return, for each symbol, the spans that its candles of all intervals cover, sorted.

        A symbol without candles has none.
        """
        number = self._number(as_of)
        with self._lock:
            covered = self._covered(number)
        return {symbol: covered.get((exchange, symbol), ()) for symbol in symbols}

    def _number(self, as_of: int | None) -> int:
        return self.latest_import() if as_of is None else as_of


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


def merged_gaps(group: Sequence[Series]) -> list[Span]:
    """Return the gaps that the series of one symbol, of different intervals, leave together."""
    start, end = min(series.start for series in group), max(series.end for series in group)
    return subtract_spans(start, end, covered_spans(group))


def covered_spans(group: Iterable[Series]) -> list[Span]:
    """Return the spans that the series of one symbol, of different intervals, cover together."""
    return union_spans([(stretch.start, stretch.end) for stretch in time_line(group)])


def covered_periods(group: Iterable[Series], interval: int) -> list[Span]:
    """Return the periods for which one symbol's series give candles of ``interval`` ms.

    See ``time_line.periods``.
    """
    return periods(time_line(group), interval)


def straddling_interval(group: Iterable[Series], interval: int, start: int, end: int) -> int | None:
    """Return the interval of candles between two times that make none of ``interval``; all in ms.

    Some of them straddle its bounds. None if there are no such candles.
    """
    return next(
        (
            stretch.interval
            for stretch in time_line(group)
            if stretch.start < end and stretch.end > start and stretch.straddles(interval)
        ),
        None,
    )


def has_candle(group: Iterable[Series], start: int, end: int) -> bool:
    """Return whether a candle of one symbol's series, or a part of one, lies between two times."""
    return any(stretch.start < end and stretch.end > start for stretch in time_line(group))


def _candles_of(lines: Iterable[Series]) -> tuple[Series, ...]:
    return tuple(series for series in lines if series.kind == "candles")


def _read_lines(store: Store, as_of: int) -> tuple[Series, ...]:
    rows = store.rows(
        f"SELECT exchange, {SYMBOL_OF_LINE}, base, quote, interval_seconds * 1000,"
        " epoch_ms(series_start), epoch_ms(series_end), series_rows, m.import_number, synthetic,"
        f" {KIND_OF_LINE}"
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
        Series(*[*columns, tuple(gaps.get(number, ())), number, synthetic, kind])
        for *columns, number, synthetic, kind in rows
    )


def _covered(all_series: tuple[Series, ...]) -> dict[tuple[str, str], list[Span]]:
    return {name: covered_spans(group) for name, group in by_symbol(all_series).items()}


def _range(all_series: tuple[Series, ...], all_lines: tuple[Series, ...]) -> DataRange:
    groups = by_symbol(all_series)
    lines = [time_line(group) for group in groups.values()]
    return DataRange(
        earliest=min((series.start for series in all_series), default=None),
        latest=max(series.end for series in all_series) - _SECOND if all_series else None,
        total_pairs=len(groups),
        intervals_available=tuple(
            name for name, length in INTERVALS.items() if any(makes(line, length) for line in lines)
        ),
        data_gaps=tuple(
            Gap(exchange, symbol, start, end)
            for (exchange, symbol), group in groups.items()
            for start, end in merged_gaps(group)
        ),
        funding_gaps=tuple(
            Gap(line.exchange, line.symbol, start, end)
            for line in all_lines
            if line.kind == "funding"
            for start, end in line.gaps
        ),
    )
