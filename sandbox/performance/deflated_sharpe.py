"""The deflated Sharpe ratio: the probability that a Sharpe ratio is more than luck.

After D. H. Bailey and M. López de Prado, "The Deflated Sharpe Ratio: Correcting for Selection Bias,
Backtest Overfitting, and Non-Normality", Journal of Portfolio Management 40 (5), 2014, 94–107.

With the Sharpe ratio *SR* of *T* returns, not annualised, their skewness *γ₃* and kurtosis *γ₄* (3 if
normal), and *Z* the standard normal distribution:

- ``PSR(SR₀) = Z[(SR − SR₀) √(T − 1) / √(1 − γ₃ SR + (γ₄ − 1) / 4 · SR²)]`` is the probability that
  the true ratio is above *SR₀*;
- ``SR₀ = √V ((1 − γ) Z⁻¹[1 − 1/N] + γ Z⁻¹[1 − 1/(N e)])`` is the highest ratio to be expected of *N*
  trials without any skill, *V* being the variance of their ratios and *γ* the Euler–Mascheroni
  constant;
- the deflated ratio is ``PSR(SR₀)`` at that *SR₀*.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist, variance

from candlestep.sandbox.clock import parse_interval
from candlestep.sandbox.performance.metrics import YEAR, Metrics

_EULER_MASCHERONI = 0.5772156649015329
_NORMAL = NormalDist()


def deflated_sharpe_ratio(
    sharpe: float,
    *,
    trials: int,
    trial_sharpes: Sequence[float],
    returns: int,
    skewness: float,
    kurtosis: float,
) -> float | None:
    """Return the probability that the true Sharpe ratio is above that of the luckiest trial.

    ``sharpe`` and ``trial_sharpes`` (of the trials that have one) are per return, not annualised.
    A single trial is compared with 0, as are trials with equal ratios. None with fewer than 2
    returns, or where the formula has no value.
    """
    spread = variance(trial_sharpes) if len(trial_sharpes) > 1 else 0.0
    benchmark = expected_maximum_sharpe(trials, spread)
    return probabilistic_sharpe_ratio(
        sharpe, benchmark, returns=returns, skewness=skewness, kurtosis=kurtosis
    )


def deflated_sharpe_of(metrics: Metrics, trials: Sequence[float | None]) -> float | None:
    """Return the deflated Sharpe ratio of a session among its trials, itself included.

    ``trials`` are their annualised Sharpe ratios, None where one is undefined.
    """
    sharpe, count = metrics.sharpe_ratio, metrics.returns_count
    skewness, kurtosis = metrics.returns_skewness, metrics.returns_kurtosis
    if sharpe is None or count is None or skewness is None or kurtosis is None:
        return None
    annual = (YEAR / parse_interval(metrics.returns_grid)) ** 0.5
    return deflated_sharpe_ratio(
        sharpe / annual,
        trials=len(trials),
        trial_sharpes=[ratio / annual for ratio in trials if ratio is not None],
        returns=count,
        skewness=skewness,
        kurtosis=kurtosis,
    )


def probabilistic_sharpe_ratio(
    sharpe: float, benchmark: float, *, returns: int, skewness: float, kurtosis: float
) -> float | None:
    """Return the probability that the true Sharpe ratio is above ``benchmark``; None as above."""
    square = 1 - skewness * sharpe + (kurtosis - 1) / 4 * sharpe**2
    if returns < 2 or not square > 0:
        return None
    return _NORMAL.cdf((sharpe - benchmark) * math.sqrt(returns - 1) / math.sqrt(square))


def expected_maximum_sharpe(trials: int, spread: float) -> float:
    """Return the expected highest Sharpe ratio of trials without skill; 0 for a single one.

    ``spread`` is the variance of their ratios.
    """
    if trials < 2:
        return 0.0
    high = _NORMAL.inv_cdf(1 - 1 / trials)
    higher = _NORMAL.inv_cdf(1 - 1 / (trials * math.e))
    return math.sqrt(spread) * ((1 - _EULER_MASCHERONI) * high + _EULER_MASCHERONI * higher)
