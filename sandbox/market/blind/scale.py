"""Prices of a pair on another scale: the factor that a seed draws, and what it makes of numbers."""

from decimal import Decimal
from typing import NamedTuple

import numpy as np

from candlestep.sandbox.market.blind.disguise import BlindSettings
from candlestep.sandbox.market.blind.draws import Draws
from candlestep.sandbox.market.blind.rounding import Floats
from candlestep.sandbox.market.fixed_point import as_floats, fixed_point
from candlestep.sandbox.money import EXACT, ONE, decimal_of

# Their reciprocals are finite decimals too, so that volumes are exact as well.
_SHORT_FACTORS = tuple(
    map(Decimal, ("1.25", "1.6", "2", "2.5", "3.2", "4", "5", "6.25", "6.4", "8"))
)
_LOWEST, _HIGHEST = Decimal(10), Decimal(1000)
_INT64_HEADROOM = 2**62


class Scale(NamedTuple):
    """The first price of a pair, and the factor of all its prices."""

    first: float
    factor: Decimal
    """A float as a decimal, or a short decimal whose reciprocal is finite too."""
    is_exact: bool
    """True if products are not rounded."""

    @classmethod
    def draw(cls, settings: BlindSettings, pair: str, first: float) -> "Scale":
        """Draw the factor that puts the first price of a pair between 10 and 1,000."""
        if not settings.prices:
            return cls(first, ONE, True)
        draws = Draws(settings.seed, f"prices/{pair}")
        if settings.prices == "exact":
            return cls(first, _short_factor(draws, decimal_of(first)), True)
        # Six digits, as prices have, from 10.0000 on or from 100.000 on.
        digits = 100_000 + draws.below(900_000)
        target = digits / (10_000 if draws.below(2) else 1_000)
        return cls(first, decimal_of(target / first), False)

    @property
    def mirror(self) -> float:
        """The product of each price and its mirror image on this scale."""
        return self.first * float(self.factor) * self.first

    def prices(self, prices: Floats) -> Floats:
        """Return prices times the factor."""
        return _product(prices, self.factor) if self.is_exact else prices * float(self.factor)

    def volumes(self, volumes: Floats) -> Floats:
        """Return volumes divided by the factor."""
        if self.is_exact:
            return _product(volumes, EXACT.divide(ONE, self.factor))
        return volumes / float(self.factor)


def _short_factor(draws: Draws, first: Decimal) -> Decimal:
    power = 1 - first.adjusted()
    factors = [
        factor.scaleb(power + more)
        for more in (-1, 0, 1, 2)
        for factor in _SHORT_FACTORS
        if _LOWEST <= first * factor.scaleb(power + more) < _HIGHEST
    ]
    return factors[draws.below(len(factors))]


def _product(values: Floats, factor: Decimal) -> Floats:
    """Return the floats nearest to the exact products of decimals; NaN stays NaN."""
    if factor == 1:
        return values
    known = ~np.isnan(values)
    products = np.full(len(values), np.nan)
    if known.any():
        units, digits, largest = fixed_point(values[known])
        _, figures, exponent = EXACT.normalize(factor).as_tuple()
        whole = int("".join(map(str, figures))) * 10 ** max(0, int(exponent))
        if largest * whole >= _INT64_HEADROOM:
            units = units.astype(object)
        products[known] = as_floats(units * whole, digits + max(0, -int(exponent)))
    return products
