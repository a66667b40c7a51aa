"""Order entry: the orders that an agent places, and which of them it has placed before."""

from collections.abc import Mapping, Sequence
from copy import copy
from decimal import Decimal
from typing import Unpack

import msgspec

from candlestep.sandbox.errors import (
    ClientOrderIdInUse,
    InvalidParameter,
    RiskLimitExceeded,
    SandboxError,
)
from candlestep.sandbox.exchange.exchange import Exchange
from candlestep.sandbox.exchange.instructions import (
    Instruction,
    parse_request,
    parse_waiting,
    replaced_ticket,
    require_same_order,
)
from candlestep.sandbox.exchange.orders import Order, OrderTicket, parse_name
from candlestep.sandbox.money import AMOUNT_PLACES, Number, Whole, parse_positive


class OrderEntry:
    """The way of instructions into an exchange: parsed, and recognised if they come again."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._client_orders: dict[str, int] = {}

    def copy(self, exchange: Exchange) -> "OrderEntry":
        """Return an independent copy that places orders on ``exchange``."""
        copied = copy(self)
        copied._exchange = exchange
        copied._client_orders = self._client_orders.copy()
        return copied

    def placed_as(self, client_order_id: str | None) -> Order | None:
        """Return the order that was placed with a ``client_order_id``; None if there is none."""
        if client_order_id is None or client_order_id not in self._client_orders:
            return None
        return self._exchange.order(self._client_orders[client_order_id])

    def placed_before(self, client_order_id: object) -> Order | None:
        """Return what ``placed_as`` does; raises ``InvalidParameter`` for an id that is none."""
        if client_order_id is None:
            return None
        return self.placed_as(parse_name("client_order_id", client_order_id))

    def place(self, placed: Order | None, instruction: Instruction) -> Order:
        """Place an order, or return the one that was ``placed`` before with its client's id."""
        exchange = self._exchange
        now = exchange.now if placed is None else placed.created_at
        ticket = exchange.clearing.complete(parse_request(now, **instruction))
        if ticket.client_order_id is None:
            return exchange.place(ticket)
        if placed is not None:
            symbol = exchange.market.candles_of(ticket.symbol).symbol
            require_same_order(placed, msgspec.structs.replace(ticket, symbol=symbol))
            return placed
        next_id = len(exchange.orders) + 1
        try:
            return exchange.place(ticket)
        finally:
            if len(exchange.orders) >= next_id:
                self._keep_name(ticket, next_id)

    def list_placed_before(self, instructions: Sequence[Instruction]) -> tuple[Order, Order] | None:
        """Return the list whose orders have the ``client_order_id`` of ``instructions``, if any.

        Raises ``ClientOrderIdInUse`` if they are of orders that make no such list.
        """
        first, second = _pair(instructions)
        ids = [one.get("client_order_id") for one in (first, second)]
        placed = [order for order in map(self.placed_before, ids) if order is not None]
        if not placed:
            return None
        list_id = placed[0].list_id
        listed = [order for order in self._exchange.orders if order.list_id == list_id]
        named = [order.client_order_id for order in listed]
        if list_id is None or len(listed) != 2 or named != ids:
            raise ClientOrderIdInUse(
                f"client_order_id {placed[0].client_order_id!r} is that of order {placed[0].id},"
                " which is not of such a pair; give other orders ids of their own",
                field="client_order_id",
                order_id=placed[0].id,
                different=["list_id"],
            )
        return listed[0], listed[1]

    def place_oco(
        self, placed: tuple[Order, Order] | None, instructions: Sequence[Instruction]
    ) -> tuple[Order, Order]:
        """Place a list of two orders, or return the one that was ``placed`` before."""
        exchange = self._exchange
        now = exchange.now if placed is None else placed[0].created_at
        first, second = (self._waiting(now, one) for one in instructions)
        if first.symbol != second.symbol:
            raise InvalidParameter("symbol", "must be the same in both orders")
        if first.side != second.side:
            raise InvalidParameter("side", "must be the same in both orders")
        if first.client_order_id is not None and first.client_order_id == second.client_order_id:
            raise InvalidParameter("client_order_id", "must not be the same in both orders")
        if placed is not None:
            for order, ticket in zip(placed, (first, second), strict=True):
                require_same_order(order, ticket)
            return placed
        list_id = len(exchange.orders) + 1
        trial = exchange.copy()
        for leg, ticket in enumerate((first, second)):
            try:
                trial.place(ticket, list_id=list_id)
            except SandboxError as refusal:
                told: SandboxError = refusal
                if isinstance(refusal, RiskLimitExceeded):
                    self._keep_name(ticket, list_id)
                    told = exchange.record_rejected(ticket, refusal)
                told.details["leg"] = leg
                raise told from None
        orders = [exchange.place(ticket, list_id=list_id) for ticket in (first, second)]
        for order in orders:
            self._keep_name(order.ticket, order.id)
        return orders[0], orders[1]

    def replace(
        self, order_id: Whole, price: object, trigger_price: object, quantity: object
    ) -> Order:
        """Replace a pending order by one with other numbers; see ``Session``."""
        exchange = self._exchange
        old = exchange.pending_order(order_id)
        ticket = replaced_ticket(old, price, trigger_price, quantity)
        try:
            exchange.copy().replace(old.id, ticket)
        except RiskLimitExceeded as refusal:
            raise exchange.record_rejected(ticket, refusal) from None
        new = exchange.replace(old.id, ticket)
        self._keep_name(ticket, new.id)
        return new

    def _waiting(self, now: int, instruction: Instruction) -> OrderTicket:
        """Parse an order of a list; its symbol is spelt as in the market."""
        exchange = self._exchange
        ticket = exchange.clearing.complete(parse_waiting(now, **instruction))
        symbol = exchange.market.candles_of(ticket.symbol).symbol
        return msgspec.structs.replace(ticket, symbol=symbol)

    def _keep_name(self, ticket: OrderTicket, order_id: int) -> None:
        if ticket.client_order_id is not None:
            self._client_orders[ticket.client_order_id] = order_id

    def trailing_trigger(self, order_id: Whole) -> Decimal | None:
        """Return where a trailing stop would trigger now; None before its activation, or its end."""
        exchange = self._exchange
        order = exchange.order(order_id)
        book = exchange.clearing.pending.books.get(order.symbol)
        if book is None or order.id not in book.trails:
            return None
        candles = exchange.market.candles_of(order.symbol)
        return exchange.watch.trailing_trigger(book, order, candles, exchange.now)

    def affordable(self, cash: Number, **buy: Unpack[Instruction]) -> Decimal:
        """Return the quantity that a buy now gets for at most ``cash``; see ``Session``."""
        ticket = parse_request(self._exchange.now, **buy)
        most = parse_positive("cash", cash, AMOUNT_PLACES)
        return self._exchange.quotes.affordable(ticket, most, self._exchange.now)


def _pair(instructions: Sequence[Instruction]) -> tuple[Instruction, Instruction]:
    if isinstance(instructions, str | Mapping) or len(instructions) != 2:
        raise InvalidParameter("orders", "must be a list of two orders")
    return instructions[0], instructions[1]
