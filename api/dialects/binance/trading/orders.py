"""Orders: placed, tested, cancelled, replaced and listed."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET

from candlestep.api.dialects.binance.call import Call, Endpoint, invalid_combination, reads
from candlestep.api.dialects.binance.errors import (
    CLOSED,
    DUPLICATE,
    UNKNOWN_ORDER,
    WOULD_TRIGGER,
    BinanceError,
    filter_failure,
    missing,
)
from candlestep.api.dialects.binance.trading.shapes import (
    STOPS,
    cancelled_shape,
    order_of_client,
    order_shape,
    placed_shape,
)
from candlestep.api.schemas.orders import OrderRequest
from candlestep.api.sessions.commands import CancelOrderCommand, OrderCommand, TurnCommand
from candlestep.api.sessions.player import Reply, recorded_order
from candlestep.sandbox import Order
from candlestep.sandbox.exchange.orders import OrderTicket, OrderType, Side, TimeInForce
from candlestep.sandbox.money import AMOUNT_PLACES, ratio_up_to

_SIDES: dict[str, Side] = {"BUY": "buy", "SELL": "sell"}
TYPES: dict[str, OrderType] = {
    "MARKET": "market",
    "LIMIT": "limit",
    "LIMIT_MAKER": "limit",
    "STOP_LOSS": "stop_loss",
    "STOP_LOSS_LIMIT": "stop_limit",
    "TAKE_PROFIT": "take_profit",
    "TAKE_PROFIT_LIMIT": "take_profit_limit",
}
"""The native type of each of Binance's."""
_NAMES = {name: name for name in TYPES}
_WITH_LIMIT = frozenset({"limit", "stop_limit", "take_profit_limit"})
_TIMES_IN_FORCE: dict[str, TimeInForce] = {"GTC": "gtc", "IOC": "ioc", "FOK": "fok"}
_RESPONSES = {name: name for name in ("ACK", "RESULT", "FULL")}
_MOST_ORDERS = 1000
_LONGEST_ID = 36


class _Placed(msgspec.Struct):
    """The parts of an order that the reply to it has."""

    order_id: int


_read_placed = msgspec.json.Decoder(_Placed).decode


class Wanted(NamedTuple):
    """One order as a request describes it, in Binance's words."""

    symbol: str
    side: Side
    type: str
    quantity: Decimal
    price: Decimal | None
    stop_price: Decimal | None
    time_in_force: str | None
    client_order_id: str | None


async def place(call: Call) -> Any:
    """Place an order."""
    response = response_type(call)
    require_open(call)
    order = placed_order(call, await call.apply(OrderCommand(requested_order(call))))
    return placed_shape(call, order, response)


async def test(call: Call) -> Any:
    """Check an order as ``place`` does, and place none."""
    require_open(call)
    require_placeable(call, [requested_order(call)])
    return {}


def require_open(call: Call) -> None:
    """Raise ``BinanceError`` if the session has ended."""
    if call.session.status != "running":
        raise BinanceError(-1013, CLOSED)


def require_placeable(call: Call, requests: Sequence[OrderRequest]) -> None:
    """Raise the refusal of one of several orders; place none of them."""
    fork = call.session.fork()
    for request in requests:
        fork.place_order(**recorded_order(request))


def placed_order(call: Call, reply: Reply) -> Order:
    """Return the order that a reply is about."""
    return call.session.order(_read_placed(reply.body).order_id)


def requested_order(call: Call) -> OrderRequest:
    """Return the native order that the parameters ask for."""
    parameters = call.parameters
    symbol, side = call.symbol(), requested_side(call)
    kind = parameters.choice("type", _NAMES, invalid_type())
    wanted = Wanted(
        symbol,
        side,
        kind,
        _quantity(call, symbol, side, kind),
        parameters.amount("price"),
        parameters.amount("stopPrice"),
        parameters.text("timeInForce"),
        new_client_id(call, "newClientOrderId"),
    )
    return native_order(call, wanted, ("price", "stopPrice", "timeInForce"))


def requested_side(call: Call) -> Side:
    """Return the side of an order."""
    return call.parameters.choice("side", _SIDES, BinanceError(-1117, "Invalid side."))


def invalid_type() -> BinanceError:
    """Return the error of a type that cannot be placed."""
    return BinanceError(-1116, "Invalid orderType.")


