"""Perpetuals over HTTP: short with leverage, funding, liquidation, and both in the results."""

from collections.abc import Mapping
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import pytest

from candlestep.api.replay.remote_target import remote_session
from candlestep.api.replay.replay import replay
from candlestep.api.schemas.fields import money
from candlestep.data.journal.recording import recording_of, records_of
from candlestep.data.market.loading import load_market
from candlestep.sandbox import Session, SessionConfig, parse_time
from tests.support.api_client import BACKTEST, Api
from tests.support.server_process import RunningServer

PERP = "SOLUSDT-PERP"
START, END = "2025-01-09T00:00:00Z", "2025-01-14T00:00:00Z"
SHORT: dict[str, Any] = {"symbol": PERP, "side": "sell", "quantity": "40"}
"""A short in the sample's perpetual, whose price rises by a twentieth within two days."""
NEW_FIELDS = {
    "reduce_only", "closed_pnl", "is_liquidation", "closed_quantity", "liquidation", "side",
    "mark_prices", "funding", "liquidations", "wallet_balance", "margin_balance", "market_type",
    "leverage", "margin_mode", "total_funding", "insurance",
}  # fmt: skip


def config(**changes: Any) -> dict[str, Any]:
    return {
        "start_time": START,
        "end_time": END,
        "starting_balance": "2000",
        "candle_interval": "5m",
        "market_type": "perp",
        "pairs": ["SOLUSDT"],
        "leverage": 20,
        "margin_mode": "isolated",
        "slippage": {"model": "fixed_bps", "bps": 5},
    } | changes


def started(api: Api, **changes: Any) -> str:
    session_id: str = api.post(f"{BACKTEST}/create", config(**changes))["session_id"]
    api.post(f"{BACKTEST}/{session_id}/start")
    return session_id


@pytest.fixture(scope="module")
def liquidated(api: Api) -> dict[str, Any]:
    """Return the answers of a session whose short is liquidated, by what was asked."""
    session_id = started(api)
    path = f"{BACKTEST}/{session_id}"
    answers = {"order": api.order(session_id, **SHORT)}
    answers["transfer"] = api.post(f"{path}/account/margin", {"symbol": PERP, "amount": "25"})
    answers["day"] = api.step(session_id, 288)
    for what in ("account/positions", "account/margin", "account/portfolio", "account/funding"):
        answers[what] = api.read(session_id, what)
    answers["page of a day"] = api.client.get(f"/sessions/{session_id}").text
    answers["rates"] = api.read(session_id, f"market/funding/{PERP}")
    answers["rest"] = api.step(session_id, 10_000)
    for what in ("results", "results/trades", "results/funding", "results/liquidations",
                 "results/equity-curve", "trade/orders"):  # fmt: skip
        answers[what] = api.read(session_id, what)
    answers["trades.csv"] = api.client.get(f"/sessions/{session_id}/trades.csv").text
    answers["equity.parquet"] = api.client.get(f"/sessions/{session_id}/equity.parquet").content
    answers["page"] = api.client.get(f"/sessions/{session_id}").text
    return answers


@pytest.fixture(scope="module")
def in_process(server: RunningServer) -> Session:
    """Return the same session in this process, at its end."""
    market = load_market(PERP, home=server.home, start="2024-11-01", end="2025-02-01")
    settings = config()
    del settings["pairs"]
    session = Session(SessionConfig(**settings), market)
    session.place_order(**SHORT)
    session.transfer_margin(PERP, 25)
    session.step(288)
    session.step(10_000)
    return session


def test_a_short_pays_and_receives_funding_until_it_is_liquidated(
    liquidated: dict[str, Any],
) -> None:
    day, rest = liquidated["day"], liquidated["rest"]
    assert [payment["simulated_at"][11:13] for payment in day["funding"]] == ["08", "16", "00"]
    assert day["liquidations"] == []
    assert day["mark_prices"].keys() == day["prices"].keys() == {PERP}
    paid = sum((Decimal(payment["amount"]) for payment in day["funding"]), Decimal(0))
    assert paid > 0, "the rates are positive, and a short receives them"
    assert liquidated["account/funding"]["total_amount"] == money(paid)
    assert day["portfolio"]["funding"] == money(paid)
    [liquidation] = rest["liquidations"]
    [closed] = [order for order in rest["orders_filled"] if order["is_liquidation"]]
    assert liquidation["order_id"] == closed["order_id"]
    assert (closed["reason"], closed["reduce_only"], closed["side"]) == (
        "liquidation", True, "buy",
    )  # fmt: skip


