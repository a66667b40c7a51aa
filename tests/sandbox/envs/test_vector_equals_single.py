"""Vectorised environments return what single ones do under ``SyncVectorEnv``, bit for bit."""

from typing import Any

import numpy as np
import pytest
from gymnasium.vector import SyncVectorEnv

from candlestep.sandbox import Candles, InvalidState, Market
from candlestep.sandbox.envs import BracketEnv, BracketVectorEnv, TargetEnv, TargetVectorEnv
from tests.support.environments import FIXED, MARKET, TWO, assert_same
from tests.support.tapes import MINUTE, START

COUNT = 4
STEPS = 60
COMMON: dict[str, Any] = {"window": 4, "episode_steps": 13, "info": "full"}
CASES: dict[str, dict[str, Any]] = {
    "plain": {"market": MARKET},
    "continuous": {"market": MARKET, "actions": "continuous", "rebalance": "always"},
    "randomized": {
        "market": MARKET,
        "randomize": {
            "fee_rate": (0, 0.003),
            "slippage_bps": (0, 12.5),
            "starting_balance": (50, 2_000.5),
        },
        "reward": "pnl",
    },
    "several": {
        "market": TWO,
        "symbol": ["AUSDT", "BUSDT"],
        "actions": "continuous",
        "min_trade": 20_000,
        "reward": "drawdown",
        "reward_scale": 3.0,
    },
    "hourly": {
        "market": TWO,
        "symbol": "AUSDT",
        "interval": "5m",
        "slippage": FIXED,
        "features": ["close_return"],
        "reward": "differential_sharpe",
    },
    "ruin": {"market": MARKET, "fee_rate": 0.05, "ruin": 0.8, "reward": "return"},
    "matrix": {"market": TWO, "symbol": ["AUSDT", "BUSDT"], "observation_shape": "matrix"},
    "no account": {"market": MARKET, "account": False, "reward": lambda of: of.after - of.before},
    "standardized": {
        "market": TWO,
        "symbol": ["AUSDT", "BUSDT"],
        "standardize": True,
        "split": "validation",
    },
    "sequential": {"market": MARKET, "start": "sequential", "split": "train"},
}
GUARDED: dict[str, dict[str, Any]] = {
    "stop and target": {"market": MARKET, "stop_loss": 0.005, "take_profit": 0.008},
    "chosen": {
        "market": TWO,
        "symbol": ["AUSDT", "BUSDT"],
        "interval": "3m",
        "brackets": [(0.01, None), (None, 0.004), (0.02, 0.03)],
        "fee_model": "fixed_bps",
        "slippage": FIXED,
        "reward": "differential_sharpe",
    },
}


def compared(
    single: type[TargetEnv], vector: type[TargetVectorEnv], case: dict[str, Any], mode: str
) -> None:
    settings = COMMON | case
    ours = vector(num_envs=COUNT, autoreset_mode=mode, **settings)  # type: ignore[arg-type]
    is_sequential = settings.get("start") == "sequential"

    def one(number: int) -> TargetEnv:
        return single(**settings, sequence=(number, COUNT) if is_sequential else (0, 1))

    theirs = SyncVectorEnv(
        [lambda number=number: one(number) for number in range(COUNT)],  # type: ignore[misc]
        autoreset_mode=ours.metadata["autoreset_mode"],
    )
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    ours.action_space.seed(1)
    assert_same(ours.reset(seed=7), theirs.reset(seed=7), "reset")
    ends = 0
    for step in range(STEPS):
        actions = ours.action_space.sample()
        results = ours.step(actions)
        assert_same(results, theirs.step(actions), f"step {step}")
        ended = results[2] | results[3]
        ends += int(ended.sum())
        if mode == "disabled" and ended.any():
            assert_same(
                ours.reset(options={"reset_mask": ended}),
                theirs.reset(options={"reset_mask": ended}),
                f"reset after {step}",
            )
    assert ends >= COUNT * 3


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("mode", ["next_step", "same_step", "disabled"])
def test_targets(case: str, mode: str) -> None:
    compared(TargetEnv, TargetVectorEnv, CASES[case], mode)


@pytest.mark.parametrize("case", GUARDED)
@pytest.mark.parametrize("mode", ["next_step", "same_step", "disabled"])
def test_brackets(case: str, mode: str) -> None:
    compared(BracketEnv, BracketVectorEnv, GUARDED[case], mode)


def test_a_forced_start_and_seeds_by_sub_environment() -> None:
    ours = TargetVectorEnv(MARKET, COUNT, **COMMON)
    theirs = SyncVectorEnv([lambda: TargetEnv(MARKET, **COMMON)] * COUNT)
    options = {"row": 50}
    assert_same(ours.reset(options=dict(options)), theirs.reset(options=dict(options)))
    seeds: list[int | None] = [5, 9, 5, 11]
    results = ours.reset(seed=seeds)
    assert_same(results, theirs.reset(seed=seeds))
    assert (results[0][0] == results[0][2]).all()
    assert (results[0][0] != results[0][1]).any()


