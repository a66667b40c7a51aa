"""The adapters, over stand-ins for the two libraries: `make rl-check` runs them over the real one.

The stand-ins do in their constructors what the libraries do there, as far as it concerns adapters.
"""

import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from candlestep.sandbox import InvalidParameter
from candlestep.sandbox.envs import TargetVectorEnv
from tests.support.environments import MARKET, assert_same

SHORT: dict[str, Any] = {"window": 4, "episode_steps": 9, "autoreset_mode": "same_step"}
COUNT = 3


class StandInVecEnv:
    def __init__(self, num_envs: int, observation_space: Any, action_space: Any) -> None:
        self.num_envs = num_envs
        self.observation_space, self.action_space = observation_space, action_space
        self._reset_seeds()
        self._reset_options()
        self.render_mode = self.get_attr("render_mode")[0]  # type: ignore[attr-defined]

    def _reset_seeds(self) -> None:
        self._seeds: list[Any] = [None] * self.num_envs

    def _reset_options(self) -> None:
        self._options: list[Any] = [{}] * self.num_envs

    def _get_indices(self, indices: Any) -> Any:
        return range(self.num_envs) if indices is None else indices


class StandInPufferEnv:
    def __init__(self, buf: Any = None) -> None:
        assert not hasattr(self, "observation_space")
        space: Any = self.single_observation_space  # type: ignore[attr-defined]
        count: int = self.num_agents  # type: ignore[attr-defined]
        self.observations = np.zeros((count, *space.shape), dtype=space.dtype)
        self.rewards = np.zeros(count, dtype=np.float32)
        self.terminals = np.zeros(count, dtype=bool)
        self.truncations = np.zeros(count, dtype=bool)
        self.observation_space = space


@pytest.fixture(autouse=True)
def libraries(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if "stable_baselines3" not in sys.modules:
        names = [
            "stable_baselines3",
            "stable_baselines3.common",
            "stable_baselines3.common.vec_env",
        ]
        for name in names:
            monkeypatch.setitem(sys.modules, name, ModuleType(name))
        sys.modules[names[-1]].VecEnv = StandInVecEnv  # type: ignore[attr-defined]
    puffer = ModuleType("pufferlib")
    puffer.PufferEnv = StandInPufferEnv  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pufferlib", puffer)
    yield
    for name in ("sb3", "puffer"):
        monkeypatch.delitem(sys.modules, f"candlestep.sandbox.envs.{name}", raising=False)


def test_stable_baselines3_sees_the_last_observation_of_each_episode() -> None:
    from candlestep.sandbox.envs.sb3 import VecEnv

    ours = TargetVectorEnv(MARKET, COUNT, **SHORT)
    theirs = VecEnv(TargetVectorEnv(MARKET, COUNT, **SHORT), timer=iter(range(99)).__next__)
    theirs._seeds = [5, 6, 7]
    assert_same(theirs.reset(), ours.reset(seed=5)[0])
    total, ends = np.zeros(COUNT), 0
    ours.action_space.seed(1)
    for step in range(1, 25):
        actions = ours.action_space.sample()
        theirs.step_async(actions)
        observations, rewards, dones, infos = theirs.step_wait()
        expected = ours.step(actions)
        total += expected[1]
        assert_same(observations, expected[0])
        assert_same(rewards, expected[1].astype(np.float32))
        assert_same(dones, expected[2] | expected[3])
        for number, info in enumerate(infos):
            assert bool(info) == dones[number] == (step % 9 == 0)
            if info:
                ends += 1
                assert_same(info["terminal_observation"], expected[4]["final_obs"][number])
                assert info["TimeLimit.truncated"]
                assert info["episode"]["r"] == pytest.approx(total[number])
                assert info["episode"]["l"] == 9
        total[dones] = 0
    assert ends == 6
    assert theirs.get_attr("num_envs", [0]) == [COUNT]


def test_pufferlib_finds_everything_in_its_buffers() -> None:
    from candlestep.sandbox.envs.puffer import make

    options = {name: value for name, value in SHORT.items() if name != "autoreset_mode"}
    theirs = make(MARKET, COUNT, **options)
    ours = TargetVectorEnv(MARKET, COUNT, **SHORT)
    buffers = theirs.observations, theirs.rewards, theirs.truncations
    assert theirs.reset(seed=4)[0] is buffers[0]
    assert_same(theirs.observations, ours.reset(seed=4)[0])
    ours.action_space.seed(1)
    total = 0.0
    for step in range(1, 19):
        actions = ours.action_space.sample()
        *results, infos = theirs.step(actions)
        expected = ours.step(actions)
        assert (results[0] is buffers[0], results[1] is buffers[1]) == (True, True)
        assert results[3] is buffers[2]
        assert_same(theirs.observations, expected[0])
        assert_same(theirs.rewards, expected[1].astype(np.float32))
        assert_same(theirs.truncations, expected[3])
        total += float(expected[1].mean())
        assert bool(infos) == (step % 9 == 0)
        if infos:
            assert infos[0]["episode_return"] == pytest.approx(total)
            assert infos[0]["episode_length"] == 9
            total = 0.0


def test_what_does_not_fit_is_refused_by_name() -> None:
    from candlestep.sandbox.envs.puffer import PufferEnv
    from candlestep.sandbox.envs.sb3 import VecEnv

    late = TargetVectorEnv(MARKET, COUNT, window=4, episode_steps=9)
    for adapter in (VecEnv, PufferEnv):
        with pytest.raises(InvalidParameter, match="autoreset_mode: must be same_step"):
            adapter(late)
    rows = TargetVectorEnv(MARKET, COUNT, observation="index", **SHORT)
    with pytest.raises(InvalidParameter, match="out: must be a float32 array"):
        rows.write_to(np.zeros((COUNT, 4), dtype=np.float32))
