"""Semantics of a step: rewards, costs, flags, starts, and that nothing later is seen."""

import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from candlestep.sandbox import Candles, InvalidParameter, InvalidState, Market, RiskProfile
from candlestep.sandbox.envs import BracketEnv, OrdersEnv, TargetEnv, TargetVectorEnv
from candlestep.sandbox.envs.trader import trigger_price
from tests.support.environments import FIXED, MARKET, TWO, assert_same, played
from tests.support.tapes import MINUTE, START, tape

SHORT: dict[str, Any] = {"window": 4, "episode_steps": 20}
FREE: dict[str, Any] = {"fee_rate": 0, "slippage": {"model": "none"}}
SPLITS: tuple[Any, ...] = ("train", "validation", "test")
REBALANCE: tuple[Any, ...] = ("change", "always")
ACTIONS = [2, 0, 1, 1, 2, 2, 0, 1, 2, 0] * 2


def market_of(closes: list[float], **columns: list[float]) -> Market:
    names = {name: columns.get(name, closes) for name in ("open", "high", "low")}
    return Market(
        [
            Candles(
                symbol="BTCUSDT",
                interval="1m",
                open_time=START + MINUTE * np.arange(len(closes)),
                close=closes,
                **names,
            )
        ]
    )


def episode(env: Any, actions: list[Any], **options: Any) -> tuple[list[float], dict[str, Any]]:
    """Return the rewards of an episode and its last info."""
    env.reset(seed=1, options=options)
    results = [env.step(action) for action in actions]
    return [result[1] for result in results], results[-1][4]


def test_logarithmic_rewards_add_up_to_the_whole_return() -> None:
    rewards, info = episode(TargetEnv(MARKET, **SHORT), ACTIONS)
    assert info["fills"] > 8
    assert sum(rewards) == pytest.approx(math.log(info["equity"] / 10_000), abs=1e-12)


def test_doing_nothing_earns_nothing() -> None:
    rewards, info = episode(TargetEnv(MARKET, **SHORT), [0] * 20)
    assert rewards == [0.0] * 20
    assert (info["equity"], info["fills"]) == (10_000, 0)


def test_without_costs_holding_earns_the_change_of_the_price() -> None:
    env = TargetEnv(MARKET, **SHORT, **FREE)
    rewards, _ = episode(env, [2] * 20)
    prices = [
        env.session.market.price("BTCUSDT", time)
        for time in (env.session.config.start_time, env.session.time)
    ]
    assert math.exp(sum(rewards)) == pytest.approx(float(prices[1] / prices[0]), rel=1e-9)


def test_the_fee_is_in_the_reward_of_the_action_that_caused_it() -> None:
    """The price stands still: only the step that buys, for 0.1 % more, loses."""
    env = TargetEnv(
        market_of([100.0] * 40), **SHORT | FREE | {"fee_rate": "0.001"}, features=["close_return"]
    )
    rewards, info = episode(env, [2] * 3 + [0] * 3)
    assert rewards[0] == pytest.approx(math.log(10_000 - 9.99000999) - math.log(10_000), abs=1e-9)
    assert rewards[1] == rewards[2] == rewards[4] == rewards[5] == 0.0
    assert rewards[3] < 0
    assert info["fees"] == pytest.approx(2 * 9.99000999, abs=1e-7)


@pytest.mark.parametrize("rebalance", ["change", "always"])
def test_more_fees_never_leave_more(rebalance: Any) -> None:
    equities = []
    for fee in ("0", "0.0005", "0.001", "0.003", "0.01"):
        env = TargetEnv(MARKET, **SHORT, fee_rate=fee, slippage=FIXED, rebalance=rebalance)
        equities.append(episode(env, ACTIONS)[1]["equity"])
    assert equities == sorted(equities, reverse=True)


