"""Sessions of a running server, as clients of an exchange trade in them and as a driver steps them."""

import hmac
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import msgspec

from candlestep.api.errors import RefusedByServer
from candlestep.data.errors import NOT_JSON, StorageUnavailable
from candlestep.data.store.server_file import running_server
from candlestep.sandbox import InvalidState

_SECONDS = 30


class OpenedDialect(msgspec.Struct, frozen=True):
    """The address, the key and the secret of a session's dialect."""

    base_url: str
    api_key: str
    api_secret: str
    control_url: str


class _Refusal(msgspec.Struct):
    msg: str


_read_refusal = msgspec.json.Decoder(_Refusal).decode


class SessionClock(msgspec.Struct, frozen=True):
    """The place of a session in time; times in milliseconds."""

    now: int
    step: int
    total_steps: int = msgspec.field(name="totalSteps")
    interval: int
    status: str
    ahead: int
    """The part of a step by which the driver is ahead of the session."""


class ServedSession:
    """A session of a server, named by its id. Methods block."""

    def __init__(self, url: str, key: str | None, session_id: str) -> None:
        """Name a session of the server at ``url``, to which ``key`` is sent if there is one."""
        headers = {} if key is None else {"X-API-Key": key}
        self._url = url.rstrip("/")
        self._session_id = session_id
        self._path = f"{self._url}/api/v1/backtest/{session_id}"
        # Most servers are on this machine, where the environment's proxies must not be used.
        self._client = httpx.Client(headers=headers, timeout=_SECONDS, trust_env=False)

    def open(self, clock: str) -> OpenedDialect:
        """Start the session if it is not, and make another key of it.

        Raises ``RefusedByServer`` in the server's words, and ``StorageUnavailable`` if there is no
        server.
        """
        if self.status()["status"] == "created":
            self._call("POST", f"{self._path}/start")
        opened = self._call("POST", f"{self._path}/dialect", json={"clock": clock})
        return msgspec.convert(opened, OpenedDialect)

    def status(self) -> dict[str, Any]:
        """Return the status of the session and its main figures."""
        status: dict[str, Any] = self._call("GET", f"{self._path}/status")
        return status

    def control(self, dialect: OpenedDialect, action: str, holder: str) -> SessionClock:
        """Hold the session for a driver, or release it."""
        text = urlencode({"holder": holder, "timestamp": 1})
        signature = hmac.new(dialect.api_secret.encode(), text.encode(), "sha256").hexdigest()
        address = f"{dialect.control_url}/{action}?{text}&signature={signature}"
        answer = self._call("POST", address, headers={"X-MBX-APIKEY": dialect.api_key})
        return msgspec.convert(answer, SessionClock)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _call(self, method: str, address: str, **options: Any) -> Any:
        try:
            answer = self._client.request(method, address, **options)
        except httpx.HTTPError as error:
            raise StorageUnavailable(
                f"the server at {self._url} cannot be reached ({error}); is it running?"
            ) from None
        if answer.status_code == httpx.codes.NOT_FOUND and address.startswith(self._path):
            raise RefusedByServer(
                f"there is no session {self._session_id} on the server at {self._url}, for this key;"
                " `candlestep sessions` lists those of the home"
            )
        if not answer.is_success:
            body = answer.content
            with suppress(*NOT_JSON):
                # The dialect's own errors have it under another name.
                body = msgspec.json.encode({"message": _read_refusal(body).msg})
            raise RefusedByServer.of_answer(self._url, answer.status_code, body)
        try:
            return msgspec.json.decode(answer.content, type=dict[str, Any])
        except NOT_JSON as error:
            raise RefusedByServer.of_foreign_answer(self._url, error) from None


def server_url(url: str | None, home: Path) -> str:
    """Return ``url``, or the address of the server that runs on a home; raises ``InvalidState``."""
    if url is not None:
        return url
    server = running_server(home)
    if server is None:
        raise InvalidState(
            f"no server runs on {home}: start one with `candlestep serve`, or name one with --url"
        )
    return server.url
