"""Signatures: HMAC-SHA256 of the text of a request, exactly as it was sent."""

import hmac
import re
from urllib.parse import unquote_plus

from candlestep.api.http.route import SentText

_SIGNATURE = re.compile(rb"(?:^|&)signature=([^&]*)")


def is_signed(sent: SentText) -> bool:
    """Return whether a request has a signature among its parameters."""
    return any(_SIGNATURE.search(part) for part in (sent.query, sent.body))


def is_genuine(sent: SentText, secret: str) -> bool:
    """Return whether the signature of a request is that of its text.

    The text is the query and the body one after the other without the signature, neither decoded
    nor put in another order. Some clients sign it before they escape it, so that counts too.
    """
    signatures = [found for part in (sent.query, sent.body) for found in _SIGNATURE.findall(part)]
    if len(signatures) != 1:
        return False
    text = b"".join(
        _SIGNATURE.sub(b"", part).removeprefix(b"&") for part in (sent.query, sent.body)
    )
    unescaped = unquote_plus(text.decode("latin-1")).encode()
    return any(
        hmac.compare_digest(_signature(secret, candidate), signatures[0].lower())
        for candidate in (text, unescaped)
    )


def _signature(secret: str, text: bytes) -> bytes:
    return hmac.new(secret.encode(), text, "sha256").hexdigest().encode()
