"""The columns of candle files: found by their names, and parsed into times and numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from candlestep.data.errors import BadRow, BadRows, UnreadableFile

PRICES = ("open", "high", "low", "close")
NUMBERS = (*PRICES, "volume")

_ALIASES = {
    "time": ("open_time", "opentime", "timestamp", "datetime", "unix", "ts", "time", "date", "t"),
    "open": ("open", "open_price", "o"),
    "high": ("high", "high_price", "h"),
    "low": ("low", "low_price", "l"),
    "close": ("close", "close_price", "c"),
    "volume": ("volume", "vol", "base_volume", "v"),
}
_SECONDS_BELOW, _MILLISECONDS_BELOW, _MICROSECONDS_BELOW = 1e11, 1e14, 1e17
"""Magnitudes that separate the units of time: 1e11 is the year 5138 in seconds, 1973 in ms."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass
class RawCandles:
    """The candles of a file in its order, parsed but not yet checked."""

    line: Integers
    """The line or row of each candle in the file, from 1."""
    open_time: Integers
    """Microseconds since the epoch."""
    numbers: dict[str, Floats]
    """The columns open, high, low, close and, if there is one, volume."""


@dataclass
class Unparsable:
    """The rows of a file that could not be parsed: the first ones, and their number."""

    unit: str = "line"
    first: list[BadRow] = field(default_factory=list)
    count: int = 0

    def add(self, line: int, reason: str) -> None:
        """Count a bad row; rows must come in the order of the file."""
        self.count += 1
        if self.count <= BadRows.SHOWN:
            self.first.append(BadRow(line, reason))


def find_columns(file: str, names: Sequence[str]) -> dict[str, int]:
    """Return the indexes of the columns time, open, high, low, close and, if present, volume.

    Names match regardless of case. Raises ``UnreadableFile`` if a column is missing.
    """
    seen = [name.strip().lower().replace(" ", "_").replace("-", "_") for name in names]
    indexes = {
        meaning: next((seen.index(alias) for alias in aliases if alias in seen), None)
        for meaning, aliases in _ALIASES.items()
    }
    shown = ", ".join(name[:30] for name in names[:15])
    if indexes["volume"] is None and not any("vol" in name for name in seen):
        del indexes["volume"]
    columns = {meaning: index for meaning, index in indexes.items() if index is not None}
    missing = [meaning for meaning in indexes if meaning not in columns]
    if missing:
        raise UnreadableFile(
            file,
            f"no column for {', '.join(missing)}; it has: {shown}. Name the columns timestamp,"
            " open, high, low, close, volume",
        )
    return columns


def parse_columns(
    columns: Mapping[str, Sequence[Any]], line: Integers, bad: Unparsable
) -> RawCandles:
    """Parse the columns ``time``, ``open`` … ``volume``; rows that fail are added to ``bad``.

    Values are text or numbers. Prices are parsed by Python's ``float``.
    """
    try:
        return RawCandles(
            line,
            parse_times(columns["time"]),
            {name: parse_numbers(columns[name]) for name in columns if name != "time"},
        )
    except (ValueError, OverflowError):
        if len(line) == 1:
            bad.add(int(line[0]), _explain({name: columns[name][0] for name in columns}))
            return RawCandles(
                line[:0], line[:0], {name: np.empty(0) for name in columns if name != "time"}
            )
    # Whole columns are parsed fast; halving them finds the few rows that fail.
    middle = len(line) // 2
    return join_parts(
        [
            parse_columns({name: columns[name][half] for name in columns}, line[half], bad)
            for half in (slice(None, middle), slice(middle, None))
        ]
    )


def join_parts(parts: Sequence[RawCandles]) -> RawCandles:
    """Return the parts of a file, at least one, as one."""
    if len(parts) == 1:
        return parts[0]
    return RawCandles(
        np.concatenate([part.line for part in parts]),
        np.concatenate([part.open_time for part in parts]),
        {name: np.concatenate([part.numbers[name] for part in parts]) for name in parts[0].numbers},
    )


def parse_times(values: Sequence[Any]) -> Integers:
    """Return ISO 8601 text, or numbers in s, ms or µs, as microseconds since the epoch.

    Text without an offset is UTC. Raises ``ValueError`` for a value that is not a time.
    """
    if values and isinstance(values[0], str) and not _is_number(values[0]):
        return _iso_times(values)
    return unit_times(parse_numbers(values))


def unit_times(values: Floats) -> Integers:
    """Return numbers in s, ms or µs, told apart by magnitude, as microseconds since the epoch.

    Raises ``ValueError``.
    """
    if not ((values >= 0) & (values < _MICROSECONDS_BELOW)).all():
        raise ValueError("is not a time in seconds, milliseconds or microseconds")
    factor = np.where(values < _MILLISECONDS_BELOW, 1e3, 1.0)
    factor[values < _SECONDS_BELOW] = 1e6
    return np.rint(values * factor).astype(np.int64)


def parse_numbers(values: Sequence[Any]) -> Floats:
    """Parse numbers, or text as Python's ``float`` does but without ``_`` and non-ASCII digits.

    Raises ``ValueError``.
    """
    kinds = set(map(type, values))
    if kinds - {str, int, float}:
        raise ValueError("is not a number")
    if str in kinds:
        texts = values if len(kinds) == 1 else [v for v in values if isinstance(v, str)]
        together = "".join(texts)
        if "_" in together or not together.isascii():
            raise ValueError("is not a number")
    return np.fromiter(map(float, values), np.float64, len(values))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _iso_times(texts: Sequence[str]) -> Integers:
    moments = [datetime.fromisoformat(text.strip().removesuffix(" UTC")) for text in texts]
    if all(moment.tzinfo is None for moment in moments):
        return np.array(moments, dtype="datetime64[us]").astype(np.int64)
    aware = (m if m.tzinfo else m.replace(tzinfo=UTC) for m in moments)
    return np.fromiter(((m - _EPOCH) // _MICROSECOND for m in aware), np.int64, len(moments))


def _explain(row: dict[str, Any]) -> str:
    """Return the reason why a row cannot be parsed."""
    for name, value in row.items():
        try:
            (parse_times if name == "time" else parse_numbers)([value])
        except (ValueError, OverflowError):
            return _reason(name, value)
    raise AssertionError("the row can be parsed")


def _reason(name: str, value: Any) -> str:
    if value is None or (isinstance(value, str) and not value.strip()):
        return f"{name} is missing"
    shown = str(value)[:40]
    if name == "time":
        return f"time {shown!r} is neither ISO 8601 nor a number of s, ms or µs since 1970"
    return f"{name} {shown!r} is not a number"
