"""Text files: CSV with any usual delimiter, preamble, header and footer.

Blocks of regular lines are parsed at once, all others row by row, to the same result.
"""

from candlestep.data.imports.formats.blocks import BlockParser
from candlestep.data.imports.formats.sources import Source
from candlestep.data.imports.formats.text_rows import TextRows
from candlestep.data.imports.reading import (
    ImportOptions,
    Problems,
    ReadFile,
    Report,
    RowParser,
    form_of_times,
    in_utc,
    joined,
)

BLOCK_SIZE = 8 << 20
"""The bytes of text that are parsed at once."""


def read_text(
    source: Source,
    options: ImportOptions,
    latest: int,
    report: Report | None,
    block_size: int = BLOCK_SIZE,
) -> ReadFile:
    """Read a text file. ``latest`` is the latest plausible time, in microseconds.

    Raises ``UnreadableFile`` for a file that is empty, broken, or not recognised.
    """
    with source.open() as stream:
        text = TextRows(source.name, stream, block_size, options.kind)
        form, example = form_of_times(source.name, text.layout, text.rows(), options)
    size = source.path.stat().st_size
    position = 0

    def note_position(read: int) -> None:
        nonlocal position
        position = read

    problems = Problems(source.name)
    parts, count = [], 0
    with source.open(note_position) as stream:
        text = TextRows(source.name, stream, block_size, options.kind)
        parser = RowParser(text.layout, form, latest, options.decimal, problems)
        with BlockParser(parser, text.delimiter) as blocks:
            for part in text.parsed(parser.parse, blocks.parse):
                parts.append(part)
                count += len(part)
                if report is not None:
                    report(count, max(count, round(count * size / max(position, 1))))
    rows = joined(parts) if parts else parser.parse([])
    file = ReadFile(source.name, rows, text.layout, problems, form.kind, text.symbol, text.left_out)
    return in_utc(file, form, example, latest)
