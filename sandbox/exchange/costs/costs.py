"""The costs of a trade: slippage, the fee, and the terms that an order trades on with both."""

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Literal, get_args

import msgspec

from candlestep.sandbox.errors import InvalidParameter
from candlestep.sandbox.exchange.costs.fees import Fees
from candlestep.sandbox.exchange.orders import Order, OrderTicket, Side
from candlestep.sandbox.market.candles import Candles
from candlestep.sandbox.market.volumes import RecentVolume
from candlestep.sandbox.money import (
    AMOUNT_UNIT,
    MARKET,
    MAXIMUM,
    ONE,
    PRICE_PLACES,
    PRICE_UNIT,
    ZERO,
    add,
    format_bps,
    half_up,
    multiply,
    parse_bps,
    rounded,
    rounded_ratio,
    subtract,
    units_in,
)

SlippageModel = Literal["volume", "fixed_bps", "none"]

_MODELS: tuple[str, ...] = get_args(SlippageModel)
_LEAST_SLIPPAGE = Decimal("0.0001")
_SURELY_LEAST = Decimal("0.000099")
"""A fraction that is still less than ``_LEAST_SLIPPAGE`` when it is rounded."""
_MOST_SLIPPAGE = Decimal("0.1")
_VOLUME_COEFFICIENT = Decimal("0.1")
"""The slippage, as a fraction, of trading as much as one candle's average volume."""


class Cost(msgspec.Struct, frozen=True, gc=False):
    """``quantity * price`` and the fee on it, both in quote currency at 8 places."""

    quote_amount: Decimal
    fee: Decimal

    @property
    def to_buy(self) -> Decimal:
        """Cash that a buy pays."""
        return add(self.quote_amount, self.fee)

    @property
    def from_sale(self) -> Decimal:
        """Cash that a sell receives."""
        return subtract(self.quote_amount, self.fee)


class Terms(msgspec.Struct, frozen=True, gc=False):
    """Terms of an execution: the price after slippage, and the amount and fee."""

    quantity: Decimal
    price: Decimal
    slippage: Decimal
    cost: Cost


class Costs(msgspec.Struct, frozen=True):
    """The fees and the slippage model of a session."""

    fees: Fees
    model: SlippageModel
    fixed: Decimal = ZERO
    """Slippage of the ``fixed_bps`` model, as a fraction."""
    without_volume: frozenset[str] = frozenset()
    """Symbols whose volume is not usable: slippage by volume is the minimum."""

    @classmethod
    def parse(cls, fees: Fees, slippage: object, without_volume: Iterable[str] = ()) -> "Costs":
        """Combine ``fees`` with a parsed ``slippage`` such as ``{"model": "volume"}``.

        ``without_volume`` names the symbols whose volume is not usable.

        ``{"model": "fixed_bps", "bps": 5}`` makes every price worse by 5 hundredths of a percent.
        """
        if not isinstance(slippage, Mapping) or slippage.get("model") not in _MODELS:
            raise InvalidParameter(
                "slippage", f"must be an object whose model is one of {', '.join(_MODELS)}"
            )
        model = slippage["model"]
        parameters = {"model", "bps"} if model == "fixed_bps" else {"model"}
        if set(slippage) != parameters:
            raise InvalidParameter(
                "slippage", f"the model {model} takes exactly {', '.join(sorted(parameters))}"
            )
        if model != "fixed_bps":
            return cls(fees, model, without_volume=frozenset(without_volume))
        return cls(fees, model, parse_bps("slippage.bps", slippage["bps"]))

    def slippage_settings(self) -> dict[str, str]:
        """Return the argument ``slippage`` of ``SessionConfig`` for this model, as plain data."""
        if self.model != "fixed_bps":
            return {"model": self.model}
        return {"model": self.model, "bps": format_bps(self.fixed)}

    def slippage(self, quantity: Decimal, candles: Candles, stop: int, reference: int) -> Decimal:
        """Return the fraction by which trading ``quantity`` makes the price worse.

        The volume model is ``clamp(0.1 * quantity / average volume, 0.01 %, 10 %)``, the
        average being over the last 60 candles before index ``stop`` of the granularity of the
        candle ``reference``. A zero average gives the maximum; no such candle, or no volume of
        the symbol at all before ``stop``, or one that is not usable, gives the minimum.
        """
        if self.model != "volume":
            return self.fixed
        recent = self.recent_volume(candles, stop, reference)
        return _LEAST_SLIPPAGE if recent is None else _volume_slippage(quantity, recent)

    def recent_volume(self, candles: Candles, stop: int, reference: int) -> RecentVolume | None:
        """Return the volume that slippage depends on; None if it is the same for every order."""
        if self.model != "volume" or candles.symbol in self.without_volume:
            return None
        return candles.recent_volume(stop, candles.interval(reference))

    def is_capped(self, slippage: Decimal) -> bool:
        """Return whether a fill's slippage is the most that the volume model makes of any order."""
        return self.model == "volume" and slippage == _MOST_SLIPPAGE

    def slippage_now(self, quantity: Decimal, candles: Candles, now: int) -> Decimal:
        """Return the slippage of an order that trades at ``now``, between candles."""
        if self.model != "volume":
            return self.fixed
        last = candles.last_complete(now)
        return self.slippage(quantity, candles, last + 1, max(last, 0))

    def slippages_now(self, candles: Candles, now: int) -> Callable[[Decimal], Decimal]:
        """Return ``slippage_now`` as a function of the quantity, for many of them."""
        if self.model != "volume":
            return lambda quantity: self.fixed
        last = candles.last_complete(now)
        recent = self.recent_volume(candles, last + 1, max(last, 0))
        if recent is None:
            return lambda quantity: _LEAST_SLIPPAGE
        return lambda quantity: _volume_slippage(quantity, recent)

    def terms_at_once(
        self, ticket: OrderTicket, price: Decimal, fee_rate: Decimal, candles: Candles, now: int
    ) -> Terms:
        """Return the terms of an order that fills at once, never worse than its limit."""
        quantity = ticket.quantity
        fill_price, slippage = self.price_at_once(ticket, price, candles, now)
        return Terms(quantity, fill_price, slippage, cost_at(quantity, fill_price, fee_rate))

    def price_at_once(
        self, ticket: OrderTicket, price: Decimal, candles: Candles, now: int
    ) -> tuple[Decimal, Decimal]:
        """Return the price of an order that fills at once, and its slippage as a fraction."""
        slippage = self.fixed
        if self.model == "volume":
            slippage = self.slippage_now(ticket.quantity, candles, now)
        if ticket.price is None:
            return slipped(price, ticket.side, slippage), slippage
        return _slipped_within(price, ticket.side, slippage, ticket.price)

    def terms_at_trigger(
        self,
        order: Order,
        quantity: Decimal,
        base_price: Decimal,
        fee_rate: Decimal,
        candles: Candles,
        index: int,
    ) -> Terms:
        """Return the terms of a pending order that the candle at ``index`` triggers.

        A limit order gets ``base_price``; the other types get a price made worse by slippage, but
        never worse than their limit, if they have one.
        """
        if order.is_limit:
            price = rounded(base_price, PRICE_PLACES)
            return Terms(quantity, price, ZERO, cost_at(quantity, price, fee_rate))
        opened = int(candles.open_time[index])
        stop = candles.last_complete(opened) + 1
        slippage = self.slippage(quantity, candles, stop, index)
        price, slippage = _slipped_within(base_price, order.side, slippage, order.price)
        return Terms(quantity, price, slippage, cost_at(quantity, price, fee_rate))

    def price_to_lock(self, order: Order, candles: Candles, now: int) -> Decimal:
        """Return the price at which to lock cash for a pending buy.

        That is its limit, or its trigger, slipped ``now``.
        """
        if order.price is not None:
            return order.price
        slippage = self.slippage_now(order.quantity, candles, now)
        return slipped(order.trigger, order.side, slippage)


