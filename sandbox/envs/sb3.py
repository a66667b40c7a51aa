"""Vectorised environments for Stable-Baselines3, which takes its own ``VecEnv`` alone."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.vec_env import VecEnv as BaseVecEnv

from candlestep.sandbox.envs.vector import TargetVectorEnv
from candlestep.sandbox.errors import InvalidParameter

Indices = int | Iterable[int] | None


class VecEnv(BaseVecEnv):  # type: ignore[misc, unused-ignore]
    """A ``TargetVectorEnv`` or ``BracketVectorEnv`` as Stable-Baselines3 takes it.

    Rewards are float32. At the end of an episode ``infos`` has ``terminal_observation``,
    ``TimeLimit.truncated`` and ``episode``: its return ``r``, its length ``l``, and the seconds
    ``t`` since the start by ``timer``.

    >>> env = VecEnv(TargetVectorEnv(market, 64, autoreset_mode="same_step"))
    >>> PPO("MlpPolicy", env).learn(100_000)
    """

    def __init__(self, env: TargetVectorEnv, timer: Callable[[], float] | None = None) -> None:
        """Wrap ``env``, which must reset in the same step and copy its windows.

        ``timer`` is a clock such as ``time.monotonic``; without one, ``t`` is 0.
        Raises ``InvalidParameter`` naming what does not fit.
        """
        if env.metadata["autoreset_mode"] is not AutoresetMode.SAME_STEP:
            raise InvalidParameter("autoreset_mode", "must be same_step for Stable-Baselines3")
        self.env = env
        self._timer = timer or _no_time
        self._began = self._timer()
        self._actions: Any = None
        self._returns = np.zeros(env.num_envs)
        self._lengths = np.zeros(env.num_envs, dtype=np.int64)
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)

    def reset(self) -> Any:
        """Reset all sub-environments, with the seeds that ``seed`` has set."""
        seeds = None if all(seed is None for seed in self._seeds) else list(self._seeds)
        options = next((options for options in self._options if options), None)
        observations, _ = self.env.reset(seed=seeds, options=options)
        self._returns[:] = self._lengths[:] = 0
        self._reset_seeds()
        self._reset_options()
        return observations

    def step_async(self, actions: Any) -> None:
        """Keep the actions for ``step_wait``."""
        self._actions = actions

    def step_wait(self) -> tuple[Any, Any, Any, list[dict[str, Any]]]:
        """Step all sub-environments."""
        observations, rewards, terminations, truncations, infos = self.env.step(self._actions)
        self._returns += rewards
        self._lengths += 1
        dones = terminations | truncations
        each: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for number in np.flatnonzero(dones).tolist():
            each[number] = {
                "terminal_observation": infos["final_obs"][number],
                "TimeLimit.truncated": bool(truncations[number] and not terminations[number]),
                "episode": {
                    "r": float(self._returns[number]),
                    "l": int(self._lengths[number]),
                    "t": self._timer() - self._began,
                },
            }
        self._returns[dones] = 0
        self._lengths[dones] = 0
        return observations, rewards.astype(np.float32), dones, each

    def close(self) -> None:
        """Close the environment."""
        self.env.close()

    def get_attr(self, attr_name: str, indices: Indices = None) -> list[Any]:
        """Return an attribute of the environment, once for each sub-environment."""
        return [getattr(self.env, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Indices = None) -> None:
        """Refuse: sub-environments have no attributes of their own."""
        raise AttributeError(f"sub-environments have no {attr_name!r} of their own to set")

    def env_method(
        self, method_name: str, *arguments: Any, indices: Indices = None, **options: Any
    ) -> list[Any]:
        """Call a method of the environment that takes the number of a sub-environment first."""
        method = getattr(self.env, method_name)
        return [method(number, *arguments, **options) for number in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: type, indices: Indices = None) -> list[bool]:
        """Return whether the class is ``Monitor``, whose statistics of episodes are in ``infos``."""
        return [wrapper_class.__name__ == "Monitor" for _ in self._get_indices(indices)]

    def get_images(self) -> Sequence[Any]:
        """Return an image of each sub-environment."""
        return self.env.render() or ()


def _no_time() -> float:
    return 0.0
