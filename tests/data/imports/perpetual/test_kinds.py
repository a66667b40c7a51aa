"""Each layout of perpetuals is read as what it is, and as nothing else, whatever a caller says."""

from pathlib import Path

import numpy as np
import pytest
from msgspec import structs

from candlestep.data.errors import UnreadableFile
from candlestep.data.imports.contents import Content, read_contents
from candlestep.data.imports.kinds import KIND_WORDS, Kind
from candlestep.data.imports.perpetual.funding import ReadFunding
from candlestep.data.imports.perpetual.tiers import ReadTiers
from candlestep.data.imports.reading import NO_OPTIONS, ImportOptions
from candlestep.data.imports.series import ReadSeries
from candlestep.sandbox import InvalidSymbol
from tests.support.candle_files import write
from tests.support.perpetual_files import HOUR, LAYOUTS, MARKS, RATES, START, TIMES

NOW = 1_795_867_200_000
"""2026-11-28."""
OTHERS = [(name, kind) for name in LAYOUTS for kind in KIND_WORDS if kind != LAYOUTS[name].kind]


def read(path: Path, options: ImportOptions = NO_OPTIONS) -> list[Content]:
    return read_contents(path, options, time=NOW)


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_is_what_it_is(tmp_path: Path, name: str) -> None:
    layout = LAYOUTS[name]
    [content] = read(layout.write(tmp_path), layout.options)
    assert content.pair.symbol == layout.symbol
    assert content.taken.kind == layout.kind
    assert content.taken.symbol.startswith(f"{layout.symbol} (perpetual of BTC, margined in USD")
    match content:
        case ReadSeries():
            assert (content.kind, content.interval) == (layout.kind, HOUR)
            assert content.candles.open_time.tolist() == [START + n * HOUR for n in range(6)]
            assert content.candles.close.tolist() == [100.5 + n for n in range(6)]
            volume = 5.0 if layout.kind == "candles" else 0.0
            assert content.candles.volume.tolist() == [volume] * 6
        case ReadFunding():
            funding = content.funding
            assert funding.time.tolist() == TIMES
            assert funding.rate.tolist() == [float(rate) for rate in RATES]
            assert funding.interval.tolist() == [8 * HOUR] * len(TIMES)
            marks = MARKS if layout.has_marks else [None] * len(TIMES)
            assert [None if np.isnan(mark) else mark for mark in funding.mark.tolist()] == marks
        case ReadTiers():
            assert content.start == START + 13 * 24 * HOUR
            shown = [
                (int(t.floor), str(t.mmr), int(t.cum), int(t.max_leverage))
                for t in content.tiers.rows
            ]
            assert shown == [
                (0, "0.004", 0, 125), (50_000, "0.005", 50, 100), (250_000, "0.01", 1300, 50),
            ]  # fmt: skip


@pytest.mark.parametrize("name", LAYOUTS)
def test_naming_the_kind_changes_nothing(tmp_path: Path, name: str) -> None:
    layout = LAYOUTS[name]
    [content] = read(
        layout.write(tmp_path), structs.replace(layout.options, kind=layout.kind, is_perp=True)
    )
    assert content.pair.symbol == layout.symbol


@pytest.mark.parametrize(("name", "kind"), OTHERS)
def test_a_layout_is_refused_as_another_kind(tmp_path: Path, name: str, kind: Kind) -> None:
    layout = LAYOUTS[name]
    path = layout.write(tmp_path)
    with pytest.raises(UnreadableFile):
        read(path, structs.replace(layout.options, kind=kind))


@pytest.mark.parametrize("name", [name for name in LAYOUTS if LAYOUTS[name].kind != "candles"])
def test_a_file_under_another_name_is_nothing_else(tmp_path: Path, name: str) -> None:
    """Where only its name told what it was, its rows are refused as candles."""
    layout = LAYOUTS[name]
    path = layout.write(tmp_path)
    renamed = path.rename(tmp_path / f"BTCUSDT{path.suffix}")
    for options in (NO_OPTIONS, ImportOptions(is_perp=True), ImportOptions(kind="candles")):
        try:
            contents = read(renamed, structs.replace(options, day=layout.options.day))
        except UnreadableFile:
            continue
        told = {content.taken.kind for content in contents}
        # Prices without a volume are all that these have, so nothing else says that they are marks.
        is_mute = name == "freqtrade marks" and options != ImportOptions(is_perp=True)
        assert told == {"candles" if is_mute else layout.kind}


REFUSED = [
    "BTCUSDT_250328-1h.csv", "BTC-28MAR25-1h.csv", "BTCUSDT250328-1h.csv", "CME_BTC1!, 60.csv",
    "BTCUSD_PERP-1h.csv", "BTC-USD-SWAP-1h.csv", "BTCUSDT-premiumIndex-1h.csv",
    "indexPriceKlines/BTCUSDT-1h.csv", "premiumIndexKlines/BTCUSDT-1h.csv",
    "futures/cm/daily/klines/BTCUSD_PERP/1h/BTCUSD_PERP-1h-2024-01-02.csv",
    "coin-m BTCUSDT.csv", "BTCUSDT inverse 1h.csv",
]  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_imported_is_refused_by_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    LAYOUTS["any candles with an option"].content(path)
    for options in (
        NO_OPTIONS, ImportOptions(symbol="BTCUSDT"), ImportOptions(is_perp=True),
        ImportOptions(kind="mark"),
    ):  # fmt: skip
        with pytest.raises(UnreadableFile, match="margined in the currency of their prices"):
            read(path, options)


