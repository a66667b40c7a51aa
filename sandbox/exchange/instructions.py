"""Instructions of an agent: the checks that turn one into an order."""

from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Required, TypedDict, Unpack, get_args

import msgspec
import numpy as np

from candlestep.sandbox.clock import format_time, parse_time
from candlestep.sandbox.errors import ClientOrderIdInUse, InvalidParameter
from candlestep.sandbox.exchange.orders import (
    TICKET_FIELDS,
    Order,
    OrderTicket,
    OrderType,
    Side,
    TimeInForce,
    parse_boolean,
    parse_choice,
    parse_name,
)
from candlestep.sandbox.money import (
    AMOUNT_PLACES,
    HUNDRED,
    PRICE_PLACES,
    ZERO,
    Number,
    Whole,
    parse_positive,
)

_SIDES: tuple[str, ...] = get_args(Side)
_TYPES: tuple[str, ...] = get_args(OrderType)
_TIMES_IN_FORCE: tuple[TimeInForce, ...] = get_args(TimeInForce)
_WITHOUT_PRICES = ("market", "trailing_stop")
_WITH_TWO_PRICES = ("stop_limit", "take_profit_limit")
_FILL_WHEN_TRIGGERED = ("stop_loss", "take_profit", "trailing_stop")


class Conditions(TypedDict, total=False):
    """The fields of an instruction that plain orders are without."""

    time_in_force: str | None
    post_only: bool | None
    trail_percent: Number | None
    trail_amount: Number | None
    activation_price: Number | None
    stop_loss: Number | None
    take_profit: Number | None


class Instruction(Conditions, total=False):
    """An order as an agent asks for it; the fields are those of ``OrderTicket``."""

    symbol: Required[str]
    side: Required[str]
    type: str
    quantity: Number | None
    price: Number | None
    trigger_price: Number | None
    client_order_id: str | None
    oco_group: str | None
    expires_at: str | date | np.datetime64 | Whole | None
    reduce_only: bool | None
    quote_amount: Number | None


def parse_request(
    now: int,
    *,
    symbol: object,
    side: object,
    type: object = "market",
    quantity: object = None,
    price: object = None,
    trigger_price: object = None,
    client_order_id: object = None,
    oco_group: object = None,
    expires_at: object = None,
    reduce_only: object = None,
    quote_amount: object = None,
    **conditions: Unpack[Conditions],
) -> OrderTicket:
    """Parse the values of an instruction; raises ``InvalidParameter`` naming the field.

    A stop_loss or take_profit without ``trigger_price`` takes ``price`` as its trigger. With
    ``quote_amount`` the quantity of the ticket is 0.
    """
    if conditions:
        _require_known(conditions)
    if not isinstance(symbol, str):
        raise InvalidParameter("symbol", "must be a string such as 'BTCUSDT'")
    if side not in _SIDES:
        raise InvalidParameter("side", f"must be one of {', '.join(_SIDES)}")
    if type not in _TYPES:
        raise InvalidParameter("type", f"must be one of {', '.join(_TYPES)}")
    if quantity is None and quote_amount is None:
        raise InvalidParameter(
            "quantity", "is required; a market order may have a quote_amount instead"
        )
    expiry = None
    if type in _WITHOUT_PRICES:
        _refuse_prices(type, price, trigger_price)
    else:
        price, trigger_price = _pending_prices(type, price, trigger_price)
    if expires_at is not None:
        if type == "market":
            raise InvalidParameter("expires_at", "a market order fills at once; leave it out")
        expiry = _parse_expiry(expires_at, now)
    amount = None
    if quote_amount is not None:
        amount = _parse_quote_amount(type, quantity, quote_amount)
    ticket = OrderTicket(
        symbol,
        side,  # type: ignore[arg-type]
        type,  # type: ignore[arg-type]
        parse_positive("quantity", quantity, AMOUNT_PLACES) if amount is None else ZERO,
        _optional_price("price", price),
        _optional_price("trigger_price", trigger_price),
        parse_name("client_order_id", client_order_id),
        parse_name("oco_group", oco_group),
        expiry,
        None if reduce_only is None else parse_boolean("reduce_only", reduce_only),
        quote_amount=amount,
    )
    if conditions or type == "trailing_stop":
        ticket = _with_conditions(ticket, **conditions)
    return ticket


