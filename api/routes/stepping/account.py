"""The account of a session, at current prices."""

from candlestep.api.http.route import Request
from candlestep.api.routes.stepping.session_commands import find_session, read_route
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
    read_route(f"{_BASE}/balance", balance, "Balances", BalancesResponse),
    read_route(f"{_BASE}/positions", positions, "Open positions", PositionsResponse),
    read_route(f"{_BASE}/portfolio", portfolio, "Portfolio", PortfolioResponse),
]