def cost_at(quantity: Decimal, price: Decimal, fee_rate: Decimal) -> Cost:
    """Return the cost of trading ``quantity`` at ``price`` for a fee of ``fee_rate``, a fraction."""
    # As rounded_product, without the calls: an order by amount is priced several times.
    quote_amount = half_up(multiply(quantity, price), AMOUNT_UNIT)
    return Cost(quote_amount, half_up(multiply(quote_amount, fee_rate), AMOUNT_UNIT))


def slipped(price: Decimal, side: Side, slippage: Decimal) -> Decimal:
    """Return ``price`` made worse by the fraction ``slippage``, at 16 places."""
    factor = add(ONE, slippage) if side == "buy" else subtract(ONE, slippage)
    return half_up(multiply(price, factor), PRICE_UNIT)


def _slipped_within(
    price: Decimal, side: Side, slippage: Decimal, limit: Decimal | None
) -> tuple[Decimal, Decimal]:
    """Return ``price`` made worse by ``slippage``, but not beyond ``limit``, and the fraction."""
    fill_price = slipped(price, side, slippage)
    if limit is None or not is_worse(fill_price, limit, side):
        return fill_price, slippage
    worse_by = MARKET.subtract(limit, price).copy_abs()
    return limit, rounded_ratio(worse_by, price, PRICE_PLACES)


def fills_at_once(ticket: OrderTicket, price: Decimal) -> bool:
    """Return whether an order is a market order, or a limit that ``price`` has reached already."""
    if ticket.type == "market":
        return True
    if ticket.type != "limit" or ticket.price is None:
        return False
    return not is_worse(price, ticket.price, ticket.side)


def quantity_to_raise(
    amount: Decimal, price: Decimal, step: Decimal, proceeds: Callable[[Decimal], Decimal]
) -> Decimal:
    """Return the smallest multiple of ``step`` whose sale brings ``amount``, at most ``MAXIMUM``.

    ``proceeds`` of a quantity are below its value at ``price``, and grow with it.
    """
    most = int(units_in(MAXIMUM, step))
    too_few = min(int(units_in(amount, MARKET.multiply(step, price))), most) - 1
    enough = too_few + 1
    while enough < most and proceeds(multiply(step, Decimal(enough))) < amount:
        too_few, enough = enough, min(2 * enough, most)
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        if proceeds(multiply(step, Decimal(middle))) < amount:
            too_few = middle
        else:
            enough = middle
    return multiply(step, Decimal(enough))


def is_worse(price: Decimal, limit: Decimal, side: Side) -> bool:
    """Return whether ``price`` is worse than ``limit`` for an order of ``side``."""
    return price > limit if side == "buy" else price < limit


def _volume_slippage(quantity: Decimal, recent: RecentVolume) -> Decimal:
    if not recent.total:
        return _MOST_SLIPPAGE
    # Multiplied by the candles, because the average is the total divided by them.
    scaled = multiply(multiply(quantity, Decimal(recent.candles)), _VOLUME_COEFFICIENT)
    if scaled < MARKET.multiply(recent.total, _SURELY_LEAST):
        return _LEAST_SLIPPAGE  # Most orders are so small; dividing is dear.
    share = rounded_ratio(scaled, recent.total, PRICE_PLACES)
    return min(max(share, _LEAST_SLIPPAGE), _MOST_SLIPPAGE)
