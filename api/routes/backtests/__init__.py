"""The backtests API: strategies are stored, run as backtests and sweeps, and compared."""

from candlestep.api.http.api import Api
from candlestep.api.routes.backtests import backtests, results, strategies, sweeps, tasks

API = Api(
    routes={
        "strategies": strategies.ROUTES,
        "backtests": (
            *sweeps.ROUTES,
            *tasks.ROUTES,
            *results.ROUTES,
            *backtests.ROUTES,
        ),
    }
)
