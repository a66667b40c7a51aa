"""Clearing: what an account may do, what its fills change, and what it is worth.

``Exchange`` matches orders and lets time pass. It asks the clearing of its account, chosen once,
whether an order is admitted and how a fill is booked: ``SpotClearing`` or ``MarginClearing``.
"""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Literal, NamedTuple, Protocol, get_args

import msgspec

from candlestep.sandbox.exchange.account import Ledger, Portfolio
from candlestep.sandbox.exchange.book import PendingOrders
from candlestep.sandbox.exchange.costs.costs import Cost, Terms
from candlestep.sandbox.exchange.events import Event, EventQueue
from candlestep.sandbox.exchange.history import AccountHistory
from candlestep.sandbox.exchange.margin.funding import FundingPayment
from candlestep.sandbox.exchange.orders import Order, OrderTicket, Side
from candlestep.sandbox.exchange.path import Execution
from candlestep.sandbox.exchange.risk import Exposure
from candlestep.sandbox.market.candles import Candles


class Admission(msgspec.Struct, frozen=True, gc=False):
    """An order that may be placed, with what it locks while it is pending."""

    order: Order
    cost: Decimal | None
    """Amount that a risk profile limits, in quote currency; None for an order it never refuses."""


class Booking(msgspec.Struct, frozen=True, gc=False):
    """The PnL and the quantity that a fill closed; None where it closed nothing."""

    realized_pnl: Decimal | None
    closed_pnl: Decimal | None = None
    closed_quantity: Decimal | None = None


class ForcedClose(NamedTuple):
    """A position that has to be closed now, and the pending orders to cancel before."""

    ticket: OrderTicket
    terms: Terms
    cancelled: Iterable[Order]


MarginMode = Literal["cross", "isolated"]
MARGIN_MODES: tuple[MarginMode, ...] = get_args(MarginMode)


class Liquidation(msgspec.Struct, frozen=True, gc=False):
    """A position that was closed because its margin did not suffice; amounts in quote currency."""

    order_id: int
    symbol: str
    side: Side
    """Side of the order that closed it: ``sell`` for a long."""
    quantity: Decimal
    mark_price: Decimal
    """Mark price at that moment."""
    price: Decimal
    closed_pnl: Decimal
    loss: Decimal
    """Loss of the account: the negative closed PnL and the fee, less what the insurance paid."""
    fee: Decimal
    insurance: Decimal
    margin_mode: MarginMode
    time: int


class Clearing(Protocol):
    """The rules of one account. ``now`` is the virtual clock in milliseconds."""

    pending: PendingOrders
    events: EventQueue
    history: AccountHistory
    payments: list[FundingPayment]
    """All funding paid and received."""
    liquidations: list[Liquidation]
    """All positions closed by force."""
    is_sized_by_notional: bool
    """True if the amount of an order in quote currency is its notional, without costs."""
    nothing_left: str
    """Reason to reject a reduce-only order that finds nothing to close at its trigger."""

    @property
    def account(self) -> Ledger:
        """The ledger; do not change it."""

    def copy(self) -> "Clearing":
        """Return an independent copy, with copies of all that changes."""

    def complete(self, ticket: OrderTicket) -> OrderTicket:
        """Return ``ticket`` with the defaults of the account; raises ``InvalidParameter``."""

    def admit_at_once(self, order: Order, terms: Terms, now: int) -> Admission:
        """Admit an order that would fill now, or raise the error that refuses it."""

    def admit_pending(self, order: Order, candles: Candles, now: int) -> Admission:
        """Admit an order that waits for its trigger, or raise the error that refuses it."""

    def spendable(self, symbol: str, now: int) -> Decimal:
        """Return the cash that an order in ``symbol`` may take to open a position."""

    def most_to_open(
        self, ticket: OrderTicket, cash: Decimal, base_price: Decimal, now: int
    ) -> Decimal:
        """Return a quantity at ``base_price`` that ``cash`` opens at most, without costs."""

    def cost_to_open(self, ticket: OrderTicket, quantity: Decimal, cost: Cost, now: int) -> Decimal:
        """Return what the fill of ``ticket`` at ``cost`` takes of what is spendable."""

    def exposure(self, order: Order, cost: Decimal, now: int) -> Exposure:
        """Return what the limits of a risk profile compare."""

    def lock(self, order: Order) -> None:
        """Lock what an order needs that has become pending."""

    def release(self, order: Order) -> None:
        """Release what an order locked that is no longer pending."""

    def executable(self, order: Order) -> Decimal:
        """Return the quantity of a pending order that may execute at its trigger; may be 0."""

    def objection(self, order: Order, terms: Terms, now: int) -> str | None:
        """Return the reason to reject an order at its trigger; None if it may fill."""

    def book(self, order: Order, terms: Terms, now: int) -> Booking:
        """Book a fill."""

    def without_position(self, order: Order) -> list[Order]:
        """Return the reduce-only orders whose position a fill of ``order`` has closed."""

    def closing_tickets(self) -> list[OrderTicket]:
        """Return the market orders that close every position, by symbol."""

    def portfolio(self, prices: Mapping[str, Decimal], now: int) -> Portfolio:
        """Return the account at ``prices``."""

    def equity(self, now: int) -> Decimal:
        """Return what the account is worth."""

    def arm(self, now: int) -> None:
        """Add the events of what may happen next to the positions that have changed."""

    def continues_search(self, until: int) -> bool:
        """Take the first event if nothing but a search goes on at it; return whether that is so."""

    def begin_instant(self, time: int) -> None:
        """Begin an instant, and add the candles complete at it that positions must see."""

    def is_due(self, event: Event) -> bool:
        """Return whether a position has to see the candle of a completion."""

    def begin_candle(self, symbol: str, index: int) -> None:
        """Begin the path of a complete candle."""

    def next_forced_close(self, execution: Execution | None, now: int) -> ForcedClose | None:
        """Return the next position to close on the path before ``execution``, or before its end."""

    def pay_funding(self, event: Event) -> None:
        """Settle the funding that ``event`` announces, if there is a position."""

    def end_instant(self) -> None:
        """End an instant: all of its candles and payments are done."""
