"""Times whose zone the file does not name, but its source is known to write."""

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from candlestep.data import load_market
from candlestep.data.imports.contents import read_series
from candlestep.data.imports.importer import import_file
from candlestep.data.imports.reading import NO_OPTIONS, ImportOptions
from candlestep.data.imports.series import ReadSeries
from candlestep.data.store.database import Store
from candlestep.sandbox import Session, SessionConfig, format_time, parse_time
from candlestep.sandbox.clock import HOUR, MINUTE

NOW = 1_795_867_200_000
"""2026-11-28."""
COMPACT = [f"20240102 00{n:02}00;1.1;1.2;1.0;1.1;0" for n in range(3)]
POINTS = [f"2024.01.02,00:{n:02},1.1,1.2,1.0,1.1,0" for n in range(3)]
WITH_HEADER = "time;open;high;low;close;volume"
JANUARY_2 = parse_time("2024-01-02")


def read(path: Path, options: ImportOptions = NO_OPTIONS) -> list[ReadSeries]:
    return read_series(path, options, time=NOW)


def written(tmp_path: Path, rows: Sequence[str], header: str, name: str) -> Path:
    path = tmp_path / name
    path.write_text("\n".join([*([header] if header else []), *rows]) + "\n")
    return path


@pytest.mark.parametrize(
    ("name", "header", "minutes", "hours"),
    [
        ("DAT_ASCII_EURUSD_M1_2024.csv", "", COMPACT, 5),
        ("EURUSD.csv", "", COMPACT, 5),
        ("DAT_MT_EURUSD_M1_2024.csv", "", POINTS, 5),
        ("DAT_ASCII_EURUSD_M1_2024.csv", WITH_HEADER, COMPACT, 5),
        ("EURUSD.csv", WITH_HEADER, COMPACT, 0),
        (
            "DAT_ASCII_EURUSD_M1_2024.csv",
            WITH_HEADER,
            [m.replace("00;", "00Z;", 1) for m in COMPACT],
            0,
        ),
        ("EURUSD1.csv", "", POINTS, 0),
    ],
)
def test_histdata_is_of_the_east_of_america_all_year(
    tmp_path: Path, name: str, header: str, minutes: list[str], hours: int
) -> None:
    """Taken for UTC, its candles would be known five hours before they were."""
    (series,) = read(written(tmp_path, minutes, header, name), ImportOptions(interval="1m"))
    assert series.candles.open_time[0] == JANUARY_2 + hours * HOUR
    is_said = any("HistData writes times of UTC-5" in note for note in series.taken.notes)
    assert is_said == ("UTC-5, moved to UTC" in series.taken.times) == bool(hours)


def test_a_format_without_a_zone_leaves_histdata_in_its_own(tmp_path: Path) -> None:
    path = written(tmp_path, COMPACT, "", "DAT_ASCII_EURUSD_M1_2024.csv")
    (series,) = read(path, ImportOptions(time_format="%Y%m%d %H%M%S"))
    assert series.candles.open_time[0] == JANUARY_2 + 5 * HOUR
    assert series.taken.times.endswith("format %Y%m%d %H%M%S, UTC-5, moved to UTC")


@pytest.mark.parametrize("header", ["", "<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<TICKVOL>"])
def test_the_unknown_zone_of_metatrader_is_said(tmp_path: Path, header: str) -> None:
    (series,) = read(written(tmp_path, POINTS, header, "EURUSD_M1.csv"))
    assert series.candles.open_time[0] == JANUARY_2
    assert "the broker's server, whose zone the file does not name" in series.taken.notes[0]
    assert "the broker's zone, taken for UTC" in series.taken.times


def test_no_candle_of_histdata_is_seen_before_one_of_utc(tmp_path: Path) -> None:
    """Both markets jump at 12:00 UTC: 07:00 by the clock of HistData."""
    noon = JANUARY_2 + 12 * HOUR
    minutes = [
        (time, 1.1 if time < noon else 2.2) for time in range(noon - HOUR, noon + HOUR, MINUTE)
    ]
    of_utc = [f"{time},{p},{p},{p},{p},5" for time, p in minutes]
    of_histdata = [
        f"{datetime.fromtimestamp(time / 1000 - 5 * 3600, UTC):%Y%m%d %H%M%S};{p};{p};{p};{p};0"
        for time, p in minutes
    ]
    store = Store.open(tmp_path / "home")
    import_file(store, written(tmp_path, of_utc, "time,open,high,low,close,volume", "GBPUSD.csv"))
    import_file(store, written(tmp_path, of_histdata, "", "DAT_ASCII_EURUSD_M1_2024.csv"))
    store.close()
    config = SessionConfig(start_time=noon - HOUR, end_time=noon + HOUR, candle_interval="1m")
    market = load_market(["EURUSD", "GBPUSD"], home=tmp_path / "home")
    session = Session(config, market)
    assert session.warnings == ()
    while session.status == "running":
        prices = session.step().prices
        assert prices["EURUSD"] == prices["GBPUSD"], format_time(session.time)
    assert prices["EURUSD"] == Decimal("2.2")
