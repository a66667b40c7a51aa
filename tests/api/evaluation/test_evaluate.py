"""``candlestep evaluate`` on a server: agents as commands and as services, resumed, and refused."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError

from tests.support.api_client import make_key, sample_home
from tests.support.command_line import Run, candlestep
from tests.support.patience import PATIENCE
from tests.support.project import ROOT
from tests.support.server_process import RunningServer, running

EXAMPLES = ROOT / "examples" / "evaluate"
TRADES_WITH_TOOLS = """
import os
import httpx

def call(name, **arguments):
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call"}
    body["params"] = {"name": name, "arguments": arguments}
    headers = {"X-API-Key": os.environ["CANDLESTEP_KEY"]}
    headers["Accept"] = "application/json, text/event-stream"
    url = os.environ["CANDLESTEP_MCP_URL"]
    answer = httpx.post(url, json=body, headers=headers, timeout=60, trust_env=False)
    return answer.json()["result"]

assert call("list_data")["isError"], "a session's key sees no list of data"
symbol, _ = call("step")["structuredContent"]["prices"].split()
bought = call("act", orders=[{"symbol": symbol, "side": "buy", "equity_share": 0.5}], steps=3)
assert not bought["isError"], bought
assert not call("step", steps=1000)["isError"]
"""
"""An agent that trades with the tools for language models."""
TABLE = """
[[sessions]]
name = "BTC"
pairs = ["BTCUSDT"]
start_time = "2025-01-15"
end_time = "2025-01-17"
candle_interval = "1h"
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sample_home(tmp_path_factory.mktemp("evaluate") / "home")


@pytest.fixture(scope="module")
def key(home: Path) -> str:
    return make_key(home, "judge")


@pytest.fixture(scope="module")
def server(home: Path, key: str) -> Iterator[RunningServer]:
    with running(home) as server:
        yield server


def evaluate(server: RunningServer, key: str, file: Path, *options: object) -> Run:
    return candlestep("evaluate", file, "--url", server.url, "--key", key, *options)


def plan(folder: Path, agent: str, counts: str = "", table: str = TABLE) -> Path:
    (folder / "table.toml").write_text(f"{counts}\n{table}")
    file = folder / "agent.toml"
    file.write_text(f'name = "agent"\n{agent}\n')
    return file


