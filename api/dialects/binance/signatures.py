"""Signatures: HMAC-SHA256 of the text of a request, exactly as it was sent."""

import hmac
import re
from urllib.parse import unquote_plus

from candlestep.api.http.route import SentText

_SIGNATURE = re.compile(rb"(?:^|&)signature=([^&]*)")


def is_signed(sent: SentText) -> bool:
    """Return whether a request has a signature among its parameters."""
    return _has_one(sent.query) or _has_one(sent.body)


def _has_one(part: bytes) -> bool:
    return b"signature=" in part and _SIGNATURE.search(part) is not None


def is_genuine(sent: SentText, secret: str) -> bool:
    """Return whether the signature of a request is that of its text.

    The text is the query and the body one after the other without the signature, neither decoded
    nor put in another order. Some clients sign it before they escape it, so that counts too.
    """
    parts = [part for part in (sent.query, sent.body) if part]
    signatures = [found for part in parts for found in _SIGNATURE.findall(part)]
    if len(signatures) != 1:
        return False
    signature = signatures[0].lower()
    text = b"".join([_SIGNATURE.sub(b"", part).removeprefix(b"&") for part in parts])
    if hmac.compare_digest(_signature(secret, text), signature):
        return True
    unescaped = unquote_plus(text.decode("latin-1")).encode()
    return hmac.compare_digest(_signature(secret, unescaped), signature)


def _signature(secret: str, text: bytes) -> bytes:
    return hmac.digest(secret.encode(), text, "sha256").hex().encode()
