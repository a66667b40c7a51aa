"""Operations on the data of a store: import, list, remove, sample market, export, prune."""

import os
from datetime import date
from pathlib import Path
from typing import Any

import msgspec

from candlestep.api.admin.operation import EmptyInput, OpenHome, Operation, Report, progress_of
from candlestep.data.errors import UnreadableFile
from candlestep.data.imports.contents import Content
from candlestep.data.imports.importer import ImportSummary, import_contents
from candlestep.data.imports.kinds import Kind
from candlestep.data.imports.numbers import DecimalMark
from candlestep.data.imports.perpetual.funding import ReadFunding
from candlestep.data.imports.process.file_reader import FileReader
from candlestep.data.imports.reading import ImportOptions
from candlestep.data.imports.sample import SOURCE, drop_sample, load_sample
from candlestep.data.imports.series import ReadSeries, Taken
from candlestep.data.imports.storing.removal import Removal, prune, remove_candles
from candlestep.data.journal.archive import journaled_sessions
from candlestep.data.journal.journal import DIRECTORY
from candlestep.data.market.catalogue import Catalogue, Series
from candlestep.data.records.jobs import job_imports
from candlestep.data.records.sessions import pinned_imports
from candlestep.data.symbols import DEFAULT_EXCHANGE, normalise_exchange
from candlestep.sandbox import SandboxError, parse_interval
from candlestep.sandbox.clock import EARLIEST, LATEST


