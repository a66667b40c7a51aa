"""Wrong files are never believed: each is refused in words that name the remedy."""

import json
import zipfile
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import pandas as pd
import pytest

from candlestep.data.errors import UnreadableFile
from candlestep.data.imports.contents import read_contents, read_series
from candlestep.data.imports.reading import NO_OPTIONS, ImportOptions
from candlestep.data.imports.series import ReadSeries
from candlestep.sandbox.clock import HOUR, MINUTE
from tests.support.project import SHARED

NOW = 1_795_867_200_000
"""2026-11-28."""
START = 1_705_276_800_000
"""Monday 15 January 2024."""
HEADER = "timestamp,open,high,low,close,volume"


def read(path: Path, options: ImportOptions = NO_OPTIONS) -> list[ReadSeries]:
    return read_series(path, options, time=NOW)


def written(
    tmp_path: Path,
    rows: Sequence[str],
    header: str = HEADER,
    name: str = "BTCUSDT.csv",
) -> Path:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*([header] if header else []), *rows]) + "\n")
    return path


def rows(row: str = "{t},100,102,99,101,5", count: int = 5, step: int = HOUR) -> list[str]:
    """Return rows of text; ``{t}`` stands for the open time in milliseconds."""
    return [row.replace("{t}", str(START + n * step)) for n in range(count)]


def refusal(path: Path, options: ImportOptions = NO_OPTIONS) -> str:
    with pytest.raises(UnreadableFile) as refused:
        read(path, options)
    assert path.name in refused.value.message or refused.value.message.startswith("data.csv")
    return refused.value.message


# The interval.


def test_a_row_between_half_hours_does_not_make_them_minutes(tmp_path: Path) -> None:
    half_hours = rows(count=50, step=30 * MINUTE)
    between = f"{START + MINUTE},100,102,99,101,5"
    message = refusal(written(tmp_path, [*half_hours, between]), ImportOptions(interval="1m"))
    assert "48 of its 51 rows are 30 minutes after the one before" in message


def test_sparse_minutes_are_minutes(tmp_path: Path) -> None:
    minutes = [0, 1, 5, 6, 20, 21, 50, 80, 110, 140]
    texts = [f"{START + n * MINUTE},100,102,99,101,5" for n in minutes]
    (series,) = read(written(tmp_path, texts), ImportOptions(interval="1m"))
    assert len(series.candles) == 10


@pytest.mark.parametrize(
    ("delay", "interval", "moved"), [(29_999, MINUTE, 60_000), (45_000, 5 * MINUTE, 300_000)]
)
def test_a_shared_delay_below_half_an_interval_moves_to_the_next(
    tmp_path: Path, delay: int, interval: int, moved: int
) -> None:
    late = [f"{START + delay + n * interval},100,102,99,101,5" for n in range(5)]
    (series,) = read(written(tmp_path, late))
    assert series.candles.open_time[0] == START + moved


@pytest.mark.parametrize("delay", [30_000, 45_000, 59_999])
def test_a_longer_delay_is_refused(tmp_path: Path, delay: int) -> None:
    late = [f"{START + delay + n * MINUTE},100,102,99,101,5" for n in range(5)]
    assert "is not the open time of a candle of 1m" in refusal(written(tmp_path, late))


def test_the_only_row_of_a_symbol_has_the_interval_of_the_others(tmp_path: Path) -> None:
    texts = [*rows("{t},BTCUSDT,1,1,1,1,1", 3, 2 * HOUR), f"{START + HOUR},ETHUSDT,1,1,1,1,1"]
    header = HEADER.replace(",", ",symbol,", 1)
    _, of_one_row = read(written(tmp_path, texts, header, "long.csv"))
    assert of_one_row.interval == 2 * HOUR
    texts += rows("{t},XRPUSDT,1,1,1,1,1", 3, HOUR)
    message = refusal(written(tmp_path, texts, header, "long.csv"))
    assert "the others are of several intervals (1h, 2h)" in message


def test_a_file_of_which_no_candle_is_over_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, ["2026-11-25,1,1,1,1,1"])
    message = refusal(path, ImportOptions(interval="1w"))
    assert "none of its candles of 1w is over: the first opens at 2026-11-25" in message


