"""The examples run as they stand, and their output is right."""

import csv
import gzip
import re
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import duckdb
import httpx
import pytest

from candlestep.data.store.database import Store
from tests.support.api_client import sample_home
from tests.support.candle_files import csv_text, real_file, rows, write
from tests.support.command_line import ENVIRONMENT, candlestep
from tests.support.patience import PATIENCE
from tests.support.project import ROOT
from tests.support.server_process import running

EXAMPLES = ROOT / "examples"


def run(script: str, *arguments: object, temporary: Path) -> "subprocess.CompletedProcess[str]":
    """Run an example in a folder, which is its temporary directory too."""
    environment = ENVIRONMENT | {"TMPDIR": str(temporary)}
    command = [sys.executable, str(EXAMPLES / script), *map(str, arguments)]
    return subprocess.run(
        command, env=environment, cwd=temporary, capture_output=True, text=True, check=False
    )


def printed(output: str, name: str) -> str:
    """Return the last word of the line that begins with ``name``."""
    return next(line for line in output.splitlines() if line.startswith(name)).split()[-1]


def test_the_demo_runs_on_the_sample_market(tmp_path: Path) -> None:
    process = run("demo.py", temporary=tmp_path)
    assert (process.returncode, process.stderr) == (0, "")
    assert "synthetic" in process.stdout
    (home,) = tmp_path.iterdir()
    assert f"--home {home}" in process.stdout
    # Without a terminal the server has stopped, and the page is a file.
    assert process.stdout.splitlines()[-1].startswith(f"{home}/session.html: ")
    assert "Plotly" in (home / "session.html").read_text()
    assert printed(process.stdout, "final equity") == recomputed(home, {})
    assert int(printed(process.stdout, "trades")) > 20
    readme = (ROOT / "README.md").read_text()
    (results,) = re.findall(r"^```text\n(from .*?)^```$", readme, re.MULTILINE | re.DOTALL)
    assert results in process.stdout, "what the README shows"


def test_the_demo_runs_on_real_candles_and_its_equity_is_right(tmp_path: Path) -> None:
    files = {symbol: real_file(f"{symbol}-1m-2024-10.csv.gz") for symbol in ("BTCUSDT", "ETHUSDT")}
    (tmp_path / "tmp").mkdir()
    process = run("demo.py", *files.values(), temporary=tmp_path / "tmp")
    assert (process.returncode, process.stderr) == (0, "")
    assert printed(process.stdout, "from") == "2024-10-01T03:00:00Z"
    assert printed(process.stdout, "to") == "2024-11-04T20:20:00Z"
    (home,) = (tmp_path / "tmp").iterdir()
    closes = {symbol: last_close(path) for symbol, path in files.items()}
    assert printed(process.stdout, "final equity") == recomputed(home, closes)


def last_close(path: Path) -> Decimal:
    """Return the last close of a file of candles."""
    with gzip.open(path, "rt") as file:
        return Decimal(list(csv.DictReader(file))[-1]["close"])


def recomputed(home: Path, closes: dict[str, Decimal]) -> str:
    """Return the equity that the stored trades add up to, valued at ``closes`` or the last stored."""
    store = Store.open(home)
    try:
        trades = store.rows("SELECT symbol, side, quantity, price, fee FROM trades")
        latest = store.rows("SELECT symbol, arg_max(close, open_time) FROM candles"
                            " JOIN instruments USING (instrument_id) GROUP BY symbol")  # fmt: skip
    finally:
        store.close()
    closes = {symbol: Decimal(repr(close)) for symbol, close in latest} | closes
    cash, positions = Decimal(10_000), dict.fromkeys(closes, Decimal(0))
    for symbol, side, quantity, price, fee in trades:
        sign = 1 if side == "buy" else -1
        positions[symbol] += sign * quantity
        cash -= sign * (quantity * price).quantize(Decimal("1e-8"), "ROUND_HALF_UP") + fee
    value = sum((positions[symbol] * closes[symbol] for symbol in positions), Decimal(0))
    equity = (cash + value.quantize(Decimal("1e-8"), "ROUND_HALF_UP")).normalize()
    return f"{equity:f}" if equity.as_tuple().exponent < -2 else f"{equity:.2f}"  # type: ignore[operator]


def test_the_demo_tells_why_a_file_is_refused(tmp_path: Path) -> None:
    bad = write(tmp_path / "BTCUSDT-1m.csv", "timestamp,open,high,low,close\n2024-01-01,1,1,2,1\n")
    process = run("demo.py", bad, temporary=tmp_path)
    assert process.returncode == 1
    assert process.stderr.startswith("candlestep: BTCUSDT-1m.csv: 1 bad row")


