"""The account of a session in answers: positions, portfolio, balances."""

from typing import Any, Self

import msgspec

from candlestep.api.schemas.fields import Money
from candlestep.api.schemas.response import Response
from candlestep.sandbox import Portfolio


class PositionResponse(Response, frozen=True):
    symbol: str
    quantity: Money
    avg_entry_price: Money
    cost_basis: Money
    current_price: Money
    market_value: Money
    unrealized_pnl: Money
    realized_pnl: Money


class PositionsResponse(msgspec.Struct, frozen=True):
    positions: list[PositionResponse]


class PortfolioResponse(Response, frozen=True):
    total_equity: Money
    available_cash: Money
    locked_cash: Money
    position_value: Money
    unrealized_pnl: Money
    realized_pnl: Money
    starting_balance: Money
    positions: list[PositionResponse]

    @classmethod
    def of(cls, portfolio: Portfolio, /, **fields: Any) -> Self:
        """Return the answer that shows a portfolio."""
        positions = [PositionResponse.of(position) for position in portfolio.positions]
        return super().of(portfolio, positions=positions, **fields)


class BalanceResponse(Response, frozen=True):
    asset: str
    available: Money
    locked: Money
    total: Money


class BalancesResponse(msgspec.Struct, frozen=True):
    balances: list[BalanceResponse]