# The instrument.


@pytest.mark.parametrize(
    "name",
    [
        "BTC-28MAR25-1h.csv", "BTCUSDT250328-1h.csv", "BTCUSDT-premiumIndex-1h.csv",
        "CME_BTC1!, 60.csv", "premiumIndexKlines/BTCUSDT-1h.csv",
        "futures/cm/daily/klines/BTCUSD_PERP/1m/BTCUSD_PERP-1m-2024-01-15.csv",
    ],
)  # fmt: skip
def test_a_name_or_a_folder_that_speaks_of_another_instrument(tmp_path: Path, name: str) -> None:
    for options in (NO_OPTIONS, ImportOptions(symbol="BTCUSDT")):
        assert "only spot pairs, and perpetuals that are" in refusal(
            written(tmp_path, rows(), name=name), options
        )


@pytest.mark.parametrize(
    ("archive", "member"),
    [
        ("BTCUSD_PERP-1h.zip", "data.csv"),
        ("a.zip", "futures/cm/data.csv"),
        ("BTCUSDT_250328.zip", "data.csv"),
    ],
)
def test_an_archive_that_speaks_of_another_instrument(
    tmp_path: Path, archive: str, member: str
) -> None:
    with zipfile.ZipFile(tmp_path / archive, "w") as file:
        file.writestr(member, "\n".join([HEADER, *rows()]))
    message = refusal(tmp_path / archive, ImportOptions(symbol="BTCUSDT"))
    assert "the archive or the folder that it is in says that it has" in message


@pytest.mark.parametrize(
    ("archive", "member"),
    [("BTCUSDT-PERP-1h.zip", "data.csv"), ("a.zip", "futures/um/data.csv")],
)
def test_an_archive_that_speaks_of_a_perpetual(tmp_path: Path, archive: str, member: str) -> None:
    with zipfile.ZipFile(tmp_path / archive, "w") as file:
        file.writestr(member, "\n".join([HEADER, *rows()]))
    (series,) = read(tmp_path / archive, ImportOptions(symbol="BTCUSDT"))
    assert series.pair.symbol == "BTCUSDT-PERP"


def test_a_folder_of_ones_own_says_nothing(tmp_path: Path) -> None:
    (series,) = read(written(tmp_path, rows(), name="futures/spot/BTCUSDT-1h.csv"))
    assert series.pair.symbol == "BTCUSDT"


