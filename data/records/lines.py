"""Lines of instruments in the store; see ``line_names``."""

from collections.abc import Sequence

from candlestep.data.records.instruments import ensure_instrument
from candlestep.data.store.database import Store
from candlestep.data.symbols import Pair, name_of_line, symbol_of_line


def ensure_line(store: Store, exchange: str, pair: Pair, kind: str) -> int:
    """Return the id of a line; create it if there is none. In a transaction."""
    if kind == "candles":
        return ensure_instrument(store, exchange, pair)
    line = pair._replace(symbol=name_of_line(pair.symbol, kind))
    return ensure_instrument(store, exchange, line, kind)


def lines_of(store: Store, exchange: str, symbols: Sequence[str], kind: str) -> dict[int, str]:
    """Return the symbols that have a line of a kind, by the id of the line, which counts up."""
    rows = store.rows(
        "SELECT instrument_id, symbol FROM instruments"
        " WHERE exchange = ? AND list_contains(?::VARCHAR[], symbol) ORDER BY instrument_id",
        exchange,
        [name_of_line(symbol, kind) for symbol in symbols],
    )
    return {number: symbol_of_line(name) for number, name in rows}
