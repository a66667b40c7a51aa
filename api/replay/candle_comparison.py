"""The candles of a file that are others than those of the market that a recording ran on."""

from collections.abc import Sequence

import msgspec
import numpy as np

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

    ``series`` are those of the file. Candles that the session cannot read, or that the file does not span, are left out. Raises
    ``UnreadableFile``, also if no symbol of the file is in the market.
    """
    request = candle_request(start, 0)
    first = month_start(request.start - request.look_back)
    found: list[CandleDifference] = []
    known = [one for one in series if one.pair.symbol in market]
    if not known:
        symbols = ", ".join(market.symbols)
        raise UnreadableFile(file, f"it has no candles of {symbols}, which the recording has")
    for one in known:
        found += _different(one, market.candles_of(one.pair.symbol), first, request.end)
    return msgspec.structs.replace(
        result, different_candles=found[:_MOST_SHOWN], different_candle_count=len(found)
    )


def _different(
    series: ReadSeries, candles: Candles, first: int, end: int
) -> list[CandleDifference]:
    """Return the candles of one symbol that differ between ``first`` and ``end``, in ms."""
    times = series.candles.open_time
    first, end = max(first, int(times[0])), min(end, int(times[-1]) + series.interval)
    in_file = _rows(times, np.column_stack(series.candles.numbers()), first, end - series.interval)
    columns = candles.arrays.columns
    same_interval = columns["complete_time"] - columns["open_time"] == series.interval
    numbers = np.column_stack([columns[name] for name in PRICES])[same_interval]
    in_market = _rows(columns["open_time"][same_interval], numbers, first, end - series.interval)
    return [
        CandleDifference(candles.symbol, format_time(time), in_file.get(time), in_market.get(time))
        for time in sorted({*in_file, *in_market})
        if in_file.get(time) != in_market.get(time)
    ]


def _rows(
    times: np.ndarray[tuple[int], np.dtype[np.int64]],
    numbers: np.ndarray[tuple[int, int], np.dtype[np.float64]],
    first: int,
    last: int,
) -> dict[int, list[float]]:
    """Return the numbers of the candles that open from ``first`` to ``last``, by open time."""
    chosen = (times >= first) & (times <= last)
    return dict(zip(times[chosen].tolist(), numbers[chosen].tolist(), strict=True))
