"""A backup that is made while a server runs: what is restored of it equals the original."""

import fcntl
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from candlestep.data.store.database import FILE_NAME
from tests.support.api_client import (
    BACKTEST,
    Api,
    finished,
    make_key,
    sample_home,
)
from tests.support.command_line import Run, candlestep, candlestep_process
from tests.support.patience import PATIENCE
from tests.support.server_process import running
from tests.support.traded_sessions import everything, journal, traded

JOB = {
    "template_id": "tpl_breakout",
    "params": {"lookback": 20},
    "symbols": ["BTCUSDT"],
    "timeframe": "1h",
    "start": "2025-01-10T00:00:00Z",
    "end": "2025-01-20T00:00:00Z",
    "capital": "10000",
}
RESULTS = ("results", "results/equity-curve", "results/trades")


def back_up(home: Path, directory: Path) -> Run:
    done = candlestep("backup", directory, "--home", home)
    assert done.code == 0, done.err
    return done


def restore(directory: Path, home: Path) -> Path:
    done = candlestep("restore", directory, "--home", home)
    assert done.code == 0, done.err
    return home


def one_of_each(api: Api) -> dict[str, str]:
    """Return a created, a running, a forked, a completed and a cancelled session, by state."""
    sessions = {"created": api.create("01-15", "01-16"), "running": traded(api)}
    forked = api.post(f"{BACKTEST}/{sessions['running']}/fork", {"count": 1}, 201)
    sessions["forked"] = forked["forks"][0]["session_id"]
    api.step(sessions["forked"], 10)
    for state in ("completed", "cancelled"):
        sessions[state] = traded(api)
        if state == "completed":
            api.step(sessions[state], 10_000)
        else:
            api.post(f"{BACKTEST}/{sessions[state]}/cancel")
    return sessions


def all_of(api: Api, sessions: dict[str, str], job_id: str) -> dict[str, Any]:
    """Return all that can be read of sessions and of a job."""
    answers: dict[str, Any] = {"job": api.get(f"{BACKTEST}/jobs/{job_id}")}
    answers["list"] = api.get(f"{BACKTEST}/list")
    for state, session_id in sessions.items():
        if state == "created":
            answers[state] = api.read(session_id, "status")
            continue
        answers[state] = everything(api, session_id)
        if state in ("completed", "cancelled"):
            answers[state] |= {path: api.read(session_id, path) for path in RESULTS}
    return answers


def test_a_restored_backup_equals_the_original_that_was_killed(tmp_path: Path) -> None:
    home = sample_home(tmp_path / "home")
    key = make_key(home, "ann")
    (home / "fee_schedules.json").write_text("{}")
    with running(home) as server, server.client(key) as client:
        api = Api(client)
        sessions = one_of_each(api)
        job_id = api.post(f"{BACKTEST}/jobs", JOB)["id"]
        finished(api, job_id)
        before = all_of(api, sessions, job_id)
        said = back_up(home, tmp_path / "backup")
        server.kill()
    assert "4 journals" in said.out
    restored = restore(tmp_path / "backup", tmp_path / "restored")
    assert (restored / "fee_schedules.json").exists()
    wide = [path for path in (restored, *restored.rglob("*")) if path.lstat().st_mode & 0o077]
    assert wide == []
    for directory in (restored, home):
        with running(directory) as server, server.client(key) as client:
            api = Api(client)
            assert all_of(api, sessions, job_id) == before
            api.step(sessions["running"], 5)
            api.step(sessions["forked"], 5)
            api.started()


@pytest.fixture
def trading(tmp_path: Path) -> Iterator[tuple[Path, list[str], list[list[bytes]], threading.Event]]:
    """Yield a home whose server is traded on by threads, the sessions, and the answers so far."""
    home = sample_home(tmp_path / "home")
    stop = threading.Event()
    with running(home) as server, server.client() as client:
        sessions = [Api(client).started("01-15", "01-20") for _ in range(4)]
        answers: list[list[bytes]] = [[] for _ in sessions]

        def trade(session_id: str, into: list[bytes]) -> None:
            with server.client() as mine:
                while not stop.is_set() and len(into) < 7000:
                    if len(into) % 50 == 0:
                        Api(mine).order(session_id, quantity="0.001")
                    into.append(mine.post(f"{BACKTEST}/{session_id}/step").content)

        threads = [
            threading.Thread(target=trade, args=pair)
            for pair in zip(sessions, answers, strict=True)
        ]
        for thread in threads:
            thread.start()
        try:
            yield home, sessions, answers, stop
        finally:
            stop.set()
            for thread in threads:
                thread.join()


