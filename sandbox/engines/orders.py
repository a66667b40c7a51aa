"""Orders for an engine other than the sandbox, and the fills that come back.

A signal plan says what to buy and sell at which candle; the quantity depends on what the engine
holds then. It is computed here, for all engines alike, so that they differ only in execution.
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
# Keeps a quotient that is a whole number of lots up to its last digit from losing a lot.
_LAST_DIGIT = 1 + 1e-15


class EngineFill(NamedTuple):
    """An order as an engine executed it, in floats."""

    row: int
    column: int
    quantity: float
    """Negative for a sale."""
    price: float
    """Slippage included."""
    fee: float


class EngineResult(NamedTuple):
    """The fills of an engine, and the equity that it computes from them."""

    fills: Sequence[EngineFill]
    """Sorted by row, then by column."""
    equity: Floats
    """Total equity by the engine's own calculation, after all events of each row."""


class EngineOrders:
    """Prices and orders, with a column for each symbol.

    There is a row for each time at which something may be ordered, and one for the end. Every
    order is a market order, executed at the price of its row, so that an engine needs no other
    candles. Orders of one row are executed in the order of their columns.
    """

    def __init__(self, plan: SignalPlan, market: Market, progress: RunProgress) -> None:
        """Collect the rows at which ``plan`` has a signal, and their prices."""
        config, clock = plan.config, plan.config.clock
        self.symbols = [signals.symbol for signals in plan.by_symbol]
        self.cash = float(config.starting_balance)
        self.fee_rate = float(config.costs.fees.highest(self.symbols[0]))
        """A fraction of the notional."""
        self.slippage = float(config.costs.fixed)
        """A fraction of the price."""
        due = [
            (signals.buys >= 0) | (signals.adds >= 0) | signals.sells for signals in plan.by_symbol
        ]
        steps = [signals.steps[is_due] for signals, is_due in zip(plan.by_symbol, due, strict=True)]
        all_steps = np.unique(np.concatenate([*steps, [clock.total_steps]]))
        self.time: Integers = clock.start + all_steps * clock.interval
        """Time of each row, in milliseconds."""
        self.price: Floats = np.column_stack(
            [_prices(market, symbol, self.time) for symbol in self.symbols]
        )
        """Price by row and column. Before a symbol's first candle, where nothing can be ordered, it
        is the close of that candle."""
        shape = self.price.shape
        self._buys, self._adds = np.full(shape, -1), np.full(shape, -1)
        self._sells = np.zeros(shape, dtype=bool)
        for column, (signals, is_due) in enumerate(zip(plan.by_symbol, due, strict=True)):
            rows = np.searchsorted(all_steps, steps[column])
            self._buys[rows, column] = signals.buys[is_due]
            self._adds[rows, column] = signals.adds[is_due]
            self._sells[rows, column] = signals.sells[is_due]
        if config.liquidate_at_end:
            self._sells[-1] = True
        self._steps: list[int] = all_steps.tolist()
        self._entries = plan.entries
        self._progress = progress
        self.signals: list[Signal] = []
        """The decisions, in order; order ids count the orders placed."""
        self._placed = 0

    def quantity(self, row: int, column: int, cash: float, held: Floats) -> float:
        """Return the quantity to order: positive to buy, negative to sell all that is held.

        ``cash`` and ``held`` (by column) are what the engine has. Call it once for every column
        of each row. An order that cannot be paid is not placed. Raises ``Cancelled``.
        """
        self._progress.at(self._steps[row])
        position = float(held[column])
        if position > 0 and self._sells[row, column]:
            self._record(row, column, "sell", None)
            return -position
        entry = (self._adds if position > 0 else self._buys)[row, column]
        if entry < 0:
            return 0.0
        quantity, refused = self._buy_quantity(self._entries[entry].size, row, column, cash, held)
        self._record(row, column, "buy", refused)
        return 0.0 if refused else quantity

    def unit_price(self, row: int, column: int, direction: int) -> float:
        """Return the price with slippage of a buy (1) or a sale (-1)."""
        return float(self.price[row, column]) * (1 + direction * self.slippage)

    def cost(self, quantity: float, unit_price: float) -> tuple[float, float]:
        """Return the notional and the fee."""
        return quantity * unit_price, quantity * self.fee_rate * unit_price

    def _buy_quantity(
        self, size: Size, row: int, column: int, cash: float, held: Floats
    ) -> tuple[float, str | None]:
        """Return the quantity that ``size`` amounts to, and the code of a refusal, if any."""
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
        if not quantity or self._cash_left(cash, quantity, price) < 0:
            return 0.0, InsufficientBalance.code
        if quantity * price < _LEAST_AMOUNT:
            return 0.0, InvalidParameter.code
        return quantity, None

    def _affordable(self, budget: float, price: float) -> float:
        """Return the largest number of whole lots that costs at most ``budget``, fees included."""
        most = min(budget / (price * (1 + self.fee_rate)), float(MAXIMUM))
        quantity = math.floor(most * _LAST_DIGIT * LOTS) / LOTS
        while quantity > 0 and self._cash_left(budget, quantity, price) < 0:
            quantity = min(quantity - 1 / LOTS, math.nextafter(quantity, 0))
        return max(quantity, 0.0)

    def _cash_left(self, cash: float, quantity: float, price: float) -> float:
        notional, fee = self.cost(quantity, price)
        return cash - notional - fee

    def _record(self, row: int, column: int, action: Action, refused: str | None) -> None:
        if refused is None:
            self._placed += 1
        if row == len(self.time) - 1:
            return  # The sale at the end is the session's, not a decision of the strategy.
        order_id = self._placed if refused is None else None
        time, symbol = int(self.time[row]), self.symbols[column]
        self.signals.append(Signal(time, symbol, action, order_id, refused))


def _prices(market: Market, symbol: str, times: Integers) -> Floats:
    candles = market.candles_of(symbol)
    return candles.close[np.maximum(candles.last_complete_at(times), 0)]
