"""Perpetuals in the single environment: signed weights, margin, funding, and ruin."""

import math
import pickle
import warnings
from decimal import Decimal
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from candlestep.sandbox import (
    Candles,
    FundingRates,
    InvalidParameter,
    Market,
    NoPrice,
    Session,
    SessionConfig,
)
from candlestep.sandbox.envs import BracketEnv, OrdersEnv, TargetEnv, TargetVectorEnv
from tests.support.environments import assert_same, played
from tests.support.tapes import MINUTE, START, tape

A, B = "AUSDT-PERP", "BUSDT-PERP"
OFTEN = np.arange(START + 5 * MINUTE, START + 400 * MINUTE, 5 * MINUTE)


def rates(symbol: str, rate: float) -> FundingRates:
    signs = np.where(np.arange(len(OFTEN)) % 3, 1, -1)
    return FundingRates(symbol, OFTEN, rate * signs, np.full(len(OFTEN), 5 * MINUTE))


MARKET = Market(
    [
        tape(31, 360, symbol=A, volatility=0.01, level=100.0, volume=1e5),
        tape(32, 360, symbol=B, volatility=0.02, level=7.0, digits=4, volume=1e5),
    ],
    marks=[tape(33, 180, symbol=A, volatility=0.01, level=100.0)],
    funding=[rates(A, 0.002), rates(B, 0.001)],
)
SHORT: dict[str, Any] = {"window": 4, "episode_steps": 40, "symbol": (A, B)}
PAIR: dict[str, Any] = {**SHORT, "actions": "continuous", "leverage": 10}
FREE: dict[str, Any] = {"fee_rate": 0, "slippage": {"model": "none"}, "funding": False}


def again(env: TargetEnv) -> Session:
    """Place the orders of an episode's session again, at their times, through the public methods."""
    played = env.session
    session = Session(played.config, env.settings.market)
    placed = [order for order in played.orders if not order.is_liquidation]
    while session.time < played.time:
        while placed and placed[0].created_at == session.time:
            ticket = placed.pop(0).ticket
            session.place_order(
                symbol=ticket.symbol,
                side=ticket.side,
                type=ticket.type,
                quantity=ticket.quantity,
                reduce_only=ticket.reduce_only,
            )
        session.step()
    return session


@pytest.mark.parametrize("margin_mode", ["cross", "isolated"])
@pytest.mark.parametrize("rebalance", ["change", "always"])
def test_an_episode_is_its_session_to_the_last_digit(rebalance: Any, margin_mode: str) -> None:
    settings = PAIR | {"leverage": 50}
    env = TargetEnv(MARKET, **settings, rebalance=rebalance, margin_mode=margin_mode, ruin=0)
    random = np.random.default_rng(5)
    counts = {"flips": 0, "fills": 0, "payments": 0, "liquidations": 0}
    for seed in range(8):
        env.reset(seed=seed)
        rewards, equities = [], [env.session.portfolio().total_equity]
        is_over = False
        while not is_over:
            weights = random.uniform(-40, 40, 2) * random.integers(0, 2, 2)
            _, reward, is_ruined, is_late, info = env.step(weights)
            rewards.append(reward)
            equities.append(env.session.portfolio().total_equity)
            is_over = is_ruined or is_late
        session = again(env)
        assert session.orders == env.session.orders
        assert session.fills == env.session.fills
        assert session.funding_payments == env.session.funding_payments
        assert session.liquidations == env.session.liquidations
        assert session.portfolio() == env.session.portfolio()
        assert session.margin() == env.session.margin()
        assert info["fees"] == pytest.approx(float(sum(fill.fee for fill in session.fills)))
        assert is_ruined == (equities[-1] == 0)
        if equities[-1] > 0:
            assert sum(rewards) == pytest.approx(math.log(equities[-1] / equities[0]), abs=1e-9)
        counts["fills"] += len(session.fills)
        counts["flips"] += sum(
            0 < (fill.closed_quantity or 0) < fill.quantity for fill in session.fills
        )
        counts["payments"] += len(session.funding_payments)
        counts["liquidations"] += len(session.liquidations)
    assert counts["fills"] > 200
    assert counts["flips"] > 25
    assert counts["payments"] > 10
    assert counts["liquidations"] > 2


