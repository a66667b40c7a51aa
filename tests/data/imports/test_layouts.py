"""Every layout in which people have candles is imported as it is; what is not certain is refused.

Six hourly candles from 2 January 2024, 100 at the first open and one more each hour, are written
in each layout; what is read must be these candles.
"""

import gzip
import json
import zipfile
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from candlestep.data.errors import BadRows, InvalidSymbol, UnreadableFile
from candlestep.data.imports.importer import read_series
from candlestep.data.imports.reading import NO_OPTIONS, ImportOptions
from candlestep.data.imports.series import ReadSeries
from candlestep.sandbox.clock import MINUTE
from tests.support.project import SHARED

NOW = 1_795_867_200_000
"""2026-11-28, in milliseconds: the time at which files are read."""


class Candle(NamedTuple):
    time: datetime
    open: float
    high: float
    low: float
    close: float
    volume: float


def candles(start: datetime, step: timedelta) -> list[Candle]:
    return [
        Candle(start + step * n, 100.0 + n, 101.0 + n, 99.0 + n, 100.5 + n, 5.0) for n in range(6)
    ]


HOURS = candles(datetime(2024, 1, 2, tzinfo=UTC), timedelta(hours=1))
DAYS = candles(datetime(2024, 1, 2, tzinfo=UTC), timedelta(days=1))
MINUTES = candles(datetime(2024, 1, 2, tzinfo=UTC), timedelta(minutes=1))


def lines(header: str, candles: list[Candle], row: Callable[[Candle], str]) -> str:
    return header + "".join(row(candle) + "\n" for candle in candles)


def prices(candle: Candle, mark: str = ",") -> str:
    return mark.join(f"{value:.1f}" for value in candle[1:5])


def seconds(candle: Candle) -> int:
    return int(candle.time.timestamp())


class Layout(NamedTuple):
    name: str
    text: str
    candles: list[Candle] = HOURS
    symbol: str = "BTCUSDT"
    options: ImportOptions = NO_OPTIONS


