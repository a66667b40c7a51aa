"""Imports: numbered changes of one line each: candles, mark prices, funding rates or margin tiers.

All of a file is imported, or nothing. The market as of an import stays as it was.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from candlestep.data.errors import UnreadableFile
from candlestep.data.imports.contents import Content, read_contents
from candlestep.data.imports.kinds import Kind
from candlestep.data.imports.perpetual.funding import FundingColumns, ReadFunding
from candlestep.data.imports.perpetual.tiers import ReadTiers
from candlestep.data.imports.reading import NO_OPTIONS, ImportOptions, Integers, Report
from candlestep.data.imports.series import ReadSeries, Taken
from candlestep.data.imports.storing.changes import (
    Change,
    find_gaps,
    latest_import,
    record_candles,
    refuse_mixture,
)
from candlestep.data.imports.storing.removal import holes_of, record_rows
from candlestep.data.imports.storing.row_tables import CANDLES, FUNDING
from candlestep.data.imports.storing.tier_rows import write_tiers
from candlestep.data.imports.validation import CandleColumns
from candlestep.data.records.instruments import InstrumentChange, change_instrument
from candlestep.data.records.lines import ensure_line
from candlestep.data.store.database import Store
from candlestep.data.symbols import DEFAULT_EXCHANGE, Pair, normalise_exchange
from candlestep.sandbox import MarginTiers
from candlestep.sandbox.clock import format_time, interval_name


@dataclass(frozen=True)
class ImportSummary:
    """The result of an import. Times are in milliseconds since the epoch."""

    exchange: str
    symbol: str
    interval: int
    """Milliseconds; 0 for funding rates and margin tiers."""
    rows: int
    """The number of candles, or of other rows, in the file: the sum of the next three."""
    new: int
    """Rows whose time is new."""
    replaced: int
    """Rows that superseded another one of the same time."""
    unchanged: int
    """Rows that were in the store already."""
    start: int
    """The open time of the file's first candle, or the time of its first row."""
    end: int
    """The completion of the file's last candle, or the time of its last row."""
    gaps: tuple[tuple[int, int], ...]
    """The gaps of the whole series after this import, each from a completion to an open time."""
    import_number: int | None
    """None if nothing changed."""
    taken: Taken | None = None
    """The columns, units and instrument that were told from the file."""
    kind: Kind = "candles"


def import_file(
    store: Store,
    path: str | Path,
    options: ImportOptions = NO_OPTIONS,
    *,
    exchange: str = DEFAULT_EXCHANGE,
    progress: Report | None = None,
) -> list[ImportSummary]:
    """Import everything in a file; ``options`` say what it does not tell.

    Raises ``UnreadableFile``, ``BadRows``, ``InvalidSymbol``, ``MixedMarket`` or
    ``StorageUnavailable`` with nothing changed.
    """
    path = Path(path).expanduser()
    exchange = normalise_exchange(exchange)
    contents = read_contents(path, options, progress)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return import_contents(
        store,
        contents,
        exchange=exchange,
        source=path.name,
        sha256=digest,
        no_volume=options.no_volume,
    )


def import_contents(
    store: Store,
    contents: Iterable[Content],
    *,
    exchange: str,
    source: str,
    sha256: str,
    no_volume: bool = False,
) -> list[ImportSummary]:
    """Import what was read from a file, all or none.

    With ``no_volume`` the volume of its instruments is not usable from then on.

    Raises ``MixedMarket`` or ``StorageUnavailable`` with nothing changed.
    """
    summaries = []
    with store.transaction("candles"):
        for one in contents:
            match one:
                case ReadSeries():
                    summary = import_candles(
                        store, one.candles, one.pair, one.interval, exchange=exchange,
                        source=source, sha256=sha256, taken=one.taken, kind=one.kind,
                    )  # fmt: skip
                case ReadFunding():
                    summary = import_funding(
                        store, one.funding, one.pair, exchange=exchange,
                        source=source, sha256=sha256, taken=one.taken,
                    )  # fmt: skip
                case ReadTiers():
                    summary = import_tiers(
                        store, one.tiers, one.start, one.pair, exchange=exchange,
                        source=source, sha256=sha256, taken=one.taken,
                    )  # fmt: skip
            summaries.append(summary)
        if no_volume:
            for summary in summaries:
                if summary.kind == "candles":
                    without = InstrumentChange(volume_usable=False)
                    change_instrument(store, exchange, summary.symbol, without)
    return summaries


