"""Sessions survive kills, restarts, full disks, damaged files and eviction from memory."""

import json
import os
import resource
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import httpx
import pytest

from candlestep.data.journal.recording import checked, encoded, records_of
from candlestep.data.journal.records import StepRecord
from candlestep.data.store.database import FILE_NAME
from tests.support.api_client import BACKTEST, Api, sample_home, wait_for
from tests.support.server_process import RunningServer, running
from tests.support.traded_sessions import everything, journal, traded
from tests.torture import torture


@pytest.mark.parametrize("flags", [(), ("--idle-seconds", "1"), ("--durability", "power")])
def test_a_killed_server_loses_nothing_that_it_acknowledged(
    tmp_path: Path, flags: tuple[str, ...]
) -> None:
    kills = 3
    assert len(list(torture(tmp_path, kills, 1, *flags))) == kills


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_after_a_restart_sessions_are_as_they_were(tmp_path: Path, end: str) -> None:
    home = sample_home(tmp_path)
    server = RunningServer(home)
    with server.client() as client:
        api = Api(client)
        running_id, created_id, ended_id = traded(api), api.create("01-15", "01-16"), traded(api)
        fresh_id = api.started()
        api.step(ended_id, 10_000)
        ids = (running_id, ended_id, fresh_id)
        before = [everything(api, session_id) for session_id in ids]
        listed = api.get(f"{BACKTEST}/list")
        if end == "stop":
            assert server.stop() == 0
        else:
            server.kill()
    with running(home) as server, server.client() as client:
        api = Api(client)
        assert api.get(f"{BACKTEST}/list") == listed
        assert api.get("/health")["open_sessions"] == 2
        assert [everything(api, session_id) for session_id in ids] == before
        assert api.post(f"{BACKTEST}/{running_id}/step")["step"] == 1003
        assert api.step(running_id, 10_000)["is_complete"]
        api.post(f"{BACKTEST}/{created_id}/start")
        summaries = [
            api.read(session_id, "results")["summary"] for session_id in (running_id, ended_id)
        ]
        assert summaries[0] == summaries[1], "the same commands, one session across two servers"


def test_a_session_that_had_ended_unsaved_is_saved_by_itself(tmp_path: Path) -> None:
    """The server is killed after the journal has the end of the session and before the store has."""
    home = sample_home(tmp_path)
    server = RunningServer(home)
    with server.client() as client:
        api = Api(client)
        ids = [traded(api), traded(api)]
        api.step(ids[0], 10_000)
        api.post(f"{BACKTEST}/{ids[1]}/cancel")
        results = [api.read(session_id, "results") for session_id in ids]
        server.kill()
    with duckdb.connect(str(home / FILE_NAME)) as store:
        for table in ("trades", "equity", "metrics", "by_pair"):
            store.execute(f"DELETE FROM {table}")
        store.execute(
            "UPDATE sessions SET status = 'running', current_step = 1000, completed_at = NULL,"
            " final_equity = NULL, total_pnl = NULL, total_trades = NULL"
        )
    with running(home) as server, server.client() as client:
        api = Api(client)
        assert [api.read(session_id, "results") for session_id in ids] == results
        assert api.get("/health")["open_sessions"] == 0


WAITING = [
    {"symbol": "BTCUSDT", "side": "buy", "type": "limit", "quantity": "0.01", "price": "1000"},
    {
        "symbol": "BTCUSDT",
        "side": "buy",
        "type": "stop_loss",
        "quantity": "0.01",
        "trigger_price": 2e5,
    },
]


@pytest.mark.parametrize("durability", ["process", "power"])
def test_a_full_disk_refuses_commands_and_loses_none(tmp_path: Path, durability: str) -> None:
    flags = ("--durability", durability)
    with running(sample_home(tmp_path), *flags) as server, server.client() as client:
        api = Api(client)
        session_id = traded(api)
        path = f"{BACKTEST}/{session_id}"
        server.limit_files(4096)
        while client.post(f"{path}/step").is_success:
            pass  # The file has room for a few more records.
        before = everything(api, session_id)
        step = json.loads(before["status"])["current_step"]
        for _ in range(2):
            assert api.post(f"{path}/step", expect=503)["code"] == "STORAGE_UNAVAILABLE"
            api.step(session_id, 100, expect=503)
            api.order(session_id, expect=503)
            api.call("DELETE", f"{path}/trade/order/4", expect=503)
            api.call("PATCH", f"{path}/trade/order/5", {"price": "900"}, expect=503)
            api.post(f"{path}/trade/oco", {"orders": WAITING}, expect=503)
            api.post(f"{path}/turn", {"orders": WAITING[:1], "steps": 5}, expect=503)
            [of_many] = api.post(
                f"{BACKTEST}/sessions/turn", {"turns": [{"session_id": session_id, "steps": 5}]}
            )["turns"]
            assert of_many["error"]["code"] == "STORAGE_UNAVAILABLE"
            api.post(f"{path}/fork", expect=503)
            api.post(f"{path}/cancel", expect=503)
            assert everything(api, session_id) == before
        server.limit_files(resource.RLIM_INFINITY)
        assert api.post(f"{path}/step")["step"] == step + 1
        server.kill()
    with running(tmp_path) as server, server.client() as client:
        assert Api(client).post(f"{BACKTEST}/{session_id}/step")["step"] == step + 2


