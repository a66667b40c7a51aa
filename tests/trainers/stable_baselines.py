"""Stable-Baselines3: its check of environments, and PPO through the adapter.

Run by ``make rl-check``, in an environment with torch and stable-baselines3.
"""

import time
import warnings

import numpy as np
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_checker import check_env

from candlestep.sandbox.envs import BracketEnv, OrdersEnv, TargetEnv, TargetVectorEnv
from candlestep.sandbox.envs.sb3 import VecEnv
from tests.support.environments import MARKET

STEPS = 2_048
COUNT = 8


class CountEnds(BaseCallback):  # type: ignore[misc, unused-ignore]
    """Counts ends of episodes, and checks that each has its last observation."""

    def __init__(self) -> None:
        super().__init__()
        self.ends = 0

    def _on_step(self) -> bool:
        for done, info in zip(self.locals["dones"], self.locals["infos"], strict=True):
            assert done == ("terminal_observation" in info) == ("episode" in info)
            self.ends += int(done)
        return True


def main() -> None:
    """Run the checks; raise if one fails."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*symmetric and normalized Box action space.*")
        for env in (
            TargetEnv(MARKET, window=4, episode_steps=20),
            TargetEnv(MARKET, window=4, episode_steps=20, actions="continuous"),
            BracketEnv(MARKET, window=4, episode_steps=20, stop_loss=0.01, take_profit=0.02),
            OrdersEnv(MARKET, window=4, episode_steps=20),
        ):
            check_env(env)
            print(f"check_env of {type(env).__name__}, actions {env.action_space}: passed")
    envs = TargetVectorEnv(MARKET, COUNT, window=4, episode_steps=50, autoreset_mode="same_step")
    counter = CountEnds()
    model = PPO("MlpPolicy", VecEnv(envs, time.monotonic), n_steps=STEPS // COUNT, seed=1)
    model.learn(STEPS, callback=counter)
    assert counter.ends == COUNT * (STEPS // COUNT // 50), counter.ends
    assert len(model.ep_info_buffer or ()) > 0
    action, _ = model.predict(envs.reset(seed=1)[0])
    assert np.asarray(action).shape == (COUNT,)
    print(f"PPO, {STEPS} steps: saw terminal_observation at each of {counter.ends} ends")


if __name__ == "__main__":
    main()
