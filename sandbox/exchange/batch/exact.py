"""Exact products and quotients of arrays of int64, where a float alone would lose digits.

``muldiv`` takes its estimate from floats and corrects it by the remainder, which it computes modulo
2 ** 64: the remainder itself is small, so that its low 64 bits are all of it. The bounds below are
those within which this holds; callers check them before they multiply.
"""

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]

PRODUCT_BOUND = 2.0**113
"""``abs(a * b)`` must be below it: the first estimate is then wrong by less than 2 ** 62 / c."""
DIVISOR_BOUND = 2**60
"""``c`` must be below it, so that a remainder and half of it fit."""
ANSWER_BOUND = 2.0**62
"""``abs(a * b / c)`` must be below it."""


def muldiv(
    a: Integers, b: Integers | int, c: Integers | int, b_float: Floats | None = None
) -> Integers:
    """Return ``a * b / c``, rounded once, half up (towards positive infinity).

    For whole numbers within the bounds above, and ``c`` positive. ``b`` may be given modulo
    2 ** 64, with its nearest float in ``b_float``; the product must then be below a quarter of its
    bound. Linear, about 11 passes over the arrays.

    >>> muldiv(np.array([1, 2, 3, 10**17]), 10**6, 2 * 10**6)
    array([                1,                 1,                 2, 50000000000000000])
    """
    # Converted one by one: operations on mixed types are several times slower.
    estimate = a.astype(np.float64) * (_as_float(b) if b_float is None else b_float)
    estimate /= _as_float(c)
    np.rint(estimate, out=estimate)
    quotient = estimate.astype(np.int64)
    remainder: Integers = a * b
    remainder -= quotient * c
    # The estimate is off by units for quotients of 2 ** 50 and more, and by one at ties.
    remainder += c >> 1
    remainder //= c
    quotient += remainder
    return quotient


def _as_float(number: Integers | int) -> Floats | float:
    return float(number) if isinstance(number, int) else number.astype(np.float64)


def is_exact(a: Integers, b: Integers | int, c: Integers | int) -> NDArray[np.bool_]:
    """Return whether ``muldiv`` of these numbers is within its bounds, a few units of 2 ** 53 short.

    >>> is_exact(np.array([2**40, 2**61]), 2**55, 2**40)
    array([ True, False])
    """
    product = np.abs(np.multiply(a, b, dtype=np.float64))
    quotient = product / c
    within: NDArray[np.bool_] = (product < PRODUCT_BOUND * (1 - 2**-50)) & (
        quotient < ANSWER_BOUND * (1 - 2**-50)
    )
    return within & (np.asarray(c) < DIVISOR_BOUND)
