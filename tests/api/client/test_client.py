"""The client: the same agent on it and in this process, and every command applied once."""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from candlestep.api.client import Client, ConnectionLost
from candlestep.api.client.connection import UnsupportedAnswer
from candlestep.api.client.session import Session as RemoteSession
from candlestep.data.market.loading import load_market
from candlestep.sandbox import (
    ClientOrderIdInUse,
    InsufficientBalance,
    InsufficientMargin,
    InvalidParameter,
    InvalidState,
    OrderNotFound,
    SandboxError,
    Session,
    SessionConfig,
    SymbolNotFound,
    parse_time,
)
from tests.support.api_client import make_key, sample_home, sample_market_of
from tests.support.patience import PATIENCE
from tests.support.ports import reserved_port
from tests.support.server_process import RunningServer, running

START, END = "2025-01-15T00:00:00Z", "2025-01-16T00:00:00Z"
SYMBOL = "BTCUSDT"

AnySession = Session | RemoteSession


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sample_home(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def local(home: Path) -> Session:
    """Return a session of this process at its start, to fork; no server runs on the home yet."""
    market = sample_market_of(home, SYMBOL, (parse_time(START), parse_time(END)))
    return Session(SessionConfig(start_time=START, end_time=END), market)


@pytest.fixture(scope="module")
def server(home: Path, local: Session) -> Iterator[RunningServer]:
    with running(home) as server:
        yield server


@pytest.fixture
def client(server: RunningServer) -> Iterator[Client]:
    with Client(server.url) as client:
        yield client


def created(client: Client) -> RemoteSession:
    return client.create_session(pairs=[SYMBOL], start_time=START, end_time=END)


def agent(session: AnySession, seed: int, turns: int = 60) -> Iterator[Any]:
    """Trade at random, and yield every answer and refusal."""
    choose = random.Random(seed)
    while session.status == "running" and turns:
        turns -= 1
        price = float(session.price(SYMBOL))
        side = choose.choice(["buy", "sell"])
        order: dict[str, Any] = {"symbol": SYMBOL, "side": side, "quantity": "0.01"}
        match choose.randrange(9):
            case 6:
                order |= {"side": "buy", "stop_loss": price * 0.998, "take_profit": price * 1.002}
            case 7:
                order |= {"type": "trailing_stop", "trail_percent": "0.1"}
            case 8:
                order = {"symbol": SYMBOL, "side": "buy", "quote_amount": 50}
            case 0:
                order |= {"type": "limit", "price": price * choose.uniform(0.998, 1.002)}
            case 1:
                kind = choose.choice(["stop_loss", "take_profit"])
                order |= {"type": kind, "trigger_price": Decimal(str(round(price * 0.999, 2)))}
            case 2:
                order |= {"client_order_id": str(choose.randrange(3))}
        until: Any = choose.choice(
            ["steps", "order_change", {"symbol": SYMBOL, "above": round(price * 1.001, 2)}]
        )
        try:
            match choose.randrange(7):
                case 5:
                    waiting: Any = {"symbol": SYMBOL, "side": side, "quantity": "0.01"}
                    sign = 1 if side == "sell" else -1
                    limit = {"type": "limit", "price": price * (1 + sign * 0.001)}
                    stop = {"type": "stop_loss", "trigger_price": price * (1 - sign * 0.001)}
                    pair: Any = [waiting | limit, waiting | stop]
                    yield session.place_oco(pair)
                case 6:
                    order_id = choose.randrange(1, 2 + session.order_count)
                    yield session.replace_order(
                        order_id, price=price * choose.uniform(0.999, 1.001), quantity="0.02"
                    )
                case 0:
                    yield session.place_order(**order)
                case 1:
                    yield session.cancel_order(choose.randrange(1, 2 + session.order_count))
                case 2:
                    turn = session.turn([order, order], steps=choose.randrange(3), until=until)
                    refused = turn.refused
                    yield turn.cancelled, turn.orders, turn.step
                    yield refused and (refused.part, refused.index, type(refused.error))
                case 3:
                    yield session.step()
                case 4:
                    yield session.step(choose.randrange(1, 60), until)
        except SandboxError as error:
            yield type(error), error.message, error.details.get("field")
    yield session.step(10_000)
    yield session.status, session.time, session.step_number, session.total_steps


def shown(value: Any) -> Any:
    """Return an answer without what the server does not tell: locks, and the ids in fills."""
    if isinstance(value, tuple | list):
        return [shown(item) for item in value]
    if not hasattr(value, "__struct_fields__"):
        return value
    names = [n for n in value.__struct_fields__ if not n.startswith("locked_") or n[7:] == "cash"]
    fields = {name: shown(getattr(value, name)) for name in names}
    for name in ("locked_cash", "best_price") if "created_at" in fields else ():
        fields.pop(name)
    if "order_id" in fields:
        fields.pop("id", None)
    if "prices" in fields:
        fields["prices"] = dict(fields["prices"])
    return type(value).__name__, fields


def reads(session: AnySession) -> list[Any]:
    return [
        session.orders, session.fills, session.open_orders(), session.portfolio(),
        session.positions(), session.balances(), session.prices(), session.price(SYMBOL),
        session.ticker(SYMBOL), session.candles(SYMBOL, "1h", 5), session.candles(SYMBOL),
        session.order_count, session.pending_count, session.warnings, session.coverage,
    ]  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
def test_an_agent_runs_the_same_on_the_client_and_in_process(
    local: Session, client: Client, seed: int
) -> None:
    inside, remote = local.fork(), created(client)
    expected, found = agent(inside, seed), agent(remote, seed)
    for number, answer in enumerate(expected):
        assert shown(next(found)) == shown(answer), number
        if number % 20 == 0:
            assert shown(reads(remote)) == shown(reads(inside))
    assert [fill.id for fill in remote.fills] == [fill.id for fill in inside.fills]
    assert shown(reads(remote)) == shown(reads(inside))
    assert shown(remote.snapshots()) == shown(list(inside.snapshots()))
    results, ours = remote.results(), inside.results()
    told = {"max_drawdown_amount": None} | dict.fromkeys(
        ("returns_count", "returns_skewness", "returns_kurtosis")
    )
    metrics = {name: getattr(ours.metrics, name) for name in ours.metrics.__struct_fields__} | told
    assert {n: getattr(results.metrics, n) for n in results.metrics.__struct_fields__} == metrics
    for name in ("final_equity", "total_pnl", "roi_pct", "total_trades", "total_fees", "by_pair"):
        assert getattr(results, name) == getattr(ours, name)
    assert len(remote.orders.to_frame()) == len(inside.orders)
    assert len(remote.fills.to_frame()) == len(inside.fills)


class LossyServer:
    """Stands between a client and a server, and loses connections at random moments."""

    def __init__(self, server: RunningServer, seed: int) -> None:
        self._choose = random.Random(seed)
        host, _, port = server.url.removeprefix("http://").partition(":")
        self._server = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.lost = [0, 0]
        """Requests that did not arrive, and answers that did not."""
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with client, socket.create_connection(self._server) as upstream:
                self._pass_on(client, upstream)

    def _pass_on(self, client: socket.socket, upstream: socket.socket) -> None:
        """Pass requests on one by one until one, or its answer, is lost."""
        while request := client.recv(1 << 20):
            fate = self._choose.random()
            if fate < 0.1:
                self.lost[0] += 1
                return
            upstream.sendall(request)
            answer = upstream.recv(1 << 20)
            head, _, body = answer.partition(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            while len(body) < length:
                body += upstream.recv(1 << 20)
            if fate < 0.2:
                self.lost[1] += 1
                client.sendall(answer[: self._choose.randrange(len(answer))])
                return
            client.sendall(head + b"\r\n\r\n" + body)


@pytest.mark.parametrize("seed", range(3))
def test_lost_requests_and_answers_change_nothing(
    local: Session, server: RunningServer, seed: int
) -> None:
    inside, between = local.fork(), LossyServer(server, seed)
    with Client(between.url) as client:
        remote = created(client)
        expected, found = agent(inside, seed + 10), agent(remote, seed + 10)
        for number, answer in enumerate(expected):
            assert shown(next(found)) == shown(answer), number
        assert shown(reads(remote)) == shown(reads(inside))
    between.close()
    assert min(between.lost) > 5


def test_a_server_that_is_killed_at_random_loses_and_doubles_nothing(tmp_path: Path) -> None:
    home, kills, choose = sample_home(tmp_path), 4, random.Random(5)
    period: dict[str, Any] = {"start_time": "2025-01-05", "end_time": "2025-02-25"}
    market = sample_market_of(
        home, SYMBOL, (parse_time(period["start_time"]), parse_time(period["end_time"]))
    )
    inside = Session(SessionConfig(**period), market)

    def kill_and_restart() -> None:
        pause = threading.Event()
        for _ in range(kills):
            pause.wait(choose.uniform(0.05, 0.3))
            servers[-1].kill()
            servers.append(RunningServer(home, "--port", port))

    killer = threading.Thread(target=kill_and_restart)
    with ExitStack() as stack:
        port = str(stack.enter_context(reserved_port()))
        servers = [RunningServer(home, "--port", port)]
        client = stack.enter_context(Client(servers[0].url, retry_seconds=PATIENCE))
        remote = client.create_session(pairs=[SYMBOL], **period)
        found = agent(remote, 77, turns=10**6)
        killer.start()
        for number, answer in enumerate(agent(inside, 77, turns=10**6)):
            assert shown(next(found)) == shown(answer), number
            if not killer.is_alive():
                break
        assert inside.status == "running", "it was killed while the agent ran"
        assert shown(remote.step(10**6)) == shown(inside.step(10**6))
        assert shown(reads(remote)) == shown(reads(inside))
        killer.join()
        servers[-1].stop()


def test_forks_turns_of_many_and_sessions_of_before(client: Client) -> None:
    session = created(client)
    session.place_order(symbol=SYMBOL, side="buy", quantity=0.01)
    forked, again = session.fork(), client.session(session.id)
    buy = {"symbol": SYMBOL, "side": "buy", "quantity": 1000}
    first, second = client.turns([(session, {"steps": 3}), (forked, {"orders": [buy]})])
    assert not isinstance(first, SandboxError)
    assert not isinstance(second, SandboxError)
    assert first.step is not None
    assert (first.step.step, session.step_number, forked.step_number) == (3, 3, 0)
    assert second.refused is not None
    assert isinstance(second.refused.error, InsufficientBalance)
    assert again.step(2).step == 5
    assert client.session(session.id).time == parse_time(START) + 5 * 60_000
    session.cancel()
    assert session.status == "cancelled"
    ended = client.turns([(session, {})])[0]
    assert isinstance(ended, InvalidState)


def test_errors_are_those_of_the_library(client: Client) -> None:
    session = created(client)
    buy: Any = {"symbol": SYMBOL, "side": "buy", "quantity": "0.01"}
    session.place_order(**buy, client_order_id="a")
    refusals: list[tuple[type[SandboxError], Any]] = [
        (InvalidParameter, lambda: session.place_order(**{**buy, "quantity": -1})),
        (InvalidParameter, lambda: session.place_order(**(buy | {"pirce": 1}))),
        (InvalidParameter, lambda: session.place_order(**{**buy, "quantity": object()})),
        (InsufficientBalance, lambda: session.place_order(**{**buy, "quantity": 99})),
        (SymbolNotFound, lambda: session.place_order(**{**buy, "symbol": "NOTHERE"})),
        (SymbolNotFound, lambda: session.price("NOTHERE")),
        (ClientOrderIdInUse, lambda: session.place_order(**{**buy, "side": "sell"}, client_order_id="a")),
        (OrderNotFound, lambda: session.cancel_order(9)),
        (InvalidState, lambda: session.cancel_order(1)),
        (InvalidState, session.results),
        (InvalidParameter, lambda: session.step(0)),
        (InvalidParameter, lambda: session.step(2, {"symbol": SYMBOL})),
    ]  # fmt: skip
    for kind, command in refusals:
        with pytest.raises(SandboxError) as refused:
            command()
        assert type(refused.value) is kind
    with pytest.raises(SandboxError) as refused:
        client.session("bt_nowhere")
    assert refused.value.code == "SESSION_NOT_FOUND"


def test_a_key_is_sent_and_a_wrong_one_refused(tmp_path: Path) -> None:
    key = make_key(sample_home(tmp_path), "ann")
    with running(tmp_path) as server:
        with Client(server.url, key) as client:
            assert created(client).step().step == 1
        with Client(server.url, "ak_wrong") as client, pytest.raises(SandboxError) as refused:
            created(client)
    assert refused.value.code == "UNAUTHORIZED"


@pytest.mark.parametrize(
    "url",
    ["127.0.0.1:8000", "ftp://host", "http://", "http://a:b@host", "http://h/?a=1", "http://h:x"],
)
def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(InvalidParameter):
        Client(url)
    with pytest.raises(InvalidParameter):
        Client("http://host", "a\r\nb: c")


@contextmanager
def answering(answer: bytes) -> Iterator[str]:
    """Yield the URL of a server that gives every request one answer, and then hangs up."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with listener:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    thread.join()


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", UnsupportedAnswer),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Encoding: gzip\r\n\r\n{}", UnsupportedAnswer),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}", UnsupportedAnswer),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}{}", UnsupportedAnswer),
        (b"SSH-2.0-OpenSSH_9.9\r\n\r\n", UnsupportedAnswer),
        (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 4\r\n\r\noops", SandboxError),
        (b"HTTP/1.1 200 OK\r\nContent-Le", ConnectionLost),
        (b"", ConnectionLost),
    ],
)  # fmt: skip
def test_an_answer_that_is_none_is_told_in_words(answer: bytes, error: type[Exception]) -> None:
    with answering(answer) as url, Client(url, retry_seconds=0) as client, pytest.raises(error):
        client.session("any")


def test_a_session_on_perpetuals_is_as_in_process(server: RunningServer, client: Client) -> None:
    """A short with leverage is paid funding and liquidated, on the client and in process."""
    perpetual = "SOLUSDT-PERP"
    config: dict[str, Any] = {
        "start_time": "2025-01-09", "end_time": "2025-01-14", "starting_balance": 2000,
        "candle_interval": "5m", "market_type": "perp", "slippage": {"model": "none"},
    }  # fmt: skip
    market = load_market(perpetual, home=server.home)
    remote = client.create_session(pairs=[perpetual], **config)
    answers: list[list[Any]] = []
    for session in (Session(SessionConfig(**config), market), remote):
        session.set_margin_mode(perpetual, "isolated")
        session.set_leverage(perpetual, 20)
        order = session.place_order(symbol=perpetual, side="sell", quantity=40)
        session.transfer_margin(perpetual, 25)
        answers.append([order, session.step(288), session.positions(), session.margin()])
        with pytest.raises(InsufficientMargin):
            session.transfer_margin(perpetual, 10**6)
        with pytest.raises(InvalidParameter, match="leverage"):
            session.set_leverage(perpetual, 500)
        answers[-1] += [session.step(10_000), session.funding_payments, session.fills]
        answers[-1] += [session.results().total_funding, session.snapshots()]
    assert len(answers[0][-3]) == 2, "the second fill is of the liquidation"
    for expected, actual in zip(*answers, strict=True):
        assert without_closed_quantity(shown(list_of(actual))) == without_closed_quantity(
            shown(list_of(expected))
        )
    [liquidation] = remote.liquidations()
    assert liquidation in answers[0][4].liquidations


def list_of(answer: Any) -> Any:
    return list(answer) if isinstance(answer, Iterable) else answer


def without_closed_quantity(answer: Any) -> Any:
    """Return an answer without the field of the fill of an order that the server does not tell."""
    if isinstance(answer, dict):
        names = answer.keys() - {"closed_quantity"}
        return {name: without_closed_quantity(answer[name]) for name in names}
    if isinstance(answer, list | tuple):
        return [without_closed_quantity(item) for item in answer]
    return answer
