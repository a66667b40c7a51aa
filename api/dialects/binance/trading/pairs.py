"""OCO: two orders in one request, in the newer form and in the older one."""

from typing import Any

from candlestep.api.dialects.binance.call import Call, Endpoint, invalid_combination, reads
from candlestep.api.dialects.binance.errors import DUPLICATE, UNKNOWN_ORDER, BinanceError
from candlestep.api.dialects.binance.trading.lists import list_name
from candlestep.api.dialects.binance.trading.orders import (
    TYPES,
    Wanted,
    cancelled,
    invalid_type,
    native_order,
    new_client_id,
    requested_side,
    require_open,
    require_placeable,
)
from candlestep.api.dialects.binance.trading.shapes import client_order_id, placed_shape
from candlestep.api.schemas.orders import OrderRequest
from candlestep.api.sessions.commands import TurnCommand
from candlestep.sandbox import Order

_STOPS = frozenset({"STOP_LOSS", "STOP_LOSS_LIMIT"})
_PROFITS = frozenset({"LIMIT_MAKER", "TAKE_PROFIT", "TAKE_PROFIT_LIMIT"})
_LEGS = {name: name for name in _STOPS | _PROFITS}
_MOST_LISTS = 1000


async def place(call: Call) -> Any:
    """Place a pair, described as the order above the price and the one below it."""
    require_open(call)
    group = _group(call)
    above, below = (_leg(call, side_of_price, group) for side_of_price in ("above", "below"))
    kinds = {call.parameters.required(f"{name}Type") for name in ("above", "below")}
    if not (kinds & _STOPS and kinds & _PROFITS):
        raise invalid_combination()
    profit_first = call.parameters.required("aboveType") in _PROFITS
    return await _place(call, [above, below] if profit_first else [below, above])


async def place_older(call: Call) -> Any:
    """Place a pair, described as a limit order and a stop."""
    require_open(call)
    parameters, group = call.parameters, _group(call)
    symbol, side = call.symbol(), requested_side(call)
    quantity = parameters.required_amount("quantity")
    limit = Wanted(
        symbol, side, "LIMIT_MAKER", quantity, parameters.required_amount("price"), None, None,
        new_client_id(call, "limitClientOrderId"),
    )  # fmt: skip
    stop = Wanted(
        symbol, side, "STOP_LOSS_LIMIT" if "stopLimitPrice" in parameters else "STOP_LOSS",
        quantity, parameters.amount("stopLimitPrice"), parameters.required_amount("stopPrice"),
        parameters.text("stopLimitTimeInForce"), new_client_id(call, "stopClientOrderId"),
    )  # fmt: skip
    names = ("stopLimitPrice", "stopPrice", "stopLimitTimeInForce")
    return await _place(
        call,
        [native_order(call, limit, names, group), native_order(call, stop, names, group)],
    )


async def read(call: Call) -> Any:
    """Return a pair by its id or its name."""
    return _list_shape(call, _named(call, "origClientOrderId"))


async def all_lists(call: Call) -> Any:
    """Return the pairs: from an id or a time on the first ones, else the latest."""
    parameters = call.parameters
    first = parameters.whole("fromId")
    start, end = parameters.whole("startTime"), parameters.whole("endTime")
    limit = parameters.count("limit", 500, _MOST_LISTS)
    found = [
        orders
        for orders in call.lists.all()
        if (first is None or orders[0].id >= first)
        and (start is None or orders[0].created_at >= start)
        and (end is None or orders[0].created_at <= end)
    ]
    page = found[-limit:] if first is None and start is None else found[:limit]
    return [_list_shape(call, orders) for orders in page]


async def open_lists(call: Call) -> Any:
    """Return the pairs that wait."""
    return [_list_shape(call, orders) for orders in call.lists.all() if _is_open(orders)]


async def cancel(call: Call) -> Any:
    """Cancel both orders of a pair."""
    symbol, orders = call.symbol(), _named(call, "listClientOrderId")
    if orders[0].symbol != symbol or not _is_open(orders):
        raise BinanceError(-2011, UNKNOWN_ORDER)
    pending = [order for order in orders if order.status == "pending"]
    await call.apply(TurnCommand(cancel=[order.id for order in pending], steps=0))
    after = [call.session.order(order.id) for order in orders]
    return _list_shape(call, after) | {"orderReports": [cancelled(call, order) for order in after]}


