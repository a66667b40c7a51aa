"""Environments for reinforcement learning, against two others in the same run, in CPU time.

The others have requirements of their own: each runs in a virtual environment under ``.ci/peers``,
made when it is missing, and in a process of its own. All take turns; medians are compared.
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from candlestep.sandbox import Market
from candlestep.sandbox.envs import BracketVectorEnv, TargetEnv, TargetVectorEnv
from tests.benchmarks.table import Row
from tests.support.project import ROOT
from tests.support.tapes import tape

ROUNDS = 5
CANDLES = 100_000
SINGLE_STEPS = 3_000
PEERS = ROOT / ".ci" / "peers"
COSTS: dict[str, Any] = {"fee_rate": "0.001", "slippage": {"model": "fixed_bps", "bps": 5}}

_LOOP = """
import time
import numpy as np, pandas as pd, warnings
warnings.filterwarnings("ignore")
import gymnasium as gym
random = np.random.default_rng(1)
n, steps = 50_000, {steps}
close = 60_000 * np.exp(np.cumsum(random.normal(0, 0.001, n)))
frame = pd.DataFrame(dict(open=close, high=close, low=close, close=close, volume=1.0),
                     index=pd.date_range("2024", periods=n, freq="min"))
{make}
env.reset(seed=0)
actions = random.integers(0, {choices}, steps).tolist()
began = time.process_time()
for action in actions:
    _, _, terminated, truncated, _ = env.step(action)
    if terminated or truncated:
        env.reset()
print("seconds", (time.process_time() - began) / steps)
"""
_GYM_TRADING_ENV = """
import gym_trading_env
for number in range(5):
    frame[f"feature_{number}"] = random.normal(size=n)
env = gym.make("TradingEnv", name="x", df=frame, positions=[0, 0.5, 1], trading_fees=0.001,
               windows=32, max_episode_duration=1440, verbose=0)
"""
_GYM_ANYTRADING = """
import gym_anytrading
from gym_anytrading.envs import StocksEnv
frame = frame.rename(columns=str.title)
env = StocksEnv(df=frame, window_size=32, frame_bound=(32, n))
"""


def rows() -> list[Row]:
    """Return the rows of environments."""
    market = Market([tape(1, CANDLES, level=60_000.0, volatility=0.001)])
    windows, small = TargetVectorEnv(market, 1024, **COSTS), TargetVectorEnv(market, 64, **COSTS)
    guarded = BracketVectorEnv(market, 1024, stop_loss=0.002, take_profit=0.003, **COSTS)
    index = TargetVectorEnv(market, 8192, observation="index", **COSTS)
    single = TargetEnv(market, **COSTS)
    ours: dict[str, Callable[[], float]] = {
        "small": lambda: _many(small, 200),
        "windows": lambda: _many(windows, 100),
        "guarded": lambda: _many(guarded, 100),
        "index": lambda: _many(index, 30),
        "single": lambda: _one(single),
    }
    others = {
        "gym-trading-env": (["gym-trading-env==0.3.5"], _GYM_TRADING_ENV, 3),
        "gym-anytrading": (["gym-anytrading==2.0.0"], _GYM_ANYTRADING, 2),
    }
    taken: dict[str, list[float]] = {name: [] for name in (*ours, *others)}
    for env in (small, windows, guarded, index):
        env.reset(seed=0)
    for _ in range(ROUNDS):
        for name, measure in ours.items():
            taken[name].append(measure())
        for name, (packages, make, choices) in others.items():
            taken[name].append(_peer(name, packages, make, choices))
    seconds = {name: statistics.median(values) for name, values in taken.items()}
    peer, any_peer = seconds["gym-trading-env"], seconds["gym-anytrading"]

    def row(what: str, name: str, times: float, least: float = 0) -> Row:
        ratio, speed = peer / seconds[name], 1 / seconds[name]
        bar = f"≥ {times:g} ×" + (f", ≥ {least / 1e6:g} M steps/s" if least else "")
        return Row(
            what,
            f"{speed:,.0f} steps/s",
            f"{1 / peer:,.0f} steps/s, gym-trading-env; {1 / any_peer:,.0f}, gym-anytrading",
            f"{ratio:,.2f} ×" if ratio < 10 else f"{ratio:,.0f} ×",
            bar if times else "",
            ratio >= times and speed >= least,
        )

    return [
        row("64 environments of weights, windows of 32 x 5", "small", 0),
        row("the same, 1,024 environments", "windows", 30, 1.2e6),
        row("the same with a stop and a target", "guarded", 25),
        row("8,192 environments, row numbers instead of windows", "index", 120),
        row("a single environment, two thirds of the steps trade", "single", 0.9),
    ]


def _many(env: TargetVectorEnv, steps: int) -> float:
    """Return the CPU seconds of a step of one sub-environment."""
    actions = np.random.default_rng(0).integers(0, 3, (steps, env.num_envs))
    began = time.process_time()
    for action in actions:
        env.step(action)
    return (time.process_time() - began) / steps / env.num_envs


def _one(env: TargetEnv) -> float:
    env.reset(seed=0)
    actions = np.random.default_rng(0).integers(0, 3, SINGLE_STEPS).tolist()
    began = time.process_time()
    for action in actions:
        _, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            env.reset()
    return (time.process_time() - began) / SINGLE_STEPS


def _peer(name: str, packages: list[str], make: str, choices: int) -> float:
    python = _environment(PEERS / name, packages) / "bin" / "python"
    script = _LOOP.format(steps=SINGLE_STEPS, make=make, choices=choices)
    printed = subprocess.run(
        [python, "-c", script], capture_output=True, text=True, check=True
    ).stdout
    return float(printed.rsplit("seconds", 1)[1])


def _environment(folder: Path, packages: list[str]) -> Path:
    """Return a virtual environment with these packages, made if it is not there."""
    if not (folder / "installed").exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        pip = [str(folder / "bin" / "pip"), "install", "--quiet", *packages]
        subprocess.run(pip, check=True)
        (folder / "installed").touch()
    return folder


if __name__ == "__main__":
    from tests.benchmarks.table import print_table

    print_table(rows())
