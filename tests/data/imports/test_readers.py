"""Readers of every format of candles, and every way in which a file can be bad."""

import gzip
import math
from pathlib import Path

import duckdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candlestep.data.errors import BadRows, UnreadableFile
from candlestep.data.imports.contents import read_series
from candlestep.data.imports.evidence import evidence_of_name
from candlestep.data.imports.reading import ImportOptions
from candlestep.data.imports.spacing import interval_from_name, require_interval, told_interval
from candlestep.data.imports.validation import CandleColumns
from candlestep.data.symbols import normalise_exchange, normalise_symbol, parse_symbol
from candlestep.sandbox import INTERVALS, InvalidParameter, InvalidSymbol, parse_interval
from tests.support.candle_files import (
    HEADER,
    MINUTE,
    START,
    Row,
    archive_text,
    csv_text,
    real_file,
    rows,
    write,
    write_json,
    write_parquet,
)

CANDLES = rows(20)
MINUTES = ImportOptions(symbol="BTCUSDT", interval="1m")


def read(path: Path, interval: int = MINUTE) -> CandleColumns:
    options = ImportOptions(symbol="BTCUSDT", interval=interval // 1000)
    (series,) = read_series(path, options)
    return series.candles


def as_rows(candles: CandleColumns) -> list[Row]:
    columns = [candles.open_time, *candles.numbers()]
    return list(zip(*(column.tolist() for column in columns), strict=True))


@pytest.mark.parametrize("time", ["iso", "s", "ms", "us"])
@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.zip", "without-ending"])
def test_csv_in_every_unit_of_time_and_packing(tmp_path: Path, name: str, time: str) -> None:
    path = write(tmp_path / name, csv_text(CANDLES, time=time))
    assert as_rows(read(path)) == CANDLES


@pytest.mark.parametrize(
    "header",
    [
        "Timestamp,Open,High,Low,Close,Volume",
        "OPEN_TIME,OPEN,HIGH,LOW,CLOSE,VOL",
        "date,o,h,l,c,v",
        "unix,open,high,low,close,volume",
        '"datetime","open","high","low","close","volume"',
        " ts , open , high , low , close , Base Volume ",
        "\ufefftime,Open Price,High Price,Low Price,Close Price,volume",
    ],
)
def test_headers_by_any_common_name(tmp_path: Path, header: str) -> None:
    assert as_rows(read(write(tmp_path / "a.csv", csv_text(CANDLES, header)))) == CANDLES


def test_columns_in_any_order_among_others(tmp_path: Path) -> None:
    text = "id;volume;close;low;high;open;symbol;time\n" + "".join(
        f"{n};{v!r};{c!r};{low!r};{h!r};{o!r};BTCUSDT;{t}\n"
        for n, (t, o, h, low, c, v) in enumerate(CANDLES)
    )
    assert as_rows(read(write(tmp_path / "a.csv", text))) == CANDLES


@pytest.mark.parametrize(
    "shown",
    [
        "2024-01-01 00:00:00",
        "2024-01-01T00:00:00Z",
        "2024-01-01T02:00:00+02:00",
        "2023-12-31 19:00:00-05:00",
        "2024-01-01T00:00:00.000000",
        "2024-01-01 00:00:00 UTC",
        "2024-01-01",
        "1704067200",
        "1704067200.0",
        "1.7040672e9",
        "1704067200000",
        "1704067200000000",
    ],
)
def test_times_of_many_forms(tmp_path: Path, shown: str) -> None:
    path = write(tmp_path / "a.csv", f"{HEADER}\n{shown},1,1,1,1,1\n")
    assert read(path).open_time.tolist() == [START]


def test_forms_of_time_may_differ_within_a_file(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.csv",
        f"{HEADER}\n1704067200,1,1,1,1,1\n2024-01-01T00:01Z,1,1,1,1,1\n1704067320000,1,1,1,1,1\n"
        "2024-01-01 00:03,1,1,1,1,1\n",
    )
    assert read(path).open_time.tolist() == [START + n * MINUTE for n in range(4)]


@pytest.mark.parametrize("time", ["ms", "us"])
@pytest.mark.parametrize("name", ["a.csv", "a.zip", "a.csv.gz"])
def test_archive_layout(tmp_path: Path, name: str, time: str) -> None:
    path = write(tmp_path / name, archive_text(CANDLES, time=time))
    assert read(path).open_time.tolist() == [row[0] for row in CANDLES]
    assert read(path).close.tolist() == [float(f"{row[4]:.8f}") for row in CANDLES]


def test_archive_layout_with_a_header(tmp_path: Path) -> None:
    header = (
        "open_time,open,high,low,close,volume,close_time,quote_asset_volume,number_of_trades,"
        "taker_buy_base_asset_volume,taker_buy_quote_asset_volume,ignore\n"
    )
    path = write(tmp_path / "a.zip", header + archive_text(CANDLES))
    assert len(read(path)) == len(CANDLES)


def test_the_real_archive_file() -> None:
    candles = read(real_file("ADABTC-1m-2021-11-27.csv"))
    assert as_rows(candles)[0] == (
        1637971200000, 0.00002853, 0.00002854, 0.00002851, 0.00002854, 36304.2,
    )  # fmt: skip
    assert len(candles) == 10


def test_json_rows(tmp_path: Path) -> None:
    assert as_rows(read(write_json(tmp_path / "a.json", CANDLES))) == CANDLES
    assert as_rows(read(write_json(tmp_path / "a.json.gz", CANDLES))) == CANDLES
    texts: list[list[float | str]] = [
        [row[0], *(repr(number) for number in row[1:]), 1, "more"] for row in CANDLES
    ]
    assert as_rows(read(write_json(tmp_path / "b.json", texts))) == CANDLES


@pytest.mark.parametrize(
    "time",
    [
        "t",
        "t * 1000",
        "t // 1000",
        "(t / 1000)::DOUBLE",
        "epoch_ms(t)",
        "epoch_ms(t)::TIMESTAMP_NS",
        "epoch_ms(t)::TIMESTAMP_S",
        "epoch_ms(t)::TIMESTAMPTZ",
        "epoch_ms(t)::VARCHAR",
    ],
)
def test_parquet_with_every_type_of_time(tmp_path: Path, time: str) -> None:
    assert as_rows(read(write_parquet(tmp_path / "a.parquet", CANDLES, time))) == CANDLES


@pytest.mark.parametrize("number", ["x", "x::VARCHAR", "x::FLOAT", "x::DECIMAL(18, 4)"])
def test_parquet_with_every_type_of_number(tmp_path: Path, number: str) -> None:
    path = write_parquet(tmp_path / "a", CANDLES, "t", number)
    assert as_rows(read(path)) == CANDLES


def test_numbers_of_a_table_with_more_digits_than_a_double_are_named(tmp_path: Path) -> None:
    number = "(x::VARCHAR::DECIMAL(38, 20) + 0.00000000000000000001)"
    (series,) = read_series(write_parquet(tmp_path / "a.parquet", CANDLES, "t", number), MINUTES)
    assert as_rows(series.candles) == CANDLES
    assert series.taken.notes[0].startswith("80 numbers have more digits than are kept: row 1: ")


def test_bad_texts_of_a_table_are_named_by_row(tmp_path: Path) -> None:
    number = f"CASE WHEN t = {CANDLES[4][0]} THEN 'five' ELSE x::VARCHAR END"
    with pytest.raises(BadRows, match="1 bad row, nothing was imported: row 5: open 'five' is not"):
        read(write_parquet(tmp_path / "a.parquet", CANDLES, "t", number))


def test_the_decimal_mark_of_texts_does_not_change_the_numbers_of_a_table(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", CANDLES, "t", "x::DECIMAL(18, 3)")
    (series,) = read_series(path, ImportOptions("BTCUSDT", "1m", decimal=","))
    assert as_rows(series.candles) == CANDLES


def test_timestamps_of_a_table_are_in_no_other_unit_than_theirs(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", CANDLES, "make_timestamp(t)")
    with pytest.raises(UnreadableFile, match=r"1970-01-20T.* is not between 1990 and tomorrow"):
        read(path)


def test_a_table_without_rows_has_no_candles(tmp_path: Path) -> None:
    for time in ("t", "epoch_ms(t)", "t::VARCHAR"):
        whole = write_parquet(tmp_path / "whole.parquet", CANDLES, time)
        path = tmp_path / "a.parquet"
        with duckdb.connect() as connection:
            connection.execute(f"COPY (FROM '{whole}' LIMIT 0) TO '{path}' (FORMAT parquet)")
        with pytest.raises(UnreadableFile, match="it has no candles"):
            read(path)


def test_a_table_with_a_date_and_a_time_of_day(tmp_path: Path) -> None:
    time = "epoch_ms(t)::DATE AS date, epoch_ms(t)::TIME"
    path = write_parquet(tmp_path / "a.parquet", CANDLES, time)
    with duckdb.connect() as connection:
        connection.execute(
            f"COPY (SELECT * RENAME (timestamp AS time) FROM '{path}') TO '{path}2' (FORMAT parquet)"
        )
    assert as_rows(read(Path(f"{path}2"))) == CANDLES


def test_parquet_by_a_name_that_looks_like_a_pattern(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a1.parquet", rows(3), "t")
    path = write_parquet(tmp_path / "a.parquet", CANDLES, "t").rename(tmp_path / "a[1]*.parquet")
    assert as_rows(read(path)) == CANDLES


def test_parquet_rows_of_nulls_are_minutes_without_a_trade(tmp_path: Path) -> None:
    path = write_parquet(
        tmp_path / "a.parquet", CANDLES, "t", "CASE WHEN t % 300000 > 0 THEN x END"
    )
    traded = [row for place, row in enumerate(CANDLES) if place % 5]
    (series,) = read_series(path, MINUTES)
    assert as_rows(series.candles) == traded
    assert series.taken.notes == ("left out 4 rows without prices, as gaps",)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(1e-9, 1e15), min_size=1, max_size=100), st.integers(0, 20))
def test_prices_are_the_double_nearest_to_the_text(
    tmp_path_factory: pytest.TempPathFactory, prices: list[float], places: int
) -> None:
    texts = [f"{price:.{places}f}" for price in prices]
    texts = [text if float(text) > 0 else "1" for text in texts]
    path = tmp_path_factory.mktemp("prices") / "a.csv"
    path.write_text(
        HEADER + "".join(f"\n{START + n * MINUTE},{t},{t},{t},{t},{t}" for n, t in enumerate(texts))
    )
    assert read(path).open.tolist() == list(map(float, texts))


def test_a_file_without_volume_has_none(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", f"time,open,high,low,close\n{START},1,1,1,1\n")
    assert read(path).volume.tolist() == [0.0]


def test_unsorted_rows_are_sorted_and_repeated_ones_count_once(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", csv_text([*CANDLES[::-1], CANDLES[3], CANDLES[3]]))
    assert as_rows(read(path)) == CANDLES


def test_blank_lines_are_passed_over(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "\n\n" + csv_text(CANDLES).replace("\n", "\n\n"))
    assert as_rows(read(path)) == CANDLES


GOOD = "2024-01-01T00:00:00Z,10,12,9,11,5"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("2024-01-01T00:01:00Z,nan,12,9,11,5", "open is missing"),
        ("2024-01-01T00:01:00Z,10,inf,9,11,5", "high inf is not finite"),
        ("2024-01-01T00:01:00Z,10,12,9,11,nan", "volume is missing"),
        ("2024-01-01T00:01:00Z,10,12,0,11,5", "low 0.0 is not positive"),
        ("2024-01-01T00:01:00Z,-10,12,9,11,5", "open -10.0 is not positive"),
        ("2024-01-01T00:01:00Z,10,12,9,11,-5", "volume -5.0 is negative"),
        ("2024-01-01T00:01:00Z,10,1e300,9,11,5", "high 1e+300 is above 1e+16"),
        ("2024-01-01T00:01:00Z,10,12,13,11,5", "low 13.0 is above the high 12.0"),
        ("2024-01-01T00:01:00Z,10,12,10.5,11,5", "low 10.5 is above the open 10.0"),
        ("2024-01-01T00:01:00Z,10,12,9,8,5", "low 9.0 is above the close 8.0"),
        ("2024-01-01T00:01:00Z,10,9.5,9,9.2,5", "high 9.5 is below the open 10.0"),
        ("2024-01-01T00:01:00Z,10,10.5,9,11,5", "high 10.5 is below the close 11.0"),
        ("2024-01-01T00:01:30Z,10,12,9,11,5", "2024-01-01T00:01:30Z is not the open time"),
        ("2024-01-01T00:01:00.001Z,10,12,9,11,5", "2024-01-01T00:01:00.001Z is not the open"),
        ("2024-01-01T00:00:00Z,10,12,9,11,6", "2024-01-01T00:00:00Z occurs twice"),
        ("yesterday,10,12,9,11,5", "time 'yesterday' is not a time that is known"),
        ("1e30,10,12,9,11,5", "time 1e+30 is not between 1990 and tomorrow"),
        ("-5,10,12,9,11,5", "time -5 is not between 1990 and tomorrow"),
        (",10,12,9,11,5", "time is missing"),
        ("2024-01-01T00:01:00Z,10,12,9,,5", "close is missing"),
        ("2024-01-01T00:01:00Z,ten,12,9,11,5", "open 'ten' is not a number"),
        ("2024-01-01T00:01:00Z,1_0,12,9,11,5", "open '1_0' is not a number"),
        ("2024-01-01T00:01:00Z,\u0661\u0660,12,9,11,5", "open '\u0661\u0660' is not a number"),
        ("2024-01-01T00:01:00Z,10,12,9,11", "has 5 columns instead of 6"),
        ("2024-01-01T00:01:00Z,10,12,9,11,5,6", "has 7 columns instead of 6"),
    ],
)
def test_bad_rows_are_named_with_line_and_reason(tmp_path: Path, row: str, reason: str) -> None:
    later = "2024-01-01T00:05:00Z,10,12,9,11,5"
    path = write(tmp_path / "bad.csv", f"{HEADER}\n{GOOD}\n{row}\n{later}\n")
    with pytest.raises(BadRows) as caught:
        read(path)
    assert f"bad.csv: 1 bad row, nothing was imported: line 3: {reason}" in caught.value.message
    assert caught.value.details["rows"][0]["line"] == 3


def test_the_first_five_bad_rows_are_named_and_the_rest_counted(tmp_path: Path) -> None:
    lines = csv_text(rows(30_000)).splitlines()
    broken = [7, 9, 10_001, 10_002, 20_001, 29_000, 30_001]
    for n, line in enumerate(broken):
        lines[line - 1] = "nonsense,1,1,1,1,1" if n % 2 else lines[line - 1].replace("Z,1", "Z,-1")
    with pytest.raises(BadRows) as caught:
        read(write(tmp_path / "bad.csv", "\n".join(lines)))
    assert [row["line"] for row in caught.value.details["rows"]] == broken[:5]
    assert caught.value.details["count"] == 7
    assert caught.value.message.endswith("and 2 more")


def test_a_column_of_nonsense_is_counted_whole(tmp_path: Path) -> None:
    text = csv_text(rows(3000)).replace("Z,", "Z,x")
    with pytest.raises(BadRows, match="3000 bad rows"):
        read(write(tmp_path / "a.csv", text))


def test_bad_json_rows_are_named_by_row(tmp_path: Path) -> None:
    bad = [*CANDLES[:3], [1, 2], [START, True, 1, 1, 1, 1], [None, 1, 1, 1, 1, 1]]
    with pytest.raises(BadRows) as caught:
        read(write_json(tmp_path / "a.json", bad))  # type: ignore[arg-type]
    assert [row["row"] for row in caught.value.details["rows"]] == [4, 5, 6]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.csv", b"", "it is empty"),
        ("a.zip", b"", "it is empty"),
        ("a.csv", b"\n  \n", "it is empty"),
        ("a.csv.gz", gzip.compress(b"", mtime=0), "it is empty"),
        ("a.csv", HEADER.encode() + b"\n", "it has no candles"),
        ("a.json", b"[]", "it has no candles"),
        ("a.json", b"[[1, 2", "it is not valid JSON"),
        ("a.json", b"[" * 10_000, "it is not valid JSON"),
        ("a.json", b'{"code": -1121, "msg": "Invalid symbol."}', "it is not a list of rows"),
        ("a.csv.gz", gzip.compress(csv_text(CANDLES).encode(), mtime=0)[:-20], "was cut off"),
        ("a.csv.gz", b"\x1f\x8b\x08 this is no gzip", "it is damaged"),
        ("a.zip", b"PK\x03\x04 this is no zip", "it is damaged"),
        ("a.parquet", b"PAR1 this is no Parquet", "it is not a readable Parquet file"),
        ("a.csv", csv_text(CANDLES).encode("utf-16"), "it is not UTF-8 text"),
        ("a.csv", HEADER.encode() + b"\n\xff\xfe,1,1,1,1,1\n", "it is not UTF-8 text"),
        ("a.csv", b"when,first,best,worst,last\n1,1,1,1,1\n", "no column for time, open, high"),
        ("a.csv", b"time,open,high,low,close,my_vol\n1,1,1,1,1,1\n", "no column for volume"),
        ("a.csv", b"1704067200000,1,1,1,1\n", "it has no header, and 5 columns"),
        ("a.csv", b"<!doctype html><html></html>\n", "no column for time"),
    ],
)
def test_files_that_are_no_candles(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UnreadableFile) as caught:
        read(path)
    assert caught.value.message.startswith(f"{name}: ")
    assert reason in caught.value.message