class TestRewards:
    """Each kind, worked by hand for equities of 100, 110, 99, 104.5."""

    equities = (100.0, 110.0, 99.0, 104.5)

    def rewards(self, reward: Any, scale: float = 1.0) -> list[float]:
        """Hold one coin at these prices."""
        market = market_of([100.0, 100.0, 100.0, *self.equities, *[104.5] * 5])
        env = TargetEnv(
            market,
            window=2,
            features=["close_return"],
            episode_steps=3,
            starting_balance=100,
            reward=reward,
            reward_scale=scale,
            **FREE,
        )
        return episode(env, [2] * 3, row=3)[0]

    def test_return_and_pnl(self) -> None:
        assert self.rewards("return") == pytest.approx([0.1, -0.1, 5.5 / 99])
        assert self.rewards("pnl", scale=2.0) == pytest.approx([0.2, -0.22, 0.11])

    def test_drawdown_is_paid_when_it_deepens(self) -> None:
        assert self.rewards("drawdown") == pytest.approx([0, -0.1, 0])

    def test_differential_sharpe(self) -> None:
        """A = B = 0 gives 0; then A = 0.001, B = 0.0001, and B - A ** 2 = 0.000099."""
        first, second, third = self.rewards("differential_sharpe")
        assert first == 0
        a, b = 0.001, 0.0001
        change, change_of_squares = -0.1 - a, 0.01 - b
        assert second == pytest.approx(
            (b * change - a * change_of_squares / 2) / (b - a * a) ** 1.5
        )
        a, b = a + 0.01 * change, b + 0.01 * change_of_squares
        change, change_of_squares = 5.5 / 99 - a, (5.5 / 99) ** 2 - b
        assert third == pytest.approx((b * change - a * change_of_squares / 2) / (b - a * a) ** 1.5)

    def test_a_function(self) -> None:
        rewards = self.rewards(lambda of: (of.after - of.before) * of.start)
        assert rewards == pytest.approx([1000, -1100, 550])
        with pytest.raises(InvalidParameter, match="finite number for each of 1"):
            self.rewards(lambda of: of.after * np.nan)


class TestFlags:
    def test_the_end_of_the_episode_is_truncation_alone(self) -> None:
        results = played(TargetEnv(MARKET, **SHORT), [1] * 20, seed=1)
        flags = [result[2:4] for result in results[1:21]]
        assert flags == [(False, False)] * 19 + [(False, True)]

    def test_ruin_terminates(self) -> None:
        env = TargetEnv(MARKET, **SHORT, fee_rate="0.2", ruin=0.5)
        env.reset(seed=1)
        flags = [env.step(action)[2:4] for action in (2, 0, 2, 0)]
        assert flags[-1] == (True, False)
        assert flags[0] == (False, False)

    def test_a_step_after_the_end_is_refused(self) -> None:
        env = TargetEnv(MARKET, **SHORT)
        with pytest.raises(InvalidState, match="call reset first"):
            env.step(0)
        episode(env, [0] * 20)
        with pytest.raises(InvalidState, match="the episode is over"):
            env.step(0)


