"""Sessions on imported files see no future: whatever the rows after a time say, answers stay.

Every layout of text and every kind of table is written twice, with the same rows up to some time and
others after it; both files are imported into stores of their own, and the same agent trades on each.
"""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from msgspec import structs

from candlestep.data import load_market
from candlestep.data.imports.importer import import_file
from candlestep.data.imports.reading import ImportOptions
from candlestep.data.store.database import Store
from candlestep.sandbox import Session, SessionConfig
from candlestep.sandbox.clock import INTERVALS
from tests.data.imports.test_layouts import FIRST, TABLES, Candle, Layout, futures
from tests.support.session_cases import answer_of, serialised

START = int(FIRST.timestamp() * 1000)


def imported(home: Path, path: Path, options: ImportOptions) -> Path:
    """Return a new home with the candles of a file."""
    shutil.rmtree(home, ignore_errors=True)
    store = Store.open(home)
    import_file(store, path, options)
    store.close()
    return home


def of_text(home: Path, layout: Layout, interval: str, candles: list[Candle]) -> Path:
    """Return a home with the candles, imported from a file in a layout."""
    path = home.parent / layout.name.replace("1h", interval)
    path.write_text(layout.write(candles))
    options = structs.replace(layout.options, interval=interval)
    if options.day is not None:
        options = structs.replace(options, day=FIRST.date())
    return imported(home, path, options)


def of_table(home: Path, name: str, interval: str, candles: list[Candle]) -> Path:
    """Return a home with the candles, imported from a Parquet, Feather or Arrow file."""
    path = home.parent / name.replace("1h", interval)
    TABLES[name](path, candles)
    return imported(home, path, ImportOptions(interval=interval))


def answers(home: Path, symbol: str, interval: str, steps: int) -> list[str]:
    """Return what an agent sees that buys, guards what it has, and reads all that it can."""
    market = load_market(symbol, home=home)
    end = START + 20 * INTERVALS[interval]
    config = SessionConfig(
        start_time=START, end_time=end, candle_interval=interval, starting_balance="100000",
        allow_gaps=True,
    )  # fmt: skip
    session = Session(config, market)
    seen = []
    for number in range(steps):
        step = session.step()
        if number % 3 == 0:
            session.place_order(symbol=symbol, side="buy", type="market", quantity="0.5")
            session.place_order(
                symbol=symbol, side="buy", type="limit", quantity="0.1", price=str(99 + number)
            )
        # Some intervals cannot be made of others, at every time or at this one.
        coarser = [answer_of(partial(session.candles, symbol, name, 5)) for name in INTERVALS]
        read = (
            step, session.price(symbol), session.ticker(symbol), session.candles(symbol), coarser,
            session.window(symbol, 3), session.portfolio(), session.open_orders(), session.fills,
        )  # fmt: skip
        seen.append(serialised(read))
    return seen


@settings(max_examples=10, deadline=None)
@given(futures())
def test_a_session_on_a_file_does_not_see_its_future(
    tmp_path_factory: pytest.TempPathFactory,
    generated: tuple[Layout, str, list[Candle], list[Candle]],
) -> None:
    layout, interval, truth, changed = generated
    write = partial(of_text, layout=layout, interval=interval)
    assert_same_past(tmp_path_factory, write, layout.symbol, interval, truth, changed)


@pytest.mark.parametrize("name", TABLES)
@settings(max_examples=4, deadline=None)
@given(futures())
def test_a_session_on_a_table_does_not_see_its_future(
    tmp_path_factory: pytest.TempPathFactory,
    name: str,
    generated: tuple[Layout, str, list[Candle], list[Candle]],
) -> None:
    _, interval, truth, changed = generated
    write = partial(of_table, name=name, interval=interval)
    assert_same_past(tmp_path_factory, write, "BTCUSDT", interval, truth, changed)


def assert_same_past(
    tmp_path_factory: pytest.TempPathFactory,
    write: Callable[..., Path],
    symbol: str,
    interval: str,
    truth: list[Candle],
    changed: list[Candle],
) -> None:
    """Assert that answers are the same until the first step at which the candles differ."""
    known = next(
        (n for n, (one, other) in enumerate(zip(truth, changed, strict=False)) if one != other),
        min(len(truth), len(changed)),
    )
    directory = tmp_path_factory.getbasetemp()
    of_truth, of_changed = (
        answers(write(directory / name, candles=candles), symbol, interval, known)
        for name, candles in (("truth", truth), ("changed", changed))
    )
    assert of_truth == of_changed
    assert len(of_truth) == known
