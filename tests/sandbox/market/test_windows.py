"""Windows: the last complete candles as floats, the same as decimals show, and nothing later."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from candlestep.sandbox import (
    INTERVALS,
    Candles,
    InvalidParameter,
    Market,
    Session,
    SessionConfig,
    SymbolNotFound,
)
from candlestep.sandbox.clock import HOUR, MINUTE
from candlestep.sandbox.market.aggregation import is_straddled
from candlestep.sandbox.market.candles import COLUMNS, PRICES, CandleArrays
from tests.support.candles import flat, minutes
from tests.support.case_strategies import cases
from tests.support.session_cases import Case, apply, start_session


def changed_after(market: Market, time: int) -> Market:
    """Return a market in which every number that is not known at ``time`` is another."""
    changed = []
    for symbol in market.symbols:
        arrays = market.candles_of(symbol).arrays
        later = arrays.columns["complete_time"] > time
        columns = {
            name: np.where(later, column * 3 + 7, column) if name in PRICES else column
            for name, column in arrays.columns.items()
        }
        changed.append(Candles.restore(CandleArrays(*arrays[:3], columns)))
    return Market(changed)


@given(cases(), st.data())
def test_a_window_is_what_candles_are_and_does_not_see_what_comes(
    case: Case, data: st.DataObject
) -> None:
    session = start_session(case)
    for command in case.commands[: data.draw(st.integers(0, len(case.commands)), label="steps")]:
        apply(session, command)
    market = changed_after(session.market, session.time)
    n = data.draw(st.integers(1, 40), label="n")
    fields = data.draw(st.lists(st.sampled_from(PRICES), min_size=1, max_size=6), label="fields")
    for symbol in session.market.symbols:
        shown = session.candles(symbol, limit=n)
        window = session.window(symbol, n, fields)
        assert window.tolist() == [
            [float(getattr(candle, field)) for field in fields] for candle in shown
        ]
        candles = session.market.candles_of(symbol)
        finest = candles.finest_complete(session.time)
        for interval, length in INTERVALS.items():
            if is_straddled(candles, length, session.time):
                with pytest.raises(InvalidParameter, match="lies in two periods"):
                    session.window(symbol, n, interval=interval)
            elif finest is not None and length >= finest:
                seen = session.window(symbol, n, interval=interval)
                shown = session.candles(symbol, interval, n)
                assert seen[:, 3].tolist() == [float(candle.close) for candle in shown]
                unseen = market.window(symbol, session.time, n, interval=interval)
                assert seen.tobytes() == unseen.tobytes()


def test_a_row_is_a_candle_and_a_column_a_field() -> None:
    market = Market([minutes("A", 5.0, 7.0, 6.0)])
    assert market.window("A", 2 * MINUTE, 10).tolist() == [[5, 5, 5, 5, 0.1], [5, 7, 5, 7, 0.1]]
    assert market.window("A", 3 * MINUTE, 2, ("close", "open")).tolist() == [[7, 5], [6, 7]]
    assert market.window("A", 3 * MINUTE - 1, 1, ["close"]).tolist() == [[7]]
    assert market.window("A", MINUTE - 1, 4).shape == (0, 5)


def test_the_session_sets_the_interval_and_coarser_data_do() -> None:
    data = [minutes("A", *[float(10 + i) for i in range(130)]), flat("B", "4h", t0=3.0)]
    config = SessionConfig(start_time=0, end_time=4 * HOUR, candle_interval="1h")
    session = Session(config, Market(data))
    assert session.window("A", 5).shape == (0, 5)
    session.step(4)
    assert session.window("A", 5, ["open", "high", "low", "close"]).tolist() == [
        [10, 69, 10, 69],
        [69, 129, 69, 129],
        [129, 139, 129, 139],
    ]
    assert session.window("A", 2, ["close"], interval="1m").tolist() == [[138], [139]]
    assert session.window("B", 5, ["close"]).tolist() == [[3]]
    with pytest.raises(InvalidParameter, match="finer than the data of B"):
        session.window("B", 5, interval="1h")


def test_volumes_add_up_exactly() -> None:
    session = Session(
        SessionConfig(start_time=0, end_time=HOUR, candle_interval="1h"),
        Market([minutes("A", *[1.0] * 60)]),
    )
    session.step()
    assert session.window("A", 1, ["volume"]).tolist() == [[6.0]]
    assert sum([0.1] * 60) != 6.0


def test_a_window_is_a_read_only_copy_without_a_way_to_later_candles() -> None:
    market = Market([minutes("A", 5.0, 7.0, 6.0)])
    for interval in ("1m", "5m"):
        window = market.window("A", 2 * MINUTE, 2, interval=interval)
        assert not window.flags.writeable
        assert window.base is None
        assert not np.shares_memory(window, market.candles_of("A").close)


@pytest.mark.parametrize(
    ("n", "fields", "field"),
    [
        (0, PRICES, "n"),
        (1.0, PRICES, "n"),
        (True, PRICES, "n"),
        (1, "close", "fields"),
        (1, [], "fields"),
        (1, ["close", "open_time"], "fields"),
        (1, [None], "fields"),
    ],
)
def test_what_makes_no_window_is_refused_by_name(n: Any, fields: Any, field: str) -> None:
    market = Market([minutes("A", 5.0)])
    with pytest.raises(InvalidParameter) as refusal:
        market.window("A", MINUTE, n, fields)
    assert refusal.value.details == {"field": field}
    with pytest.raises(SymbolNotFound):
        market.window("B", MINUTE, 1)
    assert set(PRICES) < set(COLUMNS)
