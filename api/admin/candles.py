"""Operations on the candles of a store: import, list, sample market, export, prune."""

import os
from datetime import date
from pathlib import Path
from typing import Any

import msgspec

from candlestep.api.admin.operation import EmptyInput, Operation, Report, progress_of
from candlestep.data.errors import UnreadableFile
from candlestep.data.imports.importer import ImportSummary, import_file, prune, read_series
from candlestep.data.imports.numbers import DecimalMark
from candlestep.data.imports.reading import ImportOptions
from candlestep.data.imports.sample import SOURCE, drop_sample, load_sample
from candlestep.data.imports.series import ReadSeries, Taken
from candlestep.data.market.catalogue import Catalogue, Series
from candlestep.data.records.jobs import job_imports
from candlestep.data.records.sessions import pinned_imports
from candlestep.data.store.database import Store
from candlestep.data.symbols import DEFAULT_EXCHANGE
from candlestep.sandbox import SandboxError


class ImportFiles(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Files of candles, by absolute path; a field that is None is inferred from each file."""

    files: list[str]
    symbol: str | None = None
    interval: str | None = None
    exchange: str = DEFAULT_EXCHANGE
    time_format: str | None = None
    day: date | None = None
    decimal: DecimalMark | None = None
    no_volume: bool = False
    is_trial: bool = False
    """Read the files and import nothing."""


class ImportReport(msgspec.Struct, frozen=True):
    """The outcome for each source of candles, which is imported as a whole or not at all."""

    imports: list["Import"]
    refusals: list["Refusal"]
    previews: list["Preview"] = []
    """The series of a trial."""


class Import(msgspec.Struct, frozen=True):
    """An imported source of candles, and what the import changed."""

    source: str
    summary: ImportSummary


class Preview(msgspec.Struct, frozen=True):
    """A series as it would be imported."""

    source: str
    taken: Taken
    rows: int
    first: list[float]
    """The first candle: open time in milliseconds, open, high, low, close and volume."""
    last: list[float]

    @classmethod
    def of(cls, source: str, series: ReadSeries) -> "Preview":
        """Return the preview of a series that was read from ``source``."""
        columns = (series.candles.open_time, *series.candles.numbers())
        first, last = ([float(column[row]) for column in columns] for row in (0, -1))
        return cls(source, series.taken, len(series.candles), first, last)


class Refusal(msgspec.Struct, frozen=True):
    """A file that was not imported, and why."""

    file: str
    code: str
    message: str
    details: dict[str, Any]


class SeriesList(msgspec.Struct, frozen=True):
    """Every series of candles in the store."""

    series: list[Series]


class DroppedSymbols(msgspec.Struct, frozen=True):
    """The symbols whose sample candles were removed."""

    symbols: list[str]


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


def _import_files(store: Store, request: ImportFiles, report: Report) -> ImportReport:
    imports, refusals, previews = [], [], []
    options = ImportOptions(
        request.symbol,
        request.interval,
        request.no_volume,
        request.time_format,
        request.day,
        request.decimal,
    )
    for file in request.files:
        name = Path(file).name
        try:
            _require_file(file)
            progress = progress_of(name, "rows", report)
            if request.is_trial:
                series = read_series(Path(file), options, progress)
                previews += [Preview.of(name, read) for read in series]
                continue
            summaries = import_file(
                store, file, options, exchange=request.exchange, progress=progress
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


def _list_series(store: Store, request: EmptyInput, report: Report) -> SeriesList:
    return SeriesList(list(Catalogue(store).series()))


def _load_sample(store: Store, request: EmptyInput, report: Report) -> ImportReport:
    return ImportReport([Import(SOURCE, summary) for summary in load_sample(store)], [])


def _drop_sample(store: Store, request: EmptyInput, report: Report) -> DroppedSymbols:
    return DroppedSymbols(drop_sample(store))


def _export(store: Store, request: ExportTo, report: Report) -> StoreCopy:
    store.export(request.path)
    return StoreCopy(request.path, Path(request.path).stat().st_size)


def _prune(store: Store, request: EmptyInput, report: Report) -> PrunedCandles:
    with store.transaction():
        return PrunedCandles(prune(store, [*pinned_imports(store), *job_imports(store)]))


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
EXPORT = Operation("/admin/data/export", "Write a copy of the store", ExportTo, StoreCopy, _export)
PRUNE = Operation("/admin/data/prune", "Drop superseded candles", EmptyInput, PrunedCandles, _prune)

OPERATIONS: tuple[Operation[Any, Any], ...] = (IMPORT, LIST, SAMPLE, DROP_SAMPLE, EXPORT, PRUNE)
