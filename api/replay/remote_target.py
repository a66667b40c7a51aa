"""A session of a server, as a replay plays on it: through the API, as any client does."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import httpx
import msgspec

from candlestep.api.errors import RefusedByServer
from candlestep.api.replay.replay import TargetReply
from candlestep.api.schemas.sessions import (
    CancelResponse,
    EndResponse,
    StartedResponse,
    StartResponse,
)
from candlestep.api.sessions.player import Refusal
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
_NOT_ASKED_FOR = ("currency", "fee_schedule")
"""Of a recorded configuration, what a server finds by itself."""

_encode = msgspec.json.encode


class RemoteTarget:
    """A session on a server; make it with ``remote_session``."""

    def __init__(self, client: httpx.Client, session_id: str, started: StartedResponse) -> None:
        self._client = client
        self._path = f"{_BACKTEST}/{session_id}"
        self._started = started

    def candles(self) -> Fingerprints:
        """What candles it can read."""
        lines = _checked(self._client.get(f"{self._path}/recording")).content
        return recording_of(records_of(lines, needs_crc=True)).start.candles or {}

    def start_digest(self) -> bytes:
        """The digest of what its start answered."""
        return chained(b"", _encode(self._started))

    def play(self, command: CommandRecord) -> TargetReply:
        """Play one command, once; a refusal is a reply."""
        answer = self._send(command)
        if answer.is_success:
            body = answer.content
            if isinstance(command, CancelRecord):
                body = _encode(_without_id(msgspec.json.decode(body, type=CancelResponse)))
            return TargetReply(body, answer.status_code)
        if answer.status_code >= 500:
            _checked(answer)
        refusal = msgspec.json.decode(answer.content, type=Refusal)
        return TargetReply(_encode(refusal), answer.status_code)

    def account(self) -> dict[str, Any]:
        """Its portfolio, as it is answered."""
        portfolio: dict[str, Any] = _checked(
            self._client.get(f"{self._path}/account/portfolio")
        ).json()
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
    """A new session on the server at ``url``, started, with an agent of its own.

    If it does not come to its end it is cancelled. Raises ``RefusedByServer`` with the server's
    words, and ``StorageUnavailable`` if it cannot be reached.
    """
    headers = {} if key is None else {"X-API-Key": key}
    try:
        with httpx.Client(base_url=url, headers=headers, timeout=300) as client:
            agent = {"name": "replay", "risk_profile": start.risk_profile}
            agent_id = _checked(client.post(_AGENTS, json=agent)).json()["agent_id"]
            session_id = ""
            try:
                body = _create_body(start, agent_id)
                created = _checked(client.post(f"{_BACKTEST}/create", json=body))
                session_id = created.json()["session_id"]
                answer = _checked(client.post(f"{_BACKTEST}/{session_id}/start"))
                started = msgspec.json.decode(answer.content, type=StartResponse)
                without_id = StartedResponse(started.status, started.virtual_time, started.prices)
                yield RemoteTarget(client, session_id, without_id)
            finally:
                with suppress(httpx.HTTPError):
                    if session_id:
                        client.post(f"{_BACKTEST}/{session_id}/cancel")
                    client.delete(f"{_AGENTS}/{agent_id}")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise StorageUnavailable(
            f"the server at {url} cannot be reached: {error}; `candlestep serve` starts one"
        ) from None


def _create_body(start: Start, agent_id: str) -> Mapping[str, Any]:
    config = {name: v for name, v in start.config.items() if name not in _NOT_ASKED_FOR}
    return config | {
        "pairs": start.pairs,
        "exchange": start.exchange,
        "agent_id": agent_id,
        "strategy_label": "replay",
    }


def _without_id(answer: CancelResponse) -> EndResponse:
    return EndResponse(answer.status, answer.total_trades, answer.roi_pct)


def _checked(answer: httpx.Response) -> httpx.Response:
    if not answer.is_success:
        raise RefusedByServer.of_answer(answer.url.host, answer.status_code, answer.content)
    return answer
