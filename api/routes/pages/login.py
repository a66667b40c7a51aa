"""Signing in: an API key is exchanged for a cookie, which stands for it when pages are read."""

from typing import Annotated

import msgspec
from msgspec import Meta

from candlestep.api.errors import Forbidden
from candlestep.api.http.cookies import COOKIE
from candlestep.api.http.route import File, Request, Route
from candlestep.api.http.tokens import TOKEN_SECONDS
from candlestep.api.routes.pages.page import html
from candlestep.api.schemas.decoding import EmptyBody, RequestBody
from candlestep.api.services import Services
from candlestep.api.views.html import render


class LoginRequest(RequestBody):
    key: Annotated[str, Meta(min_length=1, max_length=500)]


class OriginHeaders(msgspec.Struct, frozen=True, rename={"host": "Host", "origin": "Origin"}):
    host: str = ""
    origin: str | None = None


async def form(services: Services, request: Request) -> File:
    """Return the page to sign in on."""
    return html(
        render(
            "login.html",
            section="",
            signed_in=False,
            is_open=services.authenticator.is_open,
            reason="A key gives you what its account may see.",
        )
    )


async def login(services: Services, request: Request) -> File:
    """Exchange a key for a cookie that only this server reads, and no script.

    Raises ``InvalidApiKey``, and ``Forbidden`` for a request from another web page.
    """
    _require_own_page(request.headers)
    body: LoginRequest = request.body
    caller = services.authenticator.caller("key", {b"x-api-key": body.key.encode()})
    token = services.authenticator.token(caller.account_id, caller.api_key_id)
    return _with_cookie(request.headers, token, TOKEN_SECONDS)


async def logout(services: Services, request: Request) -> File:
    """Remove the cookie."""
    _require_own_page(request.headers)
    return _with_cookie(request.headers, "", 0)


def _require_own_page(headers: OriginHeaders) -> None:
    """Raise ``Forbidden`` unless a page of this server, or no page at all, sent the request."""
    origin = headers.origin
    if origin is not None and origin not in (f"http://{headers.host}", f"https://{headers.host}"):
        raise Forbidden("sign in on a page of this server: other web pages are refused")


def _with_cookie(headers: OriginHeaders, token: str, seconds: int) -> File:
    """Return an answer that sets the cookie, which goes over https alone if the page came so."""
    attributes = f"{COOKIE}={token}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax"
    if (headers.origin or "").startswith("https://"):
        attributes += "; Secure"
    body = msgspec.json.encode({"success": True})
    own = (
        (b"set-cookie", attributes.encode("latin-1", "replace")),
        (b"cache-control", b"no-store"),
    )
    return File("application/json", body, headers=own)


ROUTES = [
    Route("GET", "/login", form, "Sign in", access="public", is_documented=False),
    Route(
        "POST", "/login", login, "Sign in", body=LoginRequest, access="public",
        headers=OriginHeaders, is_documented=False,
    ),
    Route(
        "POST", "/logout", logout, "Sign out", body=EmptyBody, access="public",
        headers=OriginHeaders, is_documented=False,
    ),
]  # fmt: skip
