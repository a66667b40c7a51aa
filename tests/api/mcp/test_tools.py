"""The tools as hosts see them: small schemas, small answers that fit them, refusals in words."""

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from candlestep.api.mcp.tools import TOOLS
from tests.support.api_client import sample_home
from tests.support.tools import PERIOD, Tools, with_tools

BUY = {"symbol": "BTCUSDT", "side": "buy", "quantity": "0.05"}
CARD = {
    "indicators": {"fast": {"kind": "sma", "period": 5}, "slow": {"kind": "sma", "period": 20}},
    "entries": [
        {
            "when": {"left": "fast", "op": "crosses_above", "right": "slow"},
            "size": {"equity_share": 0.5},
        }
    ],
    "exits": [{"when": {"left": "fast", "op": "crosses_below", "right": "slow"}}],
}
RUN = {"strategy": CARD, "symbols": ["BTCUSDT"], "timeframe": "1h", **PERIOD}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sample_home(tmp_path_factory.mktemp("tools") / "home")


@pytest.fixture
def check(home: Path) -> Callable[[Callable[[Tools], Awaitable[None]]], None]:
    """Run a test, then check every answer that it got: its schema, its size, what it ends with."""

    def run(test: Callable[[Tools], Awaitable[None]]) -> None:
        async def checked(tools: Tools) -> None:
            listed = (await tools.client.list_tools()).tools
            schemas = {tool.name: tool.output_schema for tool in listed}
            await test(tools)
            for name, answer in tools.answers:
                assert answer.size <= 16 * 1024, name
                if answer.is_error:
                    continue
                Draft202012Validator(schemas[name] or {}).validate(answer.content)
                assert answer.text.splitlines()[-1].startswith("next: "), name
                if "line" in answer.content:
                    assert answer.text.startswith(f"{answer.content['line']}\n"), name

        with_tools(home, checked)

    return run


Check = Callable[[Callable[[Tools], Awaitable[None]]], None]


def test_the_list_of_tools_is_small(check: Check) -> None:
    """It is paid for in every conversation."""

    async def test(tools: Tools) -> None:
        listed = (await tools.client.list_tools()).tools
        assert [tool.name for tool in listed] == list(TOOLS)
        assert len(listed) == 14
        described = [tool.model_dump(by_alias=True, exclude_none=True) for tool in listed]
        assert len(json.dumps(described, separators=(",", ":"))) <= 12_000
        for tool in listed:
            Draft202012Validator.check_schema(tool.input_schema)
            assert tool.input_schema["additionalProperties"] is False
            assert tool.annotations is not None
            assert tool.annotations.destructive_hint is (
                None if tool.annotations.read_only_hint else tool.name == "end_session"
            )

    check(test)


def test_every_answer_fits_its_schema_and_is_small_by_default(check: Check) -> None:
    async def test(tools: Tools) -> None:
        assert "ETHUSDT" in (await tools("list_data")).text
        assert "BTCUSDT" not in (await tools("list_data", symbol="eth/")).text
        assert "no such symbol" in (await tools("list_data", symbol="doge")).text
        session = await tools.start(label="first")
        await tools("observe")
        await tools("act", orders=[BUY], reason="to hold some")
        assert "1 candle passed" in (await tools("step", steps="1")).text
        await tools("account")
        await tools("history")
        await tools("history", what="trades")
        await tools("results")
        fork = (await tools("fork")).content["session_ids"][0]
        await tools("compare", session_ids=[session, fork])
        await tools("list_sessions")
        await tools("end_session", session_id=fork)
        job = (await tools("run_strategy", **RUN, wait_s=60)).content
        assert "Sharpe" in job["metrics"]
        await tools("job", job_id=job["job_id"], trades=5)
        short = {"template": "tpl_sma_cross", "parameters": {"direction": "both"}}
        perpetual = RUN | {"symbols": ["SOLUSDT-PERP"], "strategy": short}
        assert " done" in (await tools("run_strategy", **perpetual, wait_s=60)).content["status"]
        called = {name for name, _ in tools.answers}
        assert called == set(TOOLS)
        for name, answer in tools.answers:
            assert answer.size <= 2 * 1024, (name, answer.size)

    check(test)


