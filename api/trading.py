"""Orders and trades of a session."""

from typing import Annotated, Literal

from msgspec import Meta

from api.hub import Live, Server
from api.routing import Call, Created, Route
from api.schemas import (
    Body,
    CancelOrderAnswer,
    OrderAnswer,
    OrderBody,
    OrdersAnswer,
    TradeAnswer,
    TradesAnswer,
)
from data.symbols import normalise_symbol
from sandbox import InvalidParameter, Order, OrderNotFound
from sandbox.errors import shown

_BASE = "/api/v1/backtest/{session_id}/trade"


class OrdersQuery(Body):
    status: Literal["pending", "filled", "cancelled", "rejected", "expired"] | None = None
    symbol: str | None = None
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    offset: Annotated[int, Meta(ge=0, le=10**9)] = 0


class OpenOrdersQuery(Body):
    symbol: str | None = None
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    offset: Annotated[int, Meta(ge=0, le=10**9)] = 0


class TradesQuery(Body):
    limit: Annotated[int, Meta(ge=1, le=100_000)] = 1000
    offset: Annotated[int, Meta(ge=0, le=10**9)] = 0


async def place_order(server: Server, call: Call) -> Created:
    """Place an order; 200 instead of 201 if its ``client_order_id`` was sent before."""
    live = await _live(server, call)
    body: OrderBody = call.body
    async with live.lock:
        session = live.running
        if body.type != "market":
            _require_room(live, server.settings.max_pending_orders)
        known = session.order_count
        order = session.place_order(
            symbol=normalise_symbol(body.symbol),
            side=body.side,
            type=body.type,
            quantity=body.quantity,
            price=body.price,
            trigger_price=body.trigger_price,
            client_order_id=body.client_order_id,
            oco_group=body.oco_group,
            expires_at=body.expires_at,
        )
        return Created(201 if order.id > known else 200, OrderAnswer.of(order))


async def order(server: Server, call: Call) -> OrderAnswer:
    """One order."""
    live = await _live(server, call)
    return OrderAnswer.of(live.session.order(_order_id(call)))


async def orders(server: Server, call: Call) -> OrdersAnswer:
    """All orders, oldest first."""
    live = await _live(server, call)
    found = live.session.orders
    status = call.query.status
    if status is not None:
        found = [each for each in found if each.status == status]
    return _page(found, call.query)


async def open_orders(server: Server, call: Call) -> OrdersAnswer:
    """The pending orders, oldest first."""
    live = await _live(server, call)
    return _page(live.session.open_orders(), call.query)


async def cancel_order(server: Server, call: Call) -> CancelOrderAnswer:
    """Cancel a pending order."""
    live = await _live(server, call)
    async with live.lock:
        cancelled = live.running.cancel_order(_order_id(call))
    return CancelOrderAnswer(cancelled.id, "cancelled", True)


async def history(server: Server, call: Call) -> TradesAnswer:
    """All trades so far, oldest first."""
    live = await _live(server, call)
    fills, query = live.session.fills, call.query
    page = fills[query.offset : query.offset + query.limit]
    return TradesAnswer([TradeAnswer.of(fill) for fill in page], len(page), len(fills))


async def _live(server: Server, call: Call) -> Live:
    session_id = call.path["session_id"]
    live = server.hub.in_memory(call.account_id, session_id)
    return live or await server.hub.find(call.account_id, session_id)


def _require_room(live: Live, most: int) -> None:
    if live.running.pending_count >= most:
        raise InvalidParameter(
            "type",
            f"the session has {most} pending orders, the most there may be; cancel one first",
            limit=most,
        )


def _order_id(call: Call) -> int:
    text = call.path["order_id"]
    if not (text.isascii() and text.isdigit() and len(text) <= 12):
        raise OrderNotFound(f"there is no order {shown(text)}", order_id=shown(text))
    return int(text)


def _page(found: list[Order], query: OrdersQuery | OpenOrdersQuery) -> OrdersAnswer:
    if query.symbol is not None:
        symbol = normalise_symbol(query.symbol)
        found = [each for each in found if each.symbol == symbol]
    page = found[query.offset : query.offset + query.limit]
    return OrdersAnswer([OrderAnswer.of(each) for each in page], len(page), len(found))


_ANY = ("SESSION_NOT_FOUND", "INVALID_STATE")

ROUTES = [
    Route(
        "POST",
        f"{_BASE}/order",
        place_order,
        "Place an order",
        OrderAnswer,
        body=OrderBody,
        status=201,
        also=(200,),
        errors=(
            *_ANY,
            "SYMBOL_NOT_FOUND",
            "NO_DATA",
            "INSUFFICIENT_BALANCE",
            "RISK_LIMIT_EXCEEDED",
        ),
    ),
    Route(
        "GET", f"{_BASE}/orders", orders, "List orders", OrdersAnswer, query=OrdersQuery,
        errors=_ANY,
    ),
    Route(
        "GET", f"{_BASE}/orders/open", open_orders, "List pending orders", OrdersAnswer,
        query=OpenOrdersQuery, errors=_ANY,
    ),
    Route(
        "GET", f"{_BASE}/order/{{order_id}}", order, "One order", OrderAnswer,
        errors=(*_ANY, "ORDER_NOT_FOUND"),
    ),
    Route(
        "DELETE", f"{_BASE}/order/{{order_id}}", cancel_order, "Cancel a pending order",
        CancelOrderAnswer, errors=(*_ANY, "ORDER_NOT_FOUND"),
    ),
    Route(
        "GET", f"{_BASE}/history", history, "List trades", TradesAnswer, query=TradesQuery,
        errors=_ANY,
    ),
]  # fmt: skip
