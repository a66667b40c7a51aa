"""Files of perpetuals in every layout that is imported: candles, mark prices, funding rates, tiers.

The funding rates are six settlements of BTCUSDT every 8 hours from 2 January 2024, in all layouts
the same but for the mark prices, which few have.
"""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from candlestep.data.imports.kinds import Kind
from candlestep.data.imports.reading import NO_OPTIONS, ImportOptions
from tests.support.candle_files import write

HOUR = 3_600_000
FIRST = datetime(2024, 1, 2, tzinfo=UTC)
START = int(FIRST.timestamp()) * 1000
RATES = ["0.0001", "0.00012345", "-0.00031", "0", "0.0075", "-0.0000001"]
TIMES = [START + 8 * HOUR * n for n in range(len(RATES))]
MARKS = [42_000.5 + n for n in range(len(RATES))]
JITTER = [0, 17, 2, -2, 1, 999]
"""Jitter that exchanges add to the minute, in milliseconds."""

_FUTURES = (
    "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,"
    "taker_buy_quote_volume,ignore\n"
)
_TIERS = (
    ("0", "0.004", "125", "0"),
    ("50000", "0.005", "100", "50"),
    ("250000", "0.01", "50", "1300"),
)
"""Floor, maintenance margin rate, highest leverage, cum."""


class PerpetualFile(NamedTuple):
    """A file in a layout, and the options that it needs."""

    kind: Kind
    name: str
    content: Callable[[Path], None]
    """Writes the file to a path."""
    options: ImportOptions = NO_OPTIONS
    symbol: str = "BTCUSDT-PERP"
    has_marks: bool = False

    def write(self, directory: Path) -> Path:
        """Write the file below a directory, and return its path."""
        path = directory / self.name
        path.parent.mkdir(parents=True, exist_ok=True)
        self.content(path)
        return path


def _text(text: str) -> Callable[[Path], None]:
    def content(path: Path) -> None:
        write(path, text)

    return content


def _json(document: Any) -> Callable[[Path], None]:
    return _text(json.dumps(document))


def _feather(columns: dict[str, Any]) -> Callable[[Path], None]:
    def content(path: Path) -> None:
        pd.DataFrame(columns).to_feather(path)

    return content


def _moments(step: int, count: int) -> list[datetime]:
    return [FIRST + timedelta(milliseconds=step * n) for n in range(count)]


def _candle_rows(volume: int, count: int, hours: int = 6) -> str:
    return "".join(
        f"{START + n * HOUR},{100 + n},{101 + n},{99 + n},{100.5 + n},{volume},"
        f"{START + (n + 1) * HOUR - 1},{100 * volume},{count},{volume // 2},{50 * volume},0\n"
        for n in range(hours)
    )


def _rates_with_jitter(row: str, header: str = "") -> str:
    return header + "".join(
        row.format(time=time + off, rate=rate) + "\n"
        for time, off, rate in zip(TIMES, JITTER, RATES, strict=True)
    )


def _objects(fields: Callable[[int, str, float], dict[str, Any]]) -> list[dict[str, Any]]:
    rows = zip(TIMES, RATES, MARKS, strict=True)
    return [fields(time, rate, mark) for time, rate, mark in rows]


def _iso(time: int) -> str:
    return f"{datetime.fromtimestamp(time / 1000, UTC):%FT%T}.000Z"


_FUNDING_HEADER = "calc_time,funding_interval_hours,last_funding_rate\n"
_DATES = _moments(8 * HOUR, len(RATES))
_ZEROS = dict.fromkeys(("high", "low", "close", "volume"), [0.0] * len(RATES))
_HOURS = _moments(HOUR, 6)
_OHLC = {
    "open": [100.0 + n for n in range(6)],
    "high": [101.0 + n for n in range(6)],
    "low": [99.0 + n for n in range(6)],
    "close": [100.5 + n for n in range(6)],
}