def test_the_largest_answers_stay_below_16_kilobytes(check: Check) -> None:
    async def test(tools: Tools) -> None:
        session = await tools.start(symbols=["BTCUSDT", "ETHUSDT"], interval="1h", end="2025-02-20")
        guarded = BUY | {"quantity": "0.001", "stop_loss_pct": 40, "take_profit_pct": 90}
        for _ in range(3):
            await tools("act", session_id=session, orders=[guarded] * 20, steps=1)
        indicators = ["macd:12:26:9", "bollinger:20:2.5", "donchian:20", "stochastic", "aroon:14"]
        await tools("step", session_id=session, steps=500)
        seen = await tools("observe", session_id=session, candles=120, indicators=indicators)
        assert "older left out" in seen.text
        await tools("history", session_id=session, limit=100)
        await tools("history", session_id=session, what="trades", limit=100)
        await tools("account", session_id=session)
        await tools("results", session_id=session, curve_points=50)
        forks = [await tools("fork", session_id=session, count=8) for _ in range(2)]
        ids = [session, *(name for fork in forks for name in fork.content["session_ids"])]
        await tools("compare", session_ids=ids)
        await tools("list_sessions", limit=100)
        await tools("act", session_id=session, cancel=["all"], steps=5000)
        for name in ids[1:]:
            await tools("end_session", session_id=name)

    check(test)


BAD_CALLS: list[tuple[str, dict[str, Any], list[str]]] = [
        ("step", {"steps": "many"}, ["steps", "int"]),
        ("step", {"steps": "1.5"}, ["steps", "int"]),
        ("step", {"until": "price"}, ["above: or below"]),
        ("step", {"until": "price", "above": 3, "below": 2}, ["give one"]),
        ("act", {"cancel": "all", "steps": 1}, ['["all"]']),
        ("act", {"orders": {"symbol": "BTCUSDT", "side": "buy"}}, ["orders: must be a list"]),
        ("step", {"above": 3}, ["above", "until"]),
        ("observe", {"symbols": "BTCUSDT"}, ["symbols", "list"]),
        ("step", {"steps": 0}, ["steps", ">= 1"]),
        ("step", {"count": 3}, ["count", "unknown", "steps"]),
        ("step", {"session_id": "bt_none"}, ["SESSION_NOT_FOUND", "bt_none"]),
        ("act", {"orders": [BUY | {"amount": 1}]}, ["orders[0].amount", "quantity"]),
        ("act", {"orders": [{"side": "buy", "quantity": 1}]}, ["orders[0].symbol", "required"]),
        ("act", {"orders": [BUY | {"side": "long"}]}, ["orders[0].side", "buy, sell"]),
        ("act", {"orders": [BUY] * 1001}, ["orders", "1000"]),
        ("observe", {"indicators": ["vwap:3"]}, ["indicators[0]", "rsi"]),
        ("observe", {"indicators": ["rsi:1:2:3"]}, ["indicators[0]", "rsi:period"]),
        ("observe", {"indicators": ["rsi:x"]}, ["indicators[0]", "numbers"]),
        ("observe", {"interval": "7m"}, ["interval"]),
        ("observe", {"candles": 121}, ["candles", "120"]),
        ("observe", {"symbols": ["DOGEUSDT"]}, ["SYMBOL_NOT_FOUND", "BTCUSDT"]),
        ("create_session", {"symbols": ["BTCUSDT"], "start": "then", "end": "x"}, ["start"]),
        ("create_session", {"symbols": ["BTCUSDT"], **PERIOD, "balance": -1}, ["balance"]),
        ("create_session", {"symbols": ["BTCUSDT"], **PERIOD, "fee": 2}, ["fee"]),
        ("create_session", {"symbols": ["BTCUSDT"], "start": "2031-01-01", "end": "2031-02-01"},
         ["NO_DATA", "2025-01-01"]),
        ("create_session", {"pairs": ["BTCUSDT"]}, ["pairs", "symbols"]),
        ("create_session", {"symbols": ["BTCUSDT"], **PERIOD, "risk": {"max_order_size_pct": 200}},
         ["max_order_size_pct"]),
        ("compare", {"session_ids": ["bt_none"]}, ["session_ids", "2"]),
        ("job", {"job_id": "none"}, ["NOT_FOUND"]),
        ("run_strategy", RUN | {"strategy": 5}, ["strategy", "card"]),
        ("run_strategy", RUN | {"strategy": {"entries": [{"size": {}}]}}, ["strategy.entries[0]"]),
        ("run_strategy", RUN | {"strategy": "def on_candle("}, ["strategy"]),
        ("run_strategy", RUN | {"strategy": {"template": "none"}}, ["strategy.template"]),
        ("buy", {}, ["buy", "list_data"]),
]  # fmt: skip
"""Calls, and words of the refusal of each."""


def test_a_bad_call_is_refused_by_the_name_of_what_is_wrong(check: Check) -> None:
    async def test(tools: Tools) -> None:
        session = await tools.start()
        for tool, arguments, words in BAD_CALLS:
            named = {"session_id": session} if tool in ("step", "act", "observe") else {}
            refusal = await tools.refusal(tool, **(named | arguments))
            for word in [*words, ":"]:
                assert word in refusal, (tool, arguments, refusal)
            assert "INTERNAL_ERROR" not in refusal
            assert "/api/" not in refusal
            assert "{'" not in refusal, "structures are for programs"
        await tools("end_session", session_id=session)

    check(test)
