"""Orders and fills as values, and the checks of single fields of an instruction."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Literal, TypeVar

import msgspec
import numpy as np

from candlestep.sandbox.errors import InvalidParameter
from candlestep.sandbox.money import (
    HUNDRED,
    MARKET,
    PRICE_PLACES,
    ZERO,
    add,
    rounded,
    rounded_product,
    subtract,
)

Side = Literal["buy", "sell"]
OrderType = Literal[
    "market",
    "limit",
    "stop_loss",
    "take_profit",
    "stop_limit",
    "take_profit_limit",
    "trailing_stop",
]
TimeInForce = Literal["gtc", "ioc", "fok"]
OrderStatus = Literal["pending", "filled", "cancelled", "rejected", "expired"]

LIQUIDATION = "liquidation"
"""Reason of the orders by which the session liquidates positions, and of those it cancels then."""

Choice = TypeVar("Choice", bound=str)

_LONGEST_NAME = 128
_HUNDREDTH = Decimal("0.01")
_STOPS = ("stop_loss", "stop_limit", "trailing_stop")
_GUARDS = ("stop_loss", "take_profit", "trailing_stop")


class Fill(msgspec.Struct, frozen=True, gc=False):
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
    """Proceeds after the fee less the cost basis of the quantity sold; None for a buy.

    On perpetuals, ``closed_pnl`` less the fee; None if the fill closed nothing.
    """
    time: int
    closed_pnl: Decimal | None = None
    """PnL of what the fill closed of a perpetual position, without fees; None if it closed none."""
    closed_quantity: Decimal | None = None
    is_liquidation: bool = False
    """True if the session closed the position because its margin did not suffice."""


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
    reduce_only: bool | None = None
    """True if the order may only close a position of a perpetual; None on spot."""
    time_in_force: TimeInForce = "gtc"
    """``ioc`` and ``fok`` expire a limit order that cannot fill at once."""
    post_only: bool = False
    """True if a limit order is refused that would fill at once."""
    trail_percent: Decimal | None = None
    """Distance of a trailing stop from the best price, in percent of it."""
    trail_amount: Decimal | None = None
    """Distance of a trailing stop from the best price, in quote currency."""
    activation_price: Decimal | None = None
    """Price from which on a trailing stop follows the price."""
    quote_amount: Decimal | None = None
    """Amount of a market order given instead of ``quantity``, which is 0 until it is computed."""
    stop_loss: Decimal | None = None
    """Trigger of the stop_loss that is placed when the order fills."""
    take_profit: Decimal | None = None
    """Trigger of the take_profit that is placed when the order fills."""


TICKET_FIELDS = OrderTicket.__struct_fields__


class Order(msgspec.Struct, frozen=True, gc=False):
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
    reduce_only: bool | None = None
    time_in_force: TimeInForce = "gtc"
    post_only: bool = False
    trail_percent: Decimal | None = None
    trail_amount: Decimal | None = None
    activation_price: Decimal | None = None
    quote_amount: Decimal | None = None
    stop_loss: Decimal | None = None
    take_profit: Decimal | None = None
    status: OrderStatus = "pending"
    reason: str | None = None
    filled_at: int | None = None
    closed_at: int | None = None
    locked_cash: Decimal = ZERO
    """Cash locked while pending, fee included."""
    locked_quantity: Decimal = ZERO
    """Quantity locked while pending; limit sells of one ``oco_group`` share the largest."""
    fill: Fill | None = None
    list_id: int | None = None
    """Id of the first order of the pair that it is in: one cancels the other."""
    parent_id: int | None = None
    """Id of the entry order that placed it when it filled."""
    triggered_at: int | None = None
    """Time at which a stop_limit or take_profit_limit became a limit order."""
    best_price: Decimal | None = None
    """Price at the placement of a trailing stop; None if it waits for its activation price."""

    @property
    def ticket(self) -> OrderTicket:
        """The instruction that placed the order."""
        return OrderTicket(*(getattr(self, name) for name in TICKET_FIELDS))

    @property
    def has_two_legs(self) -> bool:
        """True for an entry that places two orders when it fills."""
        return self.stop_loss is not None and self.take_profit is not None

    @property
    def is_limit(self) -> bool:
        """True for a limit order, and for one that has become one at its trigger."""
        return self.type == "limit" or self.triggered_at is not None

    @property
    def becomes_limit(self) -> bool:
        """True for a stop_limit or take_profit_limit that has not been triggered."""
        return self.triggered_at is None and self.type in ("stop_limit", "take_profit_limit")

    @property
    def trigger(self) -> Decimal:
        """The price at which the pending order becomes executable.

        Of a trailing stop, that at its placement, or at its activation price.
        """
        if self.type == "trailing_stop":
            best = self.activation_price if self.best_price is None else self.best_price
            assert best is not None, "it has either of them"
            return self.trigger_at(best)
        trigger = self.price if self.is_limit else self.trigger_price
        assert trigger is not None, "a market order is never pending"
        return trigger

    def trigger_at(self, best_price: Decimal) -> Decimal:
        """Return where a trailing stop triggers once the best price has been ``best_price``."""
        falls = self.side == "sell"
        if self.trail_amount is not None:
            distance = self.trail_amount.copy_negate() if falls else self.trail_amount
            return MARKET.add(best_price, distance)
        assert self.trail_percent is not None, "it has either distance"
        share = (subtract if falls else add)(HUNDRED, self.trail_percent)
        return rounded(
            MARKET.multiply(MARKET.multiply(best_price, share), _HUNDREDTH), PRICE_PLACES
        )

    def is_activated_at(self, price: Decimal) -> bool:
        """Return whether a trailing stop follows the price once it has been ``price``."""
        activation = self.activation_price
        if activation is None:
            return True
        return price >= activation if self.side == "sell" else price <= activation

    @property
    def value_price(self) -> Decimal:
        """The price at which the pending order is valued: its limit, or its trigger."""
        return rounded(self.trigger, PRICE_PLACES) if self.price is None else self.price

    @property
    def value(self) -> Decimal:
        """The quantity of the pending order at its limit, or at its trigger."""
        return rounded_product(self.quantity, self.value_price)

    @property
    def waits_for_fall(self) -> bool:
        """True if the price must fall to the trigger, False if it must rise to it.

        A buy limit, a sell stop and a buy take_profit wait for a fall; the others wait for a rise.
        """
        is_stop = self.type in _STOPS and self.triggered_at is None
        return (self.side == "sell") == is_stop

    @property
    def group(self) -> str | int | None:
        """The name or the list shared by orders of which one cancels the others."""
        return self.oco_group if self.list_id is None else self.list_id

    @property
    def is_protective(self) -> bool:
        """True for an order that guards a position: it closes at most what is still held of it.

        On spot that is a sell stop_loss, take_profit or trailing_stop that locks nothing, on
        perpetuals an order with ``reduce_only``.
        """
        if self.reduce_only is not None:
            return self.reduce_only
        return self.side == "sell" and self.type in _GUARDS and not self.locked_quantity

    @property
    def is_entry(self) -> bool:
        """True for an order that may add to a position: a buy, or on perpetuals either side."""
        return self.side == "buy" if self.reduce_only is None else not self.reduce_only

    @property
    def closed_pnl(self) -> Decimal | None:
        """``Fill.closed_pnl`` of the order's fill, if it has one."""
        return None if self.fill is None else self.fill.closed_pnl

    @property
    def is_liquidation(self) -> bool:
        """True if the session placed the order to liquidate a position."""
        return self.fill is not None and self.fill.is_liquidation


