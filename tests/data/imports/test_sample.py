"""The sample market: always the same, plausible, and never mixed with real candles."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from candlestep.data.errors import MixedMarket
from candlestep.data.imports.importer import import_file
from candlestep.data.imports.reading import ImportOptions
from candlestep.data.imports.sample import (
    DAYS,
    START,
    drop_sample,
    load_sample,
    sample_market,
    sample_perpetual,
)
from candlestep.data.imports.storing.removal import prune
from candlestep.data.imports.validation import CandleColumns
from candlestep.data.market.candle_cache import CandleCache, CandleRequest
from candlestep.data.market.catalogue import Catalogue
from candlestep.data.store.database import Store
from candlestep.sandbox import Candles, parse_time
from tests.support.candle_files import MINUTE, csv_text, rows, write

CANDLES = DAYS * 1440


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(tmp_path / "home")
    yield store
    store.close()


@pytest.fixture(scope="module")
def market() -> dict[str, CandleColumns]:
    return sample_market()


def test_it_is_the_same_everywhere(market: dict[str, CandleColumns]) -> None:
    digests = {
        symbol: hashlib.sha256(
            b"".join(column.astype("<f8").tobytes() for column in candles.numbers())
        ).hexdigest()[:16]
        for symbol, candles in market.items()
    }
    assert digests == {"BTCUSDT": "d81dbc4deea2fa36", "ETHUSDT": "82a34aacfb679d26"}


@pytest.mark.parametrize("symbol", ["BTCUSDT", "ETHUSDT"])
def test_it_looks_like_a_market(market: dict[str, CandleColumns], symbol: str) -> None:
    candles = market[symbol]
    assert len(candles) == CANDLES
    assert candles.open_time[0] == START == parse_time("2025-01-01")
    assert (np.diff(candles.open_time) == MINUTE).all()
    assert (candles.low <= np.minimum(candles.open, candles.close)).all()
    assert (candles.high >= np.maximum(candles.open, candles.close)).all()
    assert (candles.open[1:] == candles.close[:-1]).all()
    assert (candles.volume > 0).all()
    for column, places in zip(candles.numbers(), (2, 2, 2, 2, 5), strict=True):
        assert (np.round(column, places) == column).all()
    returns = np.diff(np.log(candles.close))
    assert 0.0004 < returns.std() < 0.001
    assert abs(np.log(candles.close[-1] / candles.close[0])) < 0.5
    columns = dict(zip(("open", "high", "low", "close", "volume"), candles.numbers(), strict=True))
    Candles(symbol=symbol, interval="1m", open_time=candles.open_time, **columns)


def test_the_perpetual_is_the_same_everywhere_and_looks_like_one() -> None:
    perpetual = sample_perpetual()
    candles, marks, funding = perpetual.candles, perpetual.marks, perpetual.funding
    columns = [*candles.numbers(), *marks.numbers(), funding.rate]
    digest = hashlib.sha256(b"".join(column.astype("<f8").tobytes() for column in columns))
    assert digest.hexdigest()[:16] == "0d71c6faa56faa11"
    length = 5 * MINUTE
    assert perpetual.interval == length
    for line in (candles, marks):
        assert line.open_time.tolist() == [START + n * length for n in range(CANDLES // 5)]
        assert (line.low <= np.minimum(line.open, line.close)).all()
        assert (line.high >= np.maximum(line.open, line.close)).all()
        assert (line.open[1:] == line.close[:-1]).all()
    assert (candles.volume > 0).all()
    assert not marks.volume.any()
    assert np.abs(marks.close / candles.close - 1).max() < 0.01
    assert funding.time.tolist() == [START + n * 480 * MINUTE for n in range(1, 3 * DAYS + 1)]
    assert np.abs(funding.rate).max() < 0.0005
    assert 0.05 < (funding.rate < 0).mean() < 0.3
    assert (np.round(funding.rate, 8) == funding.rate).all()


def test_it_is_an_import_like_any_other_and_labelled(store: Store) -> None:
    summaries = load_sample(store)
    assert [(s.symbol, s.rows, s.import_number) for s in summaries] == [
        ("BTCUSDT", CANDLES, 1),
        ("ETHUSDT", CANDLES, 2),
        ("SOLUSDT-PERP", CANDLES // 5, 3),
        ("SOLUSDT-PERP", CANDLES // 5, 4),
        ("SOLUSDT-PERP", 3 * DAYS, 5),
    ]
    assert [s.kind for s in summaries[2:]] == ["candles", "mark", "funding"]
    assert [s.import_number for s in load_sample(store)] == [None] * 5
    assert all(series.synthetic for series in Catalogue(store).lines())
    assert not any(series.gaps for series in Catalogue(store).lines())


def test_real_candles_are_not_mixed_into_it(store: Store, tmp_path: Path) -> None:
    load_sample(store)
    path = write(tmp_path / "BTCUSDT-1m.csv", csv_text(rows(10)))
    hours = write(tmp_path / "BTCUSDT-1h.csv", csv_text(rows(10, interval=60 * MINUTE)))
    for real in (path, hours):
        with pytest.raises(MixedMarket, match="drop-sample"):
            import_file(store, real)
    import_file(store, path, ImportOptions(symbol="SOLUSDT"))
    import_file(store, path, exchange="kraken")
    assert drop_sample(store) == ["BTCUSDT", "ETHUSDT", "SOLUSDT-PERP"]
    assert import_file(store, path)[0].new == 10
    real_now = Catalogue(store).series()
    assert [(s.exchange, s.symbol, s.rows) for s in real_now if not s.synthetic] == [
        ("binance", "BTCUSDT", 10),
        ("binance", "SOLUSDT", 10),
        ("kraken", "BTCUSDT", 10),
    ]
    assert len(real_now) == 3


def test_it_is_not_mixed_into_real_candles(store: Store, tmp_path: Path) -> None:
    import_file(store, write(tmp_path / "ETHUSDT-1m.csv", csv_text(rows(10))))
    with pytest.raises(MixedMarket, match="real candles"):
        load_sample(store)
    assert [series.symbol for series in Catalogue(store).series()] == ["ETHUSDT"]
    assert drop_sample(store) == []


def test_sessions_on_it_keep_it_when_it_is_dropped(store: Store) -> None:
    load_sample(store)
    drop_sample(store)
    assert drop_sample(store) == []
    assert Catalogue(store).series() == ()
    assert all(series.synthetic for series in Catalogue(store).series(2))
    cache = CandleCache(store, 1 << 40)
    pairs = ("binance", ["BTCUSDT", "ETHUSDT"])
    assert cache.candles(CandleRequest(*pairs, 10, START, START + MINUTE)) == {}
    assert prune(store, [5]) == 0
    assert len(cache.candles(CandleRequest(*pairs, 5, START, START + MINUTE))) == 2
    assert prune(store, []) == 2 * CANDLES + 2 * CANDLES // 5 + 3 * DAYS
    load_sample(store)
    assert len(cache.candles(CandleRequest(*pairs, 15, START, START + MINUTE))) == 2
