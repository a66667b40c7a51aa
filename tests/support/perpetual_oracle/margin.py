"""Maintenance, liquidation price and bankruptcy price of one position, as the formulas stand.

``quantity`` is signed, ``cost`` the sum of the quote amounts of what is open, and ``balance`` what
the position can lose: the isolated wallet, or the cross wallet with what the other cross positions
leave of it. Call these functions in the context ``EXACT``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from fractions import Fraction

from tests.support.oracle import AMOUNT_PLACES, PRICE_PLACES, ZERO, rounded
from tests.support.perpetual_oracle.values import Tier


def tier_table(rows: Iterable[tuple[str, str, int]]) -> tuple[Tier, ...]:
    """Return tiers of (floor, mmr, highest leverage), with the ``cum`` that keeps MM continuous."""
    tiers: list[Tier] = []
    for floor, mmr, max_leverage in rows:
        cum = ZERO
        if tiers:
            cum = tiers[-1].cum + Decimal(floor) * (Decimal(mmr) - tiers[-1].mmr)
        tiers.append(Tier(Decimal(floor), Decimal(mmr), cum, max_leverage))
    return tuple(tiers)


def sign(quantity: Decimal) -> int:
    return (quantity > 0) - (quantity < 0)


def maintenance(notional: Decimal, tiers: Sequence[Tier]) -> Decimal:
    """Return MM(n), unrounded."""
    return max(notional * tier.mmr - tier.cum for tier in tiers)


def exact_pnl(quantity: Decimal, cost: Decimal, price: Decimal) -> Decimal:
    """Return the unrealized PnL with the exact product of quantity and price."""
    return sign(quantity) * (abs(quantity) * price - cost)


def reported_pnl(quantity: Decimal, cost: Decimal, price: Decimal) -> Decimal:
    """Return the unrealized PnL in money: the value is rounded once."""
    return sign(quantity) * (rounded(abs(quantity) * price, AMOUNT_PLACES) - cost)


def safety(
    quantity: Decimal, cost: Decimal, balance: Decimal, price: Decimal, tiers: Sequence[Tier]
) -> Decimal:
    """Return f(p): the position is liquidated where this is not above 0."""
    needed = maintenance(abs(quantity) * price, tiers)
    return balance + exact_pnl(quantity, cost, price) - needed


def liquidation_price(
    quantity: Decimal, cost: Decimal, balance: Decimal, tiers: Sequence[Tier]
) -> Fraction | None:
    """Return the price at which f is 0: the worst over the tiers; None if it is not positive."""
    side = sign(quantity)
    size = Fraction(abs(quantity))
    prices = [
        Fraction(balance + tier.cum - side * cost) / (size * Fraction(tier.mmr) - side * size)
        for tier in tiers
    ]
    price = max(prices) if side > 0 else min(prices)
    return price if price > 0 else None


def bankruptcy_price(quantity: Decimal, cost: Decimal, balance: Decimal) -> Fraction:
    """Return the price at which balance and unrealized PnL are 0 together; may be negative."""
    return Fraction(cost - sign(quantity) * balance) / Fraction(abs(quantity))


def against(quantity: Decimal, price: Fraction | Decimal) -> Decimal:
    """Round a price to 16 places toward the loss: down for a long, up for a short."""
    scaled = Fraction(price) * 10**PRICE_PLACES
    digits = scaled.__floor__() if quantity > 0 else scaled.__ceil__()
    return Decimal(digits).scaleb(-PRICE_PLACES)


def rounded_up(value: Fraction) -> Decimal:
    """Round an amount up to 8 places."""
    return Decimal((value * 10**AMOUNT_PLACES).__ceil__()).scaleb(-AMOUNT_PLACES)


def share(amount: Decimal, part: Decimal, whole: Decimal) -> Decimal:
    """Return ``amount * part / whole`` in money, rounded once."""
    return rounded(Fraction(amount) * Fraction(part) / Fraction(whole), AMOUNT_PLACES)
