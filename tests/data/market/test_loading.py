"""The candles of a home and of files in this process, with a server on the home and without."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from decimal import Decimal
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from candlestep.data import load_instruments, load_market, read_candles
from candlestep.data.errors import BadRows, StorageUnavailable, StoreLocked, UnreadableFile
from candlestep.data.imports.importer import import_file
from candlestep.data.market.mapped_candles import open_mapped
from candlestep.data.market.parts import Part
from candlestep.data.records.instruments import InstrumentChange, change_instrument
from candlestep.data.store.database import FILE_NAME, Store
from candlestep.data.store.server_file import SERVER_FILE
from candlestep.sandbox import (
    Candles,
    InvalidParameter,
    InvalidSymbol,
    Market,
    NoPrice,
    Session,
    SessionConfig,
    SymbolNotFound,
)
from candlestep.sandbox.clock import DAY, HOUR, MINUTE
from tests.support.candle_files import START, csv_text, rows, write
from tests.support.patience import PATIENCE
from tests.support.project import ROOT
from tests.support.server_process import RunningServer, running

COUNT = 3000
END = START + COUNT * MINUTE


def filled_home(directory: Path) -> Path:
    """Return a home with minutes of two symbols, hours of one, and another exchange."""
    home = directory / "home"
    store = Store.open(home)
    for name, text in {
        "BTCUSDT-1m.csv": csv_text(rows(COUNT)),
        "ETHUSDT-1m.csv": csv_text(rows(COUNT, price=20.0)),
        "ETHUSDT-1h.csv": csv_text(rows(100, interval=HOUR, price=20.0)),
    }.items():
        import_file(store, write(directory / name, text))
    import_file(store, write(directory / "XBTEUR-1m.csv", csv_text(rows(10))), exchange="kraken")
    change = InstrumentChange(volume_usable=False, filters={"tick_size": "0.5"})
    change_instrument(store, "binance", "ETHUSDT", change)
    store.close()
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


def assert_same(found: Candles, expected: Candles) -> None:
    assert found.arrays[:3] == expected.arrays[:3]
    for name, column in expected.arrays.columns.items():
        assert np.array_equal(getattr(found, name), column), name
        assert not getattr(found, name).flags.writeable or name == "complete_time"


def final_equity(load: "partial[Market]") -> str:
    """Load a market and trade on it; a function that another process can import."""
    config = SessionConfig(start_time=START, end_time=START + HOUR)
    session = Session(config, load())
    session.place_order(symbol="BTCUSDT", side="buy", type="market", quantity=1)
    return str(session.step(60).portfolio.total_equity)


def test_a_market_has_what_was_imported(any_home: Path, tmp_path: Path) -> None:
    market = load_market(home=any_home)
    assert market.symbols == ("BTCUSDT", "ETHUSDT")
    (minutes,) = read_candles(write(tmp_path / "BTCUSDT-1m.csv", csv_text(rows(COUNT))))
    assert_same(market.candles_of("BTCUSDT"), minutes)
    assert market.candles_of("ETHUSDT").intervals == (MINUTE, HOUR)


def test_symbols_are_named_in_any_spelling(any_home: Path) -> None:
    assert load_market("btc/usdt", home=any_home).symbols == ("BTCUSDT",)
    assert load_market(["ETH-USDT", "BTCUSDT"], home=str(any_home)).symbols == (
        "BTCUSDT",
        "ETHUSDT",
    )
    assert load_market(home=any_home, exchange="Kraken").symbols == ("XBTEUR",)


def test_the_times_are_those_of_whole_candles(any_home: Path) -> None:
    market = load_market(
        "BTCUSDT", home=any_home, start="2024-01-01T00:00:30Z", end=np.datetime64("2024-01-02")
    )
    candles = market.candles_of("BTCUSDT")
    assert (candles.open_time[0], candles.complete_time[-1]) == (START + MINUTE, START + DAY)
    assert candles.first_open == (START + MINUTE, candles.open[0])
    session = Session(SessionConfig(start_time=START + MINUTE, end_time=START + DAY), market)
    assert session.step(10).time == START + 11 * MINUTE


def test_a_session_is_the_same_with_a_server_and_without(home: Path, server: RunningServer) -> None:
    loads = [partial(load_market, ["BTCUSDT"], home=home) for home in (home, server.home)]
    assert len({final_equity(load) for load in loads}) == 1


def test_instruments_are_those_of_the_home(any_home: Path) -> None:
    instruments = load_instruments(home=any_home)
    assert [instrument.symbol for instrument in instruments] == ["BTCUSDT", "ETHUSDT"]
    assert instruments[0].is_plain
    (ether,) = load_instruments("eth/usdt", home=any_home)
    assert ether == instruments[1]
    assert (ether.volume_usable, ether.filters.tick_size) == (False, Decimal("0.5"))
    config = SessionConfig(start_time=START, end_time=START + HOUR, instruments=instruments)
    session = Session(config, load_market(home=any_home))
    with pytest.raises(InvalidParameter, match="price"):
        session.place_order(symbol="ETHUSDT", side="buy", type="limit", quantity=1, price="19.7")
    assert load_instruments(home=any_home, exchange="kraken")[0].symbol == "XBTEUR"
    with pytest.raises(SymbolNotFound, match="no candles of XRPUSDT on binance"):
        load_instruments(["XRPUSDT"], home=any_home)


def test_several_processes_load_at_a_time(any_home: Path) -> None:
    load = partial(load_market, ["BTCUSDT"], home=any_home)
    expected = final_equity(load)
    with ProcessPoolExecutor(3, mp_context=get_context("spawn")) as workers:
        assert list(workers.map(final_equity, [load] * 6)) == [expected] * 6


def test_candles_of_a_server_are_mapped_and_outlive_their_files(server: RunningServer) -> None:
    candles = load_market("BTCUSDT", home=server.home).candles_of("BTCUSDT")
    assert not candles.close.flags.owndata
    (path,) = (server.home / "mapped").glob("*BTCUSDT*")
    content = path.read_bytes()
    before = candles.close.sum()
    path.unlink()
    assert candles.close.sum() == before
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"symbols": "XRPUSDT"}, SymbolNotFound, "no candles of XRPUSDT.*BTCUSDT, ETHUSDT"),
        ({"exchange": "bybit"}, NoPrice, "no candles of bybit.*candlestep data import"),
        ({"symbols": "BTCUSDT", "start": "2025-01-01"}, InvalidParameter, "end: must be after"),
        ({"start": "2023-01-01", "end": "2023-02-01"}, NoPrice, "between these times"),
        ({"start": START, "end": START}, InvalidParameter, "end: must be after start"),
        ({"start": "soon"}, InvalidParameter, "start: 'soon' is not"),
        ({"symbols": "BTC/USD:BTC"}, InvalidSymbol, "perpetual"),
        ({"symbols": []}, InvalidParameter, "symbols: "),
    ],
)
def test_what_cannot_be_loaded_is_refused_in_words(
    any_home: Path, arguments: dict[str, object], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        load_market(home=any_home, **arguments)  # type: ignore[arg-type]


def test_a_symbol_that_was_asked_for_is_never_left_out(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "home")
    import_file(store, write(tmp_path / "AAAUSDT-1m.csv", csv_text(rows(100))))
    import_file(store, write(tmp_path / "BBBUSDT-1m.csv", csv_text(rows(100, START + DAY))))
    store.close()
    assert load_market(home=tmp_path / "home", end=START + HOUR).symbols == ("AAAUSDT",)
    with pytest.raises(NoPrice, match="no candles of BBBUSDT between"):
        load_market(["AAAUSDT", "BBBUSDT"], home=tmp_path / "home", end=START + HOUR)


def test_a_home_without_data_says_what_to_do_and_stays_as_it_is(tmp_path: Path) -> None:
    for home in (tmp_path / "none", tmp_path):
        with pytest.raises(NoPrice, match=r"candlestep data import FILE.*candlestep data sample"):
            load_market(home=home)
        with pytest.raises(NoPrice, match="candlestep data import FILE"):
            load_instruments(home=home)
    assert list(tmp_path.iterdir()) == []
    Store.open(tmp_path / "empty").close()
    with pytest.raises(NoPrice, match="candlestep data import FILE"):
        load_market(home=tmp_path / "empty")


def test_the_home_is_that_of_the_environment(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANDLESTEP_HOME", str(home))
    assert load_market().symbols == ("BTCUSDT", "ETHUSDT")


def test_a_store_that_stays_open_for_writing_is_named(home: Path) -> None:
    store = Store.open(home)
    try:
        with pytest.raises(StoreLocked):
            load_market(home=home)
    finally:
        store.close()
    assert load_market("BTCUSDT", home=home).symbols == ("BTCUSDT",)


def test_a_server_that_hangs_is_an_error_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has the store and its port is open, but it never answers."""
    with running(filled_home(tmp_path)) as server:
        server.process.send_signal(signal.SIGSTOP)
        try:
            with monkeypatch.context() as patched:
                patched.setattr("candlestep.data.market.loading._ALIVE_SECONDS", 0.5)
                for load in (load_market, load_instruments):
                    with pytest.raises(StorageUnavailable, match="does not answer; its process"):
                        load(home=server.home)
        finally:
            server.process.send_signal(signal.SIGCONT)
        assert load_market(home=server.home).symbols


