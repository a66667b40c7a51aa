"""Funding rates of a file: times, intervals and numbers, and what is refused of them."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candlestep.data.errors import BadRows, UnreadableFile
from candlestep.data.imports.contents import read_contents
from candlestep.data.imports.perpetual.funding import ReadFunding
from candlestep.data.imports.perpetual.intervals import find_holes, told_intervals
from candlestep.data.imports.reading import NO_OPTIONS, ImportOptions
from tests.support.candle_files import write
from tests.support.perpetual_files import HOUR, START
from tests.support.real_candles import FILES

NOW = 1_795_867_200_000
MINUTE = 60_000
HEADER = "calc_time,funding_interval_hours,last_funding_rate"
NAME = "BTCUSDT-fundingRate-2024-01.csv"


def read(path: Path, options: ImportOptions = NO_OPTIONS, now: int = NOW) -> ReadFunding:
    [content] = read_contents(path, options, time=now)
    assert isinstance(content, ReadFunding)
    return content


def written(tmp_path: Path, *rows: str, header: str = HEADER, name: str = NAME) -> Path:
    return write(tmp_path / name, "\n".join([header, *rows]) + "\n")


def refusal(path: Path, options: ImportOptions = NO_OPTIONS) -> str:
    with pytest.raises(UnreadableFile) as refused:
        read(path, options)
    return refused.value.message


def test_times_are_rounded_to_the_minute_and_kept_as_they_are(tmp_path: Path) -> None:
    raw = [START - 2, START + 8 * HOUR + 17, START + 16 * HOUR + 29_999, START + 24 * HOUR - 30_000]
    read_funding = read(written(tmp_path, *(f"{time},8,0.0001" for time in raw)))
    assert read_funding.funding.time.tolist() == [START + 8 * HOUR * n for n in range(4)]
    assert read_funding.funding.raw_time.tolist() == raw
    assert "times are up to 30,000 ms off a whole minute; they were rounded to it" in (
        read_funding.taken.notes
    )


def test_equal_rows_of_one_minute_are_one(tmp_path: Path) -> None:
    path = written(tmp_path, f"{START},8,0.0001", f"{START + 1},8,0.00010", f"{START - 1},8,1e-4")
    assert read(path).funding.time.tolist() == [START]
    other = written(tmp_path, f"{START},8,0.0001", f"{START + 1},8,0.0002")
    message = refusal(other)
    assert "line 3: 2024-01-02T00:00:00Z, to which times are rounded, occurs twice" in message
    interval = written(tmp_path, f"{START},8,0.0001", f"{START + 1},4,0.0001")
    assert "occurs twice, with different values" in refusal(interval)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("{t},8,1", "rate 1.0 is not between -1 and 1"),
        ("{t},8,-1", "rate -1.0 is not between -1 and 1"),
        ("{t},8,42000.5", "rate 42000.5 is not between -1 and 1"),
        ("{t},8,", "rate is missing"),
        ("{t},8,inf", "rate inf is not between -1 and 1"),
        ("{t},8,0.01%", "rate '0.01%' is not a number"),
        ("{t},0,0.0001", "interval 0.0 is no number of hours up to 24"),
        ("{t},28800,0.0001", "interval 28800.0 is no number of hours"),
        ("{t},,0.0001", "interval nan is no number of hours"),
        ("{t},8", "has 2 columns instead of 3"),
        ("soon,8,0.0001", "'soon' is not a time"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, row: str, reason: str) -> None:
    rows = [f"{START + 8 * HOUR * n},8,0.0001" for n in range(3)]
    rows[1] = row.replace("{t}", str(START + 8 * HOUR))
    with pytest.raises(BadRows) as refused:
        read(written(tmp_path, *rows))
    assert "1 bad row, nothing was imported: line 3: " in refused.value.message
    assert reason in refused.value.message


def test_a_mark_is_a_price(tmp_path: Path) -> None:
    header = "fundingTime,fundingRate,markPrice"
    rows = [f"{START + 8 * HOUR * n},0.0001,{mark}" for n, mark in enumerate(["42000", "", "1e-9"])]
    mark = read(written(tmp_path, *rows, header=header)).funding.mark
    assert (mark[0], np.isnan(mark[1]), mark[2]) == (42000.0, True, 1e-9)
    rows[1] = rows[1] + "0"
    assert "line 3: mark 0.0 is no price" in refusal(written(tmp_path, *rows, header=header))


def test_percents_are_no_fractions(tmp_path: Path) -> None:
    """0.01 is the usual rate in percent, and a hundred times the usual rate as a fraction."""
    rows = [f"{START + 8 * HOUR * n},8,0.01" for n in range(5)]
    path = written(tmp_path, *rows)
    assert "if they are percents, divide them by 100" in refusal(path)
    assert read(path, ImportOptions(kind="funding")).funding.rate.tolist() == [0.01] * 5


def test_a_settlement_to_come_is_left_out(tmp_path: Path) -> None:
    path = written(tmp_path, *(f"{START + 8 * HOUR * n},8,0.0001" for n in range(3)))
    content = read(path, now=START + 9 * HOUR)
    assert len(content.funding) == 2
    assert "left out 1 settlements from 2024-01-02T16:00:00Z on" in content.taken.notes[0]
    with pytest.raises(UnreadableFile, match="none of its settlements is over"):
        read(path, now=START - 1)


# Intervals.


def hours(*times: float) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array([START + round(hour * HOUR) for hour in times], dtype=np.int64)


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ((0, 8, 16, 24), (8, 8, 8, 8)),
        # A hole of one settlement is no interval, wherever it is.
        ((0, 8, 16, 32, 40, 48), (8, 8, 8, 8, 8, 8)),
        ((0, 16, 24, 32, 40), (8, 8, 8, 8, 8)),
        ((0, 8, 16, 24, 40), (8, 8, 8, 8, 8)),
        # Shorter at once, longer when it goes on.
        ((0, 8, 16, 24, 28, 32, 36, 40), (8, 8, 8, 4, 4, 4, 4, 4)),
        ((0, 4, 8, 12, 20, 28, 36), (4, 4, 4, 8, 8, 8, 8)),
        ((0, 4, 8, 12, 20, 24, 28, 32), (4, 4, 4, 4, 4, 4, 4, 4)),
        ((0, 1, 2, 3, 4), (1, 1, 1, 1, 1)),
        ((0, 8), (8, 8)),
        ((0, 8, 24), (8, 8, 8)),
        ((0, 0.5, 1, 1.5), (0.5, 0.5, 0.5, 0.5)),
    ],
)
def test_intervals_are_told_from_the_times(
    times: tuple[float, ...], expected: tuple[float, ...]
) -> None:
    told = told_intervals("a.csv", hours(*times))
    assert (told / HOUR).tolist() == list(expected)


@given(st.sampled_from([1, 2, 4, 8]), st.integers(8, 30), st.sets(st.integers(3, 27), max_size=3))
@settings(max_examples=60, deadline=None)
def test_every_missing_settlement_is_in_a_hole(interval: int, count: int, gone: set[int]) -> None:
    """Whatever single rows are missing, the interval stays, and the holes have just these rows."""
    apart = {n for n in gone if not gone & {n - 1, n + 1, n - 2, n + 2} and n < count - 1}
    times = hours(*(n * interval for n in range(count) if n not in apart))
    intervals = told_intervals("a.csv", times)
    assert set((intervals / HOUR).tolist()) == {interval}
    holes = find_holes(times, intervals)
    missing = [
        (time - START) // HOUR // interval
        for start, until in holes
        for time in range(start, until, interval * HOUR)
    ]
    assert missing == sorted(apart)


def test_a_hole_is_more_than_one_and_a_half_intervals() -> None:
    times = hours(0, 8, 16, 28, 40.1)
    assert find_holes(times, np.full(5, 8 * HOUR)) == [(int(times[3]) + 8 * HOUR, int(times[4]))]


def test_what_tells_no_interval_needs_it(tmp_path: Path) -> None:
    header = "fundingTime,fundingRate"
    one = written(tmp_path, f"{START},0.0001", header=header)
    assert "cannot be told from one row; give it with --interval" in refusal(one)
    content = read(one, ImportOptions(interval="8h"))
    assert (content.funding.interval.tolist(), content.taken.interval) == (
        [8 * HOUR], "8h (as given)",
    )  # fmt: skip
    days = written(tmp_path, *(f"{START + 48 * HOUR * n},0.0001" for n in range(3)), header=header)
    assert "more than a day apart" in refusal(days)
    hourly = written(tmp_path, *(f"{START + HOUR * n},0.0001" for n in range(9)), header=header)
    assert "nearer to each other than 8h" in refusal(hourly, ImportOptions(interval="8h"))
    stated = written(tmp_path, f"{START},4,0.0001")
    assert "its column says 4h; leave out --interval" in refusal(
        stated, ImportOptions(interval="8h")
    )


def test_the_intervals_of_a_file_may_change(tmp_path: Path) -> None:
    rows = [f"{START},8,0.0001", f"{START + 8 * HOUR},4,0.0001", f"{START + 12 * HOUR},1,0.0001"]
    content = read(written(tmp_path, *rows))
    assert content.funding.interval.tolist() == [8 * HOUR, 4 * HOUR, HOUR]
    assert (content.taken.interval, content.taken.notes) == ("1h to 8h", ())


def test_a_hole_is_said(tmp_path: Path) -> None:
    rows = [f"{START + 8 * HOUR * n},8,0.0001" for n in (0, 1, 3)]
    assert read(written(tmp_path, *rows)).taken.notes == (
        "1 hole between settlements, such as from 2024-01-02T16:00:00Z until 2024-01-03T00:00:00Z",
    )


# Symbols.


def test_rates_of_several_symbols_are_those_of_each(tmp_path: Path) -> None:
    rows = [
        {"symbol": symbol, "fundingTime": START + 8 * HOUR * n, "fundingRate": f"0.000{n}"}
        for n in range(3)
        for symbol in ("BTCUSDT", "ETHUSDT")
    ]
    path = tmp_path / "all.json"
    path.write_text(json.dumps(rows))
    contents = read_contents(path, time=NOW)
    assert [content.pair.symbol for content in contents] == ["BTCUSDT-PERP", "ETHUSDT-PERP"]
    assert "rows of several symbols" in refusal(path, ImportOptions(symbol="BTCUSDT"))


@pytest.mark.parametrize(
    "rows",
    [
        [{"instId": "BTC-USD-SWAP", "realizedRate": "0.0001", "fundingTime": str(START)}],
        {"result": {"category": "inverse", "list": [
            {"symbol": "BTCUSD", "fundingRate": "0.0001", "fundingRateTimestamp": str(START)}
        ]}},
        [{"symbol": "BTC/USD:BTC", "fundingRate": 0.0001, "timestamp": START}],
        [{"symbol": "BTCUSD_PERP", "fundingRate": "0.0001", "fundingTime": START}],
        [{"symbol": "BTCUSD", "fundingRate": "0.0001", "fundingTime": START}],
    ],
)  # fmt: skip
def test_what_is_margined_in_the_coin_is_refused(tmp_path: Path, rows: object) -> None:
    path = tmp_path / "rates.json"
    path.write_text(json.dumps(rows))
    assert "margin" in refusal(path, ImportOptions(interval="8h"))


def test_a_coin_is_what_the_caller_says(tmp_path: Path) -> None:
    rows = [
        {"coin": "BTC", "fundingRate": "0.00001", "premium": "0", "time": START + n * HOUR}
        for n in range(3)
    ]
    path = tmp_path / "rates.json"
    path.write_text(json.dumps(rows))
    assert read(path).taken.notes == ("the exchange of this layout margins in USDC",)
    given = read(path, ImportOptions(symbol="BTC/USDT:USDT"))
    assert (given.pair.symbol, given.taken.notes) == ("BTCUSDT-PERP", ())
    named = read(path.rename(tmp_path / "BTC-USDT.json"))
    assert named.pair.symbol == "BTCUSDT-PERP"
    assert "says ETHUSDT, but its rows say BTC" in refusal(
        tmp_path / "BTC-USDT.json", ImportOptions(symbol="ETHUSDT")
    )


@pytest.mark.skipif(not FILES.is_dir(), reason="the real candles are not here")
def test_real_settlements() -> None:
    path = FILES / "perpetual/binance_XRPUSDT_funding_20211118_20211218.csv"
    content = read(path)
    assert (content.pair.symbol, len(content.funding)) == ("XRPUSDT-PERP", 91)
    assert (content.funding.time % (8 * HOUR) == 0).all()
    assert int((content.funding.raw_time - content.funding.time).max()) > 0
    assert content.taken.interval == "8h"