class ImportFiles(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Files to import, by absolute path; a field that is None is inferred from each file."""

    files: list[str]
    symbol: str | None = None
    interval: str | None = None
    exchange: str = DEFAULT_EXCHANGE
    time_format: str | None = None
    day: date | None = None
    decimal: DecimalMark | None = None
    no_volume: bool = False
    as_dates: bool = False
    is_trial: bool = False
    """Read the files and import nothing."""
    kind: Kind | None = None
    is_perp: bool = False
    """Take symbols for those of perpetuals."""


class ImportReport(msgspec.Struct, frozen=True):
    """The outcome for each file, which is imported as a whole or not at all."""

    imports: list["Import"]
    refusals: list["Refusal"]
    previews: list["Preview"] = []
    """The content of files that were only tried."""


class Import(msgspec.Struct, frozen=True):
    """An imported file, or another source, and what the import changed."""

    source: str
    summary: ImportSummary


class Preview(msgspec.Struct, frozen=True):
    """Rows of one kind and symbol as they would be imported."""

    source: str
    taken: Taken
    rows: int
    first: list[float]
    """The first row: open time in milliseconds, open, high, low, close and volume of a candle; time
    and rate of a settlement; floor, maintenance margin rate, cum and leverage of a margin tier."""
    last: list[float]

    @classmethod
    def of(cls, source: str, content: Content) -> "Preview":
        """Return the preview of what was read from ``source``."""
        rows: list[list[float]]
        if isinstance(content, ReadSeries):
            columns = (content.candles.open_time, *content.candles.numbers())
            rows = [[float(column[row]) for column in columns] for row in (0, -1)]
            count = len(content.candles)
        elif isinstance(content, ReadFunding):
            times, rates = content.funding.time, content.funding.rate
            rows = [[float(times[row]), float(rates[row])] for row in (0, -1)]
            count = len(times)
        else:
            tiers = content.tiers.rows
            rows = [list(map(float, msgspec.structs.astuple(tiers[row]))) for row in (0, -1)]
            count = len(tiers)
        return cls(source, content.taken, count, *rows)


class Refusal(msgspec.Struct, frozen=True):
    """A file that was not imported, and why."""

    file: str
    code: str
    message: str
    details: dict[str, Any]


class SeriesList(msgspec.Struct, frozen=True):
    """Every series in the store: candles, mark prices, funding rates, margin tiers."""

    series: list[Series]


class DroppedSymbols(msgspec.Struct, frozen=True):
    """The symbols whose sample candles were removed."""

    symbols: list[str]


class RemoveCandles(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The candles of a symbol, or rows of another kind, to remove; times in milliseconds."""

    symbol: str
    exchange: str = DEFAULT_EXCHANGE
    interval: str | None = None
    """None for every interval."""
    start: int = EARLIEST
    """The first open time."""
    end: int = LATEST
    """The time before which the last one opens."""
    kind: Kind = "candles"


class RemovedCandles(msgspec.Struct, frozen=True):
    """The candles that were removed from each series."""

    removals: list[Removal]


class ExportTo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The absolute path of the copy to write; the file must not exist."""

    path: str


class StoreCopy(msgspec.Struct, frozen=True):
    """A copy of the store, and its size in bytes."""

    path: str
    size: int


class PrunedCandles(msgspec.Struct, frozen=True):
    """The number of superseded candles that were removed."""

    rows: int


def _import_files(home: OpenHome, request: ImportFiles, report: Report) -> ImportReport:
    imports, refusals, previews = [], [], []
    options = ImportOptions(
        request.symbol,
        request.interval,
        request.no_volume,
        request.time_format,
        request.day,
        request.decimal,
        request.as_dates,
        request.kind,
        request.is_perp,
    )
    with FileReader(home.store.path.parent) as reader:
        for file in request.files:
            name = Path(file).name
            try:
                _require_file(file)
                exchange = normalise_exchange(request.exchange)
                progress = progress_of(name, "rows", report)
                contents, sha256 = reader.read(Path(file), options, progress)
                if request.is_trial:
                    previews += [Preview.of(name, read) for read in contents]
                    continue
                summaries = import_contents(
                    home.store,
                    contents,
                    exchange=exchange,
                    source=name,
                    sha256=sha256,
                    no_volume=request.no_volume,
                )
            except SandboxError as error:
                refusals.append(Refusal(name, error.code, error.message, error.details))
            else:
                imports += [Import(name, summary) for summary in summaries]
    return ImportReport(imports, refusals, previews)


def _require_file(file: str) -> None:
    """Raise ``UnreadableFile`` unless ``file`` names a file."""
    # Path.is_file raises where a name is too long.
    if os.path.isdir(file):
        raise UnreadableFile(file, "it is a directory; name files")
    if not os.path.isfile(file):
        raise UnreadableFile(file, "there is no such file")


def _list_series(home: OpenHome, request: EmptyInput, report: Report) -> SeriesList:
    return SeriesList(list(Catalogue(home.store).lines()))


def _load_sample(home: OpenHome, request: EmptyInput, report: Report) -> ImportReport:
    return ImportReport([Import(SOURCE, summary) for summary in load_sample(home.store)], [])


def _drop_sample(home: OpenHome, request: EmptyInput, report: Report) -> DroppedSymbols:
    return DroppedSymbols(drop_sample(home.store))


def _remove_candles(home: OpenHome, request: RemoveCandles, report: Report) -> RemovedCandles:
    interval = None if request.interval is None else parse_interval(request.interval)
    return RemovedCandles(
        remove_candles(
            home.store,
            request.symbol,
            exchange=request.exchange,
            interval=interval,
            start=request.start,
            end=request.end,
            kind=request.kind,
        )
    )


def _export(home: OpenHome, request: ExportTo, report: Report) -> StoreCopy:
    home.store.export(request.path)
    return StoreCopy(request.path, Path(request.path).stat().st_size)


def _prune(home: OpenHome, request: EmptyInput, report: Report) -> PrunedCandles:
    # With the records too: no session starts meanwhile on an import that is not among the pins.
    with home.store.transaction("candles", "records"):
        # Listed within the transaction: a session that starts later is running, or waits for it.
        journaled = journaled_sessions(home.store.path.parent / DIRECTORY)
        pinned = pinned_imports(home.store, journaled)
        return PrunedCandles(prune(home.store, [*pinned, *job_imports(home.store)]))


IMPORT = Operation(
    "/admin/data/import", "Import files of candles", ImportFiles, ImportReport, _import_files
)
LIST = Operation("/admin/data/list", "List the candles", EmptyInput, SeriesList, _list_series)
SAMPLE = Operation(
    "/admin/data/sample", "Load the sample market", EmptyInput, ImportReport, _load_sample
)
DROP_SAMPLE = Operation(
    "/admin/data/drop-sample", "Drop the sample market", EmptyInput, DroppedSymbols, _drop_sample
)
REMOVE = Operation(
    "/admin/data/remove", "Remove candles", RemoveCandles, RemovedCandles, _remove_candles
)
EXPORT = Operation("/admin/data/export", "Write a copy of the store", ExportTo, StoreCopy, _export)
PRUNE = Operation("/admin/data/prune", "Drop superseded candles", EmptyInput, PrunedCandles, _prune)

OPERATIONS: tuple[Operation[Any, Any], ...] = (
    IMPORT,
    LIST,
    SAMPLE,
    DROP_SAMPLE,
    REMOVE,
    EXPORT,
    PRUNE,
)
