"""Routing: the endpoints of each path, and a shortcut to those that are called most."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from starlette.convertors import PathConvertor, register_url_convertor
from starlette.routing import Route as StarletteRoute
from starlette.routing import Router
from starlette.types import ASGIApp

from candlestep.api.http.api import Api, Endpoint

Endpoints = Mapping[str, Endpoint]
"""The endpoints of one path, by method."""


class _TextConvertor(PathConvertor):
    """Any text, even with slashes and line breaks, at which Starlette's ``path`` ends."""

    regex = r"[\s\S]*"


register_url_convertor("text", _TextConvertor())


class HotPaths(NamedTuple):
    """The paths below an API's ``hot_prefix``, which are found by one look-up.

    Starlette's router alone costs as much as a step of a session.
    """

    prefix: str
    """The prefix up to its parameter."""
    parameter: str
    others: frozenset[str]
    """Values of the parameter that are segments of other paths, or none at all."""
    by_rest: Mapping[str, Endpoints]
    """The endpoints by the rest of the path after the parameter."""
    any_rest: tuple[str, Endpoints] | None = None
    """The parameter that takes any other rest of the path, and the endpoints of that."""

    def find(self, path: str) -> tuple[Endpoints, dict[str, str]] | None:
        """Return the endpoints of a path and its parameters, or None if it is not a hot path."""
        if not path.startswith(self.prefix):
            return None
        value, slash, rest = path[len(self.prefix) :].partition("/")
        if value in self.others:
            return None
        endpoints = self.by_rest.get(rest)
        if endpoints is not None:
            return endpoints, {self.parameter: value}
        if self.any_rest is None or not slash:
            return None
        name, endpoints = self.any_rest
        return endpoints, {self.parameter: value, name: rest}


def endpoints_by_path(apis: Iterable[Api]) -> dict[str, dict[str, Endpoint]]:
    """Return the endpoints of each path, in the order in which paths are tried."""
    by_path: dict[str, dict[str, Endpoint]] = {}
    for api in apis:
        for endpoint in api.endpoints():
            by_path.setdefault(endpoint.route.path, {})[endpoint.route.method] = endpoint
    return by_path


def hot_paths(api: Api, by_path: Mapping[str, Endpoints]) -> HotPaths:
    """Return the hot paths of an API that has a ``hot_prefix``: not those that browsers read."""
    assert api.hot_prefix is not None
    start, _, parameter = api.hot_prefix.removesuffix("}/").partition("{")
    by_rest = {
        path.removeprefix(api.hot_prefix): endpoints
        for path, endpoints in by_path.items()
        if path.startswith(api.hot_prefix)
        and not any(endpoint.route.is_browser for endpoint in endpoints.values())
    }
    of_any_rest = [
        (name, by_rest[f"{{{name}}}"])
        for name, taken in api.path_parameters.items()
        if taken.may_contain_slash and f"{{{name}}}" in by_rest
    ]
    return HotPaths(
        start,
        parameter,
        frozenset({"", *_literals_after(start, by_path)}),
        {rest: endpoints for rest, endpoints in by_rest.items() if "{" not in rest},
        of_any_rest[0] if of_any_rest else None,
    )


def _literals_after(start: str, paths: Iterable[str]) -> set[str]:
    """Return the literal segments that follow ``start`` in paths that do not end there."""
    literals = set()
    for path in paths:
        if path.startswith(start):
            segment, slash, _ = path.removeprefix(start).partition("/")
            if slash and not segment.startswith("{"):
                literals.add(segment)
    return literals


def starlette_router(apps: Sequence[tuple[Endpoints, ASGIApp]], unknown_path: ASGIApp) -> Router:
    """Return a router that calls the app of each path, or else ``unknown_path``."""
    return Router(
        [StarletteRoute(_template(endpoints), app) for endpoints, app in apps],
        redirect_slashes=False,
        default=unknown_path,
    )


def _template(endpoints: Endpoints) -> str:
    """Return a path as Starlette writes it, with the parameters that may contain a slash."""
    endpoint = next(iter(endpoints.values()))
    path = endpoint.route.path
    for name, parameter in endpoint.api.path_parameters.items():
        if parameter.may_contain_slash:
            path = path.replace(f"{{{name}}}", f"{{{name}:text}}")
    return path
