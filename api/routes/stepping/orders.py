"""Orders and trades of a session."""

from typing import Annotated

from msgspec import Meta

from candlestep.api.http.route import JsonBytes, Request, Route
from candlestep.api.routes.stepping.session_commands import (
    FIND_ERRORS,
    apply,
    change_route,
    find_session,
    read_route,
    session_symbol,
)
from candlestep.api.schemas import orders as schemas
from candlestep.api.schemas.decoding import RequestBody
from candlestep.api.schemas.fields import PageSize, PageStart, Symbol
from candlestep.api.schemas.warnings import with_order_warnings
from candlestep.api.services import Services
from candlestep.api.sessions.commands import (
    CancelOrderCommand,
    OcoCommand,
    OrderCommand,
    ReplaceOrderCommand,
)
from candlestep.sandbox import Order, OrderNotFound, Session
from candlestep.sandbox.errors import abbreviate
from candlestep.sandbox.exchange.orders import OrderStatus

_BASE = "/api/v1/backtest/{session_id}/trade"


class OrdersQuery(RequestBody):
    status: OrderStatus | None = None
    symbol: Symbol | None = None
    limit: PageSize = 100
    offset: PageStart = 0


class OpenOrdersQuery(RequestBody):
    symbol: Symbol | None = None
    limit: PageSize = 100
    offset: PageStart = 0


class TradesQuery(RequestBody):
    limit: Annotated[int, Meta(ge=1, le=100_000)] = 100_000
    offset: PageStart = 0


async def place_order(services: Services, request: Request) -> JsonBytes:
    """Place an order; 200 instead of 201 if its ``client_order_id`` was sent before."""
    answer = await apply(services, request, "trade/order", OrderCommand(request.body))
    return JsonBytes(with_order_warnings(answer.body), answer.status)


async def place_oco(services: Services, request: Request) -> JsonBytes:
    """Place two orders of which one cancels the other when it fills; or neither.

    Both have to wait, and share the larger lock. A refusal tells in ``leg`` whose it is, 0 or 1.
    """
    return await apply(services, request, "trade/oco", OcoCommand(request.body.orders))


async def replace_order(services: Services, request: Request) -> JsonBytes:
    """Cancel a pending order and place it with other numbers, in one command; or do neither.

    The new order has a new id and is the last in time. What is not given stays as it is.
    """
    order_id = _order_id(request)
    command = ReplaceOrderCommand(order_id, request.body)
    answer = await apply(services, request, f"trade/order/{order_id}/replace", command)
    return JsonBytes(with_order_warnings(answer.body), answer.status)


async def order(services: Services, request: Request) -> schemas.OrderResponse:
    """Return one order."""
    session = (await find_session(services, request)).session
    return schemas.OrderResponse.of(session.order(_order_id(request)))


async def orders(services: Services, request: Request) -> schemas.OrdersResponse:
    """List all orders, oldest first."""
    session = (await find_session(services, request)).session
    orders: list[Order] = session.orders
    status = request.query.status
    if status is not None:
        orders = [order for order in orders if order.status == status]
    return _page(session, orders, request.query)


async def open_orders(services: Services, request: Request) -> schemas.OrdersResponse:
    """List the pending orders, oldest first."""
    session = (await find_session(services, request)).session
    return _page(session, session.open_orders(), request.query)


async def cancel_order(services: Services, request: Request) -> JsonBytes:
    """Cancel a pending order."""
    order_id = _order_id(request)
    action = f"trade/order/{order_id}/cancel"
    return await apply(services, request, action, CancelOrderCommand(order_id))


async def history(services: Services, request: Request) -> schemas.TradesResponse:
    """List all trades up to now, oldest first."""
    fills = (await find_session(services, request)).session.fills
    query: TradesQuery = request.query
    page = fills[query.offset : query.offset + query.limit]
    # Up to a hundred thousand trades, which would hold up the event loop.
    trades = await services.read(lambda: [schemas.TradeResponse.of(fill) for fill in page])
    return schemas.TradesResponse(trades, len(page), len(fills))


def _order_id(request: Request) -> int:
    text = request.path["order_id"]
    if not (text.isascii() and text.isdigit() and len(text) <= 12):
        raise OrderNotFound(
            f"the session has no order {abbreviate(text)}", order_id=abbreviate(text)
        )
    return int(text)


def _page(
    session: Session, orders: list[Order], query: OrdersQuery | OpenOrdersQuery
) -> schemas.OrdersResponse:
    if query.symbol is not None:
        symbol = session_symbol(session, query.symbol)
        orders = [order for order in orders if order.symbol == symbol]
    page = orders[query.offset : query.offset + query.limit]
    return schemas.OrdersResponse(
        [schemas.OrderResponse.of(order) for order in page], len(page), len(orders)
    )


_OF_PLACING = (
    "CLIENT_ORDER_ID_IN_USE",
    *FIND_ERRORS,
    "SYMBOL_NOT_FOUND",
    "INSUFFICIENT_BALANCE",
    "INSUFFICIENT_MARGIN",
    "LEVERAGE_LIMIT",
    "ORDER_WOULD_MATCH",
    "RISK_LIMIT_EXCEEDED",
)
_OF_ONE = (*FIND_ERRORS, "ORDER_NOT_FOUND")

ROUTES = [
    change_route(
        f"{_BASE}/order", place_order, "Place an order", schemas.PlacedOrderResponse,
        body=schemas.OrderRequest, status=201, also=(200,), for_session_key=True,
        errors=_OF_PLACING,
    ),
    change_route(
        f"{_BASE}/oco", place_oco, "Place two orders, one of which cancels the other",
        schemas.OcoResponse, body=schemas.OcoRequest, status=201, also=(200,),
        for_session_key=True, errors=_OF_PLACING,
    ),
    read_route(f"{_BASE}/orders", orders, "List orders", query=OrdersQuery),
    read_route(f"{_BASE}/orders/open", open_orders, "List pending orders", query=OpenOrdersQuery),
    read_route(f"{_BASE}/order/{{order_id}}", order, "One order", errors=_OF_ONE),
    Route(
        "DELETE", f"{_BASE}/order/{{order_id}}", cancel_order, "Cancel a pending order",
        schemas.CancelOrderResponse, errors=_OF_ONE, takes_key=True, for_session_key=True,
    ),
    Route(
        "PATCH", f"{_BASE}/order/{{order_id}}", replace_order, "Replace a pending order",
        schemas.PlacedOrderResponse, body=schemas.ReplaceRequest, takes_key=True,
        for_session_key=True, errors=(*_OF_PLACING, "ORDER_NOT_FOUND"),
    ),
    read_route(f"{_BASE}/history", history, "List trades", query=TradesQuery),
]  # fmt: skip
