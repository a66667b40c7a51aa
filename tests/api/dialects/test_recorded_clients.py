"""What the clients of Binance really send is answered as it was when they were checked."""

import hmac
import json
import re
from typing import Any
from urllib.parse import unquote_plus

import pytest

from candlestep.api.dialects.binance.signatures import is_genuine, is_signed
from candlestep.api.http.route import SentText
from tests.support.api_client import Api
from tests.support.binance import Binance
from tests.support.project import ROOT

RECORDED: dict[str, Any] = json.loads((ROOT / "tests" / "fixtures" / "clients.json").read_text())
UNESCAPED = "python-binance"
"""The client that signs its text before it escapes it."""
_SIGNATURE = re.compile(r"&?signature=[0-9a-f]+")


def test_all_clients_were_checked() -> None:
    assert set(RECORDED) == {"ccxt", "python-binance", "binance-sdk-spot"}
    assert all(client["requests"] for client in RECORDED.values())


@pytest.mark.parametrize("library", RECORDED)
def test_what_a_client_signs_is_genuine(library: str) -> None:
    secret = RECORDED[library]["api_secret"]
    signed = [sent_text(request) for request in RECORDED[library]["requests"]]
    signed = [sent for sent in signed if is_signed(sent)]
    assert len(signed) > 3
    for sent in signed:
        assert is_genuine(sent, secret), sent
        assert not is_genuine(sent, secret[::-1])


@pytest.mark.parametrize("library", RECORDED)
def test_what_a_client_sends_is_answered_as_before(api: Api, library: str) -> None:
    binance = Binance(api, api.started("01-20", "01-25"))
    for request in RECORDED[library]["requests"]:
        query, body = signed_again(binance, request, library)
        answer = api.client.request(
            request["method"],
            f"{binance.path}/{request['path']}" + (f"?{query}" if query else ""),
            content=body,
            headers=binance.headers if request["key"] else {},
        )
        assert answer.status_code == request["status"], (request, answer.text)


def sent_text(request: dict[str, Any]) -> SentText:
    return SentText(request["query"].encode(), request["body"].encode())


def signed_again(binance: Binance, request: dict[str, Any], library: str) -> tuple[str, str]:
    """Return the query and the body of a request with a signature by another secret."""
    parts = [_SIGNATURE.sub("", request[name]) for name in ("query", "body")]
    if not is_signed(sent_text(request)):
        return request["query"], request["body"]
    text = "".join(parts)
    text = unquote_plus(text) if library == UNESCAPED else text
    secret = binance.opened["api_secret"].encode()
    signature = hmac.new(secret, text.encode(), "sha256").hexdigest()
    place = 0 if "signature=" in request["query"] else 1
    parts[place] += f"&signature={signature}" if parts[place] else f"signature={signature}"
    return parts[0], parts[1]
