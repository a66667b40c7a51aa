"""Data frames: the candles that people have in pandas, polars or Arrow, and what comes back."""

import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given

from candlestep.sandbox import (
    Candles,
    InvalidCandles,
    InvalidParameter,
    Market,
    Session,
    SessionConfig,
    closed_trades,
)
from candlestep.sandbox.clock import DAY, MINUTE
from tests.support.candles import flat, minutes
from tests.support.case_strategies import cases
from tests.support.project import ROOT
from tests.support.session_cases import Case, apply, start_session

START = 1_735_689_600_000
"""2025-01-01."""
LIBRARIES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "pandas": pd.DataFrame,
    "polars": pl.DataFrame,
    "arrow": pa.table,
}
PLAIN: dict[str, Any] = {
    "open_time": [START, START + MINUTE, START + 3 * MINUTE],
    "open": [10.0, 11.0, 12.0],
    "high": [11.0, 12.0, 13.0],
    "low": [9.0, 10.0, 11.0],
    "close": [10.5, 11.5, 12.5],
    "volume": [1.0, 2.0, 3.0],
}
EXPECTED = Candles(symbol="BTCUSDT", interval="1m", **PLAIN)
each_library = pytest.mark.parametrize("library", LIBRARIES)


def candles_of(frame: Any, symbol: str = "BTCUSDT", interval: str = "1m") -> Candles:
    return Candles.from_dataframe(frame, symbol=symbol, interval=interval)


def assert_same(found: Candles, expected: Candles = EXPECTED) -> None:
    assert found.arrays[:3] == expected.arrays[:3]
    for name, column in expected.arrays.columns.items():
        assert np.array_equal(getattr(found, name), column), name


@each_library
@pytest.mark.parametrize(
    "times",
    [
        PLAIN["open_time"],
        np.array(PLAIN["open_time"], "datetime64[ms]"),
        np.array(PLAIN["open_time"], "datetime64[ms]").astype("datetime64[ns]"),
        [datetime.fromtimestamp(time / 1000, UTC) for time in PLAIN["open_time"]],
        ["2025-01-01", "2025-01-01T00:01:00Z", "2025-01-01 01:03:00+01:00"],
    ],
    ids=["milliseconds", "datetime64[ms]", "datetime64[ns]", "with a zone", "text"],
)
def test_times_are_taken_in_every_form(library: str, times: Any) -> None:
    assert_same(candles_of(LIBRARIES[library](PLAIN | {"open_time": times})))


@each_library
@pytest.mark.parametrize(
    "names",
    [
        ("timestamp", "open", "high", "low", "close", "volume"),
        ("Date", "Open", "High", "Low", "Close", "Volume"),
        ("t", "o", "h", "l", "c", "v"),
        ("Open Time", "OPEN", "HIGH", "LOW", "CLOSE", "Base Volume"),
    ],
)
def test_columns_are_told_by_their_usual_names(library: str, names: tuple[str, ...]) -> None:
    frame = dict(zip(names, PLAIN.values(), strict=True)) | {
        "Close Time": [0, 0, 0],
        "Adj Close": [1.0, 1.0, 1.0],
        "quote_asset_volume": [7.0, 7.0, 7.0],
        "Trades": [1, 2, 3],
    }
    assert_same(candles_of(LIBRARIES[library](frame)))


def test_a_volume_that_names_the_base_currency_is_the_one_of_coins() -> None:
    of_quote = [volume * 10 for volume in PLAIN["volume"]]
    for name in ("volume_btc", "Volume BTC", "Volume_(BTC)"):
        frame = pd.DataFrame({**PLAIN, "volume": of_quote, name: PLAIN["volume"]})
        assert_same(candles_of(frame))


