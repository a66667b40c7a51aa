"""Features: their values worked by hand, and that each depends on its row and earlier ones alone."""

from typing import Any

import numpy as np
import pytest

from candlestep.sandbox import InvalidParameter, Market
from candlestep.sandbox.envs import TargetEnv
from candlestep.sandbox.envs.features import NAMED, RETURNS, columns_of
from candlestep.sandbox.indicators.bars import Bars, aggregate_bars
from candlestep.sandbox.indicators.indicators import KINDS
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