def test_a_weight_is_notional_over_equity_and_its_sign_a_side() -> None:
    env = TargetEnv(MARKET, **(PAIR | FREE | {"symbol": A}))
    env.reset(seed=1, options={"row": 30})
    price = env.session.market.mark_line(A).price(env.session.time)
    assert price is not None
    env.step([-2.5])
    (order,) = env.session.orders
    expected = (Decimal(25_000) / price).quantize(Decimal("1e-8"))
    assert (order.side, order.quantity) == ("sell", expected)
    equity = env.session.portfolio().total_equity
    env.step([1.25])
    # A change of sign is one order, which closes and opens.
    flip = env.session.orders[-1]
    assert (len(env.session.orders), flip.side) == (2, "buy")
    assert flip.fill is not None
    assert flip.fill.closed_quantity == expected
    assert float(flip.quantity - expected) == pytest.approx(
        float(equity * Decimal("1.25") / env.session.fills[-1].price), rel=0.05
    )
    env.step([0.5])
    assert env.session.orders[-1].reduce_only
    env.step([0])
    assert env.session.positions() == ()


@pytest.mark.parametrize("side", [1, -1])
@pytest.mark.parametrize("margin_mode", ["cross", "isolated"])
def test_the_largest_weight_takes_what_margin_allows(side: int, margin_mode: str) -> None:
    env = TargetEnv(
        MARKET,
        **(PAIR | {"symbol": B}),
        margin_mode=margin_mode,
        slippage={"model": "fixed_bps", "bps": 5},
    )
    env.reset(seed=1)
    env.step([10 * side])
    env.step([-10 * side])
    for fill in env.session.fills:
        assert fill.quote_amount > 90_000
    session = again(env)
    assert session.fills == env.session.fills


def test_weights_of_several_symbols_are_scaled_to_the_leverage() -> None:
    env = TargetEnv(MARKET, **(PAIR | FREE | {"leverage": 2}), mark="last")
    env.reset(seed=1)
    env.step([2, -2])
    assert [fill.side for fill in env.session.fills] == ["buy", "sell"]
    assert [float(fill.quote_amount) for fill in env.session.fills] == pytest.approx(
        [10_000, 10_000], abs=1e-5
    )


def test_what_only_reduces_comes_first() -> None:
    env = TargetEnv(MARKET, **(PAIR | FREE | {"leverage": 1}))
    env.reset(seed=1, options={"row": 200})
    env.step([0, -1])
    env.step([1, 0])
    assert [(fill.symbol, fill.side) for fill in env.session.fills] == [
        (B, "sell"),
        (B, "buy"),
        (A, "buy"),
    ]


def market_of(*paths: tuple[float, ...]) -> Market:
    opens, highs, lows, closes = zip(*paths, strict=True)
    return Market(
        [
            Candles(
                symbol=A,
                interval="1m",
                open_time=START + MINUTE * np.arange(len(paths)),
                open=opens,
                high=highs,
                low=lows,
                close=closes,
            )
        ],
        funding=[FundingRates(A, [START + 7 * MINUTE], [0.01], [480 * MINUTE])],
    )


FLAT = (100.0, 100.0, 100.0, 100.0)
SMALL: dict[str, Any] = {
    "window": 2,
    "features": ["close_return"],
    "episode_steps": 4,
    "actions": "continuous",
    "fee_rate": 0,
    "slippage": {"model": "none"},
    "leverage": 5,
}


def test_an_order_may_liquidate_a_position_that_another_was_to_change() -> None:
    # The mark of A is below its price: a short is worth more by the mark than when it is closed.
    candles = [MARKET.candles_of(symbol) for symbol in (A, B)]
    market = Market(candles, marks=[tape(33, 360, symbol=A, volatility=0.01, level=80.0)])
    env = TargetEnv(market, **PAIR, funding=False, ruin=0)
    random, closed_in_trade = np.random.default_rng(7), 0
    for seed in range(20):
        env.reset(seed=seed)
        is_over = False
        while not is_over:
            liquidations, time = len(env.session.liquidations), env.session.time
            _, _, is_ruined, is_truncated, info = env.step(random.uniform(-10, 10, 2))
            is_over = is_ruined or is_truncated
            fills = env.session.fills
            assert info["fills"] == len(fills)
            assert info["fees"] == pytest.approx(sum(float(fill.fee) for fill in fills))
            for closed in env.session.liquidations[liquidations:]:
                if closed.time == time:
                    closed_in_trade += 1
                    assert fills[-1].symbol != closed.symbol or fills[-1].is_liquidation
    assert closed_in_trade