class TestStarts:
    def test_sequential_episodes_tile_the_split(self) -> None:
        env = TargetEnv(MARKET, **SHORT, start="sequential", split="validation")
        env.reset(seed=0)
        starts = [env.episode.first_step]
        for _ in range(2):
            env.reset()
            starts.append(env.episode.first_step)
        assert starts[1] - starts[0] == 20
        assert starts[2] in (starts[1] + 20, starts[0])
        env.reset(seed=0)
        assert env.episode.first_step == starts[0], "a seed begins again"

    def test_splits_leave_an_embargo_between_them(self) -> None:
        steps: dict[str, list[int]] = {}
        for split in SPLITS:
            env = TargetEnv(MARKET, **SHORT, split=split, embargo=7)
            steps[split] = []
            for seed in range(40):
                env.reset(seed=seed)
                first = env.episode.first_step
                steps[split] += [first, first + env.episode.steps]
        assert max(steps["train"]) + 7 <= min(steps["validation"])
        assert max(steps["validation"]) + 7 <= min(steps["test"])
        assert max(steps["test"]) <= env.clock.total_steps

    def test_a_start_is_forced_by_row_or_time_within_the_split(self) -> None:
        env = TargetEnv(MARKET, **SHORT, split="train")
        env.reset(options={"row": 60})
        assert env.session.time == env.clock.time(60)
        env.reset(options={"start_time": env.clock.time(61) - 1})
        assert env.episode.first_step == 61
        for options, field in (
            ({"row": 359}, "options.row"),
            ({"start_time": 0}, "options.start_time"),
            ({"rows": 1}, "options"),
            ({"row": 60, "start_time": 0}, "options"),
        ):
            with pytest.raises(InvalidParameter) as refused:
                env.reset(options=options)
            assert refused.value.details["field"] == field

    def test_what_is_drawn_lies_in_its_range_and_is_reported(self) -> None:
        ranges: Mapping[str, Any] = {
            "fee_rate": (0.001, 0.002),
            "slippage_bps": (1, 2),
            "starting_balance": (100, 200),
        }
        env = TargetEnv(MARKET, **SHORT, randomize=ranges)
        seen = set()
        for seed in range(10):
            info = env.reset(seed=seed)[1]
            for name, (low, high) in ranges.items():
                assert low <= info[name] <= high
            assert info["equity"] == info["starting_balance"]
            config = env.session.config
            assert float(config.costs.fixed) == pytest.approx(info["slippage_bps"] / 10_000)
            assert config.costs.fees.settings() == {"fee_rate": str(info["fee_rate"])}
            seen.add(info["fee_rate"])
        assert len(seen) == 10


class TestRules:
    def test_change_trades_when_another_weight_is_asked_for(self) -> None:
        fills = []
        for rebalance in REBALANCE:
            env = TargetEnv(MARKET, **SHORT, rebalance=rebalance)
            fills.append(episode(env, [1] * 10)[1]["fills"])
        assert fills[0] == 1
        assert fills[1] > 5

    def test_small_trades_are_left_out_but_selling_everything_is_not(self) -> None:
        env = TargetEnv(MARKET, **SHORT, rebalance="always", min_trade=200_000)
        _, info = episode(env, [1] * 9 + [0])
        assert info["fills"] == 2
        env = TargetEnv(MARKET, **SHORT, min_trade=900_000)
        _, info = episode(env, [1, 0])
        assert info["fills"] == 0

    def test_a_weight_that_was_skipped_counts_as_asked_for(self) -> None:
        env = TargetEnv(MARKET, **SHORT, min_trade=600_000)
        _, info = episode(env, [1, 1, 2])
        assert info["fills"] == 1, "half was too small, all is not"

    def test_weights_above_one_are_scaled_down_and_sells_come_first(self) -> None:
        env = TargetEnv(TWO, **SHORT, **FREE, symbol=["AUSDT", "BUSDT"], actions="continuous")
        env.reset(seed=1)
        env.step(np.array([1, 0], dtype=np.float32))
        _, _, _, _, info = env.step(np.array([0.75, 0.75], dtype=np.float32))
        fills = env.session.fills
        assert [(fill.symbol, fill.side) for fill in fills] == [
            ("AUSDT", "buy"),
            ("AUSDT", "sell"),
            ("BUSDT", "buy"),
        ]
        values = info["quantity"] * [float(env.session.price(s)) for s in ("AUSDT", "BUSDT")]
        assert values[0] / values[1] == pytest.approx(1, abs=0.1)
        assert info["cash"] < 1

    def test_a_stop_sets_the_last_weight_to_zero(self) -> None:
        prices = [100.0] * 6 + [90.0] * 30
        env = BracketEnv(
            market_of(prices), **SHORT, **FREE, features=["close_return"], stop_loss=0.05
        )
        _, info = episode(env, [2, 2, 2], row=4)
        sides = [(fill.side, fill.price) for fill in env.session.fills]
        assert [side for side, _ in sides] == ["buy", "sell", "buy"], "it is asked for again"
        assert sides[1][1] == 90, "the candle opens below the stop at 95"
        assert env.session.pending_count == 1
        assert info["equity"] == 9_000

    def test_triggers_have_8_significant_digits_of_the_fill_price(self) -> None:
        assert trigger_price(Decimal("67533.7512345"), 980_000) == Decimal("66183.076")
        assert trigger_price(Decimal("0.00001234567891"), 1_030_000) == Decimal("0.000012716049")
        assert trigger_price(Decimal("99.999999"), 1_010_000) == Decimal("100.999999")
        assert trigger_price(Decimal("123456789.5"), 500_000) == Decimal(61728395)

    def test_a_decrease_leaves_the_guards_and_an_increase_replaces_them(self) -> None:
        env = BracketEnv(
            market_of([100.0] * 40),
            **SHORT,
            **FREE,
            features=["close_return"],
            stop_loss=0.05,
            weights=(0.0, 0.25, 0.5, 1.0),
        )
        env.reset(seed=1)
        guards = []
        for action in (2, 1, 3, 0):
            env.step(action)
            guards.append([(order.id, order.quantity) for order in env.session.open_orders()])
        assert guards[0] == guards[1] == [(2, 50)]
        assert guards[2] == [(5, 100)]
        assert guards[3] == []

    def test_a_buy_that_a_risk_limit_refuses_is_skipped(self) -> None:
        risk = RiskProfile(max_order_size_pct="60")  # type: ignore[arg-type]
        env = TargetEnv(MARKET, **SHORT, risk=risk)
        _, info = episode(env, [2, 1])
        assert info["fills"] == 1
        assert env.session.orders[0].status == "rejected"
        with pytest.raises(InvalidParameter, match="risk: limits are possible in single"):
            TargetVectorEnv(MARKET, 2, risk=risk)


