"""Messages between a ``FileReader`` and its process, as JSON.

The columns of candles and of funding rates are not among them: they are written to a file whose
descriptor follows each request.
"""

from typing import Any, TypeVar

import msgspec

from candlestep.data.imports.kinds import Kind
from candlestep.data.imports.reading import ImportOptions
from candlestep.data.imports.series import Taken
from candlestep.data.symbols import Pair
from candlestep.sandbox import MarginTiers

CANDLE_BYTES = 48
"""The bytes of a candle in the columns of a series: open time, open, high, low, close, volume."""
FUNDING_BYTES = 40
"""The bytes of a funding rate in columns: time, raw time, rate, interval, mark."""


class Request(msgspec.Struct, frozen=True):
    """A file to read. ``time`` is the present in milliseconds; None for the clock's."""

    path: str
    options: ImportOptions
    time: int | None


class RowsRead(msgspec.Struct, frozen=True, tag=True):
    """The number of rows read so far, and the total as far as it is known."""

    done: int
    total: int


class SeriesFound(msgspec.Struct, frozen=True, tag=True):
    """A series of a file, whose columns follow those of what is before it."""

    pair: Pair
    interval: int
    taken: Taken
    rows: int
    kind: Kind


class FundingFound(msgspec.Struct, frozen=True, tag=True):
    """Funding rates of a file, whose columns follow those of what is before them."""

    pair: Pair
    taken: Taken
    rows: int


class TiersFound(msgspec.Struct, frozen=True, tag=True):
    """Margin tiers of a file, which have no columns."""

    pair: Pair
    start: int
    tiers: MarginTiers
    taken: Taken


Found = SeriesFound | FundingFound | TiersFound


def bytes_of(found: Found) -> int:
    """Return the size of the columns of what was found."""
    match found:
        case SeriesFound():
            return CANDLE_BYTES * found.rows
        case FundingFound():
            return FUNDING_BYTES * found.rows
        case TiersFound():
            return 0


class Finished(msgspec.Struct, frozen=True, tag=True):
    """The contents of a file, and its SHA-256."""

    contents: list[Found]
    sha256: str


class Refused(msgspec.Struct, frozen=True, tag=True):
    """The error with which a file was refused; ``kind`` is the name of its class."""

    kind: str
    message: str
    details: dict[str, Any]


class NoMemory(msgspec.Struct, frozen=True, tag=True):
    """The file needs more memory than the process may have."""


Reply = RowsRead | Finished | Refused | NoMemory

Message = TypeVar("Message", bound=msgspec.Struct)

encode = msgspec.json.encode
decode_request = msgspec.json.Decoder(Request).decode
decode_reply = msgspec.json.Decoder(Reply).decode
