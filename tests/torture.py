"""Kill a server repeatedly while clients trade on it, and compare it with the answers they got.

``make torture`` runs it; ``python -m tests.torture KILLS`` runs it for as long as you like.
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

from candlestep.api.schemas.account import (
    FundingPaymentResponse,
    PortfolioResponse,
    PositionResponse,
)
from candlestep.api.schemas.orders import OrderRequest, OrderResponse, TradeResponse
from candlestep.api.schemas.warnings import without_warnings
from candlestep.api.sessions.player import CommandPlayer
from candlestep.data.imports.sample import sample_market, sample_perpetual
from candlestep.data.imports.validation import CandleColumns
from candlestep.data.journal.records import (
    LeverageRecord,
    MarginChange,
    MarginModeRecord,
    MarginTransferRecord,
)
from candlestep.sandbox import Candles, FundingRates, Market, SandboxError, Session, SessionConfig
from tests.support.api_client import BACKTEST, sample_home
from tests.support.patience import PATIENCE
from tests.support.server_process import RunningServer

CLIENTS = 4
MOST_TWINS = 24
DELAYS = (0.05, 0.5, 1.5, 3.0)
"""The longest waits before a kill, in seconds."""
TOGETHER = 40
"""Kills per home directory."""
FLAGS: tuple[tuple[str, ...], ...] = ((), ("--idle-seconds", "1"), ("--durability", "power"))
CONFIG = {
    "start_time": "2025-01-10T00:00:00Z",
    "end_time": "2025-01-12T00:00:00Z",
    "starting_balance": "10000",
}
SYMBOLS = ("BTCUSDT", "ETHUSDT")
PERPETUAL = "SOLUSDT-PERP"
PERPETUAL_CONFIG = CONFIG | {"market_type": "perp", "leverage": 20, "candle_interval": "5m"}

Json = dict[str, Any]


class Call(NamedTuple):
    """A request that changes a session, and its effect on a player in this process."""

    path: str
    body: Json | None
    apply: Callable[[CommandPlayer], bytes]
    method: str = "POST"


class Twin:
    """A session on the server, and the same session in this process, which survives every kill."""

    def __init__(self, session_id: str, player: CommandPlayer) -> None:
        self.session_id = session_id
        self.player = player

    @property
    def has_ended(self) -> bool:
        return self.player.session.status != "running"

    @property
    def is_perpetual(self) -> bool:
        return self.player.session.config.market_type == "perp"

    def fork(self, session_id: str) -> "Twin":
        return Twin(session_id, self.player.fork())


class Client:
    """A client that trades at random in its own sessions, and mirrors each in a twin."""

    def __init__(self, market: Market, seed: int) -> None:
        self.random = random.Random(seed)
        self.market = market
        self.twins: list[Twin] = []
        self.calls = 0
        self.in_flight: tuple[Twin, Call, str | None] | None = None
        """The call that has not been answered yet."""
        self.creating: str | None = None
        """The idempotency key of the session that is being created."""
        self.fault: str | None = None

    def run(self, url: str) -> None:
        """Trade until the server is gone."""
        with httpx.Client(base_url=url, trust_env=False, timeout=PATIENCE) as http:
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
        """Resolve the call that was never answered, then compare all sessions."""
        self._resolve(http)
        for twin in self.twins:
            self._compare(http, twin)

    def _resolve(self, http: httpx.Client) -> None:
        if self.creating is not None:
            self._create(http)
        if self.in_flight is None:
            return
        twin, call, key = self.in_flight
        if key is not None:
            self._send(http, twin, call, key)
            return
        # Without a key, the server's state tells whether it was carried out.
        before, after = state_of(twin.player), twin.player.fork()
        outcome_of(call, after)
        actual = self._state_of(http, twin)
        if actual != before:
            assert actual == state_of(after), difference(state_of(after), actual)
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
        response = http.request(
            call.method,
            f"{BACKTEST}/{twin.session_id}/{call.path}",
            json=call.body,
            headers=headers,
        )
        expected = outcome_of(call, twin.player)
        self.in_flight = None
        if isinstance(expected, str):
            assert response.status_code >= 400, (call, response.text)
            assert response.json()["code"] == expected, (call, response.text)
        elif call.path == "cancel":
            answer = response.json()
            del answer["session_id"]
            assert answer == msgspec.json.decode(expected), (call, response.text)
        else:
            answered = without_warnings(response.content)
            assert answered == expected, (call, expected, response.text)

    def _create(self, http: httpx.Client) -> None:
        kind = "perpetual" if self.random.random() < 0.4 else "create"
        self.creating = self.creating or f"{kind}-{self.calls}-{self.random.random()}"
        headers = {"Idempotency-Key": self.creating}
        config = PERPETUAL_CONFIG if self.creating.startswith("perpetual") else CONFIG
        created = http.post(f"{BACKTEST}/create", json=config, headers=headers)
        assert created.status_code == 200, created.text
        session_id = created.json()["session_id"]
        started = http.post(f"{BACKTEST}/{session_id}/start", headers=headers)
        assert started.status_code == 200, started.text
        player = CommandPlayer(Session(SessionConfig(**config), self.market))
        self.twins.append(Twin(session_id, player))
        self.creating = None

    def _fork(self, http: httpx.Client, twin: Twin) -> None:
        response = http.post(f"{BACKTEST}/{twin.session_id}/fork", json={"count": 2})
        assert response.status_code == 201, response.text
        self.twins += [twin.fork(fork["session_id"]) for fork in response.json()["forks"]]

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
        if twin.is_perpetual and choose < 0.66:
            return self._random_change()
        order = self._random_order(twin)
        body = OrderRequest(**order)
        return Call("trade/order", order, lambda player: placed(player, body))

    def _random_change(self) -> Call:
        """Return a change of leverage or margin, which often is refused."""
        kind = self.random.choice(("leverage", "margin-mode", "margin"))
        body: Json = {"symbol": PERPETUAL}
        change: MarginChange
        if kind == "leverage":
            body["leverage"] = self.random.choice([5, 20, 50, 200])
            change = LeverageRecord(symbol=PERPETUAL, leverage=str(body["leverage"]))
        elif kind == "margin-mode":
            body["margin_mode"] = self.random.choice(("cross", "isolated"))
            change = MarginModeRecord(symbol=PERPETUAL, margin_mode=body["margin_mode"])
        else:
            body["amount"] = self.random.choice(["25", "-25", "100000"])
            change = MarginTransferRecord(symbol=PERPETUAL, amount=body["amount"])
        return Call(f"account/{kind}", body, lambda player: player.change_margin(change).body)

    def _random_order(self, twin: Twin) -> Json:
        symbol, side = self.random.choice(SYMBOLS), self.random.choice(("buy", "sell"))
        if twin.is_perpetual:
            symbol = PERPETUAL
        order_type = self.random.choice(("market", "limit", "stop_loss", "take_profit"))
        order: Json = {"symbol": symbol, "side": side, "type": order_type}
        order["quantity"] = self.random.choice(["0.001", "0.01", "0.02", 5])
        if twin.is_perpetual:
            order["quantity"] = self.random.choice(["1", "20", "200", "700"])
            if self.random.random() < 0.2:
                order["reduce_only"] = True
        if order_type != "market":
            price = float(twin.player.session.price(symbol)) * self.random.uniform(0.99, 1.01)
            order["price"] = f"{price:.2f}"
        if self.random.random() < 0.1:
            order["client_order_id"] = f"c{self.random.randint(1, 5)}"
        if self.random.random() < 0.2:
            order["oco_group"] = self.random.choice("ab")
        return order

    def _compare(self, http: httpx.Client, twin: Twin) -> None:
        expected, actual = state_of(twin.player), self._state_of(http, twin)
        assert actual == expected, difference(expected, actual)

    def _state_of(self, http: httpx.Client, twin: Twin) -> Json:
        """Return the state of a session as the server shows it."""

        def get(path: str) -> Json:
            response = http.get(f"{BACKTEST}/{twin.session_id}/{path}")
            assert response.status_code == 200, response.text
            answer: Json = response.json()
            return answer

        status = get("status")
        return {
            "status": status["status"],
            "step": status["current_step"],
            "orders": get("trade/orders?limit=1000")["orders"],
            "portfolio": get("account/portfolio"),
            "trades": get("trade/history")["trades"],
            "positions": get("account/positions")["positions"],
            "funding": get("account/funding?limit=1000")["payments"],
        }


def placed(player: CommandPlayer, body: OrderRequest) -> bytes:
    played = player.order(body)
    if played.refusal is not None:
        raise played.refusal
    return played.body


def outcome_of(call: Call, player: CommandPlayer) -> bytes | str:
    """Apply a call to a player; return the answer, or the code of its refusal."""
    try:
        return call.apply(player)
    except SandboxError as error:
        return error.code


def state_of(player: CommandPlayer) -> Json:
    """Return the state of a session as a server should show it."""
    session = player.session
    state: Json = msgspec.json.decode(
        msgspec.json.encode(
            {
                "status": session.status,
                "step": session.step_number,
                "orders": [OrderResponse.of(order) for order in session.orders],
                "portfolio": PortfolioResponse.of(session.portfolio()),
                "trades": [TradeResponse.of(fill) for fill in session.fills],
                "positions": [PositionResponse.of(position) for position in session.positions()],
                "funding": [FundingPaymentResponse.of(one) for one in session.funding_payments],
            }
        )
    )
    return state


def difference(expected: Json, actual: Json) -> str:
    names = [name for name in expected if expected[name] != actual[name]]
    return "\n".join(f"{name}: expected {expected[name]}, got {actual[name]}" for name in names)


def sample() -> Market:
    """Return the sample market, as the server has it."""
    perpetual = sample_perpetual()
    spot = [
        Candles(symbol=symbol, interval="1m", **columns_of(columns))
        for symbol, columns in sample_market().items()
    ]
    candles, marks = (
        Candles(symbol=PERPETUAL, interval="5m", **columns_of(columns))
        for columns in (perpetual.candles, perpetual.marks)
    )
    rates = perpetual.funding
    funding = FundingRates(PERPETUAL, rates.time, rates.rate, rates.interval, rates.mark)
    return Market([*spot, candles], [marks], [funding])


def columns_of(columns: CandleColumns) -> dict[str, Any]:
    names = ("open_time", "open", "high", "low", "close", "volume")
    return {name: getattr(columns, name) for name in names}


def torture(home: Path, kills: int, seed: int, *flags: str) -> Iterator[str]:
    """Kill a server ``kills`` times and yield a line on each; raises ``AssertionError`` on a difference."""
    chance = random.Random(seed)
    market = sample()
    clients = [Client(market, seed * 1000 + number) for number in range(CLIENTS)]
    sample_home(home)
    for kill in range(1, kills + 1):
        server = RunningServer(home, *flags)
        threads = [threading.Thread(target=client.run, args=(server.url,)) for client in clients]
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
        with httpx.Client(base_url=server.url, trust_env=False, timeout=PATIENCE) as http:
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
            for line in torture(Path(home), min(TOGETHER, kills - done), seed + done, *flags):
                print(f"{' '.join(flags) or 'defaults'}: {line}", flush=True)
    print(f"{kills} kills, and every session matched the answers of its clients (seed {seed}).")


if __name__ == "__main__":
    main()
