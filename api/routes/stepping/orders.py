"""Orders and trades of a session."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from candlestep.api.http.route import Call, Encoded, Route
from candlestep.api.schemas.fields import Symbol
from candlestep.api.schemas.orders import (
    CancelOrderAnswer,
    OrderAnswer,
    OrdersAnswer,
    TradeAnswer,
    TradesAnswer,
)
from candlestep.api.schemas.requests import Body, OrderBody
from candlestep.api.services import Server
from candlestep.api.sessions.hosted_session import Live
from candlestep.api.sessions.idempotency import Asked
from candlestep.api.sessions.player import Played
from candlestep.api.sessions.pool import FIND_ERRORS
from candlestep.data.symbols import normalise_symbol
from candlestep.sandbox import InvalidParameter, Order, OrderNotFound
from candlestep.sandbox.errors import shown

_BASE = "/api/v1/backtest/{session_id}/trade"


class OrdersQuery(Body):
    status: Literal["pending", "filled", "cancelled", "rejected", "expired"] | None = None
    symbol: Symbol | None = None
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    offset: Annotated[int, Meta(ge=0, le=10**9)] = 0


class OpenOrdersQuery(Body):
    symbol: Symbol | None = None
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    offset: Annotated[int, Meta(ge=0, le=10**9)] = 0


class TradesQuery(Body):
    limit: Annotated[int, Meta(ge=1, le=100_000)] = 100_000
    offset: Annotated[int, Meta(ge=0, le=10**9)] = 0


async def place_order(server: Server, call: Call) -> Encoded:
    """Place an order; 200 instead of 201 if its ``client_order_id`` was sent before."""
    body: OrderBody = call.body
    most = server.settings.max_pending_orders

    def act(live: Live, request: Asked | None) -> Played:
        sent_before = _sent_before(live, body, most)
        if sent_before is not None:
            answer = msgspec.json.encode(OrderAnswer.of(sent_before))
            live.keep(request, 200, answer)
            return Played(answer)
        if body.type != "market":
            _require_room(live, most)
        return live.order(body, request)

    return await server.hub.perform(call, "trade/order", act, load_ended=True)


async def order(server: Server, call: Call) -> OrderAnswer:
    """One order."""
    live = await server.live(call)
    return OrderAnswer.of(live.session.order(_order_id(call)))


async def orders(server: Server, call: Call) -> OrdersAnswer:
    """All orders, oldest first."""
    live = await server.live(call)
    found = live.session.orders
    status = call.query.status
    if status is not None:
        found = [each for each in found if each.status == status]
    return _page(found, call.query)


async def open_orders(server: Server, call: Call) -> OrdersAnswer:
    """The pending orders, oldest first."""
    live = await server.live(call)
    return _page(live.session.open_orders(), call.query)


async def cancel_order(server: Server, call: Call) -> Encoded:
    """Cancel a pending order."""
    return await server.hub.perform(
        call, "trade/order/cancel", lambda live, _: live.cancel_order(_order_id(call))
    )


async def history(server: Server, call: Call) -> TradesAnswer:
    """All trades so far, oldest first."""
    live = await server.live(call)
    fills, query = live.session.fills, call.query
    page = fills[query.offset : query.offset + query.limit]
    # A hundred thousand of them would hold up everyone.
    trades = await server.in_thread(lambda: [TradeAnswer.of(fill) for fill in page])
    return TradesAnswer(trades, len(page), len(fills))


def _sent_before(live: Live, body: OrderBody, most: int) -> Order | None:
    """The order of this ``client_order_id``, where no other could be placed; else the session
    finds it faster."""
    client_id = body.client_order_id
    session = live.session
    if client_id is None or (session.status == "running" and session.pending_count < most):
        return None
    return next((each for each in session.orders if each.client_order_id == client_id), None)


def _require_room(live: Live, most: int) -> None:
    if live.session.pending_count >= most:
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
        takes_key=True,
        errors=(
            *FIND_ERRORS,
            "SYMBOL_NOT_FOUND",
            "INSUFFICIENT_BALANCE",
            "RISK_LIMIT_EXCEEDED",
        ),
    ),
    Route(
        "GET", f"{_BASE}/orders", orders, "List orders", OrdersAnswer, query=OrdersQuery,
        errors=FIND_ERRORS,
    ),
    Route(
        "GET", f"{_BASE}/orders/open", open_orders, "List pending orders", OrdersAnswer,
        query=OpenOrdersQuery, errors=FIND_ERRORS,
    ),
    Route(
        "GET", f"{_BASE}/order/{{order_id}}", order, "One order", OrderAnswer,
        errors=(*FIND_ERRORS, "ORDER_NOT_FOUND"),
    ),
    Route(
        "DELETE", f"{_BASE}/order/{{order_id}}", cancel_order, "Cancel a pending order",
        CancelOrderAnswer, errors=(*FIND_ERRORS, "ORDER_NOT_FOUND"),
    ),
    Route(
        "GET", f"{_BASE}/history", history, "List trades", TradesAnswer, query=TradesQuery,
        errors=FIND_ERRORS,
    ),
]  # fmt: skip
