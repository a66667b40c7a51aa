"""Risk: the three limits of an agent, checked on every buy when it is placed."""

from collections.abc import Callable
from decimal import Decimal

import msgspec

from candlestep.sandbox.clock import DAY
from candlestep.sandbox.exchange.history import AccountHistory
from candlestep.sandbox.market.market import Market
from candlestep.sandbox.money import (
    AMOUNT_PLACES,
    HUNDRED,
    ZERO,
    add,
    multiply,
    parse_share,
    rounded_share,
    subtract,
)


class RiskProfile(msgspec.Struct, frozen=True):
    """Limits in percent, from 0 to 100 at 8 places; None sets no limit.

    Each may be given as text or a number; raises ``InvalidParameter`` naming the limit.
    """

    max_order_size_pct: Decimal | None = None
    """Largest cost of one order, in percent of available cash."""
    max_position_size_pct: Decimal | None = None
    """Largest value of a position, pending buys included, in percent of total equity."""
    daily_loss_limit_pct: Decimal | None = None
    """Largest net loss realized in a UTC day, in percent of the equity at its start."""

    def __post_init__(self) -> None:
        for limit in self.__struct_fields__:
            value = getattr(self, limit)
            if value is not None:
                percent = parse_share(limit, value, AMOUNT_PLACES, 100)
                msgspec.structs.force_setattr(self, limit, percent)


class Exposure(msgspec.Struct, frozen=True):
    """The exposure of an account to a buy, in quote currency."""

    order_cost: Decimal
    available_cash: Decimal
    symbol_value: Decimal
    """Value held of the symbol, and its pending buys at their triggers."""
    total_equity: Decimal
    realized_today: Decimal


class Breach(msgspec.Struct, frozen=True):
    """A limit that refuses a buy, with the amounts allowed and attempted, in quote currency."""

    limit: str
    percent: Decimal
    allowed: Decimal
    attempted: Decimal


class TradingDay:
    """The current UTC day of an account: the equity at its start, and the PnL realized since.

    Call ``begin`` before realizing any PnL.
    """

    def __init__(self, now: int, equity: Decimal) -> None:
        """Begin the day of ``now`` (ms) with ``equity``."""
        self._day = now // DAY
        self._realized_before = ZERO
        self._known_equity: tuple[int, Decimal] = (self._day, equity)

    def begin(self, now: int, realized_pnl: Decimal) -> None:
        """Begin the day of ``now``, if it is a new one, with the PnL realized before it."""
        day = now // DAY
        if day != self._day:
            self._day = day
            self._realized_before = realized_pnl

    def realized(self, realized_pnl: Decimal) -> Decimal:
        """Return the part of ``realized_pnl`` that was realized in this day."""
        return subtract(realized_pnl, self._realized_before)

    def equity_at_start(self, history: AccountHistory, market: Market) -> Decimal:
        """Return the equity at midnight, before its events; the starting balance on the first day."""
        day, equity = self._known_equity
        if day != self._day:
            equity = history.equity_before(market, self._day * DAY)
            self._known_equity = (self._day, equity)
        return equity


def first_breach(
    profile: RiskProfile, exposure: Exposure, equity_at_day_start: Callable[[], Decimal]
) -> Breach | None:
    """Return the first limit that the buy would exceed, or None.

    ``equity_at_day_start`` is called only if the profile limits the daily loss, and there is one.
    """
    exposed = add(exposure.symbol_value, exposure.order_cost)
    loss = exposure.realized_today.copy_negate()
    limits: tuple[tuple[str, Decimal, Callable[[], Decimal]], ...] = (
        ("max_order_size_pct", exposure.order_cost, lambda: exposure.available_cash),
        ("max_position_size_pct", exposed, lambda: exposure.total_equity),
        ("daily_loss_limit_pct", loss, equity_at_day_start),
    )
    for limit, attempted, base in limits:
        percent: Decimal | None = getattr(profile, limit)
        if percent is None or attempted <= 0:
            continue
        whole = base()
        if multiply(attempted, HUNDRED) > multiply(percent, whole):
            return Breach(limit, percent, rounded_share(whole, percent, HUNDRED), attempted)
    return None
