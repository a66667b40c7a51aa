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

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from candlestep.data.errors import BadRows, UnreadableFile
from candlestep.data.imports.contents import read_series
from candlestep.data.imports.reading import NO_OPTIONS, ImportOptions
from candlestep.data.imports.series import ReadSeries
from candlestep.sandbox.clock import INTERVALS, MINUTE
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


Write = Callable[[list[Candle]], str]
"""Writes candles in a layout."""


def prices(candle: Candle, mark: str = ",") -> str:
    return mark.join(f"{value:.1f}" for value in candle[1:5])


def seconds(candle: Candle) -> int:
    return int(candle.time.timestamp())


def objects(candles: list[Candle]) -> list[dict[str, Any]]:
    return [
        {"t": f"{c.time:%FT%TZ}", "o": c.open, "h": c.high, "l": c.low, "c": c.close, "v": 5}
        for c in candles
    ]


class Layout(NamedTuple):
    name: str
    write: Write
    candles: list[Candle] = HOURS
    symbol: str = "BTCUSDT"
    options: ImportOptions = NO_OPTIONS

    @property
    def text(self) -> str:
        return self.write(self.candles)


def lines(
    header: str, row: Callable[[Candle], str], newest_first: bool = False, after: str = ""
) -> Write:
    def write(candles: list[Candle]) -> str:
        in_order = candles[::-1] if newest_first else candles
        return header + "".join(row(candle) + "\n" for candle in in_order) + after

    return write


EASTERN = timedelta(hours=5)
"""The hours by which HistData's times, which are of UTC-5 all year, are behind UTC."""

