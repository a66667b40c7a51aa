"""The time that a run is of, as a request says it, and what is said where it has no candles."""

from collections.abc import Iterable
from typing import NamedTuple

from data.catalogue import Series
from data.store import now
from sandbox import InvalidParameter, format_time, parse_time
from sandbox.clock import candle_span
from sandbox.errors import NoPrice


class PastSpan(NamedTuple):
    """A time in the past, and the candles that open in it. All in milliseconds."""

    start: int
    end: int
    """Included, as ``start`` is."""
    first: int
    """The first candle opens."""
    last: int
    """The last candle is complete."""


def given_span(start: str, end: str, start_field: str, end_field: str) -> tuple[int, int]:
    """Two times, the one after the other, in ms; raises ``InvalidParameter`` naming a field."""
    start_time, end_time = parse_time(start, start_field), parse_time(end, end_field)
    if start_time >= end_time:
        raise InvalidParameter(end_field, f"must be after {_bare(start_field)}")
    return start_time, end_time


def past_span(start: str, end: str, interval: int, *, start_field: str, end_field: str) -> PastSpan:
    """A time that is over and has candles of ``interval`` ms, both its start and its end included.

    Raises ``InvalidParameter`` naming a field.
    """
    start_time, end_time = given_span(start, end, start_field, end_field)
    if end_time > now():
        raise InvalidParameter(end_field, "must not be in the future")
    # A candle that opens at the end itself is the last.
    first, last = candle_span(start_time, end_time + interval, interval)
    if first >= last:
        raise InvalidParameter(
            end_field, f"no candle opens from {_bare(start_field)} to {_bare(end_field)}"
        )
    return PastSpan(start_time, end_time, first, last)


def no_candles(
    symbol: str, when: str, series: Iterable[Series], otherwise: str, /, **details: str
) -> NoPrice:
    """That a symbol has no candles in a time, and in which it has; or else, ``otherwise``."""
    has = "; ".join(f"from {format_time(each.start)} to {format_time(each.end)}" for each in series)
    rest = f", but {has}" if has else f"; {otherwise}"
    return NoPrice(f"there are no candles of {symbol} {when}{rest}", **details)


def _bare(field: str) -> str:
    """A field's name beside others of its object."""
    return field.rpartition(".")[2]
