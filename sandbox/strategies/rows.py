"""What a program is shown: the candles of all its symbols, in the order in which it sees them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from candlestep.sandbox.indicators.bars import Bars, SessionRows
from candlestep.sandbox.indicators.indicators import Values
from candlestep.sandbox.strategies.conditions import Booleans

Column = NDArray[Any]


class Chunk(NamedTuple):
    """Some candles in a row; each column has one number of each."""

    frame_row: list[int]
    step: list[int]
    """At which it is complete."""
    lane: list[int]
    """Of which symbol it is."""
    columns: list[list[Any]]
    """Its symbol's number, 1 if the program is called for it (0 if it is only there as the
    previous one of the next), when it is complete, its prices, and the indicators' values."""


class ProgramRows:
    """Candles by time, those of one time by symbol: those at which, and before which, every value
    is known, and before each stretch of such the one before.

    In memory a candle takes some twenty bytes beside the frames and values, which are shared.
    """

    def __init__(
        self,
        frames: Sequence[Bars],
        windows: Sequence[SessionRows],
        values: Sequence[Values],
        names: Sequence[str],
    ) -> None:
        """Of each symbol its frame, what of it lies in the session, and the values by name."""
        self._columns = [
            (frame.complete_time, *(columns[name] for name in names))
            for frame, columns in zip(frames, values, strict=True)
        ]
        found = []
        for lane, (frame, window) in enumerate(zip(frames, windows, strict=True)):
            calls = _calls(window, self._columns[lane][1:])
            rows = np.flatnonzero(calls | np.append(calls[1:], False))
            steps = np.zeros(len(rows), dtype=np.int64)
            within = rows >= window.first
            steps[within] = window.steps[rows[within] - window.first]
            lanes = np.full(len(rows), lane, dtype=np.int16)
            found.append((rows, steps, lanes, calls[rows], frame.complete_time[rows]))
        parts = [np.concatenate(parts) for parts in zip(*found, strict=True)]
        if len(frames) > 1:
            order = np.lexsort((parts[2], parts[4]))
            parts = [part[order] for part in parts]
        self._rows, self._steps, self._lanes, self._is_call, _ = parts

    def __len__(self) -> int:
        return len(self._rows)

    def chunk(self, start: int, stop: int) -> Chunk:
        """The candles in ``[start, stop)``."""
        part = slice(start, stop)
        rows, lanes = self._rows[part], self._lanes[part]
        columns = [lanes, self._is_call[part].astype(np.int8), *self._gathered(rows, lanes)]
        return Chunk(
            rows.tolist(),
            self._steps[part].tolist(),
            lanes.tolist(),
            [column.tolist() for column in columns],
        )

    def _gathered(self, rows: Column, lanes: Column) -> list[Column]:
        if len(self._columns) == 1:
            return [column[rows] for column in self._columns[0]]
        gathered = [np.empty(len(rows), dtype=column.dtype) for column in self._columns[0]]
        for lane in np.flatnonzero(np.bincount(lanes)):
            mine = lanes == lane
            for all_lanes, column in zip(gathered, self._columns[lane], strict=True):
                all_lanes[mine] = column[rows[mine]]
        return gathered


def _calls(window: SessionRows, values: Sequence[Column]) -> Booleans:
    """Where in the frame the program is called."""
    known = np.logical_and.reduce([np.isfinite(column) for column in values])
    calls = np.zeros(len(known), dtype=bool)
    calls[1:] = known[1:] & known[:-1]
    calls[: window.first] = False
    calls[window.stop :] = False
    return calls
