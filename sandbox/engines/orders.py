"""Orders for an engine other than the sandbox, and the fills that come back.

A signal plan says what to buy and sell at which candle; the quantity depends on what the engine
holds then. It is computed here, for all engines alike, so that they differ only in execution.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from candlestep.sandbox import (
    InsufficientBalance,
    InsufficientMargin,
    InvalidParameter,
    Market,
    format_time,
)
from candlestep.sandbox.market.candles import Floats, Integers
from candlestep.sandbox.money import MAXIMUM
from candlestep.sandbox.strategies import Signal, SignalPlan
from candlestep.sandbox.strategies.broker import Action
from candlestep.sandbox.strategies.card import Size
from candlestep.sandbox.strategies.progress import RunProgress
from candlestep.sandbox.strategies.signals import SideSignals

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


class EngineOrder(NamedTuple):
    """A market order of a row."""

    column: int
    quantity: float
    """Positive to buy, negative to sell."""


class EngineOrders:
    """Prices and orders, with a column for each symbol.

    There is a row for each time at which something may be ordered, and one for the end. Every
    order is a market order, executed at the price of its row, so that an engine needs no other
    candles. Orders of one row are executed in the order of their columns; a position that is
    reversed is closed by one order and opened by the next.
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
        due = [signals.any for signals in plan.by_symbol]
        steps = [signals.steps[is_due] for signals, is_due in zip(plan.by_symbol, due, strict=True)]
        all_steps = np.unique(np.concatenate([*steps, [clock.total_steps]]))
        self.time: Integers = clock.start + all_steps * clock.interval
        """Time of each row, in milliseconds."""
        self.price: Floats = np.column_stack(
            [_prices(market, symbol, self.time) for symbol in self.symbols]
        )
        """Price by row and column. Before a symbol's first candle, where nothing can be ordered, it
        is the close of that candle."""
        self.is_margined = config.margin is not None
        """True on perpetuals, where positions may be short."""
        shape = self.price.shape
        self._entries = np.full(shape, -1)
        self._sides = {
            sign: SideSignals(np.full(shape, -1), np.zeros(shape, dtype=bool), np.full(shape, -1))
            for sign in (1, -1)
        }
        for column, (signals, is_due) in enumerate(zip(plan.by_symbol, due, strict=True)):
            rows = np.searchsorted(all_steps, steps[column])
            self._entries[rows, column] = signals.entries[is_due]
            for sign, side in ((1, signals.long), (-1, signals.short)):
                for whole, part in zip(self._sides[sign], side, strict=True):
                    whole[rows, column] = part[is_due]
        if config.liquidate_at_end:
            for side in self._sides.values():
                side.exits[-1] = True
        self._steps: list[int] = all_steps.tolist()
        self._rules = plan.entries
        self._progress = progress
        self.signals: list[Signal] = []
        """The decisions, in order; order ids count the orders placed."""
        self._placed = 0
        self._row = self._column = -1
        self._closed = 0

    def next_order(self, row: int, cash: float, held: Floats) -> EngineOrder | None:
        """Return the next order of a row; None after the last one.

        ``cash`` and ``held`` (by column) are what the engine has after those before it; call it
        until there is none, row by row. An order that cannot be paid is not placed. Raises
        ``Cancelled``, and ``InvalidParameter`` where a short costs more than there is.
        """
        if row != self._row:
            self._progress.at(self._steps[row])
            self._row, self._column, self._closed = row, 0, 0
        while self._column < len(self.symbols):
            column = self._column
            quantity = self._quantity(row, column, cash, held)
            if quantity:
                return EngineOrder(column, quantity)
        return None

    def _quantity(self, row: int, column: int, cash: float, held: Floats) -> float:
        """Return the quantity of the next order of a column; 0 if there is none."""
        position = float(held[column])
        sign = 1 if position > 0 else -1
        if position and not self._closed:
            side = self._sides[sign]
            if side.exits[row, column]:
                if sign < 0:
                    self._require_cash(row, column, -position, cash)
                self._closed = sign
                self._record(row, column, -sign, None)
                return -position
            entry = side.adds[row, column]
        elif self._closed:
            entry = self._sides[-self._closed].entries[row, column]
        else:
            entry = self._entries[row, column]
        self._column, self._closed = column + 1, 0
        if entry < 0:
            return 0.0
        rule = self._rules[entry]
        direction = 1 if rule.side == "long" else -1
        quantity, refused = self._entry_quantity(rule.size, direction, row, column, cash, held)
        self._record(row, column, direction, refused)
        return 0.0 if refused else direction * quantity

    def _require_cash(self, row: int, column: int, quantity: float, cash: float) -> None:
        """Refuse to buy a short back for more than there is: no engine has an insurance fund."""
        notional, fee = self.cost(quantity, self.unit_price(row, column, 1))
        if notional + fee > cash:
            raise InvalidParameter(
                "engine",
                f"cannot buy the short in {self.symbols[column]} back at"
                f" {format_time(int(self.time[row]))}: it costs {notional + fee:,.2f}, and the cash"
                f" is {cash:,.2f}; use the engine sandbox",
                feature="insurance",
            )

    def unit_price(self, row: int, column: int, direction: int) -> float:
        """Return the price with slippage of a buy (1) or a sale (-1)."""
        return float(self.price[row, column]) * (1 + direction * self.slippage)

    def cost(self, quantity: float, unit_price: float) -> tuple[float, float]:
        """Return the notional and the fee."""
        return quantity * unit_price, quantity * self.fee_rate * unit_price

    def _entry_quantity(
        self, size: Size, direction: int, row: int, column: int, cash: float, held: Floats
    ) -> tuple[float, str | None]:
        """Return the quantity that ``size`` amounts to, and the code of a refusal, if any."""
        price = self.unit_price(row, column, direction)
        # A short takes the margin at the price, and what it loses at once by slippage.
        taken = price if direction > 0 else 2 * float(self.price[row, column]) - price
        equity = cash + float(held @ self.price[row])
        spendable = cash
        if self.is_margined:
            spendable = equity - float(np.abs(held) @ self.price[row])
        if size.quantity is not None:
            quantity = float(size.quantity)
        else:
            budget = spendable
            if size.quote is not None:
                budget = float(size.quote)
            elif size.equity_share is not None:
                budget = min(equity * float(size.equity_share) / len(self.symbols), spendable)
            quantity = self._affordable(budget, taken, price)
        if not quantity:
            return 0.0, InsufficientBalance.code
        if self._left(spendable, quantity, taken, price) < 0:
            return 0.0, (InsufficientMargin if self.is_margined else InsufficientBalance).code
        if quantity * price < _LEAST_AMOUNT:
            return 0.0, InvalidParameter.code
        return quantity, None

    def _affordable(self, budget: float, taken: float, price: float) -> float:
        """Return the largest number of whole lots that takes at most ``budget``, fees included.

        Each unit takes ``taken`` besides its fee, which is that of ``price``.
        """
        most = min(budget / (taken + price * self.fee_rate), float(MAXIMUM))
        quantity = math.floor(most * _LAST_DIGIT * LOTS) / LOTS
        while quantity > 0 and self._left(budget, quantity, taken, price) < 0:
            quantity = min(quantity - 1 / LOTS, math.nextafter(quantity, 0))
        return max(quantity, 0.0)

    def _left(self, budget: float, quantity: float, taken: float, price: float) -> float:
        _, fee = self.cost(quantity, price)
        return budget - quantity * taken - fee

    def _record(self, row: int, column: int, direction: int, refused: str | None) -> None:
        action: Action = "buy" if direction > 0 else "sell"
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