def test_processes_that_open_an_older_home_at_once_wait_for_its_migration(tmp_path: Path) -> None:
    home = shutil.copytree(ROOT / "tests" / "fixtures" / "home", tmp_path / "home")
    code = (
        f"from candlestep.data import load_market; print(load_market(home={str(home)!r}).symbols)"
    )
    command = [sys.executable, "-c", code]
    processes = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    outputs = [process.communicate(timeout=PATIENCE) for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, outputs
    assert len({output for output, _ in outputs}) == 1


def test_reading_changes_nothing_in_the_store(home: Path) -> None:
    before = (home / FILE_NAME).read_bytes()
    load_market(home=home)
    assert (home / FILE_NAME).read_bytes() == before
    assert {path.name for path in home.iterdir()} <= {FILE_NAME, "mapped"}


def test_a_home_of_an_older_version_is_migrated_first(tmp_path: Path) -> None:
    home = shutil.copytree(ROOT / "tests" / "fixtures" / "home", tmp_path / "home")
    before = (home / FILE_NAME).read_bytes()
    market = load_market(home=home)
    assert "BTCUSDT" in market
    assert (home / FILE_NAME).read_bytes() != before
    assert_same(
        load_market("BTCUSDT", home=home).candles_of("BTCUSDT"), market.candles_of("BTCUSDT")
    )


def test_the_file_of_a_server_that_was_killed_is_no_obstacle(home: Path, tmp_path: Path) -> None:
    with running(filled_home(tmp_path)) as server:
        announced = json.loads((server.home / SERVER_FILE).read_bytes())
        server.kill()
    assert (server.home / SERVER_FILE).exists()
    assert load_market("BTCUSDT", home=server.home).symbols == ("BTCUSDT",)
    # Its process id may have been given to another program.
    (server.home / SERVER_FILE).write_text(json.dumps(announced | {"pid": os.getpid()}))
    assert load_market("BTCUSDT", home=server.home).symbols == ("BTCUSDT",)


def test_a_file_that_is_deleted_too_early_is_asked_for_again(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = [1, 1]

    def open_late(path: Path) -> Part:
        if failures:
            failures.pop()
            raise FileNotFoundError(path)
        return open_mapped(path)

    monkeypatch.setattr("candlestep.data.market.loading.open_mapped", open_late)
    assert load_market("BTCUSDT", home=server.home).symbols == ("BTCUSDT",)
    failures += [1] * 9
    with pytest.raises(StorageUnavailable, match="make room"):
        load_market("BTCUSDT", home=server.home)


def test_candles_of_a_file_are_those_of_an_import(home: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "BTCUSDT-1m.csv", csv_text(rows(COUNT)))
    found = read_candles(path)
    assert [repr(candles) for candles in found] == [
        f"Candles(BTCUSDT 1m, {COUNT} from 2024-01-01T00:00:00Z to 2024-01-03T02:00:00Z)"
    ]
    assert_same(found[0], load_market("BTCUSDT", home=home).candles_of("BTCUSDT"))


def test_a_file_of_several_symbols_is_a_market(tmp_path: Path) -> None:
    header = "symbol,timestamp,open,high,low,close,volume"
    lines = [
        f"{symbol},{row}"
        for symbol in ("BTC/USDT", "ETH/USDT")
        for row in csv_text(rows(3), header=None).splitlines()
    ]
    path = write(tmp_path / "all.csv", "\n".join([header, *lines]) + "\n")
    found = read_candles(str(path))
    assert [candles.symbol for candles in found] == ["BTCUSDT", "ETHUSDT"]
    assert Market(found).symbols == ("BTCUSDT", "ETHUSDT")


def test_the_options_of_an_import_say_what_a_file_does_not_tell(tmp_path: Path) -> None:
    text = "timestamp,open,high,low,close,volume\n01.02.2024 00:00,1,2,1,2,3\n"
    path = write(tmp_path / "prices.csv", text)
    with pytest.raises(UnreadableFile):
        read_candles(path)
    (candles,) = read_candles(
        path, symbol="BTC/USDT", interval="1h", time_format="%d.%m.%Y %H:%M", no_volume=True
    )
    assert (candles.symbol, candles.open_time.tolist()) == ("BTCUSDT", [1_706_745_600_000])
    assert candles.volume.tolist() == [0]
    bad = write(tmp_path / "BTCUSDT-1m.csv", csv_text([(START, 1.0, 0.5, 1.0, 1.0, 1.0)]))
    with pytest.raises(BadRows):
        read_candles(bad)
    with pytest.raises(UnreadableFile):
        read_candles(tmp_path / "none.csv")
