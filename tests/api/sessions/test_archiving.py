"""Journals of sessions that ended long ago: compressed, read as before, deleted only when asked."""

from contextlib import closing
from pathlib import Path

import pytest

from candlestep.api.admin import backups
from candlestep.data.journal.archive import archived_path
from candlestep.data.store.database import Store
from tests.support.api_client import BACKTEST, Api, refused, sample_home, wait_for
from tests.support.command_line import candlestep
from tests.support.server_process import running
from tests.support.traded_sessions import everything, journal, traded


def end_earlier(home: Path, days: int) -> None:
    """Let all sessions that have ended have ended days earlier; no server may run on ``home``."""
    with closing(Store.open(home)) as store, store.transaction():
        store.execute(
            "UPDATE sessions SET completed_at = completed_at - to_days(?::INTEGER)"
            " WHERE completed_at IS NOT NULL",
            days,
        )


def test_an_archived_journal_answers_as_before(tmp_path: Path) -> None:
    home = sample_home(tmp_path)
    with running(home) as server, server.client() as client:
        api = Api(client)
        origin, running_on = traded(api), traded(api)
        forks = api.post(f"{BACKTEST}/{origin}/fork", {"count": 2}, 201)["forks"]
        fork, ended_fork = (forked["session_id"] for forked in forks)
        before_fork = everything(api, fork)
        for session_id in (origin, ended_fork):
            api.post(f"{BACKTEST}/{session_id}/cancel")
        before = {session_id: everything(api, session_id) for session_id in (origin, ended_fork)}
    size = journal(home, origin).stat().st_size
    end_earlier(home, 8)
    with running(home, "--result-days", "7") as server, server.client() as client:
        api = Api(client)
        archived = archived_path(journal(home, origin))
        wait_for(
            lambda: [journal(home, name).exists() for name in before], lambda left: not any(left)
        )
        assert archived.stat().st_size < size / 2
        assert journal(home, running_on).exists()
        for session_id, answers in before.items():
            # Its status has the time of its end, which is another now.
            assert everything(api, session_id) | {"status": b""} == answers | {"status": b""}
        assert everything(api, fork) == before_fork
        api.step(fork)
        refused(client.post(f"{BACKTEST}/{origin}/step"), 409, "INVALID_STATE")
        assert candlestep("backup", tmp_path / "backup", "--home", home).code == 0
    assert candlestep("restore", tmp_path / "backup", "--home", tmp_path / "again").code == 0
    with running(tmp_path / "again") as server, server.client() as client:
        found = everything(Api(client), origin)
        assert found | {"status": b""} == before[origin] | {"status": b""}


def test_a_session_that_ended_later_keeps_its_journal(tmp_path: Path) -> None:
    home = sample_home(tmp_path)
    with running(home) as server, server.client() as client:
        early, late = (traded(Api(client)) for _ in range(2))
        Api(client).post(f"{BACKTEST}/{early}/cancel")
    end_earlier(home, 8)
    with running(home) as server, server.client() as client:
        Api(client).post(f"{BACKTEST}/{late}/cancel")
    with running(home, "--result-days", "7") as server:
        wait_for(lambda: journal(home, early).exists(), lambda is_there: not is_there)
        assert journal(home, late).exists()
        server.stop()
    assert "journals_archived" in (home / "server.log").read_text()


def test_a_journal_that_cannot_be_archived_keeps_none_from_it(tmp_path: Path) -> None:
    home = sample_home(tmp_path)
    with running(home) as server, server.client() as client:
        first, second = (traded(Api(client)) for _ in range(2))
        for session_id in (first, second):
            Api(client).post(f"{BACKTEST}/{session_id}/cancel")
    end_earlier(home, 8)
    journal(home, first).unlink()
    journal(home, first).mkdir()
    with running(home, "--result-days", "7") as server:
        wait_for(lambda: journal(home, second).exists(), lambda is_there: not is_there)
        server.stop()
    log = (home / "server.log").read_text()
    assert "journal_not_archived" in log
    assert '"sessions": 1' in log


def test_a_damaged_archive_is_said(tmp_path: Path) -> None:
    home = sample_home(tmp_path)
    with running(home) as server, server.client() as client:
        session_id = traded(Api(client))
        Api(client).post(f"{BACKTEST}/{session_id}/cancel")
    end_earlier(home, 100)
    archived = archived_path(journal(home, session_id))
    with running(home) as server:
        wait_for(lambda: journal(home, session_id).exists(), lambda is_there: not is_there)
    archived.write_bytes(archived.read_bytes()[:-20])
    with running(home) as server, server.client() as client:
        answer = client.get(f"{BACKTEST}/{session_id}/trade/orders")
        refused(answer, 409, "INVALID_STATE")
        assert "unpacked" in answer.json()["message"]
        Api(client).read(session_id, "results")