def test_a_backup_beside_trading_clients_has_every_session_at_one_of_its_steps(
    trading: tuple[Path, list[str], list[list[bytes]], threading.Event], tmp_path: Path
) -> None:
    home, sessions, answers, stop = trading
    least = []
    for number in range(2):
        least.append([len(steps) for steps in answers])
        back_up(home, tmp_path / f"backup{number}")
    stop.set()
    for number, floors in enumerate(least):
        restored = restore(tmp_path / f"backup{number}", tmp_path / f"restored{number}")
        with running(restored) as server, server.client() as client:
            api = Api(client)
            for session_id, steps, floor in zip(sessions, answers, floors, strict=True):
                status = api.read(session_id, "status")
                assert status["status"] == "running", status
                reached = status["current_step"]
                assert floor <= reached <= len(steps) + 1
                portfolio = api.read(session_id, "account/portfolio")
                next_step = client.post(f"{BACKTEST}/{session_id}/step").json()
                assert next_step["step"] == reached + 1
                # Every 50 steps there is an order, which may or may not be in the backup.
                if reached % 50:
                    assert portfolio == json.loads(steps[reached - 1])["portfolio"]
                    assert reached >= len(steps) or next_step == json.loads(steps[reached])


def test_a_backup_that_is_killed_leaves_no_directory(tmp_path: Path) -> None:
    home = sample_home(tmp_path / "home")
    process = candlestep_process("backup", tmp_path / "backup", "--home", home)
    partial = tmp_path / ".backup.partial"
    while process.poll() is None and not partial.exists():
        pass
    process.kill()
    process.communicate(timeout=PATIENCE)
    if not (tmp_path / "backup").exists():
        refused = candlestep("restore", tmp_path / "backup", "--home", tmp_path / "restored")
        assert refused.code == 1
        assert "is not a backup" in refused.err
        back_up(home, tmp_path / "backup")
        assert not partial.exists()


def test_two_backups_are_never_written_to_one_directory(tmp_path: Path) -> None:
    homes = [sample_home(tmp_path / name) for name in ("a", "b")]
    into_one = [candlestep_process("backup", tmp_path / "x", "--home", home) for home in homes]
    for process in into_one:
        process.communicate(timeout=PATIENCE)
    assert sorted(process.returncode for process in into_one) == [0, 1]
    restore(tmp_path / "x", tmp_path / "restored")
    partial = tmp_path / ".y.partial"
    partial.mkdir()
    opened = os.open(partial, os.O_RDONLY)
    fcntl.flock(opened, fcntl.LOCK_EX)
    refused = candlestep("backup", tmp_path / "y", "--home", homes[0])
    assert (refused.code, "another backup" in refused.err) == (1, True)
    os.close(opened)
    (partial / "left").write_bytes(b"half")
    back_up(homes[0], tmp_path / "y")
    assert not (tmp_path / "y" / "left").exists()


def test_a_server_that_is_killed_during_a_backup_leaves_no_directory(tmp_path: Path) -> None:
    home = sample_home(tmp_path / "home")
    with running(home) as server, server.client() as client:
        session_id = traded(Api(client))
        process = candlestep_process("backup", tmp_path / "backup", "--home", home)
        partial = tmp_path / ".backup.partial"
        while process.poll() is None and not partial.exists():
            pass
        server.kill()
        _, err = process.communicate(timeout=PATIENCE)
    # The kill may come when the last file is there already.
    if process.returncode:
        assert "try again" in err
        assert not (tmp_path / "backup").exists()
        back_up(home, tmp_path / "backup")
        assert not partial.exists()
    restored = restore(tmp_path / "backup", tmp_path / "restored")
    with running(restored) as server, server.client() as client:
        assert Api(client).read(session_id, "status")["current_step"] == 1002


def test_what_must_not_be_overwritten_is_refused(tmp_path: Path) -> None:
    home = sample_home(tmp_path / "home")
    with running(home) as server, server.client() as client:
        session_id = traded(Api(client))
        back_up(home, tmp_path / "backup")
        again = candlestep("backup", tmp_path / "backup", "--home", home)
        assert (again.code, "exists" in again.err) == (1, True)
        used = candlestep("restore", tmp_path / "backup", "--home", home)
        assert (used.code, "a server runs" in used.err) == (1, True)
    used = candlestep("restore", tmp_path / "backup", "--home", home)
    assert (used.code, "is not empty" in used.err) == (1, True)
    damaged = journal(tmp_path / "backup", session_id)
    damaged.write_bytes(damaged.read_bytes()[:-1])
    short = candlestep("restore", tmp_path / "backup", "--home", tmp_path / "restored")
    assert (short.code, f"{session_id}.jsonl has" in short.err) == (1, True)
    assert not (tmp_path / "restored").exists()


def test_a_restore_that_was_interrupted_is_begun_anew(tmp_path: Path) -> None:
    home = sample_home(tmp_path / "home")
    back_up(home, tmp_path / "backup")
    restored = tmp_path / "restored"
    (restored / "restoring").mkdir(parents=True, mode=0o700)
    restored.chmod(0o700)
    (restored / "restoring" / FILE_NAME).write_bytes(b"half")
    restore(tmp_path / "backup", restored)
    assert [path.name for path in restored.iterdir()] == [FILE_NAME]
    assert candlestep("data", "list", "--home", restored).code == 0
