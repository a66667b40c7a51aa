"""The reports to an agent after its steps."""

from decimal import Decimal

import msgspec

from candlestep.sandbox.clock import Clock, format_time
from candlestep.sandbox.exchange.account import Portfolio
from candlestep.sandbox.exchange.clearing import Liquidation
from candlestep.sandbox.exchange.exchange import Exchange
from candlestep.sandbox.exchange.margin.funding import FundingPayment
from candlestep.sandbox.exchange.orders import Order
from candlestep.sandbox.market.price_table import Prices
from candlestep.sandbox.money import format_decimal, rounded_ratio


class Step(msgspec.Struct, frozen=True):
    """The report to an agent after a step; times in milliseconds."""

    time: int
    step: int
    total_steps: int
    prices: Prices
    """Price of every symbol that has one, as a mapping that looks them up when they are read."""
    orders_filled: tuple[Order, ...]
    """Orders that filled during this step."""
    orders_closed: tuple[Order, ...]
    """Orders cancelled, rejected or expired since the last step."""
    portfolio: Portfolio
    is_complete: bool
    steps_executed: int
    """Number of steps that this report covers."""
    funding: tuple[FundingPayment, ...] = ()
    """Funding paid or received since the last step, in a session on perpetuals."""
    liquidations: tuple[Liquidation, ...] = ()
    """Positions liquidated since the last step."""

    @property
    def remaining_steps(self) -> int:
        """Number of steps to the end of the session."""
        return self.total_steps - self.step

    @property
    def progress_pct(self) -> Decimal:
        """Share of the steps that are done, in percent at 2 places."""
        return rounded_ratio(Decimal(self.step * 100), Decimal(self.total_steps), 2)

    def __repr__(self) -> str:
        return (
            f"Step({self.step} of {self.total_steps} at {format_time(self.time)}, equity"
            f" {format_decimal(self.portfolio.total_equity)}, {len(self.orders_filled)} filled,"
            f" {len(self.orders_closed)} closed{', complete' if self.is_complete else ''})"
        )


class StepReports:
    """The reports of a session, each of what has happened since the one before."""

    def __init__(self) -> None:
        self._closed = 0
        self._payments = 0
        self._liquidations = 0

    def next(
        self,
        exchange: Exchange,
        clock: Clock,
        step: int,
        status: str,
        reported_fills: int,
        steps_executed: int,
    ) -> Step:
        """Report on ``step``, with the fills from ``reported_fills`` on."""
        filled: tuple[Order, ...] = ()
        if len(exchange.fills) > reported_fills:
            filled = tuple(
                exchange.orders[fill.order_id - 1] for fill in exchange.fills[reported_fills:]
            )
        closed: tuple[Order, ...] = ()
        if len(exchange.closed) > self._closed:
            closed = tuple(exchange.closed[self._closed :])
            self._closed = len(exchange.closed)
        clearing = exchange.clearing
        funding: tuple[FundingPayment, ...] = ()
        if len(clearing.payments) > self._payments:
            funding = tuple(clearing.payments[self._payments :])
            self._payments = len(clearing.payments)
        liquidations: tuple[Liquidation, ...] = ()
        if len(clearing.liquidations) > self._liquidations:
            liquidations = tuple(clearing.liquidations[self._liquidations :])
            self._liquidations = len(clearing.liquidations)
        prices = Prices(exchange.market.price_table, exchange.now)
        return Step(
            exchange.now,
            step,
            clock.total_steps,
            prices,
            filled,
            closed,
            clearing.portfolio(prices, exchange.now),
            status != "running",
            steps_executed,
            funding,
            liquidations,
        )
