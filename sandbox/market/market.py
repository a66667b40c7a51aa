"""The market as of a time: prices, candles and tickers that never show later candles."""

from collections.abc import Iterable, Sequence
from decimal import Decimal
from itertools import pairwise
from typing import NamedTuple

import msgspec
import numpy as np

from candlestep.sandbox.clock import DAY, format_time, interval_name, parse_interval
from candlestep.sandbox.errors import InvalidParameter, NoPrice, SymbolNotFound, abbreviate
from candlestep.sandbox.market.candles import Candle, Candles, Integers
from candlestep.sandbox.money import MARKET, ZERO, decimal_of, percentage

_INT64_MAXIMUM = 2**63 - 1


class Ticker(msgspec.Struct, frozen=True):
    """A symbol's last 24 hours as of a time; ``price_change_pct`` in percent, 8 places."""

    symbol: str
    time: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    price_change: Decimal
    price_change_pct: Decimal


class _Grid(NamedTuple):
    """Symbols whose candles complete at the same times, so that one look-up serves all."""

    candles: Candles
    closes: list[tuple[str, Sequence[float]]]


class Market:
    """Symbols and their candles; immutable, and shared by any number of sessions.

    Every query takes a time, and its result depends only on candles complete by then (and on the
    open of a symbol's first candle, once it has opened).
    """

    def __init__(self, candles: Iterable[Candles]) -> None:
        """Take the candles of any number of symbols; several series of one symbol are merged."""
        by_symbol: dict[str, list[Candles]] = {}
        for series in candles:
            by_symbol.setdefault(series.symbol, []).append(series)
        self._candles = {symbol: Candles.merge(by_symbol[symbol]) for symbol in sorted(by_symbol)}
        if not self._candles:
            raise InvalidParameter("candles", "a market needs the candles of at least one symbol")
        self._grids = _grids(self._candles)

    @property
    def symbols(self) -> tuple[str, ...]:
        """All symbols, sorted."""
        return tuple(self._candles)

    def candles_of(self, symbol: str) -> Candles:
        """Return all candles of ``symbol``, later ones included; raises ``SymbolNotFound``."""
        try:
            return self._candles[symbol]
        except (KeyError, TypeError):
            known = ", ".join(list(self._candles)[:10]) + (", …" if len(self._candles) > 10 else "")
            raise SymbolNotFound(
                f"this market has no symbol {abbreviate(symbol)!r}; it has {known}", symbol=symbol
            ) from None

    def price(self, symbol: str, time: int) -> Decimal:
        """Return the price of ``symbol`` at ``time``; raises ``NoPrice`` before its first candle."""
        price = self.candles_of(symbol).price(time)
        if price is None:
            raise NoPrice(
                f"{symbol} has no price yet at {format_time(time)}, because its first candle opens"
                " later; step on, or start later",
                symbol=symbol,
            )
        return price

    def prices(self, time: int) -> dict[str, Decimal]:
        """Return the price at ``time`` of each symbol that has one, sorted by symbol."""
        prices = {}
        for candles, closes in self._grids:
            index = candles.last_complete(time)
            if index >= 0:
                for symbol, close in closes:
                    # As decimal_of, without the call, which would be felt in every step.
                    prices[symbol] = Decimal(repr(close[index]))
            else:
                for symbol, _ in closes:
                    price = self._candles[symbol].price(time)
                    if price is not None:
                        prices[symbol] = price
        return prices if len(self._grids) == 1 else dict(sorted(prices.items()))

    def candles(
        self, symbol: str, time: int, interval: str | int | None = None, limit: int = 100
    ) -> list[Candle]:
        """Return the last ``limit`` candles of ``interval`` complete at ``time``, oldest first.

        Coarser candles are aggregated from complete finer ones; periods for which the data has
        only coarser candles than ``interval`` are left out. ``interval`` defaults to the finest
        that is complete by then; a finer one is refused. Linear in the candles aggregated.
        """
        candles = self.candles_of(symbol)
        finest = candles.finest_complete(time)
        length = finest if interval is None else parse_interval(interval)
        if finest is None or length is None:
            return []
        if length < finest:
            raise InvalidParameter(
                "interval",
                f"{interval_name(length)} is finer than the data of {symbol} so far, which is"
                f" {interval_name(finest)}",
            )
        if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
            raise InvalidParameter("limit", "must be a positive whole number")
        rows = _rows_to_aggregate(candles, time, length, limit)
        return _aggregated(candles, rows, length)[-limit:]

    def ticker(self, symbol: str, time: int) -> Ticker:
        """Return the last 24 hours of ``symbol``, from the candles that completed within them.

        Without any, all prices are the current one and the volume is 0. Raises ``NoPrice``.
        """
        candles = self.candles_of(symbol)
        price = self.price(symbol, time)
        start = candles.last_complete(time - DAY) + 1
        stop = candles.last_complete(time) + 1
        opened, high, low, volume = price, price, price, ZERO
        if start < stop:
            opened = decimal_of(float(candles.open[start]))
            high = decimal_of(float(candles.high[start:stop].max()))
            low = decimal_of(float(candles.low[start:stop].min()))
            volume = _volume(candles, start, stop)
        change = MARKET.subtract(price, opened)
        percent = percentage(change, opened)
        return Ticker(symbol, time, opened, high, low, price, volume, change, percent)


