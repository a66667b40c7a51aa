"""Candles in memory: loaded once, shared by all sessions, within a budget."""

import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import NamedTuple

import numpy as np

from candlestep.data.errors import BudgetInUse, OverBudget
from candlestep.data.market.candle_loading import (
    Period,
    count_candles,
    instrument_ids,
    load_candles,
)
from candlestep.data.market.catalogue import effective_imports
from candlestep.data.market.parts import Part, load_funding, market_of, names_of_lines
from candlestep.data.store.database import Store
from candlestep.data.symbols import symbol_of_line
from candlestep.sandbox.clock import HOUR
from candlestep.sandbox.market.candles import Candles
from candlestep.sandbox.market.market import Market

LOOK_BACK = 1000 * HOUR
"""The least history before its start that a session can read, in ms: 1000 candles of 1h."""

BYTES_PER_CANDLE = 64
"""Six columns of 8 bytes, and two that ``Candles`` derives for valuations and orders."""

_FEW_SYMBOLS = 100
"""The most symbols of a request that are prepared for orders at once, with all their look-back."""


_KEPT_COUNTS = 8


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
    """The identity of a line's rows of whole months, as of an import that changed them."""

    exchange: str
    symbol: str
    """The name of the line: that of its candles is the symbol."""
    import_number: int
    start: int
    end: int


class _Counted(NamedTuple):
    """The symbols that have candles in a period."""

    symbols: dict[int, str]
    """By the id of the instrument."""
    counts: dict[int, int]
    period: Period
    rows: int
    """The sum of the counts."""


