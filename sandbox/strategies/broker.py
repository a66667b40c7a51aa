"""The broker of a strategy: places its orders and records its signals."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any, Literal

import msgspec

from candlestep.sandbox.errors import (
    InsufficientBalance,
    InvalidParameter,
    InvalidState,
    RiskLimitExceeded,
)
from candlestep.sandbox.exchange.orders import Order
from candlestep.sandbox.money import (
    HUNDRED,
    MAXIMUM,
    PRICE_PLACES,
    ZERO,
    add,
    multiply,
    rounded,
    rounded_share,
)
from candlestep.sandbox.session import Session
from candlestep.sandbox.strategies.card import Guard, Size

Action = Literal["buy", "sell", "cancel"]

_REFUSALS = (InsufficientBalance, RiskLimitExceeded, InvalidState)
_PRICING = ("type", "price", "trigger_price")


class Signal(msgspec.Struct, frozen=True):
    """A decision of a strategy to buy, to sell, or to cancel an order."""

    time: int
    """Time of the decision, in milliseconds."""
    symbol: str
    action: Action
    order_id: int | None
    """The order that was placed or cancelled; None if it was refused."""
    refused: str | None = None
    """The code of the refusal, such as ``INSUFFICIENT_BALANCE``."""


class Broker:
    """Places the orders of a strategy in a session."""

    def __init__(self, session: Session, symbols: int, *, is_lenient: bool) -> None:
        """Trade in ``session`` for a strategy over ``symbols`` symbols.

        With ``is_lenient`` an invalid order (its amount rounds to zero) is refused like any
        other; without, ``InvalidParameter`` is raised.
        """
        self.session = session
        self._refusals = (*_REFUSALS, InvalidParameter) if is_lenient else _REFUSALS
        self.signals: list[Signal] = []
        self._symbols = Decimal(symbols)

    def held(self, symbol: str) -> Decimal:
        """Return the quantity held of ``symbol``."""
        holding = self.session.account.open_holdings.get(symbol)
        return ZERO if holding is None else holding.quantity

    def budget(self, size: Size) -> Decimal | None:
        """Return the cash that ``size`` amounts to now, costs included; None if it is a quantity."""
        if size.quote is not None:
            return Decimal(size.quote)
        if size.equity_share is None:
            return None
        equity = self.session.portfolio().total_equity
        share = rounded_share(equity, Decimal(size.equity_share), self._symbols)
        return min(share, self.session.account.available_cash)

    def buy(self, symbol: str, size: Size, **order: Any) -> Order | None:
        """Buy the amount of ``size``; return None if that buys nothing, or is refused."""
        cash = self.budget(size)
        if cash is not None:
            return self.spend(symbol, cash, **order)
        assert size.quantity is not None
        return self.place(symbol, "buy", Decimal(size.quantity), **order)

    def spend(self, symbol: str, cash: Decimal, **order: Any) -> Order | None:
        """Buy for at most ``cash``; return None if that buys nothing, or is refused."""
        prices = {name: order[name] for name in _PRICING if name in order}
        # An account may have grown beyond the largest amount that one order can spend.
        cash = min(cash, MAXIMUM)
        quantity = self.session.affordable(symbol=symbol, cash=cash, **prices) if cash else ZERO
        if not quantity:
            self.refuse(symbol, "buy", InsufficientBalance.code)
            return None
        return self.place(symbol, "buy", quantity, **order)

    def place(
        self, symbol: str, side: Literal["buy", "sell"], quantity: Any, **order: Any
    ) -> Order | None:
        """Place an order, at the market unless ``order`` has a type; return None if refused."""
        order.setdefault("type", "market")
        return self._attempt(
            symbol,
            side,
            lambda: self.session.place_order(symbol=symbol, side=side, quantity=quantity, **order),
        )

    def refuse(self, symbol: str, action: Action, code: str) -> None:
        """Record a decision that could not be carried out."""
        self._record(symbol, action, None, code)

    def cancel(self, order_id: Any) -> Order | None:
        """Cancel a pending order; return None if it is no longer pending."""
        symbol = self.session.order(order_id).symbol
        return self._attempt(symbol, "cancel", lambda: self.session.cancel_order(order_id))

    def guard(
        self, bought: Order, stop_loss: Guard | Decimal | None, take_profit: Guard | Decimal | None
    ) -> None:
        """Guard the quantity of a market buy by up to two orders; if one fills, the other is cancelled.

        Each is at a price, or at a percentage from the fill price. They are part of the decision to
        buy, so only a refusal of theirs is a signal of its own.
        """
        group = f"guard-{bought.id}" if stop_loss and take_profit else None
        for type, guard in (("stop_loss", stop_loss), ("take_profit", take_profit)):
            if guard is None:
                continue
            price = _guard_price(bought, guard, -1 if type == "stop_loss" else 1)
            try:
                self.session.place_order(
                    symbol=bought.symbol,
                    side="sell",
                    type=type,
                    quantity=bought.quantity,
                    trigger_price=price,
                    oco_group=group,
                )
            except self._refusals as refusal:
                self._record(bought.symbol, "sell", None, refusal.code)

    def _attempt(self, symbol: str, action: Action, send: Callable[[], Order]) -> Order | None:
        try:
            order = send()
        except self._refusals as refusal:
            self._record(symbol, action, None, refusal.code)
            return None
        self._record(symbol, action, order.id, None)
        return order

    def _record(
        self, symbol: str, action: Action, order_id: int | None, refused: str | None
    ) -> None:
        self.signals.append(Signal(self.session.time, symbol, action, order_id, refused))


def _guard_price(bought: Order, guard: Guard | Decimal, direction: int) -> Decimal:
    if isinstance(guard, Decimal):
        return guard
    assert bought.fill is not None, "a market order fills at once"
    percent = multiply(Decimal(direction), Decimal(guard.percent))
    hundredth = multiply(bought.fill.price, Decimal("0.01"))
    return rounded(multiply(hundredth, add(HUNDRED, percent)), PRICE_PLACES)
