"""``sessions``, ``show`` and ``plot``: on a home of its own, and on one that a server serves."""

import json
import re
from pathlib import Path

import pytest

from candlestep.api.cli.pictures.show import sparkline
from tests.support.api_client import Api, sample_home
from tests.support.backtests import BACKTESTS, CROSS, create, keep
from tests.support.command_line import candlestep
from tests.support.server_process import running
from tests.support.traded_sessions import traded


def test_sessions_are_listed_shown_and_plotted_with_and_without_a_server(tmp_path: Path) -> None:
    home = sample_home(tmp_path / "home")
    page, recording = tmp_path / "page.html", tmp_path / "session.jsonl"
    with running(home) as server, server.client() as client:
        api = Api(client)
        session_id = traded(api, strategy_label="<b>bold</b>")
        recording.write_bytes(client.get(f"/api/v1/backtest/{session_id}/recording").content)
        backtest_id = create(api, keep(api, CROSS))
        api.post(f"{BACKTESTS}/{backtest_id}/execute")
        equity = api.read(session_id, "account/portfolio")["total_equity"]
        served = candlestep("show", session_id, "--home", home).out
        assert candlestep("plot", backtest_id, "-o", page, "--home", home).code == 0
    assert "candlestick" in page.read_text()

    listed = json.loads(candlestep("sessions", "--json", "--home", home).out)
    assert [session["session_id"] for session in listed] == [session_id]
    assert session_id in candlestep("sessions", "--status", "running", "--home", home).out
    assert candlestep("sessions", "--status", "failed", "--home", home).out.startswith("No session")

    shown = candlestep("show", session_id, "--home", home)
    assert shown.code == 0
    assert shown.out == served
    assert f"{float(equity):,.2f}" in shown.out
    assert re.search("[▁-█]{72}", shown.out)
    assert json.loads(candlestep("show", backtest_id, "--json", "--home", home).out)["kind"] == (
        "backtest"
    )

    for subject in (session_id, recording):
        done = candlestep("plot", subject, "-o", page, "--home", home)
        assert done.code == 0, done.err
        text = page.read_text()
        assert "<b>bold</b>" not in text
        assert "<script src" not in text
        assert '"type":"candlestick"' in text
    (recorded, stored) = (
        json.loads(candlestep("show", subject, "--json", "--home", home).out)["headline"]
        for subject in (recording, session_id)
    )
    assert recorded == stored


def test_a_list_has_the_steps_that_a_server_has_not_stored(tmp_path: Path) -> None:
    with running(sample_home(tmp_path)) as server, server.client() as client:
        api = Api(client)
        api.step(api.started(), 7)
        [listed] = json.loads(candlestep("sessions", "--json", "--home", tmp_path).out)
    assert listed["current_step"] == 7


def test_an_unknown_subject_is_refused(tmp_path: Path) -> None:
    home = sample_home(tmp_path / "home")
    assert candlestep("sessions", "--home", home).out == "There are no sessions.\n"
    for command in (("show", "none-such"), ("plot", "none-such", "-o", tmp_path / "x.html")):
        refused = candlestep(*command, "--home", home)
        assert refused.code == 1
        assert "there is no session" in refused.err
        assert "candlestep sessions" in refused.err
    assert not (tmp_path / "x.html").exists()
    assert candlestep("plot", "x", "--home", home).code == 2


@pytest.mark.parametrize(
    ("values", "line"), [([1, 2, 3], "▁▄█"), ([5.0, 5.0], "▁▁"), ([3, 1], "█▁"), ([0.0], "▁")]
)
def test_a_sparkline_goes_from_the_lowest_to_the_highest(values: list[float], line: str) -> None:
    assert sparkline(values) == line