LAYOUTS = {
    "pandas": Layout(
        "BTCUSDT.csv",
        lines(",open,high,low,close,volume\n", HOURS, lambda c: f"{c.time:%F %T},{prices(c)},5"),
    ),
    "CryptoDataDownload": Layout(
        "Bitstamp_BTCUSD_1h.csv",
        lines(
            "https://www.CryptoDataDownload.com\n"
            "Unix,Date,Symbol,Open,High,Low,Close,Volume BTC,Volume USD\n",
            HOURS[::-1],
            lambda c: f"{seconds(c)},{c.time:%F %T},BTC/USD,{prices(c)},5,{5 * c.close}",
        ),
        symbol="BTCUSD",
    ),
    "CryptoDataDownload of 2019": Layout(
        "Coinbase_BTCUSD_1h.csv",
        lines(
            "https://www.CryptoDataDownload.com\n"
            "Date,Symbol,Open,High,Low,Close,Volume BTC,Volume USD\n",
            HOURS[::-1],
            lambda c: f"{c.time:%Y-%m-%d %I-%p},BTCUSD,{prices(c)},5,{5 * c.close}",
        ),
        symbol="BTCUSD",
    ),
    "Kaggle": Layout(
        "bitstampUSD_1-min_data.csv",
        lines(
            "Timestamp,Open,High,Low,Close,Volume_(BTC),Volume_(Currency),Weighted_Price\n"
            f"{seconds(MINUTES[0]) - 60},NaN,NaN,NaN,NaN,NaN,NaN,NaN\n",
            MINUTES,
            lambda c: f"{seconds(c)},{prices(c)},5,{5 * c.close},{c.close}",
        ),
        MINUTES,
        "BTCUSD",
        ImportOptions(symbol="BTC/USD"),
    ),
    "yfinance": Layout(
        "yf.csv",
        lines(
            "Price,Close,High,Low,Open,Volume\nTicker" + ",BTC-USD" * 5 + "\nDate,,,,,\n",
            DAYS,
            lambda c: f"{c.time:%F},{c.close},{c.high},{c.low},{c.open},5",
        ),
        DAYS,
        "BTCUSD",
    ),
    "yfinance with an offset": Layout(
        "BTC-USD.csv",
        lines(
            "Datetime,Open,High,Low,Close,Volume\n",
            HOURS,
            lambda c: f"{c.time - timedelta(hours=5):%F %T}-05:00,{prices(c)},5",
        ),
        symbol="BTCUSD",
    ),
    "TradingView": Layout(
        "BINANCE_BTCUSDT, 60.csv",
        lines(
            "time,open,high,low,close,Volume,RSI\n",
            HOURS,
            lambda c: f"{seconds(c)},{prices(c)},5,50.2",
        ),
    ),
    "Dukascopy": Layout(
        "EURUSD_Candlestick_1_h_BID_13.01.2017-13.01.2017.csv",
        lines(
            "Gmt time,Open,High,Low,Close,Volume\n",
            candles(datetime(2017, 1, 13, tzinfo=UTC), timedelta(hours=1)),
            lambda c: f"{c.time:%d.%m.%Y %T}.000,{prices(c)},5",
        ),
        candles(datetime(2017, 1, 13, tzinfo=UTC), timedelta(hours=1)),
        "EURUSD",
    ),
    "MetaTrader 5": Layout(
        "EURUSD_H1.csv",
        lines(
            "<DATE>\t<TIME>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>\t<VOL>\t<SPREAD>\n",
            HOURS,
            lambda c: f"{c.time:%Y.%m.%d}\t{c.time:%T}\t{prices(c, chr(9))}\t5\t0\t3",
        ),
        symbol="EURUSD",
    ),
    "MetaTrader 4": Layout(
        "EURUSD60.csv",
        lines("", HOURS, lambda c: f"{c.time:%Y.%m.%d},{c.time:%H:%M},{prices(c)},5"),
        symbol="EURUSD",
    ),
    "HistData": Layout(
        "DAT_ASCII_EURUSD_M1_2024.csv",
        lines("", MINUTES, lambda c: f"{c.time:%Y%m%d %H%M%S};{prices(c, ';')};5"),
        MINUTES,
        "EURUSD",
    ),
    "date and time": Layout(
        "BTCUSDT.csv",
        lines(
            "Date,Time,Open,High,Low,Close,Volume\n",
            HOURS,
            lambda c: f"{c.time:%F},{c.time:%H:%M},{prices(c)},5",
        ),
    ),
    "month first": Layout(
        "BTCUSDT.csv",
        lines(
            "time,open,high,low,close,volume\n",
            HOURS,
            lambda c: f"{c.time:%m/%d/%Y %I:%M %p},{prices(c)},5",
        ),
        options=ImportOptions(time_format="%m/%d/%Y %I:%M %p"),
    ),
    "decimal comma": Layout(
        "BTCUSDT.csv",
        lines(
            "time;open;high;low;close;volume\n",
            HOURS,
            lambda c: f"{c.time:%F %T};{prices(c, ';').replace('.', ',')};5,0",
        ),
        options=ImportOptions(decimal=","),
    ),
    "thousands": Layout(
        "BTCUSDT.csv",
        lines(
            "time,open,high,low,close,volume\n",
            HOURS,
            lambda c: f'{c.time:%F %T},{prices(c)},"5,000.0"',
        ),
        [candle._replace(volume=5000.0) for candle in HOURS],
    ),
    "YYYYMMDD": Layout(
        "BTCUSDT.csv",
        lines(
            "date,open,high,low,close,volume\n", DAYS, lambda c: f"{c.time:%Y%m%d},{prices(c)},5"
        ),
        DAYS,
    ),
    "YYYYMMDDHHMM": Layout(
        "BTCUSDT.csv",
        lines("t,o,h,l,c,v\n", HOURS, lambda c: f"{c.time:%Y%m%d%H%M},{prices(c)},5"),
    ),
    "nanoseconds": Layout(
        "BTCUSDT.csv",
        lines("ts,o,h,l,c,v\n", HOURS, lambda c: f"{seconds(c)}000000000,{prices(c)},5"),
    ),
    "comments and a footer": Layout(
        "BTCUSDT.csv",
        lines(
            "# made by a program\ntime,open,high,low,close,volume\n",
            HOURS,
            lambda c: f"{c.time:%FT%TZ},{prices(c)},5",
        )
        + "Total: 6 rows\n",
    ),
    "times of a day": Layout(
        "BTCUSDT.csv",
        lines(
            "time,open,high,low,close,volume\n", HOURS, lambda c: f"{c.time:%H:%M},{prices(c)},5"
        ),
        options=ImportOptions(day=date(2024, 1, 2)),
    ),
}


