"""Candles in memory: loaded once, shared by all sessions, within a budget."""

import threading
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from candlestep.data.errors import BudgetInUse, OverBudget
from candlestep.data.market.catalogue import effective_imports
from candlestep.data.store.database import Store
from candlestep.sandbox.clock import HOUR
from candlestep.sandbox.market.candles import Candles

LOOK_BACK = 1000 * HOUR
"""The least history before its start that a session can read, in ms: 1000 candles of 1h."""

BYTES_PER_CANDLE = 112
"""Seven columns of 8 bytes, and as much again for the data that ``Candles`` derives."""

_AS_OF = (
    " FROM candles c JOIN instruments USING (instrument_id)"
    " WHERE exchange = ? AND symbol = ? AND c.import_number <= ?"
    " AND (superseded_by IS NULL OR superseded_by > ?)"
    " AND open_time >= epoch_ms(?::BIGINT) AND open_time < epoch_ms(?::BIGINT)"
)


class CandleRequest(NamedTuple):
    """The candles of symbols for a session between two times, in milliseconds."""

    exchange: str
    symbols: Sequence[str]
    as_of: int
    """The number of an import."""
    start: int
    end: int
    look_back: int = LOOK_BACK


class CandleArraysKey(NamedTuple):
    """The identity of a symbol's candles of whole months, as of an import that changed them."""

    exchange: str
    symbol: str
    import_number: int
    start: int
    end: int


class CandleCache:
    """A cache of the candles of symbols, read from the store by the first request.

    Cached candles and those in use together stay within the budget; the least recently requested
    are evicted first. Any thread may use the cache.

    The candles cover whole UTC months, from that of ``start - look_back`` to that of ``end``. So
    sessions over different ranges of the same months share them, and a session's candles depend
    only on its times and its import number. The exchange does not look beyond the virtual clock
    of a session.
    """

    def __init__(self, store: Store, budget_bytes: int) -> None:
        self._store = store
        self._budget = self._whole_budget = budget_bytes
        self._lock = threading.Lock()
        self._counting = threading.Lock()
        self._cached: OrderedDict[CandleArraysKey, Candles] = OrderedDict()
        self._alive: weakref.WeakValueDictionary[CandleArraysKey, Candles] = (
            weakref.WeakValueDictionary()
        )

    def candles(self, request: CandleRequest) -> dict[str, Candles]:
        """Return the candles of each symbol that has any, for a session.

        Raises ``OverBudget`` if they exceed the budget, ``BudgetInUse`` if they do not fit next to
        those that sessions use now, and ``MarketPruned`` if that market has been dropped.
        """
        with self._lock:
            keys = self.keys(request)
            loaded = {key: self._alive[key] for key in keys if key in self._alive}
            sizes = {key: len(loaded[key]) if key in loaded else self._count(key) for key in keys}
            self._make_room(
                sum(sizes.values()) * BYTES_PER_CANDLE,
                sum(sizes[key] for key in keys if key not in loaded) * BYTES_PER_CANDLE,
            )
            for key in keys:
                if sizes[key]:
                    candles = loaded.get(key) or self._load(key)
                    with self._counting:
                        self._alive[key] = self._cached[key] = loaded[key] = candles
                    self._cached.move_to_end(key)
            return {key.symbol: loaded[key] for key in keys if key in loaded}

    def keep_free(self, size: int) -> None:
        """Reserve ``size`` bytes of the budget for other users, evicting candles not in use."""
        with self._lock:
            self._budget = max(0, self._whole_budget - size)
            while self._cached and self.bytes_in_memory() > self._budget:
                self._cached.popitem(last=False)

    def keys(self, request: CandleRequest) -> list[CandleArraysKey]:
        """Return the keys of what ``candles`` would return; candles with equal keys are equal.

        A symbol whose candles all lie outside the period has a key too. Raises ``MarketPruned``.
        """
        first = month_start(request.start - request.look_back)
        last = month_start(request.end - 1, later=1)
        distinct = list(dict.fromkeys(request.symbols))
        numbers = effective_imports(self._store, request.exchange, distinct, request.as_of)
        return [
            CandleArraysKey(request.exchange, symbol, numbers[symbol], first, last)
            for symbol in distinct
            if symbol in numbers
        ]

    def bytes_in_memory(self) -> int:
        """Return the approximate size of all candles cached or in use, without waiting for a load."""
        with self._counting:
            return sum(map(len, self._alive.values())) * BYTES_PER_CANDLE

    def _make_room(self, wanted: int, missing: int) -> None:
        if wanted > self._whole_budget:
            raise OverBudget(
                f"the candles of this session need {_megabytes(wanted)} of memory, and the budget"
                f" is {_megabytes(self._whole_budget)}; use fewer pairs or a shorter period",
                needed_bytes=wanted,
                budget_bytes=self._whole_budget,
            )
        # Candles that fit the whole budget are always admitted: others can be evicted.
        budget = max(self._budget, wanted)
        while missing and self.bytes_in_memory() + missing > budget:
            if not self._cached:
                raise BudgetInUse(
                    f"the candles of this session need {_megabytes(missing)} of memory, and other"
                    " sessions use the budget; try again when one of them has ended",
                    needed_bytes=missing,
                    budget_bytes=budget,
                )
            self._cached.popitem(last=False)

    def _count(self, key: CandleArraysKey) -> int:
        count: int = self._store.rows("SELECT count(*)" + _AS_OF, *_parameters(key))[0][0]
        return count

    def _load(self, key: CandleArraysKey) -> Candles:
        columns = self._store.arrays(
            "SELECT interval_seconds, epoch_ms(open_time) AS open_time, open, high, low, close,"
            f" volume{_AS_OF} ORDER BY interval_seconds, c.open_time",
            *_parameters(key),
        )
        seconds = columns.pop("interval_seconds")
        bounds = [0, *(np.flatnonzero(np.diff(seconds)) + 1).tolist(), len(seconds)]
        candles = Candles.merge(
            [
                Candles(
                    symbol=key.symbol,
                    interval=int(seconds[start]),
                    **{name: column[start:stop] for name, column in columns.items()},
                )
                for start, stop in pairwise(bounds)
            ]
        )
        candles.prepare()
        return candles


def month_start(time: int, later: int = 0) -> int:
    """Return the start of the UTC month of a time, or of that many months later, in ms."""
    month = np.datetime64(time, "ms").astype("datetime64[M]") + later
    return int(month.astype("datetime64[ms]").astype(np.int64))


def _parameters(key: CandleArraysKey) -> tuple[str | int, ...]:
    return (key.exchange, key.symbol, key.import_number, key.import_number, key.start, key.end)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.0f} MB"
