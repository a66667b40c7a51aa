"""Instruments over HTTP: read by every account, changed with an admin key, copied at a start."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support.api_client import BACKTEST, Api, finished, make_key, sample_home
from tests.support.command_line import candlestep
from tests.support.server_process import RunningServer, running

BASE = "/api/v1/data/instruments"
PLAIN: dict[str, Any] = {
    "exchange": "binance", "symbol": "BTCUSDT", "kind": "spot", "base": "BTC", "quote": "USDT",
    "filters": dict.fromkeys(("tick_size", "step_size", "min_quantity", "min_notional")),
    "volume_usable": True,
}  # fmt: skip


class Served(NamedTuple):
    """A server with keys, and a client of an admin and of somebody else."""

    server: RunningServer
    admin: Api
    other: Api
    key: str
    """That of somebody else."""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    yield from _serve(tmp_path / "home")


@pytest.fixture(scope="module")
def unchanged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One server for all tests that change nothing."""
    yield from _serve(tmp_path_factory.mktemp("unchanged"))


def _serve(directory: Path) -> Iterator[Served]:
    home = sample_home(directory)
    keys = make_key(home, "ann", is_admin=True), make_key(home, "bob")
    with (
        running(home) as server,
        server.client(keys[0]) as ann,
        server.client(keys[1]) as bob,
    ):
        yield Served(server, Api(ann), Api(bob), keys[1])


def change(api: Api, body: dict[str, Any], symbol: str = "BTCUSDT", expect: int = 200) -> Any:
    answer = api.client.patch(f"{BASE}/{symbol}", json=body)
    assert answer.status_code == expect, answer.text
    return answer.json()


def test_everybody_reads_and_an_admin_changes(served: Served) -> None:
    for api in (served.admin, served.other):
        listed = api.get(BASE)
        assert listed["total"] == 3
        assert listed["instruments"][0] == PLAIN
        assert api.get(f"{BASE}/btc/usdt") == PLAIN
        assert api.get(BASE, exchange="kraken") == {"instruments": [], "total": 0}
        assert api.get(f"{BASE}/SOLUSDT", expect=404)["code"] == "SYMBOL_NOT_FOUND"
        assert api.get(f"{BASE}/BTC%2FUSD:BTC", expect=422)["details"]["field"] == "symbol"

    refused = change(served.other, {"volume_usable": False}, expect=403)
    assert refused["code"] == "FORBIDDEN"
    assert "keys create NAME --admin" in refused["message"]
    assert served.other.get(f"{BASE}/BTCUSDT") == PLAIN

    body = {"filters": {"tick_size": 0.010, "min_notional": "5.00"}, "volume_usable": False}
    changed = change(served.admin, body)
    filters = PLAIN["filters"] | {"tick_size": "0.01", "min_notional": "5"}
    assert changed == PLAIN | {"filters": filters, "volume_usable": False}
    assert change(served.admin, {"filters": {"tick_size": None}}, "btc-usdt") == changed | {
        "filters": filters | {"tick_size": None}
    }
    assert served.other.get(BASE)["instruments"][0]["filters"]["min_notional"] == "5"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"filters": {"tick_size": "0"}}, "filters.tick_size"),
        ({"filters": {"step_size": "1e-9"}}, "filters.step_size"),
        ({"filters": {"min_notional": True}}, "filters.min_notional"),
        ({"filters": {"tick": 1}}, "filters.tick"),
        ({"filters": None}, "filters"),
        ({"volume_usable": "no"}, "volume_usable"),
        ({"kind": "perp"}, "kind"),
    ],
)
def test_a_change_that_makes_no_sense_names_the_field(
    unchanged: Served, body: dict[str, Any], field: str
) -> None:
    assert change(unchanged.admin, body, expect=422)["details"]["field"] == field
    assert unchanged.other.get(f"{BASE}/BTCUSDT") == PLAIN


