"""Floats as integers of one decimal scale, for exact arithmetic on arrays of money."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from candlestep.sandbox.money import decimal_of

Units = NDArray[Any]
"""An array of whole numbers: int64 if they fit, else Python integers (dtype object)."""

# A decimal of at most 15 digits is the shortest representation of its nearest double.
_LARGEST_EXACT = 1e15
_MAXIMUM_DIGITS = 18
_SAMPLE = 1024
_FLOAT_EXACT = 2**53


class FixedPoint(NamedTuple):
    """Numbers whose ``units / 10 ** digits`` are exactly the shortest decimals of some floats."""

    units: Units
    digits: int
    largest: int
    """The largest of the units."""


def fixed_point(values: NDArray[np.float64]) -> FixedPoint:
    """Convert ``values`` to integers of their smallest common decimal scale.

    They must be finite and not negative, and at least one. Linear; fast as long as no value needs
    more than 15 digits at that scale, a few microseconds a value otherwise.

    >>> fixed_point(np.array([0.1, 67500.25]))
    FixedPoint(units=array([     10, 6750025]), digits=2, largest=6750025)
    """
    for digits in range(_MAXIMUM_DIGITS + 1):
        if _scaled(values[:_SAMPLE], digits) is None:
            continue
        units = _scaled(values, digits)
        if units is not None:
            return FixedPoint(units, digits, int(units.max()))
    return _arbitrary_precision(values)


def as_floats(units: Units, digits: int) -> NDArray[np.float64]:
    """Return ``units / 10 ** digits``, each rounded once to the nearest float.

    The result thus depends on the values alone, not on their dtype.
    """
    scale = 10**digits
    if units.dtype != object and (not units.size or np.abs(units).max() < _FLOAT_EXACT):
        return np.asarray(units / scale, dtype=np.float64)
    return np.array([value / scale for value in units.tolist()], dtype=np.float64)


def _scaled(values: NDArray[np.float64], digits: int) -> Units | None:
    scale = 10.0**digits
    units = np.rint(values * scale)
    if units.max() >= _LARGEST_EXACT or not np.array_equal(units / scale, values):
        return None
    return units.astype(np.int64)


def _arbitrary_precision(values: NDArray[np.float64]) -> FixedPoint:
    parts = [decimal_of(value).as_tuple() for value in values.tolist()]
    digits = max(0, *(-int(part.exponent) for part in parts))
    units = np.empty(len(parts), dtype=object)
    for row, part in enumerate(parts):
        coefficient = int("".join(map(str, part.digits)))
        units[row] = coefficient * 10 ** (digits + int(part.exponent))
    return FixedPoint(units, digits, max(units))
