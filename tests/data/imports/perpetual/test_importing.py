"""Imports of what perpetuals have besides candles: numbered, superseded, removed and pruned."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from candlestep.data.errors import MixedMarket
from candlestep.data.imports.contents import read_contents
from candlestep.data.imports.importer import ImportSummary, import_file, import_funding
from candlestep.data.imports.perpetual.funding import ReadFunding
from candlestep.data.imports.reading import ImportOptions
from candlestep.data.imports.storing.changes import latest_import
from candlestep.data.imports.storing.removal import prune, remove_candles
from candlestep.data.market.catalogue import Catalogue
from candlestep.data.records.instruments import stored_instruments
from candlestep.data.records.margin_tiers import tiers_in_force
from candlestep.data.store.database import Store
from candlestep.sandbox import NoPrice, SymbolNotFound
from tests.support.candle_files import csv_text, rows, write
from tests.support.perpetual_files import HOUR, LAYOUTS, START, TIMES

NAMES = ("archive candles", "archive marks", "archive funding", "ccxt tiers")
HEADER = "calc_time,funding_interval_hours,last_funding_rate\n"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(tmp_path / "home")
    yield store
    store.close()


def imported(store: Store, directory: Path, name: str) -> ImportSummary:
    layout = LAYOUTS[name]
    [summary] = import_file(store, layout.write(directory), layout.options)
    return summary


def funding(directory: Path, *settlements: tuple[int, str]) -> Path:
    text = "".join(f"{START + 8 * HOUR * n},8,{rate}\n" for n, rate in settlements)
    return write(directory / "BTCUSDT-fundingRate.csv", HEADER + text)


def rates(store: Store, as_of: int) -> list[tuple[int, float]]:
    found = store.rows(
        "SELECT epoch_ms(settled_at), rate FROM funding WHERE import_number <= ?"
        " AND (superseded_by IS NULL OR superseded_by > ?) ORDER BY settled_at",
        as_of,
        as_of,
    )
    return [((time - START) // (8 * HOUR), rate) for time, rate in found]


def test_each_kind_is_a_line_of_the_perpetual(store: Store, tmp_path: Path) -> None:
    summaries = [imported(store, tmp_path, name) for name in NAMES]
    assert [(s.symbol, s.kind, s.interval, s.rows, s.new, s.import_number) for s in summaries] == [
        ("BTCUSDT-PERP", "candles", HOUR, 6, 6, 1),
        ("BTCUSDT-PERP", "mark", HOUR, 6, 6, 2),
        ("BTCUSDT-PERP", "funding", 0, 6, 6, 3),
        ("BTCUSDT-PERP", "tiers", 0, 1, 1, 4),
    ]
    assert (summaries[2].start, summaries[2].end) == (TIMES[0], TIMES[-1])
    again = [imported(store, tmp_path, name) for name in NAMES]
    assert [(s.new, s.replaced, s.import_number) for s in again] == [(0, 0, None)] * 4
    assert [s.unchanged for s in again] == [6, 6, 6, 1]
    catalogue = Catalogue(store)
    assert [(one.symbol, one.kind) for one in catalogue.series()] == [("BTCUSDT-PERP", "candles")]
    assert [(one.symbol, one.kind, one.rows) for one in catalogue.lines()] == [
        ("BTCUSDT-PERP", "candles", 6), ("BTCUSDT-PERP", "funding", 6),
        ("BTCUSDT-PERP", "mark", 6), ("BTCUSDT-PERP", "tiers", 1),
    ]  # fmt: skip
    [listed] = stored_instruments(store)
    assert (listed.instrument.symbol, listed.instrument.kind) == ("BTCUSDT-PERP", "perp")
    assert listed.instrument.tiers is not None


def test_spot_and_perpetual_of_a_coin_are_two_instruments(store: Store, tmp_path: Path) -> None:
    imported(store, tmp_path, "archive candles")
    [spot] = import_file(store, write(tmp_path / "BTCUSDT-1m.csv", csv_text(rows(10))))
    assert (spot.symbol, spot.new) == ("BTCUSDT", 10)
    assert [(one.instrument.symbol, one.instrument.kind) for one in stored_instruments(store)] == [
        ("BTCUSDT", "spot"), ("BTCUSDT-PERP", "perp"),
    ]  # fmt: skip
    assert [one.symbol for one in Catalogue(store).series()] == ["BTCUSDT", "BTCUSDT-PERP"]


def test_a_rate_is_superseded_and_the_market_before_stays(store: Store, tmp_path: Path) -> None:
    import_file(store, funding(tmp_path, (0, "0.0001"), (1, "0.0002")))
    [second] = import_file(store, funding(tmp_path, (1, "0.0003"), (2, "0.0004")))
    assert (second.new, second.replaced, second.unchanged) == (1, 1, 0)
    [third] = import_file(store, funding(tmp_path, (1, "0.0003"), (5, "0.0005")))
    assert (third.new, third.replaced, third.unchanged) == (1, 0, 1)
    assert rates(store, 1) == [(0, 0.0001), (1, 0.0002)]
    assert rates(store, 2) == [(0, 0.0001), (1, 0.0003), (2, 0.0004)]
    assert rates(store, 3) == [(0, 0.0001), (1, 0.0003), (2, 0.0004), (5, 0.0005)]


def test_holes_are_those_of_the_whole_series(store: Store, tmp_path: Path) -> None:
    hole = (START + 16 * HOUR, START + 32 * HOUR)
    [first] = import_file(store, funding(tmp_path, (0, "0"), (1, "0"), (4, "0")))
    assert first.gaps == (hole,)
    [gap] = Catalogue(store).data_range().funding_gaps
    assert (gap.symbol, gap.start, gap.end) == ("BTCUSDT-PERP", *hole)
    assert Catalogue(store).data_range().data_gaps == ()
    [second] = import_file(store, funding(tmp_path, (2, "0"), (3, "0")))
    assert second.gaps == ()
    assert Catalogue(store).data_range().funding_gaps == ()
    assert Catalogue(store).data_range(1).funding_gaps == (gap,)


def test_the_time_that_a_file_states_is_kept(store: Store, tmp_path: Path) -> None:
    imported(store, tmp_path, "archive funding")
    late = store.rows(
        "SELECT epoch_ms(stated_at) - epoch_ms(settled_at) FROM funding ORDER BY settled_at"
    )
    assert [offset for (offset,) in late] == [0, 17, 2, -2, 1, 999]


def test_the_shell_finds_the_current_rates(store: Store, tmp_path: Path) -> None:
    import_file(store, funding(tmp_path, (0, "0.0001")))
    import_file(store, funding(tmp_path, (0, "0.0002")))
    assert store.rows("SELECT symbol, rate, mark, import_number FROM current_funding") == [
        ("BTCUSDT-PERP", 0.0002, None, 2)
    ]


@pytest.mark.parametrize("kind", ["mark", "funding", "tiers"])
def test_a_removal_takes_out_one_kind(store: Store, tmp_path: Path, kind: str) -> None:
    for name in NAMES:
        imported(store, tmp_path, name)
    [removal] = remove_candles(store, "BTC/USDT:USDT", kind=kind)  # type: ignore[arg-type]
    assert (removal.symbol, removal.kind, removal.rows_left) == ("BTCUSDT-PERP", kind, 0)
    assert kind not in {one.kind for one in Catalogue(store).lines()}
    assert len(Catalogue(store).lines()) == 3
    assert len(Catalogue(store).lines(4)) == 4
    with pytest.raises(SymbolNotFound, match="there are no"):
        remove_candles(store, "BTCUSDT-PERP", kind=kind)  # type: ignore[arg-type]


def test_rates_of_a_period_are_removed(store: Store, tmp_path: Path) -> None:
    import_file(store, funding(tmp_path, *((n, "0.0001") for n in range(5))))
    [removal] = remove_candles(
        store, "BTCUSDT-PERP", kind="funding", start=START + 1, end=START + 16 * HOUR + 1
    )
    assert (removal.rows, removal.start, removal.end, removal.rows_left) == (
        2, START + 8 * HOUR, START + 16 * HOUR, 3,
    )  # fmt: skip
    [line] = Catalogue(store).lines()
    assert line.gaps == ((START + 8 * HOUR, START + 24 * HOUR),)
    with pytest.raises(NoPrice, match="no such funding rates"):
        remove_candles(store, "BTCUSDT-PERP", kind="funding", end=START)


def test_pruning_drops_what_no_market_needs(store: Store, tmp_path: Path) -> None:
    import_file(store, funding(tmp_path, (0, "0.0001"), (1, "0.0002")))
    import_file(store, funding(tmp_path, (0, "0.0003")))
    import_file(store, funding(tmp_path, (0, "0.0004")))
    assert prune(store, [1]) == 1
    assert rates(store, 1) == [(0, 0.0001), (1, 0.0002)]
    assert prune(store, []) == 1
    assert rates(store, latest_import(store)) == [(0, 0.0004), (1, 0.0002)]
    pruned = store.rows("SELECT import_number FROM imports WHERE pruned ORDER BY import_number")
    assert pruned == [(1,), (2,)]


def test_tiers_are_dated(store: Store, tmp_path: Path) -> None:
    layout = LAYOUTS["Binance brackets"]
    path = layout.write(tmp_path)
    import_file(store, path, layout.options)
    day = layout.options.day
    assert day is not None
    import_file(store, path, ImportOptions(day=day.replace(year=2025)))
    start = START + 13 * 24 * HOUR
    assert tiers_in_force(store, "binance", time=start - 1) == {}
    assert tiers_in_force(store, "binance", ["BTCUSDT"]) == {}
    assert len(tiers_in_force(store, "binance", time=start)["BTCUSDT-PERP"].rows) == 3
    [line] = Catalogue(store).lines()
    assert (line.rows, line.start, line.end) == (2, start, start + 366 * 24 * HOUR)


def test_other_tiers_of_a_day_supersede_those_before(store: Store, tmp_path: Path) -> None:
    day = ImportOptions(day=LAYOUTS["Binance brackets"].options.day)
    for leverage in (100, 50):
        text = (
            f'{{"BTC/USDT:USDT": [{{"minNotional": 0, "maintenanceMarginRate": 0.004,'
            f' "maxLeverage": {leverage}}}]}}'
        )
        [summary] = import_file(store, write(tmp_path / "tiers.json", text), day)
    assert (summary.new, summary.replaced) == (0, 1)
    found = [tiers_in_force(store, "binance", as_of=n)["BTCUSDT-PERP"] for n in (1, 2)]
    assert [int(tiers.max_leverage) for tiers in found] == [100, 50]


def test_synthetic_rows_of_a_perpetual_are_not_mixed_with_real_ones(
    store: Store, tmp_path: Path
) -> None:
    imported(store, tmp_path, "archive marks")
    [read] = read_contents(LAYOUTS["archive funding"].write(tmp_path))
    assert isinstance(read, ReadFunding)
    with pytest.raises(MixedMarket):
        import_funding(store, read.funding, read.pair, source="sample", synthetic=True)
