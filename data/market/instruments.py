"""Symbols as they are listed: the last price and the last day's volume, for those who choose one."""

from collections.abc import Iterable
from typing import NamedTuple

from candlestep.data.market.catalogue import Series, by_symbol
from candlestep.data.store.database import Store
from candlestep.sandbox.clock import DAY


class LastDay(NamedTuple):
    """Of a symbol, as of its last candle."""

    last_price: float
    volume: float
    """Of the 24 hours up to then, in quote currency: each candle's volume at its close."""


class Listing(NamedTuple):
    """A symbol, and what there is of it as of now."""

    symbol: str
    base: str
    quote: str
    start: int
    """Open time of the first candle, of any interval, in ms."""
    end: int
    """Completion of the last one."""
    last: LastDay


def list_instruments(store: Store, exchange: str, series: Iterable[Series]) -> list[Listing]:
    """The symbols of an exchange, sorted, of all ``series`` that there are as of now.

    Reads a day of candles of each.
    """
    groups = by_symbol(each for each in series if each.exchange == exchange)
    # The candles that go on the longest, and of these the finest.
    longest = [min(group, key=lambda one: (-one.end, one.interval)) for group in groups.values()]
    found = _last_days(store, exchange, longest)
    return [
        Listing(
            symbol,
            group[0].base,
            group[0].quote,
            min(each.start for each in group),
            max(each.end for each in group),
            found[symbol],
        )
        for (_, symbol), group in sorted(groups.items())
        if symbol in found
    ]


def updated_at(store: Store, exchange: str) -> int:
    """When candles of the exchange were last imported, in ms."""
    time: int = store.rows(
        "SELECT coalesce(epoch_ms(max(imported_at)), 0) FROM imports"
        " JOIN instruments USING (instrument_id) WHERE exchange = ?",
        exchange,
    )[0][0]
    return time


def _last_days(store: Store, exchange: str, series: list[Series]) -> dict[str, LastDay]:
    found = store.rows(
        "SELECT c.symbol, arg_max(close, c.open_time), sum(volume * close)"
        " FROM current_candles c JOIN (SELECT unnest(?::VARCHAR[]) AS symbol,"
        "  unnest(?::INTEGER[]) AS interval_seconds, unnest(?::BIGINT[]) AS since) w"
        " ON c.symbol = w.symbol AND c.interval_seconds = w.interval_seconds"
        "  AND c.open_time >= epoch_ms(w.since)"
        " WHERE exchange = ? AND c.open_time >= epoch_ms(?::BIGINT) GROUP BY c.symbol",
        [each.symbol for each in series],
        [each.interval // 1000 for each in series],
        [each.end - DAY for each in series],
        exchange,
        min((each.end for each in series), default=0) - DAY,
    )
    return {symbol: LastDay(price, volume) for symbol, price, volume in found}