LoadParts = Callable[[CandleRequest], Mapping[CandleArraysKey, Part]]
"""Loads candles, mark prices and funding rates as ``CandleCache.parts`` does."""


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
        self._counts = lru_cache(_KEPT_COUNTS)(partial(count_candles, store))
        self._lock = threading.Lock()
        self._counting = threading.Lock()
        self._cached: OrderedDict[CandleArraysKey, Candles] = OrderedDict()
        self._alive: weakref.WeakValueDictionary[CandleArraysKey, Candles] = (
            weakref.WeakValueDictionary()
        )
        self._markets: weakref.WeakValueDictionary[tuple[CandleArraysKey, ...], Market] = (
            weakref.WeakValueDictionary()
        )

    def market(self, request: CandleRequest) -> Market | None:
        """Return the market of the symbols that have candles, for a session; None without any.

        Sessions over the same candles share it. Raises as ``candles`` does.
        """
        with self._lock:
            keys = tuple(self.keys(request))
            market = self._markets.get(keys)
            if market is None:
                market = market_of(self._parts(request).values())
                if market is not None:
                    self._markets[keys] = market
            else:
                self._loaded(request)
            return market

    def candles(self, request: CandleRequest) -> dict[str, Candles]:
        """Return the candles of each symbol that has any, for a session.

        Raises ``OverBudget`` if they exceed the budget, ``BudgetInUse`` if they do not fit next to
        those that sessions use now, and ``MarketPruned`` if that market has been dropped.
        """
        with self._lock:
            loaded = self._loaded(request)
        wanted = {*request.symbols}
        return {key.symbol: candles for key, candles in loaded.items() if key.symbol in wanted}

    def parts(self, request: CandleRequest) -> dict[CandleArraysKey, Part]:
        """Return the candles, and for perpetuals the mark prices and funding rates, by their keys.

        Raises as ``candles`` does.
        """
        with self._lock:
            return self._parts(request)

    def fitting_look_back(self, request: CandleRequest) -> int:
        """Return the look-back of a request, shortened by months until the candles fit the budget.

        It is shortened only for a request of many symbols, and no further than to the month of the
        start, which may still be too much. Depends on the whole budget alone, not on other users.
        """
        if len(request.symbols) <= _FEW_SYMBOLS:
            return request.look_back
        look_back = request.look_back
        while look_back:
            keys = self.keys(request._replace(look_back=look_back))
            if not keys or self._counted(keys).rows * BYTES_PER_CANDLE <= self._whole_budget:
                break
            look_back = max(0, request.start - month_start(keys[0].start, later=1))
        return look_back

    def keep_free(self, size: int) -> None:
        """Reserve ``size`` bytes of the budget for other users, evicting candles not in use."""
        with self._lock:
            self._budget = max(0, self._whole_budget - size)
            while self._cached and self.bytes_in_memory() > self._budget:
                self._cached.popitem(last=False)

    def keys(self, request: CandleRequest) -> list[CandleArraysKey]:
        """Return the keys of what ``parts`` would return; what has equal keys is equal.

        A symbol whose candles all lie outside the period has a key too. Raises ``MarketPruned``.
        """
        first, last = _months(request)
        distinct = names_of_lines(request.symbols)
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

    def _parts(self, request: CandleRequest) -> dict[CandleArraysKey, Part]:
        parts: dict[CandleArraysKey, Part] = {**self._loaded(request)}
        with_funding = {
            symbol_of_line(key.symbol): key
            for key in self.keys(request)
            if key.symbol != symbol_of_line(key.symbol) and key not in parts
        }
        if with_funding:
            period = Period(request.as_of, *_months(request))
            for rates in load_funding(self._store, request.exchange, with_funding, period):
                parts[with_funding[rates.symbol]] = rates
        return parts

    def _loaded(self, request: CandleRequest) -> dict[CandleArraysKey, Candles]:
        """Return the candles and mark prices of the keys that have any, in memory from now on."""
        keys = self.keys(request)
        # Held, so that none of them is freed on the way.
        alive = {key: candles for key in keys if (candles := self._alive.get(key)) is not None}
        missing = [key for key in keys if key not in alive]
        loaded = alive | (self._load(missing, alive) if missing else {})
        for key in loaded:
            self._cached[key] = loaded[key]
            self._cached.move_to_end(key)
        return {key: loaded[key] for key in keys if key in loaded}

    def _load(
        self, missing: Sequence[CandleArraysKey], alive: Mapping[CandleArraysKey, Candles]
    ) -> dict[CandleArraysKey, Candles]:
        """Make room for the candles of ``missing`` keys of one period, next to ``alive``; load them."""
        key_of = {key.symbol: key for key in missing}
        symbols, counts, period, rows = self._counted(missing)
        self._make_room(
            (rows + sum(map(len, alive.values()))) * BYTES_PER_CANDLE, rows * BYTES_PER_CANDLE
        )
        loaded = {}
        for candles in load_candles(self._store, symbols, counts, period):
            if len(missing) <= _FEW_SYMBOLS:
                candles.prepare()
            key = key_of[candles.symbol]
            with self._counting:
                self._alive[key] = loaded[key] = candles
        return loaded

    def _counted(self, keys: Sequence[CandleArraysKey]) -> _Counted:
        """Return the symbols of keys of one period that have candles, and how many."""
        exchange, _, _, start, end = keys[0]
        # Up to the latest of these imports, no other has changed any of the symbols.
        period = Period(max(key.import_number for key in keys), start, end)
        symbols = instrument_ids(self._store, exchange, [key.symbol for key in keys])
        counts = self._counts(tuple(symbols), period)
        with_candles = {number: symbols[number] for number in counts}
        return _Counted(with_candles, counts, period, sum(counts.values()))

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


def month_start(time: int, later: int = 0) -> int:
    """Return the start of the UTC month of a time, or of that many months later, in ms."""
    month = np.datetime64(time, "ms").astype("datetime64[M]") + later
    return int(month.astype("datetime64[ms]").astype(np.int64))


def _months(request: CandleRequest) -> tuple[int, int]:
    """Return the start of the first month of a request, and the end of the last."""
    return month_start(request.start - request.look_back), month_start(request.end - 1, later=1)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.0f} MB"
