"""Every endpoint of the server: one sub-package or module a public API."""

from candlestep.api.http.route import Route
from candlestep.api.routes import agents, system
from candlestep.api.routes import tokens as token_exchange
from candlestep.api.routes.admin import ROUTES as ADMIN_ROUTES
from candlestep.api.routes.backtests import backtests, strategies, sweeps
from candlestep.api.routes.backtests import results as backtest_results
from candlestep.api.routes.documentation import documentation
from candlestep.api.routes.jobs import jobs, templates
from candlestep.api.routes.prepare_execute import exchanges, executions, preparations, programs
from candlestep.api.routes.runs import datasets, runs
from candlestep.api.routes.stepping import account, market, results
from candlestep.api.routes.stepping import forks as forking
from candlestep.api.routes.stepping import orders as trading
from candlestep.api.routes.stepping import sessions as stepping

_API = (
    *token_exchange.ROUTES,
    *agents.ROUTES,
    *exchanges.ROUTES,
    *programs.ROUTES,
    *preparations.ROUTES,
    *executions.ROUTES,
    *runs.ROUTES,
    *datasets.ROUTES,
    *jobs.ROUTES,
    *templates.ROUTES,
    *strategies.ROUTES,
    *sweeps.ROUTES,
    *backtest_results.ROUTES,
    *backtests.ROUTES,
    *stepping.ROUTES,
    *results.ROUTES,
    *trading.ROUTES,
    *forking.ROUTES,
    *market.ROUTES,
    *account.ROUTES,
    *ADMIN_ROUTES,
)

ROUTES: tuple[Route, ...] = (*system.ROUTES, *documentation((*system.ROUTES, *_API)), *_API)
"""Every route of the server."""
