"""Signatures, by the examples in Binance's own documentation."""

import hmac
from urllib.parse import quote_plus

import pytest

from candlestep.api.dialects.binance.signatures import is_genuine, is_signed
from candlestep.api.http.route import SentText

SECRET = "NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP1e3UZjInClVN65XAbvqqM6A7H5fATj0j"
ORDER = "symbol=LTCBTC&side=BUY&type=LIMIT&timeInForce=GTC"
REST = "quantity=1&price=0.1&recvWindow=5000&timestamp=1499827319559"
OF_ALL = "c8db56825ae71d6d79447849e617115f4a920fa2acdcab2b053c4b2838bd6b71"
OF_BOTH = "0fd168b8ddb4876a0358a8d14d0c9f3da0e9b20c5d52b2a00fcf7d1c602f9a77"
EXAMPLES = [
    (f"{ORDER}&{REST}&signature={OF_ALL}", ""),
    ("", f"{ORDER}&{REST}&signature={OF_ALL}"),
    (ORDER, f"{REST}&signature={OF_BOTH}"),
    (f"signature={OF_ALL}&{ORDER}&{REST}", ""),
    (f"{ORDER}&signature={OF_ALL}&{REST}", ""),
]
"""Queries and bodies: all in one, mixed, and with the signature elsewhere."""


@pytest.mark.parametrize(("query", "body"), EXAMPLES)
def test_the_examples_of_the_documentation_are_genuine(query: str, body: str) -> None:
    sent = SentText(query.encode(), body.encode())
    assert is_signed(sent)
    assert is_genuine(sent, SECRET)
    assert not is_genuine(sent, SECRET[:-1])
    for changed in (query.replace("BUY", "SELL"), query + "&a=1"):
        if query:
            assert not is_genuine(SentText(changed.encode(), body.encode()), SECRET)


def test_a_client_may_sign_the_text_before_it_escapes_it() -> None:
    """python-binance signs ``["A"]`` and sends ``%5B%22A%22%5D``."""
    plain = 'symbols=["BTCUSDT"]&timestamp=1'
    signature = hmac.new(SECRET.encode(), plain.encode(), "sha256").hexdigest()
    escaped = quote_plus('["BTCUSDT"]')
    sent = f"symbols={escaped}&timestamp=1&signature={signature}"
    assert is_genuine(SentText(sent.encode(), b""), SECRET)


@pytest.mark.parametrize(
    "query", ["", "a=1", "signature=", "signature=zz", f"signature={OF_ALL}&signature={OF_ALL}"]
)
def test_nothing_else_is_genuine(query: str) -> None:
    assert not is_genuine(SentText(query.encode(), b""), SECRET)
