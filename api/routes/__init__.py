"""Every endpoint of the server: one sub-package or module per public API.

Each has an ``API``: its routes and the conventions that they share. ``APIS`` lists them all.
"""

from candlestep.api.dialects.binance.api import API as BINANCE
from candlestep.api.http.api import Api
from candlestep.api.http.route import Route
from candlestep.api.routes import (
    admin,
    agents,
    backtests,
    data,
    jobs,
    pages,
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
    data.API,
    prepare_execute.API,
    runs.API,
    jobs.API,
    backtests.API,
    stepping.API,
    admin.API,
    pages.API,
    pages.FILES,
)

APIS: tuple[Api, ...] = (BINANCE, documentation(_DESCRIBED), *_DESCRIBED)
"""Every API of the server. Where the paths of two APIs match a request, the first one answers.

The dialect, whose requests are the most frequent of those that the router sees, is tried first.
"""

ROUTES: tuple[Route, ...] = tuple(endpoint.route for api in APIS for endpoint in api.endpoints())
"""Every route of the server."""
