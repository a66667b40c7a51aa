"""Orders in requests; orders and trades in answers."""

from decimal import Decimal
from typing import Annotated, Any, Literal, Self

import msgspec
from msgspec import Meta

from candlestep.api.schemas.decoding import RequestBody
from candlestep.api.schemas.fields import (
    Money,
    PositiveNumber,
    Symbol,
    Time,
    TimeInput,
    money,
    optional_money,
    optional_time,
)
from candlestep.api.schemas.response import Response
from candlestep.sandbox import Fill, Order, format_time


class OrderRequest(RequestBody):
    symbol: Symbol
    side: Literal["buy", "sell"]
    type: Literal["market", "limit", "stop_loss", "take_profit"]
    quantity: PositiveNumber
    price: Annotated[
        PositiveNumber | None,
        Meta(
            description="The price of a limit order. A stop_loss or take_profit without"
            " `trigger_price` takes it as its trigger."
        ),
    ] = None
    trigger_price: Annotated[
        PositiveNumber | None, Meta(description="The trigger of a stop_loss or take_profit.")
    ] = None
    client_order_id: Annotated[str, Meta(min_length=1, max_length=128)] | None = None
    oco_group: Annotated[str, Meta(min_length=1, max_length=128)] | None = None
    expires_at: TimeInput | None = None


class OrderResponse(msgspec.Struct, frozen=True):
    id: int
    order_id: int
    client_order_id: str | None
    oco_group: str | None
    status: Literal["pending", "filled", "cancelled", "rejected", "expired"]
    reason: str | None
    symbol: str
    side: Literal["buy", "sell"]
    type: Literal["market", "limit", "stop_loss", "take_profit"]
    quantity: Money
    price: Money | None
    trigger_price: Money | None
    executed_price: Money | None
    executed_qty: Money | None
    fee: Money | None
    slippage_pct: Money | None
    realized_pnl: Money | None
    created_at: Time
    filled_at: Time | None
    closed_at: Time | None
    expires_at: Time | None

    @classmethod
    def of(cls, order: Order) -> "OrderResponse":
        fill = order.fill
        return cls(
            id=order.id,
            order_id=order.id,
            client_order_id=order.client_order_id,
            oco_group=order.oco_group,
            status=order.status,
            reason=order.reason,
            symbol=order.symbol,
            side=order.side,
            type=order.type,
            quantity=money(order.quantity),
            price=optional_money(order.price),
            trigger_price=optional_money(order.trigger_price),
            executed_price=None if fill is None else money(fill.price),
            executed_qty=None if fill is None else money(fill.quantity),
            fee=None if fill is None else money(fill.fee),
            slippage_pct=None if fill is None else percent(fill.slippage),
            realized_pnl=None if fill is None else optional_money(fill.realized_pnl),
            created_at=format_time(order.created_at),
            filled_at=optional_time(order.filled_at),
            closed_at=optional_time(order.closed_at),
            expires_at=optional_time(order.expires_at),
        )


class OrdersResponse(msgspec.Struct, frozen=True):
    orders: list[OrderResponse]
    count: int
    total: int


class CancelOrderResponse(msgspec.Struct, frozen=True):
    order_id: int
    status: Literal["cancelled"]
    cancelled: bool


class TradeResponse(Response, frozen=True):
    id: int
    order_id: int
    symbol: str
    side: Literal["buy", "sell"]
    type: Literal["market", "limit", "stop_loss", "take_profit"]
    quantity: Money
    price: Money
    quote_amount: Money
    fee: Money
    slippage_pct: Money
    realized_pnl: Money | None
    simulated_at: Time

    @classmethod
    def of(cls, fill: Fill, /, **fields: Any) -> Self:
        """Return the answer that shows a fill."""
        own = {"slippage_pct": percent(fill.slippage), "simulated_at": format_time(fill.time)}
        return super().of(fill, **own, **fields)


class TradesResponse(msgspec.Struct, frozen=True):
    trades: list[TradeResponse]
    count: int
    total: int


def percent(fraction: Decimal) -> str:
    """Return a fraction as text in percent: 0.0001 is ``0.01``."""
    return money(fraction.scaleb(2))
