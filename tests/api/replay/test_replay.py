"""Replay of the golden recording and of recordings by hand, and the report of a divergence."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from candlestep import __version__
from candlestep.data.imports.importer import import_candles
from candlestep.data.imports.sample import sample_market
from candlestep.data.store.database import Store
from candlestep.data.symbols import parse_symbol
from candlestep.sandbox import parse_time
from tests.support.api_client import Api, make_key, sample_home
from tests.support.candle_files import csv_text, rows, write
from tests.support.command_line import ENVIRONMENT, Run, candlestep, candlestep_process
from tests.support.patience import PATIENCE
from tests.support.project import ROOT
from tests.support.server_process import RunningServer, running

GOLDEN = ROOT / "examples" / "recorded_orders.jsonl"
SAME = "every answer is the one recorded"

Json = dict[str, Any]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sample_home(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running(sample_home(tmp_path_factory.mktemp("served"))) as server:
        yield server


@pytest.fixture(params=["library", "server on the home", "server"])
def replayed(
    request: pytest.FixtureRequest, home: Path, server: RunningServer
) -> Callable[..., Run]:
    """Return a function that replays a file, in each of the three ways."""
    where = {
        "library": ("--home", home),
        "server on the home": ("--home", server.home),
        "server": ("--url", server.url),
    }[request.param]
    return lambda *arguments: candlestep("replay", *arguments, *where)


def lines_of(path: Path) -> list[Json]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def changed(path: Path, change: Callable[[list[Json]], object]) -> Path:
    """Write the golden recording with a change, and without the checksums, as if by hand."""
    lines = lines_of(GOLDEN)
    before = json.dumps(lines)
    change(lines)
    assert json.dumps(lines) != before
    for line in lines:
        line.pop("crc")
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_the_golden_recording_replays(replayed: Callable[..., Run]) -> None:
    """If this fails, a change has altered a fill, or the reply that reports it."""
    done = replayed(GOLDEN)
    assert (done.code, done.err) == (0, "")
    assert SAME in done.out


@pytest.mark.parametrize("is_served", [True, False])
def test_a_recording_keeps_to_the_memory_budget(
    tmp_path: Path, is_served: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its two months of minutes take 5.7 MB."""
    home = sample_home(tmp_path / "home")
    monkeypatch.setenv("CANDLESTEP_MEMORY_BUDGET", "5MB")
    with running(home, "--memory-budget", "5MB") if is_served else nullcontext():
        refused = candlestep("replay", GOLDEN, "--home", home)
    assert refused.code == 3
    assert "need 6 MB of memory, and the budget is 5 MB" in refused.err


def test_idle_sessions_leave_memory_for_a_recording(tmp_path: Path) -> None:
    """The candles of the session and of the recording would take 8.6 MB together."""
    home = sample_home(tmp_path / "home")
    minutes = csv_text(rows(31 * 24 * 60, parse_time("2025-01-01")))
    candlestep("data", "import", write(home / "SOLUSDT-1m.csv", minutes), "--home", home)
    with running(home, "--memory-budget", "7MB") as server, server.client() as client:
        api = Api(client)
        session_id = api.started("2025-01-05", "2025-01-06", pairs=["SOLUSDT"])
        replayed = candlestep("replay", GOLDEN, "--home", home)
        assert (replayed.code, replayed.err) == (0, "")
        assert api.step(session_id, 1)["virtual_time"] == "2025-01-05T00:01:00Z"


def test_the_golden_recording_has_every_kind_of_order_and_of_end() -> None:
    orders: dict[int, Json] = {}
    refusals = set()
    for line in lines_of(GOLDEN):
        answer = line.get("answer", {})
        seen = [answer] if "order_id" in answer and "side" in answer else []
        seen += answer.get("orders_filled", []) + answer.get("orders_closed", [])
        orders |= {order["id"]: order for order in seen}
        refusals.add(answer.get("code"))
    assert {order["type"] for order in orders.values()} == {
        "market", "limit", "stop_loss", "take_profit",
    }  # fmt: skip
    ends = {(order["status"], order["reason"]) for order in orders.values()}
    assert ends >= {
        ("filled", None), ("expired", None), ("cancelled", "oco"), ("cancelled", "session_end"), ("cancelled", "requested"),
        ("rejected", "max_order_size_pct"),
    }  # fmt: skip
    assert refusals >= {
        "INSUFFICIENT_BALANCE", "RISK_LIMIT_EXCEEDED", "SYMBOL_NOT_FOUND", "ORDER_NOT_FOUND",
        "INVALID_STATE",
    }  # fmt: skip


