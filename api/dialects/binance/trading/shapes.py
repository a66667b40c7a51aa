"""Orders and trades as Binance writes them."""

from typing import Any

from candlestep.api.dialects.binance.call import Call, number
from candlestep.sandbox import Fill, Order
from candlestep.sandbox.money import ZERO

STOPS = frozenset({"stop_loss", "take_profit", "stop_limit", "take_profit_limit", "trailing_stop"})
"""The native types that wait for a trigger."""

_TYPES = {
    "market": "MARKET",
    "limit": "LIMIT",
    "stop_loss": "STOP_LOSS",
    "stop_limit": "STOP_LOSS_LIMIT",
    "take_profit": "TAKE_PROFIT",
    "take_profit_limit": "TAKE_PROFIT_LIMIT",
    "trailing_stop": "STOP_LOSS",
}
_STATUSES = {
    "pending": "NEW",
    "filled": "FILLED",
    "cancelled": "CANCELED",
    "expired": "EXPIRED",
    "rejected": "EXPIRED",
}
_OWN_ID = "cs-"
"""The start of the client order ids of orders that were placed without one."""


def client_order_id(order: Order) -> str:
    """Return the client order id of an order; one that was placed without has a name by its id."""
    return order.client_order_id or f"{_OWN_ID}{order.id}"


def order_of_client(call: Call, text: str) -> Order | None:
    """Return the order of a client order id; None if there is none."""
    session = call.session
    order = session.order_of_client(text)
    if order is None and text.startswith(_OWN_ID):
        digits = text.removeprefix(_OWN_ID)
        if digits.isascii() and digits.isdigit() and len(digits) < 16:
            number = int(digits)
            if 1 <= number <= session.order_count:
                found = session.order(number)
                order = found if found.client_order_id is None else None
    return order


def order_status(order: Order) -> str:
    """Return the status of an order; the other leg of a pair that filled has expired."""
    if order.status == "cancelled" and order.reason == "oco":
        return "EXPIRED"
    return _STATUSES[order.status]


def order_shape(call: Call, order: Order) -> dict[str, Any]:
    """Return an order as ``GET order`` answers."""
    return {
        **_instruction(call, order),
        "stopPrice": number(order.trigger_price),
        "icebergQty": number(None),
        "time": order.created_at,
        "updateTime": order.closed_at or order.created_at,
        "isWorking": is_working(order),
        "workingTime": order.created_at if is_working(order) else -1,
        "origQuoteOrderQty": number(None),
        "selfTradePreventionMode": "NONE",
    }


def placed_shape(call: Call, order: Order, response: str) -> dict[str, Any]:
    """Return an order as ``POST order`` answers: ``ACK``, ``RESULT`` or ``FULL``."""
    acknowledged = {
        "symbol": order.symbol,
        "orderId": order.id,
        "orderListId": call.lists.id_of(order),
        "clientOrderId": client_order_id(order),
        "transactTime": call.session.time,
    }
    if response == "ACK":
        return acknowledged
    shape = acknowledged | order_shape(call, order)
    if response == "FULL":
        currency = call.session.config.currency
        shape["fills"] = [] if order.fill is None else [_fill_shape(order.fill, currency)]
    return shape


def cancelled_shape(call: Call, order: Order, sent_id: str | None) -> dict[str, Any]:
    """Return an order as ``DELETE order`` answers; the cancellation has an id of its own."""
    own = client_order_id(order)
    return {
        "symbol": order.symbol,
        "origClientOrderId": own,
        "orderId": order.id,
        "orderListId": call.lists.id_of(order),
        "clientOrderId": sent_id or own,
        "transactTime": call.session.time,
        **{
            name: value
            for name, value in order_shape(call, order).items()
            if name not in ("symbol", "orderId", "orderListId", "clientOrderId")
        },
    }


def is_working(order: Order) -> bool:
    """Return whether an order is in the book, or was: not a stop that waits for its trigger."""
    return order.type not in STOPS or order.fill is not None or order.triggered_at is not None


def _instruction(call: Call, order: Order) -> dict[str, Any]:
    fill = order.fill
    return {
        "symbol": order.symbol,
        "orderId": order.id,
        "orderListId": call.lists.id_of(order),
        "clientOrderId": client_order_id(order),
        "price": number(order.price),
        "origQty": number(order.quantity),
        "executedQty": number(ZERO if fill is None else fill.quantity),
        "cummulativeQuoteQty": number(ZERO if fill is None else fill.quote_amount),
        "status": order_status(order),
        "timeInForce": order.time_in_force.upper(),
        "type": "LIMIT_MAKER" if order.post_only else _TYPES[order.type],
        "side": order.side.upper(),
    }


def _rested(order: Order) -> bool:
    """Return whether an order waited in the book at its limit before it filled."""
    since = order.created_at if order.type == "limit" else order.triggered_at
    return order.price is not None and since is not None and order.filled_at != since


def _fill_shape(fill: Fill, currency: str) -> dict[str, Any]:
    return {
        "price": number(fill.price),
        "qty": number(fill.quantity),
        "commission": number(fill.fee),
        "commissionAsset": currency,
        "tradeId": fill.id,
    }


def trade_shape(call: Call, fill: Fill, order: Order) -> dict[str, Any]:
    """Return a fill as ``myTrades`` lists it."""
    return {
        "symbol": fill.symbol,
        "id": fill.id,
        "orderId": fill.order_id,
        "orderListId": call.lists.id_of(order),
        "price": number(fill.price),
        "qty": number(fill.quantity),
        "quoteQty": number(fill.quote_amount),
        "commission": number(fill.fee),
        "commissionAsset": call.session.config.currency,
        "time": fill.time,
        "isBuyer": fill.side == "buy",
        "isMaker": fill.slippage == 0 and _rested(order),
        "isBestMatch": True,
    }
