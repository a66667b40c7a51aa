"""Blocks of text are parsed at once to the same rows, problems and summary as row by row."""

import itertools
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from candlestep.data.errors import BadRows
from candlestep.data.imports.formats.blocks import BlockParser
from candlestep.data.imports.formats.sources import Source
from candlestep.data.imports.formats.text import read_text
from candlestep.data.imports.formats.text_rows import TextRows
from candlestep.data.imports.layouts import layout_of_header
from candlestep.data.imports.numbers import DecimalMark
from candlestep.data.imports.reading import (
    ImportOptions,
    Problems,
    ReadFile,
    RowParser,
    form_of_times,
    in_utc,
    joined,
)
from candlestep.data.imports.series import series_of
from candlestep.data.imports.times import TimeForm, end_of_tomorrow, tell_form
from candlestep.sandbox import SandboxError

NOW = 1_795_867_200_000
LATEST = end_of_tomorrow(NOW)
FIRST = datetime(2024, 1, 13, tzinfo=UTC)
HEADER = ("time", "open", "high", "low", "close", "volume")

Write = Callable[[datetime], str]


def strftime(pattern: str) -> Write:
    return lambda time: time.strftime(pattern)


def number(per_second: int, after: str = "") -> Write:
    return lambda time: f"{int(time.timestamp()) * per_second}{after}"


TIMES: dict[str, Write] = {
    "seconds": number(1),
    "seconds with a point": number(1, ".0"),
    "milliseconds": number(1000),
    "microseconds": number(10**6),
    "nanoseconds": number(10**9),
    "YYYYMMDDHHMM": strftime("%Y%m%d%H%M"),
    "ISO with Z": strftime("%Y-%m-%dT%H:%M:%SZ"),
    "ISO without a zone": strftime("%Y-%m-%dT%H:%M:%S"),
    "a space": strftime("%Y-%m-%d %H:%M:%S"),
    "UTC": strftime("%Y-%m-%d %H:%M:%S UTC"),
    "an offset": lambda time: (time + timedelta(minutes=330)).strftime("%F %T+05:30"),
    "an offset of hours": strftime("%Y-%m-%d %H:%M:%S+00"),
    "a fraction": strftime("%Y-%m-%d %H:%M:%S.000"),
    "HistData": strftime("%Y%m%d %H%M%S"),
    "MetaTrader": strftime("%Y.%m.%d %H:%M"),
    "the day first": strftime("%d.%m.%Y %H:%M:%S.000"),
    "the month first": strftime("%m/%d/%Y %H:%M"),
    "halves of a day": strftime("%m/%d/%Y %I:%M %p"),
}
"""The forms of time of which a block is parsed at once."""


def source_of(path: Path, text: str) -> Source:
    path.write_bytes(text.encode())
    return Source(path, None)


def read_by_rows(source: Source, options: ImportOptions) -> ReadFile:
    """Read a text file row by row."""
    with source.open() as stream:
        text = TextRows(source.name, stream, 1 << 20)
        form, example = form_of_times(source.name, text.layout, text.rows(), options)
    problems = Problems(source.name)
    with source.open() as stream:
        text = TextRows(source.name, stream, 1 << 20)
        parser = RowParser(text.layout, form, LATEST, options.decimal, problems)
        parts = list(text.parsed(parser.parse, lambda block, first_line: None))
    rows = joined(parts) if parts else parser.parse([])
    file = ReadFile(source.name, rows, text.layout, problems, form.kind, text.symbol, text.left_out)
    return in_utc(file, form, example, LATEST)


def outcome(read: Callable[[], ReadFile], options: ImportOptions) -> Any:
    """Return the series of a file with their summaries, or the error, as plain values."""
    try:
        series = series_of(read(), options, NOW)
    except SandboxError as error:
        return type(error), error.message, error.details
    return [
        (one.pair, one.interval, one.taken, one.candles.open_time.tolist(),
         *(column.tolist() for column in one.candles.numbers()))
        for one in series
    ]  # fmt: skip


def assert_same_by_rows(path: Path, text: str, block_size: int, options: ImportOptions) -> None:
    source = source_of(path, text)
    in_blocks = outcome(lambda: read_text(source, options, LATEST, None, block_size), options)
    assert in_blocks == outcome(lambda: read_by_rows(source, options), options)


