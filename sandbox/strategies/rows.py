"""The candles of all symbols of a program, in the order in which it sees them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from candlestep.sandbox.indicators.bars import Bars, SessionRows
from candlestep.sandbox.indicators.indicators import Values
from candlestep.sandbox.strategies.conditions import Booleans

Column = NDArray[Any]


class Chunk(NamedTuple):
    """Consecutive candles; each column has one number a candle."""

    bar: list[int]
    """Index of the candle in its symbol's bars."""
    step: list[int]
    """Step at which it is complete."""
    place: list[int]
    """Index of its symbol."""
    columns: list[list[Any]]
    """Index of its symbol, 1 if the program is called for it (0 if it only precedes one for which
    it is), when it is complete, its prices, and the values of the indicators."""


class ProgramRows:
    """Candles by step, and at one step by symbol.

    These are the candles for which the program is called, and the one before each run of them. A
    candle takes about 20 bytes of memory, besides the bars and values, which are shared.
    """

    def __init__(
        self,
        all_bars: Sequence[Bars],
        all_rows: Sequence[SessionRows],
        values: Sequence[Values],
        names: Sequence[str],
    ) -> None:
        """Take the bars, the session's rows and the values of each symbol; ``names`` of values."""
        self._columns = [
            (bars.complete_time, *(columns[name] for name in names))
            for bars, columns in zip(all_bars, values, strict=True)
        ]
        by_symbol = []
        for place, (bars, session_rows) in enumerate(zip(all_bars, all_rows, strict=True)):
            calls = _calls(session_rows, self._columns[place][1:])
            rows = np.flatnonzero(calls | np.append(calls[1:], False))
            steps = np.zeros(len(rows), dtype=np.int64)
            within = rows >= session_rows.first
            steps[within] = session_rows.steps[rows[within] - session_rows.first]
            places = np.full(len(rows), place, dtype=np.int16)
            by_symbol.append((rows, steps, places, calls[rows], bars.complete_time[rows]))
        columns = [np.concatenate(parts) for parts in zip(*by_symbol, strict=True)]
        if len(all_bars) > 1:
            order = np.lexsort((columns[4], columns[2], columns[1]))
            columns = [column[order] for column in columns]
        self._rows, self._steps, self._places, self._is_call, _ = columns

    def __len__(self) -> int:
        return len(self._rows)

    def chunk(self, start: int, stop: int) -> Chunk:
        """Return the candles in ``[start, stop)``."""
        part = slice(start, stop)
        rows, places = self._rows[part], self._places[part]
        columns = [places, self._is_call[part].astype(np.int8), *self._gather(rows, places)]
        return Chunk(
            rows.tolist(),
            self._steps[part].tolist(),
            places.tolist(),
            [column.tolist() for column in columns],
        )

    def _gather(self, rows: Column, places: Column) -> list[Column]:
        if len(self._columns) == 1:
            return [column[rows] for column in self._columns[0]]
        gathered = [np.empty(len(rows), dtype=column.dtype) for column in self._columns[0]]
        for place in np.flatnonzero(np.bincount(places)):
            is_of_symbol = places == place
            for target, column in zip(gathered, self._columns[place], strict=True):
                target[is_of_symbol] = column[rows[is_of_symbol]]
        return gathered


def _calls(session_rows: SessionRows, values: Sequence[Column]) -> Booleans:
    """Return at which bars the program is called."""
    known = np.logical_and.reduce([np.isfinite(column) for column in values])
    calls = np.zeros(len(known), dtype=bool)
    calls[1:] = known[1:] & known[:-1]
    calls[: session_rows.first] = False
    calls[session_rows.stop :] = False
    return calls
