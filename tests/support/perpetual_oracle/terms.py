"""The terms of an order, and the price it gets: as on spot (design, sections 4 and 5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

from tests.support.oracle import (
    AMOUNT_PLACES,
    LARGEST,
    LEAST_SLIPPAGE,
    MOST_SLIPPAGE,
    PRICE_PLACES,
    VOLUME_CANDLES,
    ZERO,
    Candle,
    Refused,
    rounded,
)
from tests.support.perpetual_oracle.values import Config, Order

TAKES_A_TRIGGER = {"stop_loss", "take_profit"}
TAKES_BOTH = {"stop_limit", "take_profit_limit"}
REDUCES_BY_DEFAULT = TAKES_A_TRIGGER | TAKES_BOTH | {"trailing_stop"}


def checked_positive(value: Decimal, places: int) -> Decimal:
    value = rounded(value, places)
    if not ZERO < value <= LARGEST:
        raise Refused("INVALID_PARAMETER")
    return value


def checked_prices(
    type: str, price: Decimal | None, trigger_price: Decimal | None
) -> tuple[Decimal | None, Decimal | None]:
    """Return the limit price and the trigger price of an order."""
    if type in TAKES_BOTH:
        if price is None or trigger_price is None:
            raise Refused("INVALID_PARAMETER")
        return checked_positive(price, PRICE_PLACES), checked_positive(trigger_price, PRICE_PLACES)
    trigger = price if trigger_price is None else trigger_price
    if price is not None and trigger_price is not None:
        raise Refused("INVALID_PARAMETER")
    if type in {"market", "trailing_stop"} and trigger is None:
        return None, None
    if type == "limit" and price is not None:
        return checked_positive(price, PRICE_PLACES), None
    if type in TAKES_A_TRIGGER and trigger is not None:
        return None, checked_positive(trigger, PRICE_PLACES)
    raise Refused("INVALID_PARAMETER")


def replaced(
    old: Order, price: Decimal | None, trigger_price: Decimal | None, quantity: Decimal | None
) -> Order:
    """Return an order with other numbers, which does not wait yet; a stop's price is its trigger."""
    if price is trigger_price is quantity is None:
        raise Refused("INVALID_PARAMETER")
    new = replace(old, triggered_at=None)
    if old.triggered_at is not None:
        new.type, new.trigger_price = "limit", None
    if new.type in TAKES_A_TRIGGER and trigger_price is None:
        price, trigger_price = None, price
    for name, value in (("price", price), ("trigger_price", trigger_price)):
        if value is not None:
            if getattr(new, name) is None:
                raise Refused("INVALID_PARAMETER")
            setattr(new, name, checked_positive(value, PRICE_PLACES))
    if quantity is not None:
        new.quantity = checked_positive(quantity, AMOUNT_PLACES)
    return new


def is_executable(order: Order, market_price: Decimal) -> bool:
    """Return whether it is a market order, or a marketable limit."""
    if order.type == "limit":
        reached = market_price <= order.trigger
        return reached if order.side == "buy" else market_price >= order.trigger
    return order.type == "market"


def slipped(order: Order, base: Decimal, slippage: Decimal) -> Decimal:
    direction = 1 if order.side == "buy" else -1
    return rounded(base * (1 + direction * slippage), PRICE_PLACES)


def is_worse(order: Order, price: Decimal) -> bool:
    """Return whether a price is worse than the limit of an order, if it has one."""
    if order.price is None:
        return False
    return price > order.price if order.side == "buy" else price < order.price


def slipped_within(order: Order, base: Decimal, slippage: Decimal) -> tuple[Decimal, Decimal]:
    """Return the price after slippage, but not beyond the limit, and the fraction it is worse."""
    price = slipped(order, base, slippage)
    if order.price is None or not is_worse(order, price):
        return price, slippage
    return order.price, rounded(abs(Fraction(order.price) / Fraction(base) - 1), PRICE_PLACES)


def slippage_of(
    config: Config, seen: Sequence[Candle], quantity: Decimal, interval: int, now: int
) -> Decimal:
    """Compute it from the average volume of the last candles complete at ``now``."""
    if config.slippage == "none":
        return ZERO
    if config.slippage == "fixed_bps":
        return config.fixed_slippage
    seen = [candle for candle in seen if candle.complete <= now]
    volumes = [candle.volume for candle in seen if candle.interval == interval][-VOLUME_CANDLES:]
    if not volumes or not any(candle.volume for candle in seen):
        return LEAST_SLIPPAGE
    total = sum(volumes, ZERO)
    if total == 0:
        return MOST_SLIPPAGE
    fraction = Fraction(quantity) * len(volumes) / Fraction(total) / 10
    return min(max(rounded(fraction, PRICE_PLACES), LEAST_SLIPPAGE), MOST_SLIPPAGE)
