"""One candle, walked along each leg of its path, its last leg to the close included."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING

from tests.support.naive_path import CLOSE, LAST, OPEN, followed, next_event, start_of
from tests.support.perpetual_oracle.account import Position
from tests.support.perpetual_oracle.market import Bar
from tests.support.perpetual_oracle.path import along, leg_of
from tests.support.perpetual_oracle.values import Order

if TYPE_CHECKING:
    from tests.support.perpetual_oracle.exchange import Exchange


class Walk:
    """The walk of one symbol through one candle; the marks of the others stand."""

    def __init__(self, exchange: Exchange, bar: Bar) -> None:
        self.exchange = exchange
        self.candle, self.mark = bar
        self.symbol = self.candle.symbol
        self.is_seen = exchange.changed_at.get(self.symbol, 0) <= self.candle.open_time
        """False while only the close counts, because a command changed the position inside."""
        self.done = -1
        """The last turning point that the mark has passed."""

    def run(self) -> None:
        """Let orders trigger and positions be liquidated, in sequence along the path."""
        exchange, trigger = self.exchange, self.exchange.config.trigger
        exchange.placed = set()
        here = start_of(self.candle, trigger)
        self.done = LAST if trigger == "close" else -1
        while event := next_event(self.candle, self._waiting, here, exchange.placed, trigger):
            here = event.at
            self._go_on(here.leg if here.leg in (OPEN, CLOSE) else here.leg - 1)
            if here.leg not in (OPEN, CLOSE):
                self._move(along(self.mark, here.leg, here.fraction))
            if event.order.status == "pending":  # Neither cancelled nor filled on the way.
                self._trigger(event.order.id, event.base)
        self._go_on(CLOSE)
        exchange.placed = None
        for order in self._waiting:
            if order.type == "trailing_stop":
                _, order.peak = followed(self.candle, order, trigger)

    @property
    def _waiting(self) -> list[Order]:
        return [order for order in self.exchange.pending if order.symbol == self.symbol]

    def _go_on(self, place: int) -> None:
        """Let the mark pass the turning points up to the end of ``place``."""
        while self.done < place:
            self.done += 1
            if self.done == OPEN:
                self._jump(self.mark.open)
            elif self.done == CLOSE:
                self.is_seen = True
                self._jump(self.mark.close)
            else:
                self._move(leg_of(self.mark, self.done)[1])

    def _trigger(self, order_id: int, base: Decimal) -> None:
        exchange = self.exchange
        before = self._position.quantity
        exchange.trigger(exchange.orders[order_id - 1], base, self.candle)
        if before * self._position.quantity <= 0:
            self.is_seen = True  # What is open from here on was not there before.
        exchange.settle(self.symbol, None if self.is_seen else self.symbol)

    @property
    def _position(self) -> Position:
        return self.exchange.account.positions[self.symbol]

    def _jump(self, price: Decimal) -> None:
        """Let the mark be at ``price`` without having been on the way."""
        self.exchange.standing[self.symbol] = price
        if self._is_broken():
            self._liquidate(price)

    def _move(self, price: Decimal) -> None:
        """Let the mark go to ``price``; the position is liquidated where f or F becomes 0."""
        start = self.exchange.marks()[self.symbol]
        self.exchange.standing[self.symbol] = price
        if not self._is_broken():
            return
        threshold = self.exchange.account.liquidation_price(self._position, self.exchange.marks())
        assert threshold is not None
        assert min(start, price) <= threshold <= max(start, price)
        self._liquidate(threshold)

    def _is_broken(self) -> bool:
        if not self.is_seen or not self._position.quantity:
            return False
        return not self.exchange.account.is_safe(self._position, self.exchange.marks())

    def _liquidate(self, price: Fraction | Decimal) -> None:
        if self._position.is_isolated:
            self.exchange.liquidate_isolated(self._position, price)
        else:
            self.exchange.liquidate_cross(self.symbol, price)
