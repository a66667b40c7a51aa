"""Digests of the candles of each UTC day of a session, as a downloaded recording carries them.

Those of the mark prices and the funding rates of perpetuals are among them, by their lines.
"""

from collections.abc import Iterable
from hashlib import sha256

from candlestep.data.imports.storing.day_digests import read_day_digests
from candlestep.data.market.candle_cache import CandleRequest, month_start
from candlestep.data.market.candle_loading import AS_OF, Period, instrument_ids
from candlestep.data.market.parts import load_funding, names_of_lines
from candlestep.data.store.database import Store
from candlestep.data.symbols import name_of_line
from candlestep.sandbox.clock import DAY, format_time
from candlestep.sandbox.market.candles import PRICES
from candlestep.sandbox.market.fingerprint import day_digests

MOST_DIGESTS = 10_000
"""The most digests that a recording carries; it has none of its days if there would be more."""

_DIGITS = 16


def day_fingerprints(store: Store, request: CandleRequest) -> dict[str, dict[str, str]] | None:
    """Return a digest of the candles of each symbol and whole UTC day that a session can read.

    A candle counts to the day on which it opens, and only if it is complete by the session's end. A
    day that the session ends in is left out. Returns None if the symbols and days are more than
    ``MOST_DIGESTS``. Digests are read from the store; those that an older version did not store,
    and those of days of which a candle is not complete, are computed from the candles.
    """
    start = month_start(request.start - request.look_back)
    period = Period(request.as_of, start, request.end // DAY * DAY)
    symbols = instrument_ids(store, request.exchange, names_of_lines(request.symbols))
    if len(symbols) * ((period.end - period.start) // DAY) > MOST_DIGESTS:
        return None
    days = _days_with_candles(store, symbols, period, request.end)
    stored = read_day_digests(store, list(symbols), *period)
    by_symbol: dict[str, dict[int, list[bytes]]] = {}
    for (instrument_id, seconds), of_series in days.items():
        digests = stored.get((instrument_id, seconds), {})
        if not all(is_whole and day in digests for day, is_whole in of_series.items()):
            digests = _computed(store, (instrument_id, seconds), period, request.end)
        of_symbol = by_symbol.setdefault(symbols[instrument_id], {})
        for day in of_series:
            of_symbol.setdefault(day, []).append(digests[day])
    for rates in load_funding(store, request.exchange, request.symbols, period):
        columns = [rates.time, rates.rate, rates.interval, rates.mark]
        before_end = [column[: rates.first_after(period.end - 1)] for column in columns]
        if len(before_end[0]):
            digests_of_days = day_digests(before_end).items()
            by_symbol[name_of_line(rates.symbol, "funding")] = {
                day: [digest] for day, digest in digests_of_days
            }
    return {
        symbol: {
            format_time(day * DAY)[:10]: _joined(digests)
            for day, digests in sorted(of_symbol.items())
        }
        for symbol, of_symbol in sorted(by_symbol.items())
    }


def _days_with_candles(
    store: Store, ids: Iterable[int], period: Period, end: int
) -> dict[tuple[int, int], dict[int, bool]]:
    """Return the days since 1970 that have complete candles, by instrument and interval in seconds.

    With each day comes whether all of its candles are complete by ``end``.
    """
    is_complete = f"epoch_ms(open_time) + interval_seconds * 1000 <= {end}"
    rows = store.rows(
        f"SELECT instrument_id, interval_seconds, epoch_ms(open_time) // {DAY} AS day,"
        f" bool_and({is_complete}){AS_OF} GROUP BY ALL HAVING bool_or({is_complete}) ORDER BY ALL",
        list(ids), period.as_of, period.as_of, period.start, period.end,
    )  # fmt: skip
    days: dict[tuple[int, int], dict[int, bool]] = {}
    for instrument_id, seconds, day, is_whole in rows:
        days.setdefault((instrument_id, seconds), {})[day] = is_whole
    return days


def _computed(store: Store, series: tuple[int, int], period: Period, end: int) -> dict[int, bytes]:
    """Return the digests of the days of a series, from its candles that are complete by ``end``."""
    instrument_id, seconds = series
    last = min(period.end, end - seconds * 1000 + 1)
    columns = store.arrays(
        f"SELECT epoch_ms(open_time) AS open_time, {', '.join(PRICES)}{AS_OF}"
        " AND interval_seconds = ? ORDER BY open_time",
        [instrument_id], period.as_of, period.as_of, period.start, last, seconds,
    )  # fmt: skip
    times = columns["open_time"]
    return day_digests([times, times + seconds * 1000, *(columns[name] for name in PRICES)])


def _joined(digests: list[bytes]) -> str:
    """Return one digest of those of a day's intervals, the shortest first."""
    joined = digests[0] if len(digests) == 1 else sha256(b"".join(digests)).digest()
    return joined.hex()[:_DIGITS]
