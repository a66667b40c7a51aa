"""The deflated Sharpe ratio against the numbers in its paper, and by hand."""

import math
from statistics import NormalDist, variance

import pytest
from hypothesis import given
from hypothesis import strategies as st

from candlestep.sandbox.performance.deflated_sharpe import (
    deflated_sharpe_ratio,
    expected_maximum_sharpe,
    probabilistic_sharpe_ratio,
)

DAYS = 250
"""The paper's example, per year: 5 years of days, a ratio of 2.5, a variance of 1/2."""
SHARPE = 2.5 / math.sqrt(DAYS)
SPREAD = 0.5 / DAYS
FAT = {"returns": 5 * DAYS, "skewness": -3.0, "kurtosis": 10.0}
NORMAL = {"returns": 5 * DAYS, "skewness": 0.0, "kurtosis": 3.0}


def test_the_papers_example() -> None:
    """Pages 100 and 101: 90 % for 100 trials; 95 % for 46, or for 88 if returns were normal."""
    benchmark = expected_maximum_sharpe(100, SPREAD)
    assert benchmark == pytest.approx(0.1132, abs=5e-5)
    assert probabilistic_sharpe_ratio(SHARPE, benchmark, **FAT) == pytest.approx(0.9004, abs=5e-5)  # type: ignore[arg-type]
    for trials, moments in ((46, FAT), (88, NORMAL)):
        benchmark = expected_maximum_sharpe(trials, SPREAD)
        likely = probabilistic_sharpe_ratio(SHARPE, benchmark, **moments)  # type: ignore[arg-type]
        assert likely == pytest.approx(0.9505, abs=5e-5)


def test_two_trials_by_hand() -> None:
    """Z⁻¹[1 − 1/2] is 0, so that the benchmark is √V γ Z⁻¹[1 − 1/(2 e)]; V of 0.1 and 0.3 is 0.02."""
    benchmark = math.sqrt(0.02) * 0.5772156649 * NormalDist().inv_cdf(1 - 1 / (2 * math.e))
    expected = NormalDist().cdf((0.3 - benchmark) * math.sqrt(99) / math.sqrt(1 + 0.5 * 0.09))
    ratio = deflated_sharpe_ratio(
        0.3, trials=2, trial_sharpes=[0.1, 0.3], returns=100, skewness=0.0, kurtosis=3.0
    )
    assert ratio == pytest.approx(expected, rel=1e-9)


def test_a_single_trial_and_trials_alike_are_compared_with_zero() -> None:
    expected = NormalDist().cdf(0.1 * math.sqrt(99) / math.sqrt(1 + 0.5 * 0.01))
    for ratios in ([], [0.1], [0.1] * 7):
        ratio = deflated_sharpe_ratio(
            0.1,
            trials=max(1, len(ratios)),
            trial_sharpes=ratios,
            returns=100,
            skewness=0.0,
            kurtosis=3.0,
        )
        assert ratio == pytest.approx(expected, rel=1e-12)


def test_where_the_formula_has_no_value_there_is_none() -> None:
    one = {"skewness": 0.0, "kurtosis": 3.0}
    assert probabilistic_sharpe_ratio(0.1, 0.0, returns=1, **one) is None
    assert probabilistic_sharpe_ratio(2.0, 0.0, returns=9, skewness=3.0, kurtosis=1.0) is None


@given(
    st.floats(-1, 1),
    st.lists(st.floats(-1, 1), min_size=2, max_size=20),
    st.integers(2, 5000),
    st.integers(0, 500),
)
def test_it_is_a_probability_that_falls_with_the_number_of_trials(
    sharpe: float, ratios: list[float], returns: int, more: int
) -> None:
    def deflated(trials: int) -> float:
        ratio = deflated_sharpe_ratio(
            sharpe,
            trials=trials,
            trial_sharpes=ratios,
            returns=returns,
            skewness=0.0,
            kurtosis=3.0,
        )
        assert ratio is not None
        return ratio

    few = deflated(len(ratios))
    assert 0 <= deflated(len(ratios) + more) <= few <= 1
    assert expected_maximum_sharpe(len(ratios), variance(ratios)) >= 0