def test_a_damaged_zip_is_noticed(tmp_path: Path) -> None:
    path = write(tmp_path / "a.zip", archive_text(rows(2000)))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(UnreadableFile, match="damaged"):
        read(path)


def test_missing_files_and_directories(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match="No such file"):
        read_series(tmp_path / "nothing.csv")
    with pytest.raises(UnreadableFile, match="directory"):
        read_series(tmp_path)


def test_progress_ends_at_the_number_of_rows(tmp_path: Path) -> None:
    reports: list[tuple[int, int]] = []
    path = write(tmp_path / "a.csv.gz", csv_text(rows(25_000)))
    read_series(path, MINUTES, lambda done, total: reports.append((done, total)))
    assert len(reports) > 1
    assert reports == sorted(reports)
    assert reports[-1] == (25_000, 25_000)
    assert all(done <= total for done, total in reports)


@pytest.mark.parametrize(
    ("name", "symbol", "interval"),
    [
        ("BTCUSDT-1m-2024-10.csv.gz", "BTCUSDT", "1m"),
        ("ADABTC-1m-2021-11-27.csv", "ADABTC", "1m"),
        ("ETHUSDT-1h-2024.zip", "ETHUSDT", "1h"),
        ("1000SHIBUSDT-15m-2024-10.zip", "1000SHIBUSDT", "15m"),
        ("btc-usdt_1d.parquet", "BTCUSDT", "1d"),
        ("Binance_SOLUSDT_4h.csv", "SOLUSDT", "4h"),
        ("eth_usdt.json", "ETHUSDT", None),
        ("BTCUSDT.csv", "BTCUSDT", None),
        ("candles.csv", None, None),
        ("2024-10.csv", None, None),
    ],
)
def test_symbol_and_interval_from_a_name(
    name: str, symbol: str | None, interval: str | None
) -> None:
    assert evidence_of_name(name).symbol == symbol
    named = interval_from_name(name)
    assert (named is None) == (interval is None)
    if named is not None:
        assert parse_interval(str(interval)) == named