@contextmanager
def service(trade: Any) -> Iterator[str]:
    """Run an agent as a service; ``trade`` gets a client of each session."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            access = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            path = f"{access['url']}/api/v1/backtest/{access['session_id']}"
            headers = {"X-API-Key": access["key"]}
            with httpx.Client(
                base_url=path, headers=headers, trust_env=False, timeout=PATIENCE
            ) as client:
                self.send_response(trade(client))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=listening.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.server_port}/"
    finally:
        listening.shutdown()
        thread.join()
        listening.server_close()


def test_the_example_that_remembers_stays_and_the_one_that_follows_turns(
    server: RunningServer, key: str, tmp_path: Path
) -> None:
    for name, table in (("follows", "0"), ("remembers", "100")):
        folder = tmp_path / name
        folder.mkdir()
        script = EXAMPLES / f"{name}.py"
        counts = "open = 1\nblind = 1\nmirror = 1\nbootstrap = 0"
        file = plan(folder, f'command = ["python", "{script}"]', counts)
        done = evaluate(server, key, file)
        assert (done.code, done.err) == (0, "")
        assert f"the agent held the same in {table} %" in done.out
        assert (folder / "agent" / "report.html").exists()
        outcomes = json.loads((folder / "agent" / "evaluation.json").read_bytes())["outcomes"]
        assert [(one["kind"], one["seed"]) for one in outcomes] == [
            ("open", None), ("blind", 1), ("mirror", 1),
        ]  # fmt: skip


def test_what_is_done_is_not_done_again_and_what_failed_is(
    server: RunningServer, key: str, tmp_path: Path
) -> None:
    calls: list[str] = []

    def trade(client: httpx.Client) -> int:
        status = client.get("/status").json()
        calls.append(status["pairs"][0])
        if len(calls) == 2:
            return 500
        client.post("/step/batch", json={"steps": 1000}).raise_for_status()
        return 200

    with service(trade) as address:
        counts = "open = 1\nblind = 2\nmirror = 0\nbootstrap = 0"
        file = plan(tmp_path, f'address = "{address}"\nat_once = 1', counts)
        first = evaluate(server, key, file)
        assert first.code == 1
        assert "answers 500" in first.err
        second = evaluate(server, key, file)
        assert (second.code, second.err) == (0, "")
        assert len(calls) == 4, "three sessions, and the one that had failed again"
        assert calls[0] == "BTCUSDT"
        assert set(calls[1:]) == {"ASSET1USDT"}
        evaluate(server, key, file)
        assert len(calls) == 4
        plan(tmp_path, f'address = "{address}"', counts, TABLE.replace("01-17", "01-18"))
        assert evaluate(server, key, file).code == 0
        assert len(calls) == 7, "another session is another run"


def test_an_agent_trades_with_the_tools_and_the_key_of_its_session(
    server: RunningServer, key: str, tmp_path: Path
) -> None:
    (tmp_path / "trade.py").write_text(TRADES_WITH_TOOLS)
    counts = "open = 1\nblind = 1\nmirror = 1\nbootstrap = 1"
    file = plan(tmp_path, 'command = ["python", "trade.py"]', counts)
    done = evaluate(server, key, file)
    assert (done.code, done.err) == (0, "")
    outcomes = json.loads((tmp_path / "agent" / "evaluation.json").read_bytes())["outcomes"]
    said = [(one["trades"], one["error"], one["refused"], one["rejected"]) for one in outcomes]
    assert said == [(1, None, 1, 0)] * 4


@contextmanager
def tool_server() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Run an agent that is a server of tools; yield its address and what it was told."""
    agent, told = MCPServer("agent"), list[dict[str, Any]]()

    @agent.tool()
    def trade(url: str, mcp_url: str, session_id: str, key: str) -> str:
        told.append({"mcp_url": mcp_url, "session_id": session_id})
        path = f"{url}/api/v1/backtest/{session_id}"
        if len(told) == 2:
            raise ToolError("the model is busy")
        headers = {"X-API-Key": key}
        with httpx.Client(base_url=path, headers=headers, trust_env=False) as client:
            client.post("/step/batch", json={"steps": 1000}).raise_for_status()
        return "done"

    app = agent.streamable_http_app()
    listening = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        thread = threading.Thread(target=listening.run, kwargs={"sockets": [taken]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{taken.getsockname()[1]}/mcp", told
        finally:
            listening.should_exit = True
            thread.join()


def test_an_agent_that_is_a_server_of_tools_is_called(
    server: RunningServer, key: str, tmp_path: Path
) -> None:
    counts = "open = 1\nblind = 1\nmirror = 0\nbootstrap = 0"
    with tool_server() as (address, told):
        file = plan(tmp_path, f'address = "{address}"\ntool = "trade"\nat_once = 1', counts)
        first = evaluate(server, key, file)
        assert first.code == 1
        assert "the model is busy" in first.err
        assert {one["mcp_url"] for one in told} == {f"{server.url}/mcp"}
        second = evaluate(server, key, file)
        assert (second.code, second.err) == (0, "")
        assert len(told) == 3, "two sessions, and the one that had failed again"
        plan(
            tmp_path,
            f'address = "{address}"\ntool = "no_such"',
            counts,
            TABLE.replace("BTC", "ETH"),
        )
        assert "no_such" in evaluate(server, key, file).err
    plan(tmp_path, f'address = "{address}"\ntool = "trade"', counts, TABLE.replace("BTC", "ETH"))
    assert f"{address} cannot be called" in evaluate(server, key, file).err


@pytest.mark.parametrize(
    ("agent", "table", "problem"),
    [
        ("", TABLE, "command: give either the command of the agent or its address"),
        ('command = ["x"]\naddress = "y"', TABLE, "give either"),
        ('command = ["x"]\ntool = "y"', TABLE, "tool: is of an MCP server"),
        ('command = ["x"]\nfolder = "none"', TABLE, "folder: there is no folder"),
        ('command = ["no-such-agent"]', TABLE, "no-such-agent cannot be run"),
        ('command = ["python", "-c", "1"]', TABLE, "left the session at step 0 of 48"),
        ('command = ["python", "-c", "exit(3)"]', TABLE, "ended with code 3"),
        ('command = ["python"]', TABLE + TABLE, "sessions[1].name: must be a name that no other"),
        ('command = ["python"]', TABLE + "blind = true", "sessions[0].blind: is set by"),
        ('command = ["python"]', TABLE + 'pears = "x"', "pears"),
        ('command = ["python"]', "", "sessions"),
        ('command = ["python"]\nat_most = 3', TABLE, "at_most"),
    ],
)
def test_what_is_wrong_is_said(
    server: RunningServer, key: str, tmp_path: Path, agent: str, table: str, problem: str
) -> None:
    counts = "open = 1\nblind = 0\nmirror = 0\nbootstrap = 0"
    done = evaluate(server, key, plan(tmp_path, agent, counts, table))
    assert done.code == 1
    assert problem in done.err, done.err


def test_a_server_that_is_not_there_is_named(tmp_path: Path) -> None:
    file = plan(tmp_path, 'command = ["python"]')
    done = candlestep("evaluate", file, "--url", "http://127.0.0.1:9")
    assert done.code == 1
    assert "http://127.0.0.1:9 cannot be reached" in done.err