def test_housekeeping_goes_on_when_neither_store_nor_log_can_be_written(tmp_path: Path) -> None:
    home = sample_home(tmp_path)
    (home / "server.log").write_bytes(b" " * 8192)
    with running(home, "--idle-seconds", "1") as server, server.client() as client:
        api = Api(client)
        session_id = traded(api)
        before = everything(api, session_id)
        server.limit_files(4096)
        wait_for_empty_memory(client)
        assert everything(api, session_id) == before
        wait_for_empty_memory(client)
        server.limit_files(resource.RLIM_INFINITY)
        assert api.post(f"{BACKTEST}/{session_id}/step")["step"] == 1003
        wait_for_empty_memory(client)


def wait_for_empty_memory(client: httpx.Client) -> None:
    """Wait until housekeeping has evicted all sessions as idle."""
    wait_for(
        lambda: client.get("/metrics").text, lambda text: "candlestep_sessions_in_memory 0" in text
    )


def test_a_damaged_journal_fails_its_session_and_says_where(tmp_path: Path) -> None:
    home = sample_home(tmp_path)
    server = RunningServer(home)
    with server.client() as client:
        api = Api(client)
        damaged, other, missing, ended = (traded(api) for _ in range(4))
        api.step(ended, 10_000)
        before = everything(api, other)
        server.kill()
    for session_id in (damaged, ended):
        content = bytearray(journal(home, session_id).read_bytes())
        offset = content.index(b"\n") + 20
        content[offset] ^= 1
        journal(home, session_id).write_bytes(content)
    journal(home, missing).unlink()
    with running(home) as server, server.client() as client:
        api = Api(client)
        error = api.post(f"{BACKTEST}/{damaged}/step", expect=409)
        assert f"{damaged}.jsonl is damaged at line 2 (byte" in error["message"]
        assert api.read(damaged, "status")["status"] == "failed"
        assert "line 2" in api.read(damaged, "status")["error"]
        assert "missing" in api.post(f"{BACKTEST}/{missing}/step", expect=409)["message"]
        assert everything(api, other) == before
        assert "line 2" in api.read(ended, "trade/orders", expect=409)["message"]
        assert api.read(ended, "results")["status"] == "completed", "saved results stay readable"
        failed = api.get(f"{BACKTEST}/list", status="failed")["backtests"]
        assert {session["session_id"] for session in failed} == {damaged, missing}


@pytest.mark.parametrize("is_replaced", [False, True])
def test_a_session_whose_journal_is_deleted_while_it_runs_fails_at_once(
    tmp_path: Path, is_replaced: bool
) -> None:
    """Else it would go on for as long as it is in memory, and then all of it would be lost."""
    home = sample_home(tmp_path)
    with running(home) as server, server.client() as client:
        api = Api(client)
        deleted, other = traded(api), traded(api)
        path = journal(home, deleted)
        beginning = path.read_bytes().splitlines(keepends=True)[:2]
        path.unlink()
        if is_replaced:
            path.write_bytes(b"".join(beginning))
        status = wait_for(
            lambda: api.read(deleted, "status"), lambda found: found["status"] != "running"
        )
        assert status["status"] == "failed"
        expected = "1002" if is_replaced else f"{deleted}.jsonl is missing"
        assert expected in status["error"]
        assert api.post(f"{BACKTEST}/{deleted}/step", expect=409)["code"] == "INVALID_STATE"
        assert api.step(other)["virtual_time"]


@pytest.mark.parametrize("end", ["stop", "while it runs"])
def test_a_journal_that_was_cut_fails_its_session_with_both_numbers(
    tmp_path: Path, end: str
) -> None:
    """The last commands are an order and two steps; without the order, the step is the same."""
    home = sample_home(tmp_path)
    with running(home) as server, server.client() as client:
        api = Api(client)
        lines_by_session = {traded(api): lines for lines in (1, 2, 3)}
        other = traded(api)
        for session_id in lines_by_session:
            api.order(session_id, side="buy", type="limit", price="1", quantity="1")
        before = everything(api, other)
        step = api.read(other, "status")["current_step"]
        if end == "stop":
            assert server.stop() == 0
        for session_id, lines in lines_by_session.items():
            cut(journal(home, session_id), lines)
            if end == "while it runs":
                message = api.post(f"{BACKTEST}/{session_id}/step", expect=503)["message"]
                assert "another program changed it" in message
                failed_at(api, session_id, step)
                assert everything(api, other) == before
    if end == "stop":
        with running(home) as server, server.client() as client:
            for session_id in lines_by_session:
                failed_at(Api(client), session_id, step)
            assert everything(Api(client), other) == before


