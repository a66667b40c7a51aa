"""Exact decimals: the context of the ledger, its one rounding function, and number parsing.

Nothing here depends on the decimal context of the caller. Sums, differences and products go through
``add``, ``subtract`` and ``multiply``, which raise ``decimal.Inexact`` rather than lose a digit;
only the functions named for it round, half up.
"""

import math
import re
from collections.abc import Iterable
from decimal import (
    ROUND_05UP,
    ROUND_CEILING,
    ROUND_FLOOR,
    ROUND_HALF_UP,
    Context,
    Decimal,
    DivisionByZero,
    Inexact,
    InvalidOperation,
    Overflow,
)
from functools import reduce
from typing import Any

import numpy as np

from candlestep.sandbox.errors import InvalidParameter, abbreviate

_ERRORS = [InvalidOperation, DivisionByZero, Overflow]

EXACT = Context(prec=60, traps=[Inexact, *_ERRORS])
"""For the ledger: 60 digits hold every sum and product that it forms (see ``MAXIMUM``)."""
MARKET = Context(prec=400, traps=[Inexact, *_ERRORS])
"""For differences of market prices, which may be as far apart as floats."""

add = EXACT.add
subtract = EXACT.subtract
multiply = EXACT.multiply
"""Exact sums, differences and products of the ledger."""

_ROUNDING = Context(prec=400, rounding=ROUND_HALF_UP, traps=_ERRORS)
_DOWN = Context(prec=400, rounding=ROUND_FLOOR, traps=_ERRORS)
_UP = Context(prec=400, rounding=ROUND_CEILING, traps=_ERRORS)
# Rounding a quotient twice is safe if the first rounding leaves a trace of the lost digits.
_DIVISION = Context(prec=100, rounding=ROUND_05UP, traps=_ERRORS)

Whole = int | np.integer[Any]
"""Anything that stands for a whole number."""
Number = str | Decimal | float | np.floating[Any] | Whole
"""Anything that stands for a number; a float for its shortest representation."""

ZERO = Decimal(0)
ONE = Decimal(1)
HUNDRED = Decimal(100)
MAXIMUM = Decimal(10**16)
"""Largest price, quantity or starting balance."""

AMOUNT_PLACES = 8
"""Decimal places of quantities and amounts of money."""
PRICE_PLACES = 16
"""Decimal places of fill prices, trigger prices and slippage fractions."""

_UNIT = {places: Decimal(f"1e-{places}") for places in (2, AMOUNT_PLACES, PRICE_PLACES)}
AMOUNT_UNIT = _UNIT[AMOUNT_PLACES]
"""The smallest quantity, and the smallest amount of money."""

PRICE_UNIT = _UNIT[PRICE_PLACES]
"""The smallest price."""

half_up = _ROUNDING.quantize
"""Rounds a value, half up, to the decimal places of a unit."""

_BASIS_POINT = Decimal("0.0001")
_MOST_BPS = 5000

_MOST_BITS = 1024
# Capped, so that a number can neither overflow nor take long to parse.
_NUMBER = re.compile(
    r"[+-]?(?:\d{1,400}(?:\.\d{0,400})?|\.\d{1,400})(?:[eE][+-]?\d{1,3})?", re.ASCII
)


def total(amounts: Iterable[Decimal]) -> Decimal:
    """Return the exact sum of ``amounts`` of the ledger."""
    return reduce(add, amounts, ZERO)


def rounded(value: Decimal, places: int) -> Decimal:
    """Round ``value`` to ``places`` (2, 8 or 16) decimal places, half up."""
    return _ROUNDING.quantize(value, _UNIT[places])


def rounded_ratio(numerator: Decimal, denominator: Decimal, places: int) -> Decimal:
    """Return ``numerator / denominator`` with ``places`` decimal places, half up, rounded once."""
    return half_up(_DIVISION.divide(numerator, denominator), _UNIT[places])


def rounded_down(value: Decimal, places: int) -> Decimal:
    """Round ``value`` to ``places`` decimal places, towards minus infinity."""
    return _DOWN.quantize(value, _UNIT[places])


def rounded_up(value: Decimal, places: int) -> Decimal:
    """Round ``value`` to ``places`` decimal places, towards infinity."""
    return _UP.quantize(value, _UNIT[places])


def ratio_up_to(numerator: Decimal, denominator: Decimal, places: int) -> Decimal:
    """Return the largest number of ``places`` decimal places up to ``numerator / denominator``."""
    return _DOWN.quantize(_DIVISION.divide(numerator, denominator), _UNIT[places])


def ratio_from(numerator: Decimal, denominator: Decimal, places: int) -> Decimal:
    """Return the smallest number of ``places`` decimal places from ``numerator / denominator`` on."""
    return _UP.quantize(_DIVISION.divide(numerator, denominator), _UNIT[places])


def rounded_product(a: Decimal, b: Decimal) -> Decimal:
    """Return ``a * b`` as an amount: exact, then rounded half up to 8 places."""
    return half_up(multiply(a, b), AMOUNT_UNIT)


def rounded_share(amount: Decimal, part: Decimal, whole: Decimal) -> Decimal:
    """Return ``amount * part / whole`` as an amount, rounded once, half up to 8 places."""
    share = _DIVISION.divide(MARKET.multiply(amount, part), whole)
    return half_up(share, AMOUNT_UNIT)


