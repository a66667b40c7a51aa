"""Checks of the columns that candles are made of, each refusal naming the row."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from candlestep.sandbox.clock import EARLIEST, LATEST, MINUTE, interval_name
from candlestep.sandbox.errors import InvalidCandles, InvalidParameter
from candlestep.sandbox.money import MAXIMUM

MAXIMUM_VOLUME = 1e24
"""Largest volume of a candle."""

_DOUBLE = np.dtype(np.float64)

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]


def open_times(values: ArrayLike) -> Integers:
    times = np.asarray(values)
    if times.dtype.kind == "M":
        times = times.astype("datetime64[ms]").astype(np.int64)
    if times.ndim != 1 or times.dtype.kind not in "iu":
        raise InvalidParameter(
            "open_time",
            "must be one column of whole milliseconds since 1970, or datetime64;"
            " parse_time parses ISO 8601",
        )
    return times.astype(np.int64, copy=False)


def floats(name: str, values: ArrayLike) -> Floats:
    try:
        column = np.asarray(values)
        if column.dtype.kind == "f" and column.itemsize < _DOUBLE.itemsize:
            column = column.astype(str)  # The shortest decimal of a float32, as of a single one.
        column = column.astype(_DOUBLE, copy=False)
    except (TypeError, ValueError, OverflowError):
        raise InvalidParameter(name, "must be a column of numbers") from None
    if column.ndim != 1:
        raise InvalidParameter(name, "must be one column")
    return column


def check_symbol(symbol: str) -> None:
    if not isinstance(symbol, str) or not symbol:
        raise InvalidParameter("symbol", "must be a non-empty string such as 'BTCUSDT'")


def check_rows(times: Integers, interval: int, columns: dict[str, Floats]) -> None:
    """Raise ``InvalidCandles`` for the first broken rule, at the first row that breaks it."""
    rows = len(times)
    if rows == 0:
        raise InvalidParameter("open_time", "must have at least one candle")
    for name, column in columns.items():
        if len(column) != rows:
            raise InvalidCandles(
                name, f"has {len(column)} values for {rows} open times", row=min(len(column), rows)
            )
    for name, column in columns.items():
        _refuse_rows(~np.isfinite(column), name, "is not a finite number", column, times)
        if name == "volume":
            _refuse_rows(np.signbit(column), name, "is negative", column, times)
            _refuse_rows(column > MAXIMUM_VOLUME, name, "is above 1e24", column, times)
        else:
            _refuse_rows(column <= 0, name, "is not positive", column, times)
            _refuse_rows(column > float(MAXIMUM), name, f"is above {MAXIMUM:f}", column, times)
    outside = (times < EARLIEST) | (times > LATEST - interval)
    reason = "is not within the years 1 to 9999; it must be in milliseconds"
    _refuse_rows(outside, "open_time", reason, times, times)
    reason = "is not a whole minute; it must be in milliseconds, UTC"
    _refuse_rows(times % MINUTE != 0, "open_time", reason, times, times)
    behind = np.zeros(rows, dtype=bool)
    behind[1:] = times[1:] == times[:-1]
    _refuse_rows(behind, "open_time", "is the same as in the row before", times, times)
    behind[1:] = times[1:] < times[:-1]
    _refuse_rows(behind, "open_time", "is earlier than in the row before", times, times)
    behind[1:] = times[1:] - times[:-1] < interval
    reason = f"is less than {interval_name(interval)} after the row before, so that they overlap"
    _refuse_rows(behind, "open_time", reason, times, times)
    low, high = columns["low"], columns["high"]
    for name in ("open", "close"):
        _refuse_rows(low > columns[name], "low", f"is above the {name}", low, times)
        _refuse_rows(high < columns[name], "high", f"is below the {name}", high, times)


def _refuse_rows(
    bad: NDArray[np.bool_], name: str, reason: str, column: NDArray[Any], times: Integers
) -> None:
    if bad.any():
        row = int(bad.argmax())
        raise InvalidCandles(
            name, f"row {row} (open_time {times[row]}): {column[row]} {reason}", row=row
        )
