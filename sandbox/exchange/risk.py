"""Risk: the three limits of an agent, checked when an order is placed that adds to a position.

On spot that is every buy, on perpetuals what opens or increases a position on either side.
"""

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, ClassVar

import msgspec

from candlestep.sandbox.clock import DAY
from candlestep.sandbox.errors import RiskLimitExceeded
from candlestep.sandbox.exchange.history import AccountHistory
from candlestep.sandbox.exchange.margin.tiers import HIGHEST_LEVERAGE
from candlestep.sandbox.market.market import Market
from candlestep.sandbox.money import (
    AMOUNT_PLACES,
    EXACT,
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

    most_percent: ClassVar[int] = 100

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
                percent = parse_share(limit, value, AMOUNT_PLACES, self.most_percent)
                msgspec.structs.force_setattr(self, limit, percent)


class LeveragedRiskProfile(RiskProfile, frozen=True):
    """Limits for perpetuals: of the notional that orders open, up to 100 times the highest leverage.

    An order is compared with the available balance, a position and the pending entries of its side
    with equity.
    """

    most_percent: ClassVar[int] = 100 * HIGHEST_LEVERAGE


def risk_profile_of(market_type: str, limits: Mapping[str, Any]) -> RiskProfile:
    """Return the limits of a session on ``spot`` or ``perp``; raises ``InvalidParameter``."""
    kind = RiskProfile if market_type == "spot" else LeveragedRiskProfile
    return kind(**limits)


class Exposure(msgspec.Struct, frozen=True):
    """The exposure of an account to an order that adds to it, in quote currency."""

    order_cost: Decimal
    available_cash: Decimal
    symbol_value: Decimal
    """Value held of the symbol on the order's side, and pending entries of that side at their
    triggers."""
    total_equity: Decimal


class Breach(msgspec.Struct, frozen=True):
    """A limit that refuses an order, with the amounts allowed and attempted, in quote currency."""

    limit: str
    percent: Decimal
    allowed: Decimal
    attempted: Decimal

    @classmethod
    def of(cls, refusal: RiskLimitExceeded, profile: RiskProfile) -> "Breach":
        """Return the breach that an error names."""
        limit, details = refusal.details["limit"], refusal.details
        return cls(limit, getattr(profile, limit), details["allowed"], details["attempted"])

    def refusal(self, order_id: int) -> RiskLimitExceeded:
        """Return the error that names the limit and the rejected order."""
        return RiskLimitExceeded(
            f"{self.limit} is {EXACT.normalize(self.percent):f} %, which allows"
            f" {self.allowed:f}; the order comes to {self.attempted:f}. It is recorded as"
            f" rejected order {order_id}",
            limit=self.limit,
            allowed=self.allowed,
            attempted=self.attempted,
            order_id=order_id,
        )


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
    profile: RiskProfile,
    exposure: Exposure,
    realized_today: Decimal,
    equity_at_day_start: Callable[[], Decimal],
) -> Breach | None:
    """Return the first limit that the order would exceed, or None.

    ``equity_at_day_start`` is called only if the profile limits the daily loss, and there is one.
    """
    cost = exposure.order_cost
    percent = profile.max_order_size_pct
    if percent is not None and _is_over(cost, percent, exposure.available_cash):
        return _breach("max_order_size_pct", cost, percent, exposure.available_cash)
    exposed = add(exposure.symbol_value, cost)
    percent = profile.max_position_size_pct
    if percent is not None and _is_over(exposed, percent, exposure.total_equity):
        return _breach("max_position_size_pct", exposed, percent, exposure.total_equity)
    percent = profile.daily_loss_limit_pct
    if percent is not None and realized_today < 0:
        loss, equity = realized_today.copy_negate(), equity_at_day_start()
        if _is_over(loss, percent, equity):
            return _breach("daily_loss_limit_pct", loss, percent, equity)
    return None


def _is_over(amount: Decimal, percent: Decimal, whole: Decimal) -> bool:
    return amount > 0 and multiply(amount, HUNDRED) > multiply(percent, whole)


def _breach(limit: str, attempted: Decimal, percent: Decimal, whole: Decimal) -> Breach:
    return Breach(limit, percent, rounded_share(whole, percent, HUNDRED), attempted)
