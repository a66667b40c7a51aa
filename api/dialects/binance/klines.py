"""Candles as rows of ``klines``. Complete ones are encoded once, whoever asks for them."""

from bisect import bisect_right
from collections.abc import Sequence
from weakref import WeakKeyDictionary

from candlestep.sandbox import Candle, Market
from candlestep.sandbox.money import rounded_product

MOST_ROWS = 1000
"""The most rows of one answer."""

_MOST_KEPT = 4 * MOST_ROWS


class KlineRows:
    """The encoded rows of one symbol and interval: complete candles that follow one another."""

    def __init__(self) -> None:
        self._opens: list[int] = []
        self._rows: list[bytes] = []
        self._is_whole = False
        """True if no candle comes before the first row."""

    def latest(self, market: Market, symbol: str, interval: int, time: int, limit: int) -> bytes:
        """Return the last ``limit`` candles as of ``time``, the running one included."""
        stop = bisect_right(self._opens, time - interval)
        if stop:
            start, seconds = self._opens[stop - 1] + 1, interval // 1000
            new = market.candles_between(symbol, start, None, seconds, time, MOST_ROWS)
            complete = [candle for candle in new if candle.complete_time <= time]
            if len(new) < MOST_ROWS:
                if stop == len(self._opens):
                    self._append(complete)
                    stop = len(self._opens)
                running = [encode_row(candle) for candle in new[len(complete) :]]
                if self._is_whole or stop + len(running) >= limit:
                    first = max(0, stop + len(running) - limit)
                    return _array([*self._rows[first:stop], *running])
        return self._rebuilt(market, symbol, interval, time, limit)

    def _rebuilt(self, market: Market, symbol: str, interval: int, time: int, limit: int) -> bytes:
        found = market.candles_between(symbol, None, None, interval // 1000, time, MOST_ROWS + 1)
        complete = [candle for candle in found if candle.complete_time <= time]
        self._opens, self._rows = [], []
        self._is_whole = len(found) <= MOST_ROWS
        self._append(complete)
        rows = [*self._rows, *(encode_row(candle) for candle in found[len(complete) :])]
        return _array(rows[-limit:])

    def _append(self, candles: Sequence[Candle]) -> None:
        self._opens += [candle.open_time for candle in candles]
        self._rows += [encode_row(candle) for candle in candles]
        excess = len(self._rows) - _MOST_KEPT
        if excess > 0:
            excess += 2 * MOST_ROWS
            del self._opens[:excess], self._rows[:excess]
            self._is_whole = False


_rows: WeakKeyDictionary[Market, dict[tuple[str, int], KlineRows]] = WeakKeyDictionary()


def latest_rows(market: Market, symbol: str, interval: int, time: int, limit: int) -> bytes:
    """Return the last ``limit`` candles as of ``time`` as JSON, the running one included.

    A session that steps on pays for the candles that are new.
    """
    of_market = _rows.setdefault(market, {})
    rows = of_market.setdefault((symbol, interval), KlineRows())
    return rows.latest(market, symbol, interval, time, limit)


def rows_between(
    market: Market, symbol: str, span: tuple[int | None, int | None], interval: int, time: int,
    limit: int,
) -> bytes:  # fmt: skip
    """Return candles that open within ``span`` as JSON: the first ``limit`` if it has a start."""
    start, end = span
    found = market.candles_between(symbol, start, end, interval // 1000, time, limit)
    return _array([encode_row(candle) for candle in found])


def encode_row(candle: Candle) -> bytes:
    """Return a candle as JSON, in the sequence of Binance's items.

    The quote volume is not known: it is the volume at the close. Trades and takers are zero.
    """
    quote = rounded_product(candle.volume, candle.close)
    return (
        f'[{candle.open_time},"{candle.open:.8f}","{candle.high:.8f}","{candle.low:.8f}",'
        f'"{candle.close:.8f}","{candle.volume:.8f}",{candle.complete_time - 1},"{quote:.8f}",0,'
        '"0.00000000","0.00000000","0"]'
    ).encode()


def _array(rows: Sequence[bytes]) -> bytes:
    return b"[" + b",".join(rows) + b"]"
