"""The format of a file, recognised by its content, and read by the reader for it."""

from candlestep.data.errors import UnreadableFile
from candlestep.data.imports.formats.json_rows import read_json
from candlestep.data.imports.formats.sources import Source
from candlestep.data.imports.formats.tables import read_table
from candlestep.data.imports.formats.text import read_text
from candlestep.data.imports.perpetual.tiers import TierFile
from candlestep.data.imports.reading import ImportOptions, ReadFile, Report


def read_file(
    source: Source, options: ImportOptions, latest: int, report: Report | None = None
) -> ReadFile | TierFile:
    """Read a file of any format. ``latest`` is the latest plausible time, in microseconds.

    Raises ``UnreadableFile`` for a file that is empty, broken, or not recognised.
    """
    with source.open() as stream:
        start = stream.peek(64)[:64]
        if not start.strip():
            raise UnreadableFile(source.name, "it is empty")
        if start.startswith((b"PAR1", b"ARROW1", b"FEA1")):
            return read_table(source, stream, start, options, latest)
        if start.removeprefix(b"\xef\xbb\xbf").lstrip().startswith((b"[", b"{")):
            return read_json(source.name, stream, options, latest)
    return read_text(source, options, latest, report)
