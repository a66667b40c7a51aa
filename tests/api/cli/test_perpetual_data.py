"""The command line imports, lists, downloads and removes what perpetuals have."""

import json
from pathlib import Path
from typing import Any

import pytest

from candlestep.api.cli.data import DOWNLOADS
from candlestep.data import load_market
from tests.support.archive_server import Archive
from tests.support.command_line import candlestep
from tests.support.perpetual_files import LAYOUTS

MONTH = "2024-01"
NAMES = ("archive candles", "freqtrade marks", "archive funding", "ccxt tiers")
SYMBOL = "BTCUSDT-PERP"


def listed(home: Path) -> list[tuple[str, str, str | None, int]]:
    lines: list[dict[str, Any]] = json.loads(
        candlestep("data", "list", "--json", "--home", home).out
    )
    return [
        (line["symbol"], line.get("kind", "candles"), line["interval"], line["rows"])
        for line in lines
    ]


EVERYTHING = [
    (SYMBOL, "candles", "1h", 6), (SYMBOL, "funding", None, 6),
    (SYMBOL, "mark", "1h", 6), (SYMBOL, "tiers", None, 1),
]  # fmt: skip


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def test_every_kind_is_imported_and_listed(home: Path, tmp_path: Path) -> None:
    files = [LAYOUTS[name].write(tmp_path) for name in NAMES]
    tried = candlestep("data", "import", *files, "--dry-run", "--home", home)
    assert (tried.code, tried.err) == (0, "")
    for line in (
        f"BTC_USDT_USDT-1h-mark.feather: mark prices of {SYMBOL} (perpetual of BTC,",
        f"BTCUSDT-fundingRate-2024-01.zip: funding rates of {SYMBOL} (perpetual of BTC,",
        "  times calc_time: milliseconds; rate last_funding_rate, interval",
        "  times are up to 999 ms off a whole minute; they were rounded to it",
        f"binance_leverage_tiers_2024-01-15.json: margin tiers of {SYMBOL} (perpetual of BTC,",
        "  in force from 2024-01-15T00:00:00Z; 3 tiers, up to 125x",
        "  first 0  0.004 0 125",
        "  last  250000  0.01 1300 50",
    ):
        assert line.removesuffix(", interval") in tried.out
    assert listed(home) == []
    done = candlestep("data", "import", *files, "--home", home)
    assert (done.code, done.err) == (0, "")
    kinds = [" ".join(line.split()[1:3]) for line in done.out.splitlines()[1:5]]
    assert kinds == ["1h 2024-01-02", "mark 1h", "funding 2024-01-02", "tiers 2024-01-15"]
    assert listed(home) == EVERYTHING
    table = candlestep("data", "list", "--home", home).out
    assert "funding" in table
    assert "mark 1h" in table
    shown = json.loads(candlestep("data", "instrument", SYMBOL, "--json", "--home", home).out)
    assert (shown["kind"], len(shown["tiers"])) == ("perp", 3)
    assert "up to 125x" in candlestep("data", "instruments", "--home", home).out


def test_one_kind_is_removed(home: Path, tmp_path: Path) -> None:
    candlestep("data", "import", *(LAYOUTS[n].write(tmp_path) for n in NAMES), "--home", home)
    removed = candlestep(
        "data",
        "remove",
        "BTC/USDT:USDT",
        "--kind",
        "funding",
        "--from",
        "2024-01-03",
        "--home",
        home,
    )
    assert (removed.code, removed.err) == (0, "")
    assert "Sessions that have started keep these funding rates." in removed.out
    assert listed(home) == [(*line[:3], 3) if line[1] == "funding" else line for line in EVERYTHING]
    pruned = candlestep("data", "prune", "--home", home)
    assert pruned.out.startswith("3 superseded")


def test_an_option_names_the_kind_and_the_market(home: Path, tmp_path: Path) -> None:
    path = LAYOUTS["any candles with an option"].write(tmp_path)
    assert candlestep("data", "import", path, "--home", home).code == 0
    assert candlestep("data", "import", path, "--perp", "--home", home).code == 0
    assert [line[0] for line in listed(home)] == ["BTCUSDT", SYMBOL]
    wrong = candlestep("data", "import", path, "--kind", "mark", "--home", home)
    assert (wrong.code, "it has a volume, which mark prices do not have" in wrong.err) == (1, True)
    rates = LAYOUTS["archive funding"].write(tmp_path)
    wrong = candlestep("data", "import", rates, "--kind", "candles", "--home", home)
    assert "--kind says that it has candles, but its name says funding rates" in wrong.err
    assert len(listed(home)) == 2


@pytest.mark.parametrize("spelling", [["BTCUSDT", "--perp"], ["BTC/USDT:USDT"], ["btcusdt-perp"]])
def test_months_of_perpetuals_are_downloaded(
    home: Path, archive_server: Archive, spelling: list[str]
) -> None:
    archive_server.publish_perpetual("BTCUSDT", MONTH)
    where = ["--interval", "1h", "--home", home, "--base-url", archive_server.base_url]
    done = candlestep("data", "download", *spelling, "--from", MONTH, *where)
    assert (done.code, done.err) == (0, "")
    assert listed(home) == EVERYTHING[:3]
    market = load_market(SYMBOL, home=home)
    assert market.marks_of(SYMBOL) is not None
    assert market.funding_of(SYMBOL) is not None
    found = sorted(path.name for path in (home / DOWNLOADS).rglob("*.zip"))
    assert found == ["BTCUSDT-1h-2024-01.zip", "BTCUSDT-1h-2024-01.zip",
                     "BTCUSDT-fundingRate-2024-01.zip"]  # fmt: skip
    fetched = [name for name, _ in archive_server.requests if name.endswith(".zip")]
    assert len(fetched) == 3
    partly = candlestep("data", "download", *spelling, "--from", MONTH, "--to", "2024-02", *where)
    assert partly.code == 1
    assert partly.err.splitlines() == [
        f"candlestep: the archive has no {what} of {SYMBOL} 2024-02"
        for what in ("1h candles", "1h mark prices", "funding rates")
    ]
    (checksum,) = archive_server.directory.rglob("*fundingRate*.CHECKSUM")
    checksum.write_text("0" * 64 + "  x.zip\n")
    wrong = candlestep("data", "download", *spelling, "--from", MONTH, *where)
    assert (wrong.code, "does not have the checksum" in wrong.err) == (1, True)
