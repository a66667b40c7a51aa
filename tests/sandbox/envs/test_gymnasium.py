"""Environments meet what Gymnasium asks: its own check, its ways to make them, and pickling."""

import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from candlestep.sandbox import InvalidParameter
from candlestep.sandbox.envs import (
    BracketEnv,
    BracketVectorEnv,
    OrdersEnv,
    TargetEnv,
    TargetVectorEnv,
)
from tests.support.environments import MARKET, TWO, assert_same, played
from tests.support.project import ROOT

SHORT: dict[str, Any] = {"market": MARKET, "window": 4, "episode_steps": 20}
PAIR = {"market": TWO, "symbol": ["AUSDT", "BUSDT"]}
CASES: list[tuple[str, dict[str, Any]]] = [
    ("Target", {}),
    ("Target", {"actions": "continuous"}),
    ("Target", {"observation_shape": "matrix", "info": "none"}),
    ("Target", PAIR),
    ("Target", PAIR | {"actions": "continuous", "rebalance": "always"}),
    ("Bracket", {"stop_loss": 0.01, "take_profit": 0.02}),
    ("Bracket", {"brackets": [(0.01, None), (0.02, 0.03)]}),
    ("Orders", {}),
    ("Orders", {"observation_shape": "matrix"}),
]
IDS = [f"{name} {number}" for number, (name, _) in enumerate(CASES)]


@pytest.mark.parametrize(("name", "case"), CASES, ids=IDS)
@pytest.mark.parametrize("render_mode", [None, "ansi", "rgb_array"])
def test_gymnasiums_own_check(name: str, case: dict[str, Any], render_mode: str | None) -> None:
    env = gymnasium.make(f"Candlestep/{name}-v0", render_mode=render_mode, **(SHORT | case))
    with warnings.catch_warnings():
        # Features have no bounds, which the check advises against.
        warnings.filterwarnings("ignore", message=r".*Box observation space .* value is.*infinity")
        warnings.filterwarnings("error", message=r".*render|reset|step")
        check_env(env.unwrapped, skip_render_check=render_mode is None)


@pytest.mark.parametrize("mode", ["sync", "vector_entry_point"])
@pytest.mark.parametrize("name", ["Target", "Bracket"])
def test_vectors_are_made_by_id(name: str, mode: str) -> None:
    guards: dict[str, Any] = {"stop_loss": 0.01} if name == "Bracket" else {}
    env = gymnasium.make_vec(
        f"candlestep.sandbox.envs:Candlestep/{name}-v0",
        num_envs=3,
        vectorization_mode=mode,
        **SHORT,
        **guards,
    )
    assert isinstance(env, TargetVectorEnv) == (mode != "sync")
    observations, _ = env.reset(seed=1)
    assert env.observation_space.contains(observations)
    assert env.step(env.action_space.sample())[1].shape == (3,)
    env.close()


def test_the_length_of_an_episode_has_one_name() -> None:
    long = SHORT | {"num_envs": 2, "max_episode_steps": 20}
    assert TargetVectorEnv(**long).settings.episode_steps == 20
    with pytest.raises(InvalidParameter, match="max_episode_steps"):
        TargetVectorEnv(**long | {"max_episode_steps": 21})


SPAWNED = """
import gymnasium, numpy as np
from gymnasium.vector import AsyncVectorEnv
from candlestep.sandbox.envs import TargetEnv
from tests.support.environments import MARKET

def one():
    return TargetEnv(MARKET, window=4, episode_steps=20)

if __name__ == "__main__":
    env = AsyncVectorEnv([one] * 2, context="spawn")
    env.reset(seed=5)
    for _ in range(25):
        results = env.step(np.array([1, 2]))
    print(results[0].tobytes().hex(), results[1].tolist())
    env.close()
"""