def _rows_to_aggregate(candles: Candles, time: int, interval: int, limit: int) -> Integers:
    """Return the indices of the candles in the last ``limit`` buckets that end by ``time``."""
    stop = int(candles.open_time.searchsorted(time // interval * interval))
    most = limit * (interval // candles.intervals[0])
    if candles.intervals[-1] <= interval:
        return np.arange(max(0, stop - most), stop)
    lengths = candles.complete_time[:stop] - candles.open_time[:stop]
    return np.flatnonzero(lengths <= interval)[-most:]


def _aggregated(candles: Candles, rows: Integers, interval: int) -> list[Candle]:
    buckets = candles.open_time[rows] // interval
    firsts = np.flatnonzero(np.diff(buckets, prepend=buckets[:1] - 1))
    result = []
    for first, stop in pairwise([*firsts, len(rows)]):
        members = rows[first:stop]
        open_time = int(buckets[first]) * interval
        result.append(
            Candle(
                open_time,
                open_time + interval,
                decimal_of(float(candles.open[members[0]])),
                decimal_of(float(candles.high[members].max())),
                decimal_of(float(candles.low[members].min())),
                decimal_of(float(candles.close[members[-1]])),
                _volume(candles, int(members[0]), int(members[-1]) + 1),
            )
        )
    return result


def _volume(candles: Candles, start: int, stop: int) -> Decimal:
    """Return the exact volume of the candles in ``[start, stop)``, without trailing zeros."""
    units, digits, largest = candles.volume_units
    members = units[start:stop]
    fits = units.dtype != object and largest * len(members) < _INT64_MAXIMUM
    total = int(members.sum()) if fits else sum(members.tolist())
    # The scale depends on the whole series, so showing it would reveal later candles.
    while digits and total % 10 == 0:
        total, digits = total // 10, digits - 1
    return Decimal(f"{total}e-{digits}")


def _grids(by_symbol: dict[str, Candles]) -> list[_Grid]:
    grids: list[_Grid] = []
    alike: dict[tuple[int, int, int], list[_Grid]] = {}
    for symbol, candles in by_symbol.items():
        times = candles.complete_time
        similar = alike.setdefault((len(times), int(times[0]), int(times[-1])), [])
        for grid in similar:
            if np.array_equal(grid.candles.complete_time, times):
                break
        else:
            grid = _Grid(candles, [])
            similar.append(grid)
            grids.append(grid)
        grid.closes.append((symbol, candles.closes))
    return grids
