"""Weights as orders of a session: on spot by the rules of ``exchange.batch``, one account at a time."""

from collections.abc import Sequence
from copy import copy
from decimal import ROUND_HALF_UP, Context, Decimal
from functools import lru_cache
from typing import Any, NamedTuple

from candlestep.sandbox.errors import (
    InsufficientMargin,
    InvalidParameter,
    LeverageLimit,
    RiskLimitExceeded,
)
from candlestep.sandbox.exchange.batch.batch import OrderRules
from candlestep.sandbox.exchange.batch.book import Bracket
from candlestep.sandbox.exchange.batch.guards import MILLION, TRIGGER_DIGITS
from candlestep.sandbox.exchange.costs.costs import Terms
from candlestep.sandbox.exchange.margin.commands import require_margin
from candlestep.sandbox.exchange.orders import Order, OrderTicket, OrderType, Side
from candlestep.sandbox.money import (
    AMOUNT_PLACES,
    AMOUNT_UNIT,
    EXACT,
    MARKET,
    MAXIMUM,
    PRICE_PLACES,
    ZERO,
    add,
    multiply,
    ratio_from,
    rounded_product,
    rounded_ratio,
    subtract,
)
from candlestep.sandbox.session import Session
from candlestep.sandbox.step import Step

_MILLIONTH = Decimal("0.000001")
UNITS = Decimal(10**AMOUNT_PLACES)
"""Units of 1e-8 in 1: ``int(multiply(amount, UNITS))`` is an amount in them, without a call."""
_ROUNDING = Context(prec=400)
_GUARD_KINDS: tuple[OrderType, OrderType] = ("stop_loss", "take_profit")