def test_a_price_that_is_another_is_shown(replayed: Callable[..., Run], tmp_path: Path) -> None:
    def other_price(lines: list[Json]) -> None:
        lines[2]["answer"] |= {"executed_price": "92900.00", "fee": "4.64"}

    done = replayed(changed(tmp_path / "other.jsonl", other_price))
    assert done.code == 1
    shown = done.out.splitlines()
    where = "line 3, at step 60 (2025-01-05T01:00:00Z)"
    assert f"other.jsonl, {where}: the answer is not the one recorded." in shown[0]
    assert '{"do": "order", "order": {"symbol": "BTCUSDT", "side": "buy"' in shown[2]
    table = [line.split() for line in shown if line.startswith(("executed_price", "fee"))]
    actual = lines_of(GOLDEN)[2]["answer"]
    assert table == [
        ["executed_price", "92900.00", actual["executed_price"]],
        ["fee", "4.64", actual["fee"]],
    ]
    assert "The account just before and just after:" in done.out
    cash = [line.split()[1:] for line in shown if line.startswith("available_cash")]
    assert cash == [["10000.00", "5350.30559591"]], "10000 - 0.05 x 92900.98... - fee"
    candle = shown[shown.index("The candle of BTCUSDT at that step:") + 3]
    columns = sample_market()["BTCUSDT"]
    row = int(np.searchsorted(columns.open_time, parse_time("2025-01-05T00:59")))
    prices = [float(values[row]) for values in columns.numbers()]
    assert candle.split()[0] == "2025-01-05T00:59:00Z"
    assert list(map(float, candle.split()[1:])) == prices


def test_an_order_that_filled_and_does_not_any_more_is_shown(
    replayed: Callable[..., Run], tmp_path: Path
) -> None:
    """The recording has only a digest of quiet steps; the report shows the reply of today."""

    def was_quiet(lines: list[Json]) -> None:
        [step] = [line for line in lines if line.get("steps") == 360]
        del step["answer"]

    done = replayed(changed(tmp_path / "quiet.jsonl", was_quiet))
    assert done.code == 0, "the digest is the same"

    def other_digest(lines: list[Json]) -> None:
        was_quiet(lines)
        [step] = [line for line in lines if line.get("steps") == 360]
        step["digest"] = "0" * 16

    done = replayed(changed(tmp_path / "quiet.jsonl", other_digest))
    assert done.code == 1
    assert "quiet.jsonl, line 15, at step " in done.out
    filled = "Order 4 (buy 1.00 ETHUSDT limit) filled here, and did not when it was recorded:"
    assert filled in done.out
    [price] = [line.split() for line in done.out.splitlines() if "executed_price" in line]
    assert price == ["executed_price", "-", "3380.00"]


def test_a_refusal_that_was_none_is_shown(replayed: Callable[..., Run], tmp_path: Path) -> None:
    def too_large(lines: list[Json]) -> None:
        lines[2]["order"]["quantity"] = "1"

    done = replayed(changed(tmp_path / "refused.jsonl", too_large))
    assert done.code == 1
    rows = {line.split("  ")[0]: line.split() for line in done.out.splitlines()}
    assert rows["(status)"] == ["(status)", "201", "422"]
    assert "INSUFFICIENT_BALANCE" in rows["code"]


