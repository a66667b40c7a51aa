"""Funding: when positions pay or receive it, and what."""

from collections.abc import Mapping
from copy import copy
from decimal import Decimal
from typing import Literal

import msgspec

from candlestep.sandbox.clock import format_time
from candlestep.sandbox.errors import NoPrice
from candlestep.sandbox.exchange.events import FUNDING, Event
from candlestep.sandbox.market.funding import FundingRates, FundingRow
from candlestep.sandbox.market.market import Market
from candlestep.sandbox.money import rounded_product

MarkSource = Literal["row", "mark", "last"]


class FundingPayment(msgspec.Struct, frozen=True, gc=False):
    """A settlement of funding on a position. ``id`` counts from 1 within a session."""

    id: int
    symbol: str
    rate: Decimal
    """Fraction of the notional that a long pays and a short receives if it is positive."""
    mark_price: Decimal
    mark_source: MarkSource
    """``row``: the settlement's own mark price; ``mark``: the close of a mark candle complete at
    its time; ``last``: the price."""
    quantity: Decimal
    """Quantity held then; negative for a short."""
    notional: Decimal
    """``|quantity| * mark_price`` at 8 places."""
    amount: Decimal
    """Amount received, in quote currency; negative if it was paid."""
    time: int


class FundingSchedule:
    """The settlements of a session's symbols, and the next one of each symbol with a position."""

    def __init__(self, rates: Mapping[str, FundingRates], end: int) -> None:
        """Take the rates by symbol, and the end of the session in ms; later rows never settle."""
        self._rates = rates
        self._end = end
        self._next: dict[str, int] = {}

    def copy(self) -> "FundingSchedule":
        """Return an independent copy; rates are shared."""
        copied = copy(self)
        copied._next = self._next.copy()
        return copied

    def arm(self, symbol: str, after: int) -> Event | None:
        """Return the event of the first settlement later than ``after``, unless it is known."""
        rates = self._rates.get(symbol)
        if rates is None:
            return None
        return self._event(rates, rates.first_after(after))

    def arm_next(self, event: Event) -> Event | None:
        """Return the event of the settlement after that of ``event``."""
        return self._event(self._rates[event.symbol], event.subject + 1)

    def take(self, event: Event) -> FundingRow | None:
        """Return the row of ``event``; None if it is no longer the next one of its symbol."""
        if self._next.get(event.symbol) != event.subject:
            return None
        del self._next[event.symbol]
        return self._rates[event.symbol].row(event.subject)

    def _event(self, rates: FundingRates, row: int) -> Event | None:
        if row >= len(rates) or self._next.get(rates.symbol) == row:
            return None
        time = int(rates.time[row])
        if time > self._end:
            return None
        self._next[rates.symbol] = row
        return Event(time, FUNDING, symbol=rates.symbol, subject=row)


def session_rates(
    market: Market, start: int, end: int, default_rate: float | None
) -> dict[str, FundingRates]:
    """Return the rates that a session settles, by symbol; missing rows have ``default_rate``.

    Raises ``NoPrice`` naming symbol and time if a row is missing and there is no default.
    """
    rates = {}
    for symbol in market.symbols:
        candles = market.candles_of(symbol)
        given = market.funding_of(symbol) or FundingRates.empty(symbol)
        holes = given.holes(start, end, candles.complete_time_of(-1))
        if len(holes) and default_rate is None:
            time = format_time(int(holes[0]))
            raise NoPrice(
                f"{symbol} has no funding rate at {time} ({len(holes)} are missing in the session);"
                " import its funding, set funding_rate_default to a rate such as 0.0001, or set"
                " funding to false",
                symbol=symbol,
                time=time,
                missing=len(holes),
            )
        rates[symbol] = given if default_rate is None else given.filled(holes, default_rate)
    return rates


def mark_of(
    market: Market, symbol: str, row: FundingRow, *, uses_marks: bool
) -> tuple[Decimal, MarkSource]:
    """Return the mark price of a settlement, and where it is from.

    It is that of the row, else the close of a mark candle complete exactly then, else the price.
    """
    if row.mark is not None:
        return row.mark, "row"
    marks = market.marks_of(symbol) if uses_marks else None
    if marks is not None:
        index = marks.last_complete(row.time)
        if index >= 0 and marks.complete_time_of(index) == row.time:
            return marks.candle(index).close, "mark"
    return market.price(symbol, row.time), "last"


def payment(quantity: Decimal, notional: Decimal, rate: Decimal) -> Decimal:
    """Return what the account receives: ``-sign * round8(notional * rate)``."""
    amount = rounded_product(notional, rate)
    return amount.copy_negate() if quantity > 0 else amount
