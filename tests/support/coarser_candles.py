"""Coarser candles by calendar dates, as a plain loop that shares no code with ``sandbox``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

from tests.support.oracle import Candle, from_float, merged_candles
from tests.support.session_cases import DAY, INTERVALS, WEEK, Series

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Coarser(NamedTuple):
    """A candle of a coarser interval; times in milliseconds."""

    open_time: int
    complete_time: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal


def time_line(market: Iterable[Series], symbol: str) -> list[Candle]:
    """Return the candles of a symbol that count, in order."""
    candles = []
    for series in market:
        for bar in series.bars if series.symbol == symbol else ():
            volume = bar.volume if series.has_volume else 0.0
            numbers = map(from_float, (bar.open, bar.high, bar.low, bar.close, volume))
            candles.append(Candle(symbol, series.interval, bar.open_time, *numbers))
    return sorted(merged_candles(candles), key=lambda candle: candle.open_time)


def bucket(time: int, interval: int) -> tuple[int, int]:
    """Return the start and the end of the day, week or part of a day in which a time lies."""
    moment = EPOCH + timedelta(milliseconds=time)
    midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    if interval == WEEK:
        start = midnight - timedelta(days=midnight.isoweekday() - 1)
    elif interval == DAY:
        start = midnight
    else:
        minutes = int(INTERVALS[interval][:-1]) * (60 if INTERVALS[interval][-1] == "h" else 1)
        part = (moment.hour * 60 + moment.minute) // minutes
        start = midnight + timedelta(minutes=part * minutes)
    milliseconds = (start - EPOCH) // timedelta(milliseconds=1)
    return milliseconds, milliseconds + interval


def straddles(candle: Candle, interval: int) -> bool:
    """Return whether a finer candle lies in two buckets of ``interval``."""
    return candle.interval < interval and candle.complete > bucket(candle.open_time, interval)[1]


def coarser_candles(candles: Sequence[Candle], interval: int, now: int) -> list[Coarser] | None:
    """Return the candles of ``interval`` that are complete at ``now``; None if that is refused."""
    complete = [candle for candle in candles if candle.complete <= now]
    if not complete:
        return []
    finest = min(candle.interval for candle in complete)
    if interval < finest:
        return None
    if finest < interval and any(
        straddles(candle, interval) for candle in candles if candle.open_time <= now
    ):
        return None
    members: dict[tuple[int, int], list[Candle]] = {}
    for candle in complete:
        if candle.interval == interval:
            members[candle.open_time, candle.complete] = [candle]
        elif candle.interval < interval:
            members.setdefault(bucket(candle.open_time, interval), []).append(candle)
    return [
        Coarser(
            start,
            end,
            inside[0].open,
            max(candle.high for candle in inside),
            min(candle.low for candle in inside),
            inside[-1].close,
            sum((candle.volume for candle in inside), Decimal(0)),
        )
        for (start, end), inside in members.items()
        if end <= now
    ]
