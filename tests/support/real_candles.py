"""Real market history for tests: hourly EURUSD from a library, and files of minutes if present."""

import csv
import gzip

import numpy as np
import pytest
from backtesting.test import EURUSD

from candlestep.sandbox import Candles, parse_time
from tests.support.project import SHARED

FILES = SHARED / "data"


def eurusd() -> Candles:
    """Return 5,000 hours of EURUSD from April 2017 on, without weekends."""
    return Candles(
        symbol="EURUSD",
        interval="1h",
        open_time=EURUSD.index.to_numpy(),
        open=EURUSD.Open.to_numpy(),
        high=EURUSD.High.to_numpy(),
        low=EURUSD.Low.to_numpy(),
        close=EURUSD.Close.to_numpy(),
        volume=EURUSD.Volume.to_numpy(),
    )


def minutes(symbol: str, month: str) -> Candles:
    """Return 50,000 real minutes of ``symbol`` from ``month``; skip the test if they are absent."""
    path = FILES / f"{symbol}-1m-{month}.csv.gz"
    if not path.exists():
        pytest.skip(f"real candles are not here: {path.name}")
    with gzip.open(path, "rt") as file:
        rows = list(csv.DictReader(file))
    return Candles(
        symbol=symbol,
        interval="1m",
        open_time=[parse_time(row["timestamp"]) for row in rows],
        **{
            name: np.array([float(row[name]) for row in rows])
            for name in ("open", "high", "low", "close", "volume")
        },
    )


def perpetual_hours(symbol: str) -> Candles:
    """Return the hours of a perpetual that ``data/perpetual`` has; skip the test if it has none."""
    paths = sorted((FILES / "perpetual").glob(f"binance_{symbol}_perp_1h_*.csv"))
    if not paths:
        pytest.skip(f"real candles are not here: hours of {symbol}")
    with paths[0].open() as file:
        rows = list(csv.DictReader(file))
    return Candles(
        symbol=symbol,
        interval="1h",
        open_time=[int(row["open_time"]) for row in rows],
        **{
            name: np.array([float(row[name]) for row in rows])
            for name in ("open", "high", "low", "close", "volume")
        },
    )
