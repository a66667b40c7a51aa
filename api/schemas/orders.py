"""Orders in requests; orders and trades in answers."""

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Literal, Self

import msgspec
from msgspec import UNSET, Meta, UnsetType

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
from candlestep.api.schemas.warnings import WarningResponse
from candlestep.sandbox import Fill, Order, format_time
from candlestep.sandbox.exchange.orders import OrderStatus, OrderType, Side, TimeInForce


class OrderRequest(RequestBody, kw_only=True):
    symbol: Symbol
    side: Side
    type: Annotated[OrderType, Meta(description="A market order, if it is left out.")] = "market"
    quantity: Annotated[
        PositiveNumber | UnsetType, Meta(description="Left out only with a `quote_amount`.")
    ] = UNSET
    price: Annotated[
        PositiveNumber | None,
        Meta(
            description="The limit of a limit order, a stop_limit and a take_profit_limit. A"
            " stop_loss or take_profit without `trigger_price` takes it as its trigger."
        ),
    ] = None
    trigger_price: Annotated[
        PositiveNumber | None,
        Meta(description="The trigger of a stop_loss, take_profit, stop_limit, take_profit_limit."),
    ] = None
    client_order_id: Annotated[str, Meta(min_length=1, max_length=128)] | None = None
    oco_group: Annotated[str, Meta(min_length=1, max_length=128)] | None = None
    expires_at: TimeInput | None = None
    reduce_only: Annotated[
        bool | UnsetType,
        Meta(
            description="On perpetuals: true closes a position and opens none, which is the default"
            " of a stop_loss and a take_profit."
        ),
    ] = UNSET
    """Not a default of false: stored digests of requests are of those without this field."""
    stop_price: Annotated[
        PositiveNumber | UnsetType, Meta(description="Another name of `trigger_price`.")
    ] = UNSET
    time_in_force: Annotated[
        TimeInForce | UnsetType,
        Meta(
            description="`gtc`, the default: until it is cancelled. `ioc` and `fok`: an order that"
            " does not fill at once, or at its trigger, is `expired`; fills are whole, so that the"
            " two are the same."
        ),
    ] = UNSET
    post_only: Annotated[
        bool | UnsetType,
        Meta(
            description="True refuses a limit order that would fill at once: `ORDER_WOULD_MATCH`."
        ),
    ] = UNSET
    trail_percent: Annotated[
        PositiveNumber | UnsetType,
        Meta(description="The distance of a trailing_stop from the best price, in percent of it."),
    ] = UNSET
    trail_amount: Annotated[
        PositiveNumber | UnsetType,
        Meta(description="The same in quote currency; one of the two is needed."),
    ] = UNSET
    activation_price: Annotated[
        PositiveNumber | UnsetType,
        Meta(description="The price from which on a trailing_stop follows; by default at once."),
    ] = UNSET
    quote_amount: Annotated[
        PositiveNumber | UnsetType,
        Meta(
            description="Of a market order, instead of `quantity`: buys for at most so much, costs"
            " included; sells for at least so much. On perpetuals, the notional."
        ),
    ] = UNSET
    stop_loss: Annotated[
        PositiveNumber | UnsetType,
        Meta(
            description="The trigger of a stop_loss that is placed for the quantity of the order when"
            " it fills."
        ),
    ] = UNSET
    take_profit: Annotated[
        PositiveNumber | UnsetType,
        Meta(description="The same of a take_profit. Of both, one cancels the other."),
    ] = UNSET
    """None of these has a default but UNSET: stored digests of requests are of those without it."""

    foreign_names: ClassVar[Mapping[str, str]] = {
        "amount": "`quantity`, in the base currency",
        "size": "`quantity`, in the base currency",
        "volume": "`quantity`, in the base currency",
        "qty": "`quantity`",
        "order_type": "`type`",
        "pair": "`symbol`",
        "instrument": "`symbol`",
        "limit_price": "`price`",
        "stopPrice": "`trigger_price`",
        "clientOrderId": "`client_order_id`",
        "newClientOrderId": "`client_order_id`",
        "timeInForce": "`time_in_force`",
        "quoteOrderQty": "`quote_amount`",
        "postOnly": "`post_only`",
        "callbackRate": "`trail_percent`",
        "activationPrice": "`activation_price`",
        "reduceOnly": "`reduce_only`",
    }

    def __post_init__(self) -> None:
        """Take ``stop_price`` for the trigger price."""
        if self.stop_price is not UNSET and self.stop_price is not None:
            if self.trigger_price is not None:
                raise ValueError("stop_price is another name of trigger_price: give one of them")
            self.trigger_price = self.stop_price
        self.stop_price = UNSET


class OcoRequest(RequestBody):
    orders: Annotated[
        list[OrderRequest],
        Meta(
            min_length=2,
            max_length=2,
            description="Of one symbol and side. Both have to wait; one cancels the other.",
        ),
    ]


class ReplaceRequest(RequestBody, kw_only=True):
    """The numbers of an order that are to be others; at least one."""

    price: PositiveNumber | UnsetType = UNSET
    trigger_price: PositiveNumber | UnsetType = UNSET
    quantity: PositiveNumber | UnsetType = UNSET

    foreign_names: ClassVar[Mapping[str, str]] = {
        name: meant
        for name, meant in OrderRequest.foreign_names.items()
        if meant.strip("`").partition("`")[0] in ("price", "trigger_price", "quantity")
    } | {"stop_price": "`trigger_price`"}


