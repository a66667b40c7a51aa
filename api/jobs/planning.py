"""The time that a run is of, as a request says it, and what is said where it has no candles."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from candlestep.data.market.catalogue import Series, covered_periods
from candlestep.data.store.database import now
from candlestep.sandbox import InvalidParameter, format_time, parse_time
from candlestep.sandbox.clock import candle_span
from candlestep.sandbox.errors import NoPrice

MOST_YEARS = 5
"""Between the start and the end of a run, whichever API it comes by."""


class Period(NamedTuple):
    """A time in the past, and the candles that open in it. All in milliseconds."""

    start: int
    end: int
    """Included, as ``start`` is."""
    first: int
    """The first candle opens."""
    last: int
    """The last candle is complete."""


def parse_period(start: str, end: str, start_field: str, end_field: str) -> tuple[int, int]:
    """Two times, the one after the other, in ms; raises ``InvalidParameter`` naming a field."""
    start_time, end_time = parse_time(start, start_field), parse_time(end, end_field)
    if start_time >= end_time:
        raise InvalidParameter(end_field, f"must be after {_bare(start_field)}")
    return start_time, end_time


def past_period(start: str, end: str, interval: int, *, start_field: str, end_field: str) -> Period:
    """A time that is over and has candles of ``interval`` ms, both its start and its end included.

    It is at most ``MOST_YEARS`` long. Raises ``InvalidParameter`` naming a field.
    """
    start_time, end_time = parse_period(start, end, start_field, end_field)
    if end_time > now():
        raise InvalidParameter(end_field, "must not be in the future")
    if is_too_long(start_time, end_time):
        raise InvalidParameter(
            end_field, f"may be at most {MOST_YEARS} years after {_bare(start_field)}"
        )
    # A candle that opens at the end itself is the last.
    first, last = candle_span(start_time, end_time + interval, interval)
    if first >= last:
        raise InvalidParameter(
            end_field, f"no candle opens from {_bare(start_field)} to {_bare(end_field)}"
        )
    return Period(start_time, end_time, first, last)


def is_too_long(start: int, end: int) -> bool:
    """Whether a time is longer than a run may be. 5 years after 29 February is 1 March."""
    day = datetime.fromtimestamp(start // 1000, UTC)
    try:
        latest = day.replace(year=day.year + MOST_YEARS)
    except ValueError:
        latest = day.replace(year=day.year + MOST_YEARS, month=3, day=1)
    return end > int(latest.timestamp()) * 1000 + start % 1000


def clip_to_data(span: Period, markets: Iterable[Iterable[Series]], interval: int) -> Period:
    """The part of a time from the first candle of any of some symbols to the last of any.

    Before and after, nothing could happen, and it would count in what is measured by the year.
    """
    inside = [
        (a, b)
        for series in markets
        for a, b in covered_periods(series, interval)
        if a < span.last and b > span.first
    ]
    if not inside:
        return span
    first, last = min(a for a, _ in inside), max(b for _, b in inside)
    return span._replace(first=max(span.first, first), last=min(span.last, last))


def candles_within(series: Iterable[Series], interval: int, start: int, end: int) -> int:
    """For how many milliseconds between two times one symbol has candles of ``interval`` ms."""
    return sum(
        min(b, end) - max(a, start)
        for a, b in covered_periods(series, interval)
        if a < end and b > start
    )


def require_candles(
    symbol: str,
    series: Sequence[Series],
    interval: int,
    start: int,
    end: int,
    *,
    field: str,
    when: str,
    otherwise: str,
) -> None:
    """Raise ``NoPrice`` if a symbol has no candle of ``interval`` ms between two times.

    It tells the nearest that it has, or else ``otherwise``; its details name ``field``.
    """
    if candles_within(series, interval, start, end):
        return
    spans = covered_periods(series, interval)
    near = [span for span in spans if span[1] <= start][-1:] + [
        span for span in spans if span[0] >= end
    ][:1]
    has = " and ".join(f"from {format_time(a)} to {format_time(b)}" for a, b in near)
    rest = f", but {has}" if has else f"; {otherwise}"
    raise NoPrice(f"there are no candles of {symbol} {when}{rest}", **{field: symbol})


def _bare(field: str) -> str:
    """A field's name beside others of its object."""
    return field.rpartition(".")[2]
