"""Candles removed under sessions: those that have started go on to the digit, later ones lack them."""

import json
from pathlib import Path
from typing import Any

from candlestep.data.store.database import Store
from tests.support.api_client import BACKTEST, Api, sample_home
from tests.support.command_line import candlestep, listed
from tests.support.server_process import running

COMMANDS: list[dict[str, Any]] = [
    {"steps": 700},
    {"side": "sell", "type": "limit", "price": "96000"},
    {"steps": 100},
    {"side": "buy", "type": "stop_loss", "price": "99000"},
    {"steps": 640},
]


def answers(home: Path, *, removes: bool) -> list[Any]:
    """Trade over a day, with the candles of all symbols removed after the start or not."""
    with running(home) as server, server.client() as client:
        api = Api(client)
        session_id = api.started(pairs=["BTCUSDT", "ETHUSDT"])
        found = [api.order(session_id)]
        if removes:
            for symbol in ("BTCUSDT", "ETH/USDT"):
                assert candlestep("data", "remove", symbol, "--home", home).code == 0
            assert candlestep("data", "prune", "--home", home).out.startswith("0 superseded")
            server.kill()
    with running(home) as server, server.client() as client:
        api = Api(client)
        for command in COMMANDS:
            if "steps" in command:
                found.append(api.step(session_id, command["steps"]))
            else:
                found.append(api.order(session_id, **command))
        found += [api.read(session_id, what) for what in ("results/equity-curve", "results/trades")]
        recording = client.get(f"{BACKTEST}/{session_id}/recording").content
        if removes:
            assert api.get("/api/v1/market/data-range")["pairs"] == ["SOLUSDT-PERP"]
            day = {"start_time": "2025-01-15", "end_time": "2025-01-16"}
            assert api.post(f"{BACKTEST}/create", day, 422)["code"] == "NO_DATA"
    digest = json.loads(recording.splitlines()[-1])["digest"]
    return [json.loads(json.dumps(found).replace(session_id, "ID")), digest]


def test_a_session_that_has_started_keeps_its_candles_to_the_digit(tmp_path: Path) -> None:
    homes = sample_home(tmp_path / "kept"), sample_home(tmp_path / "removed")
    assert answers(homes[1], removes=True) == answers(homes[0], removes=False)
    of_perpetual = 17_280
    assert listed(homes[1]) == {"SOLUSDT-PERP": of_perpetual}
    store = Store.open(homes[1])
    try:
        current = store.rows("SELECT count(*) FROM candles WHERE superseded_by IS NULL")
        assert current == [(2 * of_perpetual,)], "its candles and mark prices"
    finally:
        store.close()
