"""The same commands give the same numbers over HTTP and in process, to the last digit.

Random markets are imported into a running server, each as an exchange of its own, and random
commands are sent to a session there and given to one in this process.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings

from candlestep.api.schemas.results import MetricsResponse
from candlestep.data.market.candle_cache import LOOK_BACK, month_start
from candlestep.data.market.fee_schedules import FILE_NAME
from candlestep.sandbox import Order, Portfolio, Session, Ticker, format_time
from candlestep.sandbox import Step as StepMade
from tests.support.api_client import BACKTEST
from tests.support.candle_files import csv_text, write
from tests.support.case_strategies import cases
from tests.support.command_line import candlestep
from tests.support.server_process import RunningServer, running
from tests.support.session_cases import (
    INTERVALS,
    Cancel,
    Case,
    Command,
    End,
    Place,
    Refusal,
    Step,
    answer_of,
    apply,
    start_session,
)

EXAMPLES = max(1, settings.default.max_examples // 8)  # type: ignore[union-attr]
OF_PERPETUALS = ("closed_pnl", "closed_quantity", "is_liquidation")
"""Fields of a fill that are empty in spot sessions."""
_NUMBER = re.compile(r"-?\d+\.\d{2,}", re.ASCII)
_cases = itertools.count(1)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running(tmp_path_factory.mktemp("server") / "home") as server:
        yield server


@pytest.fixture(scope="module")
def client(server: RunningServer) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


# What a session in process answers, in the fields of HTTP.


def shown_order(order: Order) -> dict[str, Any]:
    fill = order.fill
    return {
        "id": order.id,
        "order_id": order.id,
        "client_order_id": order.client_order_id,
        "oco_group": order.oco_group,
        "status": order.status,
        "reason": order.reason,
        "symbol": order.symbol,
        "side": order.side,
        "type": order.type,
        "quantity": order.quantity,
        "price": order.price,
        "trigger_price": order.trigger_price,
        "executed_price": fill and fill.price,
        "executed_qty": fill and fill.quantity,
        "fee": fill and fill.fee,
        "slippage_pct": fill and fill.slippage * 100,
        "realized_pnl": fill and fill.realized_pnl,
        "created_at": format_time(order.created_at),
        "filled_at": _time(order.filled_at),
        "closed_at": _time(order.closed_at),
        "expires_at": _time(order.expires_at),
    }


def shown_portfolio(portfolio: Portfolio) -> dict[str, Any]:
    names = (
        "total_equity", "available_cash", "locked_cash", "position_value", "unrealized_pnl",
        "realized_pnl", "starting_balance",
    )  # fmt: skip
    positions = [
        msgspec.structs.asdict(position) | {"avg_entry_price": position.avg_entry_price}
        for position in portfolio.positions
    ]
    return {name: getattr(portfolio, name) for name in names} | {"positions": positions}


def shown_step(step: StepMade) -> dict[str, Any]:
    return {
        "virtual_time": format_time(step.time),
        "step": step.step,
        "total_steps": step.total_steps,
        "progress_pct": step.progress_pct,
        "prices": step.prices,
        "orders_filled": [shown_order(order) for order in step.orders_filled],
        "orders_closed": [shown_order(order) for order in step.orders_closed],
        "portfolio": shown_portfolio(step.portfolio),
        "is_complete": step.is_complete,
        "remaining_steps": step.remaining_steps,
    }


def shown_results(session: Session) -> dict[str, Any]:
    results = session.results()
    summary = {"final_equity", "total_pnl", "roi_pct", "total_trades", "total_fees"}
    shown_here = MetricsResponse.__struct_fields__
    metrics = {name: getattr(results.metrics, name) for name in shown_here}
    for name in ("covered_from", "covered_to"):
        metrics[name] = _time(metrics[name])
    return {
        "status": results.status,
        "summary": {name: getattr(results, name) for name in summary},
        "metrics": metrics,
        "by_pair": [msgspec.structs.asdict(pair) for pair in results.by_pair],
    }


def shown_trades(session: Session) -> list[dict[str, Any]]:
    trades = [msgspec.structs.asdict(fill) for fill in session.fills]
    for trade in trades:
        trade["simulated_at"] = format_time(trade.pop("time"))
        trade["slippage_pct"] = trade.pop("slippage") * 100
        of_perpetuals = [trade.pop(name) for name in OF_PERPETUALS]
        assert of_perpetuals == [None, None, False]
    return trades


def shown_curve(session: Session) -> list[dict[str, Any]]:
    snapshots = [msgspec.structs.asdict(snapshot) for snapshot in session.snapshots()]
    for snapshot in snapshots:
        snapshot["simulated_at"] = format_time(snapshot.pop("time"))
        assert snapshot.pop("funding") is None
    return snapshots


def as_answered(answer: object) -> object:
    """Return the expected form of an answer to a command, or of a ticker."""
    match answer:
        case Order():
            return shown_order(answer)
        case StepMade():
            return shown_step(answer)
        case Ticker():
            fields = msgspec.structs.asdict(answer)
            return {"virtual_time": format_time(fields.pop("time"))} | fields
    return answer


def _time(time: int | None) -> str | None:
    return None if time is None else format_time(time)


def numbers(value: Any) -> Any:
    """Return a decoded answer with its amounts as decimals."""
    if isinstance(value, dict):
        return {name: numbers(member) for name, member in value.items()}
    if isinstance(value, list):
        return [numbers(member) for member in value]
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        return Decimal(value)
    return value


class OverHttp:
    """A case's session on the server."""

    def __init__(self, client: httpx.Client, session_id: str) -> None:
        self._client = client
        self._path = f"{BACKTEST}/{session_id}"

    def apply(self, command: Command) -> Any:
        """Return the server's answer to a command, or its refusal."""
        match command:
            case Place():
                fields = command.instruction | {"expires_at": _time(command.expires_at)}
                body = {name: value for name, value in fields.items() if value is not None}
                return self.call("POST", "trade/order", body)
            case Cancel():
                return self.call("DELETE", f"trade/order/{command.order_id}")
            case Step(1):
                return self.call("POST", "step")
            case Step():
                return self.call("POST", "step/batch", {"steps": command.steps})
            case End():
                return self.call("POST", "cancel")

    def call(self, method: str, what: str, body: object = None, **query: Any) -> Any:
        """Return the answer to a call, with amounts as decimals, or its refusal."""
        answer = self._client.request(method, f"{self._path}/{what}", json=body, params=query)
        assert answer.status_code < 500, answer.text
        decoded = answer.json()
        return Refusal(decoded["code"]) if answer.is_error else numbers(decoded)

    def read(self, what: str, **query: Any) -> Any:
        """Return the answer to a read."""
        return self.call("GET", what, **query)