LAYOUTS = {
    "pandas": Layout(
        "BTCUSDT.csv",
        lines(",open,high,low,close,volume\n", lambda c: f"{c.time:%F %T},{prices(c)},5"),
    ),
    "CryptoDataDownload": Layout(
        "Bitstamp_BTCUSD_1h.csv",
        lines(
            "https://www.CryptoDataDownload.com\n"
            "Unix,Date,Symbol,Open,High,Low,Close,Volume BTC,Volume USD\n",
            lambda c: f"{seconds(c)},{c.time:%F %T},BTC/USD,{prices(c)},5,{5 * c.close}",
            newest_first=True,
        ),
        symbol="BTCUSD",
    ),
    "CryptoDataDownload of 2019": Layout(
        "Coinbase_BTCUSD_1h.csv",
        lines(
            "https://www.CryptoDataDownload.com\n"
            "Date,Symbol,Open,High,Low,Close,Volume BTC,Volume USD\n",
            lambda c: f"{c.time:%Y-%m-%d %I-%p},BTCUSD,{prices(c)},5,{5 * c.close}",
            newest_first=True,
        ),
        symbol="BTCUSD",
    ),
    "Kaggle": Layout(
        "bitstampUSD_1-min_data.csv",
        lines(
            "Timestamp,Open,High,Low,Close,Volume_(BTC),Volume_(Currency),Weighted_Price\n"
            f"{seconds(MINUTES[0]) - 60},NaN,NaN,NaN,NaN,NaN,NaN,NaN\n",
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
            lambda c: f"{c.time:%F},{c.close},{c.high},{c.low},{c.open},5",
        ),
        DAYS,
        "BTCUSD",
    ),
    "yfinance with an offset": Layout(
        "BTC-USD.csv",
        lines(
            "Datetime,Open,High,Low,Close,Volume\n",
            lambda c: f"{c.time - timedelta(hours=5):%F %T}-05:00,{prices(c)},5",
        ),
        symbol="BTCUSD",
    ),
    "TradingView": Layout(
        "BINANCE_BTCUSDT, 60.csv",
        lines(
            "time,open,high,low,close,Volume,RSI\n",
            lambda c: f"{seconds(c)},{prices(c)},5,50.2",
        ),
    ),
    "Dukascopy": Layout(
        "EURUSD_Candlestick_1_h_BID_13.01.2017-13.01.2017.csv",
        lines(
            "Gmt time,Open,High,Low,Close,Volume\n",
            lambda c: f"{c.time:%d.%m.%Y %T}.000,{prices(c)},5",
        ),
        candles(datetime(2017, 1, 13, tzinfo=UTC), timedelta(hours=1)),
        "EURUSD",
    ),
    "MetaTrader 5": Layout(
        "EURUSD_H1.csv",
        lines(
            "<DATE>\t<TIME>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>\t<VOL>\t<SPREAD>\n",
            lambda c: f"{c.time:%Y.%m.%d}\t{c.time:%T}\t{prices(c, chr(9))}\t5\t0\t3",
        ),
        symbol="EURUSD",
    ),
    "MetaTrader 4": Layout(
        "EURUSD60.csv",
        lines("", lambda c: f"{c.time:%Y.%m.%d},{c.time:%H:%M},{prices(c)},5"),
        symbol="EURUSD",
    ),
    "HistData": Layout(
        "DAT_ASCII_EURUSD_M1_2024.csv",
        lines("", lambda c: f"{c.time - EASTERN:%Y%m%d %H%M%S};{prices(c, ';')};5"),
        MINUTES,
        "EURUSD",
    ),
    "date and time": Layout(
        "BTCUSDT.csv",
        lines(
            "Date,Time,Open,High,Low,Close,Volume\n",
            lambda c: f"{c.time:%F},{c.time:%H:%M},{prices(c)},5",
        ),
    ),
    "month first": Layout(
        "BTCUSDT.csv",
        lines(
            "time,open,high,low,close,volume\n",
            lambda c: f"{c.time:%m/%d/%Y %I:%M %p},{prices(c)},5",
        ),
        options=ImportOptions(time_format="%m/%d/%Y %I:%M %p"),
    ),
    "decimal comma": Layout(
        "BTCUSDT.csv",
        lines(
            "time;open;high;low;close;volume\n",
            lambda c: f"{c.time:%F %T};{prices(c, ';').replace('.', ',')};5,0",
        ),
        options=ImportOptions(decimal=","),
    ),
    "thousands": Layout(
        "BTCUSDT.csv",
        lines(
            "time,open,high,low,close,volume\n",
            lambda c: f'{c.time:%F %T},{prices(c)},"5,000.0"',
        ),
        [candle._replace(volume=5000.0) for candle in HOURS],
    ),
    "YYYYMMDD": Layout(
        "BTCUSDT.csv",
        lines("date,open,high,low,close,volume\n", lambda c: f"{c.time:%Y%m%d},{prices(c)},5"),
        DAYS,
    ),
    "YYYYMMDDHHMM": Layout(
        "BTCUSDT.csv",
        lines("t,o,h,l,c,v\n", lambda c: f"{c.time:%Y%m%d%H%M},{prices(c)},5"),
    ),
    "nanoseconds": Layout(
        "BTCUSDT.csv",
        lines("ts,o,h,l,c,v\n", lambda c: f"{seconds(c)}000000000,{prices(c)},5"),
    ),
    "comments and a footer": Layout(
        "BTCUSDT.csv",
        lines(
            "# made by a program\ntime,open,high,low,close,volume\n",
            lambda c: f"{c.time:%FT%TZ},{prices(c)},5",
            after="Total: 6 rows\n",
        ),
    ),
    "times of a day": Layout(
        "BTCUSDT.csv",
        lines("time,open,high,low,close,volume\n", lambda c: f"{c.time:%H:%M},{prices(c)},5"),
        options=ImportOptions(day=date(2024, 1, 2)),
    ),
    "long format": Layout(
        "candles.csv",
        lines(
            "timestamp,symbol,open,high,low,close,volume\n",
            lambda c: f"{c.time:%FT%TZ},BTC/USDT,{prices(c)},5",
        ),
    ),
    "kline archive": Layout(
        "BTCUSDT-1h-2024-01.csv",
        lines(
            "",
            lambda c: (
                f"{seconds(c)}000,{prices(c)},5,{seconds(c) + 3599}999,{5 * c.close},9,2,{c.close},0"
            ),
        ),
    ),
    "kline archive in microseconds": Layout(
        "BTCUSDT-1h-2025-01.csv",
        lines(
            "",
            lambda c: (
                f"{seconds(c)}000000,{prices(c)},5,{seconds(c) + 3599}999999,{5 * c.close},9,2,2,0"
            ),
        ),
    ),
    "ccxt and freqtrade": Layout(
        "BTC_USDT-1h.json", lambda cs: json.dumps([[seconds(c) * 1000, *c[1:]] for c in cs])
    ),
    "objects": Layout("BTCUSDT.json", lambda cs: json.dumps(objects(cs))),
    "Alpaca": Layout("bars.json", lambda cs: json.dumps({"bars": {"BTC/USDT": objects(cs)}})),
}

