"""A session key: one session, nothing else, and of a blind one nothing that is real."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from mcp.shared.exceptions import MCPError

from candlestep.api.http.auth import Caller
from candlestep.api.mcp.caller import CALLER
from candlestep.api.mcp.tools import TOOLS
from candlestep.api.schemas.sessions import CreateRequest
from tests.support.api_client import sample_home
from tests.support.tools import PERIOD, Tools, with_tools

REAL = re.compile(r"BTC|ETH|binance|2025|9[0-9]{4}\.")
"""Whatever would tell of the sample market: names, the year, prices."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sample_home(tmp_path_factory.mktemp("tools") / "home")


def with_key_of(session_id: str) -> Caller:
    """Let what follows call with a key of one session; return who called before."""
    owner = CALLER.get()
    CALLER.set(Caller(owner.account_id, owner.agent_id, "key_1", session_id=session_id))
    return owner


def test_the_key_of_a_session_reaches_nothing_else(home: Path) -> None:
    async def test(tools: Tools) -> None:
        mine, other = await tools.start(), await tools.start()
        await tools("step", session_id=mine, steps=5, key="k")
        owner = with_key_of(mine)
        arguments: dict[str, dict[str, Any]] = {
            "create_session": {"symbols": ["BTCUSDT"], **PERIOD},
            "compare": {"session_ids": [mine, other]},
            "job": {"job_id": "x"},
            "run_strategy": {
                "strategy": {}, "symbols": ["BTCUSDT"], "timeframe": "1h", **PERIOD
            },
        }  # fmt: skip
        for name, tool in TOOLS.items():
            if not tool.for_session_key:
                refusal = await tools.refusal(name, **arguments.get(name, {}))
                assert refusal.startswith("FORBIDDEN")
            elif name != "end_session":
                assert "another session" in await tools.refusal(name, session_id=other)
        # Two run, and the key has one of them; the owner's idempotency key is not the agent's.
        assert "step 12/" in (await tools("step", steps=7, key="k")).content["line"]
        await tools("act", session_id=mine, steps=1)
        for uri in (f"candlestep://session/{mine}/recording", f"candlestep://session/{other}"):
            with pytest.raises(MCPError):
                await tools.client.read_resource(uri)
        await tools("end_session", session_id=mine)
        CALLER.set(owner)
        assert "step 0/" in (await tools("account", session_id=other)).content["line"]
        await tools("end_session", session_id=other)

    with_tools(home, test)


def test_no_tool_tells_a_session_key_what_is_real_of_a_blind_session(home: Path) -> None:
    async def test(tools: Tools) -> None:
        session_id = await tools.start(blind={"seed": 7, "variant": "mirror"}, label="BTC 2025")
        assert "no forks" in await tools.refusal("fork")
        owner = with_key_of(session_id)
        tools.answers.clear()
        symbol = "ASSET1USDT"
        buy = {"symbol": symbol, "side": "buy", "equity_share": 0.5, "stop_loss_pct": 1}
        await tools("observe", indicators=["rsi:14"], candles=60)
        await tools("act", orders=[buy], steps=60)
        await tools("act", orders=[buy | {"symbol": "DOGEUSDT"}])
        await tools("observe", interval="1d")
        assert "owner" in await tools.refusal("end_session", session_id=session_id)
        await tools("step", steps=100_000)
        for tool in ("account", "history", "results"):
            await tools(tool)
        resource = await tools.client.read_resource(f"candlestep://session/{session_id}")
        told = [answer.text + json.dumps(answer.content) for _, answer in tools.answers]
        for text in [*told, str(resource)]:
            shown = text.replace(session_id, "")
            assert not REAL.search(shown), shown
        CALLER.set(owner)
        real = (await tools("results", session_id=session_id)).content["real"]
        assert f"blind, seed 7, mirror: {symbol} was BTCUSDT from 2025-01-05T00:00Z" in real

    with_tools(home, test)


def test_the_key_of_a_session_starts_one_that_was_only_created(home: Path) -> None:
    async def test(tools: Tools) -> None:
        caller = CALLER.get()
        request = CreateRequest(PERIOD["start"], PERIOD["end"], pairs=["BTCUSDT"])
        record = await tools.services.sessions.create(
            caller.account_id, caller.agent_id, request, None
        )
        with_key_of(record.session_id)
        assert "step 1/" in (await tools("step")).content["line"]

    with_tools(home, test)
