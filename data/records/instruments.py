"""Instruments: what is traded on each exchange, with its filters, and whether its volume is usable."""

from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from candlestep.data.records.margin_tiers import tiers_in_force
from candlestep.data.store.database import Store
from candlestep.data.store.rows import exact_text
from candlestep.data.symbols import Pair, is_perpetual, normalise_exchange, normalise_symbol
from candlestep.sandbox import Filters, Instrument, MarginTiers, SymbolNotFound
from candlestep.sandbox.clock import LATEST

_COLUMNS = (
    "exchange, symbol, kind, base, quote, volume_usable,"
    " tick_size, step_size, min_quantity, min_notional"
)
_IS_TRADED = "kind IN ('spot', 'perp')"
"""The SQL that leaves out the lines of perpetuals, such as mark prices."""
_PLACES = {"tick_size": 16, "step_size": 8, "min_quantity": 8, "min_notional": 8}


class ListedInstrument(msgspec.Struct, frozen=True):
    """An instrument, and the exchange on which it is traded."""

    exchange: str
    instrument: Instrument


class InstrumentChange(msgspec.Struct, frozen=True):
    """A change of an instrument; what is None stays as it is."""

    volume_usable: bool | None = None
    filters: Mapping[str, Any] = {}
    """The filters to change, by name; None removes one."""


def ensure_instrument(store: Store, exchange: str, pair: Pair, kind: str | None = None) -> int:
    """Return the id of an instrument; create a plain one if there is none. In a transaction.

    ``kind`` is that of a line of a perpetual, such as its mark prices; by default it is ``perp`` or
    ``spot``, as the symbol says.
    """
    rows = store.rows(
        "SELECT instrument_id FROM instruments WHERE exchange = ? AND symbol = ?",
        exchange, pair.symbol,
    ) or store.execute(
        "INSERT INTO instruments (instrument_id, exchange, symbol, base, quote, kind)"
        " SELECT coalesce(max(instrument_id), 0) + 1, ?, ?, ?, ?, ? FROM instruments"
        " RETURNING instrument_id",
        exchange, *pair, kind or ("perp" if is_perpetual(pair.symbol) else "spot"),
    )  # fmt: skip
    instrument_id: int = rows[0][0]
    return instrument_id


def stored_instruments(store: Store, exchange: str | None = None) -> list[ListedInstrument]:
    """Return the instruments of an exchange, or of all, by exchange and symbol.

    Perpetuals have the last margin tiers that were imported, and ``get_instrument`` returns these
    too.
    """
    rows = store.rows(
        f"SELECT {_COLUMNS} FROM instruments WHERE exchange = coalesce(?, exchange)"
        f" AND {_IS_TRADED} ORDER BY exchange, symbol",
        None if exchange is None else normalise_exchange(exchange),
    )
    exchanges = dict.fromkeys(row[0] for row in rows)
    tiers = {exchange: tiers_in_force(store, exchange) for exchange in exchanges}
    return [_to_listed(row, tiers[row[0]]) for row in rows]


def get_instrument(store: Store, exchange: str, symbol: str) -> ListedInstrument:
    """Return one instrument; raises ``SymbolNotFound``."""
    symbol, exchange = normalise_symbol(symbol), normalise_exchange(exchange)
    rows = store.rows(
        f"SELECT {_COLUMNS} FROM instruments WHERE exchange = ? AND symbol = ?", exchange, symbol
    )
    if not rows:
        raise SymbolNotFound(
            f"there is no instrument {symbol} on {exchange}; the import of its candles makes it",
            symbol=symbol,
        )
    return _to_listed(rows[0], tiers_in_force(store, exchange, [symbol]))


def change_instrument(
    store: Store, exchange: str, symbol: str, change: InstrumentChange
) -> ListedInstrument:
    """Change an instrument and return it; sessions that have started keep what they copied.

    Raises ``SymbolNotFound``, and ``InvalidParameter`` naming a filter.
    """
    with store.transaction("candles"):
        listed = get_instrument(store, exchange, symbol)
        known = listed.instrument
        filters = Filters(**(msgspec.structs.asdict(known.filters) | dict(change.filters)))
        usable = known.volume_usable if change.volume_usable is None else change.volume_usable
        store.execute(
            "UPDATE instruments SET volume_usable = ?, tick_size = ?, step_size = ?,"
            " min_quantity = ?, min_notional = ? WHERE exchange = ? AND symbol = ?",
            usable,
            *(exact_text(getattr(filters, name), places) for name, places in _PLACES.items()),
            listed.exchange,
            known.symbol,
        )
        return get_instrument(store, listed.exchange, known.symbol)


def instruments_to_copy(
    store: Store, exchange: str, symbols: Collection[str], start: int = LATEST
) -> list[dict[str, Any]]:
    """Return what a session of these symbols copies at its start: an argument of ``SessionConfig``.

    Margin tiers are those that are in force at ``start``, in milliseconds. Instruments with a usable
    volume, without filters and tiers, are left out.
    """
    rows = store.rows(
        f"SELECT {_COLUMNS} FROM instruments"
        " WHERE exchange = ? AND list_contains(?::VARCHAR[], symbol) AND (NOT volume_usable"
        f" OR coalesce({', '.join(_PLACES)}) IS NOT NULL OR kind = 'perp') ORDER BY symbol",
        exchange,
        list(symbols),
    )
    tiers = tiers_in_force(store, exchange, symbols, time=start)
    copied = [_to_listed(row, tiers).instrument for row in rows]
    return [instrument.settings() for instrument in copied if not instrument.is_plain]


def _to_listed(row: tuple[Any, ...], tiers: Mapping[str, MarginTiers]) -> ListedInstrument:
    exchange, symbol, kind, base, quote, volume_usable, *filters = row
    instrument = Instrument(
        symbol, kind, base, quote, Filters(*filters), volume_usable, tiers.get(symbol)
    )
    return ListedInstrument(exchange, instrument)
