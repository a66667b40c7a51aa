"""A session traded with nothing but the tools is the session of the native commands."""

import asyncio
import re
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from candlestep.api.mcp.caller import CALLER
from candlestep.api.schemas.orders import OrderRequest
from candlestep.api.sessions.commands import (
    Command,
    SessionRef,
    StepCommand,
    TurnCommand,
)
from candlestep.data.imports.importer import import_candles
from candlestep.data.imports.sample import sample_market
from candlestep.data.imports.validation import CandleColumns
from candlestep.data.store.database import Store
from candlestep.data.symbols import parse_symbol
from candlestep.sandbox import parse_time
from candlestep.sandbox.clock import MINUTE
from tests.support.api_client import sample_home
from tests.support.tools import PERIOD, Tools, become, tools_of, with_tools


def orders(*given: dict[str, Any]) -> list[OrderRequest]:
    return [OrderRequest(**order) for order in given]


BUY = {"symbol": "BTCUSDT", "side": "buy", "quantity": "0.05"}
SELL = BUY | {"side": "sell"}
LIMIT = BUY | {"type": "limit", "price": "92000"}
STOP = SELL | {"type": "stop_loss", "trigger_price": "91000", "oco_group": "exit"}
GOAL = SELL | {"type": "take_profit", "trigger_price": "95500.5", "oco_group": "exit"}

AGAIN = LIMIT | {"price": "91500.25", "client_order_id": "again"}