TAKEN = {
    "pandas": ("the unnamed index: text, UTC (no zone is named)", "volume (the only volume)"),
    "CryptoDataDownload": ("Unix: seconds", "volume_btc (volume_usd is volume_btc x price)"),
    "CryptoDataDownload of 2019": (
        "Date: text, UTC (no zone is named)", "volume_btc (volume_usd is volume_btc x price)"
    ),
    "Kaggle": ("Timestamp: seconds", "volume_(btc) (volume_(currency) is volume_(btc) x price)"),
    "yfinance": ("Date: text, UTC (no zone is named)", "volume (the only volume)"),
    "yfinance with an offset": ("Datetime: text, zone -05:00", "volume (the only volume)"),
    "TradingView": ("time: seconds", "volume (the only volume)"),
    "Dukascopy": (
        "Gmt time: text, day first, UTC (no zone is named)", "volume (the only volume)"
    ),
    "MetaTrader 5": (
        "<DATE> and <TIME>: text, the broker's zone, taken for UTC", "tickvol (tick volume)"
    ),
    "MetaTrader 4": (
        "date and time: text, the broker's zone, taken for UTC", "volume (the only volume)"
    ),
    "HistData": ("open_time: text, UTC-5, moved to UTC", "volume (the only volume)"),
    "date and time": ("Date and Time: text, UTC (no zone is named)", "volume (the only volume)"),
    "month first": ("time: format %m/%d/%Y %I:%M %p", "volume (the only volume)"),
    "decimal comma": ("time: text, UTC (no zone is named)", "volume (the only volume)"),
    "thousands": ("time: text, UTC (no zone is named)", "volume (the only volume)"),
    "YYYYMMDD": ("date: YYYYMMDD", "volume (the only volume)"),
    "YYYYMMDDHHMM": ("t: YYYYMMDDHHMM", "v (the only volume)"),
    "nanoseconds": ("ts: nanoseconds", "v (the only volume)"),
    "comments and a footer": ("time: text, zone Z", "volume (the only volume)"),
    "times of a day": ("time: times of 2024-01-02", "volume (the only volume)"),
    "long format": ("timestamp: text, zone Z", "volume (the only volume)"),
    "kline archive": (
        "open_time: milliseconds", "volume (quote_asset_volume is volume x price)"
    ),
    "kline archive in microseconds": (
        "open_time: microseconds", "volume (quote_asset_volume is volume x price)"
    ),
    "ccxt and freqtrade": ("open_time: milliseconds", "volume (the only volume)"),
    "objects": ("t: text, zone Z", "v (the only volume)"),
    "Alpaca": ("t: text, zone Z", "v (the only volume)"),
}  # fmt: skip
"""What the summary of each layout says of times and volume."""

PLAIN = lines("time,open,high,low,close,volume\n", lambda c: f"{c.time:%FT%TZ},{prices(c)},5")


def frame(candles: list[Candle]) -> pd.DataFrame:
    """Return candles with an index that has no name."""
    columns = {name: [getattr(c, name) for c in candles] for name in Candle._fields[1:]}
    return pd.DataFrame(columns, index=pd.DatetimeIndex([c.time for c in candles]))


def write_arrow(path: Path, candles: list[Candle]) -> None:
    import pyarrow as pa

    table = pa.Table.from_pandas(frame(candles))
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)


TABLES: dict[str, Callable[[Path, list[Candle]], None]] = {
    "BTCUSDT.parquet": lambda path, candles: frame(candles).to_parquet(path),
    "BTC_USDT-1h.feather": lambda path, candles: (
        frame(candles).rename_axis("date").reset_index().to_feather(path)
    ),
    "BTCUSDT.arrow": write_arrow,
}
"""Tables as pandas, freqtrade and Arrow write them."""


def read(path: Path, options: ImportOptions = NO_OPTIONS) -> list[ReadSeries]:
    return read_series(path, options, time=NOW)