def changed_after(market: Market, time: int) -> Market:
    """Return a market whose numbers are others from the candle after ``time`` on, with more digits."""
    series = []
    for symbol in market.symbols:
        candles = market.candles_of(symbol)
        later = candles.complete_time > time
        columns = {
            name: np.where(
                later, np.round(getattr(candles, name) * 1.2345678, 7), getattr(candles, name)
            )
            for name in ("open", "high", "low", "close", "volume")
        }
        series.append(Candles(symbol=symbol, interval="1m", open_time=candles.open_time, **columns))
    return Market(series)


@pytest.mark.parametrize("kind", ["single", "vector", "orders"])
def test_nothing_later_is_seen(kind: str) -> None:
    """All that is returned before the cut is the same bit for bit, and something after it is not."""
    features = ["returns", "volatility", "rsi", "macd", "bollinger", "time_of_day", {"kind": "ema"}]
    options: dict[str, Any] = {
        "symbol": "AUSDT",
        "features": features,
        "window": 6,
        "episode_steps": 60,
        "start": "first",
    }
    cut_after = 30

    def results(market: Market) -> list[Any]:
        env: Any
        if kind == "single":
            env = BracketEnv(market, **options, stop_loss=0.01, take_profit=0.01)
        elif kind == "vector":
            env = TargetVectorEnv(market, 3, **options, info="full")
        else:
            env = OrdersEnv(market, **options)
        env.action_space.seed(4)
        return played_steps(env, 50)

    clock = TargetEnv(TWO, **options).clock
    first = TargetEnv(TWO, **options)
    first.reset(seed=0)
    cut = clock.time(first.episode.first_step + cut_after)
    before, after = results(TWO), results(changed_after(TWO, cut))
    assert_same(before[: cut_after + 1], after[: cut_after + 1])
    with pytest.raises(AssertionError):
        assert_same(before[cut_after + 1 :], after[cut_after + 1 :])


def played_steps(env: Any, steps: int) -> list[Any]:
    return [env.reset(seed=0), *(env.step(env.action_space.sample()) for _ in range(steps))]