CALLS: list[tuple[dict[str, Any], Command]] = [
    ({"steps": 30}, TurnCommand([], [], 30)),
    ({"orders": [BUY, STOP, GOAL], "steps": 600}, TurnCommand(orders(BUY, STOP, GOAL), [], 600)),
    ({"orders": [LIMIT]}, TurnCommand(orders(LIMIT), [], 0)),
    (
        {"cancel": ["#4"], "orders": [AGAIN | {"price": 91500.25}], "steps": 1},
        TurnCommand(orders(AGAIN), [4], 1),
    ),
    (
        {"steps": 3000, "until": "price", "symbol": "BTCUSDT", "below": 92000},
        TurnCommand([], [], 3000, {"symbol": "BTCUSDT", "below": "92000"}),
    ),
    (
        {"steps": 5, "until": "price", "above": "1000000"},
        TurnCommand([], [], 5, {"symbol": "BTCUSDT", "above": "1000000"}),
    ),
    ({"steps": 3000, "until": "order_change"}, TurnCommand([], [], 3000, "order_change")),
]
"""Arguments of ``act``, and the same as native commands."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sample_home(tmp_path_factory.mktemp("tools") / "home")


async def digest_of(tools: Tools, session_id: str) -> bytes:
    ref = SessionRef(CALLER.get().account_id, session_id)
    return (await tools.services.sessions.find(ref)).player.digest


async def end_all(tools: Tools) -> None:
    records, _ = await tools.services.sessions.list(CALLER.get().account_id, status="running")
    for record in records:
        await tools("end_session", session_id=record.session_id)


def test_calls_of_tools_have_the_digest_of_the_native_commands(home: Path) -> None:
    async def test(tools: Tools) -> None:
        by_tools, native = await tools.start(), await tools.start()
        ref = SessionRef(CALLER.get().account_id, native)
        for arguments, command in CALLS:
            await tools("act", session_id=by_tools, **arguments)
            await tools.services.sessions.apply(ref, command)
        await tools("step", session_id=by_tools, steps=500)
        await tools.services.sessions.apply(ref, StepCommand(500))
        assert await digest_of(tools, by_tools) == await digest_of(tools, native)
        placed = [await tools("history", session_id=name) for name in (by_tools, native)]
        assert placed[0].text == placed[1].text
        assert "#2 sell stop_loss" in placed[0].text
        await end_all(tools)

    with_tools(home, test)


def test_the_first_refused_order_stops_the_rest_and_the_steps(home: Path) -> None:
    async def test(tools: Tools) -> None:
        await tools.start()
        answer = await tools(
            "act", orders=[BUY, BUY | {"quantity": 5}, BUY], steps=10, cancel=["all"]
        )
        assert answer.text.splitlines()[0].startswith("2025-01-05T00:00Z step 0/10080 ")
        assert "orders[1] refused: INSUFFICIENT_BALANCE" in answer.content["refused"]
        assert "required" in answer.content["refused"]
        assert answer.content["orders"].count("#") == 1
        refused = await tools("act", cancel=[7], orders=[BUY], steps=1)
        assert "cancel[0] refused: ORDER_NOT_FOUND" in refused.text
        assert "step 0/" in refused.content["line"]
        assert "orders" not in refused.content
        await end_all(tools)

    with_tools(home, test)


def test_a_limit_of_risk_is_refused_with_its_figures(home: Path) -> None:
    async def test(tools: Tools) -> None:
        for _ in range(2):
            await tools.start(risk={"max_position_size_pct": 20})
            answer = await tools("act", orders=[BUY])
            assert "RISK_LIMIT_EXCEEDED" in answer.content["refused"]
            assert re.search(r"allowed \d.*attempted \d", answer.content["refused"])
            await end_all(tools)
        agents = {
            record.agent_id
            for record in (await tools.services.sessions.list(CALLER.get().account_id, limit=2))[0]
        }
        assert len(agents) == 1, "the same limits are those of one agent"

    with_tools(home, test)


def test_cash_and_shares_of_equity_become_quantities(home: Path) -> None:
    async def test(tools: Tools) -> None:
        session_id = await tools.start(fee=0, slippage="none")
        ref = SessionRef(CALLER.get().account_id, session_id)
        session = (await tools.services.sessions.find(ref)).session
        price = session.price("BTCUSDT")
        await tools("act", orders=[{"symbol": "BTCUSDT", "side": "buy", "quote": 2500}])
        assert 2499 < session.orders[0].quantity * price <= 2500
        await tools("act", orders=[{"symbol": "btc/usdt", "side": "buy", "equity_share": "0.5"}])
        assert 4999 < session.orders[1].quantity * price <= 5000
        await tools("act", orders=[{"symbol": "BTCUSDT", "side": "sell", "quote": 1000}])
        assert 1000 <= session.orders[2].quantity * price < 1001
        await tools("act", orders=[{"symbol": "BTCUSDT", "side": "sell", "equity_share": 1}])
        assert session.positions() == ()
        both = {"symbol": "BTCUSDT", "side": "buy", "quote": 1, "quantity": 1}
        assert "orders[1].quantity: give exactly one of" in await tools.refusal(
            "act", orders=[BUY, both]
        )
        assert session.order_count == 4
        await end_all(tools)

    with_tools(home, test)


def test_a_short_is_opened_guarded_and_closed_by_shares_of_equity(home: Path) -> None:
    async def test(tools: Tools) -> None:
        session_id = await tools.start(symbols=["SOLUSDT-PERP"], interval="5m", slippage="none")
        ref = SessionRef(CALLER.get().account_id, session_id)
        session = (await tools.services.sessions.find(ref)).session
        short = {"symbol": "SOLUSDT-PERP", "side": "sell", "equity_share": 0.25}
        await tools("act", orders=[short | {"stop_loss_pct": 4, "take_profit_pct": 5}, short])
        entry, stop, goal, added = session.orders
        assert (stop.side, goal.side) == ("buy", "buy")
        assert goal.trigger < session.fills[0].price < stop.trigger
        assert abs(added.quantity / entry.quantity - 1) < Decimal("0.01")
        (position,) = session.positions()
        assert position.quantity == -(entry.quantity + added.quantity)
        await tools("act", orders=[short | {"side": "buy", "equity_share": 1}])
        assert session.positions() == ()
        await end_all(tools)

    with_tools(home, test)


def test_a_share_of_equity_is_a_margin_at_the_leverage_of_the_session(home: Path) -> None:
    """At 5 a quarter of the equity opens a position of 1.25 times it, and closes all of it."""

    async def test(tools: Tools) -> None:
        session_id = await tools.start(
            symbols=["SOLUSDT-PERP"], interval="5m", slippage="none", leverage=5
        )
        ref = SessionRef(CALLER.get().account_id, session_id)
        session = (await tools.services.sessions.find(ref)).session
        order = {"symbol": "SOLUSDT-PERP", "side": "sell", "equity_share": 0.25}
        await tools("act", orders=[order])
        (position,) = session.positions()
        assert Decimal(12_300) < abs(position.quantity) * position.avg_entry_price < 12_500
        shown = (await tools("account")).content["positions"].splitlines()
        assert shown[0].endswith("leverage liquidation")
        _, _, entry, _, leverage, liquidation = shown[1].split()
        assert (leverage, 1.5 < float(liquidation) / float(entry) < 2) == ("5", True)
        await tools("act", orders=[order | {"side": "buy", "equity_share": "0.1"}])
        (rest,) = session.positions()
        assert abs(rest.quantity / position.quantity - Decimal("0.6")) < Decimal("0.01")
        await tools("act", orders=[order | {"side": "buy"}])
        assert session.positions() == ()
        await end_all(tools)
        for leverage in ("many", 0, 2000):
            refusal = await tools.refusal(
                "create_session", symbols=["SOLUSDT-PERP"], **PERIOD, leverage=leverage
            )
            assert "leverage" in refusal
        spot = await tools.refusal("create_session", symbols=["BTCUSDT"], **PERIOD, leverage=5)
        assert "leverage" in spot

    with_tools(home, test)


def test_guards_close_what_a_market_order_bought(home: Path) -> None:
    """Without slippage a buy at p is guarded at 0.98 p and 1.03 p, and one cancels the other."""

    async def test(tools: Tools) -> None:
        session_id = await tools.start(slippage="none")
        guarded = BUY | {"stop_loss_pct": 2, "take_profit_pct": "3"}
        answer = await tools("act", orders=[guarded])
        ref = SessionRef(CALLER.get().account_id, session_id)
        session = (await tools.services.sessions.find(ref)).session
        price = session.fills[0].price
        stop, goal = session.orders[1:]
        assert abs(stop.trigger - price * Decimal("0.98")) < Decimal("0.001")
        assert abs(goal.trigger - price * Decimal("1.03")) < Decimal("0.001")
        assert answer.content["orders"].count("pending") == 2
        done = await tools("step", steps=10_000)
        assert "pnl" in done.content["fills"]
        assert "(oco)" in done.content["closed"]
        refusal = await tools.refusal("act", orders=[STOP | {"stop_loss_pct": 2}])
        assert "not a stop_loss" in refusal
        await end_all(tools)

    with_tools(home, test)


def test_guards_of_a_limit_order_come_with_its_fill_at_distances_from_its_limit(
    home: Path,
) -> None:
    async def test(tools: Tools) -> None:
        session_id = await tools.start()
        waiting = LIMIT | {"stop_loss_pct": 2, "take_profit_pct": 3}
        placed = await tools("act", orders=[waiting], steps=10_000, until="order_change")
        assert "price 92000 stop_loss 90160 take_profit 94760 pending" in placed.content["orders"]
        assert "#1 buy limit 0.05 BTCUSDT at 92000.00" in placed.content["fills"]
        ref = SessionRef(CALLER.get().account_id, session_id)
        session = (await tools.services.sessions.find(ref)).session
        stop, goal = session.orders[1:]
        assert (stop.type, goal.type) == ("stop_loss", "take_profit")
        assert (stop.trigger, goal.trigger) == (90160, 94760)
        await end_all(tools)

    with_tools(home, test)


def test_a_call_sent_again_with_its_key_is_done_once(home: Path) -> None:
    async def test(tools: Tools) -> None:
        ids = [await tools.start(key="c1") for _ in range(2)]
        assert ids[0] == ids[1]
        arguments = {
            "orders": [
                {"symbol": "BTCUSDT", "side": "buy", "equity_share": 0.5, "stop_loss_pct": 5},
                LIMIT,
            ],
            "cancel": ["all"],
            "steps": 60,
            "key": "a1",
        }
        first, second = [(await tools("act", **arguments)).content for _ in range(2)]
        assert first.pop("passed") == "60 candles passed"
        assert first == second
        assert "step 60/" in first["line"]
        assert first["orders"].count("#") == 3
        steps = [await tools("step", steps=5, key="s1") for _ in range(2)]
        assert steps[0].text == steps[1].text
        assert "step 65/" in steps[0].content["line"]
        forks = [await tools("fork", session_id=ids[0], count=2, key="f1") for _ in range(2)]
        assert forks[0].content["session_ids"] == forks[1].content["session_ids"]
        refusal = await tools.refusal("step", session_id=ids[0], steps=6, key="s1")
        assert "another request" in refusal
        await end_all(tools)

    with_tools(home, test)


def test_a_session_of_another_account_does_not_exist(home: Path) -> None:
    async def test(tools: Tools) -> None:
        owner = CALLER.get()
        session_id = await tools.start()
        before = await digest_of(tools, session_id)
        become(tools.services, "bob")
        answers = []
        for name in (session_id, "bt_00000000-0000-4000-8000-000000000000"):
            calls: Sequence[tuple[str, dict[str, Any]]] = [
                *((tool, {}) for tool in ("observe", "account", "history", "fork", "results")),
                ("step", {"steps": 5}),
                ("act", {"orders": [BUY], "steps": 5}),
                ("end_session", {}),
            ]
            refusals = [await tools.refusal(tool, session_id=name, **rest) for tool, rest in calls]
            refusals.append(await tools.refusal("compare", session_ids=[name, "x"]))
            answers.append([text.replace(name, "…") for text in refusals])
        assert answers[0] == answers[1]
        assert "no sessions" in (await tools("list_sessions")).text
        assert "no running session" in await tools.refusal("step")
        CALLER.set(owner)
        assert await digest_of(tools, session_id) == before
        await end_all(tools)

    with_tools(home, test)


def test_one_of_several_running_sessions_has_to_be_named(home: Path) -> None:
    async def test(tools: Tools) -> None:
        ids = [await tools.start(), await tools.start()]
        refusal = await tools.refusal("step")
        assert all(name in refusal for name in ids)
        await tools("end_session", session_id=ids[0])
        assert "step 1/" in (await tools("step")).content["line"]
        await tools("step", steps=100_000)
        assert "no running session" in await tools.refusal("step")
        # What has ended last can be read.
        for tool in ("results", "account", "history", "observe"):
            assert "step 10080/10080" in (await tools(tool)).content["line"]
        assert (await tools("results")).content["session_id"] == ids[1]

    with_tools(home, test)


def test_no_answer_depends_on_candles_after_the_clock(tmp_path: Path) -> None:
    """Two markets are the same up to a time at which a session stops, and nothing alike after it."""
    now = parse_time("2025-01-05T12:00:00Z")

    async def seen(home: Path) -> list[str]:
        async with tools_of(home) as tools:
            session_id = await tools.start(end="2025-01-06")
            await tools("act", orders=[BUY | {"stop_loss_pct": 1}, LIMIT], steps=720)
            indicators = ["rsi:14", "bollinger:20:2", "sar"]
            for interval in ("1m", "15m", "1h", "4h", "1d"):
                await tools("observe", interval=interval, candles=60, indicators=indicators)
            for tool in ("observe", "account", "history", "results"):
                await tools(tool)
            fork = (await tools("fork")).content["session_ids"][0]
            await tools("compare", session_ids=[session_id, fork])
            return [
                answer.text.replace(session_id, "…").replace(fork, "…")
                for _, answer in tools.answers
            ]

    answers = []
    for number, after in enumerate((1.0, 1.37)):
        home = tmp_path / str(number)
        _load(home, now, after)
        answers.append(asyncio.run(seen(home)))
    assert answers[0] == answers[1]


def _load(home: Path, now: int, factor: float) -> None:
    """Import six days of BTCUSDT, whose prices and volumes from ``now`` on have a factor."""
    home.mkdir()
    sample = sample_market()["BTCUSDT"]
    first, last = parse_time("2025-01-01"), parse_time("2025-01-07")
    rows = (sample.open_time >= first) & (sample.open_time < last)
    changed = CandleColumns(
        sample.open_time[rows], *(column[rows].copy() for column in sample.numbers())
    )
    for column in changed.numbers():
        column[changed.open_time >= now] *= factor
    store = Store.open(home)
    import_candles(store, changed, parse_symbol("BTCUSDT"), MINUTE, source="test")
    store.close()


def test_results_name_what_had_shown_the_market_before(tmp_path: Path) -> None:
    """A session that ended before another begins, or of another symbol, has shown nothing of it."""

    async def test(tools: Tools) -> None:
        first = await tools.start()
        assert "earlier" not in (await tools("results", session_id=first)).content
        await tools("step", session_id=first, steps=1440)
        fork = (await tools("fork", session_id=first)).content["session_ids"][0]
        later = await tools.start(start="2025-01-06", end="2025-01-08")
        other = await tools.start(symbols=["ETHUSDT"])
        blind = await tools.start(blind=True, end="2025-01-05T01:00:00Z")
        await tools("step", session_id=blind, steps=100)
        earlier = {
            name: (await tools("results", session_id=name)).content.get("earlier", "")
            for name in (fork, later, other, blind)
        }
        assert earlier[fork] == f"seen before by: {first}"
        assert earlier[later] == ""
        assert earlier[other] == ""
        assert {first, fork} == set(re.findall("bt_[0-9a-f-]+", earlier[blind]))
        again = await tools.start(end="2025-01-06")
        seen = (await tools("results", session_id=again)).content["earlier"]
        assert seen.startswith("seen before by: ")
        assert {first, fork, blind} == set(re.findall("bt_[0-9a-f-]+", seen))

    with_tools(sample_home(tmp_path / "home"), test)
