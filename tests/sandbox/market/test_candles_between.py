"""Ranges of candles, the running one included, against a count of the candles complete by then."""

from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from candlestep.sandbox import Candle, Candles, InvalidParameter, Market
from candlestep.sandbox.clock import bucket_start

MINUTE = 60_000
START = 1_736_035_200_000
"""2025-01-05T00:00Z, a Sunday."""


def minutes(missing: frozenset[int] = frozenset(), count: int = 40) -> Candles:
    """Return minutes whose open is their number, and whose range and volume follow from it."""
    rows = [row for row in range(count) if row not in missing]
    price = np.array(rows, dtype=float) + 100
    return Candles(
        symbol="BTCUSDT", interval="1m", open_time=np.array(rows) * MINUTE + START, open=price,
        high=price + 2, low=price - 3, close=price + 1, volume=price / 10,
    )  # fmt: skip


def counted(candles: Candles, interval: int, time: int) -> list[Candle]:
    """Return every candle of ``interval`` as of ``time``, made one by one of the minutes."""
    found: dict[int, list[int]] = {}
    for row in range(len(candles)):
        if int(candles.open_time[row]) + MINUTE <= time:
            found.setdefault(bucket_start(int(candles.open_time[row]), interval), []).append(row)
    made = [
        Candle(
            opened, opened + interval, decimal(candles.open[rows[0]]),
            max(decimal(candles.high[row]) for row in rows),
            min(decimal(candles.low[row]) for row in rows),
            decimal(candles.close[rows[-1]]),
            sum((decimal(candles.volume[row]) for row in rows), Decimal()),
        )
        for opened, rows in found.items()
    ]  # fmt: skip
    for row in range(len(candles)):
        opened = int(candles.open_time[row])
        if opened <= time < opened + MINUTE and bucket_start(opened, interval) not in found:
            price = decimal(candles.open[row])
            first = bucket_start(opened, interval)
            made.append(Candle(first, first + interval, price, price, price, price, Decimal()))
    return made


def decimal(value: float) -> Decimal:
    return Decimal(repr(float(value)))


@given(
    missing=st.frozensets(st.integers(1, 38), max_size=25),
    interval=st.sampled_from([1, 3, 5, 15]),
    time=st.integers(0, 42 * 60),
    start=st.none() | st.integers(-5, 45),
    end=st.none() | st.integers(-5, 45),
    limit=st.integers(1, 12),
)
def test_a_range_is_what_counting_finds(
    missing: frozenset[int],
    interval: int,
    time: int,
    start: int | None,
    end: int | None,
    limit: int,
) -> None:
    candles = minutes(missing)
    length, now = interval * MINUTE, START + time * 1000
    first = None if start is None else START + start * MINUTE
    last = None if end is None else START + end * MINUTE
    expected = [
        candle
        for candle in counted(candles, length, now)
        if (first is None or candle.open_time >= first)
        and (last is None or candle.open_time <= last)
    ]
    expected = expected[-limit:] if first is None else expected[:limit]
    found = Market([candles]).candles_between("BTCUSDT", first, last, length // 1000, now, limit)
    assert list(found) == expected


def test_the_running_candle_is_the_open_alone_at_its_open_and_then_what_is_complete() -> None:
    market = Market([minutes()])

    def running(minute: int) -> Candle:
        return market.candles_between("BTCUSDT", None, None, "5m", START + minute * MINUTE, 1)[0]

    assert running(5) == Candle(
        START + 5 * MINUTE,
        START + 10 * MINUTE,
        Decimal(105),
        Decimal(105),
        Decimal(105),
        Decimal(105),
        Decimal(0),
    )
    assert running(7) == Candle(
        START + 5 * MINUTE, START + 10 * MINUTE,
        Decimal(105), Decimal(108), Decimal(102), Decimal(107), Decimal("21.1"),
    )  # fmt: skip


def test_candles_coarser_than_the_interval_are_left_out() -> None:
    hour = Candles(
        symbol="BTCUSDT", interval="1h", open_time=[START - 60 * MINUTE], open=[1.0], high=[2.0],
        low=[1.0], close=[2.0],
    )  # fmt: skip
    market = Market([minutes(), hour])
    opens = [
        candle.open_time
        for candle in market.candles_between("BTCUSDT", None, None, "5m", START + 7 * MINUTE)
    ]
    assert opens == [START, START + 5 * MINUTE]
    found = market.candles_between("BTCUSDT", None, None, "1h", START + 7 * MINUTE)
    assert [candle.open_time for candle in found] == [START - 60 * MINUTE, START]


def test_an_interval_finer_than_the_data_is_refused() -> None:
    hours = Candles(
        symbol="BTCUSDT", interval="1h", open_time=[START], open=[1.0], high=[2.0], low=[1.0],
        close=[2.0],
    )  # fmt: skip
    with pytest.raises(InvalidParameter, match="interval: 1m is finer"):
        Market([hours]).candles_between("BTCUSDT", None, None, "1m", START + 60 * MINUTE)
