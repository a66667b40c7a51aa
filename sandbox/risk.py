"""The risk profile of an agent: three limits, checked on every buy when it is placed."""

from collections.abc import Callable
from decimal import Decimal

import msgspec

from sandbox.money import AMOUNT_PLACES, add, multiply, parse_share, rounded_share

_HUNDRED = Decimal(100)


class RiskProfile(msgspec.Struct, frozen=True):
    """Limits in percent, from 0 to 100 at 8 places; None does not limit.

    Anything that writes such a number is accepted; raises ``InvalidParameter`` naming the limit.
    """

    max_order_size_pct: Decimal | None = None
    """Of available cash: what one order may cost."""
    max_position_size_pct: Decimal | None = None
    """Of total equity: what a position may come to, pending buys included."""
    daily_loss_limit_pct: Decimal | None = None
    """Of the equity at the start of the UTC day: the net loss that may be realized in it."""

    def __post_init__(self) -> None:
        for limit in self.__struct_fields__:
            value = getattr(self, limit)
            if value is not None:
                percent = parse_share(limit, value, AMOUNT_PLACES, 100)
                msgspec.structs.force_setattr(self, limit, percent)


class Exposure(msgspec.Struct, frozen=True):
    """What an account stands to risk by a buy; in quote currency."""

    order_cost: Decimal
    available_cash: Decimal
    symbol_value: Decimal
    """Value held of the symbol, and its pending buys at their triggers."""
    total_equity: Decimal
    realized_today: Decimal


class Breach(msgspec.Struct, frozen=True):
    """A limit that refuses a buy: what it allows and what was attempted, in quote currency."""

    limit: str
    percent: Decimal
    allowed: Decimal
    attempted: Decimal


def first_breach(
    profile: RiskProfile, exposure: Exposure, equity_at_day_start: Callable[[], Decimal]
) -> Breach | None:
    """The first limit that the buy would exceed, or None.

    ``equity_at_day_start`` is asked only if the profile limits the daily loss.
    """
    exposed = add(exposure.symbol_value, exposure.order_cost)
    for limit, percent, base, attempted in (
        (
            "max_order_size_pct",
            profile.max_order_size_pct,
            exposure.available_cash,
            exposure.order_cost,
        ),
        ("max_position_size_pct", profile.max_position_size_pct, exposure.total_equity, exposed),
    ):
        if percent is not None and _exceeds(attempted, percent, base):
            return _breach(limit, percent, base, attempted)
    percent = profile.daily_loss_limit_pct
    loss = exposure.realized_today.copy_negate()
    if percent is not None and loss > 0:
        base = equity_at_day_start()
        if _exceeds(loss, percent, base):
            return _breach("daily_loss_limit_pct", percent, base, loss)
    return None


def _exceeds(amount: Decimal, percent: Decimal, base: Decimal) -> bool:
    return multiply(amount, _HUNDRED) > multiply(percent, base)


def _breach(limit: str, percent: Decimal, base: Decimal, attempted: Decimal) -> Breach:
    return Breach(limit, percent, rounded_share(base, percent, _HUNDRED), attempted)
