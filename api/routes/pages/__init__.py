"""The web pages: sessions, runs, comparisons, sweeps and data, as the server renders them.

They show what the APIs answer, and belong to the account whose key was exchanged for a cookie at
``/login``. Pages and their errors are HTML; none is in the OpenAPI document.
"""

from candlestep.api.http.api import Api
from candlestep.api.routes.pages import compare, data, home, login, runs, sessions, static, sweeps
from candlestep.api.routes.pages.page import error_page

API = Api(
    routes={
        "pages": (
            *home.ROUTES,
            *sessions.ROUTES,
            *compare.ROUTES,
            *sweeps.ROUTES,
            *runs.ROUTES,
            *data.ROUTES,
        )
    },
    error_page=error_page,
)
FILES = Api(routes={"pages": (*login.ROUTES, *static.ROUTES)})
"""Signing in and the files that pages load, whose errors are JSON."""