class Trader:
    """An agent that asks a session for weights, and guards what it buys.

    Everything it does is orders of the exchange: ``session`` has them all, and can be replayed.
    """

    def __init__(self, session: Session, symbols: Sequence[str], rules: OrderRules) -> None:
        self._bind(session)
        self._candles = {symbol: session.market.candles_of(symbol) for symbol in symbols}
        self.time = session.time
        self.portfolio = session.portfolio()
        """The account as of the last step, before any order since."""
        self.weights = [0] * len(symbols)
        """The last weight asked for of each symbol, in millionths; 0 after a stop or a target."""
        self._symbols = list(symbols)
        self._rules = rules
        self._guards: dict[str, list[int]] = {}
        self.fees = 0.0
        """The fees of the session up to the last step, in units of 1e-8."""
        self.fills = 0
        """The number of its fills up to the last step."""

    def _bind(self, session: Session) -> None:
        self.session = session
        # The checks of Session.place_order are of values that come from outside, and take a third
        # of its time: these orders are made here, checked.
        self._exchange = session._exchange
        self._account = self._exchange.account

    def __deepcopy__(self, memo: dict[int, Any]) -> "Trader":
        """Return an independent copy, on a fork of the session."""
        copied = copy(self)
        copied._bind(self.session.fork())
        copied.weights = self.weights.copy()
        copied._guards = {symbol: guards.copy() for symbol, guards in self._guards.items()}
        return copied

    def trade(self, weights: Sequence[int], brackets: Sequence[Bracket] = ()) -> None:
        """Trade to ``weights`` now, sells before buys; see ``Batch.trade``.

        ``brackets`` has the bracket of each symbol, if what is bought is guarded.
        """
        is_always, lasts = self._rules.is_always, self.weights
        if weights == lasts and not is_always:
            return
        self.weights = asked = list(weights)
        if len(asked) > 1 and (total := sum(asked)) > MILLION:
            weights = [weight * MILLION // total for weight in asked]
        buys = []
        portfolio = self.portfolio
        held = list(portfolio.prices)
        for number, symbol in enumerate(self._symbols):
            if asked[number] == lasts[number] and not is_always:
                continue
            weight = weights[number]
            value = portfolio.values[held.index(symbol)] if symbol in held else ZERO
            gap = subtract(share_of(portfolio.total_equity, weight), value)
            if self._rules.min_trade and weight and self._is_small(gap):
                continue
            if gap < ZERO:
                self._sell(symbol, gap.copy_negate(), is_all=not weight)
            elif gap > ZERO:
                buys.append((symbol, gap, brackets[number] if brackets else None))
        for symbol, gap, bracket in buys:
            self._buy(symbol, gap, bracket)

    def advance(self) -> Step:
        """Let one step pass."""
        step = self.session.step()
        self.time, self.portfolio = step.time, step.portfolio
        for order in step.orders_filled:
            self.weights[self._symbols.index(order.symbol)] = 0
        fills = self._exchange.fills
        while self.fills < len(fills):
            self.fees += int(multiply(fills[self.fills].fee, UNITS))
            self.fills += 1
        return step

    def _is_small(self, gap: Decimal) -> bool:
        least = multiply(self.portfolio.total_equity, Decimal(self._rules.min_trade))
        return multiply(gap.copy_abs(), Decimal(MILLION)) < least

    def _sell(self, symbol: str, gap: Decimal, *, is_all: bool) -> None:
        quantity, price = self._account.holding(symbol).quantity, self.portfolio.prices[symbol]
        if not is_all:
            quantity = min(rounded_ratio(gap, price, AMOUNT_PLACES), quantity)
        if quantity:
            exchange = self._exchange
            ticket = OrderTicket(symbol, "sell", "market", quantity)
            candles = self._candles[symbol]
            self._execute(ticket, exchange.quotes.at_once(ticket, price, candles, exchange.now))

    def _buy(self, symbol: str, gap: Decimal, bracket: Bracket | None) -> None:
        budget = min(self._account.available_cash, gap)
        if not budget:
            return
        now, candles = self._exchange.now, self._candles[symbol]
        price = self.portfolio.prices.get(symbol) or candles.price(now)
        assert price is not None, "episodes begin after the first candle"
        ticket = OrderTicket(symbol, "buy", "market", AMOUNT_UNIT)
        terms = self._exchange.quotes.affordable_at_once(ticket, budget, price, candles, now)
        if terms.quantity:
            ticket = OrderTicket(symbol, "buy", "market", terms.quantity)
            order = self._execute(ticket, terms)
            if order is not None and bracket is not None:
                self._guard(order, bracket)

    def _execute(self, ticket: OrderTicket, terms: Terms) -> Order | None:
        """Fill a market order; None if its amount rounds to nothing or a risk limit refuses it."""
        if not terms.cost.quote_amount:
            return None
        try:
            return self._exchange.execute(ticket, terms)
        except RiskLimitExceeded:
            return None

    def _guard(self, order: Order, bracket: Bracket) -> None:
        """Replace the guards of a position that ``order`` has increased."""
        session, symbol = self.session, order.symbol
        for guard in self._guards.get(symbol, ()):
            if session.order(guard).status == "pending":
                session.cancel_order(guard)
        assert order.fill is not None, "a market order fills at once"
        held = self._account.holding(symbol).quantity
        stop_loss, take_profit = bracket
        factors = (stop_loss and MILLION - stop_loss, take_profit and MILLION + take_profit)
        placed = [
            self._wait(symbol, kind, held, trigger_price(order.fill.price, factor))
            for kind, factor in zip(_GUARD_KINDS, factors, strict=True)
            if factor
        ]
        self._guards[symbol] = [guard.id for guard in placed if guard is not None]

    def _wait(
        self, symbol: str, type: OrderType, quantity: Decimal, trigger: Decimal
    ) -> Order | None:
        """Place a guard; None if it, its amount or its trigger rounds to nothing."""
        if not quantity or not trigger:
            return None
        group = f"guards of {symbol}"
        ticket = OrderTicket(symbol, "sell", type, quantity, None, trigger, None, group)
        try:
            return self._exchange.place(ticket)
        except InvalidParameter as refusal:
            if refusal.details["field"] != "quantity":
                raise
            return None


class Change(NamedTuple):
    """The quantity of one symbol that is to be traded."""

    symbol: str
    side: Side
    quantity: Decimal
    reducible: Decimal
    """The part that only closes the position."""


class MarginTrader(Trader):
    """An agent that asks a session on perpetuals for weights, negative ones for shorts."""

    def __init__(
        self, session: Session, symbols: Sequence[str], rules: OrderRules, most_weight: int
    ) -> None:
        """Trade for ``session``; absolute weights add up to at most ``most_weight``, in millionths."""
        super().__init__(session, symbols, rules)
        self._most_weight = most_weight

    def _bind(self, session: Session) -> None:
        super()._bind(session)
        self._clearing = require_margin(self._exchange.clearing, "trade perpetuals")

    def trade(self, weights: Sequence[int], brackets: Sequence[Bracket] = ()) -> None:
        """Trade to ``weights`` now: first what only reduces, then the rest, by symbol.

        A position that one of these orders has liquidated is left closed, with a last weight of 0.
        """
        is_always, lasts = self._rules.is_always, self.weights
        self.weights = asked = list(weights)
        values = dict(zip(self.portfolio.prices, self.portfolio.values, strict=True))
        changes = [
            change
            for symbol, weight, last, within in zip(
                self._symbols, asked, lasts, self._within(asked), strict=True
            )
            if is_always or weight != last
            if (change := self._change(symbol, values.get(symbol, ZERO), within)) is not None
        ]
        changes.sort(key=lambda change: change.quantity > change.reducible)
        liquidations = self._clearing.liquidations
        before = len(liquidations)
        for change in changes:
            if change.symbol not in [closed.symbol for closed in liquidations[before:]]:
                self._carry_out(change)
        for closed in liquidations[before:]:
            asked[self._symbols.index(closed.symbol)] = 0

    def _within(self, weights: list[int]) -> list[int]:
        """Scale weights down, towards 0, that add up to more than is possible."""
        total = sum(map(abs, weights))
        if total <= self._most_weight:
            return weights
        sizes = [abs(weight) * self._most_weight // total for weight in weights]
        return [size if weight > 0 else -size for size, weight in zip(sizes, weights, strict=True)]

    def _change(self, symbol: str, value: Decimal, weight: int) -> Change | None:
        """Return the trade from the present ``value`` of a position to ``weight``; None if none."""
        held = self.session.account.holding(symbol).quantity
        size = held.copy_abs()
        if not weight:
            return Change(symbol, "sell" if held > 0 else "buy", size, size) if held else None
        target = share_of(self.portfolio.total_equity, abs(weight))
        gap = subtract(target if weight > 0 else target.copy_negate(), value)
        if not gap or (self._rules.min_trade and self._is_small(gap)):
            return None
        price = self._clearing.marks.price(symbol, self.session.time)
        quantity = rounded_ratio(gap.copy_abs(), price, AMOUNT_PLACES)
        is_opposite = held > 0 if gap < 0 else held < 0
        if is_opposite and gap.copy_abs() <= value.copy_abs():
            quantity = min(quantity, size)
        reducible = min(quantity, size) if is_opposite else ZERO
        return Change(symbol, "buy" if gap > 0 else "sell", quantity, reducible)

    def _carry_out(self, change: Change) -> None:
        """Place the order of a change, made smaller until its margin suffices."""
        symbol, side, quantity, reducible = change
        while quantity > reducible:
            try:
                self._place(symbol, side, quantity, reduce_only=False)
            except (InsufficientMargin, LeverageLimit) as refusal:
                quantity = subtract(quantity, self._excess(symbol, refusal))
            else:
                return
        if reducible:
            self._place(symbol, side, reducible, reduce_only=True)

    def _excess(self, symbol: str, refusal: InsufficientMargin | LeverageLimit) -> Decimal:
        """Return by how much an order was at least too large; all of it if that is not known."""
        details = refusal.details
        if isinstance(refusal, LeverageLimit):
            notional = subtract(details["attempted"], details["allowed"])
        else:
            missing = subtract(details["required"], details["available"])
            notional = multiply(missing, self._clearing.account.terms[symbol].leverage)
        if notional <= 0:
            return MAXIMUM
        price = self._clearing.marks.price(symbol, self.session.time)
        return add(ratio_from(notional, price, AMOUNT_PLACES), AMOUNT_UNIT)

    def _place(self, symbol: str, side: Side, quantity: Decimal, *, reduce_only: bool) -> None:
        """Place a market order; skip it if its amount rounds to nothing or a risk limit refuses it."""
        ticket = OrderTicket(symbol, side, "market", quantity, reduce_only=reduce_only)
        try:
            self._exchange.place(ticket)
        except RiskLimitExceeded:
            return
        except InvalidParameter as refusal:
            if refusal.details["field"] != "quantity":
                raise


def units(amount: Decimal) -> float:
    """Return an amount in units of 1e-8, as the float that is nearest to the whole number."""
    return float(int(multiply(amount, UNITS)))


def trigger_price(fill_price: Decimal, millionths: int) -> Decimal:
    """Return ``fill_price * millionths / 10 ** 6`` to 8 significant digits of the fill price.

    Rounded half up; to at most 16 places, and to whole units at the most.
    """
    places = min(max(TRIGGER_DIGITS - 1 - fill_price.adjusted(), 0), PRICE_PLACES)
    product = MARKET.multiply(fill_price, EXACT.scaleb(Decimal(millionths), -6))
    return product.quantize(Decimal(1).scaleb(-places), rounding=ROUND_HALF_UP, context=_ROUNDING)


def share_of(equity: Decimal, weight: int) -> Decimal:
    """Return ``equity * weight / 10 ** 6``, half up."""
    if not weight or weight == MILLION:
        return equity if weight else ZERO
    return rounded_product(equity, _share(weight))


@lru_cache(maxsize=1024)
def _share(weight: int) -> Decimal:
    return multiply(Decimal(weight), _MILLIONTH)