def test_an_interval_that_is_not_supported_is_refused() -> None:
    for name in ("BTCUSDT-2m-2024-10.zip", "BTCUSDT-1s-2024-10.zip", "BTCUSDT-3d-2024-10.zip"):
        with pytest.raises(UnreadableFile, match=r"only 1m, 3m, .*1d, 1w can be imported"):
            interval_from_name(name)


@pytest.mark.parametrize("name", ["BTCUSDT-1M-2024.zip", "BTCUSDT-1mo-2024.zip"])
def test_months_are_refused_and_days_advised(name: str) -> None:
    with pytest.raises(UnreadableFile, match="import the days"):
        interval_from_name(name)
    months = np.arange("2024-01", "2025-01", dtype="datetime64[M]").astype("datetime64[ms]")
    with pytest.raises(UnreadableFile, match="import the days"):
        told_interval("BTCUSDT.csv", months.astype(np.int64))


@pytest.mark.parametrize("interval", list(INTERVALS))
def test_every_interval_is_told_by_name_and_by_spacing(interval: str) -> None:
    assert interval_from_name(f"BTCUSDT-{interval}-2024.zip") == INTERVALS[interval]
    half_past = np.array([0, 1, 2, 5, 6]) * INTERVALS[interval] + 30 * MINUTE
    assert told_interval("x.csv", half_past) == INTERVALS[interval]
    require_interval("x.csv", INTERVALS[interval], half_past)


