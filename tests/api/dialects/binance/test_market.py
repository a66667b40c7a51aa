"""The market in the dialect: nothing of it tells the future, and rows are those of the candles."""

import gc
import weakref
from decimal import Decimal
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from candlestep.api.dialects.binance.errors import BinanceError
from candlestep.api.dialects.binance.filters import Rules, default_filters
from candlestep.api.dialects.binance.klines import MOST_ROWS, encode_row, latest_rows
from candlestep.api.dialects.binance.market import ENDPOINTS
from candlestep.sandbox import Candles, Market, Session, SessionConfig
from tests.support.binance import ask

MINUTE = 60_000
COUNT = 400
START = 1_736_035_200_000
"""2025-01-05T00:00Z."""

ASKED: dict[str, list[dict[str, Any]]] = {
    "api/v3/klines": [
        {"symbol": "BTCUSDT", "interval": interval, "limit": 7, **times}
        for interval in ("1m", "5m", "1h")
        for times in ({}, {"startTime": START}, {"startTime": START, "endTime": 2 * START})
    ],
    "api/v3/uiKlines": [{"symbol": "BTCUSDT", "interval": "3m"}],
    "api/v3/ticker": [{"symbol": "BTCUSDT", "windowSize": "7m"}, {"symbol": "BTCUSDT"}],
    "api/v3/depth": [{"symbol": "BTCUSDT", "limit": 5}],
    "api/v3/avgPrice": [{"symbol": "BTCUSDT"}],
    "api/v3/trades": [{"symbol": "BTCUSDT"}],
    "api/v3/aggTrades": [{"symbol": "BTCUSDT"}],
    "api/v3/historicalTrades": [{"symbol": "BTCUSDT"}],
}
"""Parameters of the requests that need any; the others are asked without."""


def walk(seed: int) -> dict[str, Any]:
    """Return the columns of minutes at random prices."""
    random = np.random.default_rng(seed)
    close = np.round(1000 + np.cumsum(random.normal(size=COUNT)), 2)
    opens = np.round(close + random.normal(size=COUNT), 2)
    spread = np.round(np.abs(random.normal(size=COUNT)), 2)
    return {
        "open": opens,
        "high": np.maximum(opens, close) + spread,
        "low": np.minimum(opens, close) - spread,
        "close": close,
        "volume": np.round(random.uniform(1, 9, COUNT), 3),
    }


def market_of(columns: dict[str, Any]) -> Market:
    times = START + np.arange(COUNT) * MINUTE
    return Market([Candles(symbol="BTCUSDT", interval="1m", open_time=times, **columns)])


def session_on(market: Market, start: int = 60) -> Session:
    return Session(
        SessionConfig(start_time=START + start * MINUTE, end_time=START + COUNT * MINUTE), market
    )


@given(seed=st.integers(0, 5), steps=st.integers(1, 300))
def test_no_answer_depends_on_what_comes_later(seed: int, steps: int) -> None:
    """Only the open of the candle that opens now is known."""
    known, other = walk(seed), walk(seed + 100)
    now = 60 + steps
    mixed = {
        name: np.concatenate([known[name][:now], other[name][now:]])
        for name in ("open", "high", "low", "close", "volume")
    }
    if now < COUNT:
        mixed["open"][now] = known["open"][now]
        mixed["high"][now] = max(mixed["high"][now], known["open"][now])
        mixed["low"][now] = min(mixed["low"][now], known["open"][now])
    one, two = session_on(market_of(known)), session_on(market_of(mixed))
    one.step(steps), two.step(steps)
    for method, path in ENDPOINTS:
        for parameters in ASKED.get(path, [{}]):
            assert ask(one, path, method, **parameters) == ask(two, path, method, **parameters)


