"""Vectorised environments for PufferLib 3, which steps into buffers of its own."""

from typing import Any

import numpy as np
import pufferlib

from candlestep.sandbox.envs.vector import TargetVectorEnv
from candlestep.sandbox.errors import InvalidParameter


class PufferEnv(pufferlib.PufferEnv):  # type: ignore[misc, unused-ignore]
    """A ``TargetVectorEnv`` or ``BracketVectorEnv`` as a native environment of PufferLib.

    Each sub-environment is an agent. Observations are written into the buffer of PufferLib without
    a copy in between. At the end of episodes, ``infos`` has their mean ``episode_return`` and
    ``episode_length``.
    """

    def __init__(self, env: TargetVectorEnv, buf: Any = None) -> None:
        """Wrap ``env``, which must reset in the same step and have flat observations.

        Raises ``InvalidParameter`` naming what does not fit.
        """
        if env.metadata["autoreset_mode"].value != "SameStep":
            raise InvalidParameter("autoreset_mode", "must be same_step for PufferLib")
        self.env = env
        self.single_observation_space = env.single_observation_space
        self.single_action_space = env.single_action_space
        self.num_agents = env.num_envs
        self.render_mode = env.render_mode
        super().__init__(buf)
        env.write_to(self.observations)
        self._returns = np.zeros(env.num_envs)
        self._lengths = np.zeros(env.num_envs, dtype=np.int64)

    def reset(self, seed: int | None = None) -> tuple[Any, list[dict[str, Any]]]:
        """Reset all sub-environments; the i-th gets ``seed`` + i."""
        self.env.reset(seed=seed)
        self._returns[:] = self._lengths[:] = 0
        return self.observations, []

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, list[dict[str, Any]]]:
        """Step all sub-environments, and write what they return into the buffers."""
        _, rewards, terminations, truncations, _ = self.env.step(actions)
        self.rewards[:] = rewards
        self.terminals[:] = terminations
        self.truncations[:] = truncations
        self._returns += rewards
        self._lengths += 1
        infos: list[dict[str, Any]] = []
        done = terminations | truncations
        if done.any():
            infos.append(
                {
                    "episode_return": float(self._returns[done].mean()),
                    "episode_length": float(self._lengths[done].mean()),
                }
            )
            self._returns[done] = 0
            self._lengths[done] = 0
        return self.observations, self.rewards, self.terminals, self.truncations, infos

    def render(self) -> Any:
        """Return what the environment renders."""
        return self.env.render()

    def close(self) -> None:
        """Close the environment."""
        self.env.close()


def make(market: Any, num_envs: int = 1024, *, buf: Any = None, **options: Any) -> PufferEnv:
    """Return a ``PufferEnv`` of a new ``TargetVectorEnv``; ``options`` are its arguments."""
    env = TargetVectorEnv(market, num_envs, autoreset_mode="same_step", **options)
    return PufferEnv(env, buf)