def test_files_of_an_archive_do_not_contradict_each_other(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    first, second = rows(count=5), rows(count=8)[3:]
    for price, count in (("101", 2), ("101.5", 0)):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("BTCUSDT-1h-a.csv", "\n".join([HEADER, *first]))
            other = [second[0], second[1].replace(",101,", f",{price},"), *second[2:]]
            archive.writestr("BTCUSDT-1h-b.csv", "\n".join([HEADER, *other]))
        if count:
            assert len(read(path)) == count
        else:
            assert "several of its files have candles of BTCUSDT 1h at the same time" in refusal(
                path
            )


def test_the_header_of_the_futures_of_the_archive(tmp_path: Path) -> None:
    header = (
        "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,"
        "taker_buy_quote_volume,ignore"
    )
    texts = rows("{t},100,102,99,101,5,{t},500,9,2,200,0", step=MINUTE)
    (series,) = read(written(tmp_path, texts, header, "BTCUSDT-1m.csv"))
    assert series.pair.symbol == "BTCUSDT-PERP"


def test_mark_prices_of_the_archive_have_trades_without_a_volume(tmp_path: Path) -> None:
    marks = rows("{t},100,102,99,101,0,{t},0,60,0,0,0", step=MINUTE)
    message = refusal(written(tmp_path, marks, "", "BTCUSDT-1m-2021-01.csv"))
    assert "trades without a volume, as mark and index prices" in message
    quiet = rows("{t},100,102,99,101,0,{t},0,0,0,0,0", step=MINUTE)
    (series,) = read(written(tmp_path, quiet, "", "BTCUSDT-1m-2021-01.csv"))
    assert series.candles.volume.tolist() == [0.0] * 5


def test_spellings_of_a_symbol_are_one_series(tmp_path: Path) -> None:
    header = HEADER.replace(",", ",symbol,", 1)
    spelled = [
        text.replace("BTCUSDT", spelling)
        for text, spelling in zip(
            rows("{t},BTCUSDT,100,102,99,101,5", 3),
            ["BTC/USDT", "btcusdt", "BTC-USDT"],
            strict=True,
        )
    ]
    (series,) = read(written(tmp_path, spelled, header, "long.csv"))
    assert len(series.candles) == 3
    another = spelled[1].replace("101", "101.5")
    message = refusal(written(tmp_path, [*spelled, another], header, "long.csv"))
    assert "line 5: 2024-01-15T01:00:00Z occurs twice, with different values" in message


def test_a_row_without_a_symbol_is_named(tmp_path: Path) -> None:
    header = HEADER.replace(",", ",symbol,", 1)
    texts = [*rows("{t},BTCUSDT,1,1,1,1,1", 3), f"{START + 3 * HOUR},,1,1,1,1,1"]
    assert "line 5: symbol is missing" in refusal(written(tmp_path, texts, header))


def test_a_share_needs_the_currency_of_its_prices(tmp_path: Path) -> None:
    header = "Price,Close,High,Low,Open,Volume\nTicker" + ",AAPL" * 5 + "\nDatetime,,,,,"
    path = written(tmp_path, rows("{t},101,102,99,100,5"), header, "AAPL.csv")
    assert "give it with --symbol, such as AAPL/USD" in refusal(path)
    (series,) = read(path, ImportOptions(symbol="AAPL/USD"))
    assert (series.pair.symbol, series.pair.base) == ("AAPLUSD", "AAPL")
    (series,) = read(path, ImportOptions(symbol="AAPL/SEK"))
    assert series.pair.quote == "SEK"
    assert "says MSFTUSD, but its rows say AAPL" in refusal(path, ImportOptions(symbol="MSFT/USD"))


def test_bars_of_several_symbols_are_a_series_each(tmp_path: Path) -> None:
    bars = [
        {"t": START + n * HOUR, "o": 100, "h": 102, "l": 99, "c": 101, "v": 5} for n in range(3)
    ]
    path = tmp_path / "bars.json"
    path.write_text(json.dumps({"bars": {"BTC/USD": bars, "ETH/USD": bars[:2]}}))
    found = {one.pair.symbol: len(one.candles) for one in read(path)}
    assert found == {"BTCUSD": 3, "ETHUSD": 2}
    path.write_text(json.dumps({"bars": {"BTC/USD": bars, "ETH/USD": "none"}}))
    assert "row 4: has 0 columns" in refusal(path)


# The columns.


@pytest.mark.parametrize("name", ["quote_volume", "Volume USDT", "Volume_(Currency)", "turnover"])
def test_a_volume_in_the_currency_of_the_prices_is_not_that_of_coins(
    tmp_path: Path, name: str
) -> None:
    path = written(tmp_path, rows(), HEADER.replace("volume", name))
    assert "counts USDT, the currency of the prices, and not BTC; give --no-volume" in refusal(path)
    (series,) = read(path, ImportOptions(no_volume=True))
    assert series.candles.volume.tolist() == [0.0] * 5


def test_the_reason_for_a_volume_is_said_as_it_is(tmp_path: Path) -> None:
    unrelated = written(tmp_path, rows("{t},100,102,99,101,5,77"), HEADER + ",turnover")
    assert read(unrelated)[0].taken.volume == "volume (by its name, not turnover)"
    near_one = written(tmp_path, rows("{t},1,1.01,0.99,1,5,5.001"), HEADER + ",quote_volume")
    assert read(near_one)[0].taken.notes == ()


@pytest.mark.parametrize("name", ["close", "volume", "timestamp"])
def test_two_columns_of_one_name_are_refused(tmp_path: Path, name: str) -> None:
    header = HEADER.replace(name, f"{name},{name}")
    cells = {"close": "{t},100,102,99,99,101,5", "volume": "{t},100,102,99,101,5,6"}
    path = written(tmp_path, rows(cells.get(name, "{t},{t},100,102,99,101,5")), header)
    assert f"it has two columns {name!r}" in refusal(path)


def test_a_first_column_of_prices_loses_no_row(tmp_path: Path) -> None:
    path = written(tmp_path, rows("1,{t},100,102,99,101,5"), "price," + HEADER)
    assert len(read(path)[0].candles) == 5


# Times and numbers.


def test_local_times_need_a_zone(tmp_path: Path) -> None:
    header = HEADER.replace("timestamp", "Local time")
    local = [f"15.01.2024 0{hour}:00:00.000,100,102,99,101,5" for hour in range(3)]
    assert "of a zone that it does not name (column 'Local time')" in refusal(
        written(tmp_path, local, header)
    )
    with_offset = [text.replace(".000", ".000 GMT+0100") for text in local]
    (series,) = read(written(tmp_path, with_offset, header))
    assert series.candles.open_time[0] == START - HOUR


def test_offsets_that_change_with_the_clocks_are_those_of_each_row(tmp_path: Path) -> None:
    clocks = ["00:00:00 GMT+0100", "01:00:00 GMT+0100", "03:00:00 GMT+0200", "04:00:00 GMT+0200"]
    (series,) = read(written(tmp_path, [f"31.03.2024 {clock},1,1,1,1,1" for clock in clocks]))
    first = 1_711_839_600_000  # 2024-03-30 23:00 UTC
    assert series.candles.open_time.tolist() == [first + n * HOUR for n in range(4)]


def test_the_name_of_a_zone_is_no_format(tmp_path: Path) -> None:
    path = written(tmp_path, ["2024-01-15 00:00 UTC,1,1,1,1,1", "2024-01-15 01:00 UTC,1,1,1,1,1"])
    message = refusal(path, ImportOptions(time_format="%Y-%m-%d %H:%M %Z"))
    assert "does not tell its offset" in message


def test_a_date_and_a_number_of_seconds_are_no_time(tmp_path: Path) -> None:
    header = HEADER.replace("timestamp", "date,time")
    path = written(tmp_path, rows("2024-01-15,1705276800,100,102,99,101,5"), header)
    assert "'2024-01-15 1705276800' is not a time" in refusal(path)


def test_points_are_no_decimal_commas(tmp_path: Path) -> None:
    with_points = written(tmp_path, rows("{t};100.5;102.5;99.5;101.5;5"), HEADER.replace(",", ";"))
    comma = ImportOptions(decimal=",")
    assert "open '100.5' is not a number with a decimal comma" in refusal(with_points, comma)
    german = written(
        tmp_path, rows("{t};1.100,5;1.102,5;1.099,5;1.101,5;5"), HEADER.replace(",", ";")
    )
    assert "'1.100,5' is a number only with a decimal comma; give --decimal ," in refusal(german)
    assert read(german, comma)[0].candles.open[0] == 1100.5


def test_the_day_of_times_in_a_table_is_taken(tmp_path: Path) -> None:
    columns = {"open": 100.0, "high": 102.0, "low": 99.0, "close": 101.0, "volume": 5.0}
    path = tmp_path / "BTCUSDT.parquet"
    pd.DataFrame({"time": [n * MINUTE for n in range(5)]}).assign(**columns).to_parquet(path)
    assert "give the day with --date" in refusal(path)
    (series,) = read(path, ImportOptions(day=date(2024, 1, 15)))
    assert series.candles.open_time.tolist() == [START + n * MINUTE for n in range(5)]


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real candles are not here")
def test_real_files_of_perpetuals_are_what_they_are() -> None:
    paths = sorted((SHARED / "data/perpetual").glob("*.csv"))
    told = {
        (path.name.split("_")[2], content.taken.kind, content.pair.symbol)
        for path in paths
        for options in (NO_OPTIONS, ImportOptions(symbol=path.name.split("_")[1]))
        for content in read_contents(path, options, time=NOW)
    }
    assert told == {
        ("funding", "funding", "ADAUSDT-PERP"), ("perp", "candles", "ADAUSDT-PERP"),
        ("funding", "funding", "XRPUSDT-PERP"), ("perp", "candles", "XRPUSDT-PERP"),
        ("mark", "mark", "XRPUSDT-PERP"),
    }  # fmt: skip
