"""The market as of a time: prices, candles of any interval, tickers, and never anything later."""

from decimal import Decimal

import pytest

from candlestep.sandbox import InvalidParameter, Market, NoPrice, SymbolNotFound
from candlestep.sandbox.clock import DAY, HOUR, MINUTE
from tests.support.candles import flat, minutes


def test_a_symbol_without_a_price_is_left_out() -> None:
    market = Market([flat("B", "1m", t5=2.0), flat("A", "1m", t0=1.0)])
    assert market.symbols == ("A", "B")
    assert market.prices(MINUTE) == {"A": 1}
    assert list(market.prices(5 * MINUTE)) == ["A", "B"]
    with pytest.raises(NoPrice):
        market.price("B", MINUTE)
    with pytest.raises(SymbolNotFound):
        market.price("C", MINUTE)


def test_before_its_first_complete_candle_the_price_is_the_open() -> None:
    market = Market([minutes("A", 5.0, 7.0)])
    assert market.price("A", 0) == 5
    assert market.price("A", 2 * MINUTE) == 7


def test_candles_are_aggregated_from_complete_ones() -> None:
    market = Market([minutes("A", *[float(10 + i) for i in range(12)])])
    (five,) = market.candles("A", 9 * MINUTE, "5m")
    assert (five.open_time, five.complete_time) == (0, 5 * MINUTE)
    assert (five.open, five.high, five.low, five.close) == (10, 14, 10, 14)
    assert five.volume == Decimal("0.5")
    assert [candle.open_time for candle in market.candles("A", 10 * MINUTE, "5m")] == [
        0,
        5 * MINUTE,
    ]
    assert [candle.open for candle in market.candles("A", 10 * MINUTE, "5m", limit=1)] == [14]


def test_candles_of_the_datas_own_interval_are_as_they_were() -> None:
    market = Market([minutes("A", 1.0, 2.0, 3.0)])
    assert [candle.close for candle in market.candles("A", 2 * MINUTE)] == [1, 2]
    assert [candle.close for candle in market.candles("A", 2 * MINUTE, limit=1)] == [2]
    assert market.candles("A", 0) == []


def test_an_interval_finer_than_the_data_is_refused() -> None:
    with pytest.raises(InvalidParameter, match="finer than the data"):
        Market([flat("A", "1h", t0=1.0)]).candles("A", DAY, "1m")


def test_stretches_of_coarser_data_are_left_out_of_finer_candles() -> None:
    market = Market([flat("A", "1m", t120=1.0, t121=2.0), flat("A", "1h", t0=7.0, t60=8.0)])
    assert [c.open_time // MINUTE for c in market.candles("A", DAY, "1m")] == [120, 121]
    hours = market.candles("A", DAY, "1h")
    assert [(c.open_time // HOUR, c.close) for c in hours] == [(0, 7), (1, 8), (2, 2)]
    assert [c.open_time // HOUR for c in market.candles("A", DAY, "1h", limit=2)] == [1, 2]


def test_the_ticker_covers_the_candles_that_completed_in_24_hours() -> None:
    market = Market([minutes("A", *[float(1 + i) for i in range(1500)])])
    ticker = market.ticker("A", 1500 * MINUTE)
    assert (ticker.open, ticker.high, ticker.low, ticker.close) == (60, 1500, 60, 1500)
    assert ticker.volume == 144
    assert (ticker.price_change, ticker.price_change_pct) == (1440, 2400)


def test_the_ticker_of_a_gap_is_the_standing_price() -> None:
    ticker = Market([minutes("A", 5.0, 6.0)]).ticker("A", 3 * DAY)
    assert (ticker.open, ticker.high, ticker.low, ticker.close) == (6, 6, 6, 6)
    assert (ticker.volume, ticker.price_change_pct) == (0, 0)


@pytest.mark.parametrize("limit", [0, -1, True, 1.5])
def test_a_limit_is_a_positive_whole_number(limit: int) -> None:
    with pytest.raises(InvalidParameter) as refusal:
        Market([minutes("A", 5.0)]).candles("A", DAY, limit=limit)
    assert refusal.value.details["field"] == "limit"


def test_finer_candles_that_begin_later_change_nothing_before() -> None:
    hours = flat("A", "1h", t0=10.0, t60=11.0, t120=12.0)
    alone, later = Market([hours]), Market([hours, flat("A", "1m", t30=20.0, t170=30.0)])
    for minute in (0, 1, 29):
        assert later.prices(minute * MINUTE) == alone.prices(minute * MINUTE) == {"A": 10}
    later = Market([hours, flat("A", "1m", t170=30.0)])
    for interval in (None, "1h", "4h"):
        assert later.candles("A", 2 * HOUR, interval) == alone.candles("A", 2 * HOUR, interval)
    for market in (alone, later):
        assert len(market.candles("A", 2 * HOUR)) == 2
        with pytest.raises(InvalidParameter, match="finer than the data"):
            market.candles("A", 2 * HOUR, "1m")
        assert market.candles("A", 0, "1m") == []
    assert [c.close for c in later.candles("A", 3 * HOUR, "1m")] == [30]