def parse_waiting(now: int, **instruction: Unpack[Instruction]) -> OrderTicket:
    """Parse an order of a list, which has to wait; raises ``InvalidParameter``."""
    ticket = parse_request(now, **instruction)
    if ticket.type == "market":
        raise InvalidParameter("type", "must not be market: an order of a list has to wait")
    if ticket.type == "limit" and ticket.time_in_force != "gtc":
        raise InvalidParameter("time_in_force", "must be gtc: an order of a list has to wait")
    if ticket.oco_group is not None:
        raise InvalidParameter("oco_group", "is not for an order of a list; leave it out")
    return ticket


def replaced_ticket(
    old: Order, price: object, trigger_price: object, quantity: object
) -> OrderTicket:
    """Return the instruction of a pending order with other numbers; None keeps one.

    One that has become a limit order is replaced by a limit order. Raises ``InvalidParameter``.
    """
    if price is None and trigger_price is None and quantity is None:
        raise InvalidParameter("price", "give at least one of price, trigger_price and quantity")
    ticket = old.ticket
    if old.triggered_at is not None:
        ticket = msgspec.structs.replace(ticket, type="limit", trigger_price=None)
    if ticket.price is None and ticket.trigger_price is not None and trigger_price is None:
        price, trigger_price = None, price
    changes: dict[str, Decimal] = {}
    for field, value in (("price", price), ("trigger_price", trigger_price)):
        if value is None:
            continue
        if getattr(ticket, field) is None:
            raise InvalidParameter(field, f"order {old.id} has none that could be changed")
        changes[field] = parse_positive(field, value, PRICE_PLACES)
    if quantity is not None:
        changes["quantity"] = parse_positive("quantity", quantity, AMOUNT_PLACES)
    return msgspec.structs.replace(ticket, **changes)


def require_same_order(placed: Order, ticket: OrderTicket) -> None:
    """Raise ``ClientOrderIdInUse`` unless the order was placed by an equal instruction."""
    different = [name for name in TICKET_FIELDS if getattr(placed, name) != getattr(ticket, name)]
    if ticket.quote_amount is not None and "quote_amount" not in different:
        different.remove("quantity")  # It was computed.
    if different:
        name = different[0]
        raise ClientOrderIdInUse(
            f"client_order_id {ticket.client_order_id!r} is that of order {placed.id}, whose {name}"
            f" is {getattr(placed, name)} and not {getattr(ticket, name)}; give another order an"
            " id of its own",
            field="client_order_id",
            order_id=placed.id,
            different=different,
        )


def refuse_bracket(ticket: OrderTicket, reason: str) -> None:
    """Raise ``InvalidParameter`` for ``reason`` if an order has a bracket."""
    for field in ("stop_loss", "take_profit"):
        if getattr(ticket, field) is not None:
            raise InvalidParameter(field, reason)


def require_amount(quote_amount: Decimal) -> None:
    """Raise ``InvalidParameter`` if the amount of an order, which was rounded, is 0."""
    if not quote_amount:
        raise InvalidParameter(
            "quantity", "the order's amount, quantity x price, rounds to zero; raise the quantity"
        )


def _require_known(conditions: Mapping[str, object]) -> None:
    for name in conditions:
        if name not in Conditions.__annotations__:
            fields = sorted(Instruction.__annotations__)
            raise TypeError(f"an order has no field {name!r}; its fields are {', '.join(fields)}")


def _with_conditions(
    ticket: OrderTicket,
    *,
    time_in_force: object = None,
    post_only: object = None,
    trail_percent: object = None,
    trail_amount: object = None,
    activation_price: object = None,
    stop_loss: object = None,
    take_profit: object = None,
) -> OrderTicket:
    """Return the ticket of a plain order with what else the instruction has."""
    in_force: TimeInForce = "gtc"
    if time_in_force is not None:
        in_force = _parse_time_in_force(ticket.type, time_in_force, ticket.expires_at)
    waits = post_only is not None and _parse_post_only(ticket.type, post_only, time_in_force)
    percent, amount, activation = _parse_trail(
        ticket.type, trail_percent, trail_amount, activation_price
    )
    stop, target = _parse_bracket(ticket.side, stop_loss, take_profit)
    return msgspec.structs.replace(
        ticket,
        time_in_force=in_force,
        post_only=waits,
        trail_percent=percent,
        trail_amount=amount,
        activation_price=activation,
        stop_loss=stop,
        take_profit=target,
    )


def _optional_price(field: str, value: object) -> Decimal | None:
    return None if value is None else parse_positive(field, value, PRICE_PLACES)


