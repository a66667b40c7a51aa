"""The contents of files: candles, mark prices, funding rates or margin tiers, read and checked."""

from collections.abc import Sequence
from pathlib import Path

from msgspec import structs

from candlestep.data.clock import now
from candlestep.data.errors import UnreadableFile
from candlestep.data.imports.evidence import told_of
from candlestep.data.imports.formats.files import read_file
from candlestep.data.imports.formats.sources import Source, sources_of
from candlestep.data.imports.kinds import KIND_WORDS, Kind
from candlestep.data.imports.perpetual.funding import ReadFunding, funding_of
from candlestep.data.imports.perpetual.funding import refuse_contradictions as refuse_other_rates
from candlestep.data.imports.perpetual.tiers import ReadTiers, TierFile, tiers_of
from candlestep.data.imports.reading import NO_OPTIONS, ImportOptions, Report
from candlestep.data.imports.series import ReadSeries, refuse_contradictions, series_of
from candlestep.data.imports.times import end_of_tomorrow

Content = ReadSeries | ReadFunding | ReadTiers
"""The unit of an import: rows of one kind and symbol of a file."""


def read_contents(
    path: Path,
    options: ImportOptions = NO_OPTIONS,
    progress: Report | None = None,
    time: int | None = None,
) -> list[Content]:
    """Read what is in a file, or in the files of an archive, without importing it.

    ``time`` is the present, in milliseconds. Raises ``UnreadableFile``, ``BadRows`` or
    ``InvalidSymbol``.
    """
    present = now() if time is None else time
    contents: list[Content] = []
    for source in sources_of(path):
        contents += _contents(source, options, progress, present)
    refuse_contradictions(path.name, [one for one in contents if isinstance(one, ReadSeries)])
    refuse_other_rates(path.name, [one for one in contents if isinstance(one, ReadFunding)])
    return contents


def read_series(
    path: Path,
    options: ImportOptions = NO_OPTIONS,
    progress: Report | None = None,
    time: int | None = None,
    kind: Kind = "candles",
) -> list[ReadSeries]:
    """Read the series of candles, or mark prices, of a file; ``read_contents`` reads all else too.

    Raises ``UnreadableFile`` for a file of something else.
    """
    contents = read_contents(path, options, progress, time)
    for one in contents:
        if one.taken.kind != kind:
            other = KIND_WORDS[one.taken.kind]
            raise UnreadableFile(path.name, f"it has {other}, and not {KIND_WORDS[kind]}")
    return [one for one in contents if isinstance(one, ReadSeries)]


def _contents(
    source: Source, options: ImportOptions, progress: Report | None, present: int
) -> Sequence[Content]:
    told = told_of(
        source.name, source.path, source.member, options.kind, options.is_perp, options.symbol
    )
    with_kind = structs.replace(options, kind=told.kind)
    file = read_file(source, with_kind, end_of_tomorrow(present), progress)
    if isinstance(file, TierFile):
        return tiers_of(file, options)
    if file.layout.kind == "funding":
        return funding_of(file, options, present, is_certain=options.kind == "funding")
    return series_of(file, with_kind, present, told.is_perp)
