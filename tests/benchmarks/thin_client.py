"""An agent on one connection: the client against ``httpx.Client``, and a turn against its calls."""

import statistics
import tempfile
import time
from collections.abc import Callable
from operator import truediv
from pathlib import Path
from typing import Any

import httpx

from candlestep.api.client import Client, Session
from candlestep.data.store.database import Store
from candlestep.sandbox import format_time
from tests.benchmarks.market import END, START, SYMBOLS, synthetic_year
from tests.benchmarks.over_http import fill_store
from tests.benchmarks.table import Row
from tests.support.server_process import COMMAND, running

STEPS = 500
ROUNDS = 5

ORDERS: list[dict[str, Any]] = [
    {"symbol": "BTCUSDT", "side": side, "type": "market", "quantity": "0.01"}
    for side in ("buy", "sell")
]


def rows() -> list[Row]:
    """Return the rows of the client."""
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory)
        store = Store.open(home)
        for symbol in SYMBOLS:
            fill_store(store, synthetic_year(symbol))
        store.close()
        with (
            running(home, "--memory-budget", "4GiB", command=COMMAND) as server,
            server.client() as plain,
            Client(server.url) as client,
        ):
            return _rows(plain, client)


def _rows(plain: httpx.Client, client: Client) -> list[Row]:
    config = {
        "start_time": format_time(START),
        "end_time": format_time(END),
        "starting_balance": "1000000000",
    }
    session, other = client.create_session(**config), client.create_session(**config)
    path = f"/api/v1/backtest/{other.id}"

    def plain_step() -> None:
        plain.post(f"{path}/step").raise_for_status().json()

    def plain_orders() -> None:
        for order in ORDERS:
            plain.post(f"{path}/trade/order", json=order).raise_for_status().json()
        plain_step()

    singles = _rates(session.step, plain_step)
    ordered = _rates(lambda: _orders(session), plain_orders)
    turns = _rates(lambda: session.turn(ORDERS), lambda: _orders(session))
    return [
        _row("single steps with the client", singles, "`httpx.Client`", 3.5),
        _row("two orders and a step with the client", ordered, "`httpx.Client`", 2.5),
        _row("a turn of two orders and a step", turns, "the three calls with the client", 1.8),
    ]


def _orders(session: Session) -> None:
    for order in ORDERS:
        session.place_order(**order)
    session.step()


def _rates(ours: Callable[[], object], other: Callable[[], object]) -> tuple[list[float], ...]:
    """Return the calls per second of both, measured in turns."""
    rates: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS):
        for call, found in zip((ours, other), rates, strict=True):
            began = time.perf_counter()
            for _ in range(STEPS):
                call()
            found.append(STEPS / (time.perf_counter() - began))
    return rates


def _row(what: str, rates: tuple[list[float], ...], baseline: str, bar: float) -> Row:
    ours, other = rates
    ratio = statistics.median(map(truediv, ours, other))
    return Row(
        what,
        f"{statistics.median(ours):,.0f}/s",
        f"{statistics.median(other):,.0f}/s, {baseline}",
        f"{ratio:.2f} ×",
        f"≥ {bar} ×",
        ratio >= bar,
    )
