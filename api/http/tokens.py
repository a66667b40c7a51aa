"""Tokens, for which API keys are exchanged. A token is a signed JWT; the server stores none."""

from typing import Any

import jwt
import msgspec

TOKEN_SECONDS = 3600
"""The lifetime of a token."""

_ALGORITHM = "HS256"
_ISSUER = "candlestep"


class Claims(msgspec.Struct, frozen=True):
    """The contents of a token."""

    api_key_id: str | None = msgspec.field(name="key")
    """The key that was exchanged for it."""
    expires_at: int = msgspec.field(name="exp")
    """Seconds since the epoch."""


def new_token(signing_key: bytes, account_id: str, api_key_id: str | None, time: int) -> str:
    """Return a token that is valid from ``time`` on (seconds since the epoch)."""
    claims = {
        "iss": _ISSUER,
        "sub": account_id,
        "key": api_key_id,
        "iat": time,
        "exp": time + TOKEN_SECONDS,
    }
    return jwt.encode(claims, signing_key, algorithm=_ALGORITHM)


def read_token(signing_key: bytes, token: str) -> Claims | None:
    """Return the contents of a token, expired or not; None if this server did not sign it."""
    try:
        claims: dict[str, Any] = jwt.decode(
            token,
            signing_key,
            algorithms=[_ALGORITHM],
            issuer=_ISSUER,
            options={
                "require": ["iss", "sub", "key", "exp"],
                "verify_exp": False,
                "verify_iat": False,
            },
        )
        return msgspec.convert(claims, Claims)
    except (jwt.PyJWTError, msgspec.ValidationError, UnicodeError):
        return None
