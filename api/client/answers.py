"""The answers of a server, decoded, and the values of the library that they stand for."""

from decimal import Decimal
from typing import Any, Literal

import msgspec

from candlestep.api.client.margin_answers import LiquidationAnswer, PaymentAnswer
from candlestep.api.client.times import milliseconds, optional_milliseconds
from candlestep.sandbox import (
    Balance,
    Fill,
    Holding,
    Metrics,
    Order,
    PairResult,
    Portfolio,
    Results,
    SessionWarning,
    Snapshot,
    parse_interval,
)
from candlestep.sandbox.exchange.margin.account import MarginPortfolio
from candlestep.sandbox.exchange.margin.reports import MarginFigures, MarkSource
from candlestep.sandbox.exchange.orders import OrderStatus, OrderType, Side, TimeInForce
from candlestep.sandbox.money import EXACT, rounded_product


class OrderAnswer(msgspec.Struct):
    id: int
    status: OrderStatus
    reason: str | None
    symbol: str
    side: Side
    type: OrderType
    quantity: Decimal
    price: Decimal | None
    trigger_price: Decimal | None
    client_order_id: str | None
    oco_group: str | None
    executed_price: Decimal | None
    executed_qty: Decimal | None
    fee: Decimal | None
    slippage_pct: Decimal | None
    realized_pnl: Decimal | None
    created_at: str
    filled_at: str | None
    closed_at: str | None
    expires_at: str | None
    time_in_force: TimeInForce = "gtc"
    post_only: bool = False
    trail_percent: Decimal | None = None
    trail_amount: Decimal | None = None
    activation_price: Decimal | None = None
    quote_amount: Decimal | None = None
    stop_loss: Decimal | None = None
    take_profit: Decimal | None = None
    list_id: int | None = None
    parent_id: int | None = None
    triggered_at: str | None = None
    reduce_only: bool | None = None
    closed_pnl: Decimal | None = None
    is_liquidation: bool = False

    def order(self) -> Order:
        """Return the order. What it locks is not told; its fill has the id 0."""
        return Order(
            id=self.id,
            created_at=milliseconds(self.created_at),
            symbol=self.symbol,
            side=self.side,
            type=self.type,
            quantity=self.quantity,
            price=self.price,
            trigger_price=self.trigger_price,
            client_order_id=self.client_order_id,
            oco_group=self.oco_group,
            expires_at=optional_milliseconds(self.expires_at),
            time_in_force=self.time_in_force,
            post_only=self.post_only,
            trail_percent=self.trail_percent,
            trail_amount=self.trail_amount,
            activation_price=self.activation_price,
            quote_amount=self.quote_amount,
            stop_loss=self.stop_loss,
            take_profit=self.take_profit,
            list_id=self.list_id,
            parent_id=self.parent_id,
            triggered_at=optional_milliseconds(self.triggered_at),
            reduce_only=self.reduce_only,
            status=self.status,
            reason=self.reason,
            filled_at=optional_milliseconds(self.filled_at),
            closed_at=optional_milliseconds(self.closed_at),
            fill=self._fill(),
        )

    def _fill(self) -> Fill | None:
        if (
            self.filled_at is None
            or self.executed_price is None
            or self.executed_qty is None
            or self.fee is None
            or self.slippage_pct is None
        ):
            return None
        return Fill(
            0,
            self.id,
            self.symbol,
            self.side,
            self.type,
            self.executed_qty,
            self.executed_price,
            rounded_product(self.executed_qty, self.executed_price),
            self.fee,
            _fraction(self.slippage_pct),
            self.realized_pnl,
            milliseconds(self.filled_at),
            self.closed_pnl,
            is_liquidation=self.is_liquidation,
        )


class OrdersAnswer(msgspec.Struct):
    orders: list[OrderAnswer]
    total: int


class PairOfOrdersAnswer(msgspec.Struct):
    orders: list[OrderAnswer]


