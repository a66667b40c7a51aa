"""Kill a server again and again while clients trade on it, and compare it with what they were told.

``python -m tests.torture KILLS`` runs it for as long as you like: ``make torture``.
"""

import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import msgspec

from candlestep.api.schemas.account import PortfolioResponse
from candlestep.api.schemas.orders import OrderRequest, OrderResponse, TradeResponse
from candlestep.api.sessions.player import CommandPlayer
from candlestep.data.imports.sample import sample_market
from candlestep.data.imports.validation import CandleColumns
from candlestep.sandbox import Candles, Market, SandboxError, Session, SessionConfig
from tests.support.api_client import BACKTEST, sample_home
from tests.support.server_process import RunningServer

CLIENTS = 4
MOST_TWINS = 24
DELAYS = (0.05, 0.5, 1.5, 3.0)
"""At most so many seconds until a kill."""
TOGETHER = 40
"""Kills of one home; then another one is begun."""
FLAGS: tuple[tuple[str, ...], ...] = ((), ("--idle-seconds", "1"), ("--durability", "power"))
CONFIG = {
    "start_time": "2025-01-10T00:00:00Z",
    "end_time": "2025-01-12T00:00:00Z",
    "starting_balance": "10000",
}
SYMBOLS = ("BTCUSDT", "ETHUSDT")

Json = dict[str, Any]


class Call(NamedTuple):
    """A request that changes a session, and what it does to a player that nothing happens to."""

    path: str
    body: Json | None
    apply: Callable[[CommandPlayer], bytes]
    method: str = "POST"


class Twin:
    """A session on the server, and the same one here that no server can lose."""

    def __init__(self, session_id: str, player: CommandPlayer) -> None:
        self.session_id = session_id
        self.player = player

    @property
    def has_ended(self) -> bool:
        return self.player.session.status != "running"

    def fork(self, session_id: str) -> "Twin":
        return Twin(session_id, self.player.fork())


class Client:
    """Trades at random in sessions of its own, each of which has a twin here."""

    def __init__(self, market: Market, seed: int) -> None:
        self.random = random.Random(seed)
        self.market = market
        self.twins: list[Twin] = []
        self.calls = 0
        self.in_flight: tuple[Twin, Call, str | None] | None = None
        """A call whose answer has not come."""
        self.unborn: str | None = None
        """The key of a session that is being created."""
        self.fault: str | None = None

    def run(self, url: str) -> None:
        """Trade until the server is gone."""
        with httpx.Client(base_url=url, trust_env=False, timeout=30) as http:
            try:
                self.settle(http)
                while True:
                    self._call(http)
            except httpx.TransportError:
                pass
            except Exception as error:
                self.fault = f"{type(error).__name__}: {error}"
                raise

    def settle(self, http: httpx.Client) -> None:
        """Find out what became of the call whose answer never came, and compare all sessions."""
        self._find_out(http)
        for twin in self.twins:
            self._compare(http, twin)

    def _find_out(self, http: httpx.Client) -> None:
        if self.unborn is not None:
            self._create(http)
        if self.in_flight is None:
            return
        twin, call, key = self.in_flight
        if key is not None:
            self._send(http, twin, call, key)
            return
        # Without a key it was carried out, or it was not: the server must say which.
        before, after = seen(twin.player), twin.player.fork()
        applied(call, after)
        found = self._seen(http, twin)
        if found != before:
            assert found == seen(after), difference(seen(after), found)
            twin.player = after
        self.in_flight = None

    def _call(self, http: httpx.Client) -> None:
        self.calls += 1
        running = [twin for twin in self.twins if not twin.has_ended]
        if not running or (len(self.twins) < 40 and self.random.random() < 0.02):
            self._create(http)
            return
        twin = self.random.choice(running)
        chance = self.random.random()
        if chance < 0.02 and len(self.twins) < 40:
            self._fork(http, twin)
            return
        key = f"key {self.calls} {self.random.random()}" if self.random.random() < 0.3 else None
        self._send(
            http, twin, self._random_call(twin), None if key is None else key[:60].replace(" ", "-")
        )

    def _send(self, http: httpx.Client, twin: Twin, call: Call, key: str | None) -> None:
        self.in_flight = (twin, call, key)
        headers = {} if key is None else {"Idempotency-Key": key}
        answer = http.request(
            call.method,
            f"{BACKTEST}/{twin.session_id}/{call.path}",
            json=call.body,
            headers=headers,
        )
        expected = applied(call, twin.player)
        self.in_flight = None
        if isinstance(expected, str):
            assert answer.status_code >= 400, (call, answer.text)
            assert answer.json()["code"] == expected, (call, answer.text)
        elif call.path == "cancel":
            found = answer.json()
            del found["session_id"]
            assert found == msgspec.json.decode(expected), (call, answer.text)
        else:
            assert answer.content == expected, (call, expected, answer.text)

    def _create(self, http: httpx.Client) -> None:
        self.unborn = self.unborn or f"create-{self.calls}-{self.random.random()}"
        headers = {"Idempotency-Key": self.unborn}
        created = http.post(f"{BACKTEST}/create", json=CONFIG, headers=headers)
        assert created.status_code == 200, created.text
        session_id = created.json()["session_id"]
        started = http.post(f"{BACKTEST}/{session_id}/start", headers=headers)
        assert started.status_code == 200, started.text
        player = CommandPlayer(Session(SessionConfig(**CONFIG), self.market))  # type: ignore[arg-type]
        self.twins.append(Twin(session_id, player))
        self.unborn = None

    def _fork(self, http: httpx.Client, twin: Twin) -> None:
        answer = http.post(f"{BACKTEST}/{twin.session_id}/fork", json={"count": 2})
        assert answer.status_code == 201, answer.text
        self.twins += [twin.fork(each["session_id"]) for each in answer.json()["forks"]]

    def _random_call(self, twin: Twin) -> Call:
        choose = self.random.random()
        if choose < 0.45:
            return Call("step", None, lambda player: player.step(1).body)
        if choose < 0.55:
            steps = self.random.choice([2, 10, 60, 300])
            return Call("step/batch", {"steps": steps}, lambda player: player.step(steps).body)
        if choose < 0.6:
            order_id = self.random.randint(1, 20)
            path = f"trade/order/{order_id}"
            return Call(path, None, lambda p: p.cancel_order(order_id).body, "DELETE")
        if choose < 0.602:
            return Call("cancel", None, lambda player: player.cancel().body)
        order = self._random_order(twin)
        body = OrderRequest(**order)
        return Call("trade/order", order, lambda player: placed(player, body))

    def _random_order(self, twin: Twin) -> Json:
        symbol, side = self.random.choice(SYMBOLS), self.random.choice(("buy", "sell"))
        kind = self.random.choice(("market", "limit", "stop_loss", "take_profit"))
        order: Json = {"symbol": symbol, "side": side, "type": kind}
        order["quantity"] = self.random.choice(["0.001", "0.01", "0.02", 5])
        if kind != "market":
            price = float(twin.player.session.price(symbol)) * self.random.uniform(0.99, 1.01)
            order["price"] = f"{price:.2f}"
        if self.random.random() < 0.1:
            order["client_order_id"] = f"c{self.random.randint(1, 5)}"
        if self.random.random() < 0.2:
            order["oco_group"] = self.random.choice("ab")
        return order

    def _compare(self, http: httpx.Client, twin: Twin) -> None:
        expected, found = seen(twin.player), self._seen(http, twin)
        assert found == expected, difference(expected, found)

    def _seen(self, http: httpx.Client, twin: Twin) -> Json:
        """All that the server says of a session."""

        def get(what: str) -> Json:
            answer = http.get(f"{BACKTEST}/{twin.session_id}/{what}")
            assert answer.status_code == 200, answer.text
            found: Json = answer.json()
            return found

        status = get("status")
        return {
            "status": status["status"],
            "step": status["current_step"],
            "orders": get("trade/orders?limit=1000")["orders"],
            "portfolio": get("account/portfolio"),
            "trades": get("trade/history")["trades"],
        }