@pytest.mark.parametrize(
    "symbol", ["%0A", "BTC%0AUSDT", "%C2%85", "a/b/c", "%00", "%3F%23", "%F0%9F%98%80"]
)
def test_a_symbol_of_odd_characters_is_refused_as_a_symbol(unchanged: Served, symbol: str) -> None:
    answers = [
        unchanged.admin.client.patch(f"{BASE}/{symbol}", json={"volume_usable": False}),
        unchanged.admin.client.get(f"{BASE}/{symbol}"),
        unchanged.admin.client.get(f"/api/v1/backtest/bt_0123456789ab/market/price/{symbol}"),
    ]
    assert all(answer.json()["code"] != "NOT_FOUND" for answer in answers)
    assert answers[0].json()["details"]["field"] == "symbol"


def test_a_session_keeps_the_instruments_of_its_start(served: Served, tmp_path: Path) -> None:
    """Recovered, forked and replayed it has them too; a later session has the later ones."""
    api, admin = served.other, served.admin
    created = api.create("01-15", "01-16")
    early = api.started()
    change(admin, {"filters": {"step_size": "0.05"}, "volume_usable": False})
    late = api.started()
    api.post(f"{BACKTEST}/{created}/start")
    details = {"field": "quantity", "filter": "step_size", "value": "0.03", "nearest": "0.05"}
    assert api.order(early, quantity="0.03")["status"] == "filled"
    for session_id in (late, created):
        refused = api.order(session_id, expect=422, quantity="0.03")
        assert (refused["code"], refused["details"]) == ("INVALID_PARAMETER", details)
        assert api.order(session_id, quantity="0.05")["slippage_pct"] == "0.01"
    change(admin, {"filters": {"step_size": None}, "volume_usable": True})
    [fork] = api.post(f"{BACKTEST}/{late}/fork", expect=201)["forks"]

    served.server.kill()
    recordings = {}
    with running(served.server.home) as again, again.client(served.key) as client:
        api = Api(client)
        assert api.order(early, quantity="0.03")["status"] == "filled"
        for session_id in (late, fork["session_id"]):
            assert api.order(session_id, expect=422, quantity="0.03")["details"] == details
            assert api.order(session_id, quantity="0.05")["slippage_pct"] == "0.01"
        for session_id in (early, late, fork["session_id"]):
            recordings[session_id] = client.get(f"{BACKTEST}/{session_id}/recording").content
    for session_id, recording in recordings.items():
        config = json.loads(recording.splitlines()[0])["config"]
        if session_id == early:
            assert "instruments" not in config
        else:
            [copied] = config["instruments"]
            assert (copied["filters"], copied["volume_usable"]) == ({"step_size": "0.05"}, False)
        file = tmp_path / "recording.jsonl"
        file.write_bytes(recording)
        assert candlestep("replay", file, "--home", again.home).code == 0


def test_a_job_keeps_the_instruments_of_its_submission(served: Served) -> None:
    """With a volume that is not usable, a large order slips the least."""
    body = {
        "template_id": "tpl_sma_cross", "params": {"fast": 5, "slow": 20}, "symbols": ["BTCUSDT"],
        "timeframe": "1h", "start": "2025-01-05T00:00:00Z", "end": "2025-01-20T00:00:00Z",
        "capital": "100000000",
    }  # fmt: skip

    def final_equity() -> float:
        job = finished(served.other, served.other.post(f"{BACKTEST}/jobs", body)["id"])
        assert job["error"] is None
        return float(job["result"]["equity_curve"][-1][1])

    before = final_equity()
    change(served.admin, {"volume_usable": False})
    assert final_equity() > before


def test_without_keys_this_machine_may_change(tmp_path: Path) -> None:
    with running(sample_home(tmp_path / "home")) as server, server.client() as client:
        api = Api(client)
        assert change(api, {"volume_usable": False})["volume_usable"] is False
        foreign = {"Origin": "http://evil.example"}
        answer = client.patch(f"{BASE}/BTCUSDT", json={}, headers=foreign)
        assert answer.status_code == 403
