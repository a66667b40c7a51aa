"""Features: their values worked by hand, and that each depends on its row and earlier ones alone."""

import json
from typing import Any

import numpy as np
import pytest

from candlestep.sandbox import InvalidParameter, Market
from candlestep.sandbox.envs import OrdersEnv, TargetEnv, TargetVectorEnv
from candlestep.sandbox.envs.features import NAMED, RETURNS, columns_of
from candlestep.sandbox.indicators.bars import Bars, aggregate_bars
from candlestep.sandbox.indicators.indicators import KINDS
from tests.support.environments import TWO, assert_same, played
from tests.support.tapes import MINUTE, tape

CANDLES = tape(3, 200, level=100.0, volatility=0.01)
BARS = aggregate_bars(CANDLES, MINUTE)


def first_of(bars: Bars, stop: int) -> Bars:
    return Bars(bars.symbol, *(column[:stop] for column in bars[1:]))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "feature", [*NAMED, *KINDS, {"kind": "macd", "fast": 3, "slow": 9}], ids=str
)
def test_a_feature_of_the_first_candles_is_the_first_part_of_it(feature: Any) -> None:
    whole = columns_of(feature, BARS).values
    for stop in (1, 20, 61, 150, 199):
        assert columns_of(feature, first_of(BARS, stop)).values.tobytes() == whole[:stop].tobytes()
    assert np.isfinite(whole[-1]).all()


def test_returns_are_logarithms_over_the_close_before() -> None:
    assert tuple(NAMED)[:5] == RETURNS
    values = np.stack([columns_of(name, BARS).values[:, 0] for name in RETURNS], axis=1)
    row = 50
    for column, name in enumerate(("open", "high", "low", "close")):
        expected = np.log(getattr(CANDLES, name)[row] / CANDLES.close[row - 1])
        assert values[row, column] == pytest.approx(expected, rel=1e-12)
    mean = CANDLES.volume[row - 19 : row + 1].mean()
    assert values[row, 4] == pytest.approx(np.log1p(CANDLES.volume[row] / mean))
    assert np.isnan(values[0, 0])
    assert np.isnan(values[18, 4])
    assert np.isfinite(values[19:]).all()


def test_the_other_named_features() -> None:
    returns = np.log(CANDLES.close[1:] / CANDLES.close[:-1])
    row = 80
    volatility = columns_of("volatility", BARS).values[row, 0]
    assert volatility == pytest.approx(returns[row - 30 : row].std())
    place, width = columns_of("bollinger", BARS).values[row]
    window = CANDLES.close[row - 19 : row + 1]
    low = window.mean() - 2 * window.std()
    assert place == pytest.approx((CANDLES.close[row] - low) / (4 * window.std()))
    assert width == pytest.approx(4 * window.std() / window.mean())
    assert 0 < columns_of("rsi", BARS).values[row, 0] < 1
    assert columns_of("macd", BARS).names == ("macd.macd", "macd.signal", "macd.histogram")
    sine, cosine = columns_of("time_of_day", BARS).values[row]
    minutes = row + 1
    assert (sine, cosine) == pytest.approx(
        (np.sin(2 * np.pi * minutes / 1440), np.cos(2 * np.pi * minutes / 1440))
    )


def test_columns_have_names() -> None:
    env = TargetEnv(
        Market([CANDLES]),
        features=["close_return", {"kind": "aroon", "period": 5}, ema_of_volume],
        episode_steps=20,
        window=3,
    )
    assert env.feature_names == ("close_return", "aroon.up", "aroon.down", "ema_of_volume")
    assert env.features.shape == (200, 4)
    assert not env.features.flags.writeable


def ema_of_volume(bars: Bars) -> Any:
    means = np.empty(len(bars.volume))
    mean = 0.0
    for row, volume in enumerate(bars.volume.tolist()):
        means[row] = mean = 0.9 * mean + 0.1 * volume
    return means


def normalised_by_everything(bars: Bars) -> Any:
    return (bars.close - bars.close.mean()) / bars.close.std()


def tomorrow(bars: Bars) -> Any:
    return np.append(bars.close[1:], bars.close[-1])


@pytest.mark.parametrize("function", [normalised_by_everything, tomorrow])
def test_a_function_that_looks_ahead_is_refused(function: Any) -> None:
    with pytest.raises(InvalidParameter, match=f"the function {function.__name__} looks ahead"):
        columns_of(function, BARS)


def test_a_function_gets_columns_that_it_cannot_change() -> None:
    def spoil(bars: Bars) -> Any:
        bars.close[0] = 0
        return bars.close

    with pytest.raises(ValueError, match="read-only"):
        columns_of(spoil, BARS)


def test_a_hole_in_a_feature_is_refused_by_row_and_name() -> None:
    def holed(bars: Bars) -> Any:
        values = bars.close.copy()
        values[100:101] = np.nan
        return values

    with pytest.raises(InvalidParameter, match="holed of BTCUSDT is nan in row 100") as refused:
        TargetEnv(Market([CANDLES]), features=[holed], episode_steps=20, window=3)
    assert refused.value.details["row"] == 100


def test_a_feature_that_needs_more_candles_than_there_are_is_refused() -> None:
    with pytest.raises(InvalidParameter, match="has no finite value"):
        TargetEnv(Market([CANDLES]), features=[{"kind": "sma", "period": 500}])
    with pytest.raises(InvalidParameter, match="a row for each of 200 candles"):
        columns_of(lambda bars: [1.0], BARS)


SCALED: dict[str, Any] = {"window": 4, "features": ["returns", "rsi"], "standardize": True}
TRAIN_STEPS = 123
"""The train split of ``CANDLES``, whole, which begins at step 22."""


