"""The door itself: requests below ``/binance/{session_id}`` are admitted and answered."""

from collections.abc import Callable
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import msgspec

from candlestep.api.dialects.binance import control, market
from candlestep.api.dialects.binance.call import Call, Endpoint, Security
from candlestep.api.dialects.binance.errors import BinanceError, missing, of_refusal
from candlestep.api.dialects.binance.filters import Rules
from candlestep.api.dialects.binance.limits import require_rate
from candlestep.api.dialects.binance.pace import catch_up
from candlestep.api.dialects.binance.parameters import Parameters, parameters_of
from candlestep.api.dialects.binance.signatures import is_genuine, is_signed
from candlestep.api.dialects.binance.trading import account, orders, pairs, replacing
from candlestep.api.dialects.keys import OpenDialect
from candlestep.api.http.api import Api, PathParameter
from candlestep.api.http.error_body import NumberedErrorBody
from candlestep.api.http.route import JsonBytes, JsonDocument, LogEntry, Request, Route, SentText
from candlestep.api.services import Services
from candlestep.api.sessions.commands import SessionRef
from candlestep.api.sessions.hosted_session import HostedSession
from candlestep.sandbox import SandboxError, Session

ENDPOINTS: dict[tuple[str, str], Endpoint] = {
    **market.ENDPOINTS,
    **account.ENDPOINTS,
    **orders.ENDPOINTS,
    **replacing.ENDPOINTS,
    **pairs.ENDPOINTS,
    **control.ENDPOINTS,
}
"""The endpoint of each request, by its method and its path after the prefix of the session."""

_CHANGES = {
    (method, path)
    for method, path in (*orders.ENDPOINTS, *replacing.ENDPOINTS, *pairs.ENDPOINTS)
    if method != "GET" and not path.endswith("/test")
}
"""The requests that are logged: those that place or cancel orders."""

_HEADERS = ((b"x-mbx-used-weight-1m", b"1"), (b"x-mbx-order-count-10s", b"0"))
_SLACK = 1000
"""The milliseconds that a timestamp may be ahead of the virtual time."""
_RECV_WINDOW = 5000

_encode = msgspec.json.Encoder().encode
_rules: WeakKeyDictionary[Session, tuple[OpenDialect, Rules]] = WeakKeyDictionary()


class Headers(msgspec.Struct):
    """The header with the key of a request."""

    api_key: str | None = msgspec.field(name="X-MBX-APIKEY", default=None)


async def answer(method: str, services: Services, request: Request) -> JsonBytes:
    """Answer a request of a client of Binance, or tell what is wrong as Binance does."""
    admitted: list[str] = []
    try:
        try:
            body = await _answer(services, request, method, admitted.append)
        except SandboxError as refusal:
            raise of_refusal(refusal) from None
    except BinanceError as error:
        services.refusals.note(request.path["session_id"], error.status)
        entry = LogEntry(admitted[0] if admitted else None, str(error.code))
        return JsonBytes(_encode(error.body), error.status, _HEADERS, entry)
    raw = body.body if isinstance(body, JsonBytes) else _encode(body)
    is_change = (method, request.path["path"]) in _CHANGES
    return JsonBytes(raw, 200, _HEADERS, LogEntry(admitted[0], None, is_change=is_change))


async def _answer(
    services: Services, request: Request, method: str, note_account: Callable[[str], object]
) -> Any:
    """Return what is answered; ``note_account`` is called once the request is admitted."""
    session_id, path = request.path["session_id"], request.path["path"]
    dialect = await services.dialects.find(session_id)
    if dialect is None:
        raise BinanceError(
            -1000,
            "no dialect of this session is open: `candlestep dialect SESSION` opens it",
            404,
        )
    endpoint = ENDPOINTS.get((method, path))
    if endpoint is None:
        raise BinanceError(-1000, f"{method} /{path[:100]} is not of this dialect", 404)
    sent: SentText = request.body
    _admit(services, dialect, request.headers.api_key, sent, endpoint.security)
    note_account(dialect.account_id)
    parameters = parameters_of(sent, endpoint.names)
    ref = SessionRef(dialect.account_id, session_id)
    hosted = await services.sessions.find(ref)
    session = hosted.session
    if dialect.settings.rate_limits:
        require_rate(session, method, path)
    now = await _virtual_time(services, ref, hosted, dialect)
    if endpoint.security == "signed":
        _require_time(dialect, parameters, now)
    rules = _rules_of(session, dialect)
    return await endpoint.handler(Call(services, dialect, hosted, rules, parameters, now))


async def _virtual_time(
    services: Services, ref: SessionRef, hosted: HostedSession, dialect: OpenDialect
) -> int:
    """Return the virtual time: that of the session and what a driver or the pace is ahead of it."""
    held = hosted.hold
    if held is not None and not held.is_over:
        return hosted.session.time + held.ahead
    if dialect.settings.clock == "paced":
        return await catch_up(services, ref, hosted.session, dialect)
    return hosted.session.time


def _admit(
    services: Services, dialect: OpenDialect, api_key: str | None, sent: SentText, level: Security
) -> None:
    """Raise ``BinanceError`` unless the key and the signature are what the endpoint asks for."""
    signed = is_signed(sent)
    if level == "none" and api_key is None and not signed:
        return
    if api_key is None:
        raise BinanceError(-2014, "API-key format invalid.", 401)
    if not services.dialects.accepts(dialect, api_key):
        raise BinanceError(-2015, "Invalid API-key, IP, or permissions for action.", 401)
    if level == "signed" and not signed:
        raise missing("signature")
    if signed and not is_genuine(sent, services.dialects.secret_of(api_key)):
        raise BinanceError(-1022, "Signature for this request is not valid.")


def _require_time(dialect: OpenDialect, parameters: Parameters, now: int) -> None:
    """Require a timestamp; its value is judged with ``strict_time`` only."""
    sent = parameters.whole("timestamp")
    if sent is None:
        raise missing("timestamp")
    window = parameters.whole("recvWindow")
    window = _RECV_WINDOW if window is None else window
    if dialect.settings.strict_time and not now - window <= sent <= now + _SLACK:
        raise BinanceError(-1021, "Timestamp for this request is outside of the recvWindow.")


def _rules_of(session: Session, dialect: OpenDialect) -> Rules:
    known = _rules.get(session)
    if known is None or known[0] is not dialect:
        known = _rules[session] = (dialect, Rules(session, dialect.settings.symbols))
    return known[1]


_METHODS = ("GET", "POST", "PUT", "DELETE")

API = Api(
    routes={
        "Binance": [
            Route(
                method,
                "/binance/{session_id}/{path}",
                partial(answer, method),
                "A request of a client of Binance",
                JsonDocument,
                body=SentText,
                headers=Headers,
                access="signature",
                is_frequent=True,
                is_documented=False,
            )
            for method in _METHODS
        ]
    },
    error_body=NumberedErrorBody,
    refused_status=400,
    hot_prefix="/binance/{session_id}/",
    path_parameters={"path": PathParameter({"type": "string"}, may_contain_slash=True)},
)
"""The routes of the dialect, which are those of Binance and not described again."""
