"""Instruments as records: made by imports, changed one field at a time, copied by sessions."""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from candlestep.data.errors import BadRows
from candlestep.data.imports.importer import import_file
from candlestep.data.imports.reading import ImportOptions
from candlestep.data.records.instruments import (
    InstrumentChange,
    change_instrument,
    ensure_instrument,
    get_instrument,
    instruments_to_copy,
    stored_instruments,
)
from candlestep.data.store.database import Store
from candlestep.data.store.migrations import MIGRATIONS
from candlestep.data.symbols import parse_symbol
from candlestep.sandbox import (
    Filters,
    Instrument,
    InvalidParameter,
    InvalidSymbol,
    SymbolNotFound,
)
from tests.support.candle_files import csv_text, rows, write

FILTERS = ("tick_size", "step_size", "min_quantity", "min_notional")


@pytest.fixture(scope="module")
def module_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    store = Store.open(tmp_path_factory.mktemp("home"))
    yield store
    store.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(tmp_path / "home")
    yield store
    store.close()


def add(store: Store, symbol: str = "BTC/USDT", exchange: str = "binance") -> int:
    with store.transaction("candles"):
        return ensure_instrument(store, exchange, parse_symbol(symbol))


def test_an_instrument_is_made_once_and_is_plain(store: Store) -> None:
    ids = [add(store), add(store, "ETH/BTC"), add(store, "BTC/USDT", "kraken")]
    assert ids == [1, 2, 3]
    assert add(store) == 1
    listed = stored_instruments(store)
    assert [(entry.exchange, entry.instrument) for entry in listed] == [
        ("binance", Instrument("BTCUSDT")),
        ("binance", Instrument("ETHBTC", base="ETH", quote="BTC")),
        ("kraken", Instrument("BTCUSDT")),
    ]
    assert [entry.exchange for entry in stored_instruments(store, "Kraken")] == ["kraken"]
    assert get_instrument(store, "binance", "eth-btc") == listed[1]
    for symbol, error in (("SOLUSDT", SymbolNotFound), ("BTC/USD:BTC", InvalidSymbol)):
        with pytest.raises(error):
            get_instrument(store, "binance", symbol)


@given(
    changes=st.lists(
        st.tuples(
            st.none() | st.booleans(),
            st.dictionaries(
                st.sampled_from(FILTERS),
                st.none() | st.integers(1, 10**24).map(lambda units: f"{Decimal(units) / 10**8:f}"),
            ),
        ),
        max_size=4,
    )
)
def test_a_change_changes_what_it_names_to_the_last_digit(
    module_store: Store, changes: list[tuple[bool | None, dict[str, Any]]]
) -> None:
    """The model is a dict. Numbers come back as the exact decimals that went in."""
    store = module_store
    add(store)
    nothing = InstrumentChange(True, dict.fromkeys(FILTERS))
    change_instrument(store, "binance", "BTCUSDT", nothing)
    usable, model = True, dict[str, Any].fromkeys(FILTERS)
    for volume_usable, filters in changes:
        changed = change_instrument(
            store, "binance", "btc/usdt", InstrumentChange(volume_usable, filters)
        )
        usable = usable if volume_usable is None else volume_usable
        model |= filters
        expected = Instrument("BTCUSDT", filters=Filters(**model), volume_usable=usable)
        assert changed.instrument == expected
        assert get_instrument(store, "binance", "BTCUSDT") == changed
        copied = instruments_to_copy(store, "binance", ["ETHUSDT", "BTCUSDT"])
        assert copied == ([] if expected.is_plain else [expected.settings()])


@pytest.mark.parametrize(
    ("filters", "words"),
    [
        ({"tick_size": "0"}, "tick_size: must be positive"),
        ({"tick_size": "-1"}, "tick_size"),
        ({"tick_size": "NaN"}, "tick_size"),
        ({"step_size": "0.000000001"}, "step_size"),
        ({"step_size": "1.000000001"}, "step_size: may have at most 8"),
        ({"min_notional": "1e17"}, "min_notional: must be at most"),
    ],
)
def test_a_change_that_is_refused_changes_nothing(
    store: Store, filters: dict[str, str], words: str
) -> None:
    add(store)
    before = stored_instruments(store)
    with pytest.raises(InvalidParameter, match=words):
        change_instrument(store, "binance", "BTCUSDT", InstrumentChange(False, filters))
    with pytest.raises(SymbolNotFound):
        change_instrument(store, "kraken", "BTCUSDT", InstrumentChange(False))
    assert stored_instruments(store) == before


def test_an_import_without_volume_makes_it_unusable(store: Store, tmp_path: Path) -> None:
    path = write(tmp_path / "BTCUSDT-1m.csv", csv_text(rows(10)))

    def is_usable(**options: Any) -> bool:
        import_file(store, path, ImportOptions(**options))
        return get_instrument(store, "binance", "BTCUSDT").instrument.volume_usable

    assert is_usable()
    assert not is_usable(no_volume=True)
    # It was said on purpose, so only saying it again changes it.
    assert not is_usable()
    change_instrument(store, "binance", "BTCUSDT", InstrumentChange(volume_usable=True))
    assert is_usable()
    write(path, csv_text([*rows(10), (0, 1.0, 0.5, 2.0, 1.0, 1.0)]))
    with pytest.raises(BadRows):
        is_usable(no_volume=True)
    assert get_instrument(store, "binance", "BTCUSDT").instrument.volume_usable


def test_instruments_of_an_old_store_are_plain(tmp_path: Path) -> None:
    number = next(i for i, script in enumerate(MIGRATIONS) if "volume_usable" in script)
    old = Store.open(tmp_path, MIGRATIONS[:number])
    with old.transaction("candles"):
        old.execute("INSERT INTO instruments VALUES (7, 'binance', 'BTCUSDT', 'BTC', 'USDT')")
    old.close()
    store = Store.open(tmp_path)
    try:
        [listed] = stored_instruments(store)
        assert listed.instrument == Instrument("BTCUSDT")
        assert add(store) == 7
        assert add(store, "ETHUSDT") == 8
    finally:
        store.close()
