"""The sample market: two synthetic pairs and a perpetual, to try everything without any data.

They are computed with integers from the raw stream of a seeded PCG64, which NumPy guarantees, so
they are the same on every platform. Nothing in them ever happened on a market.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from candlestep.data.imports.importer import ImportSummary, import_candles, import_funding
from candlestep.data.imports.kinds import KIND_WORDS, Kind
from candlestep.data.imports.perpetual.funding import FundingColumns
from candlestep.data.imports.storing.removal import remove_candles
from candlestep.data.imports.validation import CandleColumns
from candlestep.data.store.database import Store
from candlestep.data.symbols import DEFAULT_EXCHANGE, name_of_line, parse_symbol
from candlestep.sandbox.clock import DAY, HOUR, MINUTE, parse_time

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
_PERPETUAL = _Recipe("SOLUSDT-PERP", 190_00, 160, 150_000_000)
_MINUTES = 5
"""The minutes of a candle of the perpetual."""
_SETTLEMENT = 8 * HOUR
_SETTLEMENT_CANDLES = _SETTLEMENT // MINUTE // _MINUTES
_USUAL_RATE, _MOST_PREMIUM = 10_000, 40_000
"""In units of 0.00000001."""


class Perpetual(NamedTuple):
    """The candles, mark prices and funding rates of the perpetual."""

    symbol: str
    interval: int
    """Milliseconds."""
    candles: CandleColumns
    marks: CandleColumns
    funding: FundingColumns


def load_sample(store: Store) -> list[ImportSummary]:
    """Import the sample market; raises ``MixedMarket`` if one of its symbols has real candles."""
    with store.transaction("candles"):
        pairs = [
            import_candles(
                store, candles, parse_symbol(symbol), MINUTE, source=SOURCE, synthetic=True
            )
            for symbol, candles in sample_market().items()
        ]
        return pairs + _import_perpetual(store, sample_perpetual())


def drop_sample(store: Store, exchange: str = DEFAULT_EXCHANGE) -> list[str]:
    """Withdraw the sample market and return the symbols that it had.

    Sessions that run on it keep it.
    """
    dropped = []
    with store.transaction("candles"):
        for recipe in (*_RECIPES, _PERPETUAL):
            for kind in KIND_WORDS:
                rows = store.rows(
                    "SELECT 1 FROM imports JOIN instruments USING (instrument_id)"
                    " WHERE exchange = ? AND symbol = ?"
                    " QUALIFY row_number() OVER (PARTITION BY interval_seconds"
                    "  ORDER BY import_number DESC) = 1 AND synthetic AND series_rows > 0",
                    exchange, name_of_line(recipe.symbol, kind),
                )  # fmt: skip
                if rows:
                    source = f"{SOURCE} dropped"
                    remove_candles(
                        store, recipe.symbol, exchange=exchange, source=source, kind=kind
                    )
                    dropped.append(recipe.symbol)
    return list(dict.fromkeys(dropped))


def sample_market() -> dict[str, CandleColumns]:
    """Return the candles of each symbol: 60 days of minutes from 2025-01-01."""
    shared = _moves(1)
    market = {}
    for seed, recipe in enumerate(_RECIPES, 2):
        # As on real markets, the symbols mostly rise and fall together.
        moves = shared if seed == 2 else (8 * shared + 6 * _moves(seed) + 5) // 10
        market[recipe.symbol] = _candles(recipe, moves * recipe.liveliness, seed + 100)
    return market


def sample_perpetual() -> Perpetual:
    """Return the perpetual: 60 days of 5 minutes from 2025-01-01, and a settlement every 8 hours."""
    moves = (7 * _moves(1) + 7 * _moves(4) + 5) // 10
    minutes = _candles(_PERPETUAL, moves * _PERPETUAL.liveliness, 104)
    candles = _gathered(minutes)
    marks = _marks(candles)
    return Perpetual(_PERPETUAL.symbol, _MINUTES * MINUTE, candles, marks, _funding(candles, marks))


def _import_perpetual(store: Store, perpetual: Perpetual) -> list[ImportSummary]:
    pair = parse_symbol(perpetual.symbol)
    lines: tuple[tuple[CandleColumns, Kind], ...] = (
        (perpetual.candles, "candles"),
        (perpetual.marks, "mark"),
    )
    summaries = [
        import_candles(
            store, columns, pair, perpetual.interval, source=SOURCE, synthetic=True, kind=kind
        )
        for columns, kind in lines
    ]
    return [
        *summaries,
        import_funding(store, perpetual.funding, pair, source=SOURCE, synthetic=True),
    ]


def _gathered(minutes: CandleColumns) -> CandleColumns:
    """Return candles of 5 minutes. Volumes are added as whole numbers, which are exact."""
    units = np.rint(minutes.volume * 100_000).astype(np.int64)
    return CandleColumns(
        minutes.open_time[::_MINUTES],
        minutes.open[::_MINUTES],
        minutes.high.reshape(-1, _MINUTES).max(axis=1),
        minutes.low.reshape(-1, _MINUTES).min(axis=1),
        minutes.close[_MINUTES - 1 :: _MINUTES],
        units.reshape(-1, _MINUTES).sum(axis=1) / 100_000,
    )


def _marks(candles: CandleColumns) -> CandleColumns:
    """Return mark prices, which follow those of the candles with half of their wicks, in cents."""
    opened, high, low, close = (
        np.rint(column * 100).astype(np.int64) for column in candles.numbers()[:4]
    )
    mark = int(opened[0])
    closes = np.empty(len(close), dtype=np.int64)
    for candle, price in enumerate(close.tolist()):
        mark += (price - mark + 1) // 2
        closes[candle] = mark
    opens = np.concatenate([opened[:1], closes[:-1]])
    above = (high - np.maximum(opened, close)) // 2
    below = (np.minimum(opened, close) - low) // 2
    return CandleColumns(
        candles.open_time,
        opens / 100,
        (np.maximum(opens, closes) + above) / 100,
        (np.minimum(opens, closes) - below) / 100,
        closes / 100,
        np.zeros(len(close)),
    )


def _funding(candles: CandleColumns, marks: CandleColumns) -> FundingColumns:
    """Return rates that rise with the premium of the last price over the mark price.

    Some are negative. The premium is the mean of the 8 hours before the settlement, bounded.
    """
    price, mark = (np.rint(one.close * 100).astype(np.int64) for one in (candles, marks))
    premium = ((price - mark) * 100_000_000 // mark).reshape(-1, _SETTLEMENT_CANDLES)
    mean = premium.sum(axis=1) // _SETTLEMENT_CANDLES
    units = _USUAL_RATE + np.clip(mean // 3, -_MOST_PREMIUM, _MOST_PREMIUM)
    count = len(units)
    times = START + np.arange(1, count + 1, dtype=np.int64) * _SETTLEMENT
    return FundingColumns(
        times,
        times,
        units / 100_000_000,
        np.full(count, _SETTLEMENT, dtype=np.int64),
        np.full(count, np.nan),
    )


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
