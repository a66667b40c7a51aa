"""Candles of one symbol: checked once, then read-only, shared, and looked up by time."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import cached_property
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from candlestep.sandbox.clock import bucket_start, format_time, interval_name, parse_interval
from candlestep.sandbox.errors import InvalidParameter
from candlestep.sandbox.market.checks import check_rows, check_symbol, floats, open_times
from candlestep.sandbox.market.fingerprint import DayDigests, Fingerprint
from candlestep.sandbox.market.fixed_point import FixedPoint, fixed_point
from candlestep.sandbox.market.frames import Frame, candle_columns, pandas_frame
from candlestep.sandbox.market.price_index import PriceIndex, Retreat
from candlestep.sandbox.market.spans import Span
from candlestep.sandbox.market.symbols import name_of_candles
from candlestep.sandbox.market.volumes import IntervalVolume, RecentVolume, VolumeTotals
from candlestep.sandbox.money import MARKET, Whole, decimal_of

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


class FirstOpen(NamedTuple):
    """The time (ms) and price at which the first candle opened."""

    time: int
    price: float


class Straddling(NamedTuple):
    """The open time (ms) and the interval (ms) of a candle that lies in two coarser periods."""

    open_time: int
    interval: int


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

    A candle opens at any whole minute. They are built from arrays of a single interval; ``merge``
    combines several. All arrays are read-only: a writable one is copied, a read-only one is shared.
    """

    def __init__(
        self,
        *,
        symbol: str,
        interval: str | Whole,
        open_time: ArrayLike,
        open: ArrayLike,
        high: ArrayLike,
        low: ArrayLike,
        close: ArrayLike,
        volume: ArrayLike | None = None,
    ) -> None:
        """Check and store candles of one ``interval`` (a name such as ``"1m"``, or seconds).

        ``symbol`` has one spelling: ``BTC/USDT`` and ``btcusdt`` are kept as ``BTCUSDT``.
        ``open_time`` is in milliseconds since the epoch (or ``datetime64``); ``volume`` may be
        left out if the data has none. Raises ``InvalidCandles``, which names the row, and
        ``InvalidSymbol`` for the name of a contract.
        """
        length = parse_interval(interval)
        times = open_times(open_time)
        columns = {
            "open": floats("open", open),
            "high": floats("high", high),
            "low": floats("low", low),
            "close": floats("close", close),
            "volume": np.zeros(len(times)) if volume is None else floats("volume", volume),
        }
        check_symbol(symbol)
        symbol = name_of_candles(symbol)
        check_rows(times, length, columns)
        times_of = {"open_time": times, "complete_time": times + length}
        self._keep(symbol, (length,), times_of | columns)

    @classmethod
    def from_dataframe(cls, frame: Any, *, symbol: str, interval: str | Whole) -> "Candles":
        """Return the candles in a data frame of pandas or polars, or in an Arrow table.

        Columns are told by their usual names in any case (``open_time``, ``timestamp``, ``Date``,
        …, ``Open``, ``high``, ``c``, ``Volume``); a pandas index of times is used. Times are those
        at which candles open: ``datetime64`` of any zone (UTC without one), whole milliseconds or
        ISO 8601. Raises the errors of ``Candles``, ``InvalidParameter`` naming what is missing,
        and ``ImportError`` without narwhals.
        """
        columns = candle_columns(frame, symbol, parse_interval(interval))
        return cls(symbol=symbol, interval=interval, **columns)

    def to_frame(self) -> Frame:
        """Return the candles as a pandas frame, by ``open_time``; times are in UTC.

        Raises ``ImportError`` without pandas.
        """
        columns = {
            name: column.astype("datetime64[ms]") if COLUMNS[name].kind == "i" else column
            for name, column in self.arrays.columns.items()
        }
        return pandas_frame(columns, index="open_time")

    @classmethod
    def merge(cls, series: Sequence["Candles"]) -> "Candles":
        """Combine several series of one symbol, each of another interval.

        The result has every finest candle, and a coarser one only if no finer one overlaps it.
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
            overlaps = [_overlaps(coarse, fine) for fine in by_interval[:finer]]
            masks.append(~np.logical_or.reduce(overlaps))

        def column(name: str) -> NDArray[Any]:
            parts = zip(by_interval, masks, strict=True)
            return np.concatenate([getattr(candles, name)[mask] for candles, mask in parts])

        order = np.argsort(column("open_time"), kind="stable")
        merged = cls.__new__(cls)
        columns = {name: column(name)[order] for name in COLUMNS}
        merged._keep(series[0].symbol, intervals, columns)
        # The first candle to open may be a coarse one that finer ones replace.
        merged.first_open = min((s.first_open for s in by_interval), key=lambda first: first.time)
        return merged

    @classmethod
    def restore(cls, arrays: CandleArrays, day_digests: DayDigests | None = None) -> "Candles":
        """Rebuild the candles whose ``arrays`` these are, without checks; arrays are shared.

        ``day_digests`` are those of days of which the candles are whole, if they are known. The
        completions of candles of a single interval may be left out, to save memory; they are then
        computed when they are used.
        """
        restored = cls.__new__(cls)
        restored._keep(arrays.symbol, arrays.intervals, arrays.columns)
        restored._day_digests = day_digests or {}
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
        self._day_digests: DayDigests = {}
        self.intervals = intervals
        """Intervals of the candles, finest first, in milliseconds."""
        self.open_time: Integers = _read_only(columns["open_time"])
        self.open: Floats = _read_only(columns["open"])
        self.high: Floats = _read_only(columns["high"])
        self.low: Floats = _read_only(columns["low"])
        self.close: Floats = _read_only(columns["close"])
        self.volume: Floats = _read_only(columns["volume"])
        self._finest = intervals[0]
        # Completions that are left out are these times and the delay.
        self._times, self._delay = self.open_time, self._finest
        if "complete_time" in columns:
            self._times, self._delay = _read_only(columns["complete_time"]), 0
        # Elements of a memoryview are plain numbers, and twice as fast as those of an array.
        self._plain_times = self._times.data
        self.closes: Sequence[float] = self.close.data
        """The closes, for single look-ups."""
        self.first_open = FirstOpen(int(self.open_time[0]), float(self.open[0]))
        """The price before the first candle is complete."""
        self._first_complete = self._plain_times[0] + self._delay
        self._length = len(self.open_time)
        span = self._plain_times[-1] - self._plain_times[0]
        self._straddling: dict[int, Straddling | None] = {}
        self._is_regular = len(intervals) == 1 and span == (self._length - 1) * self._finest

    def __len__(self) -> int:
        return self._length

    def __repr__(self) -> str:
        names = "+".join(interval_name(interval) for interval in self.intervals)
        start, end = format_time(int(self.open_time[0])), format_time(self.complete_time_of(-1))
        return f"Candles({self.symbol} {names}, {len(self)} from {start} to {end})"

    def __reduce__(self) -> tuple[Any, ...]:
        return Candles.restore, (self.arrays,)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Candles":
        return self

    @property
    def complete_time(self) -> Integers:
        """The time at which each candle is complete."""
        return self.completions(0, self._length)

    def completions(self, start: int, stop: int) -> Integers:
        """Return ``complete_time`` of the candles in ``[start, stop)``."""
        times = self._times[start:stop]
        return times + self._delay if self._delay else times

    def completes_with(self, other: "Candles") -> bool:
        """Return whether these candles and ``other`` complete at the same times."""
        if self._times is other._times and self._delay == other._delay:
            return True
        if len(self) != len(other):
            return False
        shift = other._delay - self._delay
        return np.array_equal(self._times, other._times + shift if shift else other._times)

    def complete_time_of(self, index: int) -> int:
        """Return the time at which the candle at ``index`` is complete."""
        return self._plain_times[index] + self._delay

    def finest_complete(self, time: int) -> int | None:
        """Return the finest interval with a candle complete at ``time``; None before the first."""
        complete = [length for length, first in self._first_completions if first <= time]
        return min(complete, default=None)

    @cached_property
    def _first_completions(self) -> list[tuple[int, int]]:
        """Each interval, and the time at which its first candle is complete."""
        if len(self.intervals) == 1:
            return [(self._finest, self._first_complete)]
        lengths = self.complete_time - self.open_time
        return [
            (interval, int(self.complete_time[np.argmax(lengths == interval)]))
            for interval in self.intervals
            if (lengths == interval).any()
        ]

    def first_straddling(self, interval: int) -> Straddling | None:
        """Return the first candle finer than ``interval`` ms that lies in two of its buckets.

        Linear, and kept.
        """
        if interval not in self._straddling:
            completions = self.complete_time
            lengths = completions - self.open_time
            ends = bucket_start(self.open_time, interval) + interval
            rows = np.flatnonzero((lengths < interval) & (completions > ends))[:1].tolist()
            first = [Straddling(int(self.open_time[row]), int(lengths[row])) for row in rows]
            self._straddling[interval] = first[0] if first else None
        return self._straddling[interval]

    def last_complete(self, time: int) -> int:
        """Return the index of the latest candle complete at ``time``, or -1. O(1) without gaps."""
        index = (time - self._first_complete) // self._finest
        last = self._length - 1
        if self._is_regular:
            return index if 0 <= index < last else -1 if index < 0 else last
        times = self._plain_times
        time -= self._delay
        if 0 <= index < last and times[index] <= time < times[index + 1]:
            return index
        return bisect_right(times, time) - 1

    def has_any(self, start: int, end: int) -> bool:
        """Return whether a candle, or a part of one, lies between two times."""
        index = self.last_complete(start) + 1
        return index < len(self) and int(self.open_time[index]) < end

    def covered(self, start: int, end: int) -> list[Span]:
        """Return the parts of the time between ``start`` and ``end`` that candles cover, in ms.

        Candles that follow one another without a gap are one span. Linear in the number of gaps.
        """
        first = self.last_complete(start) + 1
        stop = int(self.open_time.searchsorted(end))
        if first >= stop or start >= end:
            return []
        between = slice(*self._after_gaps.searchsorted([first + 1, stop]))
        after = self._after_gaps[between]
        starts, ends = (
            self.open_time[after].tolist(),
            (self._times[after - 1] + self._delay).tolist(),
        )
        opened = max(int(self.open_time[first]), start)
        complete = min(self.complete_time_of(stop - 1), end)
        return list(zip([opened, *starts], [*ends, complete], strict=True))

    def between(self, start: int, end: int) -> "Candles | None":
        """Return the candles that open from ``start`` on and are complete by ``end``; None if none."""
        arrays = self.arrays
        first = int(self.open_time.searchsorted(start))
        stop = self.last_complete(end) + 1
        if first >= stop:
            return None
        if first == 0 and stop == len(self):
            return self
        columns = {name: column[first:stop] for name, column in arrays.columns.items()}
        opened = arrays.first_open
        if first:
            opened = FirstOpen(int(self.open_time[first]), float(self.open[first]))
        return Candles.restore(arrays._replace(first_open=opened, columns=columns))

    def last_complete_at(self, times: Integers) -> Integers:
        """Return ``last_complete`` of each of ``times``, as an array."""
        if self._is_regular:
            steps = (times - self._first_complete) // self._finest
            return np.clip(steps, -1, self._length - 1, out=steps)
        return np.searchsorted(self._times, times - self._delay, side="right") - 1

    def price(self, time: int) -> Decimal | None:
        """Return the close of the latest candle complete at ``time``.

        Before the first complete candle, it is the open of the first one; before that, None.
        """
        index = self.last_complete(time)
        if index >= 0:
            return Decimal(repr(self.closes[index]))  # As decimal_of, which a call would delay.
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
            self.complete_time_of(index),
            decimal_of(float(self.open[index])),
            decimal_of(float(self.high[index])),
            decimal_of(float(self.low[index])),
            decimal_of(float(self.close[index])),
            decimal_of(float(self.volume[index])),
        )

    def interval(self, index: int) -> int:
        """Return the interval of the candle at ``index``, in milliseconds."""
        return self.complete_time_of(index) - int(self.open_time[index])

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

    def first_retreat(
        self, best: float, retreat: Retreat, start: int, *, close_only: bool = False
    ) -> tuple[int, float]:
        """Return the first candle that may retreat from the best price, and that price before it."""
        index = self._close_index if close_only else self._range_index
        return index.first_retreat(best, retreat, start)

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
        # Without a reference to these candles, so that they are freed as soon as nobody uses them.
        open_times, times, delay = self.open_time, self._times, self._delay
        numbers = (self.open, self.high, self.low, self.close, self.volume)

        def columns(start: int, stop: int) -> list[NDArray[Any]]:
            rows = slice(start, stop)
            return [open_times[rows], times[rows] + delay, *(column[rows] for column in numbers)]

        return Fingerprint(open_times, columns, self._day_digests)

    def prepare(self) -> None:
        """Build the indexes that orders and valuations use, instead of at their first use.

        Linear: about 60 ms for a year of minutes, seconds where prices have 16 digits or more.
        """
        _ = self.price_units, self._volumes, self._first_with_volume
        _ = self._range_index, self._first_completions, self._after_gaps

    @cached_property
    def _after_gaps(self) -> Integers:
        """The indices of the candles that open later than the candle before them is complete."""
        if self._is_regular:
            return np.empty(0, dtype=np.int64)
        return np.flatnonzero(self.open_time[1:] > self.completions(0, self._length - 1)) + 1

    @cached_property
    def _range_index(self) -> PriceIndex:
        return PriceIndex(self.low, self.high)

    @cached_property
    def _close_index(self) -> PriceIndex:
        return PriceIndex(self.close, self.close)

    @cached_property
    def volume_totals(self) -> VolumeTotals:
        """The volume before each candle, and of all candles, as exact integers."""
        return VolumeTotals.of(fixed_point(self.volume))

    @cached_property
    def _first_with_volume(self) -> int:
        return int(np.argmax(self.volume > 0)) if (self.volume > 0).any() else self._length

    @cached_property
    def _volumes(self) -> dict[int, IntervalVolume]:
        totals = self.volume_totals
        if len(self.intervals) == 1:
            return {self._finest: IntervalVolume(totals)}
        lengths = self.complete_time - self.open_time
        return {
            interval: IntervalVolume(totals, np.flatnonzero(lengths == interval))
            for interval in self.intervals
        }

    def recent_volume(self, stop: int, interval: int) -> RecentVolume | None:
        """Return the volume of the last 60 candles of ``interval`` before index ``stop``.

        None if there are none, or if no candle before ``stop``, of any interval, had volume.
        """
        if self._first_with_volume >= stop:
            return None
        recent = self._volumes[interval].recent(stop)
        return recent if recent.candles else None


def _overlaps(coarse: Candles, fine: Candles) -> NDArray[np.bool_]:
    """Return whether a candle of ``fine`` overlaps each candle of ``coarse``."""
    before = np.searchsorted(fine.complete_time, coarse.open_time, side="right")
    return np.searchsorted(fine.open_time, coarse.complete_time) > before


def _read_only(column: NDArray[Any]) -> NDArray[Any]:
    column = np.array(column, order="C", copy=True if column.flags.writeable else None)
    column.flags.writeable = False
    return column
