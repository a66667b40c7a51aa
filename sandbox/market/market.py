"""The market as of a time: prices, candles and tickers that never show later candles."""

from collections.abc import Iterable, Sequence
from decimal import Decimal
from functools import cached_property
from typing import Any, Literal

import msgspec
import numpy as np

from candlestep.sandbox.clock import DAY, bucket_start, format_time, interval_name, parse_interval
from candlestep.sandbox.errors import InvalidParameter, NoPrice, SymbolNotFound, abbreviate
from candlestep.sandbox.market.aggregation import (
    aggregated,
    gather,
    just_opened,
    require_whole,
    rows_between,
    volume_of,
    volumes,
)
from candlestep.sandbox.market.blind.disguise import BlindSettings, Disguise, Prices, Variant
from candlestep.sandbox.market.blind.parts import (
    Mask,
    Parts,
    disguised_parts,
    masks_of,
    scales_of,
)
from candlestep.sandbox.market.blind.scale import Scale
from candlestep.sandbox.market.candles import PRICES, Candle, Candles, Floats, Integers
from candlestep.sandbox.market.frames import Table
from candlestep.sandbox.market.funding import FundingRates
from candlestep.sandbox.market.marks import mark_line
from candlestep.sandbox.market.price_table import PriceTable
from candlestep.sandbox.market.spans import Span
from candlestep.sandbox.market.symbols import PERPETUAL, is_perpetual, is_spot, respell_symbol
from candlestep.sandbox.money import MARKET, ZERO, Whole, decimal_of, parse_count, percentage

_MOST_SHOWN = 3


class Ticker(msgspec.Struct, frozen=True):
    """A symbol's last hours as of a time; ``price_change_pct`` in percent, 8 places."""

    symbol: str
    time: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    price_change: Decimal
    price_change_pct: Decimal


