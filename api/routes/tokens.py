"""The exchange of an API key for a token, for clients that send short-lived tokens."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from candlestep.api.http.api import Api
from candlestep.api.http.route import Request, Route
from candlestep.api.http.tokens import TOKEN_SECONDS
from candlestep.api.schemas.decoding import EmptyBody
from candlestep.api.services import Services


class TokenResponse(msgspec.Struct, frozen=True):
    access_token: Annotated[str, Meta(description="Send it as `Authorization: Bearer …`.")]
    token_type: Literal["Bearer"]
    expires_in: Annotated[int, Meta(description="Seconds.", examples=[TOKEN_SECONDS])]
    tier: Literal["free"]


async def exchange(services: Services, request: Request) -> TokenResponse:
    """Return a token, which replaces the API key until it expires or the key is revoked.

    While the server has no keys, no token is needed, and one made then is refused once it has keys.
    """
    token = services.authenticator.token(request.account_id, request.api_key_id)
    return TokenResponse(token, "Bearer", TOKEN_SECONDS, "free")


_ROUTES = [
    Route(
        "POST", "/api/v1/auth/token", exchange, "Exchange an API key for a token",
        body=EmptyBody, access="key",
    ),
]  # fmt: skip
API = Api(routes={"server": _ROUTES})
