"""Indicators: values worked out by hand, history before which there is none, and bounds."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from candlestep.sandbox import Candles, InvalidParameter
from candlestep.sandbox.indicators.bars import Bars, aggregate_bars
from candlestep.sandbox.indicators.indicators import (
    KINDS,
    Values,
    history_of,
    parse_indicators,
    value_names,
)
from tests.support.case_strategies import cases
from tests.support.runs import FEWER
from tests.support.session_cases import MINUTE, market_of

NAN = math.nan
ROWS = 12
CLOSES = [10.0, 11, 13, 12, 15, 14, 14, 16, 20, 19, 18, 22]


def some_bars(closes: list[float], highs: list[float] | None = None) -> Bars:
    close = np.array(closes, dtype=float)
    high = close + 1 if highs is None else np.array(highs, dtype=float)
    times = (np.arange(len(close)) + 1) * MINUTE
    return Bars("AAAUSDT", times, close, high, close - 1, close, np.full(len(close), 5.0))


def values_of(rows: Bars, **indicator: Any) -> list[list[float]]:
    parsed = parse_indicators({"x": indicator})
    values = Values(rows, parsed)
    return [values[name].tolist() for name in value_names(parsed)[5:]]


def same(values: list[float], expected: list[float]) -> bool:
    return bool(np.allclose(values, expected, rtol=1e-12, atol=1e-12, equal_nan=True))


@pytest.mark.parametrize(
    ("indicator", "expected"),
    [
        ({"kind": "sma", "period": 3}, [[NAN, NAN, 34 / 3, 12, 40 / 3, 41 / 3]]),
        # The average of the first three, then half of the way to each close.
        ({"kind": "ema", "period": 3}, [[NAN, NAN, 34 / 3, 35 / 3, 40 / 3, 41 / 3]]),
        ({"kind": "wma", "period": 2}, [[NAN, 32 / 3, 37 / 3, 37 / 3, 42 / 3, 43 / 3]]),
        ({"kind": "highest", "period": 2, "source": "high"}, [[NAN, 12, 14, 14, 16, 16]]),
        ({"kind": "lowest", "period": 2}, [[NAN, 10, 11, 12, 12, 14]]),
        ({"kind": "momentum", "period": 2}, [[NAN, NAN, 3, 1, 2, 2]]),
        ({"kind": "roc", "period": 1}, [[NAN, 10, 200 / 11, -100 / 13, 25, -100 / 15]]),
        # Gains 1, 2 and losses 0, 0; then Wilder's averages with each new change.
        ({"kind": "rsi", "period": 2}, [[NAN, NAN, 100, 60, 100 * 1.875 / 2.125, NAN]]),
        (
            {"kind": "donchian", "period": 2},
            [
                [NAN, 12, 14, 14, 16, 16],
                [NAN, 10.5, 12, 12.5, 13.5, 14.5],
                [NAN, 9, 10, 11, 11, 13],
            ],
        ),
        (
            {"kind": "bollinger", "period": 2, "deviations": 2},
            [
                [NAN, 11.5, 14, 13.5, 16.5, 15.5],
                [NAN, 10.5, 12, 12.5, 13.5, 14.5],
                [NAN, 9.5, 10, 11.5, 10.5, 13.5],
            ],
        ),
        ({"kind": "deviation", "period": 2}, [[NAN, 0.5, 1, 0.5, 1.5, 0.5]]),
        ({"kind": "typical_price"}, [[10, 11, 13, 12, 15, 14]]),
        ({"kind": "obv"}, [[5, 10, 15, 10, 15, 10]]),
        # High less low is 2, the step from the close before is the most 4.
        ({"kind": "atr", "period": 1}, [[NAN, 2, 3, 2, 4, 2]]),
    ],
)
def test_values_worked_out_by_hand(indicator: dict[str, Any], expected: list[list[float]]) -> None:
    outputs = values_of(some_bars(CLOSES[:6]), **indicator)
    for ours, theirs in zip(outputs, expected, strict=True):
        checked = len(theirs) - (1 if indicator["kind"] == "rsi" else 0)
        assert same(ours[:checked], theirs[:checked])


def test_macd_is_the_difference_of_two_averages_and_its_own_average() -> None:
    closes = [float(10 + k * k % 7) for k in range(40)]
    (line, signal, histogram) = values_of(some_bars(closes), kind="macd", fast=3, slow=5, signal=2)
    assert all(math.isnan(value) for value in line[:5])
    assert not any(math.isnan(value) for value in line[5:])
    assert same([a - b for a, b in zip(line, signal, strict=True)], histogram)
    # Both averages begin with the plain mean of their first candles up to the fifth.
    fast, slow = sum(closes[2:5]) / 3, sum(closes[:5]) / 5
    for close in closes[5:]:
        fast, slow = (fast + close) / 2, slow + (close - slow) / 3
    assert line[-1] == pytest.approx(fast - slow, rel=1e-12)


def test_an_indicator_of_an_indicator_comes_after_it() -> None:
    parsed = parse_indicators(
        {
            "a": {"kind": "sma", "period": 2, "source": "b.upper"},
            "b": {"kind": "donchian", "period": 2},
        }
    )
    assert list(parsed) == ["b", "a"]
    values = Values(some_bars(CLOSES[:4]), parsed)["a"]
    assert same(values.tolist(), [NAN, NAN, 13, 14])


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("rows", [1, 2, 30])
def test_every_kind_has_values_of_every_length_at_its_bounds(kind: Any, rows: int) -> None:
    columns = some_bars([float(1 + k % 5) for k in range(rows)])
    for bound in ("least", "default", "most"):
        parameters = {parameter.name: getattr(parameter, bound) for parameter in kind.parameters}
        if "slow" in parameters:
            parameters["slow"] = max(parameters["slow"], parameters["fast"] + 1)
            parameters["fast"] = parameters["slow"] - 1
        if parameters.get("slow", 0) > 100_000:
            parameters |= {"slow": 100_000, "fast": 99_999}
        for values in values_of(columns, kind=kind.name, **parameters):
            assert len(values) == rows


@FEWER
@given(cases(), st.sampled_from(list(KINDS)), st.data())
def test_a_value_is_the_same_whatever_follows(case: Any, kind: str, data: st.DataObject) -> None:
    """Every kind has the same values, to the last bit, over the first rows as over all."""
    parameters = {parameter.name: parameter.default for parameter in KINDS[kind].parameters}
    if "period" in parameters:
        parameters["period"] = data.draw(st.integers(3, 8))
    market = market_of(case.market)
    for symbol in market.symbols:
        line = market.candles_of(symbol)
        rows = aggregate_bars(line, line.intervals[0])
        stop = data.draw(st.integers(1, len(rows.complete_time)))
        part = Bars._make([symbol, *(column[:stop] for column in rows[1:])])
        whole, first = (values_of(bars, kind=kind, **parameters) for bars in (rows, part))
        for ours, theirs in zip(first, whole, strict=True):
            assert np.array_equal(ours, theirs[:stop], equal_nan=True)


@pytest.mark.parametrize(
    ("indicators", "field"),
    [
        ({"a": {"kind": "sma", "period": 0}}, "indicators.a.period"),
        ({"a": {"kind": "sma", "period": -1}}, "indicators.a.period"),
        ({"a": {"kind": "sma", "period": 10**9}}, "indicators.a.period"),
        ({"a": {"kind": "sma", "period": 1.5}}, "indicators.a.period"),
        ({"a": {"kind": "sma", "period": True}}, "indicators.a.period"),
        ({"a": {"kind": "sma", "period": "3"}}, "indicators.a.period"),
        ({"a": {"kind": "sma", "period": None}}, "indicators.a.period"),
        ({"a": {"kind": "sma", "periode": 3}}, "indicators.a.periode"),
        ({"a": {"kind": "SMA"}}, "indicators.a.kind"),
        ({"a": {}}, "indicators.a.kind"),
        ({"a": {"kind": []}}, "indicators.a.kind"),
        ({"a": 3}, "indicators.a.kind"),
        ({"close": {"kind": "sma"}}, "indicators.close"),
        ({"a.b": {"kind": "sma"}}, "indicators.a.b"),
        ({"": {"kind": "sma"}}, "indicators."),
        ({"é": {"kind": "sma"}}, "indicators.é"),
        ({"a": {"kind": "sma", "source": "b"}}, "indicators.a.source"),
        ({"a": {"kind": "sma", "source": 1}}, "indicators.a.source"),
        ({"a": {"kind": "sma", "source": "a"}}, "indicators.a.source"),
        ({"a": {"kind": "atr", "source": "close"}}, "indicators.a.source"),
        ({"a": {"kind": "sma", "source": "m"}, "m": {"kind": "macd"}}, "indicators.a.source"),
        (
            {"a": {"kind": "sma", "source": "b"}, "b": {"kind": "sma", "source": "a"}},
            "indicators.a.source",
        ),
        ({"a": {"kind": "macd", "fast": 26, "slow": 26}}, "indicators.a.fast"),
        ({"a": {"kind": "bollinger", "deviations": 0}}, "indicators.a.deviations"),
        ({f"a{k}": {"kind": "sma"} for k in range(51)}, "indicators"),
        ([], "indicators"),
    ],
)
def test_what_is_refused_names_the_place(indicators: Any, field: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        parse_indicators(indicators)
    assert refused.value.details["field"] == field


def test_coarser_candles_are_those_that_a_session_shows() -> None:
    times = np.arange(30) * MINUTE
    close = np.arange(30) + 1.0
    volume = np.full(30, 0.1)
    candles = Candles(
        symbol="AAAUSDT",
        interval="1m",
        open_time=times,
        open=close,
        high=close + 0.5,
        low=close - 0.5,
        close=close,
        volume=volume,
    )
    rows = aggregate_bars(candles, 15 * MINUTE)
    assert rows.complete_time.tolist() == [15 * MINUTE, 30 * MINUTE]
    assert rows.open.tolist() == [1, 16]
    assert rows.high.tolist() == [15.5, 30.5]
    assert rows.low.tolist() == [0.5, 15.5]
    assert rows.close.tolist() == [15, 30]
    # Fifteen times 0.1 is 1.5, which floats do not add up to.
    assert rows.volume.tolist() == [1.5, 1.5]


# On-balance volume counts from the first candle, the parabolic stop from its last turn.
@pytest.mark.parametrize("kind", sorted(KINDS.keys() - {"obv", "sar"}))
def test_more_history_than_is_wanted_changes_next_to_nothing(kind: str) -> None:
    parsed = parse_indicators({"x": {"kind": kind}})
    wanted = history_of(parsed)
    for seed in range(3):
        random = np.random.default_rng(seed)
        close = 100 * np.exp(np.cumsum(random.normal(0, 0.01, 2000)))
        high = close * (1 + random.uniform(0, 0.005, 2000))
        low = close * (1 - random.uniform(0, 0.005, 2000))
        times = (np.arange(2000) + 1) * MINUTE
        columns = (close, high, low, close, random.uniform(1, 9, 2000))
        whole = Values(Bars("AAAUSDT", times, *columns), parsed)
        last = [column[-wanted - 1 :] for column in columns]
        part = Values(Bars("AAAUSDT", times[-wanted - 1 :], *last), parsed)
        for name in value_names(parsed)[5:]:
            spread = float(np.nanstd(whole[name]))
            assert abs(whole[name][-1] - part[name][-1]) <= 1e-3 * spread


def test_history_counts_the_periods_of_what_an_indicator_is_computed_of() -> None:
    parsed = parse_indicators(
        {
            "a": {"kind": "sma", "period": 30, "source": "b.upper"},
            "b": {"kind": "bollinger", "period": 20},
            "c": {"kind": "ema", "period": 9},
            "d": {"kind": "rsi", "period": 4, "source": "a"},
        }
    )
    assert history_of(parsed) == 20 + 30 + 10 * 4
    assert history_of({}) == 0
