"""The account of a session, at current prices."""

from candlestep.api.http.route import Request, Route
from candlestep.api.routes.stepping.session_commands import FIND_ERRORS, find_session
from candlestep.api.schemas.account import (
    BalanceResponse,
    BalancesResponse,
    PortfolioResponse,
    PositionResponse,
    PositionsResponse,
)
from candlestep.api.services import Services

_BASE = "/api/v1/backtest/{session_id}/account"


async def balance(services: Services, request: Request) -> BalancesResponse:
    """Return the balances of the account's currency and of what is held."""
    session = (await find_session(services, request)).session
    return BalancesResponse([BalanceResponse.of(balance) for balance in session.balances()])


async def positions(services: Services, request: Request) -> PositionsResponse:
    """Return the open positions at current prices."""
    session = (await find_session(services, request)).session
    return PositionsResponse([PositionResponse.of(position) for position in session.positions()])


async def portfolio(services: Services, request: Request) -> PortfolioResponse:
    """Return the account at current prices."""
    session = (await find_session(services, request)).session
    return PortfolioResponse.of(session.portfolio())


ROUTES = [
    Route("GET", f"{_BASE}/balance", balance, "Balances", BalancesResponse, errors=FIND_ERRORS),
    Route(
        "GET", f"{_BASE}/positions", positions, "Open positions", PositionsResponse,
        errors=FIND_ERRORS,
    ),
    Route(
        "GET", f"{_BASE}/portfolio", portfolio, "Portfolio", PortfolioResponse, errors=FIND_ERRORS
    ),
]  # fmt: skip
