"""Clearing of a spot account: what is bought is paid for, and what is sold is held."""

from collections.abc import Mapping
from copy import copy
from decimal import Decimal

import msgspec

from candlestep.sandbox.errors import InvalidParameter
from candlestep.sandbox.exchange.account import Account, Portfolio
from candlestep.sandbox.exchange.book import PendingOrders
from candlestep.sandbox.exchange.clearing import Admission, Booking, ForcedClose, Liquidation
from candlestep.sandbox.exchange.costs.costs import Cost, Costs, Terms, cost_at
from candlestep.sandbox.exchange.events import Event, EventQueue
from candlestep.sandbox.exchange.history import AccountHistory
from candlestep.sandbox.exchange.instructions import refuse_bracket
from candlestep.sandbox.exchange.margin.funding import FundingPayment
from candlestep.sandbox.exchange.orders import Order, OrderTicket
from candlestep.sandbox.exchange.path import Execution
from candlestep.sandbox.exchange.risk import Exposure
from candlestep.sandbox.market.candles import Candles
from candlestep.sandbox.market.market import Market
from candlestep.sandbox.money import AMOUNT_PLACES, ZERO, add, rounded_product, rounded_ratio, total


class SpotClearing:
    """The rules of a spot account; see ``Clearing``. Nothing of it happens by time alone."""

    is_sized_by_notional = False
    nothing_left = "nothing_to_sell"

    def __init__(
        self,
        market: Market,
        start: int,
        starting_balance: Decimal,
        costs: Costs,
        *,
        locking_stops: bool = False,
    ) -> None:
        """Open an account with ``starting_balance`` at ``start`` (ms), holding nothing.

        With ``locking_stops`` pending sells lock their quantity whatever their type.
        """
        self.account = Account(starting_balance)
        self.history = AccountHistory(start, self.account)
        self.pending = PendingOrders()
        self.events = EventQueue()
        self.payments: list[FundingPayment] = []
        self.liquidations: list[Liquidation] = []
        self._market = market
        self._costs = costs
        self._locking_stops = locking_stops

    def copy(self) -> "SpotClearing":
        """Return an independent copy; orders and candles are shared."""
        copied = copy(self)
        copied.account = self.account.copy()
        copied.history = self.history.copy()
        copied.pending = self.pending.copy()
        copied.events = self.events.copy()
        return copied

    def complete(self, ticket: OrderTicket) -> OrderTicket:
        """Return ``ticket`` as it is; raises ``InvalidParameter`` if it sets ``reduce_only``."""
        if ticket.reduce_only is not None:
            raise InvalidParameter(
                "reduce_only", "applies to perpetuals; leave it out in a spot session"
            )
        if ticket.side == "sell":
            refuse_bracket(ticket, "guards what a buy opens; place it as an order beside a sell")
        return ticket

    def admit_at_once(self, order: Order, terms: Terms, now: int) -> Admission:
        """Require the cash of a buy, or the quantity of a sell; raises ``InsufficientBalance``."""
        if order.side == "buy":
            cost = terms.cost.to_buy
            self.account.require_cash(order, cost)
            return Admission(order, cost)
        self.account.require_quantity(order, is_shared=False)
        return Admission(order, None)

    def admit_pending(self, order: Order, candles: Candles, now: int) -> Admission:
        """Require what an order locks, and store it on the order.

        That is the cost of a buy at its trigger, with the present slippage and the highest fee, or
        the quantity of a sell. Raises ``InsufficientBalance``.
        """
        if order.side == "buy":
            price = self._costs.price_to_lock(order, candles, now)
            fee_rate = self._costs.fees.highest(order.symbol)
            cost = cost_at(order.quantity, price, fee_rate).to_buy
            self.account.require_cash(order, cost)
            return Admission(msgspec.structs.replace(order, locked_cash=cost), cost)
        is_guard = order.is_protective and not self._locking_stops
        self.account.require_quantity(order, is_shared=is_guard)
        if not is_guard:
            order = msgspec.structs.replace(order, locked_quantity=order.quantity)
        return Admission(order, None)

    def spendable(self, symbol: str, now: int) -> Decimal:
        """Return the cash that is available."""
        return self.account.available_cash

    def most_to_open(
        self, ticket: OrderTicket, cash: Decimal, base_price: Decimal, now: int
    ) -> Decimal:
        """Return the quantity that ``cash`` buys; raises ``InvalidParameter`` for a sell."""
        if ticket.side == "sell":
            raise InvalidParameter("side", "must be buy: a spot session has no short positions")
        return rounded_ratio(cash, base_price, AMOUNT_PLACES)

    def cost_to_open(self, ticket: OrderTicket, quantity: Decimal, cost: Cost, now: int) -> Decimal:
        """Return what a buy pays."""
        return add(cost.quote_amount, cost.fee)  # As to_buy, without a call.

    def exposure(self, order: Order, cost: Decimal, now: int) -> Exposure:
        """Return the exposure of the account to a buy that costs ``cost``."""
        pending = self.pending.entry_value(order.symbol, "buy")
        return Exposure(
            order_cost=cost,
            available_cash=self.account.available_cash,
            symbol_value=add(self._held_value(order.symbol, now), pending),
            total_equity=self.equity(now),
        )

    def lock(self, order: Order) -> None:
        """Lock the cash or quantity that is stored on ``order``."""
        self.account.lock(order)

    def release(self, order: Order) -> None:
        """Release the cash or quantity that ``order`` locked."""
        self.account.release(order)

    def executable(self, order: Order) -> Decimal:
        """Return an order's quantity; of a protective sell, no more than is held and not locked."""
        if not order.is_protective:
            return order.quantity
        return min(order.quantity, self.account.sellable(order.symbol, order.group))

    def objection(self, order: Order, terms: Terms, now: int) -> str | None:
        """Return ``insufficient_balance`` if neither lock nor available cash cover a buy."""
        if order.side == "sell":
            return None
        payable = self.account.payable(order)
        return "insufficient_balance" if terms.cost.to_buy > payable else None

    def book(self, order: Order, terms: Terms, now: int) -> Booking:
        """Exchange cash and quantity; a sell realizes PnL."""
        if order.side == "buy":
            self.account.buy(order.symbol, terms.quantity, terms.cost)
            return _BOUGHT
        return Booking(self.account.sell(order.symbol, terms.quantity, terms.cost))

    def without_position(self, order: Order) -> list[Order]:
        """Return the protective sells of a position that a sell has closed."""
        if order.side == "buy" or order.symbol in self.account.open_holdings:
            return []
        return self.pending.protective(order.symbol)

    def closing_tickets(self) -> list[OrderTicket]:
        """Return the market sells of all that is held, by symbol."""
        holdings = self.account.open_holdings
        return [
            OrderTicket(symbol, "sell", "market", holdings[symbol].quantity)
            for symbol in sorted(holdings)
        ]

    def portfolio(self, prices: Mapping[str, Decimal], now: int) -> Portfolio:
        """Return the account valued at ``prices``."""
        return self.account.portfolio(prices)

    def equity(self, now: int) -> Decimal:
        """Return cash and the value of all that is held."""
        cash = (self.account.available_cash, self.account.locked_cash)
        values = [self._held_value(symbol, now) for symbol in self.account.open_holdings]
        return total([*cash, *values])

    def _held_value(self, symbol: str, now: int) -> Decimal:
        holding = self.account.open_holdings.get(symbol)
        if holding is None:
            return ZERO
        return rounded_product(holding.quantity, self._market.price(symbol, now))

    def arm(self, now: int) -> None:
        """Add nothing: what is held stays, whatever its price."""

    def continues_search(self, until: int) -> bool:
        """Return False: every event is one of orders."""
        return False

    def begin_instant(self, time: int) -> None:
        """Add nothing: no candle matters to what is held."""

    def is_due(self, event: Event) -> bool:
        """Return False: only orders see candles."""
        return False

    def begin_candle(self, symbol: str, index: int) -> None:
        """Do nothing: only orders see the path of a candle."""

    def next_forced_close(self, execution: Execution | None, now: int) -> ForcedClose | None:
        """Return None: nothing is ever closed by force."""
        return None

    def pay_funding(self, event: Event) -> None:
        """Do nothing: there is no funding."""

    def end_instant(self) -> None:
        """Do nothing."""


_BOUGHT = Booking(None)