class OrderResponse(msgspec.Struct, frozen=True):
    id: int
    order_id: int
    client_order_id: str | None
    oco_group: str | None
    status: OrderStatus
    reason: str | None
    symbol: str
    side: Side
    type: OrderType
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
    time_in_force: Annotated[
        TimeInForce | UnsetType,
        Meta(description="Left out for `gtc`, as others for their default."),
    ] = UNSET
    post_only: bool | UnsetType = UNSET
    trail_percent: Money | UnsetType = UNSET
    trail_amount: Money | UnsetType = UNSET
    activation_price: Money | UnsetType = UNSET
    quote_amount: Annotated[
        Money | UnsetType, Meta(description="The amount that was given instead of a quantity.")
    ] = UNSET
    stop_loss: Money | UnsetType = UNSET
    take_profit: Money | UnsetType = UNSET
    list_id: Annotated[
        int | UnsetType,
        Meta(description="The id of the first of two orders of which one cancels the other."),
    ] = UNSET
    parent_id: Annotated[
        int | UnsetType, Meta(description="The id of the order that placed it when it filled.")
    ] = UNSET
    triggered_at: Annotated[
        Time | UnsetType,
        Meta(description="When a stop_limit or take_profit_limit became a limit order."),
    ] = UNSET
    reduce_only: Annotated[bool | UnsetType, Meta(description="Of perpetuals.")] = UNSET
    closed_pnl: Annotated[
        Money | UnsetType | None,
        Meta(description="Of perpetuals: the PnL of what it closed, without fees."),
    ] = UNSET
    is_liquidation: Annotated[
        bool | UnsetType,
        Meta(description="Of perpetuals: placed by the session, because margin did not suffice."),
    ] = UNSET

    @classmethod
    def of(cls, order: Order) -> "OrderResponse":
        fill = order.fill
        of_perpetual: dict[str, Any] = {}
        if order.reduce_only is not None:
            of_perpetual = {
                "reduce_only": order.reduce_only,
                "closed_pnl": None if fill is None else optional_money(fill.closed_pnl),
                "is_liquidation": fill is not None and fill.is_liquidation,
            }
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
            **_rare_fields(order),
            **of_perpetual,
        )


_RARE: tuple[tuple[str, object, Callable[[Any], object]], ...] = (
    ("time_in_force", "gtc", str),
    ("post_only", False, bool),
    ("trail_percent", None, money),
    ("trail_amount", None, money),
    ("activation_price", None, money),
    ("quote_amount", None, money),
    ("stop_loss", None, money),
    ("take_profit", None, money),
    ("list_id", None, int),
    ("parent_id", None, int),
    ("triggered_at", None, format_time),
)
"""The fields that are left out of answers at their default, so that older answers stay as they are.

Each with its default, and what writes any other value.
"""


def _rare_fields(order: Order) -> dict[str, Any]:
    fields = {}
    for name, default, write in _RARE:
        value = getattr(order, name)
        if value != default:
            fields[name] = write(value)
    return fields


class PlacedOrderResponse(OrderResponse, frozen=True, kw_only=True):
    warnings: Annotated[
        list[WarningResponse], Meta(description="`HIGH_SLIPPAGE` if it is above 2 %.")
    ]


class OcoResponse(msgspec.Struct, frozen=True):
    list_id: Annotated[int, Meta(description="The id of the first order.")]
    orders: list[OrderResponse]

    @classmethod
    def of(cls, orders: Sequence[Order]) -> "OcoResponse":
        return cls(orders[0].id, [OrderResponse.of(order) for order in orders])


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
    side: Side
    type: OrderType
    quantity: Money
    price: Money
    quote_amount: Money
    fee: Money
    slippage_pct: Money
    realized_pnl: Money | None
    simulated_at: Time
    closed_pnl: Annotated[
        Money | UnsetType | None,
        Meta(
            description="Of perpetuals: the PnL of what it closed, without fees; null if nothing."
        ),
    ] = UNSET
    closed_quantity: Annotated[
        Money | UnsetType, Meta(description="Of perpetuals: the part that closed a position.")
    ] = UNSET
    liquidation: Annotated[
        bool | UnsetType,
        Meta(description="Of perpetuals: true if the position lacked margin, and was closed."),
    ] = UNSET

    @classmethod
    def of(cls, fill: Fill, /, **fields: Any) -> Self:
        """Return the answer that shows a fill."""
        own: dict[str, Any] = {
            "slippage_pct": percent(fill.slippage),
            "simulated_at": format_time(fill.time),
            "closed_pnl": UNSET,
            "closed_quantity": UNSET,
        }
        if fill.closed_quantity is not None:
            own |= {
                "closed_pnl": optional_money(fill.closed_pnl),
                "closed_quantity": money(fill.closed_quantity),
                "liquidation": fill.is_liquidation,
            }
        return super().of(fill, **own, **fields)


class TradesResponse(msgspec.Struct, frozen=True):
    trades: list[TradeResponse]
    count: int
    total: int


def percent(fraction: Decimal) -> str:
    """Return a fraction as text in percent: 0.0001 is ``0.01``."""
    return money(fraction.scaleb(2))
