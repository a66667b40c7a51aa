"""A client that signs as clients of Binance do, and calls of handlers without a server."""

import asyncio
import hmac
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import urlencode, urlsplit

import httpx
import msgspec

from candlestep.api.dialects.binance.api import ENDPOINTS
from candlestep.api.dialects.binance.call import Call
from candlestep.api.dialects.binance.filters import Rules
from candlestep.api.dialects.binance.parameters import Parameters
from candlestep.api.dialects.keys import DialectSettings, OpenDialect
from candlestep.api.http.route import JsonBytes, SentText
from candlestep.api.services import Services
from candlestep.api.sessions.hosted_session import HostedSession
from candlestep.sandbox import Session
from tests.support.api_client import BACKTEST, Api


class Binance:
    """The dialect of one session on a server; each call must have the expected status."""

    def __init__(self, api: Api, session_id: str, **settings: Any) -> None:
        """Open the dialect of a session."""
        self.opened: dict[str, str] = api.post(
            f"{BACKTEST}/{session_id}/dialect", settings, expect=201
        )
        self.client = api.client
        self.path = urlsplit(self.opened["base_url"]).path

    def get(self, path: str, expect: int = 200, **parameters: Any) -> Any:
        """Ask for something that needs no key."""
        return checked(self.client.get(f"{self.path}/{path}", params=parameters), expect)

    def signed(self, method: str, path: str, expect: int = 200, **parameters: Any) -> Any:
        """Send a signed request, a GET in the query and any other in the body."""
        text = self.signed_text(parameters)
        where: dict[str, Any] = {"params": text} if method == "GET" else {"content": text}
        answer = self.client.request(method, f"{self.path}/{path}", headers=self.headers, **where)
        return checked(answer, expect)

    def signed_text(self, parameters: Mapping[str, Any]) -> str:
        """Return parameters with a timestamp and their signature."""
        text = urlencode({**parameters, "timestamp": 1})
        return f"{text}&signature={self.sign(text)}"

    def order(self, expect: int = 200, **parameters: Any) -> Any:
        """Place an order, by default a market buy of 0.01 BTCUSDT."""
        order = {"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET", "quantity": "0.01"}
        order = {name: value for name, value in (order | parameters).items() if value is not None}
        return self.signed("POST", "api/v3/order", expect, **order)

    def sign(self, text: str) -> str:
        """Return the signature of a text."""
        return hmac.new(self.opened["api_secret"].encode(), text.encode(), "sha256").hexdigest()

    @property
    def headers(self) -> dict[str, str]:
        """The header with the key."""
        return {"X-MBX-APIKEY": self.opened["api_key"]}


def checked(answer: httpx.Response, expect: int) -> Any:
    """Return an answer; an error must have the two fields that Binance's errors have."""
    assert answer.status_code == expect, answer.text
    decoded = answer.json()
    if expect >= 400:
        assert set(decoded) - {"data"} == {"code", "msg"}
        return decoded["code"], decoded["msg"]
    return decoded


def ask(session: Session, path: str, method: str = "GET", **parameters: object) -> Any:
    """Return what the handler of a request answers about a session in this process."""

    async def read(work: Any, *arguments: Any) -> Any:
        return work(*arguments)

    endpoint = ENDPOINTS[method, path]
    dialect = OpenDialect("", "", DialectSettings(), {})
    sent = SentText(urlencode(cast(Mapping[str, Any], parameters)).encode(), b"")
    call = Call(
        cast(Services, SimpleNamespace(read=read)), dialect,
        cast(HostedSession, SimpleNamespace(session=session)), Rules(session, {}),
        Parameters(sent, endpoint.names), session.time,
    )  # fmt: skip
    answer = asyncio.run(cast(Any, endpoint.handler(call)))
    return msgspec.json.decode(answer.body) if isinstance(answer, JsonBytes) else answer
