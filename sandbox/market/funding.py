"""Funding rates of one perpetual: checked once, then read-only, shared, and looked up by time."""

from collections.abc import Mapping
from decimal import Decimal
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from candlestep.sandbox.clock import DAY, EARLIEST, HOUR, LATEST, format_time
from candlestep.sandbox.errors import InvalidParameter
from candlestep.sandbox.market.checks import Floats, Integers, check_symbol, floats, open_times
from candlestep.sandbox.market.fingerprint import DayDigests, Fingerprint
from candlestep.sandbox.market.symbols import name_of_candles
from candlestep.sandbox.money import MAXIMUM, decimal_of

USUAL_INTERVAL = 8 * HOUR
"""The funding interval of rates that do not tell theirs, in milliseconds."""


class FundingRow(msgspec.Struct, frozen=True, gc=False):
    """One settlement: its time and the interval it ends, in ms, and the rate as a fraction."""

    time: int
    rate: Decimal
    interval: int
    mark: Decimal | None
    """The mark price that the row itself gives; None if it has none."""


class FundingArrays(NamedTuple):
    """The contents of a ``FundingRates``: the symbol and read-only columns."""

    symbol: str
    columns: dict[str, NDArray[Any]]
    """``time``, ``rate``, ``interval`` and ``mark``, of one length."""


class FundingRates:
    """The funding rates of one perpetual, in order of time; no two rows have the same time.

    All arrays are read-only: a writable one is copied, a read-only one is shared.
    """

    def __init__(
        self,
        symbol: str,
        time: ArrayLike,
        rate: ArrayLike,
        interval: ArrayLike | None = None,
        mark: ArrayLike | None = None,
    ) -> None:
        """Check and store rows; raises ``InvalidParameter`` naming column and row.

        ``time`` is in milliseconds since the epoch (or ``datetime64``), strictly rising. ``rate``
        is a fraction between -1 and 1: what a long pays, of its notional, if it is positive. A
        float stands for its shortest representation. ``interval`` is the time between settlements
        in ms, by row; without it, it is derived from the times. ``mark`` is the mark price of the
        settlement, NaN in rows that have none.
        """
        check_symbol(symbol)
        times = open_times(time)
        rows = len(times)
        rates = floats("rate", rate)
        marks = np.full(rows, np.nan) if mark is None else floats("mark", mark)
        intervals = _intervals(times) if interval is None else _whole_column("interval", interval)
        columns = {"rate": rates, "interval": intervals, "mark": marks}
        for name, column in columns.items():
            if len(column) != rows:
                raise InvalidParameter(name, f"has {len(column)} values for {rows} times")
        _check(times, rates, intervals, marks)
        self._keep(name_of_candles(symbol), {"time": times} | columns)

    @classmethod
    def empty(cls, symbol: str) -> "FundingRates":
        """Return no rates."""
        return cls(symbol, np.empty(0, dtype=np.int64), np.empty(0))

    @classmethod
    def restore(
        cls, arrays: FundingArrays, day_digests: DayDigests | None = None
    ) -> "FundingRates":
        """Rebuild the rates whose ``arrays`` these are, without checks; arrays are shared."""
        restored = cls.__new__(cls)
        restored._keep(arrays.symbol, arrays.columns)
        restored._day_digests = day_digests or {}
        return restored

    def _keep(self, symbol: str, columns: Mapping[str, NDArray[Any]]) -> None:
        self.symbol = symbol
        self._day_digests: DayDigests = {}
        self.time: Integers = _read_only(columns["time"])
        self.rate: Floats = _read_only(columns["rate"])
        self.interval: Integers = _read_only(columns["interval"])
        self.mark: Floats = _read_only(columns["mark"])

    @property
    def arrays(self) -> FundingArrays:
        """The contents, from which ``restore`` rebuilds the rates, for example in another process."""
        columns = {name: getattr(self, name) for name in ("time", "rate", "interval", "mark")}
        return FundingArrays(self.symbol, columns)

    def __len__(self) -> int:
        return len(self.time)

    def __repr__(self) -> str:
        if not len(self):
            return f"FundingRates({self.symbol}, empty)"
        start, end = (format_time(int(self.time[row])) for row in (0, -1))
        return f"FundingRates({self.symbol}, {len(self)} from {start} to {end})"

    def __reduce__(self) -> tuple[Any, ...]:
        return FundingRates.restore, (self.arrays,)

    def __deepcopy__(self, memo: dict[int, Any]) -> "FundingRates":
        return self

    def row(self, index: int) -> FundingRow:
        """Return the row at ``index``, in decimals."""
        mark = float(self.mark[index])
        return FundingRow(
            int(self.time[index]),
            decimal_of(float(self.rate[index])),
            int(self.interval[index]),
            None if np.isnan(mark) else decimal_of(mark),
        )

    def has_row_at(self, time: int) -> bool:
        """Return whether there is a row of exactly ``time``."""
        row = self.first_after(time - 1)
        return row < len(self) and int(self.time[row]) == time

    def first_after(self, time: int) -> int:
        """Return the index of the first row later than ``time``; their number if there is none."""
        return int(np.searchsorted(self.time, time, side="right"))

    def between(self, start: int, end: int) -> "FundingRates":
        """Return the rows from ``start`` on up to ``end``."""
        first, stop = int(self.time.searchsorted(start)), self.first_after(end)
        if first == 0 and stop == len(self):
            return self
        columns = {name: column[first:stop] for name, column in self.arrays.columns.items()}
        return FundingRates.restore(FundingArrays(self.symbol, columns))

    def holes(self, start: int, end: int, candles_end: int) -> Integers:
        """Return the times after ``start`` and up to ``end`` at which a row is missing, in ms.

        Missing is every multiple of a row's interval after it, strictly before the next row;
        before the first row, every multiple of its interval backwards; after the last, every
        multiple until ``candles_end``, the last completion of the symbol's candles. Rates without
        any row lack one at every eighth hour of the day, UTC.
        """
        end = min(end, candles_end)
        if not len(self):
            first = start // USUAL_INTERVAL * USUAL_INTERVAL + USUAL_INTERVAL
            return np.arange(first, end + 1, USUAL_INTERVAL, dtype=np.int64)
        times, intervals = self.time.tolist(), self.interval.tolist()
        before = (times[0] - start - 1) // intervals[0]
        missing = [times[0] - count * intervals[0] for count in range(before, 0, -1)]
        wide = np.flatnonzero(np.diff(self.time) > self.interval[:-1]).tolist()
        for row in wide:
            missing += range(times[row] + intervals[row], times[row + 1], intervals[row])
        missing += range(times[-1] + intervals[-1], end + 1, intervals[-1])
        found = np.array(missing, dtype=np.int64)
        return found[(found > start) & (found <= end)]

    def filled(self, times: Integers, rate: float) -> "FundingRates":
        """Return these rates with further rows of ``rate`` at ``times``, the holes."""
        if not len(times):
            return self
        order = np.argsort(np.concatenate([self.time, times]), kind="stable")
        added = len(times)
        columns = {
            "time": np.concatenate([self.time, times])[order],
            "rate": np.concatenate([self.rate, np.full(added, rate)])[order],
            "mark": np.concatenate([self.mark, np.full(added, np.nan)])[order],
        }
        columns["interval"] = np.diff(columns["time"], append=columns["time"][-1] + USUAL_INTERVAL)
        return FundingRates.restore(FundingArrays(self.symbol, columns))

    def fingerprint(self, end: int) -> dict[str, str]:
        """Return a digest of each UTC month (``2024-10``) of the rows up to ``end``."""
        rows = self.first_after(end)
        return self._fingerprint.of(rows) if rows else {}

    @cached_property
    def _fingerprint(self) -> Fingerprint:
        numbers = (self.time, self.rate, self.interval, self.mark)

        def columns(start: int, stop: int) -> list[NDArray[Any]]:
            return [column[start:stop] for column in numbers]

        return Fingerprint(self.time, columns, self._day_digests)