class TradeAnswer(msgspec.Struct):
    id: int
    order_id: int
    symbol: str
    side: Side
    type: OrderType
    quantity: Decimal
    price: Decimal
    quote_amount: Decimal
    fee: Decimal
    slippage_pct: Decimal
    realized_pnl: Decimal | None
    simulated_at: str
    closed_pnl: Decimal | None = None
    closed_quantity: Decimal | None = None
    liquidation: bool = False

    def fill(self) -> Fill:
        """Return the fill."""
        return Fill(
            self.id,
            self.order_id,
            self.symbol,
            self.side,
            self.type,
            self.quantity,
            self.price,
            self.quote_amount,
            self.fee,
            _fraction(self.slippage_pct),
            self.realized_pnl,
            milliseconds(self.simulated_at),
            self.closed_pnl,
            self.closed_quantity,
            self.liquidation,
        )


class TradesAnswer(msgspec.Struct):
    trades: list[TradeAnswer]
    total: int


class PositionAnswer(msgspec.Struct):
    symbol: str
    quantity: Decimal
    cost_basis: Decimal
    current_price: Decimal
    market_value: Decimal
    realized_pnl: Decimal


class PortfolioAnswer(msgspec.Struct):
    total_equity: Decimal
    available_cash: Decimal
    locked_cash: Decimal
    position_value: Decimal
    unrealized_pnl: Decimal
    realized_pnl: Decimal
    starting_balance: Decimal
    positions: list[PositionAnswer]
    wallet_balance: Decimal | None = None
    margin_balance: Decimal | None = None
    funding: Decimal | None = None

    def portfolio(self) -> Portfolio:
        """Return the account."""
        held = self.positions
        values = (
            self.starting_balance,
            self.available_cash,
            self.locked_cash,
            self.position_value,
            self.total_equity,
            self.unrealized_pnl,
            self.realized_pnl,
            tuple([Holding(p.symbol, p.quantity, p.cost_basis, p.realized_pnl) for p in held]),
            tuple([position.market_value for position in held]),
            {position.symbol: position.current_price for position in held},
        )
        if self.wallet_balance is None or self.margin_balance is None or self.funding is None:
            return Portfolio(*values)
        return MarginPortfolio(*values, self.wallet_balance, self.margin_balance, self.funding)


class StepAnswer(msgspec.Struct):
    step: int
    prices: dict[str, Decimal]
    orders_filled: list[OrderAnswer]
    orders_closed: list[OrderAnswer]
    portfolio: PortfolioAnswer
    is_complete: bool
    funding: list[PaymentAnswer] = []
    liquidations: list[LiquidationAnswer] = []


class RefusedAnswer(msgspec.Struct):
    code: str
    message: str
    details: dict[str, Any]


class RefusedPartAnswer(msgspec.Struct):
    part: Literal["cancel", "orders"]
    index: int
    error: RefusedAnswer


class TurnAnswer(msgspec.Struct):
    cancelled: list[OrderAnswer]
    orders: list[OrderAnswer]
    refused: RefusedPartAnswer | None
    step: StepAnswer | None


class SessionTurnAnswer(msgspec.Struct):
    session_id: str
    turn: TurnAnswer | None
    error: RefusedAnswer | None


class TurnsAnswer(msgspec.Struct):
    turns: list[SessionTurnAnswer]


class WarningAnswer(msgspec.Struct):
    code: str
    symbol: str | None
    start: str = msgspec.field(name="from")
    end: str = msgspec.field(name="to")
    message: str = ""

    def warning(self) -> SessionWarning:
        """Return the warning."""
        start, end = milliseconds(self.start), milliseconds(self.end)
        return SessionWarning(self.code, self.symbol, start, end, self.message)


class StatusAnswer(msgspec.Struct):
    session_id: str
    status: str
    start_time: str
    candle_interval: str
    current_step: int
    total_steps: int
    coverage: dict[str, float]
    warnings: list[WarningAnswer]
    error: str | None

    @property
    def interval(self) -> int:
        """The candle interval in milliseconds."""
        return parse_interval(self.candle_interval)


class SinceAnswer(msgspec.Struct):
    status: str
    step: int
    trades: list[TradeAnswer]
    orders_closed: list[OrderAnswer]
    is_truncated: bool


