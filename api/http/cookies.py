"""The cookie of signed-in pages, which stands for a key where a request has none."""

from collections.abc import Sequence

COOKIE = "candlestep"
"""The name of the cookie; its value is a token."""

Headers = Sequence[tuple[bytes, bytes]]

_KEY_HEADERS = (b"x-api-key", b"authorization")


def with_cookie_as_key(headers: Headers) -> Headers:
    """Return the headers of a request with its cookie as a Bearer token, unless it has a key."""
    token = b""
    for name, value in headers:
        if name in _KEY_HEADERS and value.strip():
            return headers
        if name == b"cookie":
            token = _token(value) or token
    return [*headers, (b"authorization", b"Bearer " + token)] if token else headers


def _token(cookies: bytes) -> bytes:
    for cookie in cookies.split(b";"):
        name, _, value = cookie.strip().partition(b"=")
        if name == COOKIE.encode():
            return value.strip()
    return b""
