"""Plans of runs: what the candles in a period make, and what they do not."""

from pathlib import Path
from typing import Any

import pytest

from candlestep.api.jobs.planning import CostTerms, FieldNames, MarketScope, Period, plan_run
from candlestep.data.imports.importer import import_file
from candlestep.data.market.catalogue import Catalogue
from candlestep.data.market.datasets import find_dataset, list_datasets
from candlestep.data.store.database import Store
from candlestep.sandbox import InvalidParameter, NoPrice
from candlestep.sandbox.clock import DAY, HOUR, MINUTE
from candlestep.sandbox.strategies import compile_strategy
from tests.support.candle_files import START, csv_text, rows, write

HOLD: dict[str, Any] = {"template": "tpl_buy_and_hold"}


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    """Return a catalogue of hours from half past on, and of the days after them."""
    store = Store.open(tmp_path / "home")
    hours = rows(48, START + 30 * MINUTE, interval=HOUR)
    days = rows(9, START + 9 * DAY, interval=DAY)
    import_file(store, write(tmp_path / "BTCUSDT-1h.csv", csv_text(hours)))
    import_file(store, write(tmp_path / "BTCUSDT-1d.csv", csv_text(days)))
    return Catalogue(store)


def period(first_day: int, last_day: int) -> Period:
    span = (START + first_day * DAY, START + last_day * DAY)
    return Period(*span, *span)


def test_a_timeframe_whose_bounds_the_candles_straddle_is_refused_in_words(
    catalogue: Catalogue,
) -> None:
    market = MarketScope.resolve(catalogue, "binance", ["BTCUSDT"], FieldNames())
    with pytest.raises(InvalidParameter, match=r"must not be 1d: .* of 1h .*choose 1h") as refused:
        market.with_candles(period(0, 2), DAY, "")
    assert refused.value.details["field"] == "timeframe"
    market.with_candles(period(0, 2), HOUR, "")
    market.with_candles(period(9, 18), DAY, "")
    with pytest.raises(InvalidParameter, match="must not be 1d"):
        market.with_candles(period(0, 18), DAY, "")


def test_symbols_without_candles_are_left_out_unless_none_is_left(catalogue: Catalogue) -> None:
    names = ["DOGEUSDT", "BTCUSDT", "ETHUSDT"]
    requested = MarketScope.resolve(catalogue, "binance", names, FieldNames())
    market = requested.with_candles(period(10, 12), DAY, "")
    assert (market.symbols, market.left_out) == (["BTCUSDT"], ["DOGEUSDT", "ETHUSDT"])
    run = plan_run(compile_strategy(HOLD), market, period(8, 12), DAY, "1000", CostTerms())
    assert run.pairs == ["BTCUSDT"]
    assert run.coverage == {"BTCUSDT": 0.75, "DOGEUSDT": 0, "ETHUSDT": 0}
    assert [(w.code, w.symbol, w.start, w.end) for w in run.warnings] == [
        ("NO_CANDLES", "DOGEUSDT", *period(8, 12)[:2]),
        ("NO_CANDLES", "ETHUSDT", *period(8, 12)[:2]),
        ("GAP", "BTCUSDT", *period(8, 9)[:2]),
    ]
    with pytest.raises(
        NoPrice, match="no candles of DOGEUSDT, BTCUSDT, ETHUSDT on binance"
    ) as none:
        requested.with_candles(period(4, 6), DAY, "")
    assert none.value.details == {"symbol": "DOGEUSDT"}


def test_the_timeframe_of_the_strategy_counts(catalogue: Catalogue) -> None:
    market = MarketScope.resolve(catalogue, "binance", ["BTCUSDT"], FieldNames())
    for timeframe in ("2h", "1d"):
        daily = compile_strategy(HOLD | {"timeframe": timeframe})
        with pytest.raises(InvalidParameter, match=f"must not be {timeframe}"):
            plan_run(daily, market, period(0, 2), HOUR, "1000", CostTerms())
    hourly = compile_strategy(HOLD | {"timeframe": "1h"})
    assert plan_run(hourly, market, period(0, 2), HOUR, "1000", CostTerms()).interval == HOUR


def test_datasets_are_of_what_the_candles_make(catalogue: Catalogue) -> None:
    series = catalogue.series()
    assert [dataset.dataset_id for dataset in list_datasets(series)] == [
        "btcusdt-1h-2024", "btcusdt-1d-2024", "btcusdt-1w-2024",
    ]  # fmt: skip
    days = find_dataset(series, "btcusdt-1d-2024")
    assert (days.start, days.end, days.candles) == (START + 9 * DAY, START + 18 * DAY, 9)
    hours = find_dataset(series, "btcusdt-1h-20240101-20240101")
    assert (hours.start, hours.candles) == (START + 30 * MINUTE, 23)