def readable(case: Case) -> Case:
    """Return the case with the candles that its session reads on a server.

    These reach back by whole months, and not without end.
    """
    first = month_start(case.config.start - LOOK_BACK)
    market = tuple(
        replace(series, bars=tuple(bar for bar in series.bars if bar.open_time >= first))
        for series in case.market
    )
    return replace(case, market=tuple(series for series in market if series.bars))


def import_market(server: RunningServer, directory: Path, case: Case, exchange: str) -> None:
    """Import a case's candles as those of ``exchange``."""
    for series in case.market:
        interval = INTERVALS[series.interval]
        candles = [
            (bar.open_time, bar.open, bar.high, bar.low, bar.close, bar.volume)
            if series.has_volume
            else (bar.open_time, bar.open, bar.high, bar.low, bar.close, 0.0)
            for bar in series.bars
        ]
        path = write(directory / f"{series.symbol}-{interval}.csv", csv_text(candles))
        imported = candlestep(
            "data", "import", path, "--symbol", series.symbol, "--interval", interval,
            "--exchange", exchange, "--home", server.home,
        )  # fmt: skip
        assert imported.code == 0, imported.err


def begin(
    server: RunningServer, client: httpx.Client, case: Case, exchange: str
) -> OverHttp | None:
    """Create the case's session at step 0; None if it is refused for lack of data."""
    config = case.config
    fees = config.fees.settings
    if "fee_schedule" in fees:
        venues = {exchange: {"entries": fees.pop("fee_schedule")}}
        (server.home / FILE_NAME).write_text(json.dumps({"venues": venues}))
    limits = ("max_order_size_pct", "max_position_size_pct", "daily_loss_limit_pct")
    profile = {name: getattr(config, name) for name in limits}
    agent = client.post("/api/v1/agents", json={"name": exchange, "risk_profile": profile}).json()
    is_fixed = config.slippage == "fixed_bps"
    body = {
        "start_time": format_time(config.start),
        "end_time": format_time(config.end),
        "starting_balance": config.balance,
        "candle_interval": INTERVALS[config.interval],
        "agent_id": agent["agent_id"],
        "pairs": case.symbols,
        "exchange": exchange,
        **fees,
        "slippage": {"model": config.slippage} | ({"bps": config.bps} if is_fixed else {}),
        "trigger": config.trigger,
        "liquidate_at_end": config.liquidate_at_end,
        "allow_gaps": True,
    }
    created = client.post(f"{BACKTEST}/create", json=body)
    if created.is_error:
        assert created.json()["code"] == "NO_DATA", created.text
        return None
    session = OverHttp(client, created.json()["session_id"])
    assert created.json()["total_steps"] == config.total_steps
    assert not isinstance(session.call("POST", "start"), Refusal)
    return session


