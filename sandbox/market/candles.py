"""Candles of one symbol: checked once, then read-only, shared, and looked up by time."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import cached_property
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from candlestep.sandbox.clock import EARLIEST, LATEST, format_time, interval_name, parse_interval
from candlestep.sandbox.errors import InvalidCandles, InvalidParameter
from candlestep.sandbox.market.fingerprint import Fingerprint
from candlestep.sandbox.market.fixed_point import FixedPoint, fixed_point
from candlestep.sandbox.market.price_index import PriceIndex
from candlestep.sandbox.money import MARKET, MAXIMUM, decimal_of

MAXIMUM_VOLUME = 1e24
"""Largest volume of a candle."""
_INT64_HEADROOM = 2**62
VOLUME_WINDOW = 60
"""Number of candles in the average volume of the slippage model."""

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]


class Candle(msgspec.Struct, frozen=True, gc=False):
    """One candle: times in milliseconds, prices in quote currency, volume in base currency."""

    open_time: int
    complete_time: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal

    @property
    def low_is_nearer(self) -> bool:
        """True if the low is at least as near to the open as the high."""
        return MARKET.subtract(self.open, self.low) <= MARKET.subtract(self.high, self.open)


class RecentVolume(NamedTuple):
    """The exact volume of the latest candles of one interval, and their number."""

    total: Decimal
    candles: int


class FirstOpen(NamedTuple):
    """The time (ms) and price at which the first candle opened."""

    time: int
    price: float


class CandleArrays(NamedTuple):
    """The contents of a ``Candles``: plain values and read-only columns."""

    symbol: str
    intervals: tuple[int, ...]
    first_open: FirstOpen
    columns: dict[str, NDArray[Any]]
    """Columns of one length, by the names in ``COLUMNS``."""


PRICES = ("open", "high", "low", "close", "volume")
"""The columns of numbers other than times."""
COLUMNS = {
    **dict.fromkeys(("open_time", "complete_time"), np.dtype(np.int64)),
    **dict.fromkeys(PRICES, np.dtype(np.float64)),
}
"""The columns of candles, and the type of each."""


class Candles:
    """The candles of one symbol: in order, without overlaps; gaps are allowed.

    They are built from arrays of a single interval; ``merge`` combines several. All arrays are
    read-only: a writable one is copied, a read-only one is shared.
    """

    def __init__(
        self,
        *,
        symbol: str,
        interval: str | int,
        open_time: ArrayLike,
        open: ArrayLike,
        high: ArrayLike,
        low: ArrayLike,
        close: ArrayLike,
        volume: ArrayLike | None = None,
    ) -> None:
        """Check and store candles of one ``interval`` (a name such as ``"1m"``, or seconds).

        ``open_time`` is in milliseconds since the epoch (or ``datetime64``); ``volume`` may be
        left out if the data has none. Raises ``InvalidCandles``, which names the row.
        """
        length = parse_interval(interval)
        times = _times(open_time)
        columns = {
            "open": _floats("open", open),
            "high": _floats("high", high),
            "low": _floats("low", low),
            "close": _floats("close", close),
            "volume": np.zeros(len(times)) if volume is None else _floats("volume", volume),
        }
        _check_symbol(symbol)
        _check_rows(times, length, columns)
        times_of = {"open_time": times, "complete_time": times + length}
        self._keep(symbol, (length,), times_of | columns)

    @classmethod
    def merge(cls, series: Sequence["Candles"]) -> "Candles":
        """Combine several series of one symbol, each of another interval.

        The result has every finest candle, and a coarser one only if no finer one opens inside it.
        """
        if len({candles.symbol for candles in series}) != 1:
            raise InvalidParameter("symbol", "candles of different symbols cannot be merged")
        if len(series) == 1:
            return series[0]
        by_interval = sorted(series, key=lambda candles: candles.intervals[0])
        intervals = tuple(candles.intervals[0] for candles in by_interval)
        if len(set(intervals)) != len(intervals) or any(len(s.intervals) > 1 for s in series):
            raise InvalidParameter(
                "interval",
                "to be merged, each series must have a single interval, and no two the same",
            )
        masks = [np.ones(len(by_interval[0]), dtype=bool)]
        for coarse, finer in zip(by_interval[1:], range(1, len(series)), strict=True):
            inside = sum(_openings_inside(coarse, fine) for fine in by_interval[:finer])
            masks.append(np.equal(inside, 0))

        def column(name: str) -> NDArray[Any]:
            parts = zip(by_interval, masks, strict=True)
            return np.concatenate([getattr(candles, name)[mask] for candles, mask in parts])

        order = np.argsort(column("open_time"), kind="stable")
        merged = cls.__new__(cls)
        columns = {name: column(name)[order] for name in COLUMNS}
        merged._keep(series[0].symbol, intervals, columns)
        # The first candle to open may be a coarse one that finer ones inside it replace.
        merged.first_open = min((s.first_open for s in by_interval), key=lambda first: first.time)
        return merged

    @classmethod
    def restore(cls, arrays: CandleArrays) -> "Candles":
        """Rebuild the candles whose ``arrays`` these are, without checks; arrays are shared."""
        restored = cls.__new__(cls)
        restored._keep(arrays.symbol, arrays.intervals, arrays.columns)
        restored.first_open = arrays.first_open
        return restored

    @property
    def arrays(self) -> CandleArrays:
        """The contents, from which ``restore`` rebuilds the candles, for example in another process."""
        columns = {name: getattr(self, name) for name in COLUMNS}
        return CandleArrays(self.symbol, self.intervals, self.first_open, columns)

    def _keep(
        self, symbol: str, intervals: tuple[int, ...], columns: Mapping[str, NDArray[Any]]
    ) -> None:
        self.symbol = symbol
        self.intervals = intervals
        """Intervals of the candles, finest first, in milliseconds."""
        self.open_time: Integers = _read_only(columns["open_time"])
        self.complete_time: Integers = _read_only(columns["complete_time"])
        self.open: Floats = _read_only(columns["open"])
        self.high: Floats = _read_only(columns["high"])
        self.low: Floats = _read_only(columns["low"])
        self.close: Floats = _read_only(columns["close"])
        self.volume: Floats = _read_only(columns["volume"])
        # Elements of a memoryview are plain numbers, and twice as fast as those of an array.
        self._complete_times = self.complete_time.data
        self.closes: Sequence[float] = self.close.data
        """The closes, for single look-ups."""
        self.first_open = FirstOpen(int(self.open_time[0]), float(self.open[0]))
        """The price before the first candle is complete."""
        self._first_complete = int(self.complete_time[0])
        self._finest = intervals[0]
        self._length = len(self.open_time)
        span = int(self.complete_time[-1]) - self._first_complete
        self._is_regular = len(intervals) == 1 and span == (self._length - 1) * self._finest

    def __len__(self) -> int:
        return self._length

    def __repr__(self) -> str:
        names = "+".join(interval_name(interval) for interval in self.intervals)
        start, end = format_time(int(self.open_time[0])), format_time(int(self.complete_time[-1]))
        return f"Candles({self.symbol} {names}, {len(self)} from {start} to {end})"

    def finest_complete(self, time: int) -> int | None:
        """Return the finest interval with a candle complete at ``time``; None before the first."""
        complete = [length for length, first in self._first_completions if first <= time]
        return min(complete, default=None)

    @cached_property
    def _first_completions(self) -> list[tuple[int, int]]:
        """Each interval, and the time at which its first candle is complete."""
        lengths = self.complete_time - self.open_time
        return [
            (interval, int(self.complete_time[np.argmax(lengths == interval)]))
            for interval in self.intervals
            if (lengths == interval).any()
        ]

    def last_complete(self, time: int) -> int:
        """Return the index of the latest candle complete at ``time``, or -1. O(1) without gaps."""
        index = (time - self._first_complete) // self._finest
        last = self._length - 1
        if self._is_regular:
            return index if 0 <= index < last else -1 if index < 0 else last
        complete = self._complete_times
        if 0 <= index < last and complete[index] <= time < complete[index + 1]:
            return index
        return bisect_right(complete, time) - 1

    def has_any(self, start: int, end: int) -> bool:
        """Return whether a candle, or a part of one, lies between two times."""
        index = self.last_complete(start) + 1
        return index < len(self) and int(self.open_time[index]) < end

    def last_complete_at(self, times: Integers) -> Integers:
        """Return ``last_complete`` of each of ``times``, as an array."""
        if self._is_regular:
            steps = (times - self._first_complete) // self._finest
            return np.clip(steps, -1, self._length - 1, out=steps)
        return np.searchsorted(self.complete_time, times, side="right") - 1

    def price(self, time: int) -> Decimal | None:
        """Return the close of the latest candle complete at ``time``.

        Before the first complete candle, it is the open of the first one; before that, None.
        """
        index = self.last_complete(time)
        if index >= 0:
            return decimal_of(self.closes[index])
        first = self.first_open
        return decimal_of(first.price) if time >= first.time else None

    @cached_property
    def price_units(self) -> FixedPoint:
        """The first open, then every close, as exact integers.

        The price at a time is thus the element after its ``last_complete``.
        """
        return fixed_point(np.concatenate([[self.first_open.price], self.close]))

    def candle(self, index: int) -> Candle:
        """Return the candle at ``index``, in decimals."""
        return Candle(
            int(self.open_time[index]),
            int(self.complete_time[index]),
            decimal_of(float(self.open[index])),
            decimal_of(float(self.high[index])),
            decimal_of(float(self.low[index])),
            decimal_of(float(self.close[index])),
            decimal_of(float(self.volume[index])),
        )

    def interval(self, index: int) -> int:
        """Return the interval of the candle at ``index``, in milliseconds."""
        return int(self.complete_time[index] - self.open_time[index])

    def first_touch(
        self, below: float, above: float, start: int, stop: int, *, close_only: bool = False
    ) -> int:
        """Return the first candle in ``[start, stop)`` whose range reaches ``below`` or ``above``.

        Returns ``stop`` if none does. This is a filter in floats: decimals that are rounded to
        floats miss no candle, because rounding never swaps two numbers. With ``close_only`` the
        close alone counts.
        """
        index = self._close_index if close_only else self._range_index
        return index.first_touch(below, above, start, stop)

    def fingerprint(self, end: int) -> dict[str, str]:
        """Return a digest of each UTC month (``2024-10``) of the candles complete at ``end``.

        ``first_open`` has the price before the first complete candle, if it is visible by then.
        """
        first = self.first_open
        if end < first.time:
            return {}
        months = self._fingerprint.of(self.last_complete(end) + 1)
        return {"first_open": f"{format_time(first.time)} {first.price!r}"} | months

    @cached_property
    def _fingerprint(self) -> Fingerprint:
        return Fingerprint(self.arrays.columns)

    def prepare(self) -> None:
        """Build the indexes that orders and valuations use, instead of at their first use.

        Linear: about 60 ms for a year of minutes, seconds where prices have 16 digits or more.
        """
        _ = self.price_units, self.volume_units, self._volumes, self._first_with_volume
        _ = self._range_index, self._first_completions, self._fingerprint

    @cached_property
    def _range_index(self) -> PriceIndex:
        return PriceIndex(self.low, self.high)

    @cached_property
    def _close_index(self) -> PriceIndex:
        return PriceIndex(self.close, self.close)

    @cached_property
    def volume_units(self) -> FixedPoint:
        """Every volume as exact integers."""
        return fixed_point(self.volume)

    @cached_property
    def _first_with_volume(self) -> int:
        return int(np.argmax(self.volume > 0)) if (self.volume > 0).any() else self._length

    @cached_property
    def _volumes(self) -> dict[int, "_Granularity"]:
        return {interval: _Granularity(self, interval) for interval in self.intervals}

    def recent_volume(self, stop: int, interval: int) -> RecentVolume | None:
        """Return the volume of the last 60 candles of ``interval`` before index ``stop``.

        None if there are none, or if no candle before ``stop``, of any interval, had volume.
        """
        if self._first_with_volume >= stop:
            return None
        recent = self._volumes[interval].recent(stop)
        return recent if recent.candles else None


class _Granularity:
    """The volumes of the candles of one interval, as exact running totals."""

    def __init__(self, candles: Candles, interval: int) -> None:
        units, self._digits, largest = candles.volume_units
        self._rows: Integers | None = None
        if len(candles.intervals) > 1:
            lengths = candles.complete_time - candles.open_time
            self._rows = np.flatnonzero(lengths == interval)
            units = units[self._rows]
        if largest * len(units) >= _INT64_HEADROOM:
            units = units.astype(object)
        self._totals = np.concatenate([units[:1] * 0, np.cumsum(units)])

    def recent(self, stop: int) -> RecentVolume:
        if self._rows is not None:
            stop = int(self._rows.searchsorted(stop))
        start = max(0, stop - VOLUME_WINDOW)
        total = int(self._totals[stop] - self._totals[start])
        return RecentVolume(Decimal(f"{total}e-{self._digits}"), stop - start)


def _openings_inside(coarse: Candles, fine: Candles) -> Integers:
    """Count the candles of ``fine`` that open inside each candle of ``coarse``."""
    before = np.searchsorted(fine.open_time, coarse.open_time)
    return np.searchsorted(fine.open_time, coarse.complete_time) - before


def _read_only(column: NDArray[Any]) -> NDArray[Any]:
    column = np.array(column, order="C", copy=True if column.flags.writeable else None)
    column.flags.writeable = False
    return column


def _times(values: ArrayLike) -> Integers:
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


def _floats(name: str, values: ArrayLike) -> Floats:
    try:
        column = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise InvalidParameter(name, "must be a column of numbers") from None
    if column.ndim != 1:
        raise InvalidParameter(name, "must be one column")
    return column


def _check_symbol(symbol: str) -> None:
    if not isinstance(symbol, str) or not symbol:
        raise InvalidParameter("symbol", "must be a non-empty string such as 'BTCUSDT'")


def _check_rows(times: Integers, interval: int, columns: dict[str, Floats]) -> None:
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
    reason = "is not a multiple of the interval; it must be in milliseconds, UTC"
    _refuse_rows(times % interval != 0, "open_time", reason, times, times)
    behind = np.zeros(rows, dtype=bool)
    behind[1:] = times[1:] == times[:-1]
    _refuse_rows(behind, "open_time", "is the same as in the row before", times, times)
    behind[1:] = times[1:] < times[:-1]
    _refuse_rows(behind, "open_time", "is earlier than in the row before", times, times)
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