def test_the_window_stays_in_a_gap() -> None:
    market = Market([tape(5, 200, gaps=0.3, volume=1e5)])
    env = TargetEnv(market, window=3, episode_steps=100, features=["close_return"], account=False)
    observation: Any = env.reset(seed=2)[0]
    stays = 0
    for _ in range(60):
        previous, observation = observation, env.step(1)[0]
        window = env.session.window("BTCUSDT", 4, ["close"])[:, 0]
        returns = np.log(window[1:] / window[:-1]).astype(np.float32)
        assert np.allclose(observation, returns, rtol=1e-6)
        stays += int((observation == previous).all())
    assert stays > 5


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"features": ["rsj"]}, "features"),
    ({"features": [{"kind": "ema", "period": -1}]}, "features.feature.period"),
    ({"split": "dev"}, "split"),
    ({"splits": (0.5, 0.2, 0.2)}, "splits"),
    ({"embargo": 1}, "embargo"),
    ({"symbol": "ETHUSDT"}, "ETHUSDT"),
    ({"market": TWO}, "symbol"),
    ({"market": "BTCUSDT.csv"}, "market"),
    ({"interval": "7m"}, "interval"),
    ({"window": 0}, "window"),
    ({"window": 400}, "window"),
    ({"episode_steps": 1000}, "episode_steps"),
    ({"weights": (0.0, 1.5)}, "weights"),
    ({"weights": ()}, "weights"),
    ({"reward": "profit"}, "reward"),
    ({"actions": "box"}, "actions"),
    ({"start": "last"}, "start"),
    ({"sequence": (0, 0)}, "sequence"),
    ({"ruin": 2}, "ruin"),
    ({"min_trade": 0.5}, "min_trade"),
    ({"rebalance": "never"}, "rebalance"),
    ({"stop_loss": 0.1}, "stop_loss"),
    ({"randomize": {"fee": (0, 1)}}, "randomize"),
    ({"randomize": {"fee_rate": (0.2, 0.1)}}, "randomize.fee_rate"),
    ({"randomize": {"fee_rate": (0, 0.1)}, "fee_rate": 0}, "fee_rate"),
    ({"fee_rate": -1}, "fee_rate"),
    ({"slippage": {"model": "square"}}, "slippage"),
    ({"info": "some"}, "info"),
    ({"render_mode": "human"}, "render_mode"),
    ({"lookback": 3}, "lookback"),
]


@pytest.mark.parametrize(("change", "field"), REFUSED, ids=[str(change) for change, _ in REFUSED])
def test_a_wrong_argument_is_refused_by_name(change: dict[str, Any], field: str) -> None:
    with pytest.raises(Exception, match=field.replace("(", "")):
        TargetEnv(**{"market": MARKET, **SHORT, **change})


@pytest.mark.parametrize(
    ("options", "action"),
    [
        ({}, 3),
        ({}, -1),
        ({}, 0.5),
        ({}, True),
        ({}, None),
        ({"actions": "continuous"}, np.array([np.nan])),
        ({"actions": "continuous"}, np.array([0.1, 0.2])),
        ({"actions": "continuous"}, np.array(["a"])),
    ],
)
def test_a_wrong_action_is_refused_and_changes_nothing(options: Any, action: Any) -> None:
    env = TargetEnv(MARKET, **SHORT, **options)
    env.reset(seed=1)
    with pytest.raises(InvalidParameter, match="action: "):
        env.step(action)
    assert (env.session.step_number, len(env.session.orders)) == (0, 0)


def test_wrong_actions_of_many_are_refused() -> None:
    env = TargetVectorEnv(MARKET, 3, **SHORT)
    env.reset(seed=1)
    for actions in (np.array([0, 1, 3]), np.array([0.0, 1.0, 2.0]), np.array([0, 1])):
        with pytest.raises(InvalidParameter, match="action: "):
            env.step(actions)
    continuous = TargetVectorEnv(MARKET, 2, **SHORT, actions="continuous")
    continuous.reset(seed=1)
    with pytest.raises(InvalidParameter, match="action: is NaN"):
        continuous.step(np.array([[0.5], [np.nan]]))


def test_merged_granularities_are_refused_by_name() -> None:
    merged = Market([tape(1, 300), tape(2, 100, interval=5 * MINUTE)])
    with pytest.raises(InvalidParameter, match="candles of 1m and 5m"):
        TargetEnv(merged, **SHORT)