def test_features_are_standardised_by_what_is_observed_of_the_train_split() -> None:
    env = TargetEnv(Market([CANDLES]), split="train", episode_steps=TRAIN_STEPS, **SCALED)
    windows = [step[0][:24].reshape(4, 6) for step in played(env, [0] * TRAIN_STEPS)]
    seen = np.concatenate([windows[0], *(window[-1:] for window in windows[1 : TRAIN_STEPS + 1])])
    assert len(seen) == TRAIN_STEPS + 4
    assert np.abs(seen.mean(axis=0)).max() < 1e-6
    assert np.abs(seen.std(axis=0) - 1).max() < 1e-6


def test_standardised_features_are_the_others_less_the_mean_over_the_deviation() -> None:
    market = Market([CANDLES])
    env = TargetEnv(market, split="test", episode_steps=10, **SCALED)
    raw = TargetEnv(market, split="test", episode_steps=10, **SCALED | {"standardize": False})
    assert raw.feature_constants is None
    _, info = env.reset(seed=1)
    assert info["features"] == env.feature_constants
    pairs = np.array([info["features"]["BTCUSDT"][name] for name in env.feature_names])
    scaled = ((raw.features - pairs[:, 0]) / pairs[:, 1]).astype(np.float32)
    assert scaled.tobytes() == env.features.tobytes()


def test_constants_of_the_train_split_do_not_depend_on_later_candles() -> None:
    last = 22 + TRAIN_STEPS
    changed = CANDLES.arrays.columns | {
        name: np.append(getattr(CANDLES, name)[: last + 1], getattr(CANDLES, name)[last + 1 :] * 3)
        for name in ("open", "high", "low", "close", "volume")
    }
    other = type(CANDLES).restore(CANDLES.arrays._replace(columns=changed))
    one, two = (
        TargetEnv(Market([candles]), split="test", episode_steps=10, **SCALED)
        for candles in (CANDLES, other)
    )
    assert one.feature_constants == two.feature_constants
    assert one.features[: last + 1].tobytes() == two.features[: last + 1].tobytes()
    assert one.features.tobytes() != two.features.tobytes()


def test_constants_are_kept_as_json_and_given_to_an_environment_of_other_candles() -> None:
    options = SCALED | {"symbol": ["BUSDT", "AUSDT"], "episode_steps": 10}
    env = TargetVectorEnv(TWO, 2, split="train", **options)
    kept = json.loads(json.dumps(env.feature_constants))
    later = TWO.between(int(TWO.candles_of("AUSDT").open_time[180]), 2**45)
    assert later is not None
    options = options | {"symbol": "AUSDT", "standardize": {"AUSDT": kept["AUSDT"]}}
    raw = OrdersEnv(later, **options | {"standardize": False})
    held_out = OrdersEnv(later, **options)
    given = json.dumps(held_out.reset(seed=1)[1]["features"])
    assert given == json.dumps(options["standardize"])
    mean, deviation = np.array(list(kept["AUSDT"].values())).T
    scaled = ((raw.features - mean) / deviation).astype(np.float32)
    assert scaled.tobytes() == held_out.features.tobytes()


def test_standardised_observations_of_many_are_those_of_one() -> None:
    options = SCALED | {"symbol": ["AUSDT", "BUSDT"], "episode_steps": 10}
    env, one = TargetVectorEnv(TWO, 1, **options), TargetEnv(TWO, **options)
    assert_same(env.reset(seed=4)[0][0], one.reset(seed=4)[0])
    assert_same(env.step([[2, 1]])[0][0], one.step([2, 1])[0])


def test_a_feature_that_does_not_vary_becomes_0() -> None:
    def flat(bars: Bars) -> Any:
        return np.full(len(bars.close), 7.0)

    env = TargetEnv(Market([CANDLES]), window=4, features=[flat], standardize=True, episode_steps=9)
    assert not env.features.any()


def test_episodes_in_disguise_have_the_constants_of_the_market() -> None:
    env = TargetEnv(Market([CANDLES]), episode_steps=10, blind=True, **SCALED)
    raw = TargetEnv(
        Market([CANDLES]), episode_steps=10, blind=True, **SCALED | {"standardize": False}
    )
    constants = env.feature_constants
    assert constants is not None
    mean, deviation = np.array(list(constants["BTCUSDT"].values())).T
    plain: Any = raw.reset(seed=2)[0]
    shown: Any = env.reset(seed=2)[0]
    scaled = ((plain[:24].reshape(4, 6) - mean) / deviation).astype(np.float32)
    assert scaled.tobytes() == shown[:24].tobytes()


@pytest.mark.parametrize(
    ("constants", "field"),
    [
        ({}, "standardize"),
        ({"AUSDT": {}}, "standardize"),
        ({"BTCUSDT": {"close_return": (0, 1)}}, "standardize.BTCUSDT"),
        ({"BTCUSDT": {"rsi": (0.0, -1.0)}}, "standardize.BTCUSDT.rsi"),
        ({"BTCUSDT": {"rsi": (0.0,)}}, "standardize.BTCUSDT.rsi"),
        ({"BTCUSDT": {"rsi": (float("nan"), 1.0)}}, "standardize.BTCUSDT.rsi"),
        ({"BTCUSDT": {"rsi": "ab"}}, "standardize.BTCUSDT.rsi"),
        ({"BTCUSDT": 1}, "standardize.BTCUSDT"),
        ("train", "standardize"),
        (1, "standardize"),
    ],
)
def test_constants_that_do_not_fit_are_refused_by_name(constants: Any, field: str) -> None:
    with pytest.raises(InvalidParameter) as refusal:
        TargetEnv(Market([CANDLES]), window=4, features=["rsi"], standardize=constants)
    assert refusal.value.details["field"] == field
