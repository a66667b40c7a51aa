"""The creation of sessions costs few statements: many clients create at a time, on few processors."""

import json
from pathlib import Path
from typing import Any

import msgspec

from candlestep.api.schemas.sessions import CreateRequest
from candlestep.api.sessions.creation import SessionCreator
from candlestep.api.settings import Settings
from candlestep.data.market.catalogue import Catalogue
from candlestep.data.records.accounts import ensure_account, list_agents
from candlestep.data.records.sessions import get_session
from candlestep.data.store.database import Store
from tests.support.api_client import BACKTEST, Api, sample_home
from tests.support.server_process import running

REQUEST = {
    "start_time": "2025-01-10",
    "end_time": "2025-01-20",
    "starting_balance": "10000",
    "pairs": ["BTCUSDT", "ETHUSDT"],
}


class CountingStore(Store):
    """A store that counts its statements."""

    statements: int = 0

    def rows(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        self.statements += 1
        return super().rows(sql, *parameters)

    def execute(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        self.statements += 1
        return super().execute(sql, *parameters)


def test_a_creation_takes_three_statements(tmp_path: Path) -> None:
    """The agent, the latest import, and the row; what the market has is known from the first time."""
    home = sample_home(tmp_path / "home")
    store = CountingStore.open(home)
    account_id = ensure_account(store, "default").account_id
    agent_id = list_agents(store, account_id)[0].agent_id
    creator = SessionCreator(Settings.from_environment(home=str(home)), store, Catalogue(store))
    request = msgspec.convert(REQUEST, CreateRequest)
    creator.create(account_id, agent_id, request, None)
    before = store.statements
    created = creator.create(account_id, agent_id, request, None)
    assert store.statements == before + 3
    assert created == get_session(store, account_id, created.session_id)
    store.close()


def test_filters_and_locks_given_at_creation_are_those_of_the_session(tmp_path: Path) -> None:
    """Filters add to those that are stored, and are in the session's recording."""
    home = sample_home(tmp_path / "home")
    with running(home) as server, server.client() as client:
        api = Api(client)
        given = {"btc-usdt": {"step_size": "0.01", "min_notional": 500}}
        session_id = api.started(pairs=["BTCUSDT", "ETHUSDT"], filters=given)
        refused = api.order(session_id, expect=422, quantity="0.015")["details"]
        assert (refused["filter"], refused["nearest"]) == ("step_size", "0.02")
        assert api.order(session_id, expect=422, quantity="0")["details"]["field"] == "quantity"
        assert api.order(session_id, quantity="0.02")["status"] == "filled"
        assert api.order(session_id, symbol="ETHUSDT", quantity="0.0151")["status"] == "filled"
        start = json.loads(
            api.client.get(f"{BACKTEST}/{session_id}/recording").text.splitlines()[0]
        )
        assert start["config"]["instruments"] == [
            {
                "symbol": "BTCUSDT", "kind": "spot", "base": "BTC", "quote": "USDT",
                "filters": {"step_size": "0.01", "min_notional": "500"}, "volume_usable": True,
            }
        ]  # fmt: skip
        for locks, status in ((False, 201), (True, 422)):
            session_id = api.started(pairs=["BTCUSDT"], locking_stops=locks)
            api.order(session_id)
            api.order(session_id, side="sell", type="stop_loss", trigger_price=1000)
            api.order(session_id, side="sell", expect=status)
        for filters, field in (
            ({"XRPUSDT": {}}, "filters"),
            ({"BTCUSDT": {"tick_size": "-1"}}, "filters.BTCUSDT.tick_size"),
            ({"BTCUSDT": {"tick": 1}}, "filters[...].tick"),
        ):
            body = {"start_time": "2025-01-15", "end_time": "2025-01-16", "pairs": ["BTCUSDT"]}
            error = api.post(f"{BACKTEST}/create", body | {"filters": filters}, 422)
            assert error["details"]["field"] == field
