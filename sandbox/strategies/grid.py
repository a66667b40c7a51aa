"""The grid of a card on one symbol: limit orders, each followed by one on the other side."""

from bisect import bisect_left
from collections.abc import Sequence
from decimal import Decimal
from itertools import pairwise

from candlestep.sandbox.exchange.orders import Order, Side
from candlestep.sandbox.indicators.bars import Bars, SessionRows
from candlestep.sandbox.money import (
    AMOUNT_PLACES,
    PRICE_PLACES,
    ZERO,
    add,
    multiply,
    rounded_ratio,
    subtract,
)
from candlestep.sandbox.strategies.broker import Broker
from candlestep.sandbox.strategies.card import Grid


class _Slot:
    """A level, the one above it, and the order that rests at one of the two."""

    def __init__(self, low: Decimal, high: Decimal) -> None:
        self.low = low
        self.high = high
        self.order: Order | None = None


class GridRules:
    """The decisions of a grid on one symbol: at the first row, and after each fill."""

    def __init__(self, grid: Grid, bars: Bars, rows: SessionRows, broker: Broker) -> None:
        self.symbol = bars.symbol
        self._grid = grid
        self._broker = broker
        self._steps: Sequence[int] = rows.steps.data
        levels = grid_levels(grid)
        self._slots = [_Slot(*pair) for pair in pairwise(levels)]
        self._is_placed = False
        self._entry_side: Side = "buy" if grid.side == "long" else "sell"

    def next_step(self, now: int) -> int | None:
        """Return the step of the next decision, from step ``now`` on; None if none is due."""
        if self._is_placed and not any(map(self._has_filled, self._slots)):
            return None
        row = bisect_left(self._steps, now)
        return self._steps[row] if row < len(self._steps) else None

    def decide(self, now: int) -> None:
        """Place the entries, or follow up on fills. A level whose order is refused is abandoned."""
        if not self._is_placed:
            self._is_placed = True
            self._place()
        for slot in self._slots:
            while self._has_filled(slot):
                self._follow_up(slot)

    def _place(self) -> None:
        size, count = self._grid.size, Decimal(len(self._slots))
        side = self._entry_side
        cash = self._broker.budget(self.symbol, size)
        for slot in self._slots:
            order = {"type": "limit", "price": slot.low if side == "buy" else slot.high}
            if cash is not None:
                part = rounded_ratio(cash, count, AMOUNT_PLACES)
                # Rounded up, the parts would be more than the whole.
                part = min(part, self._broker.session.spendable(self.symbol))
                slot.order = self._broker.spend(self.symbol, side, part, **order)
            else:
                assert size.quantity is not None
                part = rounded_ratio(Decimal(size.quantity), count, AMOUNT_PLACES)
                slot.order = self._broker.place(self.symbol, side, part, **order)

    def _has_filled(self, slot: _Slot) -> bool:
        if slot.order is None:
            return False
        slot.order = self._broker.session.order(slot.order.id)
        return slot.order.status == "filled"

    def _follow_up(self, slot: _Slot) -> None:
        assert slot.order is not None
        quantity = slot.order.quantity
        side: Side = "sell" if slot.order.side == "buy" else "buy"
        price = slot.high if side == "sell" else slot.low
        terms = {} if side == self._entry_side else self._broker.reducing
        slot.order = self._broker.place(
            self.symbol, side, quantity, type="limit", price=price, **terms
        )


def grid_levels(grid: Grid) -> list[Decimal]:
    """Return the prices of ``grid``, from ``lower`` to ``upper``, at 16 places."""
    lower, upper = Decimal(grid.lower), Decimal(grid.upper)
    span, parts = subtract(upper, lower), Decimal(grid.levels - 1)
    return [
        add(lower, rounded_ratio(multiply(span, Decimal(place)), parts, PRICE_PLACES))
        if place
        else add(lower, ZERO)
        for place in range(grid.levels)
    ]