def _intervals(times: Integers) -> Integers:
    """Return the interval of each row, derived from the times alone.

    It is the time to the next row, unless that is longer than the time from the row before and
    the row after next does not confirm it: then rows are missing, and it is the shorter one.
    """
    spaces = [after - before for before, after in pairwise(times.tolist())]
    if not spaces:
        return np.full(len(times), USUAL_INTERVAL, dtype=np.int64)
    intervals = [spaces[0]]
    for place in range(1, len(spaces)):
        before, after = spaces[place - 1], spaces[place]
        is_confirmed = place + 1 < len(spaces) and spaces[place + 1] == after
        intervals.append(after if after <= before or is_confirmed else min(before, intervals[-1]))
    return np.array([*intervals, intervals[-1]], dtype=np.int64)


def _whole_column(name: str, values: ArrayLike) -> Integers:
    column = np.asarray(values)
    if column.ndim != 1 or column.dtype.kind not in "iu":
        raise InvalidParameter(name, "must be one column of whole milliseconds")
    return column.astype(np.int64, copy=False)


def _check(times: Integers, rates: Floats, intervals: Integers, marks: Floats) -> None:
    """Raise ``InvalidParameter`` for the first broken rule, at the first row that breaks it."""
    is_late = np.zeros(len(times), dtype=bool)
    is_late[1:] = times[1:] <= times[:-1]
    has_mark = ~np.isnan(marks)
    with np.errstate(invalid="ignore"):
        rules: tuple[tuple[str, NDArray[Any], NDArray[np.bool_], str], ...] = (
            ("time", times, (times < EARLIEST) | (times > LATEST), "is not in the years 1 to 9999"),
            ("time", times, is_late, "is not later than in the row before"),
            ("rate", rates, ~(np.abs(rates) < 1), "is not between -1 and 1; give a fraction"),
            ("interval", intervals, (intervals <= 0) | (intervals > 100 * DAY), "is no interval"),
            ("mark", marks, has_mark & ~((marks > 0) & (marks <= float(MAXIMUM))), "is no price"),
        )
    for name, column, broken, reason in rules:
        if broken.any():
            row = int(broken.argmax())
            raise InvalidParameter(
                name, f"row {row} (time {times[row]}): {column[row]} {reason}", row=row
            )


def _read_only(column: NDArray[Any]) -> NDArray[Any]:
    column = np.array(column, order="C", copy=True if column.flags.writeable else None)
    column.flags.writeable = False
    return column