def native_order(
    call: Call, wanted: Wanted, names: tuple[str, str, str], group: str | None = None
) -> OrderRequest:
    """Return an order in native words.

    ``names`` are those of the parameters for its price, its trigger and its time in force. Raises
    ``BinanceError`` for what is missing and what Binance alone refuses, and ``FilterViolated``.
    """
    kind = TYPES[wanted.type]
    price = trigger = None
    time_in_force: TimeInForce = "gtc"
    if kind in _WITH_LIMIT:
        price = wanted.price
        if price is None:
            raise missing(names[0])
        if wanted.type != "LIMIT_MAKER":
            time_in_force = _time_in_force(wanted.time_in_force, names[2])
    if kind in STOPS:
        trigger = wanted.stop_price
        if trigger is None:
            raise missing(names[1])
    ticket = OrderTicket(wanted.symbol, wanted.side, kind, wanted.quantity, price, trigger)
    require_filters(call, ticket)
    require_ahead(call, ticket)
    return OrderRequest(
        symbol=wanted.symbol,
        side=wanted.side,
        type=kind,
        quantity=wanted.quantity,
        price=price,
        trigger_price=trigger,
        client_order_id=wanted.client_order_id,
        oco_group=group,
        time_in_force=UNSET if time_in_force == "gtc" else time_in_force,
        post_only=True if wanted.type == "LIMIT_MAKER" else UNSET,
    )


def _time_in_force(text: str | None, name: str) -> TimeInForce:
    if text is None:
        raise missing(name)
    if text not in _TIMES_IN_FORCE:
        raise BinanceError(-1115, "Invalid timeInForce.")
    return _TIMES_IN_FORCE[text]


def _quantity(call: Call, symbol: str, side: Side, kind: str) -> Decimal:
    """Return the quantity of an order, or of a market order what its ``quoteOrderQty`` comes to."""
    quantity = call.parameters.amount("quantity")
    money = call.parameters.amount("quoteOrderQty")
    if money is None:
        if quantity is None:
            raise missing("quantity")
        return quantity
    if quantity is not None or kind != "MARKET":
        raise invalid_combination()
    if side == "buy":
        quantity = call.session.affordable(symbol=symbol, cash=money)
    else:
        quantity = ratio_up_to(money, call.session.price(symbol), AMOUNT_PLACES)
    quantity = call.rules.of(symbol).whole_steps(quantity)
    if not quantity:
        raise filter_failure("NOTIONAL")
    return quantity


def require_filters(call: Call, ticket: OrderTicket) -> None:
    """Raise ``FilterViolated`` if an order breaks a filter that ``exchangeInfo`` shows."""
    call.rules.of(ticket.symbol).require_order(ticket, call.session.price(ticket.symbol))


def require_ahead(call: Call, ticket: OrderTicket) -> None:
    """Raise ``BinanceError`` for a stop that the price has reached already.

    A session lets it wait for the next candle; Binance refuses it.
    """
    if ticket.trigger_price is None:
        return
    price = call.session.price(ticket.symbol)
    waits_for_fall = (ticket.side == "sell") == ticket.type.startswith("stop")
    reached = price <= ticket.trigger_price if waits_for_fall else price >= ticket.trigger_price
    if reached:
        raise BinanceError(-2010, WOULD_TRIGGER)


def new_client_id(call: Call, name: str) -> str | None:
    """Return the client order id that a parameter gives; refuse one that was used before."""
    text = call.parameters.text(name)
    if text is None:
        return None
    if len(text) > _LONGEST_ID or not text.isascii() or not text.isprintable():
        raise BinanceError(-1100, f"Illegal characters found in parameter '{name}'.")
    if order_of_client(call, text) is not None:
        raise BinanceError(-2010, DUPLICATE)
    return text


def response_type(call: Call) -> str:
    """Return the type of the answer to an order: ``ACK``, ``RESULT`` or ``FULL``."""
    if "newOrderRespType" in call.parameters:
        refusal = BinanceError(-1130, "Data sent for parameter 'newOrderRespType' is not valid.")
        return call.parameters.choice("newOrderRespType", _RESPONSES, refusal)
    return "FULL" if call.parameters.text("type") in ("MARKET", "LIMIT") else "ACK"


async def read(call: Call) -> Any:
    """Return one order."""
    return order_shape(call, _named(call))


