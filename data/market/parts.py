"""The parts of a market: candles, mark prices and funding rates, each under the name of its line."""

from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import itemgetter

import numpy as np

from candlestep.data.market.candle_loading import Period
from candlestep.data.records.lines import lines_of
from candlestep.data.store.database import Store
from candlestep.data.symbols import is_perpetual, name_of_line, symbol_of_line
from candlestep.sandbox import Candles, FundingRates, Market
from candlestep.sandbox.market.funding import FundingArrays

Part = Candles | FundingRates
"""Candles or mark prices under the name of their line, or the funding rates of a symbol."""


def names_of_lines(symbols: Iterable[str]) -> list[str]:
    """Return the names of the lines that a market of these symbols has, each once."""
    names: dict[str, None] = {}
    for symbol in symbols:
        names[symbol] = None
        if is_perpetual(symbol):
            names[name_of_line(symbol, "mark")] = None
            names[name_of_line(symbol, "funding")] = None
    return list(names)


def market_of(parts: Iterable[Part]) -> Market | None:
    """Return the market of these parts; None without candles.

    Mark prices and funding rates of a symbol that has no candles among the parts are left out.
    """
    candles: list[Candles] = []
    marks: list[Candles] = []
    funding: list[FundingRates] = []
    for part in parts:
        if isinstance(part, FundingRates):
            funding.append(part)
        elif part.symbol == symbol_of_line(part.symbol):
            candles.append(part)
        else:
            marks.append(under_symbol(part))
    known = {one.symbol for one in candles}
    if not known:
        return None
    return Market(
        candles,
        [one for one in marks if one.symbol in known],
        [one for one in funding if one.symbol in known],
    )


def under_symbol(marks: Candles) -> Candles:
    """Return mark prices, which have the name of their line, under the symbol; arrays are shared."""
    arrays = marks.arrays
    return Candles.restore(arrays._replace(symbol=symbol_of_line(arrays.symbol)))


def load_funding(
    store: Store, exchange: str, symbols: Iterable[str], period: Period
) -> Iterator[FundingRates]:
    """Yield the funding rates of each symbol that has any in a period, its end included."""
    lines = lines_of(store, exchange, list(symbols), "funding")
    rows = store.rows(
        "SELECT instrument_id, epoch_ms(settled_at), rate, interval_ms,"
        " coalesce(mark, 'nan'::DOUBLE) FROM funding"
        " WHERE instrument_id IN (SELECT unnest(?::INTEGER[])) AND import_number <= ?"
        " AND (superseded_by IS NULL OR superseded_by > ?)"
        " AND settled_at >= epoch_ms(?::BIGINT) AND settled_at <= epoch_ms(?::BIGINT)"
        " ORDER BY instrument_id, settled_at",
        list(lines), period.as_of, period.as_of, period.start, period.end,
    )  # fmt: skip
    for line, of_line in groupby(rows, key=itemgetter(0)):
        _, times, rates, intervals, marks = zip(*of_line, strict=True)
        columns = {
            "time": np.array(times, dtype=np.int64),
            "rate": np.array(rates, dtype=np.float64),
            "interval": np.array(intervals, dtype=np.int64),
            "mark": np.array(marks, dtype=np.float64),
        }
        yield FundingRates.restore(FundingArrays(lines[line], columns))
