"""Candles read from the store: those of many symbols in few queries, each in arrays of its own."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from candlestep.data.imports.storing.day_digests import read_day_digests
from candlestep.data.store.database import Store
from candlestep.sandbox import Candles
from candlestep.sandbox.market.candles import PRICES, CandleArrays, FirstOpen, Integers
from candlestep.sandbox.market.fingerprint import DayDigests

_ROWS_AT_ONCE = 1_000_000

AS_OF = (
    " FROM candles WHERE instrument_id IN (SELECT unnest(?::INTEGER[])) AND import_number <= ?"
    " AND (superseded_by IS NULL OR superseded_by > ?)"
    " AND open_time >= epoch_ms(?::BIGINT) AND open_time < epoch_ms(?::BIGINT)"
)
"""The candles of a list of instruments as of an import, given twice, in a period."""


class Period(NamedTuple):
    """Candles of any symbol as of an import, which open from ``start`` until before ``end`` (ms)."""

    as_of: int
    start: int
    end: int


def instrument_ids(store: Store, exchange: str, symbols: Sequence[str]) -> dict[int, str]:
    """Return the symbols that the store knows, by their ids, which count up."""
    rows = store.rows(
        "SELECT instrument_id, symbol FROM instruments"
        " WHERE exchange = ? AND list_contains(?::VARCHAR[], symbol) ORDER BY instrument_id",
        exchange,
        list(symbols),
    )
    return dict(rows)


def count_candles(store: Store, ids: Sequence[int], period: Period) -> dict[int, int]:
    """Return the number of stored candles of each instrument that has any."""
    rows = store.rows(
        f"SELECT instrument_id, count(*){AS_OF} GROUP BY instrument_id", *_parameters(ids, period)
    )
    return dict(rows)


def load_candles(
    store: Store,
    symbols: Mapping[int, str],
    counts: Mapping[int, int],
    period: Period,
    rows_at_once: int = _ROWS_AT_ONCE,
) -> Iterator[Candles]:
    """Yield the candles of each instrument, given its symbol and its ``count_candles``.

    A query reads symbols with at most ``rows_at_once`` candles, or a single one with more, in the
    order in which they are stored: no query sorts them.
    Symbols whose candles open at the same times share the array of these.
    """
    digests = read_day_digests(store, list(symbols), *period)
    known_times: dict[tuple[int, int, int], Integers] = {}
    for ids in _portions(sorted(symbols), counts, rows_at_once):
        columns = store.arrays(
            f"SELECT instrument_id, interval_seconds, open_time, {', '.join(PRICES)}{AS_OF}",
            *_parameters(ids, period),
        )
        for instrument_id, series in _by_series(columns).items():
            symbol = symbols[instrument_id]
            if len(series) == 1:
                [(seconds, arrays)] = series.items()
                _share_times(arrays, known_times)
                known = digests.get((instrument_id, seconds))
                yield _of_one_interval(symbol, seconds, arrays, known)
            else:
                yield Candles.merge(
                    [_of_one_interval(symbol, *one) for one in sorted(series.items())]
                )


def _parameters(ids: Sequence[int], period: Period) -> tuple[Any, ...]:
    return (ids, period.as_of, period.as_of, period.start, period.end)


def _portions(ids: Sequence[int], counts: Mapping[int, int], most: int) -> Iterator[list[int]]:
    """Yield the instruments in groups of at most ``most`` candles, or one alone."""
    portion: list[int] = []
    rows = 0
    for instrument_id in ids:
        rows += counts[instrument_id]
        if portion and rows > most:
            yield portion
            portion, rows = [], counts[instrument_id]
        portion.append(instrument_id)
    if portion:
        yield portion


def _by_series(
    columns: dict[str, NDArray[Any]],
) -> dict[int, dict[int, dict[str, NDArray[Any]]]]:
    """Return the columns of each instrument and interval (in seconds), sorted by open time.

    Rows of a series mostly follow each other, because an import has inserted them together.
    """
    ids, seconds = columns["instrument_id"], columns["interval_seconds"]
    changes = np.flatnonzero((ids[1:] != ids[:-1]) | (seconds[1:] != seconds[:-1])) + 1
    runs: dict[tuple[int, int], list[slice]] = {}
    for start, stop in pairwise([0, *changes.tolist(), len(ids)]):
        if start < stop:
            runs.setdefault((int(ids[start]), int(seconds[start])), []).append(slice(start, stop))
    result: dict[int, dict[int, dict[str, NDArray[Any]]]] = {}
    for (instrument_id, interval), parts in runs.items():
        # Copies, so that what one symbol holds is its own.
        arrays = {name: np.concatenate([columns[name][part] for part in parts]) for name in PRICES}
        microseconds = [columns["open_time"][part].view(np.int64) for part in parts]
        arrays["open_time"] = times = np.concatenate([column // 1000 for column in microseconds])
        if len(parts) > 1 or (times[1:] <= times[:-1]).any():
            order = np.argsort(times, kind="stable")
            arrays = {name: column[order] for name, column in arrays.items()}
        for column in arrays.values():
            column.flags.writeable = False
        result.setdefault(instrument_id, {})[interval] = arrays
    return result


def _share_times(
    arrays: dict[str, NDArray[Any]], known: dict[tuple[int, int, int], Integers]
) -> None:
    """Replace the open times by an equal array that is known, or else make them known."""
    times: Integers = arrays["open_time"]
    same = known.setdefault((len(times), int(times[0]), int(times[-1])), times)
    if same is not times and np.array_equal(same, times):
        arrays["open_time"] = same


def _of_one_interval(
    symbol: str,
    seconds: int,
    arrays: dict[str, NDArray[Any]],
    digests: DayDigests | None = None,
) -> Candles:
    first = FirstOpen(int(arrays["open_time"][0]), float(arrays["open"][0]))
    return Candles.restore(CandleArrays(symbol, (seconds * 1000,), first, arrays), digests)
