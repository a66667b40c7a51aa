"""A disguise put on the parts of a market: candles, mark prices and funding rates."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from candlestep.sandbox.clock import DAY
from candlestep.sandbox.errors import InvalidParameter
from candlestep.sandbox.market.blind.days import DrawnDays, require_within_days
from candlestep.sandbox.market.blind.disguise import Disguise, pair_of
from candlestep.sandbox.market.blind.rounding import (
    PRICE_DIGITS,
    VOLUME_DIGITS,
    Floats,
    significant,
)
from candlestep.sandbox.market.blind.scale import Scale
from candlestep.sandbox.market.blind.ticks import Ticks
from candlestep.sandbox.market.candles import CandleArrays, Candles, FirstOpen, Integers
from candlestep.sandbox.market.checks import MAXIMUM_VOLUME
from candlestep.sandbox.market.funding import FundingArrays, FundingRates
from candlestep.sandbox.market.spans import Span
from candlestep.sandbox.money import MAXIMUM

_MIRRORED = {"open": "open", "high": "low", "low": "high", "close": "close"}


class Parts(NamedTuple):
    """The candles of a market, the mark prices and the funding rates of its perpetuals."""

    candles: dict[str, Candles]
    marks: dict[str, Candles]
    funding: dict[str, FundingRates]


class _Rows(NamedTuple):
    """The rows of a column that are shown, the days that show them, and their times."""

    rows: Integers | slice
    days: Integers
    """The place of the day of each; unused where no days are drawn."""
    times: Integers


def disguised_parts(parts: Parts, disguise: Disguise, span: Span) -> Parts:
    """Return the parts of a market under a disguise; ``span`` is that of all its candles.

    A symbol is left out if no drawn day has candles of it. Raises ``InvalidParameter`` for a
    variant that cannot be made of these candles.
    """
    shown = Parts({}, {}, {})
    for symbol, mask in masks_of(parts.candles, disguise, span).items():
        disguised = mask.candles(parts.candles[symbol])
        if disguised is None:
            continue
        shown.candles[disguised.symbol] = disguised
        if symbol in parts.marks:
            marks = mask.candles(parts.marks[symbol])
            if marks is not None:
                shown.marks[marks.symbol] = marks
        if symbol in parts.funding:
            rates = mask.funding(parts.funding[symbol])
            shown.funding[rates.symbol] = rates
    return shown


def masks_of(candles: Mapping[str, Candles], disguise: Disguise, span: Span) -> dict[str, "Mask"]:
    """Return the disguise of each symbol; ``span`` is that of all candles."""
    settings = disguise.settings
    days = DrawnDays.draw(settings.seed, span) if settings.variant == "bootstrap" else None
    scales = scales_of(candles, disguise)
    return {
        symbol: Mask(disguise, scales[pair_of(symbol)], days, candles[symbol]) for symbol in candles
    }


def scales_of(candles: Mapping[str, Candles], disguise: Disguise) -> dict[str, Scale]:
    """Return the scale of each pair; a perpetual has that of its spot pair, if that is there."""
    firsts: dict[str, float] = {}
    for symbol in sorted(candles):
        if pair_of(symbol) not in firsts:
            first = np.array([candles[symbol].first_open.price])
            ticks = _ticks_of(candles[symbol], disguise)
            blurred = first if ticks is None else ticks.blurred(first)
            firsts[pair_of(symbol)] = float(blurred[0])
    return {pair: Scale.draw(disguise.settings, pair, first) for pair, first in firsts.items()}


def _ticks_of(candles: Candles, disguise: Disguise) -> Ticks | None:
    """Return the grid of the prices of candles, if a disguise hides it.

    It is that of the closes. Other prices, which may be sums of floats, count to their nearest level.
    """
    settings = disguise.settings
    if settings.prices is not True:
        return None
    return Ticks.of(settings.seed, pair_of(candles.symbol), candles.close)


class Mask:
    """The disguise of one symbol, for its candles and for all that goes along with them."""

    def __init__(
        self, disguise: Disguise, scale: Scale, days: DrawnDays | None, candles: Candles
    ) -> None:
        self._disguise = disguise
        self._name = disguise.names[candles.symbol]
        self._shift = disguise.shift
        self._scale = scale
        self._variant = disguise.settings.variant
        self._days = days
        if days is not None:
            require_within_days(candles)
            self._levels = self._levels_of(days, candles)

    def candles(self, candles: Candles) -> Candles | None:
        """Return candles or mark prices of the symbol in disguise; None if no row is shown."""
        opened = self._rows(candles.open_time, candles.complete_time)
        if not len(opened.times):
            return None
        completed = candles.complete_time[opened.rows] + (
            opened.times - candles.open_time[opened.rows]
        )
        ticks = _ticks_of(candles, self._disguise)
        source = _MIRRORED if self._variant == "mirror" else {name: name for name in _MIRRORED}
        columns = {
            name: self._prices(getattr(candles, source[name])[opened.rows], opened.days, ticks)
            for name in _MIRRORED
        }
        volume, close = self._blurred_volumes(candles)[opened.rows], candles.close[opened.rows]
        columns["volume"] = self._volumes(volume, close, columns["close"])
        lengths = completed - opened.times
        intervals = candles.intervals
        if self._days is None:
            first = candles.first_open
            price = self._prices(np.array([first.price]), opened.days, ticks)
            first_open = FirstOpen(first.time + self._shift, float(price[0]))
        else:
            intervals = tuple(length for length in intervals if (lengths == length).any())
            first_open = FirstOpen(int(opened.times[0]), float(columns["open"][0]))
        times = {"open_time": opened.times}
        if len(intervals) > 1:
            times["complete_time"] = completed
        arrays = {**times, **columns}
        for column in arrays.values():
            column.flags.writeable = False
        return Candles.restore(CandleArrays(self._name, intervals, first_open, arrays))

    def funding(self, rates: FundingRates) -> FundingRates:
        """Return the funding rates in disguise; in the mirror, what was paid is received."""
        settled = self._rows(rates.time, rates.time)
        marks = rates.mark[settled.rows]
        rate = rates.rate[settled.rows]
        columns = {
            "time": settled.times,
            # Not the negative, which would make a zero negative.
            "rate": 0 - rate if self._variant == "mirror" else rate,
            "interval": rates.interval[settled.rows],
            "mark": self._known_prices(marks, settled.days),
        }
        return FundingRates.restore(FundingArrays(self._name, columns))

    def real_time(self, time: int) -> int:
        """Return the time that is shown as ``time``; the end of a day belongs to the day."""
        shown = time - self._shift
        return shown if self._days is None else shown - int(self._days.shifts[self._place(shown)])

    def real_price(self, time: int, price: float) -> float:
        """Return the price that is shown as ``price`` at ``time``, to 8 significant digits."""
        if self._variant == "mirror":
            real = self._scale.mirror / price
        elif self._days is not None:
            real = price / float(self._levels[self._place(time - self._shift)])
        else:
            real = price / float(self._scale.factor)
        return float(significant(np.array([real]), VOLUME_DIGITS)[0])

    def _place(self, shown: int) -> int:
        """Return the place of the drawn day in which a time lies, or with which it ends."""
        assert self._days is not None
        place = (shown - 1) // DAY - self._days.first
        return min(max(place, 0), len(self._days.sources) - 1)

    def _rows(self, opened: Integers, completed: Integers) -> _Rows:
        """Return the rows that are shown, given the times at which they begin and end."""
        if self._days is None:
            return _Rows(slice(None), opened[:0], opened + self._shift)
        rows, days = self._days.rows(opened)
        shifts = self._days.shifts[days]
        start, end = self._days.span
        inside = (opened[rows] + shifts >= start) & (completed[rows] + shifts <= end)
        rows, days = rows[inside], days[inside]
        return _Rows(rows, days, opened[rows] + self._days.shifts[days] + self._shift)

    def _levels_of(self, days: DrawnDays, candles: Candles) -> Floats:
        """Return the levels of the days, at which the first candle opens at the scale's first price."""
        levels = days.levels(candles)
        shown = self._rows(candles.open_time, candles.complete_time)
        if not len(shown.times):
            return levels
        first, ticks = candles.open[shown.rows][:1], _ticks_of(candles, self._disguise)
        blurred = first if ticks is None else ticks.blurred(first)
        opened = float(blurred[0] * levels[shown.days[0]])
        return levels * (self._scale.first * float(self._scale.factor) / opened)

    def _known_prices(self, prices: Floats, days: Integers) -> Floats:
        """Return prices in disguise; NaN, which stands for none, stays."""
        known = ~np.isnan(prices)
        disguised = np.full(len(prices), np.nan)
        ticks = None
        if self._disguise.settings.prices is True:
            ticks = Ticks.of(self._disguise.settings.seed, self._name, prices[known])
        kept = days if self._days is None else days[known]
        disguised[known] = self._prices(prices[known], kept, ticks)
        return disguised

    def _prices(self, prices: Floats, days: Integers, ticks: Ticks | None) -> Floats:
        if ticks is not None:
            prices = ticks.blurred(prices)
        if self._variant == "mirror":
            disguised = significant(self._scale.mirror / prices, PRICE_DIGITS)
        elif self._variant == "bootstrap":
            disguised = significant(prices * self._levels[days], PRICE_DIGITS)
        elif self._scale.is_exact:
            disguised = self._scale.prices(prices)
        else:
            disguised = significant(self._scale.prices(prices), PRICE_DIGITS)
        if disguised.size and not (disguised.min() > 0 and disguised.max() <= float(MAXIMUM)):
            raise self._out_of_range("prices")
        return disguised

    def _blurred_volumes(self, candles: Candles) -> Floats:
        settings, volumes = self._disguise.settings, candles.volume
        if settings.prices is not True:
            return volumes
        lots = Ticks.of_volumes(settings.seed, pair_of(candles.symbol), volumes)
        return volumes if lots is None else np.where(volumes > 0, lots.blurred(volumes), 0.0)

    def _volumes(self, volumes: Floats, close: Floats, disguised_close: Floats) -> Floats:
        """Return volumes that leave the quote volume as it is."""
        if self._variant != "none":
            disguised = significant(volumes * close / disguised_close, VOLUME_DIGITS)
        elif self._scale.is_exact:
            disguised = self._scale.volumes(volumes)
        else:
            disguised = significant(self._scale.volumes(volumes), VOLUME_DIGITS)
        if disguised.max() > MAXIMUM_VOLUME:
            raise self._out_of_range("volumes")
        return disguised

    def _out_of_range(self, what: str) -> InvalidParameter:
        return InvalidParameter(
            "variant",
            f"{self._variant} gives {self._name} {what} beyond those of any market, because its"
            " own go too far; use a shorter time, or another variant",
        )
