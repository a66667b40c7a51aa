"""RLlib on Ray: PPO over an environment whose candles each worker loads by name.

Run by ``make rl-check``.
"""

import subprocess
import sys
import tempfile
from typing import Any

import ray
from ray.rllib.algorithms.ppo import PPOConfig
from ray.tune.registry import register_env

from candlestep.data.market import MarketSource
from candlestep.sandbox.envs import TargetEnv


def main() -> None:
    """Train for one iteration, with a worker of its own for the environments."""
    home = tempfile.mkdtemp()
    command = [sys.executable, "-m", "candlestep.api", "data", "sample", "--home", home]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    register_env("candlestep", lambda config: TargetEnv(**config))
    source = MarketSource(home, "BTCUSDT", end="2025-01-20")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    settings: Any = PPOConfig
    config = (
        settings()
        .environment("candlestep", env_config={"market": source, "window": 8, "episode_steps": 100})
        .env_runners(num_env_runners=1, num_envs_per_env_runner=2)
        .training(train_batch_size=400, minibatch_size=100, num_epochs=1)
    )
    algorithm: Any = config.build_algo()
    result = algorithm.train()
    steps = result["env_runners"]["num_env_steps_sampled"]
    assert steps >= 400
    print(
        f"RLlib: {int(steps)} steps, mean return {result['env_runners']['episode_return_mean']:.5f}"
    )
    algorithm.stop()
    ray.shutdown()


if __name__ == "__main__":
    main()