@pytest.mark.parametrize("zone", [None, "UTC", "America/New_York"])
def test_an_index_of_times_is_used(zone: str | None) -> None:
    index = pd.DatetimeIndex(np.array(PLAIN["open_time"], "datetime64[ms]"), tz="UTC")
    index = index.tz_localize(None) if zone is None else index.tz_convert(zone)
    frame = pd.DataFrame({**PLAIN, "open_time": [1, 2, 3]}).set_index(index)
    assert_same(candles_of(frame))
    assert_same(candles_of(pd.DataFrame(PLAIN).set_index("open_time")))


@each_library
def test_days_may_be_dates(library: str) -> None:
    frame = PLAIN | {"open_time": [date(2025, 1, 1), date(2025, 1, 2), date(2025, 1, 4)]}
    found = candles_of(LIBRARIES[library](frame), interval="1d")
    assert found.open_time.tolist() == [START, START + DAY, START + 3 * DAY]


@each_library
def test_numbers_of_other_types_are_what_they_show(library: str) -> None:
    frame = LIBRARIES[library](
        {
            "open_time": [START],
            "open": np.array([0.1], np.float32),
            "high": [Decimal("0.3")],
            "low": np.array([0.1], np.float32),
            "close": [0.2],
            "volume": [3],
        }
    )
    candle = candles_of(frame).candle(0)
    assert (candle.open, candle.high, candle.volume) == (Decimal("0.1"), Decimal("0.3"), 3)


def test_there_may_be_no_volume_but_not_one_of_an_unknown_kind() -> None:
    frame = pd.DataFrame(PLAIN).drop(columns="volume")
    assert candles_of(frame).volume.tolist() == [0, 0, 0]
    with pytest.raises(InvalidParameter, match=r"for volume; it has .*Volume USDT"):
        candles_of(frame.assign(**{"Volume USDT": 1.0}))


@each_library
@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        ({"close": [10.5, None, 12.5]}, "close", "row 1"),
        ({"volume": [None, 1.0, 1.0]}, "volume", "row 0"),
        ({"open_time": [START, None, START + MINUTE]}, "open_time", "row 1"),
        ({"open_time": ["2025-01-01", "yesterday", "2025-01-02"]}, "open_time", "row 1: 'yest"),
        ({"close": ["1", "1,250", "x"]}, "close", "numbers"),
        ({"low": [9.0, 11.2, 11.0]}, "low", "row 1"),
        ({"open_time": [START, START + 7 * DAY, START + 14 * DAY]}, "interval", "no two rows"),
        ({"symbol": ["BTCUSDT", "BTCUSDT", "ETHUSDT"]}, "frame", "2 symbols"),
        ({"symbol": ["ETHUSDT"] * 3}, "symbol", "says ETHUSDT"),
    ],
)
def test_what_is_not_certain_is_refused(
    library: str, change: dict[str, Any], field: str, words: str
) -> None:
    with pytest.raises(InvalidParameter, match=words) as refusal:
        candles_of(LIBRARIES[library](PLAIN | change))
    assert refusal.value.details["field"] == field


def test_a_column_of_the_same_symbol_is_no_obstacle() -> None:
    assert_same(candles_of(pd.DataFrame(PLAIN | {"pair": ["BTC/USDT"] * 3})))


@pytest.mark.parametrize(
    "frame",
    [
        None,
        [1, 2],
        PLAIN,
        pl.LazyFrame(PLAIN),
        pd.Series([1]),
        pd.DataFrame([[1, 2]], columns=["open", "open"]),
    ],
)
def test_what_is_no_frame_is_refused(frame: Any) -> None:
    with pytest.raises(InvalidParameter) as refusal:
        candles_of(frame)
    assert refusal.value.details == {"field": "frame"}


def test_missing_columns_are_named() -> None:
    with pytest.raises(InvalidParameter, match="no column for open_time, high; it has open, low"):
        candles_of(pd.DataFrame(PLAIN)[["open", "low", "close", "volume"]])