def read(path: Path, options: ImportOptions = NO_OPTIONS) -> list[ReadSeries]:
    return read_series(path, options, time=NOW)


def written(tmp_path: Path, name: str, text: str) -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def assert_read(series: ReadSeries, expected: list[Candle], symbol: str = "BTCUSDT") -> None:
    assert series.instrument.symbol == symbol
    assert series.interval == (expected[1].time - expected[0].time) // timedelta(milliseconds=1)
    rows = zip(series.candles.open_time, *series.candles.numbers(), strict=True)
    assert [tuple(row) for row in rows] == [
        (candle.time.timestamp() * 1000, *candle[1:]) for candle in expected
    ]


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_a_layout_is_read_as_the_candles_that_it_holds(tmp_path: Path, layout: Layout) -> None:
    (series,) = read(written(tmp_path, layout.name, layout.text), layout.options)
    assert_read(series, layout.candles, layout.symbol)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_the_future_of_a_file_does_not_change_its_past(tmp_path: Path, layout: Layout) -> None:
    """Without its last candles, those before them are read as they were."""
    (series,) = read(written(tmp_path, layout.name, layout.text), layout.options)
    text = layout.text.replace("Total: 6 rows\n", "")
    is_reversed = layout.candles[0] is not HOURS[0] or "CryptoDataDownload" not in text
    cut = text.splitlines(keepends=True)
    shorter = cut[:-1] if is_reversed or "Crypto" not in text else [*cut[:2], *cut[3:]]
    options = ImportOptions(
        layout.options.symbol, series.interval // 1000, False, *_reading(layout.options)
    )
    (earlier,) = read(written(tmp_path, f"cut_{layout.name}", "".join(shorter)), options)
    assert_read(earlier, layout.candles[:-1], layout.symbol)


def _reading(options: ImportOptions) -> tuple[Any, ...]:
    return options.time_format, options.day, options.decimal


def test_json_lists_of_objects(tmp_path: Path) -> None:
    records = [
        {"t": candle.time.isoformat(), "o": candle.open, "h": candle.high, "l": candle.low,
         "c": candle.close, "v": 5, "vw": candle.close}
        for candle in HOURS
    ]  # fmt: skip
    alpaca = written(tmp_path, "bars.json", json.dumps({"bars": records, "symbol": "BTC/USDT"}))
    (series,) = read(alpaca)
    assert_read(series, HOURS)
    (series,) = read(written(tmp_path, "BTCUSDT.json", json.dumps(records)))
    assert_read(series, HOURS)


def test_json_rows_of_ccxt_and_freqtrade(tmp_path: Path) -> None:
    path = tmp_path / "BTC_USDT-1h.json.gz"
    rows = [[seconds(candle) * 1000, *candle[1:]] for candle in HOURS]
    path.write_bytes(gzip.compress(json.dumps(rows).encode()))
    (series,) = read(path)
    assert_read(series, HOURS)


def test_an_archive_with_several_files(tmp_path: Path) -> None:
    path = tmp_path / "candles.zip"
    layout = LAYOUTS["pandas"]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("__MACOSX/._BTCUSDT.csv", "junk")
        archive.writestr("BTCUSDT.csv", layout.text)
        archive.writestr("ETHUSDT.csv", layout.text)
    series = read(path)
    assert [one.instrument.symbol for one in series] == ["BTCUSDT", "ETHUSDT"]


def test_rows_that_share_a_delay_are_known_later_never_earlier(tmp_path: Path) -> None:
    text = lines(
        "open_time,open,high,low,close,volume\n",
        MINUTES,
        lambda c: f"{seconds(c) * 1000 + 14_789},{prices(c)},5",
    )
    (series,) = read(written(tmp_path, "BTCUSDT-1m.csv", text))
    moved = [candle._replace(time=candle.time + timedelta(minutes=1)) for candle in MINUTES]
    assert_read(series, moved)
    assert "14.789 seconds late" in series.taken.notes[0]


def test_the_summary_says_what_was_taken_for_what(tmp_path: Path) -> None:
    layout = LAYOUTS["CryptoDataDownload"]
    (series,) = read(written(tmp_path, layout.name, layout.text))
    taken = series.taken
    assert taken.times == "Unix: seconds"
    assert taken.prices == "Open, High, Low, Close"
    assert taken.volume == "volume_btc (volume_usd is volume_btc x price)"
    assert taken.symbol == "BTCUSD (BTC quoted in USD)"
    assert taken.interval == "1h"
    assert taken.notes == ("left out line 1 ('https://www.CryptoDataDownload.com')",)


