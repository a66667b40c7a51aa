"""The candles of a file that are others than those of the market that a recording ran on."""

from collections.abc import Sequence
from typing import NamedTuple, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from candlestep.api.replay.difference import CandleDifference, ReplayResult
from candlestep.api.sessions.recovery import candle_request
from candlestep.data.errors import UnreadableFile
from candlestep.data.imports.series import ReadSeries
from candlestep.data.journal.records import Start
from candlestep.data.market.candle_cache import month_start
from candlestep.sandbox import Candles, Market, format_time
from candlestep.sandbox.market.candles import PRICES

_MOST_SHOWN = 20


def compare_candles(
    result: ReplayResult, start: Start, market: Market, file: str, series: Sequence[ReadSeries]
) -> ReplayResult:
    """Return the result with the candles of a file that the market has otherwise.

    ``series`` are those of the file. Candles that the session cannot read, or that the file does
    not span, are left out. Raises ``UnreadableFile``, also if no symbol of the file is in the
    market.
    """
    request = candle_request(start, 0)
    first = month_start(request.start - request.look_back)
    found: list[CandleDifference] = []
    count = 0
    known = [one for one in series if one.pair.symbol in market]
    if not known:
        symbols = ", ".join(market.symbols)
        raise UnreadableFile(file, f"it has no candles of {symbols}, which the recording has")
    for one in known:
        differing, their_count = _different(
            one, market.candles_of(one.pair.symbol), first, request.end
        )
        found += differing
        count += their_count
    return msgspec.structs.replace(
        result, different_candles=found[:_MOST_SHOWN], different_candle_count=count
    )


def _different(
    series: ReadSeries, candles: Candles, first: int, end: int
) -> tuple[list[CandleDifference], int]:
    """Return the first candles of one symbol that differ between ``first`` and ``end``, in ms.

    Also return the number of all.
    """
    times = series.candles.open_time
    first, end = max(first, int(times[0])), min(end, int(times[-1]) + series.interval)
    in_file = _Rows.between(
        first, end, times, np.column_stack(series.candles.numbers()), series.interval
    )
    columns = candles.arrays.columns
    same_interval = columns["complete_time"] - columns["open_time"] == series.interval
    numbers = np.column_stack([columns[name] for name in PRICES])[same_interval]
    in_market = _Rows.between(
        first, end, columns["open_time"][same_interval], numbers, series.interval
    )
    either = np.union1d(in_file.times, in_market.times)
    # The rows of a time that is not there are NaN, which equals nothing.
    is_same = in_file.at(either) == in_market.at(either)
    differing = either[~is_same.all(axis=1)]
    shown = [
        CandleDifference(
            candles.symbol, format_time(time), in_file.candle(time), in_market.candle(time)
        )
        for time in differing[:_MOST_SHOWN].tolist()
    ]
    return shown, len(differing)


class _Rows(NamedTuple):
    """Candles of one interval by their open times, which are sorted."""

    times: NDArray[np.int64]
    numbers: NDArray[np.float64]

    @classmethod
    def between(
        cls,
        first: int,
        end: int,
        times: NDArray[np.int64],
        numbers: NDArray[np.float64],
        interval: int,
    ) -> Self:
        """Return those of the candles that open from ``first`` on and are complete at ``end``."""
        rows = slice(*np.searchsorted(times, (first, end - interval + 1)))
        return cls(times[rows], numbers[rows])

    def at(self, times: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the numbers at these times, among which are all of its own; NaN at the others."""
        numbers = np.full((len(times), len(PRICES)), np.nan)
        numbers[np.searchsorted(times, self.times)] = self.numbers
        return numbers

    def candle(self, time: int) -> list[float] | None:
        """Return the numbers of one candle; None if there is none at this time."""
        row = int(np.searchsorted(self.times, time))
        if row == len(self.times) or self.times[row] != time:
            return None
        numbers: list[float] = self.numbers[row].tolist()
        return numbers
