"""Conditions, evaluated over whole columns of candles at once."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from candlestep.sandbox.indicators.indicators import Values
from candlestep.sandbox.market.candles import Floats
from candlestep.sandbox.strategies.card import Condition, Earlier, Operand, Operator

Booleans = NDArray[np.bool_]


class Truth(NamedTuple):
    """Rows at which a condition is true and at which it is false; elsewhere it is not known yet."""

    true: Booleans
    false: Booleans


def evaluate(condition: Condition, values: Values) -> Truth:
    """Evaluate ``condition`` at every row; no row depends on a later one."""
    if condition.all is not None:
        parts = [evaluate(part, values) for part in condition.all]
        return Truth(_every([p.true for p in parts]), _some([p.false for p in parts]))
    if condition.any is not None:
        parts = [evaluate(part, values) for part in condition.any]
        return Truth(_some([p.true for p in parts]), _every([p.false for p in parts]))
    if condition.not_ is not None:
        negated = evaluate(condition.not_, values)
        return Truth(negated.false, negated.true)
    assert condition.left is not None
    assert condition.op is not None
    assert condition.right is not None
    left, right = _column(condition.left, values), _column(condition.right, values)
    return _compare(left, condition.op, right)


def _column(operand: Operand, values: Values) -> Floats:
    if isinstance(operand, Earlier):
        return _earlier(values[operand.of], operand.ago)
    if isinstance(operand, str):
        return values[operand]
    return np.full(len(values["close"]), float(operand))


def _earlier(column: Floats, ago: int) -> Floats:
    earlier = np.full(len(column), np.nan)
    earlier[ago:] = column[: max(0, len(column) - ago)]
    return earlier


def _differ(left: Floats, right: Floats) -> Booleans:
    """Compare as numbers: NaN, a value not known yet, differs from none."""
    return np.asarray((left < right) | (left > right))


_Comparison = Callable[[Floats, Floats], Booleans]

_COMPARISONS: dict[str, tuple[_Comparison, _Comparison]] = {
    ">": (np.greater, np.less_equal),
    ">=": (np.greater_equal, np.less),
    "<": (np.less, np.greater_equal),
    "<=": (np.less_equal, np.greater),
    "==": (np.equal, _differ),
    "!=": (_differ, np.equal),
}
"""The comparisons by which each operator is true and false; with NaN it is neither."""


def _compare(left: Floats, op: Operator, right: Floats) -> Truth:
    if op == "crosses_below":
        return _compare(right, "crosses_above", left)
    if op == "crosses_above":
        before = _compare(_earlier(left, 1), "<=", _earlier(right, 1))
        now = _compare(left, ">", right)
        return Truth(before.true & now.true, before.false | now.false)
    is_true, is_false = _COMPARISONS[op]
    return Truth(is_true(left, right), is_false(left, right))


def _every(columns: Sequence[Booleans]) -> Booleans:
    return np.asarray(np.logical_and.reduce(columns))


def _some(columns: Sequence[Booleans]) -> Booleans:
    return np.asarray(np.logical_or.reduce(columns))
