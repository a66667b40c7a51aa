"""Orders and trades of a session."""

from typing import Annotated, Literal

from msgspec import Meta

from candlestep.api.http.route import JsonBytes, Request, Route
from candlestep.api.routes.stepping.session_commands import (
    FIND_ERRORS,
    apply,
    change_route,
    find_session,
    read_route,
)
from candlestep.api.schemas.decoding import RequestBody
from candlestep.api.schemas.fields import Symbol
from candlestep.api.schemas.orders import (
    CancelOrderResponse,
    OrderRequest,
    OrderResponse,
    OrdersResponse,
    TradeResponse,
    TradesResponse,
)
from candlestep.api.services import Services
from candlestep.api.sessions.commands import CancelOrderCommand, OrderCommand
from candlestep.data.symbols import normalise_symbol
from candlestep.sandbox import Order, OrderNotFound
from candlestep.sandbox.errors import abbreviate

_BASE = "/api/v1/backtest/{session_id}/trade"


class OrdersQuery(RequestBody):
    status: Literal["pending", "filled", "cancelled", "rejected", "expired"] | None = None
    symbol: Symbol | None = None
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    offset: Annotated[int, Meta(ge=0, le=10**9)] = 0


class OpenOrdersQuery(RequestBody):
    symbol: Symbol | None = None
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    offset: Annotated[int, Meta(ge=0, le=10**9)] = 0


class TradesQuery(RequestBody):
    limit: Annotated[int, Meta(ge=1, le=100_000)] = 100_000
    offset: Annotated[int, Meta(ge=0, le=10**9)] = 0


async def place_order(services: Services, request: Request) -> JsonBytes:
    """Place an order; 200 instead of 201 if its ``client_order_id`` was sent before."""
    return await apply(services, request, "trade/order", OrderCommand(request.body))


async def order(services: Services, request: Request) -> OrderResponse:
    """Return one order."""
    session = (await find_session(services, request)).session
    return OrderResponse.of(session.order(_order_id(request)))


async def orders(services: Services, request: Request) -> OrdersResponse:
    """List all orders, oldest first."""
    orders = (await find_session(services, request)).session.orders
    status = request.query.status
    if status is not None:
        orders = [order for order in orders if order.status == status]
    return _page(orders, request.query)


async def open_orders(services: Services, request: Request) -> OrdersResponse:
    """List the pending orders, oldest first."""
    session = (await find_session(services, request)).session
    return _page(session.open_orders(), request.query)


async def cancel_order(services: Services, request: Request) -> JsonBytes:
    """Cancel a pending order."""
    command = CancelOrderCommand(_order_id(request))
    return await apply(services, request, "trade/order/cancel", command)


async def history(services: Services, request: Request) -> TradesResponse:
    """List all trades up to now, oldest first."""
    fills = (await find_session(services, request)).session.fills
    query: TradesQuery = request.query
    page = fills[query.offset : query.offset + query.limit]
    # Up to a hundred thousand trades, which would hold up the event loop.
    trades = await services.in_thread(lambda: [TradeResponse.of(fill) for fill in page])
    return TradesResponse(trades, len(page), len(fills))


def _order_id(request: Request) -> int:
    text = request.path["order_id"]
    if not (text.isascii() and text.isdigit() and len(text) <= 12):
        raise OrderNotFound(
            f"the session has no order {abbreviate(text)}", order_id=abbreviate(text)
        )
    return int(text)


def _page(orders: list[Order], query: OrdersQuery | OpenOrdersQuery) -> OrdersResponse:
    if query.symbol is not None:
        symbol = normalise_symbol(query.symbol)
        orders = [order for order in orders if order.symbol == symbol]
    page = orders[query.offset : query.offset + query.limit]
    return OrdersResponse([OrderResponse.of(order) for order in page], len(page), len(orders))


_OF_ONE = (*FIND_ERRORS, "ORDER_NOT_FOUND")

ROUTES = [
    change_route(
        f"{_BASE}/order", place_order, "Place an order", OrderResponse,
        body=OrderRequest, status=201, also=(200,),
        errors=(*FIND_ERRORS, "SYMBOL_NOT_FOUND", "INSUFFICIENT_BALANCE", "RISK_LIMIT_EXCEEDED"),
    ),
    read_route(f"{_BASE}/orders", orders, "List orders", OrdersResponse, query=OrdersQuery),
    read_route(
        f"{_BASE}/orders/open", open_orders, "List pending orders", OrdersResponse,
        query=OpenOrdersQuery,
    ),
    read_route(f"{_BASE}/order/{{order_id}}", order, "One order", OrderResponse, errors=_OF_ONE),
    Route(
        "DELETE", f"{_BASE}/order/{{order_id}}", cancel_order, "Cancel a pending order",
        CancelOrderResponse, errors=_OF_ONE,
    ),
    read_route(f"{_BASE}/history", history, "List trades", TradesResponse, query=TradesQuery),
]  # fmt: skip