@given(cases())
def test_candles_survive_the_way_to_a_frame_and_back(case: Case) -> None:
    market = start_session(case).market
    for symbol in market.symbols:
        candles = market.candles_of(symbol)
        frame = candles.to_frame()
        assert str(frame.index.dtype) == "datetime64[ms, UTC]"
        if len(candles.intervals) == 1 and candles.first_open.time == candles.open_time[0]:
            length = candles.intervals[0]
            if len(candles) < 2 or np.diff(candles.open_time).min() == length:
                again = Candles.from_dataframe(frame, symbol=symbol, interval=length // 1000)
                assert_same(again, candles)


def test_candles_of_several_intervals_say_when_each_is_complete() -> None:
    merged = Candles.merge([flat("A", "1m", t60=1.0), flat("A", "1h", t0=7.0)])
    lengths = merged.to_frame()["complete_time"] - merged.to_frame().index
    assert lengths.tolist() == [pd.Timedelta("1h"), pd.Timedelta("1min")]


@given(cases())
def test_frames_of_a_session_have_its_numbers_in_real_units(case: Case) -> None:
    session = start_session(case)
    for command in case.commands:
        apply(session, command)
    for table in (session.fills, session.orders, closed_trades(session.fills)):
        frame = table.to_frame()
        assert len(frame) == len(table)
        for name in frame.columns:
            for shown, row in zip(frame[name], table, strict=True):
                value = getattr(row, name)
                if value is None:
                    assert pd.isna(shown)
                elif isinstance(value, Decimal):
                    assert shown == float(value)
                elif isinstance(shown, pd.Timestamp):
                    assert shown == pd.Timestamp(value, unit="ms", tz="UTC")
                else:
                    assert shown == value
    curve = session.equity_curve()
    frame = curve.to_frame()
    assert frame["total_equity"].tolist() == [float(row.total_equity) for row in curve]
    assert [int(time.timestamp() * 1000) for time in frame.index] == curve.time.tolist()


def test_columns_keep_their_types_without_rows() -> None:
    session = Session(SessionConfig(start_time=0, end_time=MINUTE), Market([minutes("A", 1.0)]))
    frame = session.fills.to_frame()
    assert {name: str(frame[name].dtype) for name in ("id", "price", "realized_pnl", "time")} == {
        "id": "int64",
        "price": "float64",
        "realized_pnl": "float64",
        "time": "datetime64[ms, UTC]",
    }
    assert "fill" not in session.orders.to_frame()
    assert "market_value" not in session.orders.to_frame()
    assert repr(session.equity_curve()) == (
        "EquityCurve(1 from 1970-01-01T00:00:00Z to 1970-01-01T00:00:00Z, total equity 10000.00"
        " to 10000.00)"
    )


def test_a_table_is_a_list() -> None:
    session = Session(SessionConfig(start_time=0, end_time=MINUTE), Market([minutes("A", 1.0)]))
    assert session.fills == []
    session.place_order(symbol="A", side="buy", type="market", quantity=1)
    assert session.fills[0] == session.fills[-1:][0]
    assert len(session.candles("A").to_frame()) == 0


@pytest.mark.parametrize(
    ("library", "expression"),
    [
        ("narwhals", "Candles.from_dataframe(None, symbol='A', interval='1m')"),
        ("pandas", "candles.to_frame()"),
    ],
)
def test_a_missing_library_is_named_with_the_command_that_installs_it(
    library: str, expression: str
) -> None:
    """Importing it fails as it does where it is not installed."""
    program = f"""
import sys
sys.modules[{library!r}] = None
from candlestep.sandbox import Candles
candles = Candles(symbol="A", interval="1m", open_time=[0], open=[1], high=[1], low=[1], close=[1])
try:
    {expression}
except ImportError as error:
    print(error)
"""
    shown = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert shown.stdout == f"data frames need {library}: pip install 'candlestep[frames]'\n"


def test_a_row_that_is_not_there_has_its_number() -> None:
    with pytest.raises(InvalidCandles) as refusal:
        candles_of(pd.DataFrame(PLAIN | {"high": [11.0, 12.0, np.nan]}))
    assert refusal.value.details == {"field": "high", "row": 2}
