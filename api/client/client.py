"""The client: a connection, and the sessions of an account."""

import secrets
import ssl
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import msgspec

from candlestep.api.client import answers
from candlestep.api.client.connection import Connection
from candlestep.api.client.refusals import refusal_of
from candlestep.api.client.requests import body_of
from candlestep.api.client.session import Session, SessionTurn, turn_fields
from candlestep.sandbox import Order, SandboxError, Step, Turn

_BASE = "/api/v1/backtest"

_read_created = msgspec.json.Decoder(answers.CreatedAnswer).decode
_read_turns = msgspec.json.Decoder(answers.TurnsAnswer).decode


class Client:
    """An account on a server. It has one connection and belongs to one thread.

    Use it as a context manager, or ``close`` it. Errors are the exceptions of the library; those of
    the server alone are ``SandboxError`` with their ``code``, and ``ConnectionLost``.
    """

    def __init__(
        self,
        url: str,
        key: str | None = None,
        *,
        timeout: float = 60,
        retry_seconds: float = 30,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        """Use the server at ``url`` (``http`` or ``https``) with an API key.

        A request waits at most ``timeout`` seconds for each part of its answer. After a lost
        connection it is tried again for up to ``retry_seconds``. Proxies of the environment are not
        used. Raises ``InvalidParameter``.
        """
        self._connection = Connection(
            url, key, timeout=timeout, retry_seconds=retry_seconds, ssl_context=ssl_context
        )

    def create_session(self, **config: Any) -> Session:
        """Create a session and start it: the fields are those of ``POST /api/v1/backtest/create``.

        Raises ``InvalidParameter``, ``NoPrice`` and the errors of the server.
        """
        body = self._send("POST", f"{_BASE}/create", body_of(config))
        session_id = _read_created(body).session_id
        self._send("POST", f"{_BASE}/{session_id}/start")
        return self.session(session_id)

    def session(self, session_id: str) -> Session:
        """Return a session that was started before, at the step where it is."""
        return Session(self._connection, session_id)

    def turns(
        self, turns: Sequence[tuple[Session, Mapping[str, Any]]]
    ) -> list[Turn[Order, Order, Step] | SandboxError]:
        """Take a turn in each of up to 1,000 sessions, in one request.

        Each turn has the arguments of ``Session.turn``. Return the turns and the errors, each in its
        place.
        """
        bodies = [
            {"session_id": session.id, **turn_fields(SessionTurn(**turn))}
            for session, turn in turns
        ]
        body = self._send("POST", f"{_BASE}/sessions/turn", msgspec.json.encode({"turns": bodies}))
        outcomes: list[Turn[Order, Order, Step] | SandboxError] = []
        for (session, _), answer in zip(turns, _read_turns(body).turns, strict=True):
            if answer.turn is not None:
                outcomes.append(session.take(answer.turn))
            elif answer.error is not None:
                error = answer.error
                outcomes.append(refusal_of(error.code, error.message, error.details))
        return outcomes

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _send(self, method: str, path: str, body: bytes | None = None) -> bytes:
        key = secrets.token_hex(16)
        return self._connection.repeat(self._connection.prepare(method, path, body, key))
