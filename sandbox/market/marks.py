"""The mark line: the candles of the mark price on the grid of the candles that are traded."""

import numpy as np
from numpy.typing import NDArray

from candlestep.sandbox.market.candles import CandleArrays, Candles, FirstOpen, Floats, Integers


def mark_line(candles: Candles, marks: Candles) -> Candles:
    """Return ``candles`` with the prices of ``marks`` wherever these span exactly the same time.

    A candle takes the prices of the mark candle of its own open and completion, or of several
    finer ones that follow one another through all of its time. Linear.
    """
    has_mark, first, stop = spanned(candles, marks)
    line = {name: np.array(getattr(candles, name)) for name in ("open", "high", "low", "close")}
    if not has_mark.any():
        return candles
    first, stop = first[has_mark], stop[has_mark]
    line["open"][has_mark] = marks.open[first]
    line["close"][has_mark] = marks.close[stop - 1]
    line["high"][has_mark] = _reduced(np.maximum, marks.high, first, stop)
    line["low"][has_mark] = _reduced(np.minimum, marks.low, first, stop)
    columns = {
        "open_time": candles.open_time,
        "complete_time": candles.complete_time,
        **line,
        "volume": np.zeros(len(candles)),
    }
    for column in columns.values():
        column.flags.writeable = False
    first_open = candles.first_open
    if has_mark[0] and first_open.time == int(candles.open_time[0]):
        first_open = FirstOpen(first_open.time, float(line["open"][0]))
    return Candles.restore(CandleArrays(candles.symbol, candles.intervals, first_open, columns))


def spanned(candles: Candles, marks: Candles) -> tuple[NDArray[np.bool_], Integers, Integers]:
    """Return which candles the marks span, and for each the first mark and the one after its last."""
    opens, completions = candles.open_time, candles.complete_time
    first = np.searchsorted(marks.open_time, opens)
    stop = np.searchsorted(marks.complete_time, completions, side="right")
    elapsed = np.concatenate([[0], np.cumsum(marks.complete_time - marks.open_time)])
    has_any = first < stop
    # Marks do not overlap, so those inside a candle span it if their lengths add up to its own.
    lengths = elapsed[np.maximum(stop, first)] - elapsed[first]
    return has_any & (lengths == completions - opens), first, stop


def _reduced(function: np.ufunc, values: Floats, first: Integers, stop: Integers) -> Floats:
    """Return the extreme of ``values`` in each of the spans, which do not overlap."""
    bounds = np.stack([first, stop], axis=1).ravel()
    padded = np.append(values, values[-1])  # ``reduceat`` takes no bound at the very end.
    reduced: Floats = function.reduceat(padded, bounds)[::2]
    return reduced