def check_state(http: OverHttp, session: Session) -> None:
    """Assert that everything readable of an account and its market is the same."""
    assert http.read("account/portfolio") == shown_portfolio(session.portfolio())
    assert http.read("market/prices")["prices"] == session.prices()
    balances = [
        {
            "asset": balance.asset,
            "available": balance.available,
            "locked": balance.locked,
            "total": balance.total,
        }
        for balance in session.balances()
    ]
    assert http.read("account/balance") == {"balances": balances}
    opened = [shown_order(order) for order in session.open_orders()]
    assert http.read("trade/orders/open", limit=1000)["orders"] == opened
    for symbol in session.market.symbols:
        ticker = answer_of(partial(session.ticker, symbol))
        assert http.read(f"market/ticker/{symbol}") == as_answered(ticker)
        shown: Any = answer_of(partial(session.candles, symbol, limit=1000))
        answered = http.read(f"market/candles/{symbol}", limit=1000)
        if isinstance(shown, Refusal):
            assert answered == as_answered(shown)
            continue
        names = ("open", "high", "low", "close", "volume")
        candles = [
            (format_time(candle.open_time), *(getattr(candle, name) for name in names))
            for candle in shown
        ]
        assert [
            (candle["open_time"], *(candle[name] for name in names))
            for candle in answered["candles"]
        ] == candles


def check_slippage(warnings: list[dict[str, Any]], order: dict[str, Any]) -> None:
    """Assert that an order that filled more than 2 % worse than the price has a warning."""
    is_high = order["slippage_pct"] is not None and order["slippage_pct"] > 2
    assert [warning["code"] for warning in warnings] == ["HIGH_SLIPPAGE"] * is_high


def check_coverage(answer: dict[str, Any], session: Session) -> None:
    """Assert that an answer says of the candles what the session says in process."""
    assert {
        symbol: float(share) for symbol, share in answer["coverage"].items()
    } == session.coverage
    assert answer["warnings"] == [
        {
            "code": warning.code,
            "symbol": warning.symbol,
            "from": format_time(warning.start),
            "to": format_time(warning.end),
            "message": warning.message,
        }
        for warning in session.warnings
    ]


def check_end(http: OverHttp, session: Session) -> None:
    """Assert that the outcome of an ended session is the same."""
    results = http.read("results")
    expected = shown_results(session)
    assert {name: results[name] for name in expected} == expected
    check_coverage(results, session)
    orders = [shown_order(order) for order in session.orders]
    assert http.read("trade/orders", limit=1000)["orders"] == orders
    assert http.read("trade/history")["trades"] == shown_trades(session)
    assert http.read("results/trades")["trades"] == shown_trades(session)
    assert http.read("results/equity-curve")["snapshots"] == shown_curve(session)


@settings(
    max_examples=EXAMPLES,
    suppress_health_check=[
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.function_scoped_fixture,
    ],
)
@given(case=cases())
def test_http_equals_in_process(
    server: RunningServer,
    client: httpx.Client,
    tmp_path_factory: pytest.TempPathFactory,
    case: Case,
) -> None:
    exchange = f"case-{next(_cases)}"
    import_market(server, tmp_path_factory.mktemp(exchange), case, exchange)
    http = begin(server, client, case, exchange)
    if http is None:
        return
    session = start_session(readable(case))
    for number, command in enumerate(case.commands):
        if command == Step(0) and session.status != "running":
            continue  # Both refuse it, but not for the same of two reasons.
        answer, expected = http.apply(command), as_answered(apply(session, command))
        if isinstance(expected, dict) and isinstance(command, Cancel):
            expected = {"order_id": command.order_id, "status": "cancelled", "cancelled": True}
        if isinstance(expected, dict) and isinstance(command, End):
            assert answer["total_trades"] == len(session.fills)
            assert answer["roi_pct"] == session.results().roi_pct
        else:
            if isinstance(command, Place) and isinstance(expected, dict):
                check_slippage(answer.pop("warnings"), expected)
            assert answer == expected, command
        if number % 5 == 0:
            check_state(http, session)
    assert session.status in ("completed", "cancelled")
    check_state(http, session)
    check_end(http, session)