# Wrong files, which are never believed.


def hourly(name: str, tmp_path: Path, header: str = "time,open,high,low,close,volume\n") -> Path:
    return written(tmp_path, name, lines(header, HOURS, lambda c: f"{c.time:%FT%TZ},{prices(c)},5"))


@pytest.mark.parametrize(
    ("interval", "apart"),
    [("1m", "1 minute"), ("5m", "5 minutes"), ("15m", "15 minutes"), ("4h", "4 hours"),
     ("1d", "1 day")],
)  # fmt: skip
def test_a_declared_interval_is_held_against_the_rows(
    tmp_path: Path, interval: str, apart: str
) -> None:
    with pytest.raises(UnreadableFile) as refused:
        read(hourly("BTCUSDT.csv", tmp_path), ImportOptions(interval=interval))
    message = refused.value.message
    assert f"no two are {apart} apart" in message or "is not the open time" in message


@pytest.mark.parametrize("step", [7, 30, 45, 90, 10_080])
def test_any_spacing_contradicts_an_interval_that_no_two_rows_have(
    tmp_path: Path, step: int
) -> None:
    rows = candles(datetime(2024, 1, 1, tzinfo=UTC), timedelta(minutes=step))
    text = lines(
        "time,open,high,low,close,volume\n", rows, lambda c: f"{c.time:%FT%TZ},{prices(c)},5"
    )
    for interval in ("1m", "5m"):
        with pytest.raises(UnreadableFile, match=r"apart; no two are|is not the open time"):
            read(written(tmp_path, "BTCUSDT.csv", text), ImportOptions(interval=interval))


@pytest.mark.parametrize(
    "name",
    [
        "BTCUSDT_PERP-1h.csv", "BTCUSDT-PERP.csv", "BTC_USDT_USDT-1h-futures.csv",
        "BTCUSDT_250328-1h.csv", "BTCUSDT-SWAP.csv", "BTCUSDT.P, 60.csv",
        "BTCUSDT-1h-markPriceKlines.csv", "BTCUSDT_mark_1h.csv", "BTCUSDT-fundingRate.csv",
    ],
)  # fmt: skip
def test_a_name_that_speaks_of_another_instrument_is_refused(tmp_path: Path, name: str) -> None:
    for options in (NO_OPTIONS, ImportOptions(symbol="BTCUSDT")):
        with pytest.raises(UnreadableFile, match="only candles of spot pairs"):
            read(hourly(name, tmp_path), options)


@pytest.mark.parametrize("symbol", ["BTC/USDT:USDT", "BTCUSDT-PERP", "BTCUSDT_250328"])
def test_no_option_makes_a_contract_a_pair(tmp_path: Path, symbol: str) -> None:
    with pytest.raises(UnreadableFile, match="only candles of spot pairs"):
        read(hourly("candles.csv", tmp_path), ImportOptions(symbol=symbol))


def test_funding_rates_are_refused_by_name(tmp_path: Path) -> None:
    text = "calc_time,funding_interval_hours,last_funding_rate\n1637193600017,8,0.0001\n"
    with pytest.raises(UnreadableFile, match="funding rates"):
        read(written(tmp_path, "BTCUSDT.csv", text))


def with_symbols(tmp_path: Path, name: str, symbols: list[str]) -> Path:
    rows = [
        f"{candle.time:%FT%TZ},{symbol},{prices(candle)},5\n"
        for candle, symbol in zip(HOURS, symbols, strict=True)
    ]
    return written(tmp_path, name, "time,symbol,open,high,low,close,volume\n" + "".join(rows))


def test_a_column_of_symbols_contradicts_the_name_or_the_option(tmp_path: Path) -> None:
    path = with_symbols(tmp_path, "BTCUSDT.csv", ["ETHUSDT"] * 6)
    with pytest.raises(UnreadableFile, match="its name says BTCUSDT, but its rows say ETHUSDT"):
        read(path)
    other = with_symbols(tmp_path, "candles.csv", ["ETHUSDT"] * 6)
    with pytest.raises(UnreadableFile, match="--symbol says BTCUSDT, but its rows say ETHUSDT"):
        read(other, ImportOptions(symbol="BTC/USDT"))
    (series,) = read(other)
    assert_read(series, HOURS, "ETHUSDT")


