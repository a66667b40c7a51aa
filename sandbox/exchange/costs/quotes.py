"""Quotes: the terms on which an order would trade now, and the quantity that an amount pays for."""

from collections.abc import Callable, Mapping
from copy import copy
from decimal import Decimal

import msgspec

from candlestep.sandbox.errors import InvalidParameter
from candlestep.sandbox.exchange.clearing import Clearing
from candlestep.sandbox.exchange.costs.costs import (
    Cost,
    Costs,
    Terms,
    cost_at,
    fills_at_once,
    quantity_to_raise,
)
from candlestep.sandbox.exchange.costs.fees import TradedVolume
from candlestep.sandbox.exchange.instruments import NO_FILTERS, Instrument
from candlestep.sandbox.exchange.orders import Fill, Order, OrderTicket
from candlestep.sandbox.market.candles import Candles
from candlestep.sandbox.market.market import Market
from candlestep.sandbox.money import (
    AMOUNT_PLACES,
    AMOUNT_UNIT,
    MAXIMUM,
    ZERO,
    add,
    ratio_up_to,
    rounded_ratio,
    rounded_share,
    subtract,
)

CostToOpen = Callable[[OrderTicket, Decimal, Cost, int], Decimal]


class Quotes:
    """The quotes of one account; its fees depend on the fills so far."""

    def __init__(
        self,
        market: Market,
        costs: Costs,
        instruments: Mapping[str, Instrument],
        clearing: Clearing,
        fills: list[Fill],
    ) -> None:
        """Quote to the account of ``clearing`` after ``fills``, a list that grows."""
        self.costs = costs
        self.instruments = {
            symbol: instrument
            for symbol, instrument in instruments.items()
            if instrument.filters != NO_FILTERS
        }
        """Those with filters, by symbol."""
        self._market = market
        self._fills = fills
        self._traded = TradedVolume()
        self._clearing = clearing

    def copy(self, clearing: Clearing, fills: list[Fill]) -> "Quotes":
        """Return an independent copy that quotes to ``clearing`` after ``fills``."""
        copied = copy(self)
        copied._clearing = clearing
        copied._fills = fills
        copied._traded = copy(self._traded)
        return copied

    def fee_rate(self, symbol: str, now: int, *, is_maker: bool) -> Decimal:
        """Return the fee rate of a fill at ``now``."""
        fees = self.costs.fees
        volume = self._traded.at(now, self._fills) if fees.counts_volume else ZERO
        return fees.rate(symbol, now, volume, is_maker=is_maker)

    def at_once(self, ticket: OrderTicket, price: Decimal, candles: Candles, now: int) -> Terms:
        """Return the terms of an order that fills at ``now``, when the price is ``price``."""
        fee_rate = self.fee_rate(ticket.symbol, now, is_maker=False)
        return self.costs.terms_at_once(ticket, price, fee_rate, candles, now)

    def affordable(self, ticket: OrderTicket, cash: Decimal, now: int) -> Decimal:
        """Return the quantity at which ``ticket`` would take at most ``cash`` to open; may be 0.

        Where slippage grows with the quantity, it is computed for the slightly larger order that
        ``cash`` would open without costs, so a little cash may be left over. Raises
        ``InvalidParameter`` for a sell on spot.
        """
        candles = self._market.candles_of(ticket.symbol)
        symbol = candles.symbol
        if ticket.symbol != symbol:
            ticket = msgspec.structs.replace(ticket, symbol=symbol)
        price = candles.price(now) or self._market.price(symbol, now)
        if fills_at_once(ticket, price):
            return self.affordable_at_once(ticket, cash, price, candles, now).quantity
        base_price = _order_of(ticket).value_price
        largest = self._largest(ticket, cash, base_price, now)
        unit_price = self.costs.price_to_lock(_order_of(largest), candles, now)
        fee_rate = self.costs.fees.highest(symbol)
        return self._part_within(cash, largest, base_price, unit_price, fee_rate, now)[0]

    def affordable_at_once(
        self, ticket: OrderTicket, cash: Decimal, price: Decimal, candles: Candles, now: int
    ) -> Terms:
        """Return the terms on which ``ticket`` fills ``now`` for at most ``cash``.

        The quantity is that of ``affordable``, whatever that of ``ticket`` is.
        """
        largest = self._largest(ticket, cash, price, now)
        unit_price, slippage = self.costs.price_at_once(largest, price, candles, now)
        fee_rate = self.fee_rate(ticket.symbol, now, is_maker=False)
        quantity, cost = self._part_within(cash, largest, price, unit_price, fee_rate, now)
        if self.costs.model == "volume":  # A smaller order slips less.
            part = msgspec.structs.replace(ticket, quantity=quantity)
            return self.costs.terms_at_once(part, price, fee_rate, candles, now)
        return Terms(quantity, unit_price, slippage, cost)

    def _largest(
        self, ticket: OrderTicket, cash: Decimal, base_price: Decimal, now: int
    ) -> OrderTicket:
        """Return ``ticket`` with the quantity that ``cash`` would open without costs."""
        most = self._clearing.most_to_open(ticket, cash, base_price, now)
        return msgspec.structs.replace(ticket, quantity=min(most, MAXIMUM))

    def _part_within(
        self,
        cash: Decimal,
        largest: OrderTicket,
        base_price: Decimal,
        unit_price: Decimal,
        fee_rate: Decimal,
        now: int,
    ) -> tuple[Decimal, Cost]:
        """Return the part of an order at ``unit_price`` that takes at most ``cash``, and its cost.

        The part may be 0. Its cost is at most that part of the cost of all. ``base_price``, the
        price before slippage, converts cash spent in excess into a quantity.
        """
        cost_to_open: CostToOpen = self._clearing.cost_to_open
        if largest.side == "sell" and self.costs.model == "volume":
            # A smaller order may sell at a better price, of which the margin of a short is taken.
            cost_to_open = self._highest_cost_to_open(base_price, fee_rate)
        quantity = largest.quantity
        cost = cost_at(quantity, unit_price, fee_rate)
        taken = cost_to_open(largest, quantity, cost, now)
        if taken > cash:
            quantity = rounded_share(cash, quantity, taken)
            cost = cost_at(quantity, unit_price, fee_rate)
        while quantity > ZERO and (taken := cost_to_open(largest, quantity, cost, now)) > cash:
            # The excess comes from roundings: less than a unit of each, in money and in quantity.
            excess = rounded_ratio(subtract(taken, cash), base_price, AMOUNT_PLACES)
            quantity = subtract(quantity, add(excess, AMOUNT_UNIT))
            cost = cost_at(quantity, unit_price, fee_rate)
        part = max(quantity, ZERO)
        instrument = self.instruments.get(largest.symbol)
        if instrument is not None:
            part = instrument.quantity_up_to(part, base_price)
        return part, cost if part is quantity else cost_at(part, unit_price, fee_rate)

    def _highest_cost_to_open(self, base_price: Decimal, fee_rate: Decimal) -> CostToOpen:
        """Return ``Clearing.cost_to_open``, or what it is at ``base_price`` if that is more."""
        cost_to_open = self._clearing.cost_to_open

        def highest(ticket: OrderTicket, quantity: Decimal, cost: Cost, now: int) -> Decimal:
            at_base = cost_at(quantity, base_price, fee_rate)
            return max(
                cost_to_open(ticket, quantity, cost, now),
                cost_to_open(ticket, quantity, at_base, now),
            )

        return highest

    def sized(self, ticket: OrderTicket, price: Decimal, candles: Candles, now: int) -> OrderTicket:
        """Return a market order with the quantity that its ``quote_amount`` pays for.

        Raises ``InvalidParameter`` if that is none.
        """
        amount = ticket.quote_amount
        assert amount is not None, "only an order by amount is sized"
        if self._clearing.is_sized_by_notional:
            quantity = self._quantity_worth(ticket.symbol, amount, price)
        elif ticket.side == "buy":
            quantity = self.affordable(ticket, amount, now)
        else:
            quantity = self._quantity_to_raise(ticket, amount, price, candles, now)
        if not quantity:
            raise InvalidParameter(
                "quote_amount", f"{amount:f} pays for less than can be ordered; raise it"
            )
        return msgspec.structs.replace(ticket, quantity=quantity)

    def _quantity_worth(self, symbol: str, amount: Decimal, price: Decimal) -> Decimal:
        """Return the largest quantity that is worth at most ``amount``."""
        quantity = min(ratio_up_to(amount, price, AMOUNT_PLACES), MAXIMUM)
        instrument = self.instruments.get(symbol)
        return quantity if instrument is None else instrument.quantity_up_to(quantity, price)

    def _quantity_to_raise(
        self, ticket: OrderTicket, amount: Decimal, price: Decimal, candles: Candles, now: int
    ) -> Decimal:
        """Return the smallest quantity, in whole steps, whose sale now brings ``amount``."""
        instrument = self.instruments.get(ticket.symbol)
        step = None if instrument is None else instrument.filters.step_size

        def proceeds(quantity: Decimal) -> Decimal:
            sale = msgspec.structs.replace(ticket, quantity=quantity)
            return self.at_once(sale, price, candles, now).cost.from_sale

        return quantity_to_raise(amount, price, step or AMOUNT_UNIT, proceeds)


def _order_of(ticket: OrderTicket) -> Order:
    """Return the order that ``ticket`` would become, for what its terms are computed of."""
    return Order(0, 0, *msgspec.structs.astuple(ticket))
