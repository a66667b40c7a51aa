"""Margin tiers of a file: in force from a day, and refused where they contradict each other."""

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from candlestep.data.errors import UnreadableFile
from candlestep.data.imports.contents import read_contents
from candlestep.data.imports.perpetual.tiers import ReadTiers
from candlestep.data.imports.reading import NO_OPTIONS, ImportOptions
from candlestep.sandbox import format_time
from tests.support.real_candles import FILES

DAY = ImportOptions(day=date(2024, 10, 1))


def read(path: Path, options: ImportOptions = NO_OPTIONS) -> list[ReadTiers]:
    contents = read_contents(path, options)
    assert all(isinstance(content, ReadTiers) for content in contents)
    return [content for content in contents if isinstance(content, ReadTiers)]


def tier(
    floor: str, mmr: str, leverage: str, cum: str | None = None, **more: Any
) -> dict[str, Any]:
    record = {"minNotional": floor, "maintenanceMarginRate": mmr, "maxLeverage": leverage}
    return record | ({} if cum is None else {"info": {"cum": cum}}) | more


GOOD = [tier("0", "0.004", "125", "0"), tier("50000", "0.005", "100", "50")]


def written(tmp_path: Path, document: object, name: str = "tiers.json") -> Path:
    path = tmp_path / name
    path.write_text(json.dumps(document))
    return path


def test_cum_is_computed_where_it_is_missing(tmp_path: Path) -> None:
    """50,000 x (0.005 - 0.004) = 50; 50 + 250,000 x (0.01 - 0.005) = 1,300."""
    records = [
        tier("250000", "0.01", "50"),
        tier("0", "0.004", "125"),
        tier("50000", "0.005", "100"),
    ]
    [content] = read(written(tmp_path, {"BTC/USDT:USDT": records}), DAY)
    assert [(int(t.floor), int(t.cum)) for t in content.tiers.rows] == [
        (0, 0),
        (50_000, 50),
        (250_000, 1300),
    ]
    assert content.taken.prices == "3 tiers, up to 125x"


@pytest.mark.parametrize(
    ("records", "reason"),
    [
        ([tier("5", "0.004", "125")], "tier 1: BTCUSDT-PERP: floor: must be 0"),
        ([GOOD[0], tier("0", "0.005", "100")], "tier 2: BTCUSDT-PERP: floor: must be above"),
        ([GOOD[0], tier("50000", "0.004", "100")], "mmr: must be above that of the tier before"),
        ([tier("50000", "0.003", "100"), GOOD[0]], "tier 1: BTCUSDT-PERP: mmr: must be above"),
        ([tier("0", "0", "125")], "mmr: must be a fraction above 0"),
        ([tier("0", "1", "1")], "mmr: must be a fraction above 0 and below 1"),
        ([tier("0", "0.01", "100")], "times the mmr 0.01 must be below 1"),
        ([GOOD[0], tier("50000", "0.005", "126")], "max_leverage: must not be above"),
        ([tier("0", "0.004", "0")], "max_leverage: "),
        ([GOOD[0], tier("50000", "0.005", "100", "51")], "cum: must be 50"),
        ([tier("0", "0.004", "125", "1")], "cum: must be 0"),
        ([tier("0", "0.4%", "125")], "mmr: "),
        ([tier("0", "nan", "125")], "mmr: "),
        ([tier("-1", "0.004", "125")], "floor: "),
        ([GOOD[0] | {"maxNotional": "40000"}, GOOD[1]], "it ends at 40000, and the next begins at 50000"),
        ([GOOD[0], {"maintenanceMarginRate": "0.005", "maxLeverage": "100"}], "floor: is missing"),
        ([GOOD[0], "tier"], "must be an object"),
    ],
)  # fmt: skip
def test_tiers_that_contradict_each_other_are_refused_by_row(
    tmp_path: Path, records: list[Any], reason: str
) -> None:
    with pytest.raises(UnreadableFile) as refused:
        read(written(tmp_path, {"BTC/USDT:USDT": records}), DAY)
    assert reason in refused.value.message


@pytest.mark.parametrize(
    ("name", "day"),
    [
        ("tiers_2026-09.json", "2026-09-01"),
        ("tiers_2026-09-15.json", "2026-09-15"),
        ("tiers-20260915.json", "2026-09-15"),
        ("tiers_202609.json", "2026-09-01"),
    ],
)
def test_the_day_is_told_by_the_name_or_given(tmp_path: Path, name: str, day: str) -> None:
    path = written(tmp_path, {"BTC/USDT:USDT": GOOD}, name)
    [content] = read(path)
    assert format_time(content.start) == f"{day}T00:00:00Z"
    [content] = read(path, DAY)
    assert format_time(content.start) == "2024-10-01T00:00:00Z"


def test_no_day_is_refused(tmp_path: Path) -> None:
    for name in ("tiers.json", "tiers-2026-02-31.json"):
        with pytest.raises(UnreadableFile, match="give it with --date"):
            read(written(tmp_path, {"BTC/USDT:USDT": GOOD}, name))


def test_symbols_are_chosen_and_others_left_out(tmp_path: Path) -> None:
    document = {"BTC/USDT:USDT": GOOD, "ETH/USDT:USDT": GOOD, "BTC/USD:BTC": GOOD}
    path = written(tmp_path, document)
    contents = read(path, DAY)
    assert [content.pair.symbol for content in contents] == ["BTCUSDT-PERP", "ETHUSDT-PERP"]
    assert contents[0].taken.notes == ("left out 1 other contracts, such as BTC/USD:BTC",)
    for symbol in ("ETHUSDT", "ETH/USDT:USDT", "ETHUSDT-PERP"):
        [content] = read(path, ImportOptions(symbol=symbol, day=DAY.day))
        assert content.pair.symbol == "ETHUSDT-PERP"
    with pytest.raises(UnreadableFile, match="it has no margin tiers of SOLUSDT"):
        read(path, ImportOptions(symbol="SOLUSDT", day=DAY.day))


@pytest.mark.skipif(not FILES.is_dir(), reason="the real candles are not here")
def test_real_tiers() -> None:
    contents = read(FILES / "perpetual/binance_leverage_tiers_2026-09.json")
    assert len(contents) == 5
    [bitcoin] = [content for content in contents if content.pair.base == "BTC"]
    assert format_time(bitcoin.start) == "2026-09-01T00:00:00Z"
    assert [int(tier.cum) for tier in bitcoin.tiers.rows[:4]] == [0, 300, 1500, 12000]
