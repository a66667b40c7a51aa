"""The backtests API: store strategies, run them as backtests and sweeps, compare the results."""

from candlestep.api.http.api import Api
from candlestep.api.routes.backtests import backtests, results, strategies, tasks

API = Api(
    routes={
        "strategies": strategies.ROUTES,
        "backtests": (*tasks.ROUTES, *results.ROUTES, *backtests.ROUTES),
    }
)
