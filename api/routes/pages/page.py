"""Shared by all pages: answers that are HTML, their headers, and errors as pages."""

from functools import partial
from typing import Annotated, Any, TypeVar

from msgspec import Meta

from candlestep.api.errors import STATUS, Unauthorized
from candlestep.api.http.route import File, Request, Route
from candlestep.api.schemas.decoding import RequestBody
from candlestep.api.services import Services
from candlestep.api.views.html import render
from candlestep.sandbox import InvalidParameter, SandboxError

POLICY = (
    b"default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:;"
    b" frame-ancestors 'none'"
)
_HEADERS = (
    (b"content-security-policy", POLICY),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)
_HEADINGS = {
    400: "This request is not understood",
    403: "Not allowed",
    404: "Not found",
    409: "Not possible now",
    422: "This cannot be shown",
    429: "Busy, try again",
    503: "Busy, try again",
}

PageNumber = Annotated[int, Meta(ge=1, le=10**7)]
Kept = TypeVar("Kept")

page_route = partial(Route, "GET", is_documented=False, is_browser=True, media_type="text/html")
"""A route that answers with a page."""


class TablePages(RequestBody):
    """The page of each table that has pages."""

    trades: PageNumber = 1
    orders: PageNumber = 1


def html(text: str | bytes) -> File:
    """Return a page as an answer."""
    content = text.encode() if isinstance(text, str) else text
    return File("text/html; charset=utf-8", content, headers=_HEADERS)


def page(services: Services, request: Request, template: str, **context: Any) -> str:
    """Render a page of an account. Blocks."""
    return render(
        template,
        signed_in=request.api_key_id is not None,
        needs_key=not services.authenticator.is_open,
        **context,
    )


def error_page(error: SandboxError, request_id: str) -> File:
    """Return an error as a page: the form for a key where one is missing."""
    if isinstance(error, Unauthorized):
        reason = "This server has API keys, and what it has done belongs to their accounts."
        text = render("login.html", section="", signed_in=False, is_open=False, reason=reason)
        return html(text)
    status = STATUS.get(error.code, 422 if isinstance(error, InvalidParameter) else 500)
    heading = _HEADINGS.get(status, "The server failed")
    return html(
        render(
            "message.html",
            section="",
            signed_in=False,
            heading=heading,
            message=error.message,
            request_id=request_id,
        )
    )
