"""Coarser candles are those of a plain loop, for an agent and for a strategy alike."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from candlestep.sandbox import InvalidParameter
from candlestep.sandbox.indicators.bars import aggregate_bars
from tests.support.case_strategies import cases
from tests.support.coarser_candles import coarser_candles, straddles, time_line
from tests.support.session_cases import INTERVALS, SECOND, Case, market_of


@given(cases(), st.sampled_from(list(INTERVALS)), st.data())
def test_a_session_shows_them_at_any_time(case: Case, interval: int, data: st.DataObject) -> None:
    symbol = data.draw(st.sampled_from(case.symbols), label="symbol")
    candles = time_line(case.market, symbol)
    moments = [candle.open_time for candle in candles] + [candle.complete for candle in candles]
    near = data.draw(st.sampled_from(moments), label="near")
    now = near + data.draw(st.sampled_from([0, 0, -1, 30 * SECOND, interval]), label="after")
    limit = data.draw(st.sampled_from([1, 2, 5, 10_000]), label="limit")
    market = market_of(case.market)
    expected = coarser_candles(candles, interval, now)
    if expected is None:
        with pytest.raises(InvalidParameter) as refusal:
            market.candles(symbol, now, INTERVALS[interval], limit)
        assert refusal.value.details["field"] == "interval"
    else:
        shown = market.candles(symbol, now, INTERVALS[interval], limit)
        assert [fields(candle) for candle in shown] == [tuple(row) for row in expected[-limit:]]


@given(cases(), st.sampled_from(list(INTERVALS)))
def test_a_strategy_gets_them(case: Case, interval: int) -> None:
    market = market_of(case.market)
    for symbol in case.symbols:
        candles = time_line(case.market, symbol)
        if all(candle.interval > interval for candle in candles) or any(
            straddles(candle, interval) for candle in candles
        ):
            with pytest.raises(InvalidParameter) as refusal:
                aggregate_bars(market.candles_of(symbol), interval)
            assert refusal.value.details["field"] == "timeframe"
            continue
        rows = coarser_candles(candles, interval, candles[-1].complete + 2 * interval)
        assert rows is not None
        bars = aggregate_bars(market.candles_of(symbol), interval)
        columns = (bars.complete_time, bars.open, bars.high, bars.low, bars.close, bars.volume)
        assert list(zip(*(column.tolist() for column in columns), strict=True)) == [
            (row.complete_time, *map(float, row[2:])) for row in rows
        ]


def fields(candle: object) -> tuple[object, ...]:
    names = ("open_time", "complete_time", "open", "high", "low", "close", "volume")
    return tuple(getattr(candle, name) for name in names)