def test_workers_that_are_spawned_return_the_same(tmp_path: Any) -> None:
    script = tmp_path / "spawned.py"
    script.write_text(SPAWNED)
    command = [sys.executable, str(script)]
    process = subprocess.run(
        command,
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    env = TargetVectorEnv(num_envs=2, **SHORT)
    env.reset(seed=5)
    for _ in range(25):
        results = env.step(np.array([1, 2]))
    assert process.stdout.split(maxsplit=1) == [
        results[0].tobytes().hex(),
        f"{results[1].tolist()}\n",
    ]


MAKERS: dict[str, Any] = {
    "target": lambda: TargetEnv(**SHORT),
    "orders": lambda: OrdersEnv(**SHORT),
    "bracket": lambda: BracketEnv(stop_loss=0.01, **SHORT),
    "vector": lambda: TargetVectorEnv(num_envs=2, record=True, **SHORT),
    "brackets": lambda: BracketVectorEnv(num_envs=2, stop_loss=0.01, **SHORT),
}


COPIES: dict[str, Callable[[Any], Any]] = {
    "pickled": lambda env: pickle.loads(pickle.dumps(env)),
    "deepcopy": deepcopy,
}


@pytest.mark.parametrize("copied", COPIES)
@pytest.mark.parametrize("name", MAKERS)
def test_an_environment_is_copied_in_the_middle_of_an_episode(name: str, copied: str) -> None:
    env = MAKERS[name]()
    env.action_space.seed(3)
    actions = [env.action_space.sample() for _ in range(9)]
    env.reset(seed=2)
    env.step(actions[0])
    copy, other = COPIES[copied](env), COPIES[copied](env)
    for action in actions[1:]:
        other.step(actions[0])
        assert_same(copy.step(action), env.step(action))
    assert_same(copy.reset(), env.reset())


@pytest.mark.parametrize("name", ["Target", "Orders"])
def test_a_spec_makes_the_same_environment_again(name: str) -> None:
    env = gymnasium.make(f"Candlestep/{name}-v0", **SHORT)
    assert env.spec is not None
    again = env.spec.make()
    env.action_space.seed(0)
    actions = [env.action_space.sample() for _ in range(30)]
    assert_same(played(env, actions, seed=3), played(again, actions, seed=3))


HASHED = """
import hashlib, numpy as np
from candlestep.sandbox.envs import BracketVectorEnv
from tests.support.environments import TWO
env = BracketVectorEnv(
    TWO, 5, symbol=["AUSDT", "BUSDT"], window=4, episode_steps=15, info="full", stop_loss=0.005,
    randomize={"fee_rate": (0, 0.01)},
)
digest = hashlib.sha256()
results = [env.reset(seed=8)]
env.action_space.seed(8)
results += [env.step(env.action_space.sample()) for _ in range(40)]
for result in results:
    for part in result[:-1]:
        digest.update(np.ascontiguousarray(part).tobytes())
    digest.update(repr(result[-1]).encode())
print(digest.hexdigest())
"""


def test_a_seed_gives_the_same_bytes_in_every_process() -> None:
    def digest(hash_seed: str) -> str:
        environment = {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", HASHED]
        return subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
        ).stdout

    assert digest("1") == digest("2")


def test_seeds_differ_and_so_do_sub_environments() -> None:
    env = TargetVectorEnv(num_envs=4, **SHORT)
    first, again, other = (env.reset(seed=seed)[0] for seed in (1, 1, 2))
    assert first.tobytes() == again.tobytes()
    assert first.tobytes() != other.tobytes()
    assert len({row.tobytes() for row in first}) == 4
    assert (first[1:] == other[:-1]).all(), "sub-environment i gets seed + i"


PURITY = """
import sys, warnings, random
import numpy as np
filters, state = list(warnings.filters), (random.getstate(), np.random.get_state()[1].tolist())
import gymnasium
gymnasium_filters = list(warnings.filters)
import candlestep.sandbox.envs
assert list(warnings.filters) == gymnasium_filters
assert (random.getstate(), np.random.get_state()[1].tolist()) == state
"""

BLOCKED = """
import sys
sys.modules["gymnasium"] = None
import candlestep.sandbox, candlestep.sandbox.exchange.batch.batch, candlestep.sandbox.strategies
try:
    import candlestep.sandbox.envs
except ImportError:
    print("needs gymnasium")
"""


def test_importing_touches_nothing_global() -> None:
    subprocess.run([sys.executable, "-c", PURITY], check=True, cwd=ROOT)


def test_the_exchange_needs_no_gymnasium() -> None:
    command = [sys.executable, "-c", BLOCKED]
    process = subprocess.run(command, check=True, cwd=ROOT, capture_output=True, text=True)
    assert process.stdout == "needs gymnasium\n"