def test_without_digests_nothing_is_said_to_be_the_same(
    replayed: Callable[..., Run], tmp_path: Path
) -> None:
    def by_hand(lines: list[Json]) -> None:
        for number, line in enumerate(lines):
            fields = (
                "do",
                "pairs",
                "config",
                "risk_profile",
                "steps",
                "times",
                "order",
                "order_id",
            )
            lines[number] = {name: line[name] for name in fields if name in line} | {"crc": ""}

    file = changed(tmp_path / "hand.jsonl", by_hand)
    done = replayed(file)
    assert done.code == 3
    assert "31 of 31 commands have neither answer nor digest" in done.out
    assert "candlestep replay --record" in done.out
    done = replayed("--record", file)
    assert (done.code, done.err) == (0, "")
    again, golden = lines_of(file), lines_of(GOLDEN)
    for line in (*again, *golden):
        del line["crc"]
        line.get("answer", {}).pop("message", None)  # The words of a refusal may be others.
    assert again[0].pop("engine") == __version__
    del golden[0]["engine"]
    days = again[0].pop("days")
    assert list(days["BTCUSDT"]) == [f"2025-01-{day:02}" for day in range(1, 12)]
    assert again == golden, "to the last digit"
    assert replayed(file).code == 0


def test_other_candles_are_said_first(replayed: Callable[..., Run], tmp_path: Path) -> None:
    def of_others(lines: list[Json]) -> None:
        lines[0]["candles"]["ETHUSDT"]["2025-01"] = "0" * 16
        lines[0]["candles"]["ETHUSDT"]["2024-12"] = "0" * 16
        lines[2]["answer"]["fee"] = "1.00"

    done = replayed(changed(tmp_path / "others.jsonl", of_others))
    assert done.code == 1
    assert done.out.startswith("The candles are not those that it was recorded on:")
    assert "ETHUSDT  2024-12, 2025-01" in done.out
    assert done.out.index("ETHUSDT") < done.out.index("line 3")


def test_a_recording_runs_on_the_candles_that_it_was_made_on(tmp_path: Path) -> None:
    """A later import supersedes them but keeps them; without them the report says so first."""
    home = sample_home(tmp_path / "home")
    file = tmp_path / "recording.jsonl"
    file.write_bytes(GOLDEN.read_bytes())
    with running(home) as server, server.client() as client:
        api = "/api/v1/backtest"
        times = {"start_time": "2025-01-05", "end_time": "2025-01-06", "pairs": ["BTCUSDT"]}
        session_id = client.post(f"{api}/create", json=times).json()["session_id"]
        client.post(f"{api}/{session_id}/start")
        client.post(f"{api}/{session_id}/step/batch", json={"steps": 10_000})
        file.write_bytes(client.get(f"{api}/{session_id}/recording").content)
    candles = sample_market()["BTCUSDT"]
    candles.close[6000] = candles.open[6000] = candles.high[6000]
    store = Store.open(home)
    import_candles(
        store, candles, parse_symbol("BTCUSDT"), 60_000, source="corrected", synthetic=True
    )
    store.close()
    assert SAME in candlestep("replay", file, "--home", home).out
    done = candlestep("replay", GOLDEN, "--home", home)
    assert done.code == 1
    assert "BTCUSDT  2025-01" in done.out


