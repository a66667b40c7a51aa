"""The spaces of observations and actions, and actions as weights."""

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces

from candlestep.sandbox.envs.features import FeatureTable
from candlestep.sandbox.envs.settings import Settings
from candlestep.sandbox.errors import InvalidParameter, abbreviate
from candlestep.sandbox.exchange.batch.book import Bracket
from candlestep.sandbox.exchange.batch.exact import Integers
from candlestep.sandbox.exchange.batch.guards import MILLION

Space = spaces.Space[Any]


def account_size(settings: Settings) -> int:
    """Return the number of observed numbers of the account: one a symbol, and three."""
    return len(settings.symbols) + 3 if settings.has_account else 0


def window_size(settings: Settings, table: FeatureTable) -> int:
    """Return the number of observed features: window x features, for each symbol."""
    return len(settings.symbols) * settings.window * len(table.names)


def observation_space(settings: Settings, table: FeatureTable, extra: int = 0) -> Space:
    """Return the space of one observation, with ``extra`` numbers more of the account."""
    account = account_size(settings) + extra
    if settings.is_flat:
        return _reals(window_size(settings, table) + account)
    columns = len(settings.symbols) * len(table.names)
    parts: dict[str, Space] = {"window": _reals(settings.window, columns)}
    if account:
        parts["account"] = _reals(account)
    return spaces.Dict(parts)


def index_space(settings: Settings, table: FeatureTable) -> Space:
    """Return the space of an observation by row numbers of ``table``."""
    shape = () if len(settings.symbols) == 1 else (len(settings.symbols),)
    last = len(table.values) - 1
    parts: dict[str, Space] = {"row": spaces.Box(0, last, shape, np.int64)}
    if settings.has_account:
        parts["account"] = _reals(account_size(settings))
    return spaces.Dict(parts)


def action_space(settings: Settings) -> Space:
    """Return the space of one action: a weight for each symbol, and perhaps a bracket."""
    count = len(settings.symbols)
    if not settings.is_discrete:
        least, most = settings.least_weight / MILLION, settings.most_weight / MILLION
        return spaces.Box(least, most, (count,), np.float32)
    choices = [len(settings.weights)] * count
    if settings.chooses_bracket:
        choices += [len(settings.brackets)] * count
    return spaces.Discrete(choices[0]) if len(choices) == 1 else spaces.MultiDiscrete(choices)


class Actions:
    """Actions of one or many environments as weights in millionths, and numbers of brackets."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._count = len(settings.symbols)
        self._weights = np.array(settings.weights)
        self._fixed = settings.brackets[:1] * self._count
        self._width = self._count * (2 if settings.chooses_bracket else 1)
        self._is_index = settings.is_discrete and self._width == 1

    def of_one(self, action: Any) -> tuple[Sequence[int], Sequence[Bracket]]:
        """Return the weight and the bracket of each symbol; raises ``InvalidParameter``."""
        settings = self._settings
        if self._is_index:
            weights = settings.weights
            if type(action) is not int or not 0 <= action < len(weights):
                action = _index(action, len(weights))
            return [weights[action]], self._fixed
        asked, brackets = self.of_many(np.asarray(action)[None])
        if brackets is None:
            return asked[:, 0].tolist(), self._fixed
        return asked[:, 0].tolist(), [settings.brackets[n] for n in brackets[:, 0].tolist()]

    def of_many(self, actions: Any) -> tuple[Integers, Integers | None]:
        """Return weights and numbers of brackets, with a row for each symbol."""
        array = np.asarray(actions)
        if array.ndim == 1 and self._width == 1:
            array = array[:, None]
        if array.ndim != 2 or array.shape[1] != self._width:
            raise InvalidParameter(
                "action", f"must have shape ({self._width},), got {array.shape[1:]}"
            )
        if not self._settings.is_discrete:
            return self._shares(array).T, None
        if array.dtype.kind not in "iu":
            raise InvalidParameter("action", f"must be of whole numbers, got {array.dtype}")
        weights, brackets = array[:, : self._count].T, array[:, self._count :].T
        _require_below(weights, len(self._weights))
        if not self._settings.chooses_bracket:
            return self._weights[weights], None
        _require_below(brackets, len(self._settings.brackets))
        return self._weights[weights], brackets.astype(np.int64)

    def _shares(self, array: Any) -> Integers:
        if array.dtype.kind not in "iuf":
            raise InvalidParameter("action", f"must be of numbers, got {array.dtype}")
        shares = np.rint(array.astype(np.float64) * MILLION)
        if np.isnan(shares).any():
            raise InvalidParameter("action", "is NaN; give a weight from 0 to 1")
        least, most = self._settings.least_weight, self._settings.most_weight
        clipped: Integers = np.clip(shares, least, most).astype(np.int64)
        return clipped


def _index(action: Any, count: int) -> int:
    try:
        index = operator.index(action)
    except TypeError:
        index = -1
        if isinstance(action, np.ndarray) and action.shape == (1,) and action.dtype.kind in "iu":
            index = int(action[0])
    if isinstance(action, bool) or not 0 <= index < count:
        raise InvalidParameter(
            "action", f"must be a whole number from 0 to {count - 1}, got {abbreviate(action)}"
        )
    return index


def _require_below(numbers: Any, count: int) -> None:
    if numbers.min(initial=0) < 0 or numbers.max(initial=0) >= count:
        raise InvalidParameter("action", f"must be whole numbers from 0 to {count - 1}")


def _reals(*shape: int) -> Space:
    return spaces.Box(-np.inf, np.inf, shape, np.float32)
