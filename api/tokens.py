"""Tokens: what a key is exchanged for, by clients that send a short-lived JWT with each request."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

import jwt
import msgspec
from msgspec import Meta

from api.routing import Call, Route

if TYPE_CHECKING:
    from api.server import Server

TOKEN_SECONDS = 3600
"""How long a token is valid."""

_ALGORITHM = "HS256"
_ISSUER = "candlestep"


class Claims(msgspec.Struct, frozen=True):
    """What a token says of itself."""

    api_key_id: str | None = msgspec.field(name="key")
    """The key that it was made with."""
    expires_at: int = msgspec.field(name="exp")
    """Seconds since the epoch."""


class TokenAnswer(msgspec.Struct, frozen=True):
    access_token: Annotated[str, Meta(description="To be sent as `Authorization: Bearer …`.")]
    token_type: Literal["Bearer"]
    expires_in: Annotated[int, Meta(description="Seconds.", examples=[TOKEN_SECONDS])]
    tier: Literal["free"]


def new_token(signing_key: bytes, account_id: str, api_key_id: str | None, time: int) -> str:
    """A token, valid from ``time`` on (seconds since the epoch)."""
    claims = {
        "iss": _ISSUER,
        "sub": account_id,
        "key": api_key_id,
        "iat": time,
        "exp": time + TOKEN_SECONDS,
    }
    return jwt.encode(claims, signing_key, algorithm=_ALGORITHM)


def read_token(signing_key: bytes, token: str) -> Claims | None:
    """What a token says; None for what is none of ours. Who asks compares the time."""
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


async def exchange(server: "Server", call: Call) -> TokenAnswer:
    """A token, which is accepted wherever the API key is, until it expires or the key is revoked.

    Without keys no token is needed, and the one that is made opens nothing once there are keys.
    """
    token = server.gate.token(call.account_id, call.api_key_id)
    return TokenAnswer(token, "Bearer", TOKEN_SECONDS, "free")


ROUTES = [
    Route(
        "POST", "/api/v1/auth/token", exchange, "Exchange an API key for a token", TokenAnswer,
        access="key",
    ),
]  # fmt: skip
