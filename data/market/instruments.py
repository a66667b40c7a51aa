"""Listings of symbols, with the last price and the volume of the last day."""

from collections.abc import Iterable
from typing import NamedTuple

from candlestep.data.market.catalogue import Series, by_symbol
from candlestep.data.store.database import Store
from candlestep.sandbox.clock import DAY


class LastDay(NamedTuple):
    """The price and volume of a symbol as of its last candle."""

    last_price: float
    volume: float
    """The volume of the last 24 hours in quote currency, each candle's valued at its close."""


class Listing(NamedTuple):
    """A symbol and the range of its current candles."""

    symbol: str
    base: str
    quote: str
    start: int
    """The open time of the first candle of any interval, in ms."""
    end: int
    """The completion of the last candle, in ms."""
    last: LastDay


def list_instruments(store: Store, exchange: str, all_series: Iterable[Series]) -> list[Listing]:
    """Return the symbols of an exchange, sorted; ``all_series`` are the current ones.

    Reads a day of candles of each symbol.
    """
    groups = by_symbol(series for series in all_series if series.exchange == exchange)
    # The series that ends last; among equals, the finest.
    latest = [
        min(group, key=lambda series: (-series.end, series.interval)) for group in groups.values()
    ]
    last_days = _last_days(store, exchange, latest)
    return [
        Listing(
            symbol,
            group[0].base,
            group[0].quote,
            min(series.start for series in group),
            max(series.end for series in group),
            last_days[symbol],
        )
        for (_, symbol), group in sorted(groups.items())
        if symbol in last_days
    ]


def updated_at(store: Store, exchange: str) -> int:
    """Return when candles of the exchange were last imported, in ms; 0 if never."""
    time: int = store.rows(
        "SELECT coalesce(epoch_ms(max(imported_at)), 0) FROM imports"
        " JOIN instruments USING (instrument_id) WHERE exchange = ?",
        exchange,
    )[0][0]
    return time


def _last_days(store: Store, exchange: str, latest: list[Series]) -> dict[str, LastDay]:
    rows = store.rows(
        "SELECT c.symbol, arg_max(close, c.open_time), sum(volume * close)"
        " FROM current_candles c JOIN (SELECT unnest(?::VARCHAR[]) AS symbol,"
        "  unnest(?::INTEGER[]) AS interval_seconds, unnest(?::BIGINT[]) AS since) w"
        " ON c.symbol = w.symbol AND c.interval_seconds = w.interval_seconds"
        "  AND c.open_time >= epoch_ms(w.since)"
        " WHERE exchange = ? AND c.open_time >= epoch_ms(?::BIGINT) GROUP BY c.symbol",
        [series.symbol for series in latest],
        [series.interval // 1000 for series in latest],
        [series.end - DAY for series in latest],
        exchange,
        min((series.end for series in latest), default=0) - DAY,
    )
    return {symbol: LastDay(price, volume) for symbol, price, volume in rows}