async def open_orders(call: Call) -> Any:
    """Return the pending orders of a symbol, or of all."""
    symbol = call.optional_symbol()
    return [
        order_shape(call, order)
        for order in call.session.open_orders()
        if symbol is None or order.symbol == symbol
    ]


async def all_orders(call: Call) -> Any:
    """Return the orders of a symbol: from an id or a time on the first ones, else the latest."""
    symbol, parameters = call.symbol(), call.parameters
    first = parameters.whole("orderId")
    start, end = parameters.whole("startTime"), parameters.whole("endTime")
    limit = parameters.count("limit", 500, _MOST_ORDERS)
    orders = [
        order
        for order in call.session.orders
        if order.symbol == symbol
        and (first is None or order.id >= first)
        and (start is None or order.created_at >= start)
        and (end is None or order.created_at <= end)
    ]
    page = orders[-limit:] if first is None and start is None else orders[:limit]
    return [order_shape(call, order) for order in page]


async def cancel(call: Call) -> Any:
    """Cancel a pending order, and the other one if it is one of a pair."""
    order = pending_order(call, "orderId", "origClientOrderId")
    others = [other.id for other in call.lists.others(order) if other.status == "pending"]
    if others:
        await call.apply(TurnCommand(cancel=[order.id, *others], steps=0))
    else:
        await call.apply(CancelOrderCommand(order.id))
    return cancelled(call, order)


async def cancel_all(call: Call) -> Any:
    """Cancel all pending orders of a symbol."""
    symbol = call.symbol()
    orders = [order for order in call.session.open_orders() if order.symbol == symbol]
    if not orders:
        raise BinanceError(-2011, UNKNOWN_ORDER)
    await call.apply(TurnCommand(cancel=[order.id for order in orders], steps=0))
    return [cancelled(call, order) for order in orders]


def cancelled(call: Call, order: Order, name: str = "newClientOrderId") -> dict[str, Any]:
    """Return an order that was cancelled; ``name`` is that of the parameter with an id for it."""
    sent_id = call.parameters.text(name)
    return cancelled_shape(call, call.session.order(order.id), sent_id)


def _named(call: Call) -> Order:
    """Return the order that ``orderId`` or ``origClientOrderId`` names."""
    order = _find(call, call.symbol(), "orderId", "origClientOrderId")
    if order is None:
        raise BinanceError(-2013, "Order does not exist.")
    return order


def pending_order(call: Call, id_name: str, client_name: str) -> Order:
    """Return the pending order that two parameters name, of which one must be there."""
    order = _find(call, call.symbol(), id_name, client_name)
    if order is None or order.status != "pending":
        raise BinanceError(-2011, UNKNOWN_ORDER)
    return order


def _find(call: Call, symbol: str, id_name: str, client_name: str) -> Order | None:
    number, text = call.parameters.whole(id_name), call.parameters.text(client_name)
    if number is None and text is None:
        raise BinanceError(
            -1102, f"Param '{client_name}' or '{id_name}' must be sent, but both were empty/null!"
        )
    found = None
    if number is None:
        assert text is not None
        found = order_of_client(call, text)
    elif 1 <= number <= call.session.order_count:
        found = call.session.order(number)
    return found if found is not None and found.symbol == symbol else None


ORDER_NAMES = (
    "symbol", "side", "type", "timeInForce", "quantity", "quoteOrderQty", "price", "stopPrice",
    "newClientOrderId", "newOrderRespType",
)  # fmt: skip
_BY_ID = ("symbol", "orderId", "origClientOrderId")

ENDPOINTS: dict[tuple[str, str], Endpoint] = {
    ("POST", "api/v3/order"): reads(place, "signed", *ORDER_NAMES),
    ("POST", "api/v3/order/test"): reads(test, "signed", *ORDER_NAMES),
    ("GET", "api/v3/order"): reads(read, "signed", *_BY_ID),
    ("DELETE", "api/v3/order"): reads(cancel, "signed", *_BY_ID, "newClientOrderId"),
    ("GET", "api/v3/openOrders"): reads(open_orders, "signed", "symbol"),
    ("DELETE", "api/v3/openOrders"): reads(cancel_all, "signed", "symbol"),
    ("GET", "api/v3/allOrders"): reads(
        all_orders, "signed", "symbol", "orderId", "startTime", "endTime", "limit"
    ),
}