def _refuse_prices(type: object, price: object, trigger_price: object) -> None:
    if price is None and trigger_price is None:
        return
    field = "trigger_price" if price is None else "price"
    if type == "market":
        raise InvalidParameter(
            field, "a market order takes no price; leave it out, or send a limit order"
        )
    raise InvalidParameter(
        field, f"a {type} follows the price by trail_percent or trail_amount; leave it out"
    )


def _pending_prices(type: object, price: object, trigger_price: object) -> tuple[object, object]:
    """Return the limit price and the trigger price of a pending order."""
    if type == "limit":
        if price is None:
            raise InvalidParameter("price", "a limit order needs its limit price")
        if trigger_price is not None:
            raise InvalidParameter("trigger_price", "a limit order takes only a price")
        return price, None
    if type in _WITH_TWO_PRICES:
        if price is None:
            raise InvalidParameter("price", f"a {type} order needs the limit that it becomes")
        if trigger_price is None:
            raise InvalidParameter("trigger_price", f"a {type} order needs its trigger price")
        return price, trigger_price
    if trigger_price is None:
        if price is None:
            raise InvalidParameter("trigger_price", f"a {type} order needs its trigger price")
        return None, price
    if price is not None:
        raise InvalidParameter(
            "price", f"a {type} order takes either trigger_price or price, not both"
        )
    return None, trigger_price


def _parse_quote_amount(type: object, quantity: object, quote_amount: object) -> Decimal:
    if type != "market":
        raise InvalidParameter(
            "quote_amount", f"is for market orders; give a {type} order its quantity"
        )
    if quantity is not None:
        raise InvalidParameter("quote_amount", "stands for the quantity: give one of them")
    return parse_positive("quote_amount", quote_amount, AMOUNT_PLACES)


def _parse_time_in_force(type: object, value: object, expiry: int | None) -> TimeInForce:
    time_in_force = parse_choice("time_in_force", value, _TIMES_IN_FORCE)
    if time_in_force == "gtc":
        return time_in_force
    if type in _FILL_WHEN_TRIGGERED:
        raise InvalidParameter(
            "time_in_force", f"a {type} order fills whenever it triggers; leave it out"
        )
    if type == "limit" and expiry is not None:
        raise InvalidParameter(
            "expires_at", f"a limit order {time_in_force} never waits; leave one of them out"
        )
    return time_in_force


def _parse_post_only(type: object, value: object, time_in_force: object) -> bool:
    post_only = parse_boolean("post_only", value)
    if post_only and type != "limit":
        raise InvalidParameter("post_only", f"is for limit orders, not for a {type} order")
    if post_only and time_in_force not in (None, "gtc"):
        raise InvalidParameter(
            "post_only", f"an order {time_in_force} never waits; leave one of them out"
        )
    return post_only


def _parse_trail(
    type: object, percent: object, amount: object, activation_price: object
) -> tuple[Decimal | None, Decimal | None, Decimal | None]:
    """Return the distance of a trailing stop, in percent or as an amount, and its activation."""
    if type != "trailing_stop":
        for field, value in (
            ("trail_percent", percent),
            ("trail_amount", amount),
            ("activation_price", activation_price),
        ):
            if value is not None:
                raise InvalidParameter(field, f"is for a trailing_stop, not for a {type} order")
        return None, None, None
    if (percent is None) == (amount is None):
        raise InvalidParameter(
            "trail_percent" if amount is None else "trail_amount",
            "a trailing_stop needs its distance: give either trail_percent or trail_amount",
        )
    distance = None
    if percent is not None:
        distance = parse_positive("trail_percent", percent, AMOUNT_PLACES)
        if distance >= HUNDRED:
            raise InvalidParameter("trail_percent", "must be less than 100")
    return (
        distance,
        _optional_price("trail_amount", amount),
        _optional_price("activation_price", activation_price),
    )


def _parse_bracket(
    side: object, stop_loss: object, take_profit: object
) -> tuple[Decimal | None, Decimal | None]:
    """Return the triggers of the orders that guard what the order opens."""
    stop = _optional_price("stop_loss", stop_loss)
    target = _optional_price("take_profit", take_profit)
    if stop is not None and target is not None:
        is_apart = stop < target if side == "buy" else stop > target
        if not is_apart:
            where = "below" if side == "buy" else "above"
            raise InvalidParameter(
                "stop_loss", f"must be {where} take_profit: a {side} gains on the other side"
            )
    return stop, target


def _parse_expiry(value: object, now: int) -> int:
    expiry = parse_time(value, "expires_at")
    if expiry <= now:
        raise InvalidParameter("expires_at", f"must be after the virtual time, {format_time(now)}")
    return expiry
