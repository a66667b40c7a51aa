"""What an engine beside the sandbox works on: prices, and what to order at them.

A plan says what is to be bought and sold at which candle; how much of it depends on what the
engine holds then. That is reckoned here, once for all engines, so that they differ in nothing but
how they execute.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from candlestep.sandbox import InsufficientBalance, InvalidParameter, Market
from candlestep.sandbox.market.candles import Floats, Integers
from candlestep.sandbox.money import MAXIMUM
from candlestep.sandbox.strategies import Signal, SignalPlan
from candlestep.sandbox.strategies.broker import Action
from candlestep.sandbox.strategies.card import Size
from candlestep.sandbox.strategies.progress import RunProgress

LOTS = 1e8
"""Quantities are whole numbers of ``1 / LOTS``, as the sandbox's are."""
_LEAST_AMOUNT = 0.5e-8
# So that a quotient that is a whole number of lots but for its last digit is not a lot less.
_LAST_DIGIT = 1 + 1e-15


class EngineFill(NamedTuple):
    """An order as an engine has executed it, in floats."""

    row: int
    column: int
    quantity: float
    """Negative for a sale."""
    price: float
    """With slippage."""
    fee: float


class EngineResult(NamedTuple):
    """What an engine has done."""

    executions: Sequence[EngineFill]
    """In the order of their rows, those of one row in that of their columns."""
    equity: Floats
    """Its own reckoning of total equity, after all that happened at each row."""


class EngineOrders:
    """Prices and orders: a row for each time at which something may be ordered, and one for the
    end; a column for each symbol.

    Every order is a market order, executed at the price of its row, so that an engine needs no
    other candles. Orders of one row are executed in the order of their columns.
    """

    def __init__(self, plan: SignalPlan, market: Market, watch: RunProgress) -> None:
        config, clock = plan.config, plan.config.clock
        self.symbols = [each.symbol for each in plan.by_symbol]
        self.cash = float(config.starting_balance)
        self.fee_rate = float(config.costs.fees.highest(self.symbols[0]))
        """A fraction of the notional."""
        self.slippage = float(config.costs.fixed)
        """A fraction of the price."""
        due = [(each.buys >= 0) | (each.adds >= 0) | each.sells for each in plan.by_symbol]
        steps = [each.steps[rows] for each, rows in zip(plan.by_symbol, due, strict=True)]
        shown = np.unique(np.concatenate([*steps, [clock.total_steps]]))
        self.time: Integers = clock.start + shown * clock.interval
        """Of each row, in milliseconds."""
        self.price: Floats = np.column_stack(
            [_prices(market, symbol, self.time) for symbol in self.symbols]
        )
        """By row and column. Before a symbol's first candle, where nothing can be ordered, that
        candle's close."""
        shape = self.price.shape
        self._buys, self._adds = np.full(shape, -1), np.full(shape, -1)
        self._sells = np.zeros(shape, dtype=bool)
        for column, (decided, mine) in enumerate(zip(plan.by_symbol, due, strict=True)):
            rows = np.searchsorted(shown, steps[column])
            self._buys[rows, column] = decided.buys[mine]
            self._adds[rows, column] = decided.adds[mine]
            self._sells[rows, column] = decided.sells[mine]
        if config.liquidate_at_end:
            self._sells[-1] = True
        self._steps: list[int] = shown.tolist()
        self._entries = plan.entries
        self._watch = watch
        self.signals: list[Signal] = []
        """What was decided, in order; the ids of orders count those placed."""
        self._placed = 0

    def quantity(self, row: int, column: int, cash: float, held: Floats) -> float:
        """What to order, given the cash and, by column, what is held: more than 0 is to be
        bought, less is to be sold, and is then all that is held.

        To be asked once for every column of each row. What cannot be paid is not
        ordered. Raises ``Cancelled``.
        """
        self._watch.at(self._steps[row])
        position = float(held[column])
        if position > 0 and self._sells[row, column]:
            self._note(row, column, "sell", None)
            return -position
        entry = (self._adds if position > 0 else self._buys)[row, column]
        if entry < 0:
            return 0.0
        quantity, refused = self._bought(self._entries[entry].size, row, column, cash, held)
        self._note(row, column, "buy", refused)
        return 0.0 if refused else quantity

    def unit_price(self, row: int, column: int, direction: int) -> float:
        """The price with slippage of a buy (1) or a sale (-1)."""
        return float(self.price[row, column]) * (1 + direction * self.slippage)

    def cost(self, quantity: float, unit_price: float) -> tuple[float, float]:
        """Notional and fee."""
        return quantity * unit_price, quantity * self.fee_rate * unit_price

    def _bought(
        self, size: Size, row: int, column: int, cash: float, held: Floats
    ) -> tuple[float, str | None]:
        """The quantity that ``size`` stands for, and why it cannot be bought, if so."""
        price = self.unit_price(row, column, 1)
        if size.quantity is not None:
            quantity = float(size.quantity)
        else:
            budget = cash
            if size.quote is not None:
                budget = float(size.quote)
            elif size.equity_share is not None:
                equity = cash + float(held @ self.price[row])
                budget = min(equity * float(size.equity_share) / len(self.symbols), cash)
            quantity = self._affordable(budget, price)
        if not quantity or self._left(cash, quantity, price) < 0:
            return 0.0, InsufficientBalance.code
        if quantity * price < _LEAST_AMOUNT:
            return 0.0, InvalidParameter.code
        return quantity, None

    def _affordable(self, budget: float, price: float) -> float:
        """The most whole lots that cost no more than ``budget``, fees included."""
        most = min(budget / (price * (1 + self.fee_rate)), float(MAXIMUM))
        quantity = math.floor(most * _LAST_DIGIT * LOTS) / LOTS
        while quantity > 0 and self._left(budget, quantity, price) < 0:
            quantity = min(quantity - 1 / LOTS, math.nextafter(quantity, 0))
        return max(quantity, 0.0)

    def _left(self, cash: float, quantity: float, price: float) -> float:
        notional, fee = self.cost(quantity, price)
        return cash - notional - fee

    def _note(self, row: int, column: int, action: Action, refused: str | None) -> None:
        if refused is None:
            self._placed += 1
        if row == len(self.time) - 1:
            return  # What is sold at the end is the session's doing, no decision of the strategy.
        order_id = self._placed if refused is None else None
        time, symbol = int(self.time[row]), self.symbols[column]
        self.signals.append(Signal(time, symbol, action, order_id, refused))


def _prices(market: Market, symbol: str, times: Integers) -> Floats:
    candles = market.candles_of(symbol)
    return candles.close[np.maximum(candles.last_complete_at(times), 0)]
