"""The path of the price within one candle as a plain walk: open, nearer extreme, farther one, close.

Both oracles use it. From where the price is it looks at every order again after each event.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from decimal import ROUND_HALF_UP, Context, Decimal
from fractions import Fraction
from typing import Any, NamedTuple

_ROUNDING = Context(prec=400, rounding=ROUND_HALF_UP)
_UNIT = Decimal("1e-16")
OPEN, FIRST, SECOND, LAST, CLOSE = range(5)
"""The places of a path: at its open, on one of its three legs, at its close."""


class Position(NamedTuple):
    """Where the price is: how far on which leg, and at what price."""

    leg: int
    fraction: Fraction
    price: Decimal


class Event(NamedTuple):
    """An order that is met, where, and its price before slippage."""

    at: Position
    order: Any
    base: Decimal


def points(candle: Any) -> tuple[Decimal, Decimal, Decimal, Decimal]:
    """Return the turning points of the path; of two extremes as near, the low comes first."""
    low_first = candle.open - candle.low <= candle.high - candle.open
    near, far = (candle.low, candle.high) if low_first else (candle.high, candle.low)
    return candle.open, near, far, candle.close


def start_of(candle: Any, trigger: str) -> Position:
    if trigger == "close":
        return Position(CLOSE, Fraction(0), candle.close)
    return Position(OPEN, Fraction(0), candle.open)


def next_event(
    candle: Any, orders: Iterable[Any], here: Position, placed: Collection[int], trigger: str
) -> Event | None:
    """Return the next order that the price meets, from ``here`` on; of two at a point the older.

    ``placed`` has the ids of the orders that began to wait on this path.
    """
    events = [
        event for order in orders for event in _event_of(candle, order, here, placed, trigger)
    ]
    return min(events, key=lambda event: (event.at[:2], event.order.id), default=None)


def _event_of(
    candle: Any, order: Any, here: Position, placed: Collection[int], trigger: str
) -> Iterable[Event]:
    is_on_path = trigger == "path" and candle.open_time >= order.created_at
    if order.type == "trailing_stop":
        met, _ = followed(candle, order, trigger)
        return [] if met is None else [Event(met, order, met.price)]
    level: Decimal = order.trigger
    falls: bool = order.waits_for_fall

    def has_reached(price: Decimal) -> bool:
        return price <= level if falls else price >= level

    if order.id not in placed and not is_on_path:
        worse = max if order.side == "buy" else min
        at = Position(CLOSE, Fraction(0), candle.close)
        return [Event(at, order, worse(level, candle.close))] if has_reached(candle.close) else []
    if here.leg == CLOSE:
        here = here._replace(price=candle.close)
    if has_reached(here.price):
        is_limit_at_close = here.leg == CLOSE and order.is_limit
        return [Event(here, order, level if is_limit_at_close else here.price)]
    for leg in range(max(here.leg, FIRST), CLOSE):
        start, end = points(candle)[leg - 1 : leg + 1]
        if has_reached(end):
            fraction = Fraction(level - start) / Fraction(end - start)
            return [Event(Position(leg, fraction, level), order, level)]
    return []


def followed(candle: Any, order: Any, trigger: str) -> tuple[Position | None, Decimal | None]:
    """Return where the price meets a trailing stop, and the best price on its path until then."""
    best: Decimal | None = order.peak
    sells = order.side == "sell"
    if trigger == "close" or candle.open_time < order.created_at:
        if best is not None and _is_beyond(candle.close, stop_of(order, best), sells):
            return Position(CLOSE, Fraction(0), candle.close), best
        return None, _better(order, best, candle.close)
    if best is not None and _is_beyond(candle.open, stop_of(order, best), sells):
        return Position(OPEN, Fraction(0), candle.open), best
    best = _better(order, best, candle.open)
    for leg in (FIRST, SECOND, LAST):
        start, end = points(candle)[leg - 1 : leg + 1]
        if best is not None:
            stop = stop_of(order, best)
            if _is_beyond(end, stop, sells):
                fraction = Fraction(stop - start) / Fraction(end - start)
                return Position(leg, fraction, stop), best
        best = _better(order, best, end)
    return None, best


def stop_of(order: Any, best: Decimal) -> Decimal:
    """Return the trigger of a trailing stop at a best price."""
    sign = -1 if order.side == "sell" else 1
    amount: Decimal | None = order.trail_amount
    if amount is not None:
        return best + sign * amount
    exact: Decimal = best * (100 + sign * order.trail_percent) * Decimal("0.01")
    return exact.quantize(_UNIT, context=_ROUNDING)


def _is_beyond(price: Decimal, stop: Decimal, sells: bool) -> bool:
    return price <= stop if sells else price >= stop


def _better(order: Any, best: Decimal | None, price: Decimal) -> Decimal | None:
    sells = order.side == "sell"
    if best is None:
        activation = order.activation_price
        is_active = activation is None or _is_beyond(price, activation, not sells)
        return price if is_active else None
    return max(best, price) if sells else min(best, price)