def test_what_stops_a_replay_is_said_in_words(home: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    done = candlestep("replay", GOLDEN, "--home", empty)
    assert done.code == 3
    assert "there are no candles of BTCUSDT, ETHUSDT" in done.err
    assert "candlestep data sample" in done.err
    assert "No such file" in candlestep("replay", tmp_path / "none", "--home", home).err
    broken = tmp_path / "broken.jsonl"
    broken.write_text(GOLDEN.read_text().replace('"at":60', '"at":61', 1))
    assert "broken.jsonl, line 2 (byte" in candlestep("replay", broken, "--home", home).err
    typo = tmp_path / "typo.jsonl"
    start = '{"do":"start","pairs":["BTCUSDT"],"config":{"start_tme":"2025-01-05"}}\n'
    typo.write_text(start)
    assert "config: " in candlestep("replay", typo, "--home", home).err
    later = tmp_path / "later.jsonl"
    config = '{"start_time":"2025-06-01","end_time":"2025-06-02","starting_balance":1}'
    later.write_text(f'{{"do":"start","pairs":["BTCUSDT"],"config":{config}}}\n')
    after_the_data = candlestep("replay", later, "--home", home)
    assert "no candles of BTCUSDT in the period" in after_the_data.err
    nobody = candlestep("replay", GOLDEN, "--url", "http://127.0.0.1:9")
    assert nobody.code == 3
    assert "cannot be reached" in nobody.err


def test_a_result_that_cannot_be_printed_is_no_difference(home: Path) -> None:
    read, written = os.pipe()
    os.close(read)
    process = candlestep_process("replay", GOLDEN, "--home", home, stdout=written)
    os.close(written)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 3


def test_a_server_with_keys_takes_one(tmp_path: Path) -> None:
    home = sample_home(tmp_path)
    key = make_key(home, "ann")
    with running(home) as server:
        assert "API key" in candlestep("replay", GOLDEN, "--url", server.url).err
        assert candlestep("replay", GOLDEN, "--url", server.url, "--key", key).code == 0
        with httpx.Client(base_url=server.url, headers={"X-API-Key": key}) as client:
            sessions = client.get("/api/v1/backtest/list").json()["backtests"]
            assert [session["strategy_label"] for session in sessions] == ["replay"]
            assert sessions[0]["status"] == "completed"
            assert len(client.get("/api/v1/agents").json()["agents"]) == 1, "it leaves no agent"


START = '{"do":"start","pairs":["BTCUSDT"],"config":{"start_time":"2025-01-05","end_time":"2025-01-06","starting_balance":"1"}'


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (START + '}\n{"do":"step","steps":1,"times":0}', "line 2 .*times"),
        (START + '}\n{"do":"step","steps":1,"times":10000000000}', "line 2 .*times"),
        (START + ',"look_back":1000000000000000000}', "line 1 .*look_back"),
        (START + '}\n{"do":"step","steps":1,"answer":1e999}', "line 2"),
        (START + '}\n{"do":"step","steps":1,"answer":' + "9" * 5000 + "}", "line 2"),
        (START + "}", "has no commands"),
        (START + ',"risk_profile":{"max":1}}\n{"do":"cancel"}', "config: .*max"),
        (START + ',"pears":[]}', "pears"),
    ],
)
def test_a_hostile_recording_is_refused_in_words(
    home: Path, tmp_path: Path, lines: str, problem: str
) -> None:
    file = tmp_path / "hostile.jsonl"
    file.write_text(lines)
    for arguments in ((file,), ("--record", file)):
        done = candlestep("replay", *arguments, "--home", home)
        if "--record" not in arguments or "has no" not in problem:
            assert done.code == 3
            assert re.search(problem, done.err)
            assert file.read_text() == lines


def test_a_run_of_steps_ends_with_the_session(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "long.jsonl"
    file.write_text(START + '}\n{"do":"step","steps":1,"times":1000000000}')
    assert candlestep("replay", "--record", file, "--home", home).code == 0
    steps = [line for line in lines_of(file) if line["do"] == "step"]
    assert sum(line.get("times", 1) for line in steps if "answer" not in line) == 1440
    assert candlestep("replay", file, "--home", home).code == 0


def test_a_test_of_three_lines_replays_a_golden_file(home: Path, tmp_path: Path) -> None:
    """As the README shows it; the report is in the output of the failure."""
    text = (ROOT / "api" / "replay" / "README.md").read_text()
    [block] = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    (tmp_path / "test_golden.py").write_text(block)
    (tmp_path / "candles").symlink_to(home)
    golden = tmp_path / "recorded_orders.jsonl"
    golden.write_bytes(GOLDEN.read_bytes())

    def tested() -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_golden.py"]
        return subprocess.run(
            command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, check=False
        )

    assert tested().returncode == 0
    changed(golden, lambda lines: lines[2]["answer"].update(fee="1.00"))
    done = tested()
    assert done.returncode == 1
    assert "line 3, at step 60" in done.stdout
