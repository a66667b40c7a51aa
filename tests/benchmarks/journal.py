"""The cost of the journal, and the time it takes to restore a session from it."""

import statistics
import sys
import tempfile
import time
from operator import truediv
from pathlib import Path

import httpx
import msgspec

from candlestep.api.schemas.orders import OrderRequest
from candlestep.api.sessions.commands import OrderCommand
from candlestep.api.sessions.hosted_session import HostedSession
from candlestep.api.sessions.idempotency import ReplyCache
from candlestep.api.sessions.player import CommandPlayer
from candlestep.api.sessions.recovery import rebuild_session, start_record
from candlestep.data.journal.journal import Journals
from candlestep.data.records.sessions import SessionRecord
from candlestep.data.store.database import Store
from candlestep.sandbox import Market, Session
from candlestep.sandbox.exchange.orders import Side
from tests.benchmarks.in_process import config
from tests.benchmarks.market import END, MINUTE, START, SYMBOLS, YEAR, synthetic_year
from tests.benchmarks.over_http import CONNECTIONS, ROUNDS, Load, fill_store, start_one
from tests.benchmarks.table import Row, seconds
from tests.support.server_process import COMMAND, RunningServer, running

ORDERS = 10_000
COMMANDS = 500
OPEN_SESSIONS = 10_000
FORKED_TOGETHER = 100
BACKTEST = "/api/v1/backtest"
_MAX_PENDING = 1000


def rows() -> list[Row]:
    """Return the rows about the journal; those over HTTP need wrk."""
    return [*_recovery_and_fork(), *_served()]


def _recovery_and_fork() -> list[Row]:
    market = Market(synthetic_year(symbol) for symbol in SYMBOLS)
    with tempfile.TemporaryDirectory() as home:
        journals = Journals(Path(home), synced=False)
        hosted = _year_of_orders(market, journals)
        assert hosted.journal is not None
        hosted.journal.close()
        duration = seconds(
            lambda: rebuild_session(journals.read("bt_year"), market, ReplyCache()), repeat=3
        )
        size = hosted.journal.size
        fork = seconds(hosted.session.fork, repeat=50)
        orders = hosted.session.order_count
    return [
        Row(
            f"recovery of a year of single steps with {orders:,} orders, after a kill",
            f"{duration:.2f} s",
            f"a journal of {size / 2**20:.1f} MiB",
            "",
            "≤ 1 s",
            duration <= 1,
        ),
        Row("fork of it, in process", f"{fork * 1e3:.2f} ms", "", "", "≤ 5 ms", fork <= 5e-3),
    ]


def _year_of_orders(market: Market, journals: Journals) -> HostedSession:
    """Return a session that was stepped through the year one by one, with 10,000 market orders."""
    empty = dict.fromkeys(SessionRecord.__struct_fields__)
    record = SessionRecord(
        **empty  # type: ignore[arg-type]
        | {
            "session_id": "bt_year", "account_id": "bench", "exchange": "binance",
            "status": "running", "pairs": list(SYMBOLS), "start_time": START,
            "end_time": END + MINUTE, "interval": MINUTE, "starting_balance": 1_000_000,
            "config": {}, "risk_profile": {},
        }
    )  # fmt: skip
    player = CommandPlayer(Session(config(), market))
    start = start_record(record, player.session, None)
    hosted = HostedSession(record, player, journals.create(start), 0, ReplyCache(), None)
    assert hosted.journal is not None
    every = YEAR // ORDERS
    for step in range(YEAR):
        if step % every == 0:
            side: Side = "sell" if step // every % 2 else "buy"
            order = OrderRequest(symbol="BTCUSDT", side=side, quantity="0.01")
            hosted.apply(OrderCommand(order), None, _MAX_PENDING)
        hosted.step(1)
        if hosted.journal.is_worth_compacting:
            hosted.journal.compact(())
    return hosted


def _served() -> list[Row]:
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory)
        store = Store.open(home)
        for symbol in SYMBOLS:
            fill_store(store, synthetic_year(symbol))
        store.close()
        return [*_stepping(home), _evicted(home), _many(home)]


