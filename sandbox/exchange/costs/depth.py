"""The book that a session's slippage stands for: walking it costs what a market order is charged."""

from decimal import Decimal
from typing import NamedTuple

import msgspec

from candlestep.sandbox.exchange.costs.costs import Costs, slipped
from candlestep.sandbox.exchange.orders import Side
from candlestep.sandbox.market.candles import Candles
from candlestep.sandbox.money import (
    AMOUNT_PLACES,
    MARKET,
    MAXIMUM,
    PRICE_PLACES,
    ZERO,
    add,
    multiple_from,
    multiple_up_to,
    rounded_down,
    rounded_ratio,
    subtract,
)

_LEVELS_OF_VOLUME = 1000
"""The number of levels that share the average volume of a candle."""


class Level(msgspec.Struct, frozen=True, gc=False):
    """A price, and the quantity that trades at it."""

    price: Decimal
    quantity: Decimal


class Depth(msgspec.Struct, frozen=True):
    """The two sides of a book, the best level first."""

    bids: list[Level]
    asks: list[Level]


class _Part(NamedTuple):
    """The quantity up to the end of a level, its own part, and the slippage of an order for all."""

    quantity: Decimal
    size: Decimal
    slippage: Decimal


def depth_at(
    costs: Costs, candles: Candles, price: Decimal, time: int, *, tick: Decimal, levels: int
) -> Depth:
    """Return the book at ``time`` around ``price``, up to ``levels`` a side.

    Candles have no book: this one is made of the slippage. A market order for all of the first *n*
    levels costs what walking them costs, and one that ends within a level at most that; prices are
    then rounded outward to multiples of ``tick``. Bids and asks never have the same price.
    """
    parts = _parts(costs, candles, time, levels)
    bids = _side("sell", price, tick, parts)
    asks = _side("buy", price, tick, parts)
    if bids and asks and bids[0].price >= asks[0].price:
        below = subtract(asks[0].price, tick)
        bids = [Level(below, bids[0].quantity)] if below > 0 else []
    return Depth(bids, asks)


def _parts(costs: Costs, candles: Candles, time: int, levels: int) -> list[_Part]:
    """Return the levels of both sides, the best first."""
    slippage = costs.slippages_now(candles, time)
    parts = []
    before = ZERO
    for quantity in _quantities(costs, candles, time, levels):
        if quantity != before:
            parts.append(_Part(quantity, subtract(quantity, before), slippage(quantity)))
            before = quantity
    return parts


def _quantities(costs: Costs, candles: Candles, time: int, levels: int) -> list[Decimal]:
    """Return the quantity up to the end of each level, smallest first."""
    last = candles.last_complete(time)
    recent = costs.recent_volume(candles, last + 1, max(last, 0))
    if recent is None:
        return [MAXIMUM]
    largest = Decimal(_LEVELS_OF_VOLUME * recent.candles)
    ends = [
        rounded_down(
            rounded_ratio(MARKET.multiply(recent.total, Decimal(k)), largest, PRICE_PLACES),
            AMOUNT_PLACES,
        )
        for k in range(1, min(levels, _LEVELS_OF_VOLUME) + 1)
    ]
    return [end for end in ends if end > 0] or [MAXIMUM]


def _side(side: Side, price: Decimal, tick: Decimal, parts: list[_Part]) -> list[Level]:
    levels: list[Level] = []
    amount = ZERO
    for quantity, size, slippage in parts:
        total = MARKET.multiply(quantity, slipped(price, side, slippage))
        marginal = rounded_ratio(MARKET.subtract(total, amount), size, PRICE_PLACES)
        shown = multiple_from(marginal, tick) if side == "buy" else multiple_up_to(marginal, tick)
        if shown <= 0:
            break
        if levels and levels[-1].price == shown:
            levels[-1] = Level(shown, add(levels[-1].quantity, size))
        else:
            levels.append(Level(shown, size))
        amount = total
    return levels