def cut(path: Path, lines: int) -> None:
    """Cut the last lines off a file."""
    kept = path.read_bytes().splitlines(keepends=True)[:-lines]
    os.truncate(path, sum(map(len, kept)))


def failed_at(api: Api, session_id: str, step: int) -> None:
    """Check that a session fails because its journal ends before a step or a command."""
    message = api.post(f"{BACKTEST}/{session_id}/step", expect=409)["message"]
    assert "its journal was cut: it ends at step" in message
    assert f"and had step {step} and" in message
    assert api.read(session_id, "status")["status"] == "failed"


def test_a_line_that_was_never_finished_is_discarded(tmp_path: Path) -> None:
    home = sample_home(tmp_path)
    server = RunningServer(home)
    with server.client() as client:
        api = Api(client)
        session_id = traded(api)
        before = everything(api, session_id)
        server.kill()
    with journal(home, session_id).open("ab") as file:
        file.write(b'{"do":"step","steps":1,"at":')
    with running(home) as server, server.client() as client:
        api = Api(client)
        assert everything(api, session_id) == before
        assert api.post(f"{BACKTEST}/{session_id}/step")["step"] == 1003


def test_an_engine_that_answers_otherwise_fails_the_session_and_says_why(tmp_path: Path) -> None:
    """Another version of the engine might: here the digest of a journaled reply is changed."""
    home = sample_home(tmp_path)
    server = RunningServer(home)
    with server.client() as client:
        session_id = traded(Api(client))
        server.kill()
    lines = journal(home, session_id).read_bytes().splitlines(keepends=True)
    for number, line in enumerate(lines):
        if b'"do":"order"' in line:
            fields = json.loads(line)
            del fields["crc"]
            fields["digest"] = "0" * 16
            lines[number] = checked(json.dumps(fields).encode()[:-1])
            break
    journal(home, session_id).write_bytes(b"".join(lines))
    with running(home) as server, server.client() as client:
        api = Api(client)
        error = api.post(f"{BACKTEST}/{session_id}/step", expect=409)
        assert "replies differently at step 0" in error["message"]
        assert error["details"]["status"] == "failed"
        assert client.get(f"{BACKTEST}/{session_id}/recording").status_code == 200


@pytest.fixture
def small(tmp_path: Path) -> Iterator[RunningServer]:
    """Run a server with room for the candles of one symbol; two months of them are 5.5 MB."""
    with running(sample_home(tmp_path), "--memory-budget", "7MB") as server:
        yield server


def test_sessions_make_room_for_each_other(small: RunningServer) -> None:
    """Two symbols need the room for the candles of one, so sessions take turns in memory."""
    with small.client() as client:
        api = Api(client)
        ids = [api.started("02-10", "02-11", pairs=[pair]) for pair in ("BTCUSDT", "ETHUSDT") * 2]
        for number in range(1, 4):
            assert [api.step(session_id)["step"] for session_id in ids] == [number] * 4
        assert api.get("/health")["open_sessions"] == 4
        listed = api.get(f"{BACKTEST}/list")["backtests"]
        assert {session["current_step"] for session in listed} == {3}
        with ThreadPoolExecutor(4) as threads:
            steps = list(threads.map(lambda session_id: api.step(session_id, 100)["step"], ids * 3))
        assert sorted(steps) == [103] * 4 + [203] * 4 + [303] * 4


def test_idle_sessions_leave_memory_and_come_back(tmp_path: Path) -> None:
    with running(sample_home(tmp_path), "--idle-seconds", "1") as server, server.client() as client:
        api = Api(client)
        ids = [traded(api) for _ in range(5)]
        before = [everything(api, session_id) for session_id in ids]
        wait_for_empty_memory(client)
        assert api.get("/health")["open_sessions"] == 5
        for session_id in ids:
            lines = records_of(journal(tmp_path, session_id).read_bytes(), needs_crc=True)
            assert sum(isinstance(line.record, StepRecord) for line in lines) <= 3
        assert [everything(api, session_id) for session_id in ids] == before
        steps = [api.post(f"{BACKTEST}/{session_id}/step")["step"] for session_id in ids]
        assert steps == [1003] * 5


def test_hundreds_of_quiet_steps_are_two_lines_of_a_recording(tmp_path: Path) -> None:
    with running(sample_home(tmp_path)) as server, server.client() as client:
        api = Api(client)
        session_id = api.started("01-15", "01-20")
        for _ in range(500):
            api.post(f"{BACKTEST}/{session_id}/step")
        lines = client.get(f"{BACKTEST}/{session_id}/recording").content.splitlines(keepends=True)
        assert len(lines) == 3
        records = [json.loads(line) for line in lines[1:]]
        assert [(record["steps"], record.get("times", 1), record["at"]) for record in records] == [
            (1, 499, 499),
            (1, 1, 500),
        ]
        assert encoded(StepRecord(steps=1, at=500, digest=records[1]["digest"])) == lines[2]
