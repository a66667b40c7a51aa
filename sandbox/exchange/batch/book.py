"""The book of a symbol in a batch: what orders cost there, and the guards of positions."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from candlestep.sandbox.clock import Clock
from candlestep.sandbox.exchange.batch.exact import Integers, muldiv
from candlestep.sandbox.exchange.batch.guards import (
    MILLION,
    Guards,
    Indices,
    Triggers,
    triggers_of,
)
from candlestep.sandbox.exchange.batch.prices import (
    POWERS,
    PRICE_UNIT,
    FillPrices,
    Rate,
    rate_of,
    slipped,
    taker_rates,
    volume_slippage,
)
from candlestep.sandbox.exchange.batch.tape import RecentVolumes, Tape, recent_volumes
from candlestep.sandbox.exchange.costs.costs import Costs
from candlestep.sandbox.market.market import Market

_LEAST_VOLUME_SLIPPAGE = Rate(1, 4)


class Bracket(NamedTuple):
    """Distances of guards from the fill price in millionths; 0 for none."""

    stop_loss: int
    take_profit: int


class Book:
    """The costs of a symbol's orders, and the guards of its positions."""

    def __init__(
        self,
        tape: Tape,
        market: Market,
        costs: Costs,
        clock: Clock,
        n: int,
        brackets: Sequence[Bracket],
    ) -> None:
        """Prepare the costs of ``n`` accounts; raises the errors of ``taker_rates``."""
        self._tape = tape
        self.guards = Guards(n)
        self.brackets = brackets
        self.volumes: RecentVolumes | None = None
        self._slippage = rate_of(costs.fixed)
        if costs.model == "volume":
            if tape.symbol in costs.without_volume:
                self._slippage = _LEAST_VOLUME_SLIPPAGE
            else:
                self.volumes = recent_volumes(market.candles_of(tape.symbol))
        times = clock.start + clock.interval * np.arange(clock.total_steps + 1)
        self._fee = taker_rates(costs.fees, tape.symbol, times)
        self._fee_by_candle = taker_rates(costs.fees, tape.symbol, tape.completions)
        self._fees_of_accounts: Integers | None = None
        self._slippage_of_accounts: Integers | None = None
        self._n = n
        scale = 10**tape.digits
        self._fills: dict[int, FillPrices] | None = None
        """The prices at every step, by side, if they do not depend on the order."""
        if self.volumes is None:
            fixed = _fixed(self._slippage)
            self._fills = {side: slipped(tape.price, scale, fixed, side) for side in (1, -1)}
        self._triggers: list[Triggers] | None = None
        """The triggers of each bracket at every step, if they depend on nothing else."""

    def set_costs(
        self, accounts: Indices, fee_rates: Integers | None, slippages: Integers | None
    ) -> None:
        """Give accounts costs of their own, in millionths."""
        if fee_rates is not None:
            if self._fees_of_accounts is None:
                self._fees_of_accounts = np.zeros(self._n, dtype=np.int64)
            self._fees_of_accounts[accounts] = fee_rates
        if slippages is not None:
            if self._slippage_of_accounts is None:
                self._slippage_of_accounts = np.zeros(self._n, dtype=np.int64)
            self._slippage_of_accounts[accounts] = slippages
            self._fills = None

    def fee(self, amount: Integers, accounts: Indices, steps: Integers) -> Integers:
        """Return the fee on amounts that are traded at some steps of the clock."""
        if self._fees_of_accounts is not None:
            return muldiv(amount, self._fees_of_accounts[accounts], MILLION)
        return muldiv(amount, self._fee.at(steps), self._fee.scale)

    def fee_at_trigger(self, amount: Integers, accounts: Indices, rows: Integers) -> Integers:
        """Return the fee on amounts that are traded when some candles are complete."""
        if self._fees_of_accounts is not None:
            return muldiv(amount, self._fees_of_accounts[accounts], MILLION)
        return muldiv(amount, self._fee_by_candle.at(rows), self._fee_by_candle.scale)

    def fill_at_once(
        self, quantity: Integers, accounts: Indices, steps: Integers, side: int
    ) -> FillPrices:
        """Return the prices of market orders at some steps of the clock."""
        if self._fills is not None:
            return self._fills[side].at(steps)
        stop = self._tape.row[steps] + 1
        slippage = self._slippage_units(quantity, accounts, stop)
        return slipped(self._tape.price[steps], 10**self._tape.digits, slippage, side)

    def fill_at_trigger(
        self,
        quantity: Integers,
        accounts: Indices,
        base: Integers,
        places: Integers,
        rows: Integers,
    ) -> FillPrices:
        """Return the prices of guards that some candles trigger."""
        slippage = self._slippage_units(quantity, accounts, rows)
        return slipped(base, POWERS[places], slippage, -1)

    def triggers(self, fill: FillPrices, steps: Integers, bracket: Integers | None) -> Triggers:
        """Return the triggers of guards of what was bought at ``fill``, at some steps."""
        digits = self._tape.digits
        if self._fills is None:
            number = 0 if bracket is None else bracket
            stop_loss, take_profit = np.array(self.brackets).T
            return triggers_of(fill, stop_loss[number], take_profit[number], digits)
        if self._triggers is None:
            prices = self._fills[1]
            self._triggers = [triggers_of(prices, *bracket, digits) for bracket in self.brackets]
        if bracket is None:
            return self._triggers[0].at(steps)
        chosen = [triggers.at(steps) for triggers in self._triggers]
        return Triggers(*(np.choose(bracket, columns) for columns in zip(*chosen, strict=True)))

    def _slippage_units(
        self, quantity: Integers, accounts: Indices, stop: Integers
    ) -> Integers | int:
        """Return the slippage in units of 1e-16."""
        if self.volumes is not None:
            return volume_slippage(quantity, stop, self.volumes)
        if self._slippage_of_accounts is not None:
            own: Integers = self._slippage_of_accounts[accounts] * (PRICE_UNIT // MILLION)
            return own
        return _fixed(self._slippage)


def _fixed(rate: Rate) -> int:
    """Return a slippage in units of 1e-16."""
    assert isinstance(rate.units, int), "slippage does not depend on the time"
    units: int = rate.units * (PRICE_UNIT // rate.scale)
    return units
