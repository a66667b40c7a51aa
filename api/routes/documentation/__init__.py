"""The documentation of the server: the OpenAPI document, and Swagger UI to browse and try it."""

from collections.abc import Mapping, Sequence
from functools import cache, partial
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any

import msgspec
from swagger_ui_bundle import swagger_ui_path

from candlestep.api.errors import NotFound
from candlestep.api.http.api import Api
from candlestep.api.http.openapi import openapi
from candlestep.api.http.route import File, Handler, JsonBytes, JsonDocument, Request, Route
from candlestep.api.services import Services
from candlestep.sandbox.errors import abbreviate

ABOUT = """A simulated exchange that an agent steps through candle by candle.

Errors have the shape `ErrorBody`; those of sessions, agents and market data have `error` as an object (`ErrorObjectBody`). Unknown fields and query parameters are refused by name.
A header `X-Request-Id` of up to 64 letters, digits and `_.:-` is returned as it was sent; without
it, the server chooses one."""
"""The description of the document."""

_OWN_FILES = resources.files("candlestep.api.routes.documentation")
_CONTENT_TYPES = {
    "swagger-ui.css": "text/css; charset=utf-8",
    "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "favicon-32x32.png": "image/png",
    "initializer.js": "text/javascript; charset=utf-8",
}
"""The files that the page loads."""
_POLICY = (
    b"default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:;"
    b" frame-ancestors 'none'"
)
_NO_SNIFFING = (b"x-content-type-options", b"nosniff")
_PAGE_HEADERS = (_NO_SNIFFING, (b"content-security-policy", _POLICY))
_FILE_HEADERS = (_NO_SNIFFING, (b"cache-control", b"max-age=3600"))


def documentation(apis: Sequence[Api]) -> Api:
    """Return the routes that describe ``apis`` and themselves."""

    @cache
    def encoded_document() -> bytes:
        return msgspec.json.encode(openapi((api, *apis), ABOUT, recorded_examples()))

    async def document(services: Services, request: Request) -> JsonBytes:
        """Return the OpenAPI document."""
        return JsonBytes(encoded_document(), 200)

    api = Api(routes={"server": _routes(document)})
    return api


@cache
def recorded_examples() -> Mapping[str, Mapping[str, Any]]:
    """Return a request and an answer of each operation, as `tests.record_examples` recorded them."""
    examples: dict[str, dict[str, Any]] = msgspec.json.decode(
        (_OWN_FILES / "examples.json").read_bytes()
    )
    return examples


async def browse(services: Services, request: Request) -> File:
    """Return a page that shows the OpenAPI document and sends requests.

    It loads nothing from other servers.
    """
    page = await services.read(_read, _OWN_FILES / "index.html")
    return File("text/html; charset=utf-8", page, headers=_PAGE_HEADERS)


async def page_file(services: Services, request: Request) -> File:
    """Return a file that the page loads."""
    name = request.path["file"]
    content_type = _CONTENT_TYPES.get(name)
    if content_type is None:
        raise NotFound(f"there is no file {abbreviate(name)}; GET /docs is the page")
    folder = _OWN_FILES if name == "initializer.js" else swagger_ui_path
    content = await services.read(_read, folder / name)
    return File(content_type, content, headers=_FILE_HEADERS)


@cache
def _read(file: Traversable) -> bytes:
    return file.read_bytes()


def _routes(document: Handler) -> list[Route]:
    public = partial(Route, "GET", access="public")
    return [
        public("/openapi.json", document, "This API as OpenAPI", JsonDocument),
        public("/docs", browse, "This API as a page", media_type="text/html"),
        public("/docs/static/{file}", page_file, "A file of the page", is_documented=False),
    ]
