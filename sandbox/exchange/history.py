"""The history of an account: cash and holdings, from change to change, in exact decimals.

A change appends a row and nothing else is computed while a session runs; ``performance.equity``
derives equity at any number of instants from the rows, in one vector pass.
"""

from bisect import bisect_left
from collections.abc import Sequence
from copy import copy
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np

from candlestep.sandbox.exchange.account import Ledger
from candlestep.sandbox.market.candles import Candles, Integers
from candlestep.sandbox.market.fixed_point import Units
from candlestep.sandbox.market.market import Market
from candlestep.sandbox.money import AMOUNT_PLACES, EXACT, ZERO, add, rounded_product, subtract

DType = np.dtype[Any]


class StepSeries(NamedTuple):
    """An amount that changes at instants: ``amounts[i]`` holds from ``times[i]`` (ms) on."""

    times: list[int]
    amounts: list[Decimal]

    def record(self, time: int, amount: Decimal) -> None:
        """Append a change; a later one at the same time replaces it."""
        times, amounts = self
        if times and times[-1] == time:
            amounts[-1] = amount
        else:
            times.append(time)
            amounts.append(amount)

    def copy(self) -> "StepSeries":
        """Return an independent copy."""
        return StepSeries(self.times.copy(), self.amounts.copy())

    @property
    def largest(self) -> int:
        """The largest magnitude among the amounts, in units of 1e-8."""
        if not self.amounts:
            return 0
        return max(_in_units(max(self.amounts)), -_in_units(min(self.amounts)))

    def before(self, time: int) -> Decimal:
        """Return the amount just before ``time``; 0 before the first change."""
        index = bisect_left(self.times, time)
        return self.amounts[index - 1] if index else ZERO

    def at(self, times: Integers, dtype: DType) -> Units:
        """Return the amount at each of ``times`` (sorted), in units; 0 before the first change."""
        starts = np.searchsorted(times, self.times)
        units = np.array([0, *map(_in_units, self.amounts)], dtype=dtype)
        return np.repeat(units, np.diff(starts, prepend=0, append=len(times)))


class HoldingSeries(NamedTuple):
    """The holding of one symbol over time; both series have the same list of times."""

    quantity: StepSeries
    cost_basis: StepSeries

    def copy(self) -> "HoldingSeries":
        """Return an independent copy."""
        return HoldingSeries(*_copies(self))


class AccountHistory:
    """The changes of an account, in order of time."""

    def __init__(
        self,
        start: int,
        account: Ledger,
        *,
        is_margined: bool = False,
        uses_marks: bool = False,
    ) -> None:
        """Record the state of ``account`` at ``start`` (ms).

        In a margined account nothing is paid for a position, and equity has its PnL alone:
        quantity and cost basis are negative for a short. With ``uses_marks`` positions are valued
        at the mark price.
        """
        self.is_margined = is_margined
        self._uses_marks = uses_marks
        self.funding = StepSeries([], [])
        """Funding received less funding paid, since the start; empty if there was none."""
        times: list[int] = []
        self.available = StepSeries(times, [])
        self.locked = StepSeries(times, [])
        self.realized = StepSeries(times, [])
        self.holdings: dict[str, HoldingSeries] = {}
        self.record(start, account)

    def copy(self) -> "AccountHistory":
        """Return an independent copy. Linear in the number of changes."""
        copied = copy(self)
        cash = (self.available, self.locked, self.realized)
        copied.available, copied.locked, copied.realized = _copies(cash)
        copied.funding = self.funding.copy()
        copied.holdings = {symbol: series.copy() for symbol, series in self.holdings.items()}
        return copied

    def record(self, time: int, account: Ledger) -> None:
        """Record the cash and the realized PnL of ``account`` at ``time``."""
        times, amounts = self.available
        if times and times[-1] == time:
            amounts[-1] = account.available_cash
            self.locked.amounts[-1] = account.locked_cash
            self.realized.amounts[-1] = account.realized_pnl
        else:
            times.append(time)
            amounts.append(account.available_cash)
            self.locked.amounts.append(account.locked_cash)
            self.realized.amounts.append(account.realized_pnl)

    def record_holding(self, time: int, symbol: str, account: Ledger) -> None:
        """Record the holding of ``symbol`` in ``account`` at ``time``."""
        holding = account.holding(symbol)
        series = self.holdings.get(symbol)
        if series is None:
            times: list[int] = []
            series = HoldingSeries(StepSeries(times, []), StepSeries(times, []))
            self.holdings[symbol] = series
        quantity, cost_basis = series
        times = quantity.times
        if times and times[-1] == time:
            quantity.amounts[-1] = holding.quantity
            cost_basis.amounts[-1] = holding.cost_basis
        else:
            times.append(time)
            quantity.amounts.append(holding.quantity)
            cost_basis.amounts.append(holding.cost_basis)

    def equity_before(self, market: Market, time: int) -> Decimal:
        """Return total equity just before the events of ``time``, at the prices of ``time``."""
        total = add(self.available.before(time), self.locked.before(time))
        for symbol, series in self.holdings.items():
            quantity = series.quantity.before(time)
            if quantity:
                price = self.line(market, symbol).price(time)
                assert price is not None, "what is held has a price"
                total = add(total, rounded_product(quantity, price))
                if self.is_margined:
                    total = subtract(total, series.cost_basis.before(time))
        return total

    def line(self, market: Market, symbol: str) -> Candles:
        """Return the candles whose closes value positions in ``symbol``."""
        return market.mark_line(symbol) if self._uses_marks else market.candles_of(symbol)


def _copies(series: Sequence[StepSeries]) -> list[StepSeries]:
    """Return copies of series that have one list of times, which do so too."""
    times = series[0].times.copy()
    return [StepSeries(times, one.amounts.copy()) for one in series]


def _in_units(amount: Decimal) -> int:
    return int(EXACT.scaleb(amount, AMOUNT_PLACES))
