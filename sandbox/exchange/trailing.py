"""Trailing stops: how the trigger follows the best price, and which candle may reach it next."""

from decimal import Decimal
from typing import NamedTuple

import msgspec

from candlestep.sandbox.errors import InvalidParameter
from candlestep.sandbox.exchange.orders import Order
from candlestep.sandbox.market.candles import Candles
from candlestep.sandbox.market.price_index import Retreat
from candlestep.sandbox.money import (
    HUNDRED,
    add,
    decimal_of,
    largest_float_up_to,
    smallest_float_from,
    subtract,
)


class Trail(NamedTuple):
    """The next candle that may activate or trigger a trailing stop, and the best price before it."""

    candle: int
    """Its index."""
    best: Decimal | None
    """None while the order waits for its activation price."""
    start: int
    """The index of the candle from which on it was looked for."""
    best_at_start: Decimal | None
    """The best price before that one."""

    def best_after(
        self, order: Order, candles: Candles, last: int, *, close_only: bool
    ) -> Decimal | None:
        """Return the best price after the candle at index ``last``, which comes before ``candle``."""
        best, stop = self.best_at_start, min(last + 1, self.candle)
        if best is None or stop <= self.start:
            return best
        seen = slice(self.start, stop)
        if order.side == "sell":
            highest = (candles.close if close_only else candles.high)[seen].max()
            return max(best, decimal_of(float(highest)))
        lowest = (candles.close if close_only else candles.low)[seen].min()
        return min(best, decimal_of(float(lowest)))


class Meeting(NamedTuple):
    """The point of a path at which a trailing stop triggers: the number of the point after it."""

    point: int
    price: Decimal


def trailing_from(order: Order, price: Decimal) -> Order:
    """Return a trailing stop as it is placed at ``price``.

    Raises ``InvalidParameter`` if its trigger would not be above 0.
    """
    if order.is_activated_at(price):
        order = msgspec.structs.replace(order, best_price=price)
    if order.trigger <= 0:
        raise InvalidParameter(
            "trail_amount", f"the stop would wait for {order.trigger:f}; lower the distance"
        )
    return order


def next_trail(
    order: Order, best: Decimal | None, candles: Candles, start: int, *, close_only: bool
) -> Trail:
    """Return the next candle from index ``start`` on that the order has to see.

    ``best`` is its best price before that candle. A filter in floats that misses no candle; its
    cost hardly grows with the number of candles.
    """
    if start >= len(candles):
        return Trail(start, best, start, best)
    if not close_only and candles.open_time[start] < order.created_at:
        return Trail(start, best, start, best)  # It was running: its close alone counts.
    falls = order.side == "sell"
    if best is None:
        assert order.activation_price is not None, "it waits for that price"
        below, above = float("-inf"), float("inf")
        if falls:
            above = smallest_float_from(order.activation_price)
        else:
            below = largest_float_up_to(order.activation_price)
        index = candles.first_touch(below, above, start, len(candles), close_only=close_only)
        return Trail(index, None, start, None)
    share, amount = 1.0, float(order.trail_amount or 0)
    if order.trail_percent is not None:
        change = subtract if falls else add
        share = float(change(HUNDRED, order.trail_percent)) / 100
    retreat = Retreat(share, amount, falls)
    index, peak = candles.first_retreat(float(best), retreat, start, close_only=close_only)
    return Trail(index, decimal_of(peak), start, best)


def follow(
    order: Order, best: Decimal | None, points: tuple[Decimal, ...]
) -> tuple[Meeting | None, Decimal | None]:
    """Follow the price from point to point; return where the order triggers, and its best price.

    The price jumps to the first of ``points``, where the order gets that price, and travels to
    each of the others, on the way to which it gets its trigger.
    """
    for number, point in enumerate(points):
        if best is not None:
            trigger = order.trigger_at(best)
            if point <= trigger if order.side == "sell" else point >= trigger:
                return Meeting(number, trigger if number else point), best
        best = _improved(order, best, point)
    return None, best


def _improved(order: Order, best: Decimal | None, point: Decimal) -> Decimal | None:
    """Return the best price once the price has been at ``point``."""
    if best is not None:
        return max(best, point) if order.side == "sell" else min(best, point)
    return point if order.is_activated_at(point) else None
