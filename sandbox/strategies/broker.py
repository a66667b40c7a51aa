"""The broker of a strategy: places its orders and records its signals."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any, Literal

import msgspec

from candlestep.sandbox.errors import (
    FilterViolated,
    InsufficientBalance,
    InvalidParameter,
    InvalidState,
    LeverageLimit,
    RiskLimitExceeded,
)
from candlestep.sandbox.exchange.orders import Order, Side
from candlestep.sandbox.money import (
    AMOUNT_PLACES,
    HUNDRED,
    MAXIMUM,
    PRICE_PLACES,
    ZERO,
    add,
    multiply,
    parse_positive,
    rounded,
    rounded_share,
    subtract,
)
from candlestep.sandbox.session import Session
from candlestep.sandbox.strategies.card import Guard, Size

Action = Literal["buy", "sell", "cancel"]

_REFUSALS = (
    InsufficientBalance,
    LeverageLimit,
    RiskLimitExceeded,
    InvalidState,
    FilterViolated,
)
_PRICING = ("type", "price", "trigger_price")
_PRICES = ("price", "trigger_price", "activation_price", "stop_loss", "take_profit")
"""The terms that are rounded to ticks."""


class Signal(msgspec.Struct, frozen=True):
    """A decision of a strategy to buy, to sell (what it holds, or short), or to cancel an order."""

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

    @property
    def is_margined(self) -> bool:
        """True if the session trades perpetuals."""
        return self.session.config.margin is not None

    def held(self, symbol: str) -> Decimal:
        """Return the quantity held of ``symbol``; that of a short is negative."""
        holding = self.session.account.open_holdings.get(symbol)
        return ZERO if holding is None else holding.quantity

    @property
    def has_positions(self) -> bool:
        """True if anything is held."""
        return bool(self.session.account.open_holdings)

    def budget(self, symbol: str, size: Size) -> Decimal | None:
        """Return the cash that ``size`` amounts to now, costs included; None if it is a quantity."""
        if size.quote is not None:
            return Decimal(size.quote)
        if size.equity_share is None:
            return None
        equity = self.session.portfolio().total_equity
        share = rounded_share(equity, Decimal(size.equity_share), self._symbols)
        return min(share, self.session.spendable(symbol))

    def enter(self, symbol: str, side: Side, size: Size, **order: Any) -> Order | None:
        """Buy, or sell short, the amount of ``size``; return None if that is nothing, or refused."""
        cash = self.budget(symbol, size)
        if cash is not None:
            return self.spend(symbol, side, cash, **order)
        assert size.quantity is not None
        return self.place(symbol, side, Decimal(size.quantity), **order)

    def spend(self, symbol: str, side: Side, cash: Decimal, **order: Any) -> Order | None:
        """Enter for at most ``cash``; return None if that is nothing, or refused."""
        prices = {name: order[name] for name in _PRICING if name in order}
        # An account may have grown beyond the largest amount that one order can spend.
        cash = min(cash, MAXIMUM)
        quantity = ZERO
        if cash:
            quantity = self.session.affordable(symbol=symbol, cash=cash, side=side, **prices)
        if not quantity:
            self.refuse(symbol, side, InsufficientBalance.code)
            return None
        return self.place(symbol, side, quantity, **order)

    def close(self, symbol: str) -> Order | None:
        """Close the position in ``symbol``, which must have one, at the market."""
        held = self.held(symbol)
        side: Side = "sell" if held > 0 else "buy"
        return self.place(symbol, side, held.copy_abs(), **self.reducing)

    @property
    def reducing(self) -> dict[str, Any]:
        """The terms by which an order closes a position and never opens one."""
        return {"reduce_only": True} if self.is_margined else {}

    def place(self, symbol: str, side: Side, quantity: Any, **order: Any) -> Order | None:
        """Place an order, at the market unless ``order`` has a type; return None if refused.

        Where the instrument has filters, a price is rounded to the nearest tick and a quantity down
        to a whole step.
        """
        order.setdefault("type", "market")
        return self._attempt(
            symbol,
            side,
            lambda: self._send(symbol=symbol, side=side, quantity=quantity, **order),
        )

    def refuse(self, symbol: str, action: Action, code: str) -> None:
        """Record a decision that could not be carried out."""
        self._record(symbol, action, None, code)

    def cancel(self, order_id: Any) -> Order | None:
        """Cancel a pending order; return None if it is no longer pending."""
        symbol = self.session.order(order_id).symbol
        return self._attempt(symbol, "cancel", lambda: self.session.cancel_order(order_id))

    def guard(
        self,
        entry: Order,
        stop_loss: Guard | Decimal | None,
        take_profit: Guard | Decimal | None,
        trailing_stop: Guard | None = None,
    ) -> None:
        """Guard what a market entry opened by up to three orders; one cancels the others.

        An entry that only closed a position of the other side has nothing to guard. A stop or target is at a price, or at a percentage from the fill price, a trailing stop at a
        percentage from the best price. They are part of the decision to enter, so only a refusal of
        theirs is a signal of its own.
        """
        guards = {"stop_loss": stop_loss, "take_profit": take_profit}
        terms: dict[str, dict[str, Any]] = {}
        for type, guard in guards.items():
            if guard is not None:
                is_above = (type == "take_profit") == (entry.side == "buy")
                price = _guard_price(entry, guard, 1 if is_above else -1)
                terms[type] = {"trigger_price": price}
        if trailing_stop is not None:
            terms["trailing_stop"] = {"trail_percent": trailing_stop.percent}
        group = f"guard-{entry.id}" if len(terms) > 1 else None
        side: Side = "sell" if entry.side == "buy" else "buy"
        opened = _opened(entry) if terms else ZERO
        if not opened:
            return
        for type, own in terms.items():
            order = {"side": side, "type": type, "quantity": opened, "oco_group": group}
            try:
                self._send(symbol=entry.symbol, **order, **own)
            except self._refusals as refusal:
                self._record(entry.symbol, side, None, refusal.code)

    def _send(self, symbol: str, quantity: Any, **order: Any) -> Order:
        instrument = self.session.config.instruments.get(symbol)
        if instrument is not None:
            exact = parse_positive("quantity", quantity, AMOUNT_PLACES)
            # A quantity below one step stays, to be refused by the name of the filter.
            quantity = instrument.whole_steps(exact) or exact
            for name in _PRICES:
                if order.get(name) is not None:
                    price = parse_positive(name, order[name], PRICE_PLACES)
                    order[name] = instrument.nearest_price(price)
        return self.session.place_order(symbol=symbol, quantity=quantity, **order)

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


def _opened(entry: Order) -> Decimal:
    """Return the part of an entry that opened a position, or added to one."""
    assert entry.fill is not None, "a market order fills at once"
    return subtract(entry.quantity, entry.fill.closed_quantity or ZERO)


def _guard_price(entry: Order, guard: Guard | Decimal, direction: int) -> Decimal:
    if isinstance(guard, Decimal):
        return guard
    assert entry.fill is not None, "a market order fills at once"
    percent = multiply(Decimal(direction), Decimal(guard.percent))
    hundredth = multiply(entry.fill.price, Decimal("0.01"))
    return rounded(multiply(hundredth, add(HUNDRED, percent)), PRICE_PLACES)
