"""The description of the server, as a document and as a page."""

from collections.abc import Sequence
from functools import cache
from importlib import resources

import msgspec

from candlestep.api.http.api import Api
from candlestep.api.http.openapi import openapi
from candlestep.api.http.route import File, JsonBytes, JsonDocument, Request, Route
from candlestep.api.services import Services

ABOUT = """A simulated exchange that an agent steps through candle by candle.

Every error has one shape, `ErrorBody`. Unknown fields and query parameters are refused by name.
A header `X-Request-Id` of up to 64 letters, digits and `_.:-` is answered as it was sent; without
it the answer has one of the server's."""
"""The description of the document."""


def documentation(apis: Sequence[Api]) -> Api:
    """Return the routes that describe ``apis`` and themselves."""

    @cache
    def encoded_document() -> bytes:
        return msgspec.json.encode(openapi((api, *apis), ABOUT))

    async def document(services: Services, request: Request) -> JsonBytes:
        """The OpenAPI document."""
        return JsonBytes(encoded_document(), 200)

    async def browse(services: Services, request: Request) -> File:
        """A page that shows the OpenAPI document; it loads nothing from elsewhere."""
        return File("text/html; charset=utf-8", _page().encode())

    api = Api(
        routes={
            "server": [
                Route(
                    "GET", "/openapi.json", document, "This API as OpenAPI", JsonDocument,
                    access="public",
                ),
                Route(
                    "GET", "/docs", browse, "This API as a page", File, access="public",
                    media_type="text/html",
                ),
            ]
        }
    )  # fmt: skip
    return api


@cache
def _page() -> str:
    return resources.files("candlestep.api.http").joinpath("docs.html").read_text(encoding="utf-8")