def test_positions_are_shown_with_their_margin(liquidated: dict[str, Any]) -> None:
    [position] = liquidated["account/positions"]["positions"]
    assert (position["side"], position["leverage"], position["margin_mode"]) == (
        "short", 20, "isolated",
    )  # fmt: skip
    assert position["quantity"] == "-40.00"
    names = ("notional", "entry_price", "mark_price", "unrealized_pnl", "isolated_wallet")
    amount = {name: Decimal(position[name]) for name in names}
    entry, mark = amount["entry_price"], amount["mark_price"]
    assert amount["notional"] == 40 * mark
    assert amount["unrealized_pnl"] == 40 * (entry - mark)
    margin = liquidated["account/margin"]
    wallet = Decimal(margin["wallet_balance"])
    assert Decimal(margin["margin_balance"]) == wallet + amount["unrealized_pnl"]
    assert wallet == Decimal(margin["cross_wallet"]) + amount["isolated_wallet"]
    assert liquidated["transfer"]["liquidation_price"] is not None
    portfolio = liquidated["account/portfolio"]
    assert portfolio["margin_balance"] == portfolio["total_equity"] == margin["margin_balance"]


def test_it_is_to_the_digit_what_the_session_in_process_is(
    liquidated: dict[str, Any], in_process: Session
) -> None:
    results, summary = in_process.results(), liquidated["results"]["summary"]
    for name in (
        "final_equity", "total_fees", "total_funding", "total_liquidation_fees", "insurance",
    ):  # fmt: skip
        assert summary[name] == money(getattr(results, name)), name
    assert (summary["liquidations"], summary["funding_applied"]) == (1, results.funding_applied)
    assert summary["mark_source"] == results.mark_source == "mark"
    payments = liquidated["results/funding"]
    assert [payment["amount"] for payment in payments["payments"]] == [
        money(payment.amount) for payment in in_process.funding_payments
    ]
    assert payments["total_amount"] == summary["total_funding"]
    [stored] = liquidated["results/liquidations"]["liquidations"]
    assert stored == liquidated["rest"]["liquidations"][0]
    assert stored["loss"] == money(in_process.liquidations[0].loss)
    trades = liquidated["results/trades"]["trades"]
    assert [trade["closed_pnl"] for trade in trades] == [
        None if fill.closed_pnl is None else money(fill.closed_pnl) for fill in in_process.fills
    ]
    assert [trade["liquidation"] for trade in trades] == [False, True]
    last = liquidated["results/equity-curve"]["snapshots"][-1]
    assert (last["funding"], last["margin_balance"]) == (
        summary["total_funding"], summary["final_equity"],
    )  # fmt: skip


def test_the_results_name_the_settings(liquidated: dict[str, Any]) -> None:
    stated = liquidated["results"]["config"]
    assert stated["pairs"] == [PERP]
    assert {name: stated[name] for name in ("market_type", "leverage", "margin_mode", "mark")} == {
        "market_type": "perp", "leverage": 20, "margin_mode": "isolated", "mark": "auto",
    }  # fmt: skip
    assert stated["liquidation"] == {"fee_rate": "0.0125", "at": "path"}
    assert stated["margin_tiers"][PERP]["source"] == "default"


def test_the_page_of_the_session_shows_it(liquidated: dict[str, Any]) -> None:
    assert PERP in liquidated["page"]
    assert (
        liquidated["account/positions"]["positions"][0]["liquidation_price"]
        in (liquidated["page of a day"])
    )
    assert "liquidation" in liquidated["page"].lower()