def test_row_numbers_stand_for_windows() -> None:
    windows = TargetVectorEnv(MARKET, COUNT, **COMMON)
    rows = TargetVectorEnv(MARKET, COUNT, observation="index", **COMMON)
    (seen, _), (found, _) = windows.reset(seed=1), rows.reset(seed=1)
    for _ in range(30):
        assert rows.observation_space.contains(found)
        for number, row in enumerate(found["row"].tolist()):
            window = rows.features[row - 3 : row + 1].reshape(-1)
            assert (
                np.concatenate([window, found["account"][number]]).tobytes()
                == seen[number].tobytes()
            )
        actions = windows.action_space.sample()
        seen, *results, _ = windows.step(actions)
        found, *others, _ = rows.step(actions)
        assert_same(results, others)


def test_buffers_are_reused_only_when_asked_for() -> None:
    copying = TargetVectorEnv(MARKET, COUNT, **COMMON)
    reusing = TargetVectorEnv(MARKET, COUNT, copy=False, **COMMON)
    shape = copying.observation_space.shape
    assert shape is not None
    buffer = np.full(shape, np.nan, dtype=np.float32)
    writing = TargetVectorEnv(MARKET, COUNT, out=buffer, **COMMON)
    first = [env.reset(seed=2)[0] for env in (copying, reusing, writing)]
    kept = first[0].copy()
    actions = np.array([0, 1, 2, 1])
    then = [env.step(actions)[0] for env in (copying, reusing, writing)]
    assert (first[0] == kept).all()
    assert then[0] is not first[0]
    assert then[1] is first[1]
    assert then[2] is buffer
    for observations in then[1:]:
        assert observations.tobytes() == then[0].tobytes()


@pytest.mark.parametrize("mode", ["next_step", "same_step"])
@pytest.mark.parametrize("chooses", [False, True])
def test_a_recorded_episode_is_the_session_of_its_account(mode: Any, chooses: bool) -> None:
    brackets: dict[str, Any] = {"stop_loss": 0.004, "take_profit": 0.01}
    if chooses:
        brackets = {"brackets": [(0.002, 0.02), (0.01, None)]}
    settings = COMMON | brackets | {"randomize": {"fee_rate": (0.0, 0.002)}}
    env = BracketVectorEnv(MARKET, COUNT, autoreset_mode=mode, record=True, **settings)
    env.reset(seed=3)
    env.action_space.seed(0)
    last: dict[int, Any] = {}
    for step in range(40):
        _, _, terminations, truncations, infos = env.step(env.action_space.sample())
        final = infos.get("final_info", infos)
        for number in np.flatnonzero(terminations | truncations).tolist():
            last[number] = (final["equity"][number], final["fills"][number])
            session = env.session(number, finished=True)
            assert float(session.portfolio().total_equity) == last[number][0]
            assert len(session.fills) == last[number][1]
        if step % 7 == 3:
            session = env.session(1)
            assert float(session.portfolio().total_equity) == infos["equity"][1]
            assert len(session.fills) == infos["fills"][1]
    assert len(last) == COUNT
    assert len(env.episode(0, finished=True).weights) == COMMON["episode_steps"]


def test_episodes_are_kept_only_when_recorded() -> None:
    env = TargetVectorEnv(MARKET, COUNT, **COMMON)
    env.reset()
    with pytest.raises(InvalidState, match="record=True"):
        env.session(0)
    env = TargetVectorEnv(MARKET, COUNT, record=True, **COMMON)
    env.reset()
    with pytest.raises(InvalidState, match="has not finished"):
        env.session(0, finished=True)


def test_an_account_that_outgrows_int64_is_truncated() -> None:
    """1.4 billion grow beyond 2 ** 57 units of 1e-8 as the price does."""
    prices = np.round(np.linspace(100, 110, 30), 2)
    rising = Candles(
        symbol="BTCUSDT",
        interval="1m",
        open_time=START + MINUTE * np.arange(30),
        **dict.fromkeys(("open", "high", "low", "close"), prices),
    )
    settings = {"fee_rate": 0, "slippage": {"model": "none"}, "episode_steps": 20, "window": 2}
    env = TargetVectorEnv(
        Market([rising]),
        2,
        start="first",
        features=["close_return"],
        starting_balance=1_400_000_000,
        **settings,  # type: ignore[arg-type]
    )
    env.reset(seed=0)
    steps = 0
    truncations = np.zeros(2, dtype=bool)
    while not truncations.any():
        _, rewards, _, truncations, infos = env.step(np.array([2, 0]))
        steps += 1
    assert truncations.tolist() == infos["overflow"].tolist() == [True, False]
    assert 3 < steps < 20
    assert rewards[0] == 0, "its value is that of the last step that int64 holds"


def test_ended_sub_environments_are_not_stepped_without_autoreset() -> None:
    env = TargetVectorEnv(MARKET, 2, autoreset_mode="disabled", **COMMON)
    with pytest.raises(InvalidState, match="call reset first"):
        env.step(np.array([0, 0]))
    env.reset(seed=0)
    for _ in range(13):
        env.step(np.array([0, 0]))
    with pytest.raises(InvalidState, match="reset_mask"):
        env.step(np.array([0, 0]))
