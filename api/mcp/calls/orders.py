"""The orders of ``act``: each is told in the words of tools, and becomes a native order.

A size may be an amount of cash or a share of equity. What the native order cannot say is resolved to
a quantity, by what the session says that it can buy, or by the price for a sale.
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec

from candlestep.api.mcp.arguments import OrderArguments
from candlestep.api.mcp.text import rounded_price
from candlestep.api.schemas.orders import OrderRequest, OrderResponse
from candlestep.data.symbols import normalise_symbol
from candlestep.sandbox import InsufficientBalance, InvalidParameter, MarginPosition, Session
from candlestep.sandbox.exchange.orders import OrderType, Side
from candlestep.sandbox.money import (
    AMOUNT_PLACES,
    HUNDRED,
    MAXIMUM,
    ONE,
    PRICE_PLACES,
    ZERO,
    add,
    format_decimal,
    multiply,
    parse_positive,
    rounded,
    rounded_down,
    rounded_share,
    subtract,
)


class Guard(NamedTuple):
    """An order that guards a position, at a distance from its entry in percent."""

    type: OrderType
    percent: Decimal


_GUARDS: dict[OrderType, str] = {"stop_loss": "stop_loss_pct", "take_profit": "take_profit_pct"}
"""The argument of each type of guard."""
_SIZES = ("quantity", "quote", "equity_share")
_NATIVE = ("price", "trigger_price", "oco_group", "client_order_id")


def has_plain_size(order: OrderArguments) -> bool:
    """Return whether the native order says its size as this one does, whatever comes before it."""
    return order.quantity is not None or (order.quote is not None and order.type == "market")


def entry_order(session: Session, order: OrderArguments, guards: Sequence[Guard]) -> OrderRequest:
    """Return the native order, with its size resolved as of now.

    A limit order takes its guards along: their distances are from its limit. Those of a market order
    are placed once its fill is known.
    """
    if guards and order.side == "sell" and session.config.market_type == "spot":
        raise InvalidParameter(_GUARDS[guards[0].type], "guards a position: give it with a buy")
    fields: dict[str, Any] = {name: getattr(order, name) for name in _NATIVE}
    if order.type == "limit" and guards:
        limit = parse_positive("price", order.price, PRICE_PLACES)
        instrument = session.instrument(order.symbol)
        for guard in guards:
            price = instrument.nearest_price(_guard_price(limit, order.side, guard))
            fields[guard.type] = format_decimal(price)
    return OrderRequest(
        symbol=order.symbol, side=order.side, type=order.type, **fields, **_size(session, order)
    )


def _size(session: Session, order: OrderArguments) -> dict[str, Any]:
    """Return the size of an order in the words of the native one."""
    if order.quantity is not None:
        return {"quantity": order.quantity}
    if has_plain_size(order):
        return {"quote_amount": order.quote}
    return {"quantity": _quantity(session, order)}


def guards_of(order: OrderArguments, within: str) -> list[Guard]:
    """Return the guards of an order; raises ``InvalidParameter`` for what cannot be placed.

    ``within`` is the path in front of the fields of the order.
    """
    if sum(getattr(order, name) is not None for name in _SIZES) != 1:
        raise InvalidParameter(
            f"{within}quantity", "give exactly one of quantity, quote and equity_share"
        )
    guards = []
    for type, name in _GUARDS.items():
        if getattr(order, name) is None:
            continue
        if order.type not in ("market", "limit"):
            raise InvalidParameter(
                within + name, f"guards what a market or limit order opens, not a {order.type}"
            )
        percent = parse_positive(within + name, getattr(order, name), AMOUNT_PLACES)
        if type == "stop_loss" and percent >= HUNDRED:
            raise InvalidParameter(within + name, "must be less than 100")
        guards.append(Guard(type, percent))
    return guards


def guard_requests(entry: OrderResponse, guards: Sequence[Guard]) -> list[OrderRequest]:
    """Return the orders that guard a filled entry; of two, the first to fill cancels the other."""
    assert entry.executed_price is not None, "a market order fills at once"
    fill = Decimal(entry.executed_price)
    return [
        OrderRequest(
            symbol=entry.symbol,
            side="sell" if entry.side == "buy" else "buy",
            type=guard.type,
            quantity=entry.quantity,
            trigger_price=format_decimal(_guard_price(fill, entry.side, guard)),
            oco_group=f"guard-{entry.id}" if len(guards) > 1 else None,
        )
        for guard in guards
    ]


def _guard_price(entry: Decimal, side: Side, guard: Guard) -> Decimal:
    """Return the trigger of the guard of an entry at this price."""
    falls = (guard.type == "stop_loss") == (side == "buy")
    share = subtract(HUNDRED, guard.percent) if falls else add(HUNDRED, guard.percent)
    hundredth = multiply(entry, Decimal("0.01"))
    return rounded_price(rounded(multiply(hundredth, share), PRICE_PLACES))


def guard_order(session: Session, guard: OrderRequest) -> OrderRequest:
    """Return the order of a guard, at a price that the instrument admits."""
    price = session.instrument(guard.symbol).nearest_price(Decimal(guard.trigger_price or 0))
    return msgspec.structs.replace(guard, trigger_price=format_decimal(price))


def _quantity(session: Session, order: OrderArguments) -> str:
    """Return the quantity that an amount of cash or a share of equity is now."""
    symbol = session.market.candles_of(normalise_symbol(order.symbol)).symbol
    holding = session.account.open_holdings.get(symbol)
    held = ZERO if holding is None else holding.quantity
    is_exit = bool(held) and (held > 0) == (order.side == "sell")
    cash = _budget(session, order, is_exit=is_exit)
    if is_exit or (order.side == "sell" and session.config.market_type == "spot"):
        if order.equity_share is not None:
            cash = multiply(cash, _leverage(session, symbol))
        quantity = _worth(session, symbol, order, cash)
        if order.equity_share is not None and held:
            quantity = min(quantity, abs(held))
    elif cash:
        prices: dict[str, Any] = {"price": order.price, "trigger_price": order.trigger_price}
        quantity = session.affordable(
            symbol=symbol, cash=min(cash, MAXIMUM), side=order.side, type=order.type, **prices
        )
    else:
        quantity = ZERO
    quantity = session.instrument(symbol).whole_steps(quantity)
    if not quantity:
        raise InsufficientBalance(
            f"{format_decimal(cash)} is worth nothing of {symbol} that could be traded; see account"
        )
    return format_decimal(quantity)


def _budget(session: Session, order: OrderArguments, *, is_exit: bool) -> Decimal:
    """Return the cash of an order: what it names, or its share of equity, as far as there is cash."""
    if order.quote is not None:
        return parse_positive("quote", order.quote, AMOUNT_PLACES)
    share = parse_positive("equity_share", order.equity_share, AMOUNT_PLACES)
    if share > 1:
        raise InvalidParameter("equity_share", "must be at most 1, which is all of the equity")
    portfolio = session.portfolio()
    cash = rounded_share(portfolio.total_equity, share, ONE)
    return cash if is_exit else min(cash, portfolio.available_cash)


def _leverage(session: Session, symbol: str) -> Decimal:
    """Return the leverage of a position: a share of equity is the margin of that much more."""
    for position in session.positions():
        if position.symbol == symbol and isinstance(position, MarginPosition):
            return position.leverage
    return ONE


def _worth(session: Session, symbol: str, order: OrderArguments, cash: Decimal) -> Decimal:
    """Return the quantity that is worth ``cash`` at the order's price."""
    price = session.price(symbol)
    for name in ("price", "trigger_price"):
        if getattr(order, name) is not None:
            price = parse_positive(name, getattr(order, name), PRICE_PLACES)
    return rounded_down(Decimal(cash / price), AMOUNT_PLACES)