def test_funding_is_in_the_reward_of_the_step_that_pays_it() -> None:
    env = TargetEnv(market_of(*[FLAT] * 12), **SMALL, reward="pnl")
    env.reset(seed=1, options={"row": 4})
    rewards = [env.step([-2])[1] for _ in range(4)]
    # A short receives 1 % of twice the equity at the seventh minute.
    assert rewards == pytest.approx([0, 0.02, 0, 0])


def test_liquidation_to_ruin_terminates() -> None:
    crash = (100.0, 100.0, 50.0, 90.0)
    env = TargetEnv(market_of(*[FLAT] * 7, crash, *[FLAT] * 4), **SMALL, ruin=0)
    observation, _ = env.reset(seed=1, options={"row": 6})
    observation, reward, terminated, truncated, info = env.step([5])
    assert (terminated, truncated, info["equity"]) == (True, False, 0)
    assert math.isfinite(reward)
    assert isinstance(observation, np.ndarray)
    assert np.isfinite(observation).all()
    assert len(env.session.liquidations) == 1
    # The same weight again is another one than the 0 that a liquidation leaves.
    env.reset(seed=1, options={"row": 6})
    env.step([4])
    assert info["fills"] == 2


@pytest.mark.parametrize(
    "case",
    [{"weights": (-2.0, 0.0, 2.0), "leverage": 2, "symbol": A}, PAIR, {"symbol": B}],
    ids=["discrete", "continuous", "without shorts"],
)
def test_gymnasiums_own_check(case: dict[str, Any]) -> None:
    env = gymnasium.make("Candlestep/Target-v0", market=MARKET, **(SHORT | case))
    with warnings.catch_warnings():
        # The check advises against features without bounds, and weights beyond 1.
        warnings.filterwarnings("ignore", message=r".*Box (observation|action) space")
        check_env(env.unwrapped, skip_render_check=True)
    copied = pickle.loads(pickle.dumps(env))
    actions = [env.action_space.sample() for _ in range(3)]
    assert_same(played(env, actions, seed=2), played(copied, actions, seed=2))


def test_the_space_of_weights_is_that_of_the_leverage() -> None:
    env: Any = TargetEnv(MARKET, **PAIR)
    assert (env.action_space.low.tolist(), env.action_space.high.tolist()) == (
        [-10, -10],
        [10, 10],
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TargetVectorEnv(MARKET, 2, **SHORT), "symbol: AUSDT-PERP is a perpetual"),
        (lambda: BracketEnv(MARKET, stop_loss=0.1, **SHORT), "symbol: AUSDT-PERP is a perpetual"),
        (lambda: OrdersEnv(MARKET, **SHORT), "symbol: AUSDT-PERP is a perpetual"),
        (lambda: TargetEnv(MARKET, weights=(-1.5, 0.0), **SHORT), "weights: must be from -1 to 1"),
        (lambda: TargetEnv(MARKET, leverage=126, **SHORT), "leverage: 126 is above 125"),
        (lambda: TargetEnv(Market([tape(1, 99)]), leverage=2, window=2), "leverage: applies to perp"),
        (
            lambda: TargetEnv(Market([tape(1, 99), tape(2, 99, symbol=A)]),
                              symbol=("BTCUSDT", A)),
            "symbol: names spot pairs and perpetuals",
        ),
    ],
)  # fmt: skip
def test_wrong_use_is_refused_by_name(make: Any, message: str) -> None:
    with pytest.raises(InvalidParameter, match=message):
        make()


def test_missing_funding_is_refused_when_the_environment_is_made() -> None:
    market = Market([tape(31, 1440, symbol=A)])
    with pytest.raises(NoPrice, match="funding_rate_default"):
        TargetEnv(market)
    TargetEnv(market, funding_rate_default=0.0001, episode_steps=40)
    TargetEnv(market, funding=False, episode_steps=40)


def test_the_configuration_of_an_episode_is_that_of_a_session_on_perpetuals() -> None:
    env = TargetEnv(MARKET, **PAIR, margin_mode="isolated")
    env.reset(seed=3)
    config = env.session.config
    assert isinstance(config, SessionConfig)
    assert "market_type='perp', leverage=10, margin_mode='isolated'" in repr(config)