LAYOUTS = {
    "archive candles": PerpetualFile(
        "candles", "BTCUSDT-1h-2024-01.csv", _text(_FUTURES + _candle_rows(5, 9))
    ),
    "archive candles without a header": PerpetualFile(
        "candles",
        "futures/um/monthly/klines/BTCUSDT/1h/BTCUSDT-1h-2021-01.zip",
        _text(_candle_rows(5, 9)),
    ),
    "freqtrade candles": PerpetualFile(
        "candles",
        "BTC_USDT_USDT-1h-futures.feather",
        _feather({"date": _HOURS, **_OHLC, "volume": [5.0] * 6}),
    ),
    "any candles with an option": PerpetualFile(
        "candles",
        "BTCUSDT-1h.csv",
        _text(
            "time,open,high,low,close,volume\n"
            + "".join(
                f"{START + n * HOUR},{100 + n},{101 + n},{99 + n},{100.5 + n},5\n" for n in range(6)
            )
        ),
        ImportOptions(is_perp=True),
    ),
    "archive marks": PerpetualFile(
        "mark",
        "futures/um/monthly/markPriceKlines/BTCUSDT/1h/BTCUSDT-1h-2024-01.zip",
        _text(_FUTURES + _candle_rows(0, 60)),
    ),
    "archive marks without a header": PerpetualFile(
        "mark",
        "BTCUSDT-1h-2021-01.csv",
        _text(_candle_rows(0, 60)),
        ImportOptions(kind="mark"),
    ),
    "freqtrade marks": PerpetualFile(
        "mark",
        "BTC_USDT_USDT-1h-mark.feather",
        _feather({"date": _HOURS, **_OHLC, "volume": [0.0] * 6}),
    ),
    "archive funding": PerpetualFile(
        "funding",
        "BTCUSDT-fundingRate-2024-01.zip",
        _text(_rates_with_jitter("{time},8,{rate}", _FUNDING_HEADER)),
    ),
    "archive funding without a header": PerpetualFile(
        "funding", "BTCUSDT-2024-01.csv", _text(_rates_with_jitter("{time},8,{rate}"))
    ),
    "Binance REST": PerpetualFile(
        "funding",
        "funding.json",
        _json(
            _objects(
                lambda time, rate, mark: {
                    "symbol": "BTCUSDT",
                    "fundingTime": time,
                    "fundingRate": rate,
                    "markPrice": str(mark),
                }
            )
        ),
        has_marks=True,
    ),
    "ccxt": PerpetualFile(
        "funding",
        "history.json",
        _json(
            _objects(
                lambda time, rate, mark: {
                    "info": {"symbol": "BTCUSDT"},
                    "symbol": "BTC/USDT:USDT",
                    "fundingRate": float(rate),
                    "timestamp": time,
                    "datetime": _iso(time),
                }
            )
        ),
    ),
    "freqtrade until 2026": PerpetualFile(
        "funding",
        "BTC_USDT_USDT-8h-funding_rate.feather",
        _feather({"date": _DATES, "open": [float(rate) for rate in RATES], **_ZEROS}),
    ),
    "freqtrade since 2026": PerpetualFile(
        "funding",
        "BTC_USDT_USDT-1h-funding_rate.feather",
        _feather({"date": _DATES, "funding_rate": [float(rate) for rate in RATES]}),
    ),
    "freqtrade JSON": PerpetualFile(
        "funding",
        "BTC_USDT_USDT-8h-funding_rate.json",
        _json([[time, float(rate), 0, 0, 0, 0] for time, rate in zip(TIMES, RATES, strict=True)]),
    ),
    "LEAN": PerpetualFile(
        "funding",
        "margin_interest/btcusdt.csv",
        _text(
            "".join(f"{date:%Y%m%d %T},{rate}\n" for date, rate in zip(_DATES, RATES, strict=True))
        ),
    ),
    "Hyperliquid": PerpetualFile(
        "funding",
        "hyperliquid.json",
        _json(
            _objects(
                lambda time, rate, mark: {
                    "coin": "BTC",
                    "fundingRate": rate,
                    "premium": "0.00046",
                    "time": time + 13,
                }
            )
        ),
        symbol="BTCUSDC-PERP",
    ),
    "dYdX": PerpetualFile(
        "funding",
        "dydx.json",
        _json(
            {
                "historicalFunding": _objects(
                    lambda time, rate, mark: {
                        "ticker": "BTC-USD",
                        "rate": rate,
                        "price": str(mark),
                        "effectiveAt": _iso(time),
                        "effectiveAtHeight": "7",
                    }
                )
            }
        ),
        symbol="BTCUSDC-PERP",
        has_marks=True,
    ),
    "Bybit": PerpetualFile(
        "funding",
        "bybit.json",
        _json(
            {
                "retCode": 0,
                "result": {
                    "category": "linear",
                    "list": _objects(
                        lambda time, rate, mark: {
                            "symbol": "BTCUSDT",
                            "fundingRate": rate,
                            "fundingRateTimestamp": str(time),
                        }
                    )[::-1],
                },
            }
        ),
    ),
    "OKX": PerpetualFile(
        "funding",
        "okx.json",
        _json(
            {
                "code": "0",
                "data": _objects(
                    lambda time, rate, mark: {
                        "instType": "SWAP",
                        "instId": "BTC-USDT-SWAP",
                        "fundingRate": "0.5",
                        "realizedRate": rate,
                        "fundingTime": str(time),
                    }
                )[::-1],
            }
        ),
    ),
    "ccxt tiers": PerpetualFile(
        "tiers",
        "binance_leverage_tiers_2024-01-15.json",
        _json(
            {
                "BTC/USDT:USDT": [
                    {
                        "tier": n,
                        "minNotional": float(floor),
                        "maintenanceMarginRate": float(mmr),
                        "maxLeverage": float(leverage),
                        "info": {"cum": cum},
                    }
                    for n, (floor, mmr, leverage, cum) in enumerate(_TIERS, 1)
                ]
            }
        ),
    ),
    "Binance brackets": PerpetualFile(
        "tiers",
        "brackets.json",
        _json(
            [
                {
                    "symbol": "BTCUSDT",
                    "brackets": [
                        {
                            "bracket": n,
                            "initialLeverage": int(leverage),
                            "notionalFloor": int(floor),
                            "maintMarginRatio": float(mmr),
                            "cum": float(cum),
                        }
                        for n, (floor, mmr, leverage, cum) in enumerate(_TIERS, 1)
                    ],
                }
            ]
        ),
        ImportOptions(day=datetime(2024, 1, 15).date()),
    ),
}
"""A file in each layout."""
