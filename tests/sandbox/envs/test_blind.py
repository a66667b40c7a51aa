"""Environments on blind markets: a new disguise at each reset."""

import gymnasium
import numpy as np
import pytest

from candlestep.sandbox import InvalidParameter, Market
from candlestep.sandbox.clock import MINUTE
from candlestep.sandbox.envs.orders import OrdersEnv
from candlestep.sandbox.envs.single import TargetEnv
from candlestep.sandbox.envs.vector import TargetVectorEnv
from tests.support.environments import MARKET, TWO, assert_same, played
from tests.support.tapes import tape

DAYS = Market([tape(5, 8 * 1440, volatility=0.001, level=100.0, volume=1e5)])


def test_each_reset_draws_another_disguise_and_a_seed_repeats_them() -> None:
    env = TargetEnv(TWO, symbol=["AUSDT", "BUSDT"], episode_steps=50, window=4, blind=True)
    names, seeds = set[str](), set[int]()
    for number in range(6):
        _, info = env.reset(seed=3 if number == 0 else None)
        names.update(env.session.market.symbols)
        seeds.add(info["blind_seed"])
        blind = TWO.blind(info["blind_seed"])
        assert env.session.time < blind.span[1]
        for symbol in blind.symbols:
            assert np.array_equal(
                env.session.market.candles_of(symbol).close, blind.candles_of(symbol).close
            )
    assert names == {"ASSET1USDT", "ASSET2USDT"}
    assert len(seeds) == 6
    actions = [[2, 0], [1, 1], [0, 2]] * 20
    assert_same(played(env, actions, seed=4), played(env, actions, seed=4))


def test_what_is_observed_differs_by_rounding_alone() -> None:
    """Returns are those of the prices, to a tick, which is a hundredth of a percent here."""
    options = {"episode_steps": 40, "window": 4, "start": "first", "fee_rate": 0}
    opened, blind = TargetEnv(MARKET, **options), TargetEnv(MARKET, **options, blind=True)  # type: ignore[arg-type]
    actions = [2, 0, 1, 2] * 9
    for one, other in zip(played(opened, actions, 1), played(blind, actions, 1), strict=True):
        np.testing.assert_allclose(one[0], other[0], atol=3e-4)


def test_the_bootstrap_draws_no_day_after_its_split() -> None:
    env = OrdersEnv(
        DAYS,
        split="train",
        splits=(0.5, 0.25, 0.25),
        episode_steps=500,
        window=4,
        blind={"variant": "bootstrap", "times": False, "names": False, "prices": False},
    )
    # The first window and the volume's mean of twenty candles come before the train split.
    half = env.clock.time(env.clock.total_steps // 2)
    for seed in range(5):
        env.reset(seed=seed)
        market = env.session.market
        assert half <= market.span[1] < half + 30 * MINUTE
        env.step([1, 0, 3, 0])
        assert env.session.fills


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(InvalidParameter, match="blind: is possible in single environments only"):
        TargetVectorEnv(MARKET, 2, episode_steps=50, blind=True)
    with pytest.raises(InvalidParameter, match="blind: must be true, false, or a mapping of names"):
        TargetEnv(MARKET, episode_steps=50, blind={"seed": 3})
    with pytest.raises(InvalidParameter, match="variant: must be one of"):
        TargetEnv(MARKET, episode_steps=50, blind={"variant": "backwards"})
    many = gymnasium.make_vec(
        "candlestep.sandbox.envs:Candlestep/Target-v0",
        2,
        "sync",
        market=MARKET,
        episode_steps=50,
        blind=True,
    )
    _, infos = many.reset(seed=1)
    assert infos["blind_seed"][0] != infos["blind_seed"][1]
