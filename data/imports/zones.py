"""The zones of times that a file does not name, but that its source is known to write."""

import re
from typing import NamedTuple

from candlestep.data.imports.layouts import Layout
from candlestep.data.imports.times import HOUR

_HISTDATA = re.compile(r"DAT_(?:ASCII|MT|NT|XLSX|MS)_|HISTDATA", re.IGNORECASE)


class SourceZone(NamedTuple):
    """The zone in which a source writes its times."""

    name: str
    """In the summary of an import."""
    delay: int
    """The microseconds that are added to its times to make them UTC."""
    note: str
    """A sentence on the change of the times, and the remedy if it is wrong."""


# https://www.histdata.com/f-a-q/: EST without daylight saving, in all of its formats. Where other
# programs write the same rows in UTC, candles are known later than they were, never earlier.
HISTDATA = SourceZone(
    "UTC-5, moved to UTC",
    5 * HOUR,
    "HistData writes times of UTC-5, without daylight saving: they were moved 5 hours, to UTC; if"
    " they are of another zone, add a header, and write their offset with them",
)
# https://www.mql5.com/en/docs/series/copyrates: times are those of the trade server.
METATRADER = SourceZone(
    "the broker's zone, taken for UTC",
    0,
    "MetaTrader writes times of the broker's server, whose zone the file does not name: they were"
    " taken for UTC; if the server is west of it, candles are known too early: write their offset"
    " with them, and give --time-format with %z",
)


def zone_of_source(file: str, layout: Layout) -> SourceZone | None:
    """Return the zone of times that name none, if the file's name or its layout tells the source."""
    if layout.source == "HistData" or _HISTDATA.match(file):
        return HISTDATA
    return METATRADER if layout.source == "MetaTrader" else None
