"""Closed trades, derived from the fills of a session."""

from collections.abc import Iterable
from decimal import Decimal

import msgspec

from candlestep.sandbox.exchange.orders import Fill, Side
from candlestep.sandbox.money import (
    PRICE_PLACES,
    ZERO,
    add,
    percentage,
    rounded_ratio,
    rounded_share,
    subtract,
)


class ClosedTrade(msgspec.Struct, frozen=True):
    """A fill that reduces a position, with the entry that it closes. Exactly:

    ``pnl == proceeds - cost - fee``, where proceeds are the fill's ``quantity * price`` and the
    cost is ``entry_price * quantity``, both at 8 places before the entry price is rounded.
    """

    fill_id: int
    symbol: str
    side: Side
    """Side of the entry: ``buy`` for a position that was bought."""
    quantity: Decimal
    entry_time: int
    """Time at which the position was opened, in milliseconds."""
    entry_price: Decimal
    """Average price of the entry without fees, at 16 places."""
    exit_time: int
    exit_price: Decimal
    pnl: Decimal
    """PnL that the fill realized, after all fees."""
    fee: Decimal
    """Fee of the fill, plus this quantity's share of the fees paid at entry."""
    return_pct: Decimal | None
    """``pnl`` in percent of the cost of the quantity, entry fees included, at 8 places; None if
    that cost rounds to zero."""


class _OpenPosition(msgspec.Struct):
    """A position while it is open."""

    since: int
    quantity: Decimal = ZERO
    notional: Decimal = ZERO


def closed_trades(fills: Iterable[Fill]) -> list[ClosedTrade]:
    """Return the closed trades among all ``fills`` of a session, in order. Linear."""
    positions: dict[str, _OpenPosition] = {}
    trades = []
    for fill in fills:
        if fill.side == "buy":
            position = positions.setdefault(fill.symbol, _OpenPosition(fill.time))
            position.quantity = add(position.quantity, fill.quantity)
            position.notional = add(position.notional, fill.quote_amount)
            continue
        position = positions[fill.symbol]
        trades.append(_close(position, fill))
        if not position.quantity:
            del positions[fill.symbol]
    return trades


def _close(position: _OpenPosition, fill: Fill) -> ClosedTrade:
    """Return the trade that ``fill`` closes, and reduce ``position`` by it."""
    assert fill.realized_pnl is not None, "a sell realizes PnL"
    entry_price = rounded_ratio(position.notional, position.quantity, PRICE_PLACES)
    # The cost by the account, so that the parts add up to its PnL to the last digit.
    cost = subtract(subtract(fill.quote_amount, fill.fee), fill.realized_pnl)
    notional = position.notional
    if fill.quantity != position.quantity:
        notional = rounded_share(position.notional, fill.quantity, position.quantity)
    entry_fee = subtract(cost, notional)
    position.quantity = subtract(position.quantity, fill.quantity)
    position.notional = subtract(position.notional, notional)
    return ClosedTrade(
        fill_id=fill.id,
        symbol=fill.symbol,
        side="buy",
        quantity=fill.quantity,
        entry_time=position.since,
        entry_price=entry_price,
        exit_time=fill.time,
        exit_price=fill.price,
        pnl=fill.realized_pnl,
        fee=add(entry_fee, fill.fee),
        return_pct=percentage(fill.realized_pnl, cost) if cost else None,
    )