digits = st.text("0123456789", min_size=1, max_size=22)
prices = st.one_of(
    st.integers(1, 10**6).map(lambda cents: f"{cents / 100:.2f}"),
    st.floats(1e-6, 1e9).map(repr),
    st.floats(1e-6, 1e9).map(lambda price: f"{price:.8f}"),
    st.builds("{}.{}".format, digits, digits),
)
STRANGE_CELLS = (
    "", "nan", "NaN", "null", "-", "n/a", "inf", "-inf", "infinity", "1_0", "+-1", "+1", "-1", "--1",
    "1e3", "1E-3", "1e400", ".5", "5.", ".", " 5", "5 ", "0x10", "nan(1)", "1,5", "1.250,5", "1,250",
    "'5'", '"5"', '"1,250.5"', "٥", "five", "0", "1" + "0" * 30, "0.30000000000000004", "1 000",
    "100000000000000000.0000", "9007199254740993", "1.7e12", ".17e13", "\x00", "\x1f5",
)  # fmt: skip
STRANGE_LINES = (
    "", "   ", "# a comment", "Total: 5 rows", "1,2,3", "1;2;3", ",,,,,", ";;;;;", '"', "\t\t\t\t\t",
    "time,open,high,low,close,volume", "é", "x" * 100_000, "1" * 200_000 + ",1,1,1,1,1",
)  # fmt: skip
STRANGE_TIMES = (
    "", "yesterday", "2024-01-13 00:5:00 ", "2024-01-13  0:05:00", "2024-1-13 00:05:00", "1705104000",
    "2024-01-13T24:00:00Z", "2024-02-30 00:00:00", "2024-01-13T00:05:00+25:00", "0024-01-13 00:05:00",
    "13.01.2024", "20240113", "1705104000000", "1705104000000.5", "2024-01-13", ".1705104e13", "0",
    "9999-12-31 00:00:00", "20240113 1200", "202401131260", "2024-01-13T00:05:00.123456789Z",
)  # fmt: skip


@st.composite
def files(draw: st.DrawFn) -> str:
    """A file of candles by the minute, of which some cells and lines may be anything."""
    write = TIMES[draw(st.sampled_from(sorted(TIMES)))]
    delimiter = draw(st.sampled_from(",;\t|"))
    names = draw(st.permutations([*HEADER, *draw(st.sampled_from(([], ["id"], ["symbol"])))]))
    count = draw(st.integers(1, 25))
    mark = draw(st.sampled_from("...,"))
    quote = draw(st.sampled_from(["", "", "", '"']))
    symbol = draw(st.sampled_from(["BTCUSDT", "BTC_USDT", "btc/usdt"]))
    lines = [delimiter.join(names)]
    for minute in range(count):
        price = draw(prices).replace(".", mark)
        cells = dict.fromkeys(names, price) | {"id": str(minute), "symbol": symbol}
        cells["time"] = write(FIRST + timedelta(minutes=minute))
        lines.append(delimiter.join(quote + cells[name] + quote for name in names))
    for _ in range(draw(st.integers(0, 2))):
        row = draw(st.integers(1, count))
        cells_of_row = lines[row].split(delimiter)
        column = draw(st.integers(0, len(cells_of_row) - 1))
        strange = STRANGE_TIMES if names[column % len(names)] == "time" else STRANGE_CELLS
        cells_of_row[column] = draw(st.sampled_from(strange))
        lines[row] = delimiter.join(cells_of_row)
    for _ in range(draw(st.integers(0, 2))):
        line = draw(st.sampled_from([*STRANGE_LINES, *lines]))
        lines.insert(draw(st.integers(0, len(lines))), line)
    end = draw(st.sampled_from(["\n", "\n", "\r\n", "\r"]))
    after = draw(st.sampled_from(["", "", "", delimiter]))
    start = draw(st.sampled_from(["", "", "\ufeff"]))
    return start + f"{after}{end}".join(lines) + draw(st.sampled_from(["", end]))


options = st.builds(
    ImportOptions,
    symbol=st.just("BTCUSDT"),
    interval=st.sampled_from([None, "1m"]),
    time_format=st.sampled_from([None, None, None, "%Y-%m-%d %H:%M:%S", "%d.%m.%Y %H:%M", "%Y%m"]),
    decimal=st.sampled_from([None, None, ".", ","]),
)


@settings(max_examples=80, deadline=None)
@given(files(), st.integers(30, 2000), options)
def test_blocks_are_read_as_rows_are(
    tmp_path_factory: pytest.TempPathFactory, text: str, block_size: int, options: ImportOptions
) -> None:
    path = tmp_path_factory.getbasetemp() / "generated.csv"
    assert_same_by_rows(path, text, block_size, options)


def parse_at_once(
    header: str, text: str, form: TimeForm, decimal: DecimalMark | None = None
) -> list[float] | None:
    """Return the opening prices of a block that can be parsed at once."""
    delimiter = max(",;\t", key=header.count)
    layout = layout_of_header("a.csv", header.split(delimiter))
    parser = RowParser(layout, form, LATEST, decimal, Problems("a.csv"))
    with BlockParser(parser, delimiter) as blocks:
        rows = blocks.parse(text.encode(), 2)
    return None if rows is None else rows.prices["open"].tolist()


@pytest.mark.parametrize("name", TIMES)
def test_a_regular_block_is_parsed_at_once(name: str) -> None:
    times = [TIMES[name](FIRST + timedelta(minutes=minute)) for minute in range(9)]
    form = tell_form("a.csv", times)
    text = "".join(f"{time},1.5,2,1,1.75,\n" for time in times)
    assert parse_at_once("time,open,high,low,close,volume", text, form) == [1.5] * 9
    comma = text.replace(",", ";").replace("1.", "1,")
    assert (name == "seconds with a point" or "." in times[0]) or parse_at_once(
        "time;open;high;low;close;volume", comma, form, ","
    ) == [1.5] * 9


