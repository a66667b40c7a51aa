"""Sessions over HTTP and the candles that they rest on: refusals, warnings, and what stays digested."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from candlestep.api.schemas.warnings import with_order_warnings, without_warnings
from candlestep.data.imports.importer import import_file
from candlestep.data.store.database import Store
from candlestep.sandbox.clock import DAY, HOUR, MINUTE
from tests.support.api_client import BACKTEST, Api, refused
from tests.support.candle_files import START, csv_text, rows, write
from tests.support.command_line import candlestep
from tests.support.server_process import RunningServer, running

Json = dict[str, Any]

LATE = 4 * HOUR
"""The time after the start at which the candles of LATEUSDT begin."""
HOLE = (10 * HOUR, 12 * HOUR)
SESSION: Json = {
    "start_time": "2024-01-01T00:00:00Z",
    "end_time": "2024-01-02T00:00:00Z",
    "pairs": ["FULLUSDT", "LATEUSDT", "NONEUSDT"],
}
WARNINGS = [
    ("GAP", "LATEUSDT", "2024-01-01T00:00:00Z", "2024-01-01T04:00:00Z"),
    ("GAP", "LATEUSDT", "2024-01-01T10:00:00Z", "2024-01-01T12:00:00Z"),
    ("NO_CANDLES", "NONEUSDT", "2024-01-01T00:00:00Z", "2024-01-02T00:00:00Z"),
]
COVERAGE = {"FULLUSDT": 1.0, "LATEUSDT": 18 / 24, "NONEUSDT": 0.0}


def import_minutes(home: Path, symbol: str, first: int, last: int, hole: Any = (0, 0)) -> None:
    """Import minutes of ``symbol`` between two times after ``START``, without those of a hole."""
    minutes = rows((last - first) // MINUTE, START + first)
    kept = [row for row in minutes if not hole[0] <= row[0] - START < hole[1]]
    with_volume = write(home / f"{symbol}-1m.csv", csv_text(kept))
    store = Store.open(home)
    import_file(store, with_volume)
    store.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    home = tmp_path_factory.mktemp("holes")
    import_minutes(home, "FULLUSDT", 0, DAY)
    import_minutes(home, "LATEUSDT", LATE, DAY, HOLE)
    with running(home) as server:
        yield server


@pytest.fixture(scope="module")
def api(server: RunningServer) -> Iterator[Api]:
    with server.client() as client:
        yield Api(client)


def spoken(answer: Json) -> list[tuple[str, str, str, str]]:
    """Return the warnings of an answer without their messages."""
    assert all(warning["message"] for warning in answer["warnings"])
    names = ("code", "symbol", "from", "to")
    return [tuple(warning[name] for name in names) for warning in answer["warnings"]]


def test_a_session_says_at_each_stage_which_candles_are_missing(api: Api) -> None:
    created = api.post(f"{BACKTEST}/create", SESSION)
    session_id = created["session_id"]
    assert created["estimated_pairs"] == 2, "of the third there are no candles"
    started = api.post(f"{BACKTEST}/{session_id}/start")
    running_status = api.read(session_id, "status")
    last = api.step(session_id, 1440)
    assert last["is_complete"]
    assert not last.keys() & {"warnings", "coverage"}, "steps do not repeat it"
    results, ended_status = api.read(session_id, "results"), api.read(session_id, "status")
    for answer in (created, started, running_status, results, ended_status):
        assert spoken(answer) == WARNINGS
        assert answer["coverage"] == COVERAGE
    assert started == api.post(
        f"{BACKTEST}/{api.create(**_times(), pairs=SESSION['pairs'])}/start"
    ) | {"session_id": session_id}
    assert results["config"]["allow_gaps"] is False
    [listed] = [
        session
        for session in api.get(f"{BACKTEST}/list")["backtests"]
        if session["session_id"] == session_id
    ]
    assert not listed.keys() & {"warnings", "coverage"}


def _times() -> Json:
    return {"start": SESSION["start_time"], "end": SESSION["end_time"]}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"start_time": "2023-12-31T23:59:00Z"}, "start_time"),
        ({"end_time": "2024-01-02T00:01:00Z"}, "end_time"),
        ({"end_time": "2024-02-01T00:00:00Z"}, "end_time"),
        ({"pairs": ["LATEUSDT"]}, "start_time"),
    ],
)
def test_a_session_beyond_its_candles_is_refused(api: Api, changes: Json, field: str) -> None:
    body = SESSION | changes
    details = refused(api.client.post(f"{BACKTEST}/create", json=body), 422, "NO_DATA")
    first = "2024-01-01T04:00:00Z" if "pairs" in changes else "2024-01-01T00:00:00Z"
    assert details == {"field": field, "from": first, "to": "2024-01-02T00:00:00Z"}
    message = api.post(f"{BACKTEST}/create", body, 422)["message"]
    assert "from 2024-01-01T0" in message
    assert "to 2024-01-02T00:00:00Z" in message
    assert "allow_gaps" in message
    created = api.post(f"{BACKTEST}/create", body | {"allow_gaps": True})
    assert created["warnings"]
    assert api.read(created["session_id"], "status")["warnings"] == created["warnings"]


def test_the_last_step_counts_and_not_the_end_time(api: Api) -> None:
    created = api.post(f"{BACKTEST}/create", SESSION | {"end_time": "2024-01-02T00:00:59Z"})
    assert created["total_steps"] == 1440


def test_a_session_whose_candles_were_taken_away_is_refused_at_its_start(tmp_path: Path) -> None:
    import_minutes(tmp_path, "FULLUSDT", 0, DAY)
    body = SESSION | {"pairs": ["FULLUSDT"]}
    with running(tmp_path) as server, server.client() as client:
        api = Api(client)
        strict = api.post(f"{BACKTEST}/create", body)["session_id"]
        lenient = api.post(f"{BACKTEST}/create", body | {"allow_gaps": True})["session_id"]
        removed = candlestep(
            "data", "remove", "FULLUSDT", "--from", "2024-01-01T12:00:00Z",
            "--home", tmp_path,
        )  # fmt: skip
        assert removed.code == 0, removed.err
        for _ in range(2):
            answer = client.post(f"{BACKTEST}/{strict}/start")
            assert refused(answer, 422, "NO_DATA") == {
                "field": "end_time",
                "from": "2024-01-01T00:00:00Z",
                "to": "2024-01-01T12:00:00Z",
            }
        assert api.read(strict, "status")["status"] == "created"
        started = api.post(f"{BACKTEST}/{lenient}/start")
        noon = ("GAP", "FULLUSDT", "2024-01-01T12:00:00Z", "2024-01-02T00:00:00Z")
        assert spoken(started) == [noon]
        assert started["coverage"] == {"FULLUSDT": 0.5}


def test_a_session_keeps_what_it_said_when_candles_are_imported_later(tmp_path: Path) -> None:
    import_minutes(tmp_path, "FULLUSDT", 0, DAY)
    import_minutes(tmp_path, "LATEUSDT", LATE, DAY, HOLE)
    with running(tmp_path, "--idle-seconds", "1") as server, server.client() as client:
        api = Api(client)
        session_id = api.post(f"{BACKTEST}/create", SESSION)["session_id"]
        api.post(f"{BACKTEST}/{session_id}/start")
        whole = write(tmp_path / "LATEUSDT-1m.csv", csv_text(rows(1440)))
        assert candlestep("data", "import", whole, "--home", tmp_path).code == 0
        assert spoken(api.read(session_id, "status")) == WARNINGS
        api.step(session_id, 1440)
        assert spoken(api.read(session_id, "results")) == WARNINGS
        later = api.post(f"{BACKTEST}/create", SESSION)
        assert spoken(later) == WARNINGS[2:]


# Orders


def test_an_order_that_slips_far_has_a_warning(api: Api) -> None:
    session_id = api.started(
        SESSION["start_time"], SESSION["end_time"], pairs=["FULLUSDT"], starting_balance=1_000_000
    )
    api.step(session_id, 60)
    path = f"{BACKTEST}/{session_id}/trade/order"
    order = {"symbol": "FULLUSDT", "side": "buy", "type": "market"}
    small = api.post(path, order | {"quantity": "0.1"}, 201)
    assert small["warnings"] == []
    body, key = order | {"quantity": "100"}, {"Idempotency-Key": "large"}
    large = api.client.post(path, json=body, headers=key)
    [warning] = large.json()["warnings"]
    assert (warning["code"], warning["symbol"]) == ("HIGH_SLIPPAGE", "FULLUSDT")
    assert warning["from"] == warning["to"] == "2024-01-01T01:00:00Z"
    assert large.json()["slippage_pct"] + " % worse" in warning["message"]
    assert float(large.json()["slippage_pct"]) > 2
    assert api.client.post(path, json=body, headers=key).content == large.content, "as the first"
    listed = api.read(session_id, "trade/orders")["orders"]
    assert [name for name in listed[1] if name == "warnings"] == []

    recording = api.client.get(f"{BACKTEST}/{session_id}/recording").text
    assert "HIGH_SLIPPAGE" not in recording
    [*_, recorded] = map(json.loads, recording.splitlines())
    assert recorded["answer"] == json.loads(without_warnings(large.content))


def test_warnings_join_an_answer_at_its_end_and_can_be_taken_off() -> None:
    body = (
        b'{"symbol":"A","reason":"a \\",\\"warnings\\": trap","slippage_pct":"%s","filled_at":"T"}'
    )
    for slippage, codes in ((b"2.00", []), (b"2.0001", ["HIGH_SLIPPAGE"])):
        reply = body % slippage
        answer = with_order_warnings(reply)
        assert [warning["code"] for warning in json.loads(answer)["warnings"]] == codes
        assert without_warnings(answer) == reply
        assert without_warnings(reply) == reply


# Recordings


def test_a_recording_carries_allow_gaps_and_replays_where_it_is_missing(
    server: RunningServer, api: Api, tmp_path: Path
) -> None:
    beyond = SESSION | {"end_time": "2024-01-03T00:00:00Z", "allow_gaps": True}
    session_id = api.post(f"{BACKTEST}/create", beyond)["session_id"]
    api.post(f"{BACKTEST}/{session_id}/start")
    api.step(session_id, 100)
    api.order(session_id, symbol="FULLUSDT", quantity="20")
    api.step(session_id, 2000)
    lines = api.client.get(f"{BACKTEST}/{session_id}/recording").content.splitlines(keepends=True)
    start = json.loads(lines[0])
    assert start["config"]["allow_gaps"] is True
    del start["config"]["allow_gaps"], start["crc"]
    old = tmp_path / "old.jsonl"
    old.write_bytes(json.dumps(start).encode() + b"\n" + b"".join(lines[1:]))
    for where in (("--home", server.home), ("--url", server.url)):
        replayed = candlestep("replay", old, *where)
        assert (replayed.code, replayed.err) == (0, ""), replayed.out