@pytest.mark.parametrize("symbol", ["BTC/USD:BTC", "BTCUSDT_250328", "BTCUSD-PERP", "BTC/USDT:BTC"])
def test_no_option_makes_another_contract_a_perpetual(tmp_path: Path, symbol: str) -> None:
    path = LAYOUTS["any candles with an option"].write(tmp_path)
    with pytest.raises((UnreadableFile, InvalidSymbol)):
        read(path, ImportOptions(symbol=symbol))


@pytest.mark.parametrize(
    "symbol", ["BTC/USDT:USDT", "BTCUSDT-PERP", "btcusdt-perp", "BTC-USDT-SWAP", "BTCUSDT.P"]
)
def test_a_perpetual_has_many_spellings(tmp_path: Path, symbol: str) -> None:
    path = tmp_path / "candles.csv"
    LAYOUTS["any candles with an option"].content(path)
    [content] = read(path, ImportOptions(symbol=symbol))
    assert content.pair == ("BTCUSDT-PERP", "BTC", "USDT")


@pytest.mark.parametrize(
    "name",
    [
        "BTCUSDT_PERP-1h.csv", "BTCUSDT-PERP.csv", "BTC_USDT_USDT-1h-futures.csv", "BTCUSDTPERP-1h.csv",
        "BTC-USDT-SWAP.csv", "BTCUSDT.P, 60.csv", "swap BTCUSDT.csv",
        "futures/um/daily/klines/BTCUSDT/1m/BTCUSDT-1h-2024-01-15.csv",
    ],
)  # fmt: skip
def test_a_name_or_a_folder_that_speaks_of_a_perpetual(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    LAYOUTS["any candles with an option"].content(path)
    for options in (NO_OPTIONS, ImportOptions(symbol="BTCUSDT")):
        [content] = read(path, options)
        assert content.pair.symbol == "BTCUSDT-PERP"


def test_futures_may_expire_and_need_an_option(tmp_path: Path) -> None:
    path = tmp_path / "futures_BTCUSDT_1h.csv"
    LAYOUTS["any candles with an option"].content(path)
    with pytest.raises(UnreadableFile, match="says that it has futures; give --perp"):
        read(path)
    [content] = read(path, ImportOptions(is_perp=True))
    assert content.pair.symbol == "BTCUSDT-PERP"


def test_a_perpetual_in_usd_is_taken_only_as_given(tmp_path: Path) -> None:
    path = tmp_path / "BTCUSD-1h.csv"
    LAYOUTS["any candles with an option"].content(path)
    with pytest.raises(UnreadableFile, match="many exchanges margin in the coin"):
        read(path, ImportOptions(is_perp=True))
    [content] = read(path, ImportOptions(is_perp=True, symbol="BTC/USD"))
    assert content.pair.symbol == "BTCUSD-PERP"


def test_spot_and_perpetuals_are_not_in_one_file(tmp_path: Path) -> None:
    rows = "".join(
        f"{START + n * HOUR},{symbol},1,1,1,1,1\n"
        for symbol in ("BTCUSDT", "BTC/USDT:USDT")
        for n in range(3)
    )
    path = write(tmp_path / "both.csv", "time,symbol,open,high,low,close,volume\n" + rows)
    with pytest.raises(UnreadableFile, match="import them from a file each"):
        read(path)


def test_marks_are_no_candles_of_a_perpetual(tmp_path: Path) -> None:
    """The rows of the archive's mark prices, under a name that says nothing."""
    marks, candles = LAYOUTS["archive marks"], LAYOUTS["archive candles"]
    path = tmp_path / "BTCUSDT-1h-2024-01.csv"
    marks.content(path)
    for options in (NO_OPTIONS, ImportOptions(kind="candles"), ImportOptions(no_volume=True)):
        with pytest.raises(UnreadableFile, match="no volume in any row, as mark and index prices"):
            read(path, options)
    candles.content(path)
    with pytest.raises(UnreadableFile, match="it has a volume, which mark prices do not have"):
        read(path, ImportOptions(kind="mark"))


def test_prices_of_a_perpetual_without_a_volume_are_told_by_the_caller(tmp_path: Path) -> None:
    rows = "".join(f"{START + n * HOUR},1,1,1,1\n" for n in range(3))
    path = write(tmp_path / "BTCUSDT-PERP-1h.csv", "time,open,high,low,close\n" + rows)
    with pytest.raises(UnreadableFile, match="give --kind mark if they are mark prices"):
        read(path)
    for kind in ("candles", "mark"):
        [content] = read(path, ImportOptions(kind=kind))
        assert content.taken.kind == kind


def test_candles_with_a_column_of_funding_rates_are_no_settlements(tmp_path: Path) -> None:
    rows = "".join(f"{START + n * HOUR},1,1,1,1,1,0.0001\n" for n in range(3))
    header = "time,open,high,low,close,volume,funding_rate\n"
    path = write(tmp_path / "BTCUSDT-PERP-1h.csv", header + rows)
    with pytest.raises(UnreadableFile, match="both prices and funding rates"):
        read(path)
    with pytest.raises(UnreadableFile, match="rows are candles and not settlements"):
        read(path, ImportOptions(kind="funding"))
    [content] = read(path, ImportOptions(kind="candles"))
    assert isinstance(content, ReadSeries)