def test_interval_from_the_spacing() -> None:
    times = np.array([0, 1, 2, 3, 9, 10, 11]) * 15 * MINUTE
    assert told_interval("x.csv", times) == 15 * MINUTE
    for unclear in (times[:1], times[[0, 4]], times * 3):
        with pytest.raises(UnreadableFile, match="give it with --interval"):
            told_interval("x.csv", unclear)


def test_an_interval_finer_than_the_rows_is_refused() -> None:
    hours = np.arange(30) * 60 * MINUTE
    with pytest.raises(
        UnreadableFile,
        match=r"rows are 1 hour apart; no two are 1 minute apart.*give --interval 1h",
    ):
        require_interval("BTCUSDT-1m-2024.csv", MINUTE, hours)
    require_interval("BTCUSDT-1m-2024.csv", 60 * MINUTE, hours)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("BTC/USDT", ("BTCUSDT", "BTC", "USDT")),
        ("btc-usdt", ("BTCUSDT", "BTC", "USDT")),
        (" btcusdt ", ("BTCUSDT", "BTC", "USDT")),
        ("ADABTC", ("ADABTC", "ADA", "BTC")),
        ("ETHFDUSD", ("ETHFDUSD", "ETH", "FDUSD")),
        ("BTCUSD", ("BTCUSD", "BTC", "USD")),
        ("FOO/BAR", ("FOOBAR", "FOO", "BAR")),
    ],
)
def test_symbols(text: str, expected: tuple[str, str, str]) -> None:
    assert parse_symbol(text) == expected
    assert normalise_symbol(text) == expected[0]


@pytest.mark.parametrize(
    "text", ["", "B", "BTC USDT", "BTC/USDT/EUR", "A" * 50, "\u0412\u0422\u0421USDT", "../x"]
)
def test_no_symbols(text: str) -> None:
    with pytest.raises(InvalidSymbol):
        normalise_symbol(text)


def test_exchanges() -> None:
    assert normalise_exchange(" Binance ") == "binance"
    for wrong in ("", "a b", "../x", "x" * 40):
        with pytest.raises(InvalidParameter, match="exchange"):
            normalise_exchange(wrong)


def test_an_unknown_quote_must_be_separated() -> None:
    with pytest.raises(InvalidSymbol, match="BASE/QUOTE"):
        parse_symbol("FOOBAR")


def test_no_number_is_lost_to_nan(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", csv_text(rows(1000)))
    assert not any(math.isnan(value) for row in as_rows(read(path)) for value in row)
