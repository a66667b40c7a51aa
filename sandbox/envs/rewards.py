"""Rewards of a step, for any number of accounts at once, in float64.

Equities are in units of 1e-8 as floats. ``before`` is that at the time of the action, before its
order, so that costs are in the reward of the action that caused them.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from candlestep.sandbox.errors import InvalidParameter, abbreviate
from candlestep.sandbox.exchange.batch.exact import Floats

SHARPE_RATE = 0.01
"""The adaptation rate of the differential Sharpe ratio."""


class Equities(NamedTuple):
    """The argument of a reward function: arrays with an element for each account, in quote currency."""

    before: Floats
    after: Floats
    start: Floats
    """Equity at the start of the episode."""


Reward = str | Callable[[Equities], Any]
KINDS = ("log_return", "return", "pnl", "differential_sharpe", "drawdown")


class Rewards:
    """The rewards of accounts, with the state that some kinds keep for an episode.

    ``log_return``: ln(after / before), of at least 1e-8 each. ``return``: after / before - 1.
    ``pnl``: the change over the equity at the start. ``drawdown``: minus the increase of the
    maximum drawdown. ``differential_sharpe``: Moody and Saffell, "Learning to Trade via Direct
    Reinforcement" (2001), with a rate of 0.01 from A = B = 0; 0 while B - A ** 2 is not positive.
    """

    def __init__(self, reward: Reward, scale: float, accounts: int) -> None:
        """Prepare rewards times ``scale``; raises ``InvalidParameter`` for an unknown kind."""
        if not callable(reward) and reward not in KINDS:
            raise InvalidParameter(
                "reward",
                f"must be one of {', '.join(KINDS)} or a function, got {abbreviate(reward)}",
            )
        self._reward = reward
        self._scale = scale
        self._peak = np.zeros(accounts)
        self._deepest = np.zeros(accounts)
        self._mean = np.zeros(accounts)
        self._mean_square = np.zeros(accounts)

    def begin(self, accounts: Any, start: Floats) -> None:
        """Start an episode of some accounts, with their equities."""
        self._peak[accounts] = start
        self._deepest[accounts] = self._mean[accounts] = self._mean_square[accounts] = 0

    def of(self, before: Floats, after: Floats, start: Floats) -> Floats:
        """Return the reward of each account for a step."""
        reward = self._reward
        if reward == "log_return":
            rewards = np.log(np.maximum(after, 1) / np.maximum(before, 1))
        elif reward == "return":
            rewards = after / np.maximum(before, 1) - 1
        elif reward == "pnl":
            rewards = (after - before) / start
        elif reward == "drawdown":
            rewards = self._of_drawdown(after)
        elif reward == "differential_sharpe":
            rewards = self._of_sharpe(after / np.maximum(before, 1) - 1)
        else:
            rewards = self._of_function(before, after, start)
        return rewards if self._scale == 1 else rewards * self._scale

    def of_one(self, before: float, after: float, start: float) -> float:
        """Return ``of`` for a single account, as quickly as its kind allows."""
        if self._reward == "log_return":
            ratio = (after if after > 1 else 1.0) / (before if before > 1 else 1.0)
            # NumPy's logarithm: that of the standard library differs in the last bit.
            return float(np.log(ratio)) * self._scale
        one = (np.array([equity]) for equity in (before, after, start))
        return float(self.of(*one)[0])

    def _of_drawdown(self, after: Floats) -> Floats:
        np.maximum(self._peak, after, out=self._peak)
        deepest = np.maximum(self._deepest, 1 - after / np.maximum(self._peak, 1))
        rewards = self._deepest - deepest
        self._deepest = deepest
        return rewards

    def _of_sharpe(self, returns: Floats) -> Floats:
        change = returns - self._mean
        change_of_squares = returns * returns - self._mean_square
        variance = self._mean_square - self._mean * self._mean
        is_defined = variance > 0
        divisor = np.where(is_defined, variance, 1)
        divisor = divisor * np.sqrt(divisor)
        rewards = self._mean_square * change - 0.5 * self._mean * change_of_squares
        self._mean = self._mean + SHARPE_RATE * change
        self._mean_square = self._mean_square + SHARPE_RATE * change_of_squares
        return np.where(is_defined, rewards / divisor, 0.0)

    def _of_function(self, before: Floats, after: Floats, start: Floats) -> Floats:
        assert callable(self._reward), "checked when it was given"
        rewards = np.asarray(
            self._reward(Equities(before / 1e8, after / 1e8, start / 1e8)), dtype=np.float64
        )
        if rewards.shape != before.shape or not np.isfinite(rewards).all():
            raise InvalidParameter(
                "reward",
                f"the function must return a finite number for each of {len(before)} accounts, got"
                f" {abbreviate(rewards.tolist())}",
            )
        return rewards
