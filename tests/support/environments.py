"""Environments over random candles, and the comparison of what they return."""

from typing import Any

import numpy as np

from candlestep.sandbox import Market
from tests.support.tapes import tape

MARKET = Market([tape(11, 360, volatility=0.01, level=100.0, volume=1e5)])
TWO = Market(
    [
        tape(21, 360, symbol="AUSDT", volatility=0.01, volume=1e5),
        tape(22, 360, symbol="BUSDT", volatility=0.02, level=7.0, digits=4, volume=1e5, gaps=0.2),
    ]
)
FIXED = {"model": "fixed_bps", "bps": 5}


def assert_same(one: Any, other: Any, where: str = "") -> None:
    """Assert that two results are equal bit for bit: values, types, shapes and keys."""
    if isinstance(one, dict):
        assert set(one) == set(other), where
        for name in one:
            assert_same(one[name], other[name], f"{where}/{name}")
    elif isinstance(one, tuple | list):
        assert len(one) == len(other), where
        for number, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_same(a, b, f"{where}/{number}")
    elif isinstance(one, np.ndarray) and one.dtype == object:
        for a, b in zip(one, other, strict=True):
            assert_same(a, b, where)
    elif isinstance(one, np.ndarray):
        assert one.dtype == other.dtype, where
        assert one.shape == other.shape, where
        assert one.tobytes() == other.tobytes(), f"{where}: {one} {other}"
    else:
        assert one == other, where


def played(env: Any, actions: Any, seed: int | None = None) -> list[Any]:
    """Return all that an environment returns from a reset on, episode after episode."""
    results: list[Any] = [env.reset(seed=seed)]
    for action in actions:
        results.append(env.step(action))
        if results[-1][2] or results[-1][3]:
            results.append(env.reset())
    return results