def test_the_long_format_has_a_series_for_each_symbol(tmp_path: Path) -> None:
    path = with_symbols(tmp_path, "candles.csv", ["BTCUSDT"] * 3 + ["ETHUSDT"] * 3)
    first, second = read(path)
    assert_read(first, HOURS[:3], "BTCUSDT")
    assert_read(second, HOURS[3:], "ETHUSDT")
    with pytest.raises(UnreadableFile, match=r"several symbols \(BTCUSDT, ETHUSDT\)"):
        read(path, ImportOptions(symbol="BTCUSDT"))


def test_of_two_volumes_the_one_of_the_base_currency_is_taken(tmp_path: Path) -> None:
    header = "date,open,high,low,close,volume_btc,volume\n"
    text = lines(header, DAYS, lambda c: f"{c.time:%F},{prices(c)},5,{5 * c.close}")
    (series,) = read(written(tmp_path, "BTCUSD.csv", text))
    assert series.candles.volume.tolist() == [5.0] * 6
    swapped = header + "".join(
        f"{candle.time:%F},{prices(candle)},"
        + (f"{5 * candle.close},5\n" if place < 2 else f"5,{5 * candle.close}\n")
        for place, candle in enumerate(DAYS)
    )
    (series,) = read(written(tmp_path, "BTCUSD.csv", swapped))
    assert "in 2 rows the columns of volume seem to be the other way round" in series.taken.notes


def test_a_candle_that_is_not_over_is_left_out(tmp_path: Path) -> None:
    rows = candles(
        datetime(2026, 11, 27, 18, 30, tzinfo=UTC) - timedelta(minutes=30), timedelta(hours=1)
    )
    text = lines(
        "time,open,high,low,close,volume\n", rows, lambda c: f"{c.time:%FT%TZ},{prices(c)},5"
    )
    path = written(tmp_path, "BTCUSDT.csv", text)
    now = int(rows[-1].time.timestamp() * 1000) + 59 * MINUTE
    (series,) = read_series(path, NO_OPTIONS, time=now)
    assert_read(series, rows[:-1])
    assert series.taken.notes == (
        f"left out the candle from {rows[-1].time:%FT%TZ} on, which are not over",
    )
    (series,) = read_series(path, NO_OPTIONS, time=now + MINUTE)
    assert_read(series, rows)


@pytest.mark.parametrize(
    "time", ["0", "60000", "631151999", "9999-12-31T23:59:00", "1969-12-31", "2026-11-30T00:00Z"]
)
def test_times_before_1990_and_after_tomorrow_are_refused(tmp_path: Path, time: str) -> None:
    text = f"time,open,high,low,close,volume\n{time},1,1,1,1,1\n"
    with pytest.raises(BadRows, match=r"is not between 1990 and tomorrow.*--date"):
        read(written(tmp_path, "BTCUSDT-1m.csv", text))


def test_milliseconds_of_a_day_need_the_day(tmp_path: Path) -> None:
    text = "".join(f"{n * MINUTE},{prices(candle)},5\n" for n, candle in enumerate(MINUTES))
    path = written(tmp_path, "20180404_btcusd.csv", text)
    with pytest.raises(BadRows, match="--date"):
        read(path)
    (series,) = read(path, ImportOptions(day=date(2018, 4, 4)))
    assert_read(series, candles(datetime(2018, 4, 4, tzinfo=UTC), timedelta(minutes=1)), "BTCUSD")


def test_dates_that_have_two_readings_are_refused_with_both(tmp_path: Path) -> None:
    text = "Gmt time,Open,High,Low,Close,Volume\n" + "".join(
        f"06.01.2025 {hour:02}:00:00.000,1,1,1,1,5\n" for hour in range(12)
    )
    path = written(tmp_path, "EURUSD.csv", text)
    with pytest.raises(UnreadableFile) as refused:
        read(path)
    assert "2025-01-06 with the day first, and 2025-06-01 with the month first" in (
        refused.value.message
    )
    assert "--time-format '%d.%m.%Y %H:%M:%S.%f'" in refused.value.message
    (series,) = read(path, ImportOptions(time_format="%d.%m.%Y %H:%M:%S.%f"))
    assert series.candles.open_time[0] == datetime(2025, 1, 6, tzinfo=UTC).timestamp() * 1000


