"""The account of a session in answers: positions, portfolio, balances."""

import msgspec

from candlestep.api.schemas.fields import Money, money
from candlestep.sandbox import Balance, Portfolio, Position


class PositionResponse(msgspec.Struct, frozen=True):
    symbol: str
    quantity: Money
    avg_entry_price: Money
    cost_basis: Money
    current_price: Money
    market_value: Money
    unrealized_pnl: Money
    realized_pnl: Money

    @classmethod
    def of(cls, position: Position) -> "PositionResponse":
        return cls(
            position.symbol,
            money(position.quantity),
            money(position.avg_entry_price),
            money(position.cost_basis),
            money(position.current_price),
            money(position.market_value),
            money(position.unrealized_pnl),
            money(position.realized_pnl),
        )


class PositionsResponse(msgspec.Struct, frozen=True):
    positions: list[PositionResponse]


class PortfolioResponse(msgspec.Struct, frozen=True):
    total_equity: Money
    available_cash: Money
    locked_cash: Money
    position_value: Money
    unrealized_pnl: Money
    realized_pnl: Money
    starting_balance: Money
    positions: list[PositionResponse]

    @classmethod
    def of(cls, portfolio: Portfolio) -> "PortfolioResponse":
        return cls(
            money(portfolio.total_equity),
            money(portfolio.available_cash),
            money(portfolio.locked_cash),
            money(portfolio.position_value),
            money(portfolio.unrealized_pnl),
            money(portfolio.realized_pnl),
            money(portfolio.starting_balance),
            [PositionResponse.of(position) for position in portfolio.positions],
        )


class BalanceResponse(msgspec.Struct, frozen=True):
    asset: str
    available: Money
    locked: Money
    total: Money

    @classmethod
    def of(cls, balance: Balance) -> "BalanceResponse":
        return cls(
            balance.asset, money(balance.available), money(balance.locked), money(balance.total)
        )


class BalancesResponse(msgspec.Struct, frozen=True):
    balances: list[BalanceResponse]
