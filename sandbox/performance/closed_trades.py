"""Closed trades, derived from the fills of a session."""

from collections.abc import Iterable
from decimal import Decimal

import msgspec

from candlestep.sandbox.exchange.orders import Fill, Side
from candlestep.sandbox.market.frames import Table
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
    cost is ``entry_price * quantity``, both at 8 places before the entry price is rounded. For a
    short it is ``cost - proceeds - fee``. Funding is not part of a trade.
    """

    fill_id: int
    symbol: str
    side: Side
    """Side of the entry: ``buy`` for a long, ``sell`` for a short."""
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
    """A position while it is open; the quantity of a short is not negative."""

    since: int
    side: Side
    quantity: Decimal = ZERO
    notional: Decimal = ZERO
    fees: Decimal = ZERO
    """Fees of the entry."""

    def add(self, quantity: Decimal, notional: Decimal, fee: Decimal) -> None:
        """Add to the position."""
        self.quantity = add(self.quantity, quantity)
        self.notional = add(self.notional, notional)
        self.fees = add(self.fees, fee)

    def take(self, quantity: Decimal) -> tuple[Decimal, Decimal]:
        """Take a part out of the position; return its share of notional and fees."""
        notional, fees = self.notional, self.fees
        if quantity != self.quantity:
            notional = rounded_share(notional, quantity, self.quantity)
            fees = rounded_share(fees, quantity, self.quantity)
        self.quantity = subtract(self.quantity, quantity)
        self.notional = subtract(self.notional, notional)
        self.fees = subtract(self.fees, fees)
        return notional, fees


def closed_trades(fills: Iterable[Fill]) -> Table[ClosedTrade]:
    """Return the closed trades among all ``fills`` of a session, in order. Linear."""
    positions: dict[str, _OpenPosition] = {}
    trades = Table(ClosedTrade)
    for fill in fills:
        closed = fill.quantity if fill.side == "sell" else ZERO
        if fill.closed_quantity is not None:
            closed = fill.closed_quantity
        share = _share(fill, closed)
        if closed:
            position = positions[fill.symbol]
            trades.append(_close(position, fill, closed, *share))
            if not position.quantity:
                del positions[fill.symbol]
        if closed != fill.quantity:
            opened = positions.setdefault(fill.symbol, _OpenPosition(fill.time, fill.side))
            opened.add(
                subtract(fill.quantity, closed),
                subtract(fill.quote_amount, share[0]),
                subtract(fill.fee, share[1]),
            )
    return trades


def _share(fill: Fill, closed: Decimal) -> tuple[Decimal, Decimal]:
    """Return the share of a fill's amount and of its fee that belongs to what it closes."""
    if closed == fill.quantity:
        return fill.quote_amount, fill.fee
    amounts = (fill.quote_amount, fill.fee)
    amount, fee = (rounded_share(part, closed, fill.quantity) for part in amounts)
    return amount, fee


def _close(
    position: _OpenPosition, fill: Fill, closed: Decimal, amount: Decimal, fee: Decimal
) -> ClosedTrade:
    """Return the trade that ``fill`` closes, and reduce ``position`` by it."""
    assert fill.realized_pnl is not None, "what closes a position realizes PnL"
    entry_price = rounded_ratio(position.notional, position.quantity, PRICE_PLACES)
    notional, entry_fee = position.take(closed)
    if fill.closed_pnl is None:
        # The cost by the account, so that the parts add up to its PnL to the last digit.
        pnl = fill.realized_pnl
        cost = subtract(subtract(amount, fee), pnl)
        entry_fee = subtract(cost, notional)
    else:
        pnl = subtract(subtract(fill.closed_pnl, fee), entry_fee)
        cost = add(notional, entry_fee)
    return ClosedTrade(
        fill_id=fill.id,
        symbol=fill.symbol,
        side=position.side,
        quantity=closed,
        entry_time=position.since,
        entry_price=entry_price,
        exit_time=fill.time,
        exit_price=fill.price,
        pnl=pnl,
        fee=add(entry_fee, fee),
        return_pct=percentage(pnl, cost) if cost else None,
    )