def percentage(part: Decimal, whole: Decimal) -> Decimal:
    """Return ``part`` in percent of ``whole``, rounded once, half up to 8 places."""
    return rounded_share(part, HUNDRED, whole)


def nearest_multiple(value: Decimal, unit: Decimal) -> Decimal:
    """Return the multiple of ``unit`` that is nearest to a positive ``value``; of two, the larger."""
    below = multiple_up_to(value, unit)
    rest = MARKET.subtract(value, below)
    return MARKET.add(below, unit) if MARKET.add(rest, rest) >= unit else below


def multiple_up_to(value: Decimal, unit: Decimal) -> Decimal:
    """Return the largest multiple of ``unit`` up to a positive ``value``."""
    return MARKET.multiply(MARKET.divide_int(value, unit), unit)


def multiple_from(value: Decimal, unit: Decimal) -> Decimal:
    """Return the smallest multiple of ``unit`` that is not below a positive ``value``."""
    return MARKET.multiply(units_in(value, unit), unit)


def units_in(value: Decimal, unit: Decimal) -> Decimal:
    """Return how many whole ``unit`` it takes to reach a positive ``value``."""
    whole = MARKET.divide_int(value, unit)
    return whole if MARKET.multiply(whole, unit) == value else MARKET.add(whole, ONE)


def decimal_of(value: float) -> Decimal:
    """Return the decimal of a float's shortest representation: the number that was imported."""
    return Decimal(repr(value))


def format_decimal(value: Decimal) -> str:
    """Format ``value`` without exponent and trailing zeros: ``0.001``."""
    return f"{EXACT.normalize(value):f}"


def largest_float_up_to(value: Decimal) -> float:
    """Return the largest float that represents a decimal of at most ``value``."""
    nearest = float(value)
    return nearest if decimal_of(nearest) <= value else math.nextafter(nearest, -math.inf)


def smallest_float_from(value: Decimal) -> float:
    """Return the smallest float that represents a decimal of at least ``value``."""
    nearest = float(value)
    return nearest if decimal_of(nearest) >= value else math.nextafter(nearest, math.inf)


def python_number(value: object) -> object:
    """Return the Python number that a NumPy scalar stands for; any other value as it is.

    A float of another precision than 64 bits becomes the decimal of its own shortest
    representation: ``float32(0.01)`` is 0.01, not the nearby double 0.009999999776482582.
    """
    if isinstance(value, np.generic):
        if value.dtype.kind in "iu":
            return int(value)
        if isinstance(value, np.floating):
            return Decimal(np.format_float_positional(value, trim="-"))
    return value


def parse_number(field: str, value: object) -> Decimal:
    """Parse ``value`` (str, int, float, Decimal or a NumPy number) to a finite decimal.

    A float stands for its shortest representation. Raises ``InvalidParameter`` naming ``field``
    for anything else: other types, NaN, infinities, signs of other scripts, thousands
    separators, exponents beyond 999.
    """
    match value:
        case Decimal() if value.is_finite():
            return value
        case bool():
            pass
        case str() if _NUMBER.fullmatch(value):
            return Decimal(value)
        case float() if math.isfinite(value):
            return decimal_of(float(value))
        case int() if value.bit_length() < _MOST_BITS:
            return Decimal(value)
        case np.generic() if (number := python_number(value)) is not value:
            return parse_number(field, number)
    raise InvalidParameter(field, f"{abbreviate(value)!r} is not a finite number such as '0.25'")


def parse_count(field: str, value: object) -> int:
    """Parse a whole number of at least 1, a NumPy one too; raises ``InvalidParameter``."""
    number = python_number(value)
    if type(number) is not int or number < 1:
        raise InvalidParameter(
            field, f"must be a whole number of at least 1, got {abbreviate(value)}"
        )
    return number


def parse_positive(field: str, value: object, places: int) -> Decimal:
    """Parse a number above zero and at most ``MAXIMUM``, rounded half up to ``places``."""
    number = parse_number(field, value)
    if number <= ZERO:
        raise InvalidParameter(field, f"must be positive, got {abbreviate(value)}")
    if number > MAXIMUM:
        raise InvalidParameter(field, f"must be at most {MAXIMUM:f}, got {abbreviate(value)}")
    number = _ROUNDING.quantize(number, _UNIT[places])
    if not number:
        raise InvalidParameter(field, f"rounds to zero at {places} decimal places")
    return number


def parse_bps(field: str, value: object) -> Decimal:
    """Parse hundredths of a percent, from 0 to 5000 at 8 places, to a fraction at 16 places."""
    bps = parse_share(field, value, AMOUNT_PLACES, _MOST_BPS)
    return rounded(multiply(bps, _BASIS_POINT), PRICE_PLACES)


def format_bps(fraction: Decimal) -> str:
    """Format a fraction in hundredths of a percent: ``5`` for 0.0005."""
    return format_decimal(multiply(fraction, Decimal(10_000)))


def parse_share(field: str, value: object, places: int, upper: int) -> Decimal:
    """Parse a number from 0 to ``upper``, rounded half up to ``places``."""
    number = parse_number(field, value)
    if not 0 <= number <= upper:
        raise InvalidParameter(field, f"must be from 0 to {upper}, got {abbreviate(value)}")
    return rounded(number, places).copy_abs()