@given(data=st.data())
def test_rows_that_are_kept_are_those_that_are_made_anew(data: st.DataObject) -> None:
    """Sessions of one market ask at any times, as forks do."""
    market = market_of(walk(1))
    for _ in range(6):
        time = START + data.draw(st.integers(0, COUNT + 5)) * MINUTE
        limit = data.draw(st.integers(1, 60))
        interval = data.draw(st.sampled_from([1, 5])) * MINUTE
        found = latest_rows(market, "BTCUSDT", interval, time, limit)
        candles = market.candles_between("BTCUSDT", None, None, interval // 1000, time, limit)
        assert found == b"[" + b",".join(map(encode_row, candles)) + b"]"


def test_rows_are_let_go_of_beyond_a_few_thousand() -> None:
    count = 6 * MOST_ROWS
    price = np.full(count, 10.0)
    times = START + np.arange(count) * MINUTE
    market = Market(
        [
            Candles(
                symbol="A", interval="1m", open_time=times, open=price, high=price, low=price,
                close=price,
            )
        ]
    )  # fmt: skip
    rows = partial(latest_rows, market, "A", MINUTE)
    for step in range(0, count, 500):
        time = START + step * MINUTE
        candles = market.candles_between("A", None, None, "1m", time, MOST_ROWS)
        assert rows(time, MOST_ROWS) == b"[" + b",".join(map(encode_row, candles)) + b"]"


def test_a_row_has_the_items_of_binance() -> None:
    session = session_on(market_of(walk(1)))
    session.step(3)
    rows = ask(session, "api/v3/klines", symbol="BTCUSDT", interval="5m", limit=2)
    columns = walk(1)
    assert rows[1] == [
        START + 60 * MINUTE,
        *(f"{value:.8f}" for value in (
            columns["open"][60], columns["high"][60:63].max(), columns["low"][60:63].min(),
            columns["close"][62],
        )),
        f"{sum(Decimal(str(v)) for v in columns['volume'][60:63]):.8f}",
        START + 65 * MINUTE - 1,
        rows[1][7], 0, "0.00000000", "0.00000000", "0",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "parameters", "code"),
    [
        ("api/v3/klines", {"symbol": "BTCUSDT"}, -1102),
        ("api/v3/klines", {"symbol": "BTCUSDT", "interval": "1M"}, -1120),
        ("api/v3/klines", {"symbol": "BTCUSDT", "interval": "1m", "limit": "x"}, -1100),
        ("api/v3/klines", {"symbol": "XXXUSDT", "interval": "1m"}, -1121),
        ("api/v3/depth", {"symbol": "BTCUSDT", "limit": "0"}, -1100),
        ("api/v3/ticker", {"symbol": "BTCUSDT", "windowSize": "60m"}, -1100),
        ("api/v3/ticker/price", {"symbol": "BTCUSDT", "symbols": "[]"}, -1128),
        ("api/v3/ticker/price", {"symbols": "BTCUSDT"}, -1100),
        ("api/v3/ticker/price", {"simbol": "BTCUSDT"}, -1104),
    ],
)
def test_a_parameter_that_cannot_be_is_refused_by_number(
    path: str, parameters: dict[str, str], code: int
) -> None:
    with pytest.raises(BinanceError) as refusal:
        ask(session_on(market_of(walk(1))), path, **parameters)
    assert refusal.value.code == code


@pytest.mark.parametrize(
    ("prices", "tick", "step"),
    [
        ([50_000.1, 50_000.25], "0.01", "0.00001"),
        ([50_000.0, 40_010.0], "10", "0.00001"),
        ([999.5, 998.0], "0.1", "0.00010"),
        ([0.1234567, 0.2], "0.0000001", "0.1"),
        ([1.5, 2.5], "0.1", "0.01"),
        ([0.012345678901, 0.0002], "0.00000001", "1"),
    ],
)
def test_filters_that_nobody_gave(prices: list[float], tick: str, step: str) -> None:
    """The tick is of all prices before the start, and the step of the last of them."""
    columns = np.array([*prices, 77.123456])
    candles = Candles(
        symbol="A", interval="1m", open_time=START + np.arange(len(columns)) * MINUTE,
        open=columns, high=columns, low=columns, close=columns,
    )  # fmt: skip
    filters = default_filters(candles, START + len(prices) * MINUTE)
    assert (filters["tick_size"], filters["step_size"]) == (Decimal(tick), Decimal(step))
    assert filters["min_notional"] == 5


def test_a_session_that_is_gone_leaves_nothing_behind() -> None:
    market = market_of(walk(1))
    session = session_on(market)
    ask(session, "api/v3/exchangeInfo")
    ask(session, "api/v3/klines", symbol="BTCUSDT", interval="1m")
    rules = Rules(session, {})
    rules.of("BTCUSDT")
    kept = WeakKeyDictionary({session: rules})
    gone, candles = weakref.ref(market), weakref.ref(market.candles_of("BTCUSDT"))
    del session, market, rules
    gc.collect()
    assert not len(kept)
    assert gone() is None
    assert candles() is None
