"""The description of the server, as a document and as a page."""

from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any

from candlestep.api.http.openapi import JsonDocument, openapi
from candlestep.api.http.route import File, Request, Route
from candlestep.api.services import Services


def documentation(routes: Sequence[Route]) -> list[Route]:
    """Return the routes that describe ``routes`` and themselves."""

    async def document(services: Services, request: Request) -> dict[str, Any]:
        """The OpenAPI document."""
        return openapi(described)

    async def browse(services: Services, request: Request) -> File:
        """A page that shows the OpenAPI document; it loads nothing from elsewhere."""
        return File("text/html; charset=utf-8", _page().encode())

    own = [
        Route(
            "GET", "/openapi.json", document, "This API as OpenAPI", JsonDocument, access="public"
        ),
        Route("GET", "/docs", browse, "This API as a page", File, access="public"),
    ]
    described = (*own, *routes)
    return own


@cache
def _page() -> str:
    return resources.files("candlestep.api.http").joinpath("docs.html").read_text(encoding="utf-8")
