"""Target of a replay: a session on a server, played through the public API."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import httpx
import msgspec

from candlestep.api.errors import RefusedByServer
from candlestep.api.schemas.sessions import EndResponse, StartedResponse
from candlestep.api.sessions.player import Refusal, Reply
from candlestep.data.errors import StorageUnavailable
from candlestep.data.journal.candle_fingerprints import Fingerprints
from candlestep.data.journal.recording import chained, recording_of, records_of
from candlestep.data.journal.records import (
    CancelOrderRecord,
    CancelRecord,
    CommandRecord,
    OrderRecord,
    Start,
    StepRecord,
)

_BACKTEST = "/api/v1/backtest"
_AGENTS = "/api/v1/agents"
_SECONDS = 300
_CHOSEN_BY_SERVER = ("currency", "fee_schedule")
"""Fields of a recorded configuration that a server fills in itself."""

_encode = msgspec.json.encode


class _StepEvents(msgspec.Struct):
    """The orders that a step filled and closed."""

    orders_filled: list[msgspec.Raw]
    orders_closed: list[msgspec.Raw]


_read_step_events = msgspec.json.Decoder(_StepEvents).decode


class RemoteTarget:
    """A session on a server; ``remote_session`` creates it."""

    def __init__(self, client: httpx.Client, session_id: str, started: StartedResponse) -> None:
        self._client = client
        self._path = f"{_BACKTEST}/{session_id}"
        self._started = started

    def candles(self) -> Fingerprints:
        """Return the fingerprints of the candles that the session can read."""
        lines = _checked(self._client.get(f"{self._path}/recording")).content
        return recording_of(records_of(lines, needs_crc=True)).start.candles or {}

    def start_digest(self) -> bytes:
        """Return the digest of the reply to the start."""
        return chained(b"", _encode(self._started))

    def play(self, command: CommandRecord) -> Reply:
        """Play one command, once; a refusal is a reply."""
        answer = self._send(command)
        if answer.status_code >= 500:
            _checked(answer)
        if not answer.is_success:
            refusal = msgspec.json.decode(answer.content, type=Refusal)
            return Reply(_encode(refusal), answer.status_code)
        body = answer.content
        match command:
            case StepRecord():
                events = _read_step_events(body)
                is_quiet = not events.orders_filled and not events.orders_closed
                return Reply(body, answer.status_code, is_quiet)
            case CancelRecord():
                end = msgspec.json.decode(body, type=EndResponse)
                return Reply(_encode(end), answer.status_code)
        return Reply(body, answer.status_code)

    def account(self) -> dict[str, Any]:
        """Return the portfolio, as the API shows it."""
        answer = _checked(self._client.get(f"{self._path}/account/portfolio"))
        portfolio: dict[str, Any] = answer.json()
        return portfolio

    def _send(self, command: CommandRecord) -> httpx.Response:
        match command:
            case StepRecord():
                return self._client.post(f"{self._path}/step/batch", json={"steps": command.steps})
            case OrderRecord():
                return self._client.post(f"{self._path}/trade/order", json=command.order)
            case CancelOrderRecord():
                return self._client.delete(f"{self._path}/trade/order/{command.order_id}")
            case CancelRecord():
                return self._client.post(f"{self._path}/cancel")


@contextmanager
def remote_session(url: str, key: str | None, start: Start) -> Iterator[RemoteTarget]:
    """Create and start a session on the server at ``url``, with an agent of its own.

    At the end the agent is deleted, and the session cancelled unless it has ended. Raises
    ``RefusedByServer`` with the server's message, and ``StorageUnavailable`` if the server cannot
    be reached.
    """
    headers = {} if key is None else {"X-API-Key": key}
    try:
        with (
            httpx.Client(base_url=url, headers=headers, timeout=_SECONDS) as client,
            _agent(client, start.risk_profile) as agent_id,
            _session(client, _create_body(start, agent_id)) as session_id,
        ):
            answer = _checked(client.post(f"{_BACKTEST}/{session_id}/start"))
            started = msgspec.json.decode(answer.content, type=StartedResponse)
            yield RemoteTarget(client, session_id, started)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise StorageUnavailable(
            f"the server at {url} cannot be reached: {error}; `candlestep serve` starts a server"
        ) from None


@contextmanager
def _agent(client: httpx.Client, risk_profile: Mapping[str, Any]) -> Iterator[str]:
    agent = {"name": "replay", "risk_profile": risk_profile}
    agent_id = _checked(client.post(_AGENTS, json=agent)).json()["agent_id"]
    try:
        yield agent_id
    finally:
        with suppress(httpx.HTTPError):
            client.delete(f"{_AGENTS}/{agent_id}")


@contextmanager
def _session(client: httpx.Client, create_body: Mapping[str, Any]) -> Iterator[str]:
    session_id = _checked(client.post(f"{_BACKTEST}/create", json=create_body)).json()["session_id"]
    try:
        yield session_id
    finally:
        with suppress(httpx.HTTPError):
            client.post(f"{_BACKTEST}/{session_id}/cancel")


def _create_body(start: Start, agent_id: str) -> Mapping[str, Any]:
    config = {name: value for name, value in start.config.items() if name not in _CHOSEN_BY_SERVER}
    return config | {
        "pairs": start.pairs,
        "exchange": start.exchange,
        "agent_id": agent_id,
        "strategy_label": "replay",
    }


def _checked(answer: httpx.Response) -> httpx.Response:
    """Return the answer if it is a success; raise ``RefusedByServer`` otherwise."""
    if answer.is_success:
        return answer
    raise RefusedByServer.of_answer(answer.url.host, answer.status_code, answer.content)
