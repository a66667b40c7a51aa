"""An agent that acts at random, in one environment and in a thousand at once.

It needs only ``pip install 'candlestep[rl]'``. Give the home directory of imported candles and a
symbol, or nothing for the synthetic sample market:

    python examples/random_agent.py ~/.candlestep BTCUSDT
"""

import sys
import time
from pathlib import Path

import gymnasium
import numpy as np

from candlestep.data.imports.sample import sample_market
from candlestep.data.market import MarketSource
from candlestep.sandbox import Candles, Market

MANY = 1_024
STEPS = 200


def market(arguments: list[str]) -> Market:
    """Return the imported candles of a symbol, or those of the sample market."""
    if arguments:
        home, symbol = arguments
        return MarketSource(Path(home), symbol)()
    sample = sample_market()["BTCUSDT"]
    columns = {name: getattr(sample, name) for name in ("open", "high", "low", "close", "volume")}
    return Market([Candles(symbol="BTCUSDT", interval="1m", open_time=sample.open_time, **columns)])


def main(arguments: list[str]) -> None:
    """Play an episode, then step many environments."""
    candles = market(arguments)
    print(candles)
    env = gymnasium.make("candlestep.sandbox.envs:Candlestep/Target-v0", market=candles)
    env.action_space.seed(1)
    _, info = env.reset(seed=1)
    total, is_over = 0.0, False
    while not is_over:
        _, reward, terminated, truncated, info = env.step(env.action_space.sample())
        total += float(reward)
        is_over = terminated or truncated
    print(f"one episode to {info['time']}: equity {info['equity']:.2f}, {info['fills']} fills")
    print(f"logarithmic rewards add up to {total:.4f}, which is {np.exp(total) - 1:.2%}")

    envs = gymnasium.make_vec("Candlestep/Target-v0", num_envs=MANY, market=candles)
    envs.reset(seed=1)
    random = np.random.default_rng(1)
    began = time.perf_counter()
    for _ in range(STEPS):
        envs.step(random.integers(0, 3, MANY))
    speed = MANY * STEPS / (time.perf_counter() - began)
    print(f"{MANY:,} environments at once: {speed:,.0f} steps/s")


if __name__ == "__main__":
    main(sys.argv[1:])
