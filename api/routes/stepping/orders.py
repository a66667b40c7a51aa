"""Orders and trades of a session."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from candlestep.api.http.route import JsonBytes, Request, Route
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
from candlestep.api.sessions.hosted_session import HostedSession
from candlestep.api.sessions.idempotency import IdempotencyKey
from candlestep.api.sessions.player import Reply
from candlestep.api.sessions.pool import FIND_ERRORS
from candlestep.data.symbols import normalise_symbol
from candlestep.sandbox import InvalidParameter, Order, OrderNotFound
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
    body: OrderRequest = request.body
    most = services.settings.max_pending_orders

    def act(live: HostedSession, key: IdempotencyKey | None) -> Reply:
        sent_before = _sent_before(live, body, most)
        if sent_before is not None:
            answer = msgspec.json.encode(OrderResponse.of(sent_before))
            live.keep(key, 200, answer)
            return Reply(answer)
        if body.type != "market":
            _require_room(live, most)
        return live.order(body, key)

    return await services.hub.perform(request, "trade/order", act, load_ended=True)


async def order(services: Services, request: Request) -> OrderResponse:
    """One order."""
    live = await services.live(request)
    return OrderResponse.of(live.session.order(_order_id(request)))


async def orders(services: Services, request: Request) -> OrdersResponse:
    """All orders, oldest first."""
    live = await services.live(request)
    found = live.session.orders
    status = request.query.status
    if status is not None:
        found = [each for each in found if each.status == status]
    return _page(found, request.query)


async def open_orders(services: Services, request: Request) -> OrdersResponse:
    """The pending orders, oldest first."""
    live = await services.live(request)
    return _page(live.session.open_orders(), request.query)


async def cancel_order(services: Services, request: Request) -> JsonBytes:
    """Cancel a pending order."""
    return await services.hub.perform(
        request, "trade/order/cancel", lambda live, _: live.cancel_order(_order_id(request))
    )


async def history(services: Services, request: Request) -> TradesResponse:
    """All trades so far, oldest first."""
    live = await services.live(request)
    fills, query = live.session.fills, request.query
    page = fills[query.offset : query.offset + query.limit]
    # A hundred thousand of them would hold up everyone.
    trades = await services.in_thread(lambda: [TradeResponse.of(fill) for fill in page])
    return TradesResponse(trades, len(page), len(fills))


def _sent_before(live: HostedSession, body: OrderRequest, most: int) -> Order | None:
    """The order of this ``client_order_id``, where no other could be placed; else the session
    finds it faster."""
    client_id = body.client_order_id
    session = live.session
    if client_id is None or (session.status == "running" and session.pending_count < most):
        return None
    return next((each for each in session.orders if each.client_order_id == client_id), None)


def _require_room(live: HostedSession, most: int) -> None:
    if live.session.pending_count >= most:
        raise InvalidParameter(
            "type",
            f"the session has {most} pending orders, the most there may be; cancel one first",
            limit=most,
        )


def _order_id(request: Request) -> int:
    text = request.path["order_id"]
    if not (text.isascii() and text.isdigit() and len(text) <= 12):
        raise OrderNotFound(f"there is no order {abbreviate(text)}", order_id=abbreviate(text))
    return int(text)


def _page(found: list[Order], query: OrdersQuery | OpenOrdersQuery) -> OrdersResponse:
    if query.symbol is not None:
        symbol = normalise_symbol(query.symbol)
        found = [each for each in found if each.symbol == symbol]
    page = found[query.offset : query.offset + query.limit]
    return OrdersResponse([OrderResponse.of(each) for each in page], len(page), len(found))


ROUTES = [
    Route(
        "POST",
        f"{_BASE}/order",
        place_order,
        "Place an order",
        OrderResponse,
        body=OrderRequest,
        status=201,
        also=(200,),
        takes_key=True,
        errors=(
            *FIND_ERRORS,
            "SYMBOL_NOT_FOUND",
            "INSUFFICIENT_BALANCE",
            "RISK_LIMIT_EXCEEDED",
        ),
    ),
    Route(
        "GET", f"{_BASE}/orders", orders, "List orders", OrdersResponse, query=OrdersQuery,
        errors=FIND_ERRORS,
    ),
    Route(
        "GET", f"{_BASE}/orders/open", open_orders, "List pending orders", OrdersResponse,
        query=OpenOrdersQuery, errors=FIND_ERRORS,
    ),
    Route(
        "GET", f"{_BASE}/order/{{order_id}}", order, "One order", OrderResponse,
        errors=(*FIND_ERRORS, "ORDER_NOT_FOUND"),
    ),
    Route(
        "DELETE", f"{_BASE}/order/{{order_id}}", cancel_order, "Cancel a pending order",
        CancelOrderResponse, errors=(*FIND_ERRORS, "ORDER_NOT_FOUND"),
    ),
    Route(
        "GET", f"{_BASE}/history", history, "List trades", TradesResponse, query=TradesQuery,
        errors=FIND_ERRORS,
    ),
]  # fmt: skip
