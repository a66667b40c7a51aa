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


def test_candles_that_straddle_midnight_make_no_days() -> None:
    hours = [30 + 60 * hour for hour in range(30)]
    market = Market([flat("A", "1h", **{f"t{minute}": 1.0 + minute for minute in hours})])
    assert [c.open_time // MINUTE for c in market.candles("A", DAY, "1h", 2)] == [1290, 1350]
    assert market.candles("A", DAY - HOUR, "1d") == []
    for interval in ("2h", "12h", "1d"):
        with pytest.raises(InvalidParameter, match=r"1h candles of A.*use 1h") as refusal:
            market.candles("A", DAY, interval)
        assert refusal.value.details["field"] == "interval"
    assert len(market.candles("A", DAY + HOUR)) == 24


def test_candles_of_regular_hours_make_days_but_no_parts_that_they_straddle() -> None:
    """From 14:30 to 21:30 UTC on two days, with the candle of a day that opened at 16:00 before."""
    opens = [day * 1440 + 870 + 60 * hour for day in (2, 3) for hour in range(7)]
    hours = flat("A", "1h", **{f"t{minute}": float(minute) for minute in opens})
    market = Market([hours, flat("A", "1d", t960=5.0)])
    days = market.candles("A", 4 * DAY, "1d")
    assert [(c.open_time // MINUTE, c.open, c.close) for c in days] == [
        (960, 5, 5), (2880, 3750, 4110), (4320, 5190, 5550),
    ]  # fmt: skip
    assert [c.open for c in market.candles("A", 4 * DAY - 1, "1d")] == [5, 3750]
    halves = market.candles("A", 4 * DAY, "12h")
    assert [c.open_time // HOUR for c in halves] == [60, 84]
    with pytest.raises(InvalidParameter, match="1970-01-03T15:30:00Z"):
        market.candles("A", 4 * DAY, "4h")


def test_weeks_begin_on_monday() -> None:
    """1970-01-01 is a Thursday."""
    market = Market([flat("A", "1d", **{f"t{day * 1440}": 1.0 + day for day in range(20)})])
    assert market.candles("A", 4 * DAY - 1, "1w") == []
    weeks = market.candles("A", 20 * DAY, "1w")
    assert [(c.open_time // DAY, c.open, c.close, c.volume) for c in weeks] == [
        (-3, 1, 4, 10), (4, 5, 11, 56), (11, 12, 18, 105),
    ]  # fmt: skip
    assert weeks == market.candles("A", 20 * DAY, 604_800)
    assert market.candles("A", 20 * DAY, "1w", limit=1) == weeks[-1:]


def test_a_month_and_what_is_no_interval_are_refused() -> None:
    market = Market([minutes("A", 5.0)])
    for month in ("1M", "1mo", "month"):
        with pytest.raises(InvalidParameter, match="import the days"):
            market.candles("A", DAY, month)
    for other in ("2m", "10m", "1s", "3d", 120, 2_592_000):
        with pytest.raises(InvalidParameter, match=r"3m.*30m.*1w.*604800"):
            market.candles("A", DAY, other)


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
