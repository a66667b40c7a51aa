"""Candles in files that processes map into their memory."""

from pathlib import Path

import numpy as np
import pytest

from candlestep.data.imports.storing.changes import latest_import
from candlestep.data.market.candle_cache import CandleCache, CandleRequest
from candlestep.data.market.mapped_candles import MappedCandles, open_mapped, write_mapped
from candlestep.data.store.database import Store
from candlestep.sandbox import Candles, FundingRates
from tests.support.api_client import sample_home
from tests.support.job_queue import END, START


def series(interval: str, count: int, first: int = 0) -> Candles:
    seconds = {"1m": 60, "1h": 3600}[interval]
    prices = np.arange(1, count + 1) + 0.25
    return Candles(
        symbol="BTCUSDT",
        interval=interval,
        open_time=(first + np.arange(count)) * seconds * 1000,
        open=prices,
        high=prices + 1,
        low=prices - 1,
        close=prices + 0.5,
        volume=prices,
    )


@pytest.mark.parametrize(
    "candles",
    [series("1m", 1), series("1m", 500), Candles.merge([series("1m", 90, 30), series("1h", 5)])],
    ids=["one", "many", "of two intervals"],
)
def test_mapped_candles_are_the_same(tmp_path: Path, candles: Candles) -> None:
    path = tmp_path / "some.candles"
    write_mapped(path, candles)
    mapped = open_mapped(path)
    assert isinstance(mapped, Candles)
    path.unlink()
    end = int(candles.complete_time[-1])
    assert mapped.fingerprint(end) == candles.fingerprint(end)
    assert mapped.arrays[:3] == candles.arrays[:3]
    assert repr(mapped) == repr(candles)
    times = [-1, 0, 59_999, 60_000, 3_600_000, 10**9]
    assert [mapped.price(time) for time in times] == [candles.price(time) for time in times]
    assert [mapped.finest_complete(t) for t in times] == [candles.finest_complete(t) for t in times]
    with pytest.raises(ValueError, match="read-only"):
        mapped.close[0] = 1


def test_mapped_funding_rates_are_the_same(tmp_path: Path) -> None:
    rates = FundingRates(
        "BTC/USDT:USDT", [60_000, 28_860_000], [0.0001, -0.0002], mark=[42_000.5, float("nan")]
    )
    path = tmp_path / "some.candles"
    write_mapped(path, rates)
    mapped = open_mapped(path)
    assert isinstance(mapped, FundingRates)
    path.unlink()
    assert repr(mapped) == repr(rates)
    assert mapped.fingerprint(28_860_000) == rates.fingerprint(28_860_000)
    assert [mapped.row(row) for row in (0, 1)] == [rates.row(row) for row in (0, 1)]
    with pytest.raises(ValueError, match="read-only"):
        mapped.rate[0] = 1


def test_files_of_candles_are_made_once_and_dropped_when_nobody_holds_them(tmp_path: Path) -> None:
    home = tmp_path / "home"
    sample_home(home)
    store = Store.open(home)
    cache = CandleCache(store, 1 << 30)
    leftover = home / "mapped" / "other.candles"
    leftover.parent.mkdir()
    leftover.touch()
    mapped = MappedCandles(cache, home, most_bytes=1)
    assert not leftover.exists()

    market = ("binance", ["BTCUSDT", "NOPE"], latest_import(store), START, END)
    (path,) = mapped.acquire(CandleRequest(*market))
    written = path.stat().st_mtime_ns
    assert mapped.acquire(CandleRequest(*market)) == [path]
    assert path.stat().st_mtime_ns == written
    mapped.release([path])
    (other,) = mapped.acquire(
        CandleRequest("binance", ["ETHUSDT"], latest_import(store), START, END)
    )
    assert path.exists()
    mapped.release([other])
    assert mapped.reacquire([path])
    mapped.release([path])
    assert mapped.in_use == [path]
    mapped.release(
        mapped.acquire(CandleRequest("binance", ["ETHUSDT"], latest_import(store), START, END))
    )
    assert path.exists()
    mapped.release([path])
    mapped.release(
        mapped.acquire(CandleRequest("binance", ["ETHUSDT"], latest_import(store), START, END))
    )
    assert not path.exists()
    assert not mapped.reacquire([path])
    assert not mapped.reacquire([other, path])
    assert other.exists()
    assert mapped.acquire(CandleRequest(*market)) == [path]
    assert path.exists()
    store.close()
