"""The sample market: synthetic candles of two symbols, to try everything without any data.

They are computed with integers from the raw stream of a seeded PCG64, which NumPy guarantees, so
they are the same on every platform. Nothing in them ever happened on a market.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from candlestep.data.imports.importer import ImportSummary, import_candles, withdraw
from candlestep.data.imports.validation import CandleColumns
from candlestep.data.store.database import Store
from candlestep.data.symbols import DEFAULT_EXCHANGE, parse_symbol
from candlestep.sandbox.clock import DAY, MINUTE, parse_time

SOURCE = "synthetic sample market"
START = parse_time("2025-01-01T00:00:00Z")
DAYS = 60

_CANDLES = DAYS * DAY // MINUTE
_MOVES = 4
"""The number of price moves in a candle, which give it its high and low."""
_TREND_CANDLES = 360
_HOUR = 60
_SCALE = 220_000
"""The divisor that makes the standard deviation of a move 3 basis points, and of a minute 6."""


class _Recipe(NamedTuple):
    symbol: str
    first_open: int
    """In cents."""
    liveliness: int
    """The size of its moves, in percent of those of the first symbol."""
    usual_volume: int
    """The volume of a quiet minute, in units of 0.00001."""


_RECIPES = (
    _Recipe("BTCUSDT", 94_000_00, 100, 500_000),
    _Recipe("ETHUSDT", 3_350_00, 130, 9_000_000),
)


def load_sample(store: Store) -> list[ImportSummary]:
    """Import the sample market; raises ``MixedMarket`` if one of its symbols has real candles."""
    with store.transaction():
        return [
            import_candles(
                store, candles, parse_symbol(symbol), MINUTE, source=SOURCE, synthetic=True
            )
            for symbol, candles in sample_market().items()
        ]


def drop_sample(store: Store, exchange: str = DEFAULT_EXCHANGE) -> list[str]:
    """Withdraw the sample market and return the symbols that it had.

    Sessions that run on it keep it.
    """
    dropped = []
    with store.transaction():
        for recipe in _RECIPES:
            rows = store.rows(
                "SELECT instrument_id FROM imports JOIN instruments USING (instrument_id)"
                " WHERE exchange = ? AND symbol = ?"
                " QUALIFY row_number() OVER (ORDER BY import_number DESC) = 1"
                " AND synthetic AND series_rows > 0",
                exchange, recipe.symbol,
            )  # fmt: skip
            if rows:
                withdraw(store, rows[0][0], f"{SOURCE} dropped")
                dropped.append(recipe.symbol)
    return dropped


def sample_market() -> dict[str, CandleColumns]:
    """Return the candles of each symbol: 60 days of minutes from 2025-01-01."""
    shared = _moves(1)
    market = {}
    for seed, recipe in enumerate(_RECIPES, 2):
        # As on real markets, the symbols mostly rise and fall together.
        moves = shared if seed == 2 else (8 * shared + 6 * _moves(seed) + 5) // 10
        market[recipe.symbol] = _candles(recipe, moves * recipe.liveliness, seed + 100)
    return market


def _candles(recipe: _Recipe, moves: NDArray[np.int64], seed: int) -> CandleColumns:
    """Return candles that each open at the previous close and go through their moves.

    Prices are computed in cents.
    """
    prices = np.empty((_CANDLES, _MOVES + 1), dtype=np.int64)
    price = recipe.first_open
    for candle, moves_of_candle in enumerate(moves.tolist()):
        path = [price]
        for move in moves_of_candle:
            price += (2 * price * move + _SCALE * 100) // (2 * _SCALE * 100)
            path.append(price)
        prices[candle] = path
    high, low = prices.max(axis=1), prices.min(axis=1)
    noise = (_random(seed, _CANDLES) >> np.uint64(40)).astype(np.int64) % 1000
    breadth = (high - low) * 10_000 // prices[:, 0]
    volume = recipe.usual_volume * (100 + noise + 40 * breadth) // 1000
    return CandleColumns(
        START + np.arange(_CANDLES, dtype=np.int64) * MINUTE,
        prices[:, 0] / 100,
        high / 100,
        low / 100,
        prices[:, -1] / 100,
        volume / 100_000,
    )


def _moves(seed: int) -> NDArray[np.int64]:
    """Return the moves of each candle: standard deviation about 64, with trends and busy hours."""
    count = _CANDLES * _MOVES
    bits = np.unpackbits(_random(seed, count).view(np.uint8).reshape(count, 8), axis=1)
    # The number of set bits of 64 random ones is nearly normal: mean 32, standard deviation 4.
    normal = bits.sum(axis=1, dtype=np.int64).reshape(_CANDLES, _MOVES) - 32
    trends = _small(seed + 10, _CANDLES // _TREND_CANDLES, 5) - 2
    liveliness = np.empty(_CANDLES // _HOUR, dtype=np.int64)
    level = 100
    for hour, change in enumerate((_small(seed + 20, len(liveliness), 41) - 20).tolist()):
        level = min(250, max(40, level + change + (100 - level) // 12))
        liveliness[hour] = level
    moves = 16 * normal + np.repeat(trends, _TREND_CANDLES)[:, np.newaxis]
    # A half is added before dividing: rounding down would push the price down, move by move.
    lively: NDArray[np.int64] = (moves * np.repeat(liveliness, _HOUR)[:, np.newaxis] + 50) // 100
    return lively


def _small(seed: int, count: int, below: int) -> NDArray[np.int64]:
    """Return random integers from 0 up to, not including, a small bound."""
    return ((_random(seed, count) >> np.uint64(33)) % np.uint64(below)).astype(np.int64)


def _random(seed: int, count: int) -> NDArray[np.uint64]:
    return np.random.PCG64(seed).random_raw(count)
