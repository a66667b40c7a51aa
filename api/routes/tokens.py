"""The exchange of an API key for a token, for clients that send a short-lived one with each request."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from candlestep.api.http.route import Call, Route
from candlestep.api.http.tokens import TOKEN_SECONDS
from candlestep.api.schemas.requests import NoBody
from candlestep.api.services import Server


class TokenAnswer(msgspec.Struct, frozen=True):
    access_token: Annotated[str, Meta(description="To be sent as `Authorization: Bearer …`.")]
    token_type: Literal["Bearer"]
    expires_in: Annotated[int, Meta(description="Seconds.", examples=[TOKEN_SECONDS])]
    tier: Literal["free"]


async def exchange(server: Server, call: Call) -> TokenAnswer:
    """A token, which is accepted wherever the API key is, until it expires or the key is revoked.

    Without keys no token is needed, and the one that is made opens nothing once there are keys.
    """
    token = server.gate.token(call.account_id, call.api_key_id)
    return TokenAnswer(token, "Bearer", TOKEN_SECONDS, "free")


ROUTES = [
    Route(
        "POST", "/api/v1/auth/token", exchange, "Exchange an API key for a token", TokenAnswer,
        body=NoBody, access="key",
    ),
]  # fmt: skip