def import_candles(
    store: Store,
    candles: CandleColumns,
    pair: Pair,
    interval: int,
    *,
    exchange: str = DEFAULT_EXCHANGE,
    source: str,
    sha256: str | None = None,
    synthetic: bool = False,
    taken: Taken | None = None,
    kind: Kind = "candles",
) -> ImportSummary:
    """Import checked candles of ``interval`` milliseconds, or those of marks, in one transaction.

    Raises ``MixedMarket`` if synthetic candles would be mixed with real ones, and
    ``StorageUnavailable``, with nothing changed.
    """
    with store.transaction("candles"):
        refuse_mixture(store, exchange, pair.symbol, synthetic)
        series = (ensure_line(store, exchange, pair, kind), interval // 1000)
        next_number = latest_import(store) + 1
        replaced, unchanged = CANDLES.write(store, series, candles.columns(), next_number)
        new = len(candles) - replaced - unchanged
        number = next_number if new or replaced else None
        open_times = CANDLES.times(store, series)
        _refuse_overlaps(source, open_times, interval)
        if number is not None:
            change = Change(number, source, (new, replaced, unchanged), synthetic, sha256)
            record_candles(store, series, change, open_times)
    return ImportSummary(
        exchange=exchange,
        symbol=pair.symbol,
        interval=interval,
        rows=len(candles),
        new=new,
        replaced=replaced,
        unchanged=unchanged,
        start=int(candles.open_time[0]),
        end=int(candles.open_time[-1]) + interval,
        gaps=tuple(find_gaps(open_times, interval)),
        import_number=number,
        taken=taken,
        kind=kind,
    )


def import_funding(
    store: Store,
    funding: FundingColumns,
    pair: Pair,
    *,
    exchange: str = DEFAULT_EXCHANGE,
    source: str,
    sha256: str | None = None,
    synthetic: bool = False,
    taken: Taken | None = None,
) -> ImportSummary:
    """Import checked funding rates of a perpetual in one transaction. Raises as candles do."""
    with store.transaction("candles"):
        refuse_mixture(store, exchange, pair.symbol, synthetic)
        series = (ensure_line(store, exchange, pair, "funding"), 0)
        number = latest_import(store) + 1
        columns = {
            "settled_at": funding.time,
            "stated_at": funding.raw_time,
            "rate": funding.rate,
            "interval_ms": funding.interval,
            "mark": funding.mark,
        }
        replaced, unchanged = FUNDING.write(store, series, columns, number)
        counts = (len(funding) - replaced - unchanged, replaced, unchanged)
        change = Change(number, source, counts, synthetic, sha256)
        times = (int(funding.time[0]), int(funding.time[-1]))
        return _imported(store, series, change, (exchange, pair.symbol, "funding"), times, taken)


def import_tiers(
    store: Store,
    tiers: MarginTiers,
    start: int,
    pair: Pair,
    *,
    exchange: str = DEFAULT_EXCHANGE,
    source: str,
    sha256: str | None = None,
    synthetic: bool = False,
    taken: Taken | None = None,
) -> ImportSummary:
    """Import the margin tiers of a perpetual, in force from ``start`` (ms) on, as one row.

    Raises as candles do.
    """
    with store.transaction("candles"):
        refuse_mixture(store, exchange, pair.symbol, synthetic)
        series = (ensure_line(store, exchange, pair, "tiers"), 0)
        number = latest_import(store) + 1
        counts = write_tiers(store, series, start, tiers, number)
        change = Change(number, source, counts, synthetic, sha256)
        return _imported(
            store, series, change, (exchange, pair.symbol, "tiers"), (start, start), taken
        )


def _imported(
    store: Store,
    series: tuple[int, int],
    change: Change,
    listing: tuple[str, str, Kind],
    times: tuple[int, int],
    taken: Taken | None,
) -> ImportSummary:
    """Record an import of funding rates or margin tiers if it changed anything; return it."""
    new, replaced, unchanged = change.counts
    is_change = bool(new or replaced)
    exchange, symbol, kind = listing
    holes = record_rows(store, series, change, kind) if is_change else holes_of(store, series, kind)
    return ImportSummary(
        exchange, symbol, 0, sum(change.counts), new, replaced, unchanged, *times, tuple(holes),
        change.number if is_change else None, taken, kind,
    )  # fmt: skip


def _refuse_overlaps(source: str, open_times: Integers, interval: int) -> None:
    """Raise ``UnreadableFile`` if candles of a series overlap those that were there before."""
    overlaps = np.flatnonzero(np.diff(open_times) < interval)
    if len(overlaps):
        first, second = (format_time(int(time)) for time in open_times[overlaps[0] :][:2])
        name = interval_name(interval)
        raise UnreadableFile(
            source,
            f"{len(overlaps)} of its candles overlap {name} candles that are there already, such as"
            f" those that open at {first} and {second}; remove those first (candlestep data remove), or"
            " use another home",
        )
