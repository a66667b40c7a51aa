"""What an account held from change to change, and what it was worth at any instant since.

Nothing is computed while the session runs: a change appends a row, and equity at any number of
instants is derived from the rows in one vector pass, exactly, when somebody asks.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from copy import copy
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec
import numpy as np

from candlestep.sandbox.clock import Clock
from candlestep.sandbox.exchange.account import Account
from candlestep.sandbox.market.candles import Candles, Integers
from candlestep.sandbox.market.fixed_point import Units
from candlestep.sandbox.market.market import Market
from candlestep.sandbox.money import AMOUNT_PLACES, EXACT, ZERO, add, rounded_product

DType = np.dtype[Any]

_INT64_HEADROOM = 2**62


class Snapshot(msgspec.Struct, frozen=True):
    """An account at one instant, after all that happened at it; amounts in quote currency."""

    time: int
    total_equity: Decimal
    available_cash: Decimal
    locked_cash: Decimal
    position_value: Decimal
    unrealized_pnl: Decimal
    realized_pnl: Decimal


class EquityCurve(msgspec.Struct, frozen=True, eq=False):
    """Snapshots as columns: ``time`` in milliseconds, amounts as whole numbers of 1e-8."""

    time: Integers
    total_equity: Units
    available_cash: Units
    locked_cash: Units
    position_value: Units
    unrealized_pnl: Units
    realized_pnl: Units

    def __len__(self) -> int:
        return len(self.time)

    def __iter__(self) -> Iterator[Snapshot]:
        columns = [getattr(self, name).tolist() for name in self.__struct_fields__]
        for time, *amounts in zip(*columns, strict=True):
            yield Snapshot(time, *map(_amount, amounts))


class _StepSeries(NamedTuple):
    """An amount that changes at instants: ``amounts[i]`` holds from ``times[i]`` on."""

    times: list[int]
    amounts: list[Decimal]

    def record(self, time: int, amount: Decimal) -> None:
        if self.times and self.times[-1] == time:
            self.amounts[-1] = amount
        else:
            self.times.append(time)
            self.amounts.append(amount)

    def copy(self) -> "_StepSeries":
        return _StepSeries(self.times.copy(), self.amounts.copy())

    @property
    def largest(self) -> int:
        """The largest magnitude among the amounts, in units."""
        return max(_in_units(max(self.amounts)), -_in_units(min(self.amounts)))

    def before(self, time: int) -> Decimal:
        """The amount just before ``time``; 0 before the first change."""
        index = bisect_left(self.times, time)
        return self.amounts[index - 1] if index else ZERO

    def at(self, times: Integers, dtype: DType) -> Units:
        """The amount at each of ``times`` (sorted), in units; 0 before the first change."""
        starts = np.searchsorted(times, self.times)
        units = np.array([0, *map(_in_units, self.amounts)], dtype=dtype)
        return np.repeat(units, np.diff(starts, prepend=0, append=len(times)))


class _HoldingChanges(NamedTuple):
    quantity: _StepSeries
    cost_basis: _StepSeries

    def copy(self) -> "_HoldingChanges":
        return _HoldingChanges(self.quantity.copy(), self.cost_basis.copy())


class AccountHistory:
    """Every change of an account, in order of time."""

    def __init__(self, start: int, account: Account) -> None:
        self._available = _StepSeries([], [])
        self._locked = _StepSeries([], [])
        self._realized = _StepSeries([], [])
        self._holdings: dict[str, _HoldingChanges] = {}
        # Alternately the time at which the first position was opened and the last was closed.
        self._exposure_bounds: list[int] = []
        self.record(start, account)

    def copy(self) -> "AccountHistory":
        """The same past, independent from now on. Linear in the number of changes."""
        copied = copy(self)
        copied._available = self._available.copy()
        copied._locked = self._locked.copy()
        copied._realized = self._realized.copy()
        copied._holdings = {symbol: each.copy() for symbol, each in self._holdings.items()}
        copied._exposure_bounds = self._exposure_bounds.copy()
        return copied

    def record(self, time: int, account: Account) -> None:
        """Note the cash of ``account`` as of ``time``."""
        self._available.record(time, account.available_cash)
        self._locked.record(time, account.locked_cash)
        self._realized.record(time, account.realized_pnl)

    def record_holding(self, time: int, symbol: str, account: Account) -> None:
        """Note what ``account`` holds of ``symbol`` as of ``time``."""
        holding = account.holding(symbol)
        changes = self._holdings.get(symbol)
        if changes is None:
            changes = self._holdings[symbol] = _HoldingChanges(
                _StepSeries([], []), _StepSeries([], [])
            )
        changes.quantity.record(time, holding.quantity)
        changes.cost_basis.record(time, holding.cost_basis)
        was_in_market = len(self._exposure_bounds) % 2 == 1
        if bool(account.open_holdings) != was_in_market:
            if self._exposure_bounds and self._exposure_bounds[-1] == time:
                self._exposure_bounds.pop()
            else:
                self._exposure_bounds.append(time)

    def equity_before(self, market: Market, time: int) -> Decimal:
        """Total equity just before what happened at ``time``, at the prices of ``time``."""
        total = add(self._available.before(time), self._locked.before(time))
        for symbol, changes in self._holdings.items():
            quantity = changes.quantity.before(time)
            if quantity:
                total = add(total, rounded_product(quantity, market.price(symbol, time)))
        return total

    def equity_curve(self, market: Market, times: Sequence[int] | Integers) -> EquityCurve:
        """The account at each of ``times``, sorted, after all that happened at it.

        Linear in the number of times and of changes.
        """
        instants = np.asarray(times, dtype=np.int64)
        dtype = self._dtype(market)

        def at(changes: _StepSeries) -> Units:
            return changes.at(instants, dtype)

        available, locked, realized = at(self._available), at(self._locked), at(self._realized)
        value = cost = np.zeros(len(instants), dtype)
        for symbol, changes in self._holdings.items():
            quantity = at(changes.quantity)
            value = value + _market_value(market.candles_of(symbol), quantity, instants)
            cost = cost + at(changes.cost_basis)
        return EquityCurve(
            instants, available + locked + value, available, locked, value, value - cost, realized
        )

    def total_equity(self, market: Market, times: Integers) -> Units:
        """Total equity alone at each of ``times``, in units: cheaper than the whole curve."""
        dtype = self._dtype(market)
        both = zip(self._available.amounts, self._locked.amounts, strict=True)
        cash = _StepSeries(self._available.times, [add(*amounts) for amounts in both])
        equity = cash.at(times, dtype)
        for symbol, changes in self._holdings.items():
            quantity = changes.quantity.at(times, dtype)
            equity += _market_value(market.candles_of(symbol), quantity, times)
        return equity

    def instants(self, market: Market, start: int, end: int) -> Integers:
        """Every instant from ``start`` to ``end`` at which equity may have changed.

        Those are the changes of the account and the completions of candles of symbols held.
        """
        instants = np.empty(0, dtype=np.int64)
        for symbol, changes in self._holdings.items():
            complete = market.candles_of(symbol).complete_time
            first, last = np.searchsorted(complete, [changes.quantity.times[0], end + 1])
            instants = _union(instants, complete[first:last])
        changed = np.array(sorted({start, *self._available.times, end}), dtype=np.int64)
        return _union(instants, changed)

    def steps_in_market(self, clock: Clock, until: int) -> int:
        """How many of the steps of ``clock``, from 1 to ``until``, find a position held."""
        bounds = [-(-(time - clock.start) // clock.interval) for time in self._exposure_bounds]
        if len(bounds) % 2:
            bounds.append((until - clock.start) // clock.interval + 1)
        spells = zip(bounds[::2], bounds[1::2], strict=True)
        return sum(stop - max(first, 1) for first, stop in spells if stop > first)

    def _dtype(self, market: Market) -> DType:
        """int64 if every amount in units and every sum of them fits, else Python integers."""
        total = self._available.largest + self._locked.largest + self._realized.largest
        for symbol, changes in self._holdings.items():
            prices = market.candles_of(symbol).price_units
            if prices.units.dtype == object:
                return prices.units.dtype
            total += changes.quantity.largest * prices.largest + changes.cost_basis.largest
        return np.dtype(np.int64 if total < _INT64_HEADROOM else object)


def _market_value(candles: Candles, quantity: Units, times: Integers) -> Units:
    """``round8(quantity * price)`` at each of ``times``, in units."""
    units, digits, _ = candles.price_units
    value: Units = quantity * _as_of(units, candles, times)
    if digits:
        value += 10**digits // 2
        value //= 10**digits
    return value


def _as_of(price_units: Units, candles: Candles, times: Integers) -> Units:
    """The price in units at each of ``times``: quick if they are completions in a row, and what
    comes after the last candle.
    """
    if not len(times):
        return price_units[:0]
    first = candles.last_complete(int(times[0]))
    completions = candles.complete_time[first + 1 : first + len(times)]
    if not np.array_equal(completions, times[1 : 1 + len(completions)]):
        return price_units[candles.last_complete_at(times) + 1]
    prices = price_units[first + 1 : first + 2 + len(completions)]
    after = len(times) - len(prices)
    return np.concatenate([prices, np.repeat(prices[-1:], after)]) if after else prices


def _union(some: Integers, others: Integers) -> Integers:
    """The distinct members of two arrays, each sorted and distinct, sorted."""
    few, many = sorted((some, others), key=len)
    if np.array_equal(few, many[len(many) - len(few) :]):
        return many
    places = np.searchsorted(many, few)
    missing = few[(places == len(many)) | (many[np.minimum(places, len(many) - 1)] != few)]
    if not len(missing):
        return many
    # The stable sort recognises sorted runs, so that merging two of them is linear.
    return np.sort(np.concatenate([many, missing]), kind="stable")


def _in_units(amount: Decimal) -> int:
    return int(EXACT.scaleb(amount, AMOUNT_PLACES))


def _amount(units: int) -> Decimal:
    """The decimal of so many hundred-millionths, with 8 places."""
    return EXACT.scaleb(Decimal(units), -AMOUNT_PLACES)
