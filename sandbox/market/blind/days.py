"""Days drawn anew: the stationary bootstrap of whole UTC days, in blocks of random length."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from candlestep.sandbox.clock import DAY
from candlestep.sandbox.errors import InvalidParameter
from candlestep.sandbox.market.blind.draws import Draws
from candlestep.sandbox.market.blind.rounding import Floats
from candlestep.sandbox.market.candles import Candles, Integers
from candlestep.sandbox.market.spans import Span, intersect_spans, union_spans

MEAN_BLOCK = 5
"""The mean length of a block, in days."""


class DrawnDays(NamedTuple):
    """The days of a market, each of which shows what happened on a drawn one."""

    first: int
    """The first day, by its number since 1970."""
    sources: Integers
    """The number of the day that each shows."""
    span: Span
    """The time of the market, in ms; parts of the first and the last day lie outside it."""

    @classmethod
    def draw(cls, seed: int, span: Span) -> "DrawnDays":
        """Draw from the days that lie in ``span`` as a whole; raises ``InvalidParameter``."""
        start, end = span
        first_whole, count = -(-start // DAY), end // DAY - -(-start // DAY)
        if count < 1:
            raise InvalidParameter(
                "variant",
                "bootstrap draws whole UTC days, and the market has none; give it a longer time",
            )
        draws = Draws(seed, "bootstrap")
        sources: list[int] = []
        for _ in range(start // DAY, end // DAY + 1):
            if not sources or not draws.below(MEAN_BLOCK):
                sources.append(draws.below(count))
            else:
                sources.append((sources[-1] + 1) % count)
        return cls(start // DAY, np.array(sources, dtype=np.int64) + first_whole, span)

    def rows(self, times: Integers) -> tuple[Integers, Integers]:
        """Return the rows of sorted ``times`` that the days show, and the place of the day of each."""
        start = np.searchsorted(times, self.sources * DAY)
        counts = np.searchsorted(times, (self.sources + 1) * DAY) - start
        days = np.repeat(np.arange(len(counts)), counts)
        before = np.cumsum(counts) - counts
        return np.arange(len(days)) - np.repeat(before - start, counts), days

    @property
    def shifts(self) -> Integers:
        """The time from each source to the day that shows it, in ms."""
        return (self.first + np.arange(len(self.sources)) - self.sources) * DAY

    def covered(self, spans: Sequence[Span]) -> list[Span]:
        """Return the spans of time that are covered, given those that the sources cover."""
        shown = []
        for source, shift in zip(self.sources.tolist(), self.shifts.tolist(), strict=True):
            day = [(source * DAY, (source + 1) * DAY)]
            shown += [(a + shift, b + shift) for a, b in intersect_spans(spans, day)]
        return intersect_spans(union_spans(shown), [self.span])

    def levels(self, candles: Candles) -> Floats:
        """Return the factor of the prices of each day, so that they go on where the day before ends.

        A day opens at the last close before it, times the ratio at which its source opened.
        """
        start = np.searchsorted(candles.open_time, self.sources * DAY)
        stop = np.searchsorted(candles.open_time, (self.sources + 1) * DAY)
        before = np.where(start > 0, candles.close[start - 1], candles.open[0])
        after = np.where(stop > start, candles.close[stop - 1], before)
        reached = np.cumprod(after / before)
        return np.concatenate([[1.0], reached[:-1]]) / before


def require_within_days(candles: Candles) -> None:
    """Raise ``InvalidParameter`` unless each candle lies within one UTC day."""
    astray = (candles.complete_time - 1) // DAY != candles.open_time // DAY
    if astray.any():
        raise InvalidParameter(
            "variant",
            f"bootstrap draws whole UTC days, and {candles.symbol} has candles that lie in two;"
            " use candles of a day or less that open on the hour",
        )
