"""Every endpoint of the server: one sub-package or module per public API.

Each has an ``API``: its routes and the conventions that they share. ``APIS`` lists them all.
"""

from candlestep.api.http.api import Api
from candlestep.api.http.route import Route
from candlestep.api.routes import (
    admin,
    agents,
    backtests,
    jobs,
    prepare_execute,
    runs,
    stepping,
    system,
    tokens,
)
from candlestep.api.routes.documentation import documentation

_DESCRIBED = (
    system.API,
    tokens.API,
    agents.API,
    prepare_execute.API,
    runs.API,
    jobs.API,
    backtests.API,
    stepping.API,
    admin.API,
)

APIS: tuple[Api, ...] = (documentation(_DESCRIBED), *_DESCRIBED)
"""Every API of the server. Where the paths of two APIs match a request, the first one answers."""

ROUTES: tuple[Route, ...] = tuple(endpoint.route for api in APIS for endpoint in api.endpoints())
"""Every route of the server."""