def _stepping(home: Path) -> list[Row]:
    if not Load.is_possible():
        return []
    load = Load(home)
    rates: dict[str, list[float]] = {"process": [], "power": [], "without": []}
    for _ in range(ROUNDS):
        for kind, measured in rates.items():
            module = "tests.benchmarks.without_journal" if kind == "without" else "candlestep.api"
            flags = () if kind == "without" else ("--durability", kind)
            command = (sys.executable, "-m", module)
            with running(home, *flags, command=command) as server, server.client() as client:
                sessions = [start_one(client) for _ in range(CONNECTIONS)]
                paths = [f"{BACKTEST}/{session}/step" for session in sessions]
                measured.append(load.requests(server.url, paths))
    return [_cost(rates, "process", 0.9), _cost(rates, "power", 0)]


def _cost(rates: dict[str, list[float]], durability: str, bar: float) -> Row:
    ours, without = rates[durability], rates["without"]
    ratio = statistics.median(map(truediv, ours, without))
    return Row(
        f"`POST …/step`, 16 connections, durability `{durability}`",
        f"{statistics.median(ours):,.0f} requests/s",
        f"{statistics.median(without):,.0f} requests/s without a journal",
        f"{ratio:.2f} ×",
        f"≥ {bar} ×" if bar else "",
        ratio >= bar,
    )


def _evicted(home: Path) -> Row:
    with running(home, "--idle-seconds", "1", command=COMMAND) as server, server.client() as client:
        sessions = [start_one(client) for _ in range(10)]
        order = {"symbol": "BTCUSDT", "side": "buy", "type": "market", "quantity": "0.0001"}
        for session in sessions:
            for number in range(COMMANDS):
                path = f"{BACKTEST}/{session}"
                if number % 2:
                    client.post(f"{path}/trade/order", json=order).raise_for_status()
                else:
                    client.post(f"{path}/step").raise_for_status()
        _wait_until_evicted(client)
        client.post(f"{BACKTEST}/{sessions[0]}/step").raise_for_status()
        durations = []
        for session in sessions[1:]:
            began = time.perf_counter()
            client.post(f"{BACKTEST}/{session}/step").raise_for_status()
            durations.append(time.perf_counter() - began)
    duration = statistics.median(durations)
    return Row(
        f"one step of an evicted session of {COMMANDS} commands, its candles in memory",
        f"{duration * 1e3:.1f} ms",
        "",
        "",
        "≤ 20 ms",
        duration <= 20e-3,
    )


def _wait_until_evicted(client: httpx.Client) -> None:
    while "candlestep_sessions_in_memory 0.0\n" not in client.get("/metrics").text:
        time.sleep(0.2)


def _many(home: Path) -> Row:
    """Measure ten thousand sessions that trade; forking creates them in seconds."""
    flags = ("--idle-seconds", "2", "--memory-budget", "200MiB")
    with running(home, *flags, command=COMMAND) as server, server.client() as client:
        first = start_one(client)
        body = {"count": FORKED_TOGETHER}
        order = {"symbol": "BTCUSDT", "side": "buy", "type": "market", "quantity": "0.0001"}
        for _ in range(OPEN_SESSIONS // FORKED_TOGETHER):
            answer = client.post(f"{BACKTEST}/{first}/fork", json=body).raise_for_status()
            for fork in msgspec.json.decode(answer.content)["forks"]:
                path = f"{BACKTEST}/{fork['session_id']}"
                client.post(f"{path}/trade/order", json=order).raise_for_status()
                client.post(f"{path}/step").raise_for_status()
        count = client.get("/health").json()["open_sessions"]
        assert count > OPEN_SESSIONS
        peak = _peak_memory(server)
    return Row(
        f"{count:,} open sessions that traded, budget 200 MiB: peak memory of the server",
        f"{peak / 1024:.0f} MiB",
        "",
        "",
        "< 512 MiB",
        peak < 512 * 1024,
    )


def _peak_memory(server: RunningServer) -> float:
    """Return the peak resident memory of a server in KiB, which Linux shows under /proc."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return float(status.split("VmHWM:")[1].split()[0])