@pytest.mark.parametrize(
    "line", ['"1705104000","1","2","1","1","5"', '"1705104060","1","2","","1","nan"']
)
def test_a_block_in_which_every_cell_is_quoted_is_parsed_at_once(line: str) -> None:
    text = f"{line}\r\n" * 3
    assert parse_at_once("time,open,high,low,close,volume", text, TimeForm("number")) == [1] * 3


def test_a_symbol_with_an_underscore_is_parsed_at_once_but_no_such_number() -> None:
    header, form = "time,symbol,open,high,low,close,volume", TimeForm("number")
    text = "1705104000,BTC_USDT,1,2,1,1,5\n"
    assert parse_at_once(header, text * 2, form) == [1, 1]
    assert parse_at_once(header, text.replace(",2,", ",2_0,"), form) is None


def test_a_time_in_two_columns_and_missing_prices_are_parsed_at_once() -> None:
    text = "2024.01.13\t00:00:00\t1\t1\t1\t1\t5\r\n2024.01.13\t00:01:00\tNaN\t\tnull\t-\t0\r\n"
    header = "<DATE>\t<TIME>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<VOL>"
    found = parse_at_once(header, text, TimeForm("text"))
    assert found is not None
    assert found[0] == 1
    assert math.isnan(found[1])


@pytest.mark.parametrize(
    "line",
    ['1705104000,"1",2,1,1,5', "1705104000,1,2,1,1,5,", "1705104000,1_0,2,1,1,5", "# 1,1,1,1,1,1",
     "1705104000,+-1,2,1,1,5", "1705104000,ten,2,1,1,5", "1705104000,1,2,1,1", "", "60,1,2,1,1,5",
     "1705104000,inf,2,1,1,5", "13.01.2024,1,2,1,1,5"],
)  # fmt: skip
def test_a_block_with_an_irregular_line_is_left_to_the_other_parser(line: str) -> None:
    text = f"1705104060,1,2,1,1,5\n{line}\n1705104120,1,2,1,1,5\n"
    assert parse_at_once("time,open,high,low,close,volume", text, TimeForm("number")) is None


def doubles_of_duckdb(texts: list[str]) -> list[float | None]:
    with duckdb.connect() as database:
        database.execute("CREATE TABLE texts AS SELECT unnest(?) AS text", [texts])
        rows = database.execute("SELECT TRY_CAST(text AS DOUBLE) FROM texts").fetchall()
    return [value for (value,) in rows]


def python_double(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


@pytest.mark.parametrize(("alphabet", "length"), [("10.-e", 6), ("1 ,.x", 5), ("1.+e", 6)])
def test_duckdb_and_python_read_every_short_text_alike(alphabet: str, length: int) -> None:
    texts = [
        "".join(characters)
        for count in range(length + 1)
        for characters in itertools.product(alphabet, repeat=count)
        if "+-" not in "".join(characters)
    ]
    assert doubles_of_duckdb(texts) == [python_double(text) for text in texts]


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.one_of(prices, st.builds("{}.{}e{}".format, digits, digits, st.integers(-340, 310)))
    )
)
@example(["9007199254740993", "4.9e-324", "2.2250738585072011e-308", "1.7976931348623158e308"])
def test_duckdb_reads_the_double_that_is_nearest_to_the_text(texts: list[str]) -> None:
    assert doubles_of_duckdb(texts) == [float(text) for text in texts]


def test_numbers_that_their_doubles_do_not_reproduce_are_counted_in_blocks_too(
    tmp_path: Path,
) -> None:
    random = np.random.default_rng(5)
    cells = list(map(repr, random.uniform(1, 2, 500).tolist()))
    cells[300] = "1.2345678901234567890"
    cells[400] = "1.50000000000000000000"
    rows = [
        f"{TIMES['seconds'](FIRST + timedelta(minutes=minute))},{cell},3,1,{cell},1\n"
        for minute, cell in enumerate(cells)
    ]
    source = source_of(tmp_path / "BTCUSDT.csv", ",".join(HEADER) + "\n" + "".join(rows))
    file = read_text(source, ImportOptions(), LATEST, None, 1000)
    assert (file.problems.inexact_count, file.problems.inexact[0].line) == (2, 302)
    assert file.rows.prices["open"].tolist() == list(map(float, cells))


def test_the_line_of_a_bad_row_is_right_behind_blocks(tmp_path: Path) -> None:
    rows = [f"{TIMES['seconds'](FIRST + timedelta(minutes=n))},1,1,1,1,1\n" for n in range(1000)]
    rows[700] = "1705104000,1,1,1\n"
    rows[800] = "nonsense,1,1,1,1,1\n"
    source = source_of(tmp_path / "BTCUSDT.csv", ",".join(HEADER) + "\n" + "".join(rows))
    file = read_text(source, ImportOptions(), LATEST, None, 2000)
    with pytest.raises(BadRows, match=r"2 bad rows.*line 702: has 4 columns.*line 802: time 'nons"):
        series_of(file, ImportOptions(), NOW)
