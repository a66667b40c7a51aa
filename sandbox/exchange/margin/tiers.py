"""Margin tiers: what a position must have at least, and how large it may be at a leverage.

Formulas are those of Binance USDⓈ-M futures (support FAQ 360033162192 and b3c689c1).
"""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from itertools import pairwise
from typing import Any

import msgspec

from candlestep.sandbox.errors import InvalidParameter, abbreviate
from candlestep.sandbox.money import (
    AMOUNT_PLACES,
    MARKET,
    ONE,
    PRICE_PLACES,
    ZERO,
    format_decimal,
    parse_number,
    parse_positive,
    rounded,
)

HIGHEST_LEVERAGE = 1000
"""The highest leverage that can be set, whatever the tiers."""


class Tier(msgspec.Struct, frozen=True):
    """One row of a table of tiers, in force for notionals above its floor."""

    floor: Decimal
    """Lower bound of the notional, in quote currency."""
    mmr: Decimal
    """Maintenance margin rate, a fraction of the notional."""
    cum: Decimal
    """Maintenance amount, in quote currency, that is taken off ``mmr`` times the notional."""
    max_leverage: Decimal
    """Highest leverage of a position of this size."""


class MarginTiers(msgspec.Struct, frozen=True):
    """The tiers of one symbol, lowest first."""

    rows: tuple[Tier, ...]

    @classmethod
    def parse(cls, value: object, field: str = "margin_tiers") -> "MarginTiers":
        """Return tiers from a list of ``{"floor", "mmr", "cum", "max_leverage"}``, or as they are.

        Numbers may be text. ``cum`` may be left out: it is then what makes maintenance continuous.
        Raises ``InvalidParameter`` naming the row: floors rise from 0, rates strictly rise, a rate
        times its leverage is below 1, and a ``cum`` that is given must be that of continuity.
        """
        if isinstance(value, MarginTiers):
            return value
        if isinstance(value, str | Mapping) or not isinstance(value, Iterable):
            raise InvalidParameter(field, "must be a list of tiers")
        rows: list[Tier] = []
        for place, row in enumerate(value):
            rows.append(_parse_row(f"{field}[{place}]", row, rows[-1] if rows else None))
        if not rows:
            raise InvalidParameter(field, "must have at least one tier")
        return cls(tuple(rows))

    def settings(self) -> list[dict[str, str]]:
        """Return the tiers as plain values, of which ``parse`` makes them again."""
        return [
            {name: format_decimal(value) for name, value in msgspec.structs.asdict(row).items()}
            for row in self.rows
        ]

    @property
    def max_leverage(self) -> Decimal:
        """The highest leverage of any position."""
        return self.rows[0].max_leverage

    def maintenance(self, notional: Decimal) -> Decimal:
        """Return the maintenance margin of a notional, exact: ``max(notional * mmr - cum)``.

        The greatest of all tiers is that of the notional's own, because the rates rise and
        maintenance is continuous.
        """
        multiply, subtract = MARKET.multiply, MARKET.subtract
        return max(subtract(multiply(notional, row.mmr), row.cum) for row in self.rows)

    def max_notional(self, leverage: Decimal) -> Decimal | None:
        """Return the largest notional at ``leverage``; None if there is no bound.

        It is the bound of the last tier whose highest leverage is at least ``leverage``.
        """
        for row, after in pairwise(self.rows):
            if after.max_leverage < leverage:
                return after.floor if row.max_leverage >= leverage else ZERO
        return None


ONE_TIER = MarginTiers((Tier(ZERO, Decimal("0.004"), ZERO, Decimal(125)),))
"""The tier of a symbol for which none are known."""


def _parse_row(field: str, value: object, before: Tier | None) -> Tier:
    if isinstance(value, Tier):
        value = msgspec.structs.asdict(value)
    if not isinstance(value, Mapping):
        raise InvalidParameter(field, "must be an object with floor, mmr and max_leverage")
    unknown = set(value) - {"floor", "mmr", "cum", "max_leverage"}
    if unknown:
        raise InvalidParameter(field, f"has no field {abbreviate(min(map(str, unknown)))!r}")
    missing = [name for name in ("floor", "mmr", "max_leverage") if value.get(name) is None]
    if missing:
        raise InvalidParameter(f"{field}.{missing[0]}", "is missing")
    floor = _parse_exact(f"{field}.floor", value["floor"], AMOUNT_PLACES)
    mmr = _parse_exact(f"{field}.mmr", value["mmr"], PRICE_PLACES)
    max_leverage = parse_positive(f"{field}.max_leverage", value["max_leverage"], AMOUNT_PLACES)
    _check_row(field, floor, mmr, max_leverage, before)
    cum = ZERO
    if before is not None:
        rise = MARKET.multiply(floor, MARKET.subtract(mmr, before.mmr))
        cum = MARKET.add(before.cum, rise)
    given: Any = value.get("cum")
    if given is not None and parse_number(f"{field}.cum", given) != cum:
        raise InvalidParameter(
            f"{field}.cum",
            f"must be {format_decimal(cum)}, at which maintenance is continuous at the floor; leave"
            " it out to have it computed",
        )
    return Tier(floor, mmr, Decimal(format_decimal(cum)), max_leverage)


def _check_row(
    field: str, floor: Decimal, mmr: Decimal, max_leverage: Decimal, before: Tier | None
) -> None:
    if before is None and floor:
        raise InvalidParameter(f"{field}.floor", "must be 0, because it is the first tier")
    if before is not None and floor <= before.floor:
        raise InvalidParameter(f"{field}.floor", "must be above that of the tier before")
    if not mmr or mmr >= ONE:
        raise InvalidParameter(f"{field}.mmr", "must be a fraction above 0 and below 1")
    if before is not None and mmr <= before.mmr:
        raise InvalidParameter(f"{field}.mmr", "must be above that of the tier before")
    if max_leverage < ONE:
        raise InvalidParameter(f"{field}.max_leverage", "must be at least 1")
    if before is not None and max_leverage > before.max_leverage:
        raise InvalidParameter(f"{field}.max_leverage", "must not be above the tier before")
    if MARKET.multiply(mmr, max_leverage) >= ONE:
        raise InvalidParameter(
            f"{field}.max_leverage",
            f"{format_decimal(max_leverage)} times the mmr {format_decimal(mmr)} must be below 1:"
            " a position of this leverage would be liquidated at once",
        )


def _parse_exact(field: str, value: object, places: int) -> Decimal:
    number = parse_number(field, value)
    if number < 0 or number > Decimal(10**24):
        raise InvalidParameter(field, "must be from 0 to 1e24")
    if rounded(number, places) != number:
        raise InvalidParameter(field, f"may have at most {places} decimal places")
    return Decimal(format_decimal(rounded(number, places).copy_abs()))
