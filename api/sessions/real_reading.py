"""The real reading of a blind session: its trades under the names, times and prices that were real."""

from decimal import Decimal
from typing import Any

import msgspec

from candlestep.api.sessions.blind import HiddenMarket
from candlestep.data.records.sessions import SessionRecord
from candlestep.sandbox import Fill, FundingPayment, Liquidation, Market, Order, Snapshot
from candlestep.sandbox.money import AMOUNT_PLACES, decimal_of, multiply, rounded_ratio


class RealReading:
    """The real names, times and prices of a blind session that has ended."""

    def __init__(self, record: SessionRecord, hidden: HiddenMarket, part: Market) -> None:
        """Take the stored session, and exactly the candles that it could read."""
        disguise = hidden.disguise(record.pairs, record.start_time)
        self.hidden = hidden
        self.names = disguise.real_names
        self.market = part
        """The real candles that the session could read, in disguise."""
        self.shift = None if hidden.variant == "bootstrap" else disguise.shift
        """The ms by which times were shown later; None where each day has moved by itself."""
        masks = part.masks(disguise)
        self._masks = {shown: masks[real] for shown, real in self.names.items() if real in masks}

    def symbol(self, shown: str) -> str:
        """Return the real symbol behind a name; any other text unchanged."""
        return self.names.get(shown, shown)

    def time(self, time: int) -> int:
        """Return the real time, in ms, that was shown as ``time``."""
        return next(iter(self._masks.values())).real_time(time)

    def price(self, shown: str, time: int, price: Decimal) -> Decimal:
        """Return the real price that was shown as ``price``, to 8 significant digits."""
        return decimal_of(self._masks[shown].real_price(time, float(price)))

    def quantity(self, quantity: Decimal, shown: Decimal, real: Decimal) -> Decimal:
        """Return the quantity that is worth as much at a real price as it was at the shown one."""
        return rounded_ratio(multiply(quantity, shown), real, AMOUNT_PLACES)

    def rate(self, rate: Decimal) -> Decimal:
        """Return the real rate of funding that was shown as ``rate``."""
        return rate.copy_negate() if rate and self.hidden.variant == "mirror" else rate

    def fill(self, fill: Fill) -> Fill:
        """Return a fill as it would have been in the real market; its amounts stay."""
        price = self.price(fill.symbol, fill.time, fill.price)
        closed = fill.closed_quantity
        if closed is not None:
            closed = self.quantity(closed, fill.price, price)
        return msgspec.structs.replace(
            fill,
            symbol=self.symbol(fill.symbol),
            price=price,
            quantity=self.quantity(fill.quantity, fill.price, price),
            closed_quantity=closed,
            time=self.time(fill.time),
        )

    def payment(self, payment: FundingPayment) -> FundingPayment:
        """Return a payment of funding as it would have been, at the real rate; its amounts stay."""
        mark = self.price(payment.symbol, payment.time, payment.mark_price)
        return msgspec.structs.replace(
            payment,
            symbol=self.symbol(payment.symbol),
            rate=self.rate(payment.rate),
            mark_price=mark,
            quantity=self.quantity(payment.quantity, payment.mark_price, mark),
            time=self.time(payment.time),
        )

    def liquidation(self, liquidation: Liquidation) -> Liquidation:
        """Return a liquidation as it would have been in the real market; its amounts stay."""
        symbol, time, price = liquidation.symbol, liquidation.time, liquidation.price
        real = self.price(symbol, time, price)
        return msgspec.structs.replace(
            liquidation,
            symbol=self.symbol(symbol),
            quantity=self.quantity(liquidation.quantity, price, real),
            mark_price=self.price(symbol, time, liquidation.mark_price),
            price=real,
            time=self.time(time),
        )

    def snapshot(self, snapshot: Snapshot) -> Snapshot:
        """Return a snapshot of equity at its real time; its amounts stay."""
        return msgspec.structs.replace(snapshot, time=self.time(snapshot.time))

    def order(self, order: Order) -> Order:
        """Return an order as it would have stood in the real market, with what a chart shows of it."""
        changes: dict[str, Any] = {"symbol": self.symbol(order.symbol)}
        for name in ("price", "trigger_price"):
            shown = getattr(order, name)
            if shown is not None:
                real = self.price(order.symbol, order.created_at, shown)
                changes[name] = real
                changes["quantity"] = self.quantity(order.quantity, shown, real)
        for name in ("created_at", "closed_at", "triggered_at"):
            time = getattr(order, name)
            changes[name] = None if time is None else self.time(time)
        return msgspec.structs.replace(order, **changes)
