"""A public API as one value: its routes and the conventions that they share."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from candlestep.api.errors import STATUS
from candlestep.api.http.error_body import ErrorBody, ErrorObjectBody, NumberedErrorBody
from candlestep.api.http.route import File, Route
from candlestep.sandbox import SandboxError

REFUSED = 422
"""The status of requests that are understood and refused, unless an API has another."""


class PathParameter(msgspec.Struct, frozen=True):
    """A parameter in the paths of an API."""

    schema: Mapping[str, Any]
    """Its JSON Schema."""
    may_contain_slash: bool = False


class Api(msgspec.Struct, frozen=True, kw_only=True):
    """A public API: routes that follow the same conventions.

    APIs may share a prefix of their paths, so the matched route decides whose conventions apply.
    """

    routes: Mapping[str, Sequence[Route]]
    """The routes by tag, under which the documentation groups them. Where two paths match, the
    first one answers.
    """
    error_body: type[ErrorBody] | type[ErrorObjectBody] | type[NumberedErrorBody] = ErrorBody
    """The body of errors; the clients of some systems read ``error`` as an object."""
    error_page: Callable[[SandboxError, str], File] | None = None
    """Returns an error as a page, given the id of the request, for an API whose answers are pages."""
    refused_status: int = REFUSED
    """The status of requests that are understood and refused."""
    path_parameters: Mapping[str, PathParameter] = {}
    """Path parameters that are restricted; any other parameter is arbitrary text."""
    hot_prefix: str | None = None
    """The start of the paths that are called most, such as ``/sessions/{session_id}/``.

    Below it, paths without further parameters are found by a look-up ahead of the router, and so
    is one whose only further parameter is all the rest of it.
    """

    def endpoints(self) -> Iterator["Endpoint"]:
        """Yield every route, in order."""
        for tag, routes in self.routes.items():
            for route in routes:
                yield Endpoint(self, tag, route)


class Endpoint(msgspec.Struct, frozen=True):
    """A route together with the API and the tag that it belongs to."""

    api: Api
    tag: str
    route: Route

    def status_of(self, code: str) -> int:
        """Return the HTTP status that an error of this code has here."""
        status = STATUS.get(code, 500)
        if status != REFUSED:
            return status
        return self.route.refused_status or self.api.refused_status
