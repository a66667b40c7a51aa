"""Fee models: the rate of a fill, and the highest rate that a buy must lock cash for.

A resting limit order that fills is a *maker*; every other fill is a *taker*'s.
"""

from bisect import bisect_right
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, ClassVar, Literal, NamedTuple, get_args

import msgspec

from candlestep.sandbox.clock import DAY
from candlestep.sandbox.errors import InvalidParameter, abbreviate
from candlestep.sandbox.exchange.costs.fee_schedule import FeeSchedule
from candlestep.sandbox.exchange.orders import Fill
from candlestep.sandbox.money import (
    PRICE_PLACES,
    ZERO,
    add,
    format_bps,
    format_decimal,
    parse_bps,
    parse_share,
    subtract,
)

FeeModel = Literal["none", "fixed_bps", "tiered_maker_taker", "match_exchange"]

VOLUME_WINDOW = 30 * DAY
"""Period over which fills count towards the volume that decides the tier, in milliseconds."""

_MODELS: tuple[str, ...] = get_args(FeeModel)
_DEFAULT_RATE = "0.001"
_DEFAULT_BPS = "5"


class Tier(NamedTuple):
    """The fractions of the notional that makers and takers pay from a 30-day volume on."""

    volume: Decimal
    """Least volume of the tier, in the account's currency."""
    maker: Decimal
    taker: Decimal


TIERS = tuple(
    Tier(Decimal(volume), Decimal(maker), Decimal(taker))
    for volume, maker, taker in (
        ("0", "0.0008", "0.0010"),
        ("10000", "0.0007", "0.0009"),
        ("50000", "0.0006", "0.0008"),
        ("100000", "0.0005", "0.0007"),
        ("1000000", "0.0004", "0.0006"),
        ("10000000", "0.0003", "0.0005"),
        ("100000000", "0.0002", "0.0004"),
    )
)
"""The tiers of ``tiered_maker_taker``, modelled on those of spot venues.

They start at the default fee, and trading a starting balance of 10,000 once reaches the second
tier. They are not those of any one venue, so they need not change when a venue's fees do.
"""

_TIER_VOLUMES = [tier.volume for tier in TIERS]


class FlatFees(msgspec.Struct, frozen=True, gc=False):
    """One rate for every fill: a session's ``fee_rate``, ``none`` or ``fixed_bps``."""

    counts_volume: ClassVar[bool] = False
    flat: Decimal
    """Fraction of the notional."""
    model: Literal["none", "fixed_bps"] | None = None

    def highest(self, symbol: str) -> Decimal:
        """Return the flat rate."""
        return self.flat

    def rate(self, symbol: str, time: int, volume: Decimal, *, is_maker: bool) -> Decimal:
        """Return the flat rate."""
        return self.flat

    def settings(self) -> dict[str, Any]:
        """Return the arguments of ``SessionConfig`` for these fees, as plain data."""
        if self.model is None:
            return {"fee_rate": format_decimal(self.flat)}
        if self.model == "none":
            return {"fee_model": self.model}
        return {"fee_model": self.model, "fee_bps": format_bps(self.flat)}


class TieredFees(msgspec.Struct, frozen=True, gc=False):
    """``tiered_maker_taker``: rates by maker or taker, and by the volume of the last 30 days."""

    counts_volume: ClassVar[bool] = True

    def highest(self, symbol: str) -> Decimal:
        """Return the rate of a taker without volume."""
        return TIERS[0].taker

    def rate(self, symbol: str, time: int, volume: Decimal, *, is_maker: bool) -> Decimal:
        """Return the rate of the tier that ``volume`` reaches; its bound belongs to it."""
        tier = TIERS[bisect_right(_TIER_VOLUMES, volume) - 1]
        return tier.maker if is_maker else tier.taker

    def settings(self) -> dict[str, Any]:
        """Return the arguments of ``SessionConfig`` for these fees, as plain data."""
        return {"fee_model": "tiered_maker_taker"}


class DatedFees(msgspec.Struct, frozen=True):
    """``match_exchange``: rates by maker or taker, and by time, from a venue's schedule."""

    counts_volume: ClassVar[bool] = False
    schedule: FeeSchedule

    def highest(self, symbol: str) -> Decimal:
        """Return the highest rate, a maker's or a taker's, in force during the session.

        A lock may thus reveal that fees will rise. That is not look-ahead: the schedule is part
        of the configuration, known before the first step, and depends on no candle.
        """
        return self.schedule.highest(symbol)

    def rate(self, symbol: str, time: int, volume: Decimal, *, is_maker: bool) -> Decimal:
        """Return the rate in force for ``symbol`` at ``time``, which lies within the session."""
        period = self.schedule.in_force(symbol, time)
        return period.maker if is_maker else period.taker

    def settings(self) -> dict[str, Any]:
        """Return the arguments of ``SessionConfig`` for these fees, as plain data."""
        return {"fee_model": "match_exchange", "fee_schedule": self.schedule.entries()}


Fees = FlatFees | TieredFees | DatedFees
"""A fee model with its parameters; immutable, so that a session shares it with its forks.

A new model is another struct with the same members, a name in ``FeeModel``, and a case in
``parse_fees``.
"""


class TradedVolume:
    """The sum of ``quote_amount`` of a session's fills in the 30 days up to a time.

    It remembers which fills it has counted, so that the cost per fill stays constant.
    """

    def __init__(self) -> None:
        self._oldest = 0
        self._counted = 0
        self._total = ZERO

    def at(self, time: int, fills: Sequence[Fill]) -> Decimal:
        """Return the exact volume of ``fills`` within ``(time - 30 days, time]``.

        ``fills`` are all fills so far, in sequence; neither they nor the time ever go back.
        """
        for fill in fills[self._counted :]:
            self._total = add(self._total, fill.quote_amount)
        self._counted = len(fills)
        while self._oldest < self._counted and fills[self._oldest].time <= time - VOLUME_WINDOW:
            self._total = subtract(self._total, fills[self._oldest].quote_amount)
            self._oldest += 1
        return self._total


def parse_fees(
    *,
    fee_rate: object,
    fee_model: object,
    fee_bps: object,
    fee_schedule: object,
    start: int,
    end: int,
) -> Fees:
    """Parse the fees of a session from ``start`` to ``end``; None means that a value is not given.

    Raises ``InvalidParameter`` naming the field, which may be one that the model does not take.
    """
    if fee_model is not None and fee_model not in _MODELS:
        raise InvalidParameter(
            "fee_model", f"must be one of {', '.join(_MODELS)}, got {abbreviate(fee_model)}"
        )
    if fee_model is not None and fee_rate is not None:
        raise InvalidParameter(
            "fee_rate",
            "cannot be combined with a fee_model; leave one of them out, or send fee_model"
            " fixed_bps with fee_bps",
        )
    for field, value, model in (
        ("fee_bps", fee_bps, "fixed_bps"),
        ("fee_schedule", fee_schedule, "match_exchange"),
    ):
        if value is not None and fee_model != model:
            raise InvalidParameter(field, f"belongs to fee_model {model} only; leave it out")
    match fee_model:
        case "none":
            return FlatFees(ZERO, "none")
        case "fixed_bps":
            value = _DEFAULT_BPS if fee_bps is None else fee_bps
            return FlatFees(parse_bps("fee_bps", value), "fixed_bps")
        case "tiered_maker_taker":
            return TieredFees()
        case "match_exchange":
            return DatedFees(FeeSchedule.parse(fee_schedule, start, end))
    rate = _DEFAULT_RATE if fee_rate is None else fee_rate
    return FlatFees(parse_share("fee_rate", rate, PRICE_PLACES, 1))