def written(tmp_path: Path, name: str, text: str) -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def assert_read(series: ReadSeries, expected: list[Candle], symbol: str = "BTCUSDT") -> None:
    assert series.pair.symbol == symbol
    assert series.interval == (expected[1].time - expected[0].time) // timedelta(milliseconds=1)
    rows = zip(series.candles.open_time, *series.candles.numbers(), strict=True)
    assert [tuple(row) for row in rows] == [
        (candle.time.timestamp() * 1000, *candle[1:]) for candle in expected
    ]


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_a_layout_is_read_as_the_candles_that_it_holds(tmp_path: Path, layout: Layout) -> None:
    (series,) = read(written(tmp_path, layout.name, layout.text), layout.options)
    assert_read(series, layout.candles, layout.symbol)


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_summary_of_a_layout_says_what_was_taken_for_what(tmp_path: Path, name: str) -> None:
    layout = LAYOUTS[name]
    (series,) = read(written(tmp_path, layout.name, layout.text), layout.options)
    assert (series.taken.times, series.taken.volume) == TAKEN[name]
    assert series.taken.symbol.startswith(f"{layout.symbol} (")
    assert len(series.taken.prices.split(", ")) == 4


FIRST = datetime(2024, 1, 15, tzinfo=UTC)
"""A Monday, whose number is no month."""
DATES_ONLY = ("yfinance", "YYYYMMDD")
HOURS_ONLY = ("CryptoDataDownload of 2019",)


@st.composite
def futures(draw: st.DrawFn) -> tuple[Layout, str, list[Candle], list[Candle]]:
    """A layout and an interval, candles, and others that are the same up to some time."""
    name = draw(st.sampled_from(sorted(LAYOUTS)))
    least = timedelta(days=1) if name in DATES_ONLY else timedelta(minutes=1)
    least = timedelta(hours=1) if name in HOURS_ONLY else least
    most = timedelta(hours=1) if name == "times of a day" else timedelta(weeks=1)
    lengths = {key: timedelta(milliseconds=length) for key, length in INTERVALS.items()}
    interval = draw(st.sampled_from([k for k in lengths if least <= lengths[k] <= most]))
    truth = [
        candle._replace(time=FIRST + lengths[interval] * n)
        for n, candle in enumerate((HOURS * 3)[: draw(st.integers(3, 18))])
    ]
    known = draw(st.integers(2, len(truth) - 1))
    future = [
        candle._replace(**{p: getattr(candle, p) * factor for p in Candle._fields[1:5]})
        for candle in truth[known:]
        if (factor := draw(st.integers(0, 99)))
    ]
    return LAYOUTS[name], interval, truth, truth[:known] + future


@settings(max_examples=60, deadline=None)
@given(futures())
def test_the_future_of_a_file_does_not_change_its_past(
    tmp_path_factory: pytest.TempPathFactory,
    generated: tuple[Layout, str, list[Candle], list[Candle]],
) -> None:
    """Whatever rows after a time say, and whether they are there, candles up to it stay.

    What is told from all rows of a file are the order of day and month, the interval, a delay that
    all rows share, and which of several columns is the volume; never a number of a candle.
    """
    layout, interval, truth, changed = generated
    directory = tmp_path_factory.getbasetemp()
    known = next(
        (n for n, (one, other) in enumerate(zip(truth, changed, strict=False)) if one != other),
        min(len(truth), len(changed)),
    )
    options = structs.replace(layout.options, interval=interval)
    if options.day is not None:
        options = structs.replace(options, day=FIRST.date())
    for candles in (truth, changed):
        name = layout.name.replace("1h", interval)
        (series,) = read(written(directory, name, layout.write(candles)), options)
        rows = zip(series.candles.open_time, *series.candles.numbers(), strict=True)
        volume = 5000.0 if layout is LAYOUTS["thousands"] else 5.0
        assert [tuple(row) for row in rows][:known] == [
            (candle.time.timestamp() * 1000, *candle[1:5], volume) for candle in truth[:known]
        ]


