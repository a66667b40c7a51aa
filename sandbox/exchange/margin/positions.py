"""The arithmetic of a perpetual position: PnL, margin, and the prices at which it ends.

The quantity and the cost of a short are negative. All products are exact. ``balance`` is what a
position may lose: its isolated wallet, or the cross wallet with what the other cross positions
leave of it. Formulas as in Binance's FAQ b3c689c1 ("How to calculate liquidation price").
"""

from decimal import Decimal
from typing import NamedTuple

from candlestep.sandbox.exchange.account import Holding
from candlestep.sandbox.exchange.margin.tiers import MarginTiers
from candlestep.sandbox.exchange.orders import Side
from candlestep.sandbox.money import (
    MARKET,
    PRICE_PLACES,
    ZERO,
    ratio_from,
    ratio_up_to,
    rounded_down,
    rounded_product,
    rounded_share,
    rounded_up,
    subtract,
)

_multiply, _subtract, _add = MARKET.multiply, MARKET.subtract, MARKET.add


class Trade(NamedTuple):
    """The parts of a fill that close and open a position."""

    closed: Decimal
    """Quantity that is closed, not negative."""
    closed_cost: Decimal
    """Cost of what is closed; negative for a short."""
    closed_pnl: Decimal
    opened: Decimal
    """Quantity that is opened, negative for a sell."""
    opened_quote: Decimal
    """Quote amount of what is opened, not negative."""


def trade_of(holding: Holding, side: Side, quantity: Decimal, quote_amount: Decimal) -> Trade:
    """Split a fill into what closes the position and what opens one, at the same price."""
    held = holding.quantity
    is_buy = side == "buy"
    closed = min(quantity, held.copy_abs()) if (held < 0 if is_buy else held > 0) else ZERO
    opened = subtract(quantity, closed)
    if not closed:
        return Trade(ZERO, ZERO, ZERO, opened if is_buy else opened.copy_negate(), quote_amount)
    closed_quote = quote_amount if not opened else rounded_share(quote_amount, closed, quantity)
    cost = holding.cost_basis
    if closed != held.copy_abs():
        cost = rounded_share(cost, closed, held.copy_abs())
    proceeds = closed_quote if held > 0 else closed_quote.copy_negate()
    return Trade(
        closed,
        cost,
        subtract(proceeds, cost),
        opened if is_buy else opened.copy_negate(),
        subtract(quote_amount, closed_quote),
    )


def unrealized_pnl(holding: Holding, price: Decimal) -> Decimal:
    """Return the unrealized PnL in money: the value is rounded once."""
    return subtract(rounded_product(holding.quantity, price), holding.cost_basis)


def exact_pnl(holding: Holding, price: Decimal) -> Decimal:
    """Return the unrealized PnL with the exact product of quantity and price."""
    return _subtract(_multiply(holding.quantity, price), holding.cost_basis)


def maintenance_margin(holding: Holding, price: Decimal, tiers: MarginTiers) -> Decimal:
    """Return the margin below which the position is liquidated, exact."""
    return tiers.maintenance(_multiply(holding.quantity.copy_abs(), price))


def excess(holding: Holding, price: Decimal, tiers: MarginTiers) -> Decimal:
    """Return the unrealized PnL less the maintenance margin, exact.

    A position is liquidated where its balance and this add up to 0 or less.
    """
    return _subtract(exact_pnl(holding, price), maintenance_margin(holding, price, tiers))


def liquidation_price(
    holding: Holding, tiers: MarginTiers, balance: Decimal, *, is_safe: bool = False
) -> Decimal | None:
    """Return the price at which the position is liquidated, at 16 places; None if there is none.

    The worst of the prices of each tier is that of the tier in force there. It is rounded towards
    the loss, or with ``is_safe`` away from it, so that nothing is missed that is compared with it.
    """
    quantity = holding.quantity
    size = quantity.copy_abs()
    is_long = quantity > 0
    ratio = ratio_up_to if is_long != is_safe else ratio_from
    lost = _subtract(holding.cost_basis, balance)
    prices = [
        ratio(
            _subtract(lost, tier.cum),
            _subtract(quantity, _multiply(size, tier.mmr)),
            PRICE_PLACES,
        )
        for tier in tiers.rows
    ]
    price = max(prices) if is_long else min(prices)
    return price if price > 0 else None


def bankruptcy_price(holding: Holding, balance: Decimal) -> Decimal | None:
    """Return the price at which balance and unrealized PnL are 0 together, as it is rounded there.

    16 places, towards the loss; None if it is not positive.
    """
    ratio = ratio_up_to if holding.quantity > 0 else ratio_from
    price = ratio(_subtract(holding.cost_basis, balance), holding.quantity, PRICE_PLACES)
    return price if price > 0 else None


def against(holding: Holding, price: Decimal) -> Decimal:
    """Round a price to 16 places towards the loss: down for a long, up for a short."""
    rounding = rounded_down if holding.quantity > 0 else rounded_up
    return rounding(price, PRICE_PLACES)
