"""The market of the oracle: trading candles, the line that values, and settlements due."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from itertools import zip_longest
from typing import NamedTuple

from tests.support.oracle import ZERO, Candle, Row, from_float, merged_candles
from tests.support.perpetual_oracle.values import Config, FundingRow

GRID = 8 * 3_600_000
"""The interval of a symbol without any funding rows, from midnight UTC."""


class Bar(NamedTuple):
    """A trading candle and the candle that values the symbol at the same time."""

    candle: Candle
    mark: Candle


class Due(NamedTuple):
    """A settlement of the session."""

    time: int
    symbol: str
    rate: Decimal
    mark: Decimal | None


class Market:
    """Candles, marks and funding rows; only ``Oracle`` decides what is known at a time."""

    def __init__(
        self, rows: Iterable[Row], marks: Iterable[Row], funding: Iterable[FundingRow], mark: str
    ) -> None:
        """Take the rows of the market; with ``mark="last"`` mark candles are not used."""
        everything = _candles(rows)
        candles = _in_sequence(merged_candles(everything))
        self.symbols = sorted({candle.symbol for candle in candles})
        self.mark_candles = merged_candles(_candles(marks)) if mark == "auto" else []
        self.bars = [Bar(candle, _mark_of(candle, self.mark_candles)) for candle in candles]
        self.funding = sorted(funding, key=lambda row: (row.symbol, row.time))
        self.first: dict[str, Bar] = {}
        for candle in sorted(everything, key=lambda candle: (candle.open_time, candle.interval)):
            bar = Bar(candle, _mark_of(candle, self.mark_candles))
            self.first.setdefault(candle.symbol, bar)

    def mark_at(self, symbol: str, time: int) -> Decimal | None:
        """Return the close of a mark candle complete exactly at ``time``."""
        for candle in self.mark_candles:
            if candle.symbol == symbol and candle.complete == time:
                return candle.close
        return None

    def due(self, config: Config) -> list[Due]:
        """Return the settlements of a session, in sequence."""
        if not config.pays_funding:
            return []
        due = [
            Due(row.time, row.symbol, row.rate, row.mark)
            for row in self.funding
            if config.start < row.time <= config.end
        ]
        if config.default_rate is not None:
            for symbol in self.symbols:
                for time in self.missing(symbol, config):
                    due.append(Due(time, symbol, config.default_rate, None))
        return sorted(due, key=lambda row: (row.time, row.symbol))

    def missing(self, symbol: str, config: Config) -> list[int]:
        """Return the times in a session at which a row is missing."""
        rows = [row for row in self.funding if row.symbol == symbol]
        ends = max(bar.candle.complete for bar in self.bars if bar.candle.symbol == symbol)
        last = min(config.end, ends)
        times: list[int] = []
        if rows:
            times += range(rows[0].time - rows[0].interval, config.start, -rows[0].interval)
        else:
            times += range(config.start // GRID * GRID, last + 1, GRID)
        for row, following in zip_longest(rows, rows[1:]):
            stop = last + 1 if following is None else following.time
            times += range(row.time + row.interval, stop, row.interval)
        return sorted(time for time in times if config.start < time <= last)


def _candles(rows: Iterable[Row]) -> list[Candle]:
    return [
        Candle(symbol, interval, open_time, *map(from_float, (o, h, l, c, v or 0.0)))
        for symbol, interval, open_time, o, h, l, c, v in rows
    ]


def _in_sequence(candles: Iterable[Candle]) -> list[Candle]:
    return sorted(candles, key=lambda candle: (candle.complete, candle.open_time, candle.symbol))


def _mark_of(candle: Candle, marks: Sequence[Candle]) -> Candle:
    """Return the mark candle of the same span, finer ones together if none is missing.

    Else it is the trading candle itself.
    """
    inside = [
        mark
        for mark in marks
        if mark.symbol == candle.symbol
        and mark.open_time >= candle.open_time
        and mark.complete <= candle.complete
    ]
    inside.sort(key=lambda mark: mark.open_time)
    reached = candle.open_time
    for mark in inside:
        if mark.open_time != reached:
            return candle
        reached = mark.complete
    if reached != candle.complete:
        return candle
    return Candle(
        candle.symbol,
        candle.interval,
        candle.open_time,
        inside[0].open,
        max(mark.high for mark in inside),
        min(mark.low for mark in inside),
        inside[-1].close,
        ZERO,
    )