@pytest.mark.parametrize("packed", ["", ".gz", ".zip"])
@pytest.mark.parametrize("name", TABLES)
def test_tables_are_read_packed_or_not(tmp_path: Path, name: str, packed: str) -> None:
    pytest.importorskip("pyarrow")
    path = tmp_path / name
    TABLES[name](path, HOURS)
    target = tmp_path / f"{name}{packed}"
    if packed == ".gz":
        target.write_bytes(gzip.compress(path.read_bytes()))
    elif packed == ".zip":
        with zipfile.ZipFile(target, "w") as archive:
            archive.write(path, name)
    (series,) = read(target)
    assert_read(series, HOURS)
    index = "date" if "feather" in name else "__index_level_0__"
    assert series.taken.times == f"{index}: timestamps, with a zone"


@pytest.mark.parametrize("name", ["BTCUSDT.arrow", "BTCUSDT.parquet"])
def test_a_damaged_table_is_refused_in_words(tmp_path: Path, name: str) -> None:
    pytest.importorskip("pyarrow")
    path = tmp_path / name
    TABLES[name](path, HOURS)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(UnreadableFile, match=r"it is not a readable (Arrow|Parquet) file"):
        read(path)


def test_an_archive_with_two_months_of_a_series_has_both(tmp_path: Path) -> None:
    path = tmp_path / "BTCUSDT.zip"
    months = [candles(datetime(2024, month, 1, tzinfo=UTC), timedelta(hours=1)) for month in (1, 2)]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data/.DS_Store", "junk")
        for month in (2, 1):
            archive.writestr(f"data/BTCUSDT-1h-2024-{month:02}.csv", PLAIN(months[month - 1]))
    first, second = read(path)
    assert_read(first, months[0])
    assert_read(second, months[1])


def test_an_archive_with_several_files(tmp_path: Path) -> None:
    path = tmp_path / "candles.zip"
    layout = LAYOUTS["pandas"]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("__MACOSX/._BTCUSDT.csv", "junk")
        archive.writestr("BTCUSDT.csv", layout.text)
        archive.writestr("ETHUSDT.csv", layout.text)
    series = read(path)
    assert [one.pair.symbol for one in series] == ["BTCUSDT", "ETHUSDT"]


def test_rows_that_share_a_delay_are_known_later_never_earlier(tmp_path: Path) -> None:
    write = lines(
        "open_time,open,high,low,close,volume\n",
        lambda c: f"{seconds(c) * 1000 + 14_789},{prices(c)},5",
    )
    text = write(MINUTES)
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
    write = lines(header, lambda c: f"{c.time:%FT%TZ},{prices(c)},5")
    return written(tmp_path, name, write(HOURS))


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
    text = PLAIN(rows)
    for interval in ("1m", "5m"):
        with pytest.raises(UnreadableFile, match=r"apart; no two are|is not the open time"):
            read(written(tmp_path, "BTCUSDT.csv", text), ImportOptions(interval=interval))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("BTCUSDT_250328-1h.csv", "a contract that expires (250328)"),
        ("BTCUSDT-1h-markPriceKlines.csv", "it has a volume, which mark prices do not have"),
        ("BTCUSDT_mark_1h.csv", "it has a volume, which mark prices do not have"),
        ("BTCUSDT-fundingRate.csv", "rate 100.0 is not between -1 and 1"),
    ],
)
def test_a_name_that_speaks_of_something_else_is_refused(
    tmp_path: Path, name: str, reason: str
) -> None:
    for options in (NO_OPTIONS, ImportOptions(symbol="BTCUSDT")):
        with pytest.raises(UnreadableFile) as refused:
            read(hourly(name, tmp_path), options)
        assert reason in refused.value.message


def test_no_option_makes_a_contract_a_pair(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match="a contract that expires"):
        read(hourly("candles.csv", tmp_path), ImportOptions(symbol="BTCUSDT_250328"))
    for symbol in ("BTC/USDT:USDT", "BTCUSDT-PERP"):
        (series,) = read(hourly("candles.csv", tmp_path), ImportOptions(symbol=symbol))
        assert series.pair.symbol == "BTCUSDT-PERP"


