"""The answers to steps, thousands per second: values that have not changed are not written again."""

from decimal import Decimal
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from candlestep.api.schemas.account import (
    FundingPaymentResponse,
    LiquidationResponse,
    PortfolioResponse,
    PositionResponse,
)
from candlestep.api.schemas.fields import Money, Time, money
from candlestep.api.schemas.orders import OrderResponse
from candlestep.api.schemas.prices import (
    MarkPricesJson,
    PricesJson,
    mark_price_writer,
    price_writer,
)
from candlestep.api.schemas.sessions import progress
from candlestep.sandbox import Holding, Portfolio, Position, Session, Step, format_time
from candlestep.sandbox.exchange.margin.account import MarginPortfolio


class StepResponse(msgspec.Struct, frozen=True):
    virtual_time: Time
    step: int
    total_steps: int
    progress_pct: Money
    prices: PricesJson
    orders_filled: list[OrderResponse]
    orders_closed: list[OrderResponse]
    portfolio: PortfolioResponse
    is_complete: bool
    remaining_steps: int
    mark_prices: MarkPricesJson = UNSET
    funding: Annotated[
        list[FundingPaymentResponse] | UnsetType,
        Meta(description="Of perpetuals: paid and received since the last step."),
    ] = UNSET
    liquidations: Annotated[
        list[LiquidationResponse] | UnsetType,
        Meta(description="Of perpetuals: positions that were closed for want of margin."),
    ] = UNSET


class FastResponse(StepResponse, frozen=True, kw_only=True):
    steps_executed: int


class StepTexts:
    """Writes the steps of one session, and reuses the text of values that have not changed."""

    def __init__(self, session: Session) -> None:
        self._prices = price_writer(session.market)
        self._mark_prices = mark_price_writer(session)
        self._cash: tuple[Decimal, ...] = ()
        self._cash_texts: tuple[str, ...] = ()
        self._holdings: dict[str, tuple[Holding, tuple[str, str, str, str]]] = {}

    def answer(self, step: Step) -> StepResponse:
        """Return the answer to a step."""
        prices = self._prices(step.time)
        if self._mark_prices is not None:
            return self._of_perpetuals(step, prices, self._mark_prices(step.time))
        return StepResponse(
            format_time(step.time),
            step.step,
            step.total_steps,
            progress(step.step, step.total_steps),
            prices,
            list(map(OrderResponse.of, step.orders_filled)),
            list(map(OrderResponse.of, step.orders_closed)),
            self._portfolio(step.portfolio, prices),
            step.is_complete,
            step.total_steps - step.step,
        )

    def _of_perpetuals(
        self, step: Step, prices: PricesJson, mark_prices: PricesJson
    ) -> StepResponse:
        portfolio = step.portfolio
        assert isinstance(portfolio, MarginPortfolio)
        return StepResponse(
            format_time(step.time),
            step.step,
            step.total_steps,
            progress(step.step, step.total_steps),
            prices,
            list(map(OrderResponse.of, step.orders_filled)),
            list(map(OrderResponse.of, step.orders_closed)),
            msgspec.structs.replace(
                self._portfolio(portfolio, mark_prices),
                wallet_balance=money(portfolio.wallet_balance),
                margin_balance=money(portfolio.margin_balance),
                funding=money(portfolio.funding),
            ),
            step.is_complete,
            step.total_steps - step.step,
            mark_prices,
            list(map(FundingPaymentResponse.of, step.funding)),
            list(map(LiquidationResponse.of, step.liquidations)),
        )

    def _portfolio(self, portfolio: Portfolio, prices: PricesJson) -> PortfolioResponse:
        cash = (
            portfolio.available_cash,
            portfolio.locked_cash,
            portfolio.realized_pnl,
            portfolio.starting_balance,
        )
        if cash != self._cash:
            self._cash, self._cash_texts = cash, tuple(map(money, cash))
        available, locked, realized, starting = self._cash_texts
        texts = prices if type(prices) is dict else None
        positions = []
        for holding, position in zip(portfolio.holdings, portfolio.positions, strict=True):
            positions.append(self._position(holding, position, texts))
        return PortfolioResponse(
            money(portfolio.total_equity),
            available,
            locked,
            money(portfolio.position_value),
            money(portfolio.unrealized_pnl),
            realized,
            starting,
            positions,
        )

    def _position(
        self, holding: Holding, position: Position, prices: dict[str, str] | None
    ) -> PositionResponse:
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
            money(position.current_price) if prices is None else prices[holding.symbol],
            money(position.market_value),
            money(position.unrealized_pnl),
            realized,
        )
