"""The time line of a symbol: which candles of its series count, told from their spans alone.

``Candles.merge`` and ``aggregation`` do the same with the candles themselves.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from math import gcd
from typing import NamedTuple, Protocol

from candlestep.sandbox.clock import bucket_start
from candlestep.sandbox.market.spans import Span, intersect_spans, subtract_spans, union_spans


class SeriesSpans(Protocol):
    """A series of candles, of which only the gaps are known. Times are in milliseconds."""

    @property
    def interval(self) -> int: ...
    @property
    def start(self) -> int: ...
    @property
    def end(self) -> int: ...
    @property
    def gaps(self) -> Sequence[Span]: ...


class Stretch(NamedTuple):
    """Candles of one interval that follow one another, the first at ``start``; all in ms."""

    start: int
    end: int
    interval: int

    def straddles(self, interval: int) -> bool:
        """Return whether a candle of it is finer than ``interval`` and lies in two buckets of it."""
        if self.interval >= interval:
            return False
        first = bucket_start(self.start, interval) + interval
        # From then on, the bounds lie in the candles as they did before.
        cycle = interval * (self.interval // gcd(self.interval, interval))
        bounds = range(first, min(self.end, first + cycle), interval)
        return any((bound - self.start) % self.interval for bound in bounds)

    def buckets(self, interval: int) -> Span:
        """Return the span of all buckets of ``interval`` in which candles of it lie."""
        return (
            bucket_start(self.start, interval),
            bucket_start(self.end - 1, interval) + interval,
        )


def time_line(group: Iterable[SeriesSpans]) -> list[Stretch]:
    """Return the candles of one symbol's series, each of another interval, that count, in order.

    They are all of the finest, and a coarser one only if no finer one overlaps it.
    """
    line: list[Stretch] = []
    finer: list[Span] = []
    for series in sorted(group, key=lambda series: series.interval):
        spans = subtract_spans(series.start, series.end, series.gaps)
        line += _not_overlapped(series.interval, spans, finer)
        finer = union_spans(finer + spans)
    return sorted(line)


def _not_overlapped(interval: int, spans: list[Span], finer: list[Span]) -> list[Stretch]:
    """Return the candles in ``spans`` that no span of finer ones overlaps."""
    if not finer:
        return [Stretch(start, end, interval) for start, end in spans]
    starts = [start for start, _ in spans]
    stretches = []
    for a, b in intersect_spans(spans, subtract_spans(spans[0][0], spans[-1][1], finer)):
        first, last = whole_candles(spans[bisect_right(starts, a) - 1][0], interval, a, b)
        if first < last:
            stretches.append(Stretch(first, last, interval))
    return stretches


def whole_candles(origin: int, interval: int, start: int, end: int) -> Span:
    """Return the first open and the last completion of candles between two times.

    They open every ``interval`` from ``origin`` on, which is not after ``start``. Without any, the
    first is not before the second.
    """
    return (
        origin - (origin - start) // interval * interval,
        origin + (end - origin) // interval * interval,
    )


def periods(line: Sequence[Stretch], interval: int) -> list[Span]:
    """Return the periods for which a time line gives candles of ``interval`` ms, sorted.

    Each consists of whole candles. They are aggregated from one or more finer ones, the last from
    all; where a candle straddles the bound of a bucket, there are none. Two periods overlap where
    candles of the interval itself have a phase of their own.
    """
    line = [stretch for stretch in line if stretch.interval <= interval]
    end = bucket_start(max((stretch.end for stretch in line), default=0), interval)
    own: list[Span] = []
    gathered: list[Span] = []
    straddled: list[Span] = []
    for stretch in line:
        if stretch.interval == interval:
            own.append((stretch.start, stretch.end))
        elif stretch.straddles(interval):
            straddled.append(stretch.buckets(interval))
        else:
            first, last = stretch.buckets(interval)
            gathered.append((first, min(last, end)))
    gathered = union_spans([span for span in gathered if span[0] < span[1]])
    if straddled:
        gathered = [
            free for a, b in gathered for free in subtract_spans(a, b, union_spans(straddled))
        ]
    return _joined(sorted(own + gathered))


def makes(line: Iterable[Stretch], interval: int) -> bool:
    """Return whether some candles of a time line make candles of ``interval`` ms."""
    return any(stretch.interval <= interval and not stretch.straddles(interval) for stretch in line)


def _joined(spans: Iterable[Span]) -> list[Span]:
    """Return sorted spans, joined where one begins as another ends."""
    joined: list[Span] = []
    for start, end in spans:
        if joined and joined[-1][1] == start:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return joined