def test_the_files_of_the_session_have_it(liquidated: dict[str, Any], tmp_path: Path) -> None:
    names, opened, closed = (line.split(",") for line in liquidated["trades.csv"].split())
    assert names[-3:] == ["closed_pnl", "closed_quantity", "liquidation"]
    assert opened[-3:] == ["", "0.00", "False"]
    assert (closed[-2], closed[-1]) == ("40.00", "True")
    path = tmp_path / "equity.parquet"
    path.write_bytes(liquidated["equity.parquet"])
    with duckdb.connect() as database:
        columns = [row[0] for row in database.execute(f"DESCRIBE FROM '{path}'").fetchall()]
    assert columns[-3:] == ["wallet_balance", "margin_balance", "funding"]


def test_no_rate_of_a_settlement_to_come_is_shown(liquidated: dict[str, Any]) -> None:
    rates, now = liquidated["rates"], parse_time(liquidated["day"]["virtual_time"])
    assert parse_time(rates["rates"][-1]["time"]) == now, "settled a moment ago"
    assert parse_time(rates["next_time"]) == now + 8 * 3_600_000
    assert rates["total"] == 27


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"market_type": "spot", "pairs": [PERP]}, "market_type to 'perp'"),
        ({"market_type": "spot", "pairs": ["BTCUSDT"]}, "leverage"),
        ({"pairs": [PERP, "BTCUSDT"], "leverage": {"ETHUSDT": 3}}, "not one of the pairs"),
        ({"leverage": {PERP: 3, "SOL/USDT:USDT": 4}}, "twice"),
        ({"leverage": 2.5}, "whole number"),
        ({"margin_tiers": [{"floor": 5, "mmr": "0.01", "max_leverage": 10}]}, "margin_tiers"),
        ({"funding_rate_default": 2}, "funding_rate_default"),
        ({"pairs": ["BTC/USDT:USDT"]}, "no candles of BTCUSDT-PERP"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(
    api: Api, changes: dict[str, Any], problem: str
) -> None:
    error = api.post(f"{BACKTEST}/create", config(**changes), 422)["error"]
    assert problem in error["message"]


def test_commands_that_margin_does_not_allow_name_what_is_needed(api: Api) -> None:
    session_id = started(api, leverage={"SOL/USDT:USDT": 5})
    path = f"{BACKTEST}/{session_id}/account"
    error = api.order(session_id, 422, **SHORT | {"quantity": "400"})["error"]
    assert error["code"] == "INSUFFICIENT_MARGIN"
    assert {"required", "available"} <= error["details"].keys()
    assert api.order(session_id, 422, **SHORT, reduce_only=True)["error"]["code"]
    assert api.read(session_id, "trade/orders")["total"] == 0
    api.post(f"{path}/margin", {"symbol": PERP, "amount": 5}, 409)
    error = api.post(f"{path}/leverage", {"symbol": PERP, "leverage": 500}, 422)["error"]
    assert error["details"]["allowed"] == "125"
    api.order(session_id, **SHORT | {"quantity": "10"})
    api.post(f"{path}/leverage", {"symbol": "SOLUSDT", "leverage": 4}, 409)
    api.post(f"{path}/margin-mode", {"symbol": PERP, "margin_mode": "cross"}, 409)
    error = api.post(f"{path}/margin", {"symbol": PERP, "amount": "-400"}, 422)["error"]
    assert error["code"] == "INSUFFICIENT_MARGIN"


def test_leverage_beyond_the_tiers_is_refused_when_the_session_is_created(api: Api) -> None:
    tiers = [{"floor": 0, "mmr": "0.01", "max_leverage": 10}]
    error = api.post(f"{BACKTEST}/create", config(margin_tiers=tiers), 422)["error"]
    assert Decimal(error["details"]["allowed"]) == 10
    api.post(f"{BACKTEST}/create", config(leverage=126), 422)


def test_a_change_of_leverage_with_a_key_is_made_once(api: Api) -> None:
    session_id = started(api)
    path = f"{BACKTEST}/{session_id}/account/leverage"
    first, again = (
        api.client.post(
            path, json={"symbol": PERP, "leverage": 7}, headers={"Idempotency-Key": "seven"}
        )
        for _ in range(2)
    )
    assert first.status_code == again.status_code == 200
    assert first.content == again.content
    recording = api.client.get(f"{BACKTEST}/{session_id}/recording").text
    assert recording.count('"do":"leverage"') == 1
    assert f'"{PERP}.FUNDING":' in recording
    assert f'"{PERP}.MARK":' in recording


@pytest.mark.parametrize("blind", [False, {"seed": 3}])
def test_its_recording_replays_on_a_server(server: RunningServer, api: Api, blind: Any) -> None:
    """So does that of a blind session, whose settings by pair have the names of its disguise."""
    session_id = started(api, leverage={PERP: 20}, **{"blind": blind} if blind else {})
    path = f"{BACKTEST}/{session_id}"
    [(pair, price)] = api.read(session_id, "market/prices")["prices"].items()
    assert (pair == PERP) == (not blind)
    quantity = f"{9000 / float(price):.4f}"
    api.order(session_id, symbol=pair, side="sell", quantity=quantity)
    api.post(f"{path}/account/leverage", {"symbol": pair, "leverage": 25})
    api.post(f"{path}/account/margin", {"symbol": pair, "amount": 25})
    assert len(api.step(session_id, 10_000)["liquidations"]) == 1
    lines = api.client.get(f"{path}/recording").content
    recording = recording_of(records_of(lines, needs_crc=True))
    target = partial(remote_session, server.url, None, recording.start)
    assert replay(recording, target, lambda *_: None).is_same


def test_answers_of_spot_sessions_have_nothing_of_it(api: Api) -> None:
    session_id = api.started()
    answers = [api.order(session_id), api.step(session_id, 10_000)]
    for what in ("account/portfolio", "account/positions", "market/prices", "trade/orders",
                 "results", "results/trades", "results/equity-curve"):  # fmt: skip
        answers.append(api.read(session_id, what))
    assert not (names_in(answers) & NEW_FIELDS) - {"side"}
    trades = api.client.get(f"/sessions/{session_id}/trades.csv").text
    assert trades.partition("\n")[0].strip().endswith(",simulated_at")
    assert "UNSET" not in trades + api.client.get(f"/sessions/{session_id}").text
    assert api.read(session_id, "results/funding")["total"] == 0
    assert api.read(session_id, "results/liquidations")["count"] == 0
    api.read(started_spot(api), "account/margin", 409)


def started_spot(api: Api) -> str:
    return api.started("01-15", "01-16")


def names_in(value: Any) -> set[str]:
    """Return the names of all fields in a decoded answer."""
    if isinstance(value, Mapping):
        return set(value).union(*map(names_in, value.values()))
    return set().union(*map(names_in, value)) if isinstance(value, list) else set()


def test_the_fees_of_a_venue_are_those_of_its_perpetuals(api: Api) -> None:
    session_id = started(api, fee_model="match_exchange")
    order = api.order(session_id, **SHORT)
    notional = Decimal(order["executed_price"]) * Decimal(order["executed_qty"])
    # On spot the venue charged 0.1 %.
    assert Decimal(order["fee"]) == round(notional * Decimal("0.0005"), 8)


def test_limits_of_an_agent_beyond_all_it_has_are_of_perpetuals(api: Api) -> None:
    """250 % of 2,000 buys for 5,000 at most: 20 of about 190 each, not 40."""
    body = {"name": "bold", "risk_profile": {"max_order_size_pct": "250"}}
    agent_id = api.post("/api/v1/agents", body, 201)["agent_id"]
    session_id = started(api, agent_id=agent_id)
    refused = api.order(session_id, 422, **SHORT)
    assert refused["details"]["limit"] == "max_order_size_pct"
    assert Decimal(refused["details"]["allowed"]) == 5000
    assert api.order(session_id, **SHORT | {"quantity": "20"})["status"] == "filled"
    spot = {"start_time": START, "end_time": END, "agent_id": agent_id}
    details = api.post(f"{BACKTEST}/create", spot, 422)["details"]
    assert details["field"] == "max_order_size_pct"
    body["risk_profile"] = {"max_order_size_pct": "100000.1"}
    assert api.post("/api/v1/agents", body, 422)["details"]["field"] == "max_order_size_pct"
