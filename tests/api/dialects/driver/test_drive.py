"""Bots on the clock of a session: polling, threads and tasks, each the same in every run."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.api_client import BACKTEST, Api, make_key, sample_home
from tests.support.binance import Binance
from tests.support.command_line import candlestep
from tests.support.patience import PATIENCE
from tests.support.project import ROOT
from tests.support.server_process import RunningServer, running

BOTS = Path(__file__).parent / "bots"
START, HOURS = "2025-01-20T00:00:00Z", "2025-01-20T03:00:00Z"
START_SECONDS = 1_737_331_200


def drive(
    server: RunningServer, session_id: str, bot: str, *arguments: str, options: Sequence[str] = ()
) -> "subprocess.CompletedProcess[str]":
    """Run a bot in a session to the end of either."""
    command = [sys.executable, "-m", "candlestep.api", "drive", *options, "--url", server.url]
    return subprocess.run(
        [*command, session_id, "--", sys.executable, str(BOTS / bot), *arguments],
        capture_output=True,
        check=False,
        text=True,
        timeout=PATIENCE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )


def records(api: Api, session_id: str) -> list[dict[str, Any]]:
    """Return the commands of a session with their answers and digests."""
    text = api.client.get(f"{BACKTEST}/{session_id}/recording").text
    lines = [json.loads(line) for line in text.splitlines()]
    return [{name: value for name, value in line.items() if name != "crc"} for line in lines[1:]]


@pytest.mark.parametrize(
    ("bot", "orders"),
    [
        ("polling.py", 18),
        ("threaded.py", 66),
        ("waiting.py", 19),
        ("queues.py", 52),
        ("tasks.py", 66),
    ],
)
def test_two_runs_of_a_bot_are_the_same_to_the_digit(
    api: Api, server: RunningServer, bot: str, orders: int
) -> None:
    """Tasks are, on another event loop, too."""
    runs = []
    for loop in ("asyncio", "uvloop"):
        session_id = api.create(START, HOURS)
        arguments = [loop] if bot == "tasks.py" else []
        run = drive(server, session_id, bot, *arguments)
        assert run.returncode == 0, run.stderr
        assert "completed, step 180 of 180" in run.stdout
        runs.append(records(api, session_id))
    assert sum("order" in record for record in runs[0]) == orders
    assert runs[0] == runs[1]


def test_the_key_of_a_session_drives_it_and_no_other(tmp_path: Path) -> None:
    home = sample_home(tmp_path / "home")
    owner = make_key(home, "ann")
    with running(home) as server, server.client(owner) as client:
        api = Api(client)
        session_id, other = api.create(START, HOURS), api.create(START, HOURS)
        made = candlestep("keys", "create", "--session", session_id, "--home", home)
        (key,) = re.findall(r"ak_\S+", made.out)
        run = drive(server, session_id, "polling.py", options=["--key", key])
        assert "completed, step 180 of 180" in run.stdout, run.stderr
        assert sum("order" in record for record in records(api, session_id)) == 18
        refused = drive(server, other, "polling.py", options=["--key", key])
        assert refused.returncode == 1
        assert f"there is no session {other}" in refused.stderr


def test_a_bot_that_crashes_leaves_the_session_to_others(api: Api, server: RunningServer) -> None:
    session_id = api.create(START, HOURS)
    run = drive(server, session_id, "polling.py", "3")
    assert run.returncode == 1
    assert "this bot crashes" in run.stderr
    # Three sleeps of 90.25 s are four steps of a minute, and 30.75 s.
    assert "running, step 4 of 180" in run.stdout
    api.step(session_id)


def test_a_bot_that_does_not_end_is_ended_with_what_it_has_started(
    api: Api, server: RunningServer, tmp_path: Path
) -> None:
    session_id = api.create(START, HOURS)
    told = tmp_path / "told"
    run = drive(server, session_id, "stubborn.py", str(told), options=["--grace", "0.2"])
    assert run.returncode == 0, run.stderr
    child, bot, now, first, passed, is_real = told.read_text().split()
    for process in (child, bot):
        assert not is_running(int(process))
    assert float(now) == float(first) == START_SECONDS + 3600
    assert (float(passed), is_real) == (0, "True")


def is_running(process: int) -> bool:
    """Return whether a process is there, and not only its exit code."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_while_a_driver_holds_a_session_nobody_else_steps_it(api: Api) -> None:
    session_id = api.started(START, HOURS)
    binance = Binance(api, session_id, clock="lockstep", strict_time=False)
    held = binance.signed("POST", "control/hold", holder="one")
    assert (held["step"], held["status"], held["interval"]) == (0, "running", 60_000)
    api.step(session_id, expect=409)
    api.post(f"{BACKTEST}/{session_id}/step", expect=409)
    api.post(f"{BACKTEST}/{session_id}/turn", {"steps": 1}, expect=409)
    assert binance.signed("POST", "control/hold", 400, holder="two")[0] == -1013
    api.order(session_id)
    to = held["now"] + 150_500
    for _ in range(2):
        moved = binance.signed("POST", "control/advance", holder="one", to=to)
        assert (moved["step"], moved["now"]) == (2, to)
    assert binance.get("api/v3/time")["serverTime"] == to
    assert binance.signed("POST", "control/advance", 400, holder="two", to=to)[0] == -1013
    binance.signed("POST", "control/release", holder="one")
    assert binance.get("api/v3/time")["serverTime"] == held["now"] + 120_000
    api.step(session_id)


def test_by_hand_time_stands_until_it_is_stepped(api: Api) -> None:
    session_id = api.started(START, HOURS)
    binance = Binance(api, session_id)
    first = binance.get("api/v3/time")["serverTime"]
    assert binance.get("api/v3/time")["serverTime"] == first
    assert binance.signed("POST", "control/step", n=3)["now"] == first + 180_000
    done = binance.signed("POST", "control/step", n=1000)
    assert (done["status"], done["step"]) == ("completed", 180)
    assert binance.signed("POST", "control/step", 400)[0] == -1013


def test_a_paced_session_follows_the_wall_clock_and_replays(api: Api) -> None:
    session_id = api.started(START, HOURS)
    binance = Binance(api, session_id, clock="paced", speed=100_000)
    times = [binance.get("api/v3/time")["serverTime"]]
    while times[-1] < times[0] + 3_600_000:
        times.append(binance.get("api/v3/time")["serverTime"])
    assert times == sorted(times)
    steps = sum(
        record.get("steps", 0) * record.get("times", 1) for record in records(api, session_id)
    )
    assert steps >= 60


def test_the_lines_for_a_client_have_the_address_of_the_session(
    api: Api, server: RunningServer
) -> None:
    """A session that is not started yet is."""
    session_id = api.create(START, HOURS)
    command = [sys.executable, "-m", "candlestep.api", "dialect", session_id, "--url", server.url]
    lines = subprocess.run(
        [*command, "--client", "python-binance"], capture_output=True, text=True, check=True
    ).stdout
    assert f'Client.API_URL = "{server.url}/binance/{session_id}/api"\n' in lines
    key, secret = lines.split('Client("')[1].split('"')[0], lines.split('"')[-2]
    assert (len(key), len(secret)) == (32, 64)
    assert api.read(session_id, "status")["status"] == "running"
    unknown = subprocess.run(
        [*command[:4], "bt_unknown", *command[5:]], capture_output=True, text=True, check=False
    )
    assert unknown.returncode == 1
    assert "there is no session bt_unknown" in unknown.stderr
    assert "`candlestep sessions`" in unknown.stderr
    assert "GET /" not in unknown.stderr
