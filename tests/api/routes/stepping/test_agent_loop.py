"""The guide's "Typical Agent Loop" runs as published."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from candlestep.data.imports.importer import import_file
from candlestep.data.store.database import Store
from tests.support.api_client import sample_home
from tests.support.candle_files import real_file
from tests.support.project import SHARED
from tests.support.server_process import RunningServer, running

AGENT_LOOP = """\
import httpx

BASE = "http://localhost:8000/api/v1"
HEADERS = {"X-API-Key": "ak_live_..."}

# 1. Create
r = httpx.post(f"{BASE}/backtest/create", headers=HEADERS, json={
    "start_time": "2025-06-01T00:00:00Z",
    "end_time": "2025-07-01T00:00:00Z",
    "starting_balance": 10000,
    "candle_interval": "1m",
    "strategy_label": "my_strategy_v1",
    "agent_id": "agent-uuid-here",
    "pairs": ["BTCUSDT", "ETHUSDT"]
})
session_id = r.json()["session_id"]

# 2. Start
httpx.post(f"{BASE}/backtest/{session_id}/start", headers=HEADERS)

# 3. Loop
prices_history = {"BTCUSDT": [], "ETHUSDT": []}

while True:
    result = httpx.post(
        f"{BASE}/backtest/{session_id}/step/batch",
        headers=HEADERS,
        json={"steps": 60}
    ).json()

    for sym, price in result["prices"].items():
        prices_history[sym].append(float(price))

    portfolio = result["portfolio"]

    # --- YOUR STRATEGY LOGIC HERE ---

    if result["is_complete"]:
        break

# 4. Results
results = httpx.get(f"{BASE}/backtest/{session_id}/results", headers=HEADERS).json()
print(f"ROI: {results['summary']['roi_pct']}%")
print(f"Sharpe: {results['metrics']['sharpe_ratio']}")
"""
"""The program, copied from the guide."""
GUIDE = SHARED / "reference" / "stepwise-backtesting-guide.md"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running(sample_home(tmp_path_factory.mktemp("guide") / "home")) as server:
        yield server


def run_agent_loop(server: RunningServer, start_time: str, end_time: str) -> dict[str, Any]:
    """Run the loop with this server's address, these dates and an agent; return its variables."""
    with server.client() as client:
        agent_id = client.get("/api/v1/agents").json()["agents"][0]["agent_id"]
    program = AGENT_LOOP
    for published, replacement in (
        ("http://localhost:8000", server.url),
        ("2025-06-01T00:00:00Z", start_time),
        ("2025-07-01T00:00:00Z", end_time),
        ("agent-uuid-here", agent_id),
    ):
        assert program.count(published) == 1
        program = program.replace(published, replacement)
    variables: dict[str, Any] = {}
    exec(compile(program, "agent loop", "exec"), variables)  # noqa: S102
    return variables


@pytest.fixture
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clear the proxy settings, which the loop's client would use."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)


def test_the_agent_loop_is_the_published_one() -> None:
    if not GUIDE.exists():
        pytest.skip("the guide is not here")
    published = GUIDE.read_text(encoding="utf-8").partition("Typical Agent Loop\n")[2]
    published = published.partition("Performance Notes")[0]

    def lines(program: str) -> list[str]:
        return [line.strip() for line in program.splitlines() if line.strip()]

    assert lines(AGENT_LOOP) == lines(published)


@pytest.mark.usefixtures("_no_proxy")
def test_the_agent_loop_runs_on_the_sample_market(
    server: RunningServer, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_agent_loop(server, "2025-01-15T00:00:00Z", "2025-01-18T00:00:00Z")
    assert [len(prices) for prices in run["prices_history"].values()] == [72, 72]
    assert run["result"]["step"] == 3 * 1440
    assert run["results"]["status"] == "completed"
    assert capsys.readouterr().out == "ROI: 0.00%\nSharpe: None\n"


@pytest.mark.usefixtures("_no_proxy")
def test_the_agent_loop_runs_on_real_candles(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [real_file(f"{symbol}-1m-2024-10.csv.gz") for symbol in ("BTCUSDT", "ETHUSDT")]
    store = Store.open(tmp_path)
    for file in files:
        import_file(store, file)
    store.close()
    with running(tmp_path) as server:
        run = run_agent_loop(server, "2024-10-20T00:00:00Z", "2024-10-23T00:00:00Z")
    assert [len(prices) for prices in run["prices_history"].values()] == [72, 72]
    assert run["prices_history"]["BTCUSDT"][-1] == float(run["result"]["prices"]["BTCUSDT"])
    assert run["result"]["portfolio"]["total_equity"] == "10000.00"
    assert capsys.readouterr().out == "ROI: 0.00%\nSharpe: None\n"
