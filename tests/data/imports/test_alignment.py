"""Candles that open at other times than UTC periods do, as markets with opening hours have them."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from pathlib import Path

import pytest

from candlestep.data.errors import UnreadableFile
from candlestep.data.imports.contents import read_series
from candlestep.data.imports.importer import import_file
from candlestep.data.imports.reading import ImportOptions
from candlestep.data.market.candle_cache import CandleCache, CandleRequest
from candlestep.data.store.database import Store
from candlestep.sandbox import INTERVALS, parse_time
from candlestep.sandbox.clock import DAY, HOUR, WEEK

NOW = 1_795_867_200_000
"""2026-11-28, in milliseconds: the time at which files are read."""
WINTER, SUMMER = (timezone(timedelta(hours=hours)) for hours in (-5, -4))
"""New York, before and from Sunday 10 March 2024 on."""


def new_york(year: int, month: int, day: int, hour: int = 0, minute: int = 0) -> datetime:
    is_summer = (month, day) >= (3, 10)
    return datetime(year, month, day, hour, minute, tzinfo=SUMMER if is_summer else WINTER)


def written(path: Path, times: Sequence[datetime]) -> Path:
    rows = [f"{time},{100 + n},{101 + n},{99 + n},{100 + n},5" for n, time in enumerate(times)]
    path.write_text("\n".join(["Datetime,Open,High,Low,Close,Volume", *rows]) + "\n")
    return path


def opens(path: Path, **options: object) -> list[str]:
    """Return the open times of the only series in a file, as dates, hours and minutes of UTC."""
    (series,) = read_series(path, ImportOptions(symbol="AAPL/USD", **options), time=NOW)  # type: ignore[arg-type]
    return [
        f"{datetime.fromtimestamp(time / 1000, UTC):%m-%d %H:%M}"
        for time in series.candles.open_time.tolist()
    ]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(tmp_path / "home")
    yield store
    store.close()


def test_hours_from_half_past_nine_and_the_change_of_the_clocks(tmp_path: Path) -> None:
    """As yfinance writes them: Friday in winter, Monday in summer."""
    times = [new_york(2024, 3, day, hour, 30) for day in (8, 11) for hour in (9, 10, 11)]
    assert opens(written(tmp_path / "AAPL.csv", times)) == [
        "03-08 14:30", "03-08 15:30", "03-08 16:30", "03-11 13:30", "03-11 14:30", "03-11 15:30",
    ]  # fmt: skip


DAYS_OF_MARCH = [new_york(2024, 3, day) for day in (6, 7, 8, 11, 12, 13)]


def test_days_that_are_dated_by_the_session(tmp_path: Path) -> None:
    path = written(tmp_path / "AAPL.csv", DAYS_OF_MARCH)
    assert opens(path) == [
        "03-06 05:00", "03-07 05:00", "03-08 05:00", "03-11 04:00", "03-12 04:00", "03-13 04:00",
    ]  # fmt: skip
    assert opens(path, as_dates=True) == [
        "03-06 00:00", "03-07 00:00", "03-08 00:00", "03-11 00:00", "03-12 00:00", "03-13 00:00",
    ]  # fmt: skip


def test_days_as_dates_are_known_later_than_they_were_and_it_is_said(tmp_path: Path) -> None:
    path = written(tmp_path / "AAPL.csv", DAYS_OF_MARCH)
    (series,) = read_series(path, ImportOptions(symbol="AAPL/USD", as_dates=True), time=NOW)
    (note,) = series.taken.notes
    assert "up to 5 hours after midnight UTC" in note
    closes = [new_york(2024, 3, time.day, 16) for time in DAYS_OF_MARCH]
    for open_time, close in zip(series.candles.open_time.tolist(), closes, strict=True):
        assert open_time + DAY > close.timestamp() * 1000


def days(hour: int, count: int = 5, zone: tzinfo = UTC) -> list[datetime]:
    """Return days from Monday 4 March 2024 on that begin at ``hour``."""
    first = datetime(2024, 3, 4, hour, tzinfo=zone)
    return [first + timedelta(days=n) for n in range(count)]


@pytest.mark.parametrize(
    ("times", "reason"),
    [
        (days(16), r"2024-03-04T16:00:00Z begins too late"),
        (days(0, zone=timezone(timedelta(hours=8))), r"2024-03-03T16:00:00Z begins too late"),
        (days(0, zone=timezone(timedelta(hours=-10))), r"2024-03-04T10:00:00Z begins too late"),
        (days(5, count=7), "all seven days of the week"),
    ],
)
def test_days_that_would_show_the_future_are_no_dates(
    tmp_path: Path, times: list[datetime], reason: str
) -> None:
    path = written(tmp_path / "AAPL.csv", times)
    with pytest.raises(UnreadableFile, match=f"known before they are over: .*{reason}"):
        opens(path, as_dates=True)
    assert len(opens(path)) == len(times)


def test_only_days_are_dates(tmp_path: Path) -> None:
    hours = [datetime(2024, 3, 4, hour, tzinfo=UTC) for hour in range(5)]
    with pytest.raises(UnreadableFile, match="only daily candles"):
        opens(written(tmp_path / "AAPL.csv", hours), interval="1h", as_dates=True)
    with pytest.raises(UnreadableFile, match="1 hour apart"):
        opens(written(tmp_path / "AAPL.csv", hours), as_dates=True)
    whole = days(0, count=7)
    assert opens(written(tmp_path / "AAPL.csv", whole), as_dates=True)[0] == "03-04 00:00"


@pytest.mark.parametrize("weekday", [4, 6])
def test_weeks_begin_on_the_day_on_which_they_do(tmp_path: Path, weekday: int) -> None:
    """4 March 2024 is a Monday."""
    times = [datetime(2024, 3, weekday, tzinfo=UTC) + timedelta(weeks=n) for n in range(5)]
    path = written(tmp_path / "AAPL.csv", times)
    (series,) = read_series(path, ImportOptions(symbol="AAPL/USD"), time=NOW)
    assert series.interval == WEEK
    assert opens(path)[:2] == [f"03-{weekday:02} 00:00", f"03-{weekday + 7:02} 00:00"]


def test_two_sessions_a_day_have_two_phases(tmp_path: Path) -> None:
    """Hong Kong: from 09:30 to 12:00 and from 13:00 to 16:00."""
    zone = timezone(timedelta(hours=8))
    clock = ((9, 30), (10, 30), (13, 0), (14, 0), (15, 0))
    times = [datetime(2024, 3, day, *at, tzinfo=zone) for day in (4, 5, 6) for at in clock]
    assert opens(written(tmp_path / "X.csv", times))[:4] == [
        "03-04 01:30", "03-04 02:30", "03-04 05:00", "03-04 06:00",
    ]  # fmt: skip


def test_a_row_at_a_minute_of_its_own_is_no_candle(tmp_path: Path) -> None:
    times = [datetime(2024, 3, 4, tzinfo=UTC) + timedelta(hours=n) for n in range(200)]
    times[100] += timedelta(minutes=7)
    del times[101]
    with pytest.raises(UnreadableFile, match=r"1 open at other minutes .*2024-03-08T04:07:00Z"):
        opens(written(tmp_path / "AAPL.csv", times), interval="1h")
    irregular = [times[0] + timedelta(minutes=m) for m in (0, 60, 121, 197, 260, 333, 405, 480)]
    with pytest.raises(UnreadableFile, match="open at other minutes"):
        opens(written(tmp_path / "AAPL.csv", irregular), interval="1h")


@pytest.mark.parametrize("interval", ["15m", "1h", "1d"])
def test_candles_of_one_file_do_not_overlap(tmp_path: Path, interval: str) -> None:
    length = timedelta(milliseconds=INTERVALS[interval])
    times = [datetime(2024, 3, 4, tzinfo=UTC) + n * length for n in range(6)]
    times[3:] = [time - length / 5 for time in times[3:]]
    with pytest.raises(UnreadableFile, match=r"1 candles overlap: 2024-03-0\S+Z is only"):
        opens(written(tmp_path / "AAPL.csv", times), interval=interval)


def test_candles_do_not_overlap_those_that_are_there(store: Store, tmp_path: Path) -> None:
    hours = [datetime(2024, 3, 4, hour, tzinfo=UTC) for hour in range(5)]
    options = ImportOptions(symbol="AAPL/USD")
    import_file(store, written(tmp_path / "a.csv", hours), options)
    half_past = [time + timedelta(minutes=30) for time in hours]
    with pytest.raises(
        UnreadableFile, match=r"b\.csv: 9 of its candles overlap 1h candles .*remove"
    ):
        import_file(store, written(tmp_path / "b.csv", half_past), options)
    later = [time + timedelta(days=1) for time in half_past]
    (summary,) = import_file(store, written(tmp_path / "c.csv", later), options)
    assert (summary.new, len(summary.gaps)) == (5, 1)
    midnight = parse_time("2024-03-04")
    request = CandleRequest("binance", ["AAPLUSD"], 99, midnight, midnight + 2 * DAY)
    candles = CandleCache(store, 10**9).candles(request)["AAPLUSD"]
    opened = (candles.open_time - midnight).tolist()
    assert opened == [n * HOUR for n in range(5)] + [DAY + n * HOUR + HOUR // 2 for n in range(5)]
