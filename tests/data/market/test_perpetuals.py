"""Perpetuals as a market: candles, mark prices and funding rates, alone and beside a server."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from candlestep.data import load_instruments, load_market, read_candles, read_funding
from candlestep.data.errors import MarketPruned
from candlestep.data.imports.importer import import_file
from candlestep.data.imports.storing.changes import latest_import
from candlestep.data.imports.storing.removal import prune
from candlestep.data.market.candle_cache import CandleCache, CandleRequest
from candlestep.data.records.instruments import instruments_to_copy
from candlestep.data.store.database import Store
from candlestep.sandbox import Candles, FundingRates, Instrument, Market
from tests.support.candle_files import csv_text, rows, write
from tests.support.perpetual_files import HOUR, LAYOUTS, MARKS, RATES, START, TIMES
from tests.support.server_process import RunningServer, running

SYMBOL = "BTCUSDT-PERP"
NAMES = ("archive candles", "freqtrade marks", "Binance REST", "Binance brackets")


def filled_home(directory: Path) -> Path:
    """Return a home with a perpetual, all that it has, and the spot pair of its coin."""
    home = directory / "home"
    with closing(Store.open(home)) as store:
        for name in NAMES:
            import_file(store, LAYOUTS[name].write(directory), LAYOUTS[name].options)
        import_file(store, write(directory / "BTCUSDT-1m.csv", csv_text(rows(60))))
    return home


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return filled_home(tmp_path_factory.mktemp("alone"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running(filled_home(tmp_path_factory.mktemp("served"))) as server:
        yield server


@pytest.fixture(params=["alone", "served"])
def any_home(request: pytest.FixtureRequest, home: Path) -> Path:
    """Return a home without a server, and one with it."""
    if request.param == "alone":
        return home
    served: RunningServer = request.getfixturevalue("server")
    return served.home


def funding_of(market: Market) -> FundingRates:
    funding = market.funding_of(SYMBOL)
    assert funding is not None
    return funding


def marks_of(market: Market) -> Candles:
    marks = market.marks_of(SYMBOL)
    assert marks is not None
    return marks


def test_a_market_has_marks_and_funding(any_home: Path) -> None:
    market = load_market(home=any_home)
    assert market.symbols == ("BTCUSDT", SYMBOL)
    marks, funding = marks_of(market), funding_of(market)
    assert (marks.symbol, marks.close.tolist()) == (SYMBOL, [100.5 + n for n in range(6)])
    assert funding.time.tolist() == TIMES
    assert funding.rate.tolist() == [float(rate) for rate in RATES]
    assert funding.interval.tolist() == [8 * HOUR] * 6
    assert funding.mark.tolist() == MARKS
    assert market.marks_of("BTCUSDT") is market.funding_of("BTCUSDT") is None


def test_both_doors_give_the_same_market(home: Path, server: RunningServer) -> None:
    alone, served = (load_market(SYMBOL, home=one) for one in (home, server.home))
    end = TIMES[-1]
    for of in (marks_of, funding_of):
        assert of(alone).fingerprint(end) == of(served).fingerprint(end) != {}


@pytest.mark.parametrize("symbol", ["BTC/USDT:USDT", "btcusdt-perp", SYMBOL])
def test_a_perpetual_is_loaded_by_any_spelling(any_home: Path, symbol: str) -> None:
    assert load_market(symbol, home=any_home).symbols == (SYMBOL,)


def test_spot_has_neither(any_home: Path) -> None:
    market = load_market("BTCUSDT", home=any_home)
    assert market.symbols == ("BTCUSDT",)


def test_a_part_has_the_marks_and_funding_of_its_time(any_home: Path) -> None:
    """Rates up to the end, which is paid, marks that are complete by then."""
    market = load_market(SYMBOL, home=any_home, start=START + HOUR, end=START + 4 * HOUR)
    assert market.candles_of(SYMBOL).open_time.tolist() == [START + n * HOUR for n in (1, 2, 3)]
    assert marks_of(market).open_time.tolist() == [START + n * HOUR for n in (1, 2, 3)]
    assert market.funding_of(SYMBOL) is None
    whole = load_market(SYMBOL, home=any_home, start=START, end=TIMES[1])
    assert funding_of(whole).time.tolist() == TIMES[:2]


def test_instruments_have_the_tiers(any_home: Path) -> None:
    [spot, perpetual] = load_instruments(home=any_home)
    assert spot == Instrument("BTCUSDT")
    assert (perpetual.symbol, perpetual.kind) == (SYMBOL, "perp")
    assert perpetual.tiers is not None
    assert [int(tier.cum) for tier in perpetual.tiers.rows] == [0, 50, 1300]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store.open(filled_home(tmp_path))) as store:
        yield store


def request_of(store: Store, as_of: int | None = None) -> CandleRequest:
    number = latest_import(store) if as_of is None else as_of
    return CandleRequest("binance", [SYMBOL], number, START, TIMES[-1], look_back=0)


def test_a_session_copies_the_tiers_in_force_at_its_start(store: Store) -> None:
    day = START + 13 * 24 * HOUR
    assert instruments_to_copy(store, "binance", [SYMBOL, "BTCUSDT"], day - 1) == []
    [copied] = instruments_to_copy(store, "binance", [SYMBOL, "BTCUSDT"], day)
    assert Instrument(**copied | {"filters": Instrument(SYMBOL).filters}).tiers is not None


def test_the_market_as_of_an_import_keeps_its_rates(store: Store, tmp_path: Path) -> None:
    cache = CandleCache(store, 1 << 30)
    before = cache.market(request_of(store))
    assert before is not None
    pinned = latest_import(store)
    text = f"calc_time,funding_interval_hours,last_funding_rate\n{TIMES[1]},8,0.5\n"
    import_file(store, write(tmp_path / "BTCUSDT-fundingRate.csv", text))
    after = cache.market(request_of(store))
    assert after is not None
    assert funding_of(after).rate[1] == 0.5
    assert cache.market(request_of(store, pinned)) is before
    again = CandleCache(store, 1 << 30).market(request_of(store, pinned))
    assert again is not None
    assert funding_of(again).fingerprint(TIMES[-1]) == funding_of(before).fingerprint(TIMES[-1])
    prune(store, [])
    with pytest.raises(MarketPruned):
        CandleCache(store, 1 << 30).market(request_of(store, pinned))


def test_marks_count_in_the_budget(store: Store) -> None:
    cache = CandleCache(store, 1 << 30)
    market = cache.market(request_of(store))
    assert market is not None
    assert cache.bytes_in_memory() == 64 * (6 + 6)


def test_a_settlement_at_the_end_is_in_the_market(tmp_path: Path) -> None:
    """The end of a month is the first moment of the next one, and is paid."""
    with closing(Store.open(tmp_path / "home")) as store:
        start = 1_706_659_200_000  # 2024-01-31
        end = start + 24 * HOUR
        text = csv_text(rows(24, start, HOUR))
        import_file(store, write(tmp_path / "BTCUSDT-PERP-1h.csv", text))
        rates = "".join(f"{start + 8 * HOUR * n},8,0.0001\n" for n in range(5))
        import_file(store, write(tmp_path / "BTCUSDT-fundingRate-2024.csv", "calc_time,funding_interval_hours,last_funding_rate\n" + rates))  # fmt: skip
        request = CandleRequest("binance", [SYMBOL], latest_import(store), start, end, 0)
        market = CandleCache(store, 1 << 30).market(request)
        assert market is not None
        assert int(funding_of(market).time[-1]) == end


def test_files_are_read_without_an_import(tmp_path: Path) -> None:
    paths = {name: LAYOUTS[name].write(tmp_path) for name in NAMES}
    candles = read_candles(paths["archive candles"])
    marks = read_candles(paths["freqtrade marks"], kind="mark")
    funding = read_funding(paths["Binance REST"])
    market = Market(candles, marks, funding)
    assert market.symbols == (SYMBOL,)
    assert np.array_equal(funding_of(market).mark, MARKS)