def test_the_agent_takes_pairs_times_and_a_key(tmp_path: Path) -> None:
    for symbol in ("BTCUSDT", "ETHUSDT"):
        path = write(tmp_path / f"{symbol}-1m.csv", csv_text(rows(3000)))
        candlestep("data", "import", path, "--home", tmp_path)
    key = candlestep("keys", "create", "k", "--home", tmp_path).out.split()[1]
    with running(tmp_path) as server:
        options = ["--url", server.url, "--pairs", "ETHUSDT", "--steps", 30]
        times = ["--start", "2024-01-01T01:00:00+01:00", "--end", "2024-01-02"]
        refused = run("agent_loop.py", *options, temporary=tmp_path)
        assert refused.returncode == 1
        assert refused.stderr.startswith("GET /market/data-range: 401 ")
        process = run("agent_loop.py", *options, *times, "--api-key", key, temporary=tmp_path)
        assert (process.returncode, process.stderr) == (0, "")
        assert printed(process.stdout, "from") == "2024-01-01T00:00:00Z"
        assert printed(process.stdout, "to") == "2024-01-02T00:00:00Z"
        assert "BTCUSDT" not in process.stdout
        urls = [line.strip() for line in process.stdout.splitlines() if "http://" in line]
        assert len(urls) == 4
        for url in urls:
            headers = {"X-API-Key": key}
            response = httpx.get(url, headers=headers, trust_env=False, timeout=PATIENCE)
            assert response.status_code == 200, url


def test_one_strategy_written_in_three_ways_trades_the_same(tmp_path: Path) -> None:
    process = run("strategies.py", temporary=tmp_path)
    assert (process.returncode, process.stderr) == (0, "")
    lines = [line.split() for line in process.stdout.splitlines()[1:]]
    assert [line[0] for line in lines] == ["template", "card", "program"]
    assert len({line[1] for line in lines}) == 3
    (figures,) = {tuple(line[2:-4]) for line in lines}
    assert int(figures[0]) > 10


def test_a_sweep_is_run_compared_and_its_trades_downloaded(tmp_path: Path) -> None:
    with running(sample_home(tmp_path / "home")) as server:
        trades = tmp_path / "trades.parquet"
        process = run("sweep.py", "--url", server.url, "--trades", trades, temporary=tmp_path)
    assert (process.returncode, process.stderr) == (0, "")
    lines = [line.split() for line in process.stdout.splitlines() if line]
    assert sum(line[0].startswith("tpl_") for line in lines) == 9
    ranked = [line for line in lines if "/" in line[1]]
    assert [line[0] for line in ranked] == [str(place) for place in range(1, 10)]
    scores = [float(line[2]) for line in ranked]
    assert scores == sorted(scores, reverse=True)
    (compared,) = [line for line in lines if line[0] == "perf_sharpe_ratio"]
    assert compared[1] == ranked[0][2] + "*", "it was ranked by it"
    with duckdb.connect() as connection:
        (count,) = connection.execute(f"SELECT count(*) FROM '{trades}'").fetchone() or (0,)
    assert count > 0


@pytest.mark.parametrize("has_server", [True, False])
def test_the_agent_tells_what_is_missing(tmp_path: Path, has_server: bool) -> None:
    with running(tmp_path) as server:
        if not has_server:
            server.stop()
        process = run("agent_loop.py", "--url", server.url, temporary=tmp_path)
    assert process.returncode == 1
    assert ("candlestep data sample" if has_server else "candlestep serve") in process.stderr
    assert "Traceback" not in process.stderr


def test_the_random_agent_needs_gymnasium_alone(tmp_path: Path) -> None:
    process = run("random_agent.py", temporary=tmp_path)
    assert (process.returncode, process.stderr) == (0, "")
    assert "one episode to 2025-" in process.stdout
    assert "1,024 environments at once: " in process.stdout
    home = sample_home(tmp_path / "home")
    named = run("random_agent.py", home, "ETHUSDT", temporary=tmp_path)
    assert (named.returncode, named.stderr) == (0, "")
    assert named.stdout.startswith("Market(Candles(ETHUSDT 1m, 86400 ")


def test_a_short_with_leverage_is_paid_funding_and_liquidated(tmp_path: Path) -> None:
    """What it prints of the results adds up to the events that it printed before."""
    with running(sample_home(tmp_path / "home")) as server:
        process = run("perpetual.py", "--url", server.url, temporary=tmp_path)
    assert (process.returncode, process.stderr) == (0, "")
    amounts = [line.split()[-1] for line in process.stdout.splitlines() if "  funding " in line]
    received = Decimal(printed(process.stdout, "funding received"))
    assert len(amounts) == 6
    assert abs(sum(map(Decimal, amounts)) - received) < Decimal("0.001")
    assert printed(process.stdout, "liquidations") == "1"
    assert "liquidation, buy 100" in process.stdout
    assert Decimal(printed(process.stdout, "final equity")) < 6000