async def _place(call: Call, legs: list[OrderRequest]) -> dict[str, Any]:
    """Place both orders, or neither of them."""
    require_placeable(call, legs)
    first = call.session.order_count + 1
    # Not the command for pairs: they have no name, and those of Binance do.
    await call.apply(TurnCommand(legs, steps=0))
    orders = [call.session.order(number) for number in (first, first + 1)]
    reports = [placed_shape(call, order, "RESULT") for order in orders]
    return _list_shape(call, orders) | {"orderReports": reports}


def _leg(call: Call, where: str, group: str) -> OrderRequest:
    """Return the order ``above`` or ``below`` the price."""
    parameters = call.parameters
    names = (f"{where}Price", f"{where}StopPrice", f"{where}TimeInForce")
    kind = parameters.choice(f"{where}Type", _LEGS, invalid_type())
    wanted = Wanted(
        call.symbol(),
        requested_side(call),
        kind,
        parameters.required_amount("quantity"),
        parameters.amount(names[0]),
        parameters.amount(names[1]),
        parameters.text(names[2]),
        new_client_id(call, f"{where}ClientOrderId"),
    )
    assert kind in TYPES
    return native_order(call, wanted, names, group)


def _group(call: Call) -> str:
    """Return the name of a new pair."""
    name = call.parameters.text("listClientOrderId") or f"cs-list-{call.session.order_count + 1}"
    if call.lists.named(name):
        raise BinanceError(-2010, DUPLICATE)
    return name


def _named(call: Call, client_name: str) -> list[Order]:
    """Return the orders of the pair that a request names."""
    number, name = call.parameters.whole("orderListId"), call.parameters.text(client_name)
    if number is None and name is None:
        raise BinanceError(
            -1102,
            f"Param '{client_name}' or 'orderListId' must be sent, but both were empty/null!",
        )
    orders = call.lists.members(number) if number is not None else call.lists.named(name or "")
    if not orders:
        raise BinanceError(-2018, "Order list does not exist.")
    return orders


def _is_open(orders: list[Order]) -> bool:
    return any(order.status == "pending" for order in orders)


def _list_shape(call: Call, orders: list[Order]) -> dict[str, Any]:
    is_open = _is_open(orders)
    return {
        "orderListId": orders[0].id,
        "contingencyType": "OCO",
        "listStatusType": "EXEC_STARTED" if is_open else "ALL_DONE",
        "listOrderStatus": "EXECUTING" if is_open else "ALL_DONE",
        "listClientOrderId": list_name(orders[0]),
        "transactionTime": orders[0].created_at,
        "symbol": orders[0].symbol,
        "orders": [
            {"symbol": order.symbol, "orderId": order.id, "clientOrderId": client_order_id(order)}
            for order in orders
        ],
    }


_LEG_NAMES = tuple(
    f"{where}{name}"
    for where in ("above", "below")
    for name in ("Type", "Price", "StopPrice", "TimeInForce", "ClientOrderId")
)
_PAIR = ("symbol", "side", "quantity", "listClientOrderId", "newOrderRespType")

ENDPOINTS: dict[tuple[str, str], Endpoint] = {
    ("POST", "api/v3/orderList/oco"): reads(place, "signed", *_PAIR, *_LEG_NAMES),
    ("POST", "api/v3/order/oco"): reads(
        place_older, "signed", *_PAIR, "price", "stopPrice", "stopLimitPrice",
        "stopLimitTimeInForce", "limitClientOrderId", "stopClientOrderId",
    ),
    ("GET", "api/v3/orderList"): reads(read, "signed", "orderListId", "origClientOrderId"),
    ("GET", "api/v3/allOrderList"): reads(
        all_lists, "signed", "fromId", "startTime", "endTime", "limit"
    ),
    ("GET", "api/v3/openOrderList"): reads(open_lists, "signed"),
    ("DELETE", "api/v3/orderList"): reads(
        cancel, "signed", "symbol", "orderListId", "listClientOrderId", "newClientOrderId"
    ),
}  # fmt: skip
