"""Forks over HTTP: sessions that share a past and nothing else."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.api_client import BACKTEST, Api, sample_home
from tests.support.command_line import candlestep
from tests.support.server_process import RunningServer, running
from tests.support.traded_sessions import everything, journal, traded


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running(sample_home(tmp_path_factory.mktemp("home"))) as server:
        yield server


@pytest.fixture
def api(server: RunningServer) -> Iterator[Api]:
    with server.client() as client:
        yield Api(client)


def fork(api: Api, session_id: str, **body: Any) -> list[str]:
    """Fork a session and return the ids of its forks."""
    answer = api.post(f"{BACKTEST}/{session_id}/fork", body, expect=201)
    assert answer["count"] == len(answer["forks"])
    return [fork["session_id"] for fork in answer["forks"]]


def without_names(answers: dict[str, Any]) -> dict[str, Any]:
    """Leave out the answers that name the session."""
    return {path: answers[path] for path in answers if path not in ("status", "recording")}


def test_a_fork_is_a_running_session_at_the_same_point(api: Api) -> None:
    session_id = traded(api, strategy_label="first")
    answer = api.post(f"{BACKTEST}/{session_id}/fork", {"count": 2}, expect=201)
    assert (answer["session_id"], answer["current_step"]) == (session_id, 1002)
    assert answer["virtual_time"] == "2025-01-15T16:42:00Z"
    first, second = (fork["session_id"] for fork in answer["forks"])
    before = everything(api, session_id)
    for fork_id in (first, second):
        assert without_names(everything(api, fork_id)) == without_names(before)
        status = api.read(fork_id, "status")
        assert (status["status"], status["strategy_label"]) == ("running", "first")
        assert status["started_at"] is not None
    api.order(first, quantity="0.001")
    api.step(first, 10_000)
    assert everything(api, session_id) == before
    assert without_names(everything(api, second)) == without_names(before)
    portfolios = [api.step(running_id, 10_000)["portfolio"] for running_id in (second, session_id)]
    assert portfolios[0] == portfolios[1]
    assert api.read(first, "results")["summary"] != api.read(second, "results")["summary"]


def test_forks_of_forks_survive_a_kill_and_replay_from_the_start(tmp_path: Path) -> None:
    home = sample_home(tmp_path)
    server = RunningServer(home)
    with server.client() as client:
        api = Api(client)
        session_id = traded(api)
        [child] = fork(api, session_id, strategy_label="child")
        api.step(session_id, 5)
        api.order(child, symbol="ETHUSDT", quantity="0.5")
        api.step(child, 100)
        grandchildren = fork(api, child, count=3)
        api.step(child, 7)
        api.order(grandchildren[0], symbol="ETHUSDT", side="sell", quantity="0.25")
        ids = [session_id, child, *grandchildren]
        before = [everything(api, session_id) for session_id in ids]
        server.kill()
    with running(home) as server, server.client() as client:
        api = Api(client)
        assert [everything(api, session_id) for session_id in ids] == before
        for session_id in ids:
            api.step(session_id, 3)
        file = tmp_path / "recording.jsonl"
        for session_id in ids:
            answer = client.get(f"{BACKTEST}/{session_id}/recording")
            assert answer.headers["content-type"] == "application/x-ndjson"
            disposition = answer.headers["content-disposition"]
            assert disposition == f'attachment; filename="{session_id}.jsonl"'
            file.write_bytes(answer.content)
            replayed = candlestep("replay", file, "--home", home)
            assert replayed.code == 0, replayed.out + replayed.err
            assert "every answer is the one recorded" in replayed.out


def test_what_cannot_be_forked(api: Api) -> None:
    created = api.create("01-15", "01-16")
    assert "not started" in api.post(f"{BACKTEST}/{created}/fork", expect=409)["message"]
    ended = api.started()
    api.step(ended, 10_000)
    assert api.post(f"{BACKTEST}/{ended}/fork", expect=409)["details"]["status"] == "completed"
    running_id = api.started()
    for wrong in (0, 101, -1, "x", 1.5, None):
        error = api.post(f"{BACKTEST}/{running_id}/fork", {"count": wrong}, expect=422)
        assert error["details"]["field"] == "count"
    assert api.read(running_id, "status")["status"] == "running"


def test_a_key_is_of_its_session_and_not_of_its_forks(tmp_path: Path) -> None:
    """This holds in memory, and after the fork is rebuilt from the journals of both."""
    home = sample_home(tmp_path)
    server = RunningServer(home)
    key = {"Idempotency-Key": "k"}
    with server.client() as client:
        api = Api(client)
        session_id = api.started()
        assert client.post(f"{BACKTEST}/{session_id}/step", headers=key).json()["step"] == 1
        first, second = fork(api, session_id, count=2)
        assert client.post(f"{BACKTEST}/{first}/step", headers=key).json()["step"] == 2
        server.kill()
    with running(home) as server, server.client() as client:
        for stepped_id, step in ((session_id, 1), (first, 2), (second, 2)):
            answer = client.post(f"{BACKTEST}/{stepped_id}/step", headers=key)
            assert (answer.status_code, answer.json()["step"]) == (200, step)
            assert Api(client).read(stepped_id, "status")["current_step"] == step


def test_a_fork_whose_past_has_changed_fails(tmp_path: Path) -> None:
    """The origin's journal is truncated, then the origin writes other commands of the same size."""
    home = sample_home(tmp_path)
    server = RunningServer(home)
    with server.client() as client:
        api = Api(client)
        session_id = api.started()
        for _ in range(20):
            api.post(f"{BACKTEST}/{session_id}/step")
        [forked] = fork(api, session_id)
        orphaned = fork(api, session_id)[0]
        server.kill()
    file = journal(home, session_id)
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:11]))
    with running(home) as server, server.client() as client:
        api = Api(client)
        for _ in range(30):
            api.step(session_id, 2)
        error = api.post(f"{BACKTEST}/{forked}/step", expect=409)
        assert f"the past that it shares with session {session_id}" in error["message"]
        file.unlink()
        error = api.post(f"{BACKTEST}/{orphaned}/step", expect=409)
        assert f"{session_id}.jsonl, whose past it shares, is missing" in error["message"]