def placed(player: CommandPlayer, body: OrderRequest) -> bytes:
    played = player.order(body)
    if played.refusal is not None:
        raise played.refusal
    return played.body


def applied(call: Call, player: CommandPlayer) -> bytes | str:
    """What a call answers where nothing is lost, or the code of its refusal."""
    try:
        return call.apply(player)
    except SandboxError as error:
        return error.code


def seen(player: CommandPlayer) -> Json:
    """All that a server should say of a session."""
    session = player.session
    found: Json = msgspec.json.decode(
        msgspec.json.encode(
            {
                "status": session.status,
                "step": session.step_number,
                "orders": [OrderResponse.of(order) for order in session.orders],
                "portfolio": PortfolioResponse.of(session.portfolio()),
                "trades": [TradeResponse.of(fill) for fill in session.fills],
            }
        )
    )
    return found


def difference(expected: Json, found: Json) -> str:
    names = [name for name in expected if expected[name] != found[name]]
    return "\n".join(f"{name}: expected {expected[name]}, found {found[name]}" for name in names)


def sample() -> Market:
    """The sample market as the server has it."""
    return Market(
        Candles(symbol=symbol, interval="1m", **columns_of(columns))
        for symbol, columns in sample_market().items()
    )


def columns_of(columns: CandleColumns) -> dict[str, Any]:
    names = ("open_time", "open", "high", "low", "close", "volume")
    return {name: getattr(columns, name) for name in names}


def torture(home: Path, kills: int, seed: int, *flags: str) -> Iterator[str]:
    """Kill a server ``kills`` times, and tell of each; raises on a difference."""
    chance = random.Random(seed)
    market = sample()
    clients = [Client(market, seed * 1000 + number) for number in range(CLIENTS)]
    sample_home(home)
    for kill in range(1, kills + 1):
        server = RunningServer(home, *flags)
        threads = [threading.Thread(target=each.run, args=(server.url,)) for each in clients]
        for thread in threads:
            thread.start()
        time.sleep(chance.choice(DELAYS) * chance.random())
        server.kill()
        for thread in threads:
            thread.join()
        faults = [client.fault for client in clients if client.fault is not None]
        assert not faults, f"seed {seed}, kill {kill}: {faults[0]}"
        calls = sum(client.calls for client in clients)
        sessions = sum(len(client.twins) for client in clients)
        yield f"{kill} kills, {calls:,} calls, {sessions} sessions"
        if sessions > MOST_TWINS:
            for client in clients:
                client.twins = client.twins[-2:]
    server = RunningServer(home, *flags)
    try:
        with httpx.Client(base_url=server.url, trust_env=False, timeout=30) as http:
            for client in clients:
                client.settle(http)
    finally:
        server.stop()


def main() -> None:
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    seed = time.time_ns() % 1_000_000
    for done in range(0, kills, TOGETHER):
        flags = FLAGS[done // TOGETHER % len(FLAGS)]
        with tempfile.TemporaryDirectory() as home:
            for told in torture(Path(home), min(TOGETHER, kills - done), seed + done, *flags):
                print(f"{' '.join(flags) or 'as is'}: {told}", flush=True)
    print(f"{kills} kills, and every session was as its clients were told (seed {seed}).")


if __name__ == "__main__":
    main()
