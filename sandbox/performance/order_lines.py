"""The lines of orders on a chart: where each waited, and from when to when.

A stop_limit or take_profit_limit waits at its trigger and then at its limit. The trigger of a
trailing stop moves as the candles moved it.
"""

from collections.abc import Iterator, Sequence
from decimal import Decimal

import numpy as np

from candlestep.sandbox.exchange.orders import Order
from candlestep.sandbox.market.candles import Candles, Floats
from candlestep.sandbox.money import PRICE_PLACES, rounded
from candlestep.sandbox.performance.chart_columns import Range
from candlestep.sandbox.performance.charts import PriceLine

_MOST_LINES = 500
_MOST_LEVELS = 100
"""The most levels of one trailing stop."""
_KINDS = {
    "limit": "limit",
    "stop_loss": "stop_loss",
    "take_profit": "take_profit",
    "stop_limit": "stop_loss",
    "take_profit_limit": "take_profit",
    "trailing_stop": "trailing_stop",
}
"""The kind of line (a key of ``LINE_STYLES``) of an order that waits for its trigger, by type."""


def order_lines(
    orders: Sequence[Order], candles: Candles | None, shown: Range, now: int, *, close_only: bool
) -> list[PriceLine]:
    """Return the lines of the orders (of one symbol) that waited in a range: until closed, or now.

    Of more than 500, the latest. ``candles`` are those that move trailing stops, of which
    ``close_only`` counts the closes alone; without them, trailing stops have no line.
    """
    waiting = [
        order
        for order in orders
        if order.type in _KINDS
        and order.created_at <= shown.end
        and (order.closed_at is None or order.closed_at >= shown.start)
    ]
    lines: list[PriceLine] = []
    for order in waiting[-_MOST_LINES:]:
        if order.type != "trailing_stop":
            lines += _fixed_lines(order, now)
        elif candles is not None:
            lines += _trailing_lines(order, candles, now, close_only=close_only)
    visible = [line for line in lines if line.start <= shown.end and line.end >= shown.start]
    return [
        line._replace(start=max(line.start, shown.start), end=min(line.end, shown.end))
        for line in visible[-_MOST_LINES:]
    ]


def _fixed_lines(order: Order, now: int) -> Iterator[PriceLine]:
    """Yield the line of the trigger and, once an order has become a limit order, that of the limit."""
    end = now if order.closed_at is None else order.closed_at
    if order.trigger_price is not None:
        until = end if order.triggered_at is None else order.triggered_at
        label = _label(order, order.trigger_price)
        price = float(order.trigger_price)
        yield PriceLine(_KINDS[order.type], price, order.created_at, until, label)
    if order.price is not None and order.is_limit:
        start = order.created_at if order.triggered_at is None else order.triggered_at
        yield PriceLine("limit", float(order.price), start, end, _label(order, order.price))


def _trailing_lines(
    order: Order, candles: Candles, now: int, *, close_only: bool
) -> Iterator[PriceLine]:
    """Yield a line for each level of the trigger, from its activation until the order closed."""
    end = now if order.closed_at is None else order.closed_at
    first = candles.last_complete(order.created_at) + 1
    # What the candle that triggered it did before, nobody knows.
    stop = candles.last_complete(end - 1 if order.status == "filled" else end) + 1
    best = _best_prices(order, candles, first, max(first, stop), close_only=close_only)
    times = np.append(order.created_at, candles.completions(first, max(first, stop)))
    is_known = np.isfinite(best)
    changes = np.flatnonzero(is_known & (np.append(np.nan, best[:-1]) != best))
    if len(changes) > _MOST_LEVELS:
        changes = changes[np.linspace(0, len(changes) - 1, _MOST_LEVELS).astype(np.int64)]
    starts = times[changes].tolist()
    for start, until, price in zip(starts, [*starts[1:], end], best[changes].tolist(), strict=True):
        trigger = order.trigger_at(rounded(Decimal(repr(price)), PRICE_PLACES))
        yield PriceLine("trailing_stop", float(trigger), start, until, _label(order, trigger))


def _best_prices(
    order: Order, candles: Candles, first: int, stop: int, *, close_only: bool
) -> Floats:
    """Return the best price at the placement and after each candle; NaN before the activation."""
    sells = order.side == "sell"
    extremes = candles.high if sells else candles.low
    prices = (candles.close if close_only else extremes)[first:stop].astype(np.float64)
    if len(prices) and candles.open_time[first] < order.created_at:
        prices[0] = candles.close[first]  # It was running: its close alone counts.
    if order.best_price is not None:
        start = float(order.best_price)
    else:
        assert order.activation_price is not None, "it waits for that price"
        activation = float(order.activation_price)
        is_reached = np.logical_or.accumulate(
            prices >= activation if sells else prices <= activation
        )
        prices = np.where(is_reached, prices, np.nan)
        start = np.nan
    best = np.append(start, prices)
    accumulated: Floats = (np.fmax if sells else np.fmin).accumulate(best)
    return accumulated


def _label(order: Order, price: Decimal) -> str:
    """Return the text of a line: the order, what it belongs to, and what became of it."""
    relations = {"guards": order.parent_id, "one of a pair with": order.list_id}
    texts = [f"order {order.id}, {order.status}"]
    texts += [f"{text} order {number}" for text, number in relations.items() if number is not None]
    return (
        f"{order.type} {order.side} {float(order.quantity):,.10g} at {float(price):,.10g}<br>"
        + "<br>".join(texts)
    )
