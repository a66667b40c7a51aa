"""The connection over which a bot's process steps its session; see ``sitecustomize.py``."""

from __future__ import annotations

import hmac
import http.client
import json
import time
from itertools import count
from typing import Any
from urllib.parse import urlencode, urlsplit

_TRIES = 5

_real_sleep = time.sleep


class Control:
    """The connection over which the session is stepped."""

    def __init__(self, settings: dict[str, Any]) -> None:
        address = urlsplit(settings["control_url"])
        self._path = address.path
        self._secret = settings["api_secret"].encode()
        self._holder = settings["holder"]
        self._headers = {"X-MBX-APIKEY": settings["api_key"]}
        self._host = address.hostname or "localhost"
        self._port = address.port
        self._is_https = address.scheme == "https"
        self._connection = self._connect()

    def _connect(self) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self._is_https else http.client.HTTPConnection
        return kind(self._host, self._port, timeout=300)

    def owns(self, connection: http.client.HTTPConnection) -> bool:
        """Return whether a connection is this one."""
        return connection is self._connection

    def reaches(self, connection: http.client.HTTPConnection) -> bool:
        """Return whether another connection leads to the server of the session too."""
        ours = self._connection
        same = (connection.host, connection.port) == (ours.host, ours.port)
        return same and connection is not ours

    def advance(self, to: int) -> dict[str, Any]:
        """Step to a time in ms; it may be sent again, so a lost connection does no harm."""
        text = urlencode({"to": to, "holder": self._holder, "timestamp": to})
        signature = hmac.new(self._secret, text.encode(), "sha256").hexdigest()
        path = f"{self._path}/advance?{text}&signature={signature}"
        status, body = self._post(path)
        if status != http.client.OK:
            raise RuntimeError(f"candlestep drive: the session cannot be stepped: {body.decode()}")
        state: dict[str, Any] = json.loads(body)
        return state

    def _post(self, path: str) -> tuple[int, bytes]:
        for attempt in count(1):
            try:
                self._connection.request("POST", path, headers=self._headers)
                answer = self._connection.getresponse()
                return answer.status, answer.read()
            except (OSError, http.client.HTTPException):
                self._connection.close()
                self._connection = self._connect()
                if attempt == _TRIES:
                    raise
                _real_sleep(0.1 * attempt)
        raise AssertionError("never reached")
