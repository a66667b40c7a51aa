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


def new_token(
    signing_key: bytes, account_id: str, api_key_id: str | None, time: int, server_name: str = ""
) -> str:
    """Return a token that is valid from ``time`` on (seconds since the epoch).

    Its ``kid`` is the name of the server, so that all tokens of a server begin with the same text.
    """
    claims = {
        "iss": _ISSUER,
        "sub": account_id,
        "key": api_key_id,
        "iat": time,
        "exp": time + TOKEN_SECONDS,
    }
    headers = {"kid": server_name} if server_name else None
    return jwt.encode(claims, signing_key, algorithm=_ALGORITHM, headers=headers)


def read_token(signing_key: bytes, token: str, time: int) -> Claims | None:
    """Return the contents of a token, expired or not; None if this server did not sign it.

    None too if it is valid for longer from ``time`` on (seconds) than any token that is given out.
    """
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
        token_claims = msgspec.convert(claims, Claims)
    except (jwt.PyJWTError, msgspec.ValidationError, UnicodeError):
        return None
    return token_claims if token_claims.expires_at <= time + TOKEN_SECONDS else None