class Market:
    """Symbols and their candles; immutable, and shared by any number of sessions.

    Every query takes a time, and its result depends only on candles complete by then (and on the
    open of a symbol's first candle, once it has opened).
    """

    def __init__(
        self,
        candles: Iterable[Candles],
        marks: Iterable[Candles] = (),
        funding: Iterable[FundingRates] = (),
    ) -> None:
        """Take the candles of any number of symbols; several series of one symbol are merged.

        ``marks`` are candles of the mark price of perpetuals, and ``funding`` their funding rates;
        both have the symbol of the candles that they belong to.
        """
        self._candles = _merged(candles)
        if not self._candles:
            raise InvalidParameter("candles", "a market needs the candles of at least one symbol")
        self._marks = _merged(marks)
        self._funding: dict[str, FundingRates] = {}
        for rates in sorted(funding, key=lambda rates: rates.symbol):
            if rates.symbol in self._funding:
                raise InvalidParameter("funding", f"has {rates.symbol} twice")
            self._funding[rates.symbol] = rates
        for name, symbols in (("marks", self._marks), ("funding", self._funding)):
            without = [symbol for symbol in symbols if symbol not in self._candles]
            if without:
                raise InvalidParameter(
                    name, f"has {without[0]}, which has no candles; add them, or leave it out"
                )
        self._mark_lines: dict[str, Candles] = {}
        # None stands for the market itself: one that refers to itself would not be freed at once.
        self._parts: dict[str, Market | None] = {}
        self.price_table = PriceTable(self._candles)
        """The prices of all symbols, for look-ups at one time."""

    def __reduce__(self) -> tuple[Any, ...]:
        parts = (self._candles, self._marks, self._funding)
        return Market, tuple(list(part.values()) for part in parts)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Market":
        return self

    def __repr__(self) -> str:
        series = list(self._candles.values())
        more = len(series) - _MOST_SHOWN
        shown = [*map(repr, series[:_MOST_SHOWN]), *([f"{more} more"] if more > 0 else [])]
        return f"Market({', '.join(shown)})"

    @property
    def symbols(self) -> tuple[str, ...]:
        """All symbols, sorted."""
        return tuple(self._candles)

    def __contains__(self, symbol: str) -> bool:
        """Return whether the market has a symbol of exactly this spelling."""
        return symbol in self._candles

    def part(self, kind: Literal["spot", "perp"]) -> "Market":
        """Return the market of the symbols that can be traded in a session of one kind.

        Names that tell nothing, such as those of a synthetic market, belong to both. Raises
        ``InvalidParameter`` if there are none.
        """
        if kind not in self._parts:
            part = self._part(kind)
            self._parts[kind] = None if part is self else part
        return self._parts[kind] or self

    def _part(self, kind: Literal["spot", "perp"]) -> "Market":
        is_other = is_spot if kind == "perp" else is_perpetual
        kept = [symbol for symbol in self._candles if not is_other(symbol)]
        if len(kept) == len(self._candles):
            return self
        if not kept:
            other = "spot" if kind == "perp" else "perp"
            name = next(iter(self._candles))
            raise InvalidParameter(
                "market_type",
                f"is {kind!r}, but {name} is {'a spot pair' if kind == 'perp' else 'a perpetual'}"
                f" and the market has no other kind; set market_type to {other!r}"
                + (", or name perpetuals as in BTCUSDT-PERP" if kind == "perp" else ""),
            )
        return Market(
            [self._candles[symbol] for symbol in kept],
            [self._marks[symbol] for symbol in kept if symbol in self._marks],
            [self._funding[symbol] for symbol in kept if symbol in self._funding],
        )

    def blind(
        self,
        seed: Whole,
        *,
        names: bool = True,
        times: bool = True,
        prices: Prices = True,
        variant: Variant = "none",
    ) -> "Market":
        """Return this market in disguise, for agents that may remember it.

        Everything is drawn from ``seed``, a whole number. ``names`` become ``ASSET1USDT``, …;
        ``times`` are shifted by whole weeks, to between 1990 and 2005; ``prices`` are multiplied so
        that each first one lies between 10 and 1,000, and rounded to 6 digits (``"exact"``: not
        rounded, from which the factor can be recovered). With the ``variant`` ``"mirror"`` every
        return turns around; with ``"bootstrap"`` whole days are drawn anew. Marks and funding go
        along. Raises ``InvalidParameter``. Linear.
        """
        settings = BlindSettings.parse(seed, names, times, prices, variant)
        return self.disguised(Disguise.draw(settings, self.symbols, self.span))

    def disguised(self, disguise: Disguise) -> "Market":
        """Return this market under a disguise that was drawn for its symbols, and maybe others."""
        parts = disguised_parts(
            Parts(self._candles, self._marks, self._funding), disguise, self.span
        )
        return Market(parts.candles.values(), parts.marks.values(), parts.funding.values())

    def masks(self, disguise: Disguise) -> dict[str, Mask]:
        """Return the disguise of each symbol, by which what is shown is read as it was."""
        return masks_of(self._candles, disguise, self.span)

    def scales(self, disguise: Disguise) -> dict[str, Scale]:
        """Return the scale on which a disguise shows the prices of each pair."""
        return scales_of(self._candles, disguise)

    def between(self, start: int, end: int) -> "Market | None":
        """Return the market of what opens from ``start`` on and is complete by ``end`` (ms).

        None if that is no candle.
        """
        candles = [one.between(start, end) for one in self._candles.values()]
        kept = {one.symbol: one for one in candles if one is not None}
        if not kept:
            return None
        marks = [
            self._marks[symbol].between(start, end) for symbol in kept if symbol in self._marks
        ]
        rates = [self._funding[symbol] for symbol in kept if symbol in self._funding]
        return Market(
            kept.values(),
            [one for one in marks if one is not None],
            [one.between(start, end) for one in rates],
        )

    @cached_property
    def span(self) -> Span:
        """The first open and the last completion of any candle, in milliseconds."""
        all_candles = self._candles.values()
        return (
            min(int(series.open_time[0]) for series in all_candles),
            max(series.complete_time_of(-1) for series in all_candles),
        )

    def covered(self, start: int, end: int) -> Span | None:
        """Return the first and the last time between two that a candle of any symbol covers, in ms.

        None if no candle covers any part.
        """
        spans = [candles.covered(start, end) for candles in self._candles.values()]
        covered = [(symbol[0][0], symbol[-1][1]) for symbol in spans if symbol]
        if not covered:
            return None
        return min(first for first, _ in covered), max(last for _, last in covered)

    def candles_of(self, symbol: str) -> Candles:
        """Return all candles of ``symbol``, later ones included.

        ``BTC/USDT``, ``BTC-USDT`` and ``btcusdt`` name ``BTCUSDT``, or ``BTCUSDT-PERP`` if the
        market has only that. Raises ``SymbolNotFound``, and ``InvalidSymbol`` for the name of a
        contract that cannot be traded.
        """
        try:
            return self._candles[symbol]
        except (KeyError, TypeError):
            candles = None
            if isinstance(symbol, str):
                spelling = respell_symbol(symbol)
                candles = self._candles.get(spelling) or self._candles.get(spelling + PERPETUAL)
            if candles is not None:
                return candles
            known = ", ".join(list(self._candles)[:10]) + (", …" if len(self._candles) > 10 else "")
            raise SymbolNotFound(
                f"this market has no symbol {abbreviate(symbol)!r}; it has {known}", symbol=symbol
            ) from None

    def marks_of(self, symbol: str) -> Candles | None:
        """Return the candles of the mark price of ``symbol``, later ones included, if it has any."""
        return self._marks.get(self.candles_of(symbol).symbol)

    def funding_of(self, symbol: str) -> FundingRates | None:
        """Return the funding rates of ``symbol``, later ones included, if it has any."""
        return self._funding.get(self.candles_of(symbol).symbol)

    def mark_line(self, symbol: str) -> Candles:
        """Return the line that values positions in ``symbol``: a row for each of its candles.

        That is the candle of the mark price where one, or several finer ones, span the same time,
        else the candle itself. Built at the first use, linear.
        """
        candles = self.candles_of(symbol)
        marks = self._marks.get(candles.symbol)
        if marks is None:
            return candles
        line = self._mark_lines.get(candles.symbol)
        if line is None:
            line = self._mark_lines[candles.symbol] = mark_line(candles, marks)
        return line

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
        return self.price_table.decimals(time)

    def candles(
        self, symbol: str, time: int, interval: str | Whole | None = None, limit: Whole = 100
    ) -> Table[Candle]:
        """Return the last ``limit`` candles of ``interval`` complete at ``time``, oldest first.

        Coarser candles are aggregated from complete finer ones, by UTC, weeks from Monday; periods
        for which the data has only coarser candles than ``interval`` are left out. ``interval``
        defaults to the finest that is complete by then; a finer one is refused, and a coarser one
        if finer candles straddle its bounds. Linear in the candles aggregated.
        """
        candles = self.candles_of(symbol)
        length = _length_of(candles, time, interval)
        if length is None:
            return Table(Candle)
        limit = parse_count("limit", limit)
        rows = _rows_to_aggregate(candles, time, length, limit)
        return Table(Candle, aggregated(candles, rows, length)[-limit:])

    def candles_between(
        self,
        symbol: str,
        start: int | None,
        end: int | None,
        interval: str | Whole,
        time: int,
        limit: Whole = 100,
    ) -> Table[Candle]:
        """Return candles that open from ``start`` to ``end`` (ms, both included) as of ``time``.

        With ``start`` they are the first ``limit`` from there on, else the last ones; oldest first.
        The running candle is among them: it is made of what is complete at ``time``, and where
        nothing is, of the open alone, without volume. Otherwise they are the candles of
        ``candles``, and the same intervals are refused. Linear in the candles aggregated.
        """
        candles = self.candles_of(symbol)
        length = parse_interval(interval)
        _length_of(candles, time, interval)
        limit = parse_count("limit", limit)
        require_whole(candles, length, "interval", time)
        end = time if end is None else min(end, time)
        rows = rows_between(candles, start, end, length, time, limit)
        found = [
            candle
            for candle in aggregated(candles, rows, length)
            if (start is None or candle.open_time >= start) and candle.open_time <= end
        ]
        opened = just_opened(candles, length, time)
        if (
            opened is not None
            and (start is None or opened.open_time >= start)
            and opened.open_time <= end
            and not (found and found[-1].open_time >= opened.open_time)
        ):
            found.append(opened)
        return Table(Candle, found[-limit:] if start is None else found[:limit])

    def window(
        self,
        symbol: str,
        time: int,
        n: Whole,
        fields: Sequence[str] = PRICES,
        interval: str | Whole | None = None,
    ) -> Floats:
        """Return the last ``n`` candles of ``interval`` complete at ``time`` as an array of floats.

        A row is a candle, oldest first, and a column one of ``fields``: open, high, low, close,
        volume. The candles are those of ``candles``; there are fewer rows while there are fewer.
        The array is a read-only copy. It takes microseconds for candles of the data's own
        interval, and is linear in the candles that are aggregated otherwise.
        """
        candles = self.candles_of(symbol)
        n = parse_count("n", n)
        if fields is not PRICES:
            _check_fields(fields)
        length = _length_of(candles, time, interval)
        if length is None:
            window = np.empty((0, len(fields)))
        elif candles.intervals == (length,):
            stop = candles.last_complete(time) + 1
            start = max(0, stop - n)
            window = np.empty((stop - start, len(fields)))
            for place, field in enumerate(fields):
                window[:, place] = getattr(candles, field)[start:stop]
        else:
            window = _aggregated_window(candles, time, length, n, fields)
        window.flags.writeable = False
        return window

    def ticker(self, symbol: str, time: int, span: int = DAY) -> Ticker:
        """Return the last 24 hours of ``symbol``, from the candles that completed within them.

        ``span`` (ms) makes them longer or shorter. Without any, all prices are the current one and the volume is 0. Raises ``NoPrice``.
        """
        candles = self.candles_of(symbol)
        symbol = candles.symbol
        price = self.price(symbol, time)
        start = candles.last_complete(time - span) + 1
        stop = candles.last_complete(time) + 1
        opened, high, low, volume = price, price, price, ZERO
        if start < stop:
            opened = decimal_of(float(candles.open[start]))
            high = decimal_of(float(candles.high[start:stop].max()))
            low = decimal_of(float(candles.low[start:stop].min()))
            volume = volume_of(candles, start, stop)
        change = MARKET.subtract(price, opened)
        percent = percentage(change, opened)
        return Ticker(symbol, time, opened, high, low, price, volume, change, percent)


