"""Target of a replay: a session on a server, played through the public API."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import Any
from urllib.parse import quote

import httpx
import msgspec
from msgspec.structs import asdict

from candlestep.api.errors import RefusedByServer
from candlestep.api.schemas.sessions import EndResponse, StartedResponse
from candlestep.api.schemas.warnings import without_warnings
from candlestep.api.sessions.blind import BY_SYMBOL, hidden_of
from candlestep.api.sessions.player import Refusal, Reply, recorded_config
from candlestep.data.errors import NOT_JSON, SessionNotFound, StorageUnavailable
from candlestep.data.journal import records
from candlestep.data.journal.candle_fingerprints import Fingerprints
from candlestep.data.journal.recording import Recording, chained, recording_of, records_of
from candlestep.sandbox import format_time
from candlestep.sandbox.exchange.margin.tiers import ONE_TIER

_BACKTEST = "/api/v1/backtest"
_AGENTS = "/api/v1/agents"
_SECONDS = 300
_REFUSALS = (404, 409, 422)
"""The statuses of refusals by the session, which are replies; others are not about the command."""
_CHOSEN_BY_SERVER = ("currency", "fee_schedule", "instruments")
"""Fields of a recorded configuration that a server fills in itself."""

_encode = msgspec.json.encode


class _StepEvents(msgspec.Struct):
    """The orders that a step filled and closed."""

    orders_filled: list[msgspec.Raw]
    orders_closed: list[msgspec.Raw]


_read_step_events = msgspec.json.Decoder(_StepEvents).decode


class _TurnStep(msgspec.Struct):
    """The reply to the steps of a turn."""

    step: msgspec.Raw


_read_turn_step = msgspec.json.Decoder(_TurnStep).decode


class _Candles(msgspec.Struct):
    candles: list[dict[str, Any]]


class RemoteTarget:
    """A session on a server; ``remote_session`` creates it."""

    def __init__(self, client: httpx.Client, session_id: str, started: StartedResponse) -> None:
        self._client = client
        self._path = f"{_BACKTEST}/{session_id}"
        self._started = started

    def candles(self) -> Fingerprints:
        """Return the fingerprints of the candles that the session can read, by month."""
        return self._recording.start.candles or {}

    def days(self) -> Fingerprints | None:
        """Return the digests of these candles by day; None if there are too many."""
        return self._recording.start.days

    @cached_property
    def _recording(self) -> Recording:
        lines = _checked(self._client.get(f"{self._path}/recording")).content
        return recording_of(records_of(lines, needs_crc=True))

    def start_digest(self) -> bytes:
        """Return the digest of the reply to the start."""
        return chained(b"", _encode(self._started))

    def play(self, command: records.CommandRecord) -> Reply:
        """Play one command, once; a refusal is a reply."""
        answer = self._send(command)
        if answer.status_code in _REFUSALS:
            refusal = msgspec.json.decode(answer.content, type=Refusal)
            if refusal.code != SessionNotFound.code:
                return Reply(_encode(refusal), answer.status_code)
        _checked(answer)
        body = answer.content
        match command:
            case records.StepRecord():
                events = _read_step_events(body)
                is_quiet = not events.orders_filled and not events.orders_closed
                return Reply(body, answer.status_code, is_quiet)
            case records.TurnRecord():
                body = without_warnings(body)
                step = bytes(_read_turn_step(body).step)
                made = None if step == b"null" else step
                return Reply(body, answer.status_code, is_turn=True, step=made)
            case records.CancelRecord():
                end = msgspec.json.decode(body, type=EndResponse)
                return Reply(_encode(end), answer.status_code)
        return Reply(without_warnings(body), answer.status_code)

    def account(self) -> dict[str, Any]:
        """Return the portfolio, as the API shows it."""
        answer = _checked(self._client.get(f"{self._path}/account/portfolio"))
        portfolio: dict[str, Any] = msgspec.json.decode(answer.content)
        return portfolio

    def candle(self, symbol: str) -> dict[str, Any] | None:
        """Return the latest complete candle of a symbol, as the API shows it; None without one."""
        answer = self._client.get(
            f"{self._path}/market/candles/{quote(symbol, safe='')}", params={"limit": 1}
        )
        if not answer.is_success:
            return None
        candles = msgspec.json.decode(answer.content, type=_Candles).candles
        return candles[-1] if candles else None

    def _send(self, command: records.CommandRecord) -> httpx.Response:
        match command:
            case records.StepRecord():
                return self._client.post(f"{self._path}/step/batch", json={"steps": command.steps})
            case records.OrderRecord():
                return self._client.post(f"{self._path}/trade/order", json=command.order)
            case records.OcoRecord():
                orders = {"orders": command.orders}
                return self._client.post(f"{self._path}/trade/oco", json=orders)
            case records.ReplaceOrderRecord():
                path = f"{self._path}/trade/order/{command.order_id}"
                return self._client.patch(path, json=command.changes)
            case records.CancelOrderRecord():
                return self._client.delete(f"{self._path}/trade/order/{command.order_id}")
            case records.TurnRecord():
                turn = {"orders": command.orders, "cancel": command.cancel, "steps": command.steps}
                return self._client.post(f"{self._path}/turn", json=turn)
            case records.LeverageRecord():
                body = {"symbol": command.symbol, "leverage": command.leverage}
                return self._client.post(f"{self._path}/account/leverage", json=body)
            case records.MarginModeRecord():
                body = {"symbol": command.symbol, "margin_mode": command.margin_mode}
                return self._client.post(f"{self._path}/account/margin-mode", json=body)
            case records.MarginTransferRecord():
                body = {"symbol": command.symbol, "amount": command.amount}
                return self._client.post(f"{self._path}/account/margin", json=body)
            case records.CancelRecord():
                return self._client.post(f"{self._path}/cancel")


@contextmanager
def remote_session(url: str, key: str | None, start: records.Start) -> Iterator[RemoteTarget]:
    """Create and start a session on the server at ``url``, with an agent of its own.

    At the end the agent is deleted, and the session cancelled unless it has ended. Raises
    ``RefusedByServer`` with the server's message, or for answers that Candlestep does not give, and
    ``StorageUnavailable`` if the server cannot be reached.
    """
    headers = {} if key is None else {"X-API-Key": key}
    try:
        with (
            # Most servers are on this machine, where the environment's proxies must not be used.
            httpx.Client(
                base_url=url, headers=headers, timeout=_SECONDS, trust_env=False
            ) as client,
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
    except NOT_JSON as error:
        raise RefusedByServer.of_foreign_answer(url, error) from None


class _Agent(msgspec.Struct):
    agent_id: str


class _CreatedSession(msgspec.Struct):
    session_id: str


@contextmanager
def _agent(client: httpx.Client, risk_profile: Mapping[str, Any]) -> Iterator[str]:
    agent = {"name": "replay", "risk_profile": risk_profile}
    created = _checked(client.post(_AGENTS, json=agent))
    agent_id = msgspec.json.decode(created.content, type=_Agent).agent_id
    try:
        yield agent_id
    finally:
        with suppress(httpx.HTTPError):
            client.delete(f"{_AGENTS}/{agent_id}")


@contextmanager
def _session(client: httpx.Client, create_body: Mapping[str, Any]) -> Iterator[str]:
    created = _checked(client.post(f"{_BACKTEST}/create", json=create_body))
    session_id = msgspec.json.decode(created.content, type=_CreatedSession).session_id
    try:
        yield session_id
    finally:
        with suppress(httpx.HTTPError):
            client.post(f"{_BACKTEST}/{session_id}/cancel")


def _create_body(start: records.Start, agent_id: str) -> Mapping[str, Any]:
    config = {name: value for name, value in start.config.items() if name not in _CHOSEN_BY_SERVER}
    if config.get("market_type") == "perp" and "margin_tiers" not in config:
        config["margin_tiers"] = _recorded_tiers(start)
    return (
        config
        | _market_fields(start, config)
        | {
            "agent_id": agent_id,
            "strategy_label": "replay",
            "allow_gaps": True,
        }
    )


def _market_fields(start: records.Start, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that name the market: of a blind session the real one, and its disguise."""
    hidden = hidden_of(start.blind)
    if hidden is None:
        return {"pairs": start.pairs, "exchange": start.exchange}
    config = recorded_config(start.config, start.risk_profile)
    moved = hidden.start - config.start_time
    real = dict(zip(start.pairs, hidden.pairs, strict=True))
    by_pair = {
        name: {real[pair]: value for pair, value in settings[name].items()}
        for name in BY_SYMBOL
        if isinstance(settings.get(name), dict)
    }
    return by_pair | {
        "pairs": hidden.pairs,
        "exchange": hidden.exchange,
        "start_time": hidden.start_time,
        "end_time": format_time(config.end_time + moved),
        "blind": asdict(hidden.settings),
        "sealed": False,
    }


def _recorded_tiers(start: records.Start) -> dict[str, Any]:
    """Return the margin tiers of each pair that the session copied at its start, or the default."""
    copied = {one["symbol"]: one.get("tiers") for one in start.config.get("instruments", ())}
    return {pair: copied.get(pair) or ONE_TIER.settings() for pair in start.pairs}


def _checked(answer: httpx.Response) -> httpx.Response:
    """Return the answer if it is a success; raise ``RefusedByServer`` otherwise."""
    if answer.is_success:
        return answer
    raise RefusedByServer.of_answer(answer.url.host, answer.status_code, answer.content)