class BalanceAnswer(msgspec.Struct):
    asset: str
    available: Decimal
    locked: Decimal

    def balance(self) -> Balance:
        """Return the balance."""
        return Balance(self.asset, self.available, self.locked)


class BalancesAnswer(msgspec.Struct):
    balances: list[BalanceAnswer]


class SnapshotAnswer(msgspec.Struct):
    simulated_at: str
    total_equity: Decimal
    available_cash: Decimal
    locked_cash: Decimal
    position_value: Decimal
    unrealized_pnl: Decimal
    realized_pnl: Decimal
    funding: Decimal | None = None

    def snapshot(self) -> Snapshot:
        """Return the snapshot."""
        return Snapshot(
            milliseconds(self.simulated_at),
            self.total_equity,
            self.available_cash,
            self.locked_cash,
            self.position_value,
            self.unrealized_pnl,
            self.realized_pnl,
            self.funding,
        )


class EquityAnswer(msgspec.Struct):
    snapshots: list[SnapshotAnswer]


class SummaryAnswer(msgspec.Struct):
    final_equity: Decimal
    total_pnl: Decimal
    roi_pct: Decimal
    total_trades: int
    total_fees: Decimal
    total_funding: Decimal | None = None
    total_liquidation_fees: Decimal | None = None
    liquidations: int | None = None
    insurance: Decimal | None = None
    max_leverage_used: Decimal | None = None
    mark_source: MarkSource | None = None
    mark_holes: int | None = None
    funding_expected: int | None = None
    funding_applied: int | None = None


class MetricsAnswer(msgspec.Struct):
    sharpe_ratio: float | None
    sortino_ratio: float | None
    max_drawdown_pct: float
    max_drawdown_duration_days: int
    win_rate: float | None
    profit_factor: float | None
    avg_win: Decimal | None
    avg_loss: Decimal | None
    best_trade: Decimal | None
    worst_trade: Decimal | None
    trades_per_day: float
    total_return: float
    cagr: float | None
    calmar_ratio: float | None
    volatility: float | None
    var_95: float | None
    var_99: float | None
    cvar_95: float | None
    cvar_99: float | None
    expectancy: Decimal | None
    turnover: float | None
    candles_in_market: int
    returns_grid: str
    capped_fills: int | None
    covered_from: str | None
    covered_to: str | None

    def metrics(self, total_trades: int) -> Metrics:
        """Return the metrics; the moments of the returns are not told."""
        told = {
            name: getattr(self, name)
            for name in self.__struct_fields__
            if not name.startswith("covered_")
        }
        return Metrics(
            total_trades=total_trades,
            covered_from=optional_milliseconds(self.covered_from),
            covered_to=optional_milliseconds(self.covered_to),
            **told,
        )


class PairAnswer(msgspec.Struct):
    symbol: str
    trades: int
    win_rate: float | None
    net_pnl: Decimal

    def result(self) -> PairResult:
        """Return the contribution of the pair."""
        return PairResult(self.symbol, self.trades, self.win_rate, self.net_pnl)


class ResultsAnswer(msgspec.Struct):
    status: Literal["completed", "cancelled"]
    summary: SummaryAnswer
    metrics: MetricsAnswer
    by_pair: list[PairAnswer]
    warnings: list[WarningAnswer]
    coverage: dict[str, float]

    def results(self) -> Results:
        """Return the results, without the record that ``plot`` needs."""
        summary = self.summary
        return Results(
            status=self.status,
            final_equity=summary.final_equity,
            total_pnl=summary.total_pnl,
            roi_pct=summary.roi_pct,
            total_trades=summary.total_trades,
            total_fees=summary.total_fees,
            metrics=self.metrics.metrics(summary.total_trades),
            by_pair=tuple(pair.result() for pair in self.by_pair),
            warnings=tuple(warning.warning() for warning in self.warnings),
            coverage=self.coverage,
            **{name: getattr(summary, name) for name in MarginFigures.__struct_fields__},
        )


class CreatedAnswer(msgspec.Struct):
    session_id: str


class ForksAnswer(msgspec.Struct):
    forks: list[CreatedAnswer]


def _fraction(percent: Decimal) -> Decimal:
    return EXACT.scaleb(percent, -2)
