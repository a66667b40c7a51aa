"""``POST /mcp``: the caller is known by the key, as on every path, before the SDK sees a request."""

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from candlestep.api.http.auth import Authenticator
from candlestep.api.mcp import endpoint
from candlestep.api.routes import APIS
from candlestep.api.server.app import App
from candlestep.api.services import Services
from candlestep.api.settings import Settings
from candlestep.data.store.database import Store
from tests.support.api_client import check_error, make_key, sample_home
from tests.support.patience import PATIENCE
from tests.support.raw_http import request_bytes
from tests.support.server_process import running
from tests.support.tools import PERIOD

ACCEPT = {"Accept": "application/json, text/event-stream"}
MODERN = "2026-07-28"


def with_app(home: Path, test: Callable[[httpx.AsyncClient], Awaitable[None]]) -> None:
    """Run a test with a client of an app in this process."""

    async def run() -> None:
        with closing(Store.open(home)) as store:
            services = Services(Settings(home=home, workers=1), store, Authenticator(store), 1024)
            await services.recover()
            app = App(APIS, services)
            try:
                transport = httpx.ASGITransport(app)
                async with httpx.AsyncClient(
                    transport=transport, base_url="http://localhost", timeout=PATIENCE
                ) as client:
                    await test(client)
            finally:
                await app.tools.close()
                await services.close()

    asyncio.run(run())


async def call(
    client: httpx.AsyncClient, tool: str, key: str, version: str | None = None, **arguments: Any
) -> Any:
    """Return the result of a call, as one of the protocol's two ways to send it has it."""
    params: dict[str, Any] = {"name": tool, "arguments": arguments}
    headers = ACCEPT | {"X-API-Key": key}
    if version is not None:
        meta = "io.modelcontextprotocol/"
        params["_meta"] = {
            f"{meta}protocolVersion": version,
            f"{meta}clientInfo": {"name": "test", "version": "1"},
            f"{meta}clientCapabilities": {},
        }
        headers |= {"MCP-Protocol-Version": version, "Mcp-Method": "tools/call", "Mcp-Name": tool}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    answer = await client.post("/mcp", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-request-id"].startswith("req_")
    return answer.json()["result"]


def test_each_request_acts_for_the_account_of_its_key(tmp_path: Path) -> None:
    home = sample_home(tmp_path / "home")
    keys = {name: make_key(home, name) for name in ("ann", "bob")}

    async def test(client: httpx.AsyncClient) -> None:
        created = await asyncio.gather(
            *(
                call(client, "create_session", key, symbols=["BTCUSDT"], **PERIOD)
                for key in keys.values()
            )
        )
        ids = [answer["structuredContent"]["session_id"] for answer in created]
        for version in (None, MODERN):
            for name, key in enumerate(keys.values()):
                listed = await call(client, "list_sessions", key, version)
                text = listed["content"][0]["text"]
                assert [session in text for session in ids] == [name == 0, name == 1]
        hers = await call(client, "observe", keys["bob"], session_id=ids[0])
        assert hers["isError"]
        assert "SESSION_NOT_FOUND" in hers["content"][0]["text"]

    with_app(home, test)


def test_what_is_no_call_is_refused_without_a_fault(tmp_path: Path) -> None:
    home = sample_home(tmp_path / "home")
    key = make_key(home, "ann")

    async def test(client: httpx.AsyncClient) -> None:
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
        without = await client.post("/mcp", json=body, headers=ACCEPT)
        assert without.status_code == 401
        assert check_error(without)["code"] == "UNAUTHORIZED"
        headers = ACCEPT | {"X-API-Key": key}
        for method in ("GET", "DELETE", "PUT"):
            answer = await client.request(method, "/mcp", headers=headers)
            assert answer.status_code == 405
            assert answer.headers["allow"] == "POST"
        json_type = headers | {"Content-Type": "application/json"}
        for content, status in (
            (b"{", 400),
            (b"[]", 400),
            (b"1", 400),
            (json.dumps(body | {"id": 1, "params": {"a": "x" * (1 << 20)}}).encode(), 413),
            (json.dumps(body | {"method": "no/such"}).encode(), 200),
            (json.dumps(body | {"method": "tools/call", "params": {"name": 1}}).encode(), 200),
        ):
            answer = await client.post("/mcp", content=content, headers=json_type)
            assert answer.status_code in (status, 404), (content[:60], answer.text)
            if status == 413:
                assert check_error(answer)["code"] == "PAYLOAD_TOO_LARGE"
        text = await client.post("/mcp", content=b"hello", headers=headers)
        assert text.status_code == 400

    with_app(home, test)


def test_a_client_that_leaves_within_its_request_is_no_fault(tmp_path: Path) -> None:
    home = sample_home(tmp_path / "home")
    with running(home) as server, server.client() as client:
        address = urlsplit(server.url)
        accept = f"Accept: {ACCEPT['Accept']}"
        half = request_bytes("POST", "/mcp", b'{"jsonrpc": "2.0"}', accept)[:-5]
        with closing(socket.create_connection((address.hostname, address.port))) as leaving:
            leaving.sendall(half)
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
        assert client.post("/mcp", json=body, headers=ACCEPT).status_code == 200
        metrics = client.get("/metrics").text
    assert 'path="/mcp",status="500"' not in metrics
    assert "Traceback" not in (home / "server.log").read_text()


def test_where_the_sdk_is_missing_the_answer_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}", name="mcp.server")

    monkeypatch.setattr(endpoint, "import_module", missing)

    async def test(client: httpx.AsyncClient) -> None:
        for _ in range(2):
            answer = await client.post("/mcp", json={}, headers=ACCEPT)
            assert answer.status_code == 404
            assert "pip install 'candlestep[mcp]'" in check_error(answer)["message"]

    with_app(sample_home(tmp_path / "home"), test)
