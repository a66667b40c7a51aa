"""Orders and fills as values, and the checks that turn an instruction into an order."""

from decimal import Decimal
from typing import Literal, get_args

import msgspec

from candlestep.sandbox.clock import format_time, parse_time
from candlestep.sandbox.errors import InvalidParameter
from candlestep.sandbox.money import AMOUNT_PLACES, PRICE_PLACES, ZERO, parse_positive

Side = Literal["buy", "sell"]
OrderType = Literal["market", "limit", "stop_loss", "take_profit"]
OrderStatus = Literal["pending", "filled", "cancelled", "rejected", "expired"]

_SIDES: tuple[str, ...] = get_args(Side)
_TYPES: tuple[str, ...] = get_args(OrderType)
_LONGEST_NAME = 128


class Fill(msgspec.Struct, frozen=True):
    """An execution, called a trade over HTTP. ``id`` counts from 1 within a session."""

    id: int
    order_id: int
    symbol: str
    side: Side
    type: OrderType
    quantity: Decimal
    price: Decimal
    quote_amount: Decimal
    """``quantity * price`` at 8 places, without fees."""
    fee: Decimal
    slippage: Decimal
    """Fraction by which the price was worse than the market's; 0 for a resting limit."""
    realized_pnl: Decimal | None
    """Proceeds after the fee less the cost basis of the quantity sold; None for a buy."""
    time: int


class OrderTicket(msgspec.Struct, frozen=True, gc=False):
    """A checked instruction with exactly the prices that its type needs, rounded and positive."""

    symbol: str
    side: Side
    type: OrderType
    quantity: Decimal
    price: Decimal | None = None
    trigger_price: Decimal | None = None
    client_order_id: str | None = None
    oco_group: str | None = None
    expires_at: int | None = None


class Order(msgspec.Struct, frozen=True):
    """An instruction and its state: an immutable value, replaced when the state changes.

    After ``created_at`` come the fields of ``OrderTicket``, in its sequence.
    Times are in milliseconds, quantities in base currency, prices and cash in quote currency.
    ``closed_at`` is the time at which the order stopped being pending, for any reason; ``reason``
    says why it was cancelled or rejected, or that the session itself placed it.
    """

    id: int
    created_at: int
    symbol: str
    side: Side
    type: OrderType
    quantity: Decimal
    price: Decimal | None
    trigger_price: Decimal | None
    client_order_id: str | None
    oco_group: str | None
    expires_at: int | None
    status: OrderStatus = "pending"
    reason: str | None = None
    filled_at: int | None = None
    closed_at: int | None = None
    locked_cash: Decimal = ZERO
    """Cash locked while pending, fee included."""
    locked_quantity: Decimal = ZERO
    """Quantity locked while pending; limit sells of one ``oco_group`` share the largest."""
    fill: Fill | None = None

    @property
    def trigger(self) -> Decimal:
        """The price at which the pending order becomes executable."""
        trigger = self.price if self.type == "limit" else self.trigger_price
        assert trigger is not None, "a market order is never pending"
        return trigger

    @property
    def waits_for_fall(self) -> bool:
        """True if the price must fall to the trigger, False if it must rise to it.

        A buy limit, a sell stop_loss and a buy take_profit wait for a fall; the other three wait
        for a rise.
        """
        return (self.side == "sell") == (self.type == "stop_loss")

    @property
    def is_protective(self) -> bool:
        """True for a sell stop_loss or take_profit, which guards a position and locks nothing.

        Such an order is reduce-only: when it triggers, ``Exchange`` sells at most what is still
        held.
        """
        return self.side == "sell" and self.type in ("stop_loss", "take_profit")


def parse_request(
    *,
    now: int,
    symbol: object,
    side: object,
    type: object,
    quantity: object,
    price: object = None,
    trigger_price: object = None,
    client_order_id: str | None = None,
    oco_group: object = None,
    expires_at: object = None,
) -> OrderTicket:
    """Parse the values of an instruction; raises ``InvalidParameter`` naming the field.

    A stop_loss or take_profit without ``trigger_price`` takes ``price`` as its trigger.
    ``client_order_id`` must have been parsed by ``parse_name``.
    """
    if not isinstance(symbol, str):
        raise InvalidParameter("symbol", "must be a string such as 'BTCUSDT'")
    if side not in _SIDES:
        raise InvalidParameter("side", f"must be one of {', '.join(_SIDES)}")
    if type not in _TYPES:
        raise InvalidParameter("type", f"must be one of {', '.join(_TYPES)}")
    expiry = None
    if type == "market":
        _refuse_prices(price, trigger_price)
        if expires_at is not None:
            raise InvalidParameter("expires_at", "a market order fills at once; leave it out")
    else:
        price, trigger_price = _pending_prices(type, price, trigger_price)
        if expires_at is not None:
            expiry = _parse_expiry(expires_at, now)
    return OrderTicket(
        symbol,
        side,  # type: ignore[arg-type]
        type,  # type: ignore[arg-type]
        parse_positive("quantity", quantity, AMOUNT_PLACES),
        None if price is None else parse_positive("price", price, PRICE_PLACES),
        None
        if trigger_price is None
        else parse_positive("trigger_price", trigger_price, PRICE_PLACES),
        client_order_id,
        parse_name("oco_group", oco_group),
        expiry,
    )


def parse_name(field: str, value: object) -> str | None:
    """Parse an optional name of 1 to 128 characters."""
    if value is None:
        return None
    if not isinstance(value, str) or not 1 <= len(value) <= _LONGEST_NAME:
        raise InvalidParameter(field, f"must be a string of 1 to {_LONGEST_NAME} characters")
    return value


def _refuse_prices(price: object, trigger_price: object) -> None:
    for field, value in (("price", price), ("trigger_price", trigger_price)):
        if value is not None:
            raise InvalidParameter(
                field, "a market order takes no price; leave it out, or send a limit order"
            )


def _pending_prices(type: object, price: object, trigger_price: object) -> tuple[object, object]:
    """Return the limit price and the trigger price of a pending order: one of them is None."""
    if type == "limit":
        if price is None:
            raise InvalidParameter("price", "a limit order needs its limit price")
        if trigger_price is not None:
            raise InvalidParameter("trigger_price", "a limit order takes only a price")
        return price, None
    if trigger_price is None:
        if price is None:
            raise InvalidParameter("trigger_price", f"a {type} order needs its trigger price")
        return None, price
    if price is not None:
        raise InvalidParameter(
            "price", f"a {type} order takes either trigger_price or price, not both"
        )
    return None, trigger_price


def _parse_expiry(value: object, now: int) -> int:
    expiry = parse_time(value, "expires_at")
    if expiry <= now:
        raise InvalidParameter("expires_at", f"must be after the virtual time, {format_time(now)}")
    return expiry