def _merged(candles: Iterable[Candles]) -> dict[str, Candles]:
    """Return the candles of each symbol, sorted by it; several series of one are merged."""
    by_symbol: dict[str, list[Candles]] = {}
    for series in candles:
        by_symbol.setdefault(series.symbol, []).append(series)
    return {symbol: Candles.merge(by_symbol[symbol]) for symbol in sorted(by_symbol)}


def _length_of(candles: Candles, time: int, interval: str | Whole | None) -> int | None:
    """Return an interval in ms, by default the finest complete at ``time``; None if none is."""
    finest = candles.finest_complete(time)
    length = finest if interval is None else parse_interval(interval)
    if finest is not None and length is not None and length < finest:
        raise InvalidParameter(
            "interval",
            f"{interval_name(length)} is finer than the data of {candles.symbol} so far, which is"
            f" {interval_name(finest)}",
        )
    return None if finest is None else length


def _check_fields(fields: Sequence[str]) -> None:
    if isinstance(fields, str) or not fields or not all(field in PRICES for field in fields):
        raise InvalidParameter(
            "fields",
            f"must be a list of one or more of {', '.join(PRICES)}, got {abbreviate(fields)}",
        )


def _rows_to_aggregate(candles: Candles, time: int, interval: int, limit: int) -> Integers:
    """Return the indices of the candles in the last ``limit`` buckets that end by ``time``.

    Raises ``InvalidParameter`` if they straddle the bounds of buckets.
    """
    require_whole(candles, interval, "interval", time)
    stop = int(candles.open_time.searchsorted(bucket_start(time, interval)))
    stop = min(stop, candles.last_complete(time) + 1)
    most = limit * -(-interval // candles.intervals[0])
    if candles.intervals[-1] <= interval:
        return np.arange(max(0, stop - most), stop)
    lengths = candles.completions(0, stop) - candles.open_time[:stop]
    return np.flatnonzero(lengths <= interval)[-most:]


def _aggregated_window(
    candles: Candles, time: int, interval: int, n: int, fields: Sequence[str]
) -> Floats:
    """Return what ``aggregated`` does, as an array of floats."""
    rows = _rows_to_aggregate(candles, time, interval, n)
    _, firsts = gather(candles, rows, interval)
    firsts = firsts[-n:]
    window = np.empty((len(firsts), len(fields)))
    if not len(firsts):
        return window
    rows = rows[firsts[0] :]
    firsts = firsts - firsts[0]
    for place, field in enumerate(fields):
        if field == "open":
            window[:, place] = candles.open[rows[firsts]]
        elif field == "high":
            window[:, place] = np.maximum.reduceat(candles.high[rows], firsts)
        elif field == "low":
            window[:, place] = np.minimum.reduceat(candles.low[rows], firsts)
        elif field == "close":
            window[:, place] = candles.close[rows[np.append(firsts[1:], len(rows)) - 1]]
        else:
            window[:, place] = volumes(candles, rows, firsts)
    return window
