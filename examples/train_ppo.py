"""Train an agent with PPO for about a minute, and evaluate it on candles that it has not seen.

It needs torch and Stable-Baselines3, which you install yourself:

    pip install 'candlestep[rl]' torch stable-baselines3
    python examples/train_ppo.py ~/.candlestep BTCUSDT

Without arguments it uses the synthetic sample market. It prints each held-out episode next to
holding all the while, and saves the best as ``best_episode.jsonl``, which
``candlestep replay best_episode.jsonl`` runs again, fill by fill, on the same home.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3 import PPO

from candlestep.api.replay.saved_session import save_session
from candlestep.data.market import MarketSource
from candlestep.sandbox import format_time
from candlestep.sandbox.envs import TargetVectorEnv
from candlestep.sandbox.envs.sb3 import VecEnv

SETTINGS: dict[str, Any] = {
    "interval": "15m",
    "window": 16,
    "features": ["returns", "volatility", "rsi", "time_of_day"],
    "episode_steps": 96,
    "fee_rate": 0.0005,
    "slippage": {"model": "fixed_bps", "bps": 2},
    "autoreset_mode": "same_step",
}
"""Decide every 15 minutes on minutes, for a day."""


def train(source: MarketSource, seconds: float) -> PPO:
    """Train on the first 70 % of the candles, for some seconds."""
    envs = TargetVectorEnv(source, 64, split="train", reward_scale=100.0, **SETTINGS)
    model = PPO(
        "MlpPolicy", VecEnv(envs), n_steps=64, batch_size=512, n_epochs=4, seed=1, device="cpu"
    )
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        model.learn(64 * 64, reset_num_timesteps=False)
    print(f"trained for {model.num_timesteps:,} steps")
    return model


def evaluate(source: MarketSource, model: PPO, path: Path) -> None:
    """Play all episodes of the last 15 % side by side, and save the best."""
    options: dict[str, Any] = {"split": "test", "start": "sequential", **SETTINGS}
    count = TargetVectorEnv(source, 1, **options).episode_count
    envs = TargetVectorEnv(source, count, record=True, **options)
    observations, _ = envs.reset(seed=0)
    for _ in range(SETTINGS["episode_steps"]):
        actions, _ = model.predict(observations, deterministic=True)
        observations, *_ = envs.step(actions)
    sessions = [envs.session(number, finished=True) for number in range(count)]
    earned = []
    for session in sessions:
        config, symbol = session.config, session.market.symbols[0]
        first, last = (
            session.market.price(symbol, time) for time in (config.start_time, config.end_time)
        )
        earned.append(float(session.portfolio().total_equity / config.starting_balance - 1))
        print(
            f"{format_time(config.start_time)}  agent {earned[-1]:+.2%}"
            f"  buy and hold {float(last / first - 1):+.2%}  fills {len(session.fills)}"
        )
    best = int(np.argmax(earned))
    save_session(sessions[best], path)
    print(f"mean {np.mean(earned):+.2%}; saved the best, {earned[best]:+.2%}, as {path}")


def main(arguments: list[str]) -> None:
    """Train and evaluate on a home and a symbol, or on the sample market; then perhaps seconds."""
    seconds = float(arguments.pop()) if len(arguments) in (1, 3) else 60.0
    if arguments:
        home, symbol = arguments
    else:
        home, symbol = tempfile.mkdtemp(prefix="candlestep-ppo-"), "BTCUSDT"
        command = [sys.executable, "-m", "candlestep.api", "data", "sample", "--home", home]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        print(f"the sample market, which is synthetic, is in {home}")
    source = MarketSource(home, symbol)
    evaluate(source, train(source, seconds), Path("best_episode.jsonl"))


if __name__ == "__main__":
    main(sys.argv[1:])
