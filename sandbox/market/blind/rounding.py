"""Rounding to significant digits, the same on every machine."""

import numpy as np
from numpy.typing import NDArray

PRICE_DIGITS = 6
"""Significant digits of the prices of a blind market."""
VOLUME_DIGITS = 8
"""Significant digits of its volumes."""

_LOWEST, _HIGHEST = -40, 40
_MOST_EXACT = 22
"""The largest power of ten that is a float exactly."""
# Parsed, because powers that are computed may differ between machines in the last bit.
_POWERS = np.array([float(f"1e{power}") for power in range(_LOWEST, _HIGHEST + 1)])

Floats = NDArray[np.float64]


def significant(values: Floats, digits: int) -> Floats:
    """Return ``values`` with ``digits`` significant digits: each the float nearest to its decimal.

    They must be finite and not negative. No positive one becomes 0, and none is put out of order.
    """
    exponents = np.searchsorted(_POWERS, values, side="right") - 1 + _LOWEST
    places = digits - 1 - exponents
    is_plain = np.abs(places) <= _MOST_EXACT
    scale = _POWERS[np.where(is_plain, np.abs(places), 0) - _LOWEST]
    is_fine = places >= 0
    units = np.rint(np.where(is_fine, values * scale, values / scale))
    rounded: Floats = np.where(is_fine, units / scale, units * scale)
    for row in np.flatnonzero(~is_plain & (values > 0)).tolist():
        rounded[row] = float(f"{values[row]:.{digits - 1}e}")
    rounded[values == 0] = 0
    return rounded