def test_pruning_deletes_archived_journals_that_no_other_needs(tmp_path: Path) -> None:
    home = sample_home(tmp_path)
    with running(home) as server, server.client() as client:
        api = Api(client)
        alone, origin = traded(api), traded(api)
        fork = api.post(f"{BACKTEST}/{origin}/fork", {"count": 1}, 201)["forks"][0]["session_id"]
        of_fork = api.post(f"{BACKTEST}/{fork}/fork", {"count": 1}, 201)["forks"][0]["session_id"]
        for session_id in (alone, origin, fork):
            api.post(f"{BACKTEST}/{session_id}/cancel")
        before = everything(api, of_fork)
        recording = api.client.get(f"{BACKTEST}/{origin}/recording").content
    end_earlier(home, 100)
    with running(home) as server, server.client() as client:
        api = Api(client)
        wait_for(
            lambda: [journal(home, name).exists() for name in (alone, origin, fork)],
            lambda left: not any(left),
        )
        pruned = candlestep("data", "prune", "--journals", "--home", home)
        assert "1 archived journals deleted" in pruned.out
        assert not archived_path(journal(home, alone)).exists()
        for path in ("trade/orders", "recording"):
            refused(client.get(f"{BACKTEST}/{alone}/{path}"), 409, "INVALID_STATE")
        assert api.read(alone, "results")["status"] == "cancelled"
        assert everything(api, of_fork) == before
        assert client.get(f"{BACKTEST}/{origin}/recording").content == recording
        assert "0 archived" in candlestep("data", "prune", "--journals", "--home", home).out


def test_a_fork_whose_journal_was_pruned_needs_no_past(tmp_path: Path) -> None:
    home = sample_home(tmp_path)
    with running(home) as server, server.client() as client:
        api = Api(client)
        origin = traded(api)
        fork = api.post(f"{BACKTEST}/{origin}/fork", {"count": 1}, 201)["forks"][0]["session_id"]
        api.post(f"{BACKTEST}/{fork}/cancel")
    for ended, goes_on in ((fork, True), (origin, False)):
        end_earlier(home, 100)
        with running(home) as server, server.client() as client:
            wait_for(journal(home, ended).exists, lambda is_there: not is_there)
            pruned = candlestep("data", "prune", "--journals", "--home", home)
            assert "1 archived journals deleted" in pruned.out
            if goes_on:
                Api(client).post(f"{BACKTEST}/{origin}/cancel")


def test_candles_that_only_pruned_journals_needed_can_be_pruned(tmp_path: Path) -> None:
    home = sample_home(tmp_path)
    with running(home) as server, server.client() as client:
        session_id = traded(Api(client))
        Api(client).post(f"{BACKTEST}/{session_id}/cancel")
    assert candlestep("data", "remove", "BTCUSDT", "--home", home).code == 0
    end_earlier(home, 100)
    with running(home) as server, server.client() as client:
        api = Api(client)
        wait_for(lambda: journal(home, session_id).exists(), lambda is_there: not is_there)
        before = everything(api, session_id)
        assert candlestep("data", "prune", "--home", home).out.startswith("0 superseded")
        assert everything(api, session_id) == before
        assert "1 archived" in candlestep("data", "prune", "--journals", "--home", home).out
        assert candlestep("data", "prune", "--home", home).out.startswith("86,400 superseded")
        for path in ("results", "status", "results/trades", "results/equity-curve"):
            assert client.get(f"{BACKTEST}/{session_id}/{path}").status_code == 200


def test_a_journal_that_another_command_has_just_deleted_is_not_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = sample_home(tmp_path)
    left, deleted = (archived_path(journal(home, name)) for name in ("bt_1", "bt_2"))
    left.parent.mkdir()
    left.write_bytes(b"left")
    both = {"bt_1": left, "bt_2": deleted}
    monkeypatch.setattr(backups, "archived_journals", lambda directory: both)
    done = candlestep("data", "prune", "--journals", "--home", home)
    assert (done.code, done.err) == (0, "")
    assert "1 archived journals deleted" in done.out
    assert not left.exists()
