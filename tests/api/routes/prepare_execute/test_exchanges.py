"""Exchanges and instruments over HTTP, field by field, against the sample market."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from candlestep.data.imports.importer import import_file
from candlestep.data.imports.sample import sample_market
from candlestep.data.store.database import Store
from tests.support.api_client import BACKTEST, Api, sample_home
from tests.support.server_process import running

BINANCE = "/api/v1/exchange/binance"
DAY = 1440


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    home = sample_home(tmp_path_factory.mktemp("exchanges") / "home")
    store = Store.open(home)
    rows = [[1704067200000 + hour * 3_600_000, 10, 14, 9, 11 + hour, 0] for hour in range(3)]
    file = home / "XRPEUR-1h.json"
    file.write_text(json.dumps(rows))
    import_file(store, file, exchange="Kraken")
    store.close()
    with running(home) as server, server.client() as client:
        yield Api(client)


def test_exchanges_are_those_with_candles(api: Api) -> None:
    assert api.get("/api/v1/exchanges") == [
        {
            "id": name,
            "name": name.capitalize(),
            "venueType": "cex",
            "segments": segments,
            "liveSegments": [],
        }
        for name, segments in (("binance", ["spot", "futures"]), ("kraken", ["spot"]))
    ]


def test_instruments_are_as_the_document_prints_them(api: Api) -> None:
    instruments = api.get(f"{BINANCE}/instruments")
    for instrument, (symbol, candles) in zip(instruments, sample_market().items(), strict=True):
        last_day = slice(-DAY, None)
        volume = float(np.dot(candles.volume[last_day], candles.close[last_day]))
        assert instrument == {
            "id": f"{symbol[:3]}/USDT",
            "base": symbol[:3],
            "quote": "USDT",
            "dataFrom": "2025-01-01T00:00:00Z",
            "dataTo": "2025-03-02T00:00:00Z",
            "lastPrice": candles.close[-1],
            "volume24h": pytest.approx(volume, rel=1e-12),
        }


def test_what_is_not_known_is_left_out(api: Api) -> None:
    assert api.get("/api/v1/exchange/Kraken/instruments") == [
        {
            "id": "XRP/EUR",
            "base": "XRP",
            "quote": "EUR",
            "dataFrom": "2024-01-01T00:00:00Z",
            "dataTo": "2024-01-01T03:00:00Z",
            "lastPrice": 13,
        }
    ]


def test_a_segment_lists_the_same_with_links_that_lead_somewhere(api: Api) -> None:
    plain = api.get(f"{BINANCE}/instruments")
    answer = api.get(f"{BINANCE}/spot/instruments")
    assert set(answer) == {"data", "meta", "_links"}
    assert set(answer["meta"]) == {"updatedAt", "exchange", "segment", "venueType"}
    assert answer["meta"] | {"updatedAt": ""} == {
        "updatedAt": "",
        "exchange": "binance",
        "segment": "spot",
        "venueType": "cex",
    }
    assert answer["meta"]["updatedAt"] > "2025"
    assert api.get(answer["_links"]["self"]["href"]) == answer
    for instrument, listed in zip(plain, answer["data"], strict=True):
        assert api.get(listed["_links"]["self"]["href"]) == listed
        del listed["_links"]
        assert listed == instrument | {"symbol": instrument["id"]}
    futures = api.get(f"{BINANCE}/futures/instruments")
    assert futures["meta"]["segment"] == "futures"
    [perpetual] = futures["data"]
    assert (perpetual["id"], perpetual["base"]) == ("SOL/USDT:USDT", "SOL")
    assert api.get(perpetual["_links"]["self"]["href"]) == perpetual
    for spelling in ("SOLUSDT", "sol/usdt", "SOLUSDT-PERP"):
        assert api.get(f"{BINANCE}/futures/instruments/{spelling}") == perpetual
    assert "SOL" not in {instrument["base"] for instrument in plain}


def test_what_there_is_not_is_not_found(api: Api) -> None:
    for path, code in (
        ("/api/v1/exchange/nowhere/instruments", "EXCHANGE_NOT_FOUND"),
        ("/api/v1/exchange/nowhere/spot/instruments", "EXCHANGE_NOT_FOUND"),
        (f"/api/v1/exchange/{'x' * 5000}/instruments", "EXCHANGE_NOT_FOUND"),
        (f"{BINANCE}/margin/instruments", "NOT_FOUND"),
        (f"{BINANCE}/spot/instruments/DOGEUSDT", "SYMBOL_NOT_FOUND"),
        (f"{BINANCE}/futures/instruments/BTCUSDT", "SYMBOL_NOT_FOUND"),
    ):
        assert api.get(path, 404)["code"] == code
    assert api.get(f"{BINANCE}/spot/instruments/btc/usdt")["id"] == "BTC/USDT"
    assert api.get(f"{BINANCE}/spot/instruments/!", 400)["code"] == "INVALID_PARAMETER"
    assert api.get(f"{BINANCE}/instruments", 400, limit=5)["details"]["field"] == "limit"


def test_no_exchange_is_named_as_a_session_is(api: Api, tmp_path: Path) -> None:
    error = api.post(
        f"{BACKTEST}/create",
        {"start_time": "2025-01-05", "end_time": "2025-01-06", "exchange": "bt_1"},
        422,
    )
    assert error["details"]["field"] == "exchange"
