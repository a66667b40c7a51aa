"""A client that a common generator makes of the OpenAPI document drives a session."""

import json
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

from tests.support.patience import PATIENCE
from tests.support.server_process import RunningServer

PACKAGE = "generated_client"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("client")
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))
    for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def document(server: RunningServer, folder: Path) -> Any:
    """The document that the server sends, of which the client in ``folder`` is generated."""
    text = httpx.get(f"{server.url}/openapi.json", trust_env=False, timeout=PATIENCE).text
    (folder / "openapi.json").write_text(text)
    options = ["--path", "openapi.json", "--meta", "none", "--output-path", PACKAGE]
    generated = subprocess.run(
        [sys.executable, "-m", "openapi_python_client", "generate", *options],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert generated.returncode == 0, generated.stdout
    assert "will not be generated" not in generated.stdout, generated.stdout
    return json.loads(text)


def test_every_operation_is_generated(document: Any, folder: Path) -> None:
    operations = {
        operation["operationId"]
        for path in document["paths"].values()
        for operation in path.values()
    }
    generated = {path.stem for path in folder.glob(f"{PACKAGE}/api/*/*.py")}
    assert operations <= generated
    assert len(operations) > 80


def test_the_generated_client_runs_the_loop_of_an_agent(
    document: Any, server: RunningServer
) -> None:
    """Create, start, and step to the end, with an order on the way; then read the results."""
    models = import_module(f"{PACKAGE}.models")
    client = import_module(f"{PACKAGE}.client").Client(
        base_url=server.url, timeout=httpx.Timeout(PATIENCE), httpx_args={"trust_env": False}
    )
    assert document["openapi"] == "3.1.0"

    def call(tag: str, name: str, *path: str, **body: Any) -> Any:
        answer = operation(tag, name).sync(*path, client=client, **body)
        assert not isinstance(answer, models.ErrorObjectBody), answer
        return answer

    created = call(
        "sessions",
        "post_api_v1_backtest_create",
        body=models.CreateRequest(
            start_time="2025-01-15T00:00:00Z",
            end_time="2025-01-16T00:00:00Z",
            pairs=["BTCUSDT"],
            starting_balance=10_000,
        ),
    )
    session = "api_v1_backtest_session_id"
    started = call("sessions", f"post_{session}_start", created.session_id)
    assert started.status == "running"
    step = call("sessions", f"post_{session}_step", created.session_id)
    assert step.step == 1
    order = models.OrderRequest(symbol="BTCUSDT", side=models.OrderRequestSide.BUY, quantity="0.01")
    placed = call(
        "orders_and_trades", f"post_{session}_trade_order", created.session_id, body=order
    )
    assert (placed.status, placed.executed_qty) == ("filled", "0.01")
    while not step.is_complete:
        batch = models.BatchRequest(steps=400)
        step = call("sessions", f"post_{session}_step_batch", created.session_id, body=batch)
    results = call("results", f"get_{session}_results", created.session_id)
    assert results.summary.total_trades == 1
    assert results.summary.final_equity == step.portfolio.total_equity

    refused = operation("sessions", f"post_{session}_step").sync(created.session_id, client=client)
    assert refused.error.code == "INVALID_STATE"


def operation(tag: str, name: str) -> ModuleType:
    return import_module(f"{PACKAGE}.api.{tag}.{name}")