def test_numbers_that_have_two_readings_are_refused_with_both(tmp_path: Path) -> None:
    text = lines(
        "time;open;high;low;close;volume\n",
        HOURS,
        lambda c: f"{c.time:%F %T};{prices(c, ';')};1,250",
    )
    path = written(tmp_path, "BTCUSDT.csv", text)
    with pytest.raises(BadRows, match=r"1\.250 with a decimal comma, or 1250 with a separator"):
        read(path)
    assert read(path, ImportOptions(decimal="."))[0].candles.volume[0] == 1250


def test_a_number_longer_than_its_double_is_named(tmp_path: Path) -> None:
    text = lines(
        "time,open,high,low,close,volume\n",
        HOURS,
        lambda c: f"{c.time:%FT%TZ},{c.open}00000000000000001,{c.high},{c.low},{c.close},5",
    )
    (series,) = read(written(tmp_path, "BTCUSDT.csv", text))
    assert series.taken.notes[0].startswith(
        "6 numbers have more digits than are kept: line 2: open"
    )


def test_a_file_that_does_not_tell_its_symbol_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidSymbol, match="--symbol"):
        read(hourly("candles.csv", tmp_path))


def test_a_line_without_end_and_a_small_file_that_unpacks_to_much_are_refused(
    tmp_path: Path,
) -> None:
    endless = written(tmp_path, "BTCUSDT-1m.csv", "time,open,high,low,close\n" + "1" * (2 << 20))
    with pytest.raises(UnreadableFile, match="line 2 is longer than 1 MiB"):
        read(endless)
    bomb = tmp_path / "BTCUSDT-1h.csv.gz"
    bomb.write_bytes(gzip.compress(b"time,open,high,low,close\n" + (b"#" * 1_000_000 + b"\n") * 70))
    with pytest.raises(UnreadableFile, match="unpacks to more than 64 MiB"):
        read(bomb)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the small inputs that went wrong are not here")
def test_the_inputs_that_went_wrong_once() -> None:
    cases = SHARED / "cases"
    for name, options, message in (
        ("rows-30-minutes-apart_BTCUSDT.csv", ImportOptions(interval="1m"),
         "rows are 30 minutes apart; no two are 1 minute apart"),
        ("symbol-column-contradicts_BTCUSDT.csv", NO_OPTIONS, "BTCUSDT, but its rows say ETHUSDT"),
        ("milliseconds-of-day_20180404_btcusd.csv", ImportOptions(interval="1m"), "--date"),
        ("day-first-times_EURUSD.csv", NO_OPTIONS, "--time-format"),
        ("year-9999_BTCUSDT-1m.csv", NO_OPTIONS, "not between 1990 and tomorrow"),
    ):  # fmt: skip
        with pytest.raises(UnreadableFile, match=message):
            read(cases / name, options)
    (two_volumes,) = read(cases / "two-volume-columns_BTCUSD.csv")
    assert two_volumes.candles.volume.tolist() == [5000.0, 10_000.0]
    assert [one.instrument.symbol for one in read(cases / "symbol-column-mixed.csv")] == [
        "BTCUSDT",
        "ETHUSDT",
    ]


@pytest.mark.parametrize("name", ["PERPUSDT-1h.csv", "PERP_USDT-1h.csv", "PERP-USDT.csv"])
def test_a_coin_that_is_called_perp_is_a_pair(tmp_path: Path, name: str) -> None:
    (series,) = read(hourly(name, tmp_path))
    assert_read(series, HOURS, "PERPUSDT")


@pytest.mark.parametrize("name", ["my_BTC_ETH.csv", "BTCUSDT_ETHUSDT.csv", "bitstampUSD.csv"])
def test_a_name_in_which_two_symbols_are_as_likely_tells_none(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidSymbol, match="--symbol"):
        read(hourly(name, tmp_path))


def test_a_last_row_whose_time_is_broken_is_not_a_footer(tmp_path: Path) -> None:
    path = hourly("BTCUSDT.csv", tmp_path)
    path.write_text(path.read_text() + "yesterday,1,1,1,1,1\n")
    with pytest.raises(BadRows, match="line 8: time 'yesterday'"):
        read(path)
