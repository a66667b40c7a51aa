"""The files that pages load, under names with a digest of their content, so that they stay cached."""

from typing import Annotated

import msgspec
from msgspec import Meta

from candlestep.api.errors import NotFound
from candlestep.api.http.route import File, Request, Route
from candlestep.api.services import Services
from candlestep.api.views.html import static_file
from candlestep.sandbox.errors import abbreviate

_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"public, max-age=31536000, immutable"),
    (b"vary", b"accept-encoding"),
)


class StaticHeaders(msgspec.Struct, frozen=True, rename={"accept_encoding": "Accept-Encoding"}):
    accept_encoding: Annotated[str, Meta(max_length=1000)] | None = None


async def file(services: Services, request: Request) -> File:
    """Return a file that pages load, compressed for those that take gzip."""
    name = request.path["file"]
    found = await services.read(static_file, name)
    if found is None:
        raise NotFound(f"there is no file {abbreviate(name)}; GET / is the first page")
    if "gzip" in (request.headers.accept_encoding or ""):
        headers = (*_HEADERS, (b"content-encoding", b"gzip"))
        return File(found.content_type, found.gzipped, headers=headers)
    return File(found.content_type, found.content, headers=_HEADERS)


ROUTES = [
    Route(
        "GET", "/static/{file}", file, "A file of the pages", access="public",
        headers=StaticHeaders, is_documented=False,
    ),
]  # fmt: skip
