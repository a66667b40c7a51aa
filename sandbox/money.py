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
    ROUND_HALF_UP,
    Context,
    Decimal,
    DivisionByZero,
    Inexact,
    InvalidOperation,
    Overflow,
)
from functools import reduce

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
# Rounding a quotient twice is safe if the first rounding leaves a trace of the lost digits.
_DIVISION = Context(prec=100, rounding=ROUND_05UP, traps=_ERRORS)

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

_quantize = _ROUNDING.quantize

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
    return _ROUNDING.quantize(_DIVISION.divide(numerator, denominator), _UNIT[places])


def rounded_product(a: Decimal, b: Decimal) -> Decimal:
    """Return ``a * b`` as an amount: exact, then rounded half up to 8 places."""
    return _quantize(multiply(a, b), AMOUNT_UNIT)


def rounded_share(amount: Decimal, part: Decimal, whole: Decimal) -> Decimal:
    """Return ``amount * part / whole`` as an amount, rounded once, half up to 8 places."""
    share = _DIVISION.divide(MARKET.multiply(amount, part), whole)
    return _ROUNDING.quantize(share, AMOUNT_UNIT)


def percentage(part: Decimal, whole: Decimal) -> Decimal:
    """Return ``part`` in percent of ``whole``, rounded once, half up to 8 places."""
    return rounded_share(part, HUNDRED, whole)


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


def parse_number(field: str, value: object) -> Decimal:
    """Parse ``value`` (str, int, float or Decimal) to a finite decimal.

    A float stands for its shortest representation. Raises ``InvalidParameter`` naming ``field``
    for anything else: other types, NaN, infinities, signs of other scripts, thousands
    separators, exponents beyond 999.
    """
    match value:
        case bool():
            pass
        case str() if _NUMBER.fullmatch(value):
            return Decimal(value)
        case float() if math.isfinite(value):
            return decimal_of(float(value))
        case int() if value.bit_length() < _MOST_BITS:
            return Decimal(value)
        case Decimal() if value.is_finite():
            return value
    raise InvalidParameter(field, f"{abbreviate(value)!r} is not a finite number such as '0.25'")


def parse_positive(field: str, value: object, places: int) -> Decimal:
    """Parse a number above zero and at most ``MAXIMUM``, rounded half up to ``places``."""
    number = parse_number(field, value)
    if number <= 0:
        raise InvalidParameter(field, f"must be positive, got {abbreviate(value)}")
    if number > MAXIMUM:
        raise InvalidParameter(field, f"must be at most {MAXIMUM:f}, got {abbreviate(value)}")
    number = _ROUNDING.quantize(number, _UNIT[places])
    if not number:
        raise InvalidParameter(field, f"rounds to zero at {places} decimal places")
    return number


def parse_share(field: str, value: object, places: int, upper: int) -> Decimal:
    """Parse a number from 0 to ``upper``, rounded half up to ``places``."""
    number = parse_number(field, value)
    if not 0 <= number <= upper:
        raise InvalidParameter(field, f"must be from 0 to {upper}, got {abbreviate(value)}")
    return rounded(number, places).copy_abs()
