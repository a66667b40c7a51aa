"""The terms an order trades on: its price after slippage, its amount and its fee."""

from decimal import Decimal
from typing import NamedTuple

from candlestep.sandbox.exchange.costs.costs import Cost, Costs, cost_at, slipped
from candlestep.sandbox.exchange.orders import Order, OrderTicket
from candlestep.sandbox.market.candles import Candles
from candlestep.sandbox.money import (
    AMOUNT_PLACES,
    AMOUNT_UNIT,
    MARKET,
    PRICE_PLACES,
    ZERO,
    add,
    rounded_ratio,
    rounded_share,
    subtract,
)


class Terms(NamedTuple):
    """Terms of an execution: the price after slippage, and the amount and fee."""

    quantity: Decimal
    price: Decimal
    slippage: Decimal
    cost: Cost


def fills_at_once(ticket: OrderTicket, price: Decimal) -> bool:
    """Return whether an order is a market order, or a limit that ``price`` has reached already."""
    if ticket.type == "market":
        return True
    if ticket.type != "limit" or ticket.price is None:
        return False
    return price <= ticket.price if ticket.side == "buy" else price >= ticket.price


def terms_at_once(
    costs: Costs,
    ticket: OrderTicket,
    price: Decimal,
    fee_rate: Decimal,
    candles: Candles,
    now: int,
) -> Terms:
    """Return the terms of an order that fills at once, never worse than its limit."""
    slippage = slippage_now(costs, ticket.quantity, candles, now)
    fill_price = slipped(price, ticket.side, slippage)
    limit = ticket.price
    if limit is not None and (fill_price > limit if ticket.side == "buy" else fill_price < limit):
        fill_price = limit
        worse_by = MARKET.subtract(limit, price).copy_abs()
        slippage = rounded_ratio(worse_by, price, PRICE_PLACES)
    cost = cost_at(ticket.quantity, fill_price, fee_rate)
    return Terms(ticket.quantity, fill_price, slippage, cost)


def terms_at_trigger(
    costs: Costs,
    order: Order,
    quantity: Decimal,
    base_price: Decimal,
    fee_rate: Decimal,
    candles: Candles,
    index: int,
) -> Terms:
    """Return the terms of a pending order that the candle at ``index`` triggers.

    A limit order gets ``base_price``; the other types get a price made worse by slippage.
    """
    slippage = ZERO
    if order.type != "limit":
        opened = int(candles.open_time[index])
        stop = candles.last_complete(opened) + 1
        slippage = costs.slippage(quantity, candles, stop, index)
    price = slipped(base_price, order.side, slippage)
    return Terms(quantity, price, slippage, cost_at(quantity, price, fee_rate))


def price_to_lock(costs: Costs, order: Order, candles: Candles, now: int) -> Decimal:
    """Return the price at which to lock cash for a pending buy: its trigger, slipped as of ``now``."""
    if order.type == "limit":
        return order.trigger
    slippage = slippage_now(costs, order.quantity, candles, now)
    return slipped(order.trigger, order.side, slippage)


def slippage_now(costs: Costs, quantity: Decimal, candles: Candles, now: int) -> Decimal:
    """Return the slippage of an order that trades at ``now``, between candles."""
    last = candles.last_complete(now)
    return costs.slippage(quantity, candles, last + 1, max(last, 0))


def affordable_quantity(
    cash: Decimal, quantity: Decimal, base_price: Decimal, unit_price: Decimal, fee_rate: Decimal
) -> Decimal:
    """Return the part of ``quantity`` that costs at most ``cash`` at ``unit_price``; may be 0.

    ``base_price``, the price before slippage, converts cash spent in excess into a quantity.
    """
    cost = cost_at(quantity, unit_price, fee_rate).to_buy
    if cost > cash:
        quantity = rounded_share(cash, quantity, cost)
    while quantity > 0 and (cost := cost_at(quantity, unit_price, fee_rate).to_buy) > cash:
        # The excess comes from roundings: less than a unit of each, in money and in quantity.
        excess = rounded_ratio(subtract(cost, cash), base_price, AMOUNT_PLACES)
        quantity = subtract(quantity, add(excess, AMOUNT_UNIT))
    return max(quantity, ZERO)
