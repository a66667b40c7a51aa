"""The answers to steps, thousands per second: values that have not changed are not written again."""

from decimal import Decimal

import msgspec

from candlestep.api.schemas.account import PortfolioResponse, PositionResponse
from candlestep.api.schemas.fields import Money, Time, money
from candlestep.api.schemas.orders import OrderResponse
from candlestep.api.schemas.sessions import progress
from candlestep.sandbox import Holding, Portfolio, Position, Step, format_time


class StepResponse(msgspec.Struct, frozen=True):
    virtual_time: Time
    step: int
    total_steps: int
    progress_pct: Money
    prices: dict[str, Money]
    orders_filled: list[OrderResponse]
    orders_closed: list[OrderResponse]
    portfolio: PortfolioResponse
    is_complete: bool
    remaining_steps: int


class FastResponse(StepResponse, frozen=True):
    steps_executed: int


class StepTexts:
    """Writes the steps of one session, and reuses the text of values that have not changed."""

    def __init__(self) -> None:
        self._cash: tuple[Decimal | None, ...] = (None, None, None, None)
        self._cash_texts: tuple[str, ...] = ()
        self._holdings: dict[str, tuple[Holding, tuple[str, str, str, str]]] = {}

    def answer(self, step: Step) -> StepResponse:
        """Return the answer to a step."""
        prices = {symbol: money(price) for symbol, price in step.prices.items()}
        return StepResponse(
            format_time(step.time),
            step.step,
            step.total_steps,
            progress(step.step, step.total_steps),
            prices,
            [OrderResponse.of(order) for order in step.orders_filled],
            [OrderResponse.of(order) for order in step.orders_closed],
            self._portfolio(step.portfolio, prices),
            step.is_complete,
            step.total_steps - step.step,
        )

    def _portfolio(self, portfolio: Portfolio, prices: dict[str, str]) -> PortfolioResponse:
        available, locked, realized, starting = self._cash
        if (
            portfolio.available_cash is not available
            or portfolio.locked_cash is not locked
            or portfolio.realized_pnl is not realized
            or portfolio.starting_balance is not starting
        ):
            self._cash = cash = (
                portfolio.available_cash,
                portfolio.locked_cash,
                portfolio.realized_pnl,
                portfolio.starting_balance,
            )
            self._cash_texts = tuple(map(money, cash))
        available_text, locked_text, realized_text, starting_text = self._cash_texts
        return PortfolioResponse(
            money(portfolio.total_equity),
            available_text,
            locked_text,
            money(portfolio.position_value),
            money(portfolio.unrealized_pnl),
            realized_text,
            starting_text,
            [
                self._position(holding, position, prices[holding.symbol])
                for holding, position in zip(portfolio.holdings, portfolio.positions, strict=True)
            ],
        )

    def _position(self, holding: Holding, position: Position, price: str) -> PositionResponse:
        entry = self._holdings.get(holding.symbol)
        if entry is None or entry[0] is not holding:
            amounts = (position.quantity, position.avg_entry_price, position.cost_basis)
            quantity, price_paid, basis = map(money, amounts)
            entry = (holding, (quantity, price_paid, basis, money(position.realized_pnl)))
            self._holdings[holding.symbol] = entry
        quantity, price_paid, basis, realized = entry[1]
        return PositionResponse(
            holding.symbol,
            quantity,
            price_paid,
            basis,
            price,
            money(position.market_value),
            money(position.unrealized_pnl),
            realized,
        )