def test_funding_rates_are_no_candles(tmp_path: Path) -> None:
    text = "calc_time,funding_interval_hours,last_funding_rate\n1637193600017,8,0.0001\n"
    with pytest.raises(UnreadableFile, match="it has funding rates, and not candles"):
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
    text = lines(header, lambda c: f"{c.time:%F},{prices(c)},5,{5 * c.close}")(DAYS)
    (series,) = read(written(tmp_path, "BTCUSD.csv", text))
    assert series.candles.volume.tolist() == [5.0] * 6
    swapped = header + "".join(
        f"{candle.time:%F},{prices(candle)},"
        + (f"{5 * candle.close},5\n" if place < 2 else f"5,{5 * candle.close}\n")
        for place, candle in enumerate(DAYS)
    )
    (series,) = read(written(tmp_path, "BTCUSD.csv", swapped))
    assert series.taken.notes == (
        "in 2 rows the columns of volume seem to be the other way round, such as line 2",
    )


def test_a_candle_that_is_not_over_is_left_out(tmp_path: Path) -> None:
    rows = candles(
        datetime(2026, 11, 27, 18, 30, tzinfo=UTC) - timedelta(minutes=30), timedelta(hours=1)
    )
    text = PLAIN(rows)
    path = written(tmp_path, "BTCUSDT.csv", text)
    now = int(rows[-1].time.timestamp() * 1000) + 59 * MINUTE
    (series,) = read_series(path, NO_OPTIONS, time=now)
    assert_read(series, rows[:-1])
    assert series.taken.notes == (
        f"left out the candle of {rows[-1].time:%FT%TZ}, which is not over",
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


def test_a_bad_row_does_not_change_the_unit_of_the_times_of_a_day(tmp_path: Path) -> None:
    rows = [f"{n * MINUTE},{prices(candle)},5\n" for n, candle in enumerate(MINUTES)]
    rows[3] = rows[3].replace("103.0", "none at all")
    path = written(tmp_path, "20180404_btcusd.csv", "".join(rows))
    with pytest.raises(BadRows, match=r"1 bad row.*line 4: open 'none at all' is not a number"):
        read(path, ImportOptions(day=date(2018, 4, 4)))


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
    write = lines(
        "time;open;high;low;close;volume\n", lambda c: f"{c.time:%F %T};{prices(c, ';')};1,250"
    )
    path = written(tmp_path, "BTCUSDT.csv", write(HOURS))
    with pytest.raises(BadRows, match=r"1\.250 with a decimal comma, or 1250 with a separator"):
        read(path)
    assert read(path, ImportOptions(decimal="."))[0].candles.volume[0] == 1250


def test_a_number_longer_than_its_double_is_named(tmp_path: Path) -> None:
    write = lines(
        "time,open,high,low,close,volume\n",
        lambda c: f"{c.time:%FT%TZ},{c.open}00000000000000001,{c.high},{c.low},{c.close},5",
    )
    (series,) = read(written(tmp_path, "BTCUSDT.csv", write(HOURS)))
    assert series.taken.notes[0].startswith(
        "6 numbers have more digits than are kept: line 2: open"
    )


def test_a_file_that_does_not_tell_its_symbol_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match="--symbol"):
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
    assert [one.pair.symbol for one in read(cases / "symbol-column-mixed.csv")] == [
        "BTCUSDT",
        "ETHUSDT",
    ]


@pytest.mark.parametrize("name", ["PERPUSDT-1h.csv", "PERP_USDT-1h.csv", "PERP-USDT.csv"])
def test_a_coin_that_is_called_perp_is_a_pair(tmp_path: Path, name: str) -> None:
    (series,) = read(hourly(name, tmp_path))
    assert_read(series, HOURS, "PERPUSDT")


@pytest.mark.parametrize("name", ["my_BTC_ETH.csv", "BTCUSDT_ETHUSDT.csv", "bitstampUSD.csv"])
def test_a_name_in_which_two_symbols_are_as_likely_tells_none(tmp_path: Path, name: str) -> None:
    with pytest.raises(UnreadableFile, match="--symbol"):
        read(hourly(name, tmp_path))


def test_a_last_row_whose_time_is_broken_is_not_a_footer(tmp_path: Path) -> None:
    path = hourly("BTCUSDT.csv", tmp_path)
    path.write_text(path.read_text() + "yesterday,1,1,1,1,1\n")
    with pytest.raises(BadRows, match="line 8: time 'yesterday'"):
        read(path)
