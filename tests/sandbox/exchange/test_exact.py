"""``muldiv`` against Python's integers, at random, at ties, and near its bounds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candlestep.sandbox.exchange.batch.exact import DIVISOR_BOUND, is_exact, muldiv


def half_up(a: int, b: int, c: int) -> int:
    return (2 * a * b + c) // (2 * c)


def computed(a: int, b: int, c: int) -> int:
    return int(muldiv(np.array([a]), np.array([b]), np.array([c]))[0])


@st.composite
def within_bounds(draw: st.DrawFn) -> tuple[int, int, int]:
    """Factors of every size whose product and quotient are within the bounds."""
    c = draw(st.integers(1, 2 ** draw(st.integers(1, 60)) - 1))
    a = draw(st.integers(-(2 ** draw(st.integers(1, 62))), 2 ** draw(st.integers(1, 62))))
    most = min(2**62 - 1, (2**113 - 2**64) // max(abs(a), 1), (2**62 - 2**12) * c // max(abs(a), 1))
    b = draw(st.integers(0, most) | st.integers(max(0, most - 1000), most))
    return a, b, c


@given(within_bounds())
@settings(max_examples=400)
def test_it_is_the_quotient_of_whole_numbers_rounded_half_up(numbers: tuple[int, int, int]) -> None:
    a, b, c = numbers
    assert computed(a, b, c) == half_up(a, b, c)
    assert -computed(-a, b, c) in {half_up(a, b, c), half_up(a, b, c) - 1}


@given(
    st.integers(0, 2**59), st.integers(1, 2**59 // 3 - 1), st.sampled_from([-1, 1]), st.booleans()
)
@settings(max_examples=200)
def test_ties_are_rounded_up_whatever_the_sign(
    whole: int, half: int, sign: int, is_double: bool
) -> None:
    """A product that is ``whole`` and a half times ``c``: the remainder is exactly c / 2."""
    c = 2 * half
    a, b = (sign * (2 * whole + 1), half) if not is_double else (sign * half, 2 * whole + 1)
    if abs(a * b) >= 2**113 - 2**64:
        return
    assert computed(a, b, c) == (whole + 1 if sign > 0 else -whole)


def test_a_year_of_random_numbers_of_every_size() -> None:
    random = np.random.default_rng(5)
    size = 100_000
    bits = random.integers(1, 60, size=(3, size))
    a, b, c = (random.integers(1, 2**bit) for bit in bits)
    fits = is_exact(a, b, c)
    a, b, c = a[fits], b[fits], c[fits]
    assert len(a) > 50_000
    expected = [
        half_up(*numbers) for numbers in zip(a.tolist(), b.tolist(), c.tolist(), strict=True)
    ]
    assert muldiv(a, b, c).tolist() == expected


def test_a_factor_may_be_given_modulo_two_to_the_64() -> None:
    """A price of 100,000 with 16 decimal places needs 70 bits."""
    quantity, price = 123_456_789, 100_000_123 * 10**13 + 7
    wrapped = np.array([price % 2**64]).astype(np.uint64).view(np.int64)
    amount = muldiv(np.array([quantity]), wrapped, 10**16, np.array([float(price)]))
    assert int(amount[0]) == half_up(quantity, price, 10**16)


def test_one_pass_of_floats_would_not_do() -> None:
    """The estimate alone is wrong by units where the quotient has 60 bits."""
    a, b, c = 2**59 + 12_345, 2**53 - 111, 2**53 - 1
    assert round(a * b / c) != half_up(a, b, c)
    assert computed(a, b, c) == half_up(a, b, c)


@pytest.mark.parametrize(
    ("a", "b", "c", "expected"),
    [
        (2**56, 2**57 - 1, 2**52, False),
        (2**56, 2**56, 2**52, True),
        (2**61, 4, 1, False),
        (2**60, 2, 1, True),
        (1, 1, DIVISOR_BOUND, False),
        (1, 1, DIVISOR_BOUND - 1, True),
        (-(2**61), 4, 1, False),
    ],
)
def test_its_bounds(a: int, b: int, c: int, expected: bool) -> None:
    assert is_exact(np.array([a]), np.array([b]), np.array([c])).tolist() == [expected]
    if expected:
        assert computed(a, b, c) == half_up(a, b, c)