def bracket_of(entry: Order, quantity: Decimal, *, first_id: int, now: int) -> list[Order]:
    """Return the orders that guard ``quantity`` of what ``entry`` has opened ``now``.

    Of two, one cancels the other.
    """
    legs: list[tuple[OrderType, Decimal]] = []
    if entry.stop_loss is not None:
        legs.append(("stop_loss", entry.stop_loss))
    if entry.take_profit is not None:
        legs.append(("take_profit", entry.take_profit))
    return [
        Order(
            number,
            now,
            entry.symbol,
            "sell" if entry.side == "buy" else "buy",
            type,
            quantity,
            None,
            trigger,
            None,
            None,
            None,
            None if entry.reduce_only is None else True,
            list_id=first_id if len(legs) == 2 else None,
            parent_id=entry.id,
        )
        for number, (type, trigger) in enumerate(legs, first_id)
    ]


def parse_name(field: str, value: object) -> str | None:
    """Parse an optional name of 1 to 128 characters."""
    if value is None:
        return None
    if not isinstance(value, str) or not 1 <= len(value) <= _LONGEST_NAME:
        raise InvalidParameter(field, f"must be a string of 1 to {_LONGEST_NAME} characters")
    return value


def parse_choice(field: str, value: object, choices: Sequence[Choice]) -> Choice:
    """Parse one of some names; raises ``InvalidParameter``, which lists them."""
    for choice in choices:
        if isinstance(value, str) and value == choice:
            return choice
    raise InvalidParameter(field, f"must be one of {', '.join(choices)}")


def parse_boolean(field: str, value: object) -> bool:
    """Parse true or false, a NumPy one too; raises ``InvalidParameter``."""
    if not isinstance(value, bool | np.bool_):
        raise InvalidParameter(field, "must be true or false")
    return bool(value)
