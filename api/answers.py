"""What the stepping API answers, as the guide prints it.

Amounts of money, prices and quantities are strings with as many decimals as they need, at least
two.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from api.fields import (
    Decimals,
    Money,
    Status,
    Time,
    money,
    optional_money,
    optional_time,
)
from data.sessions import SessionRecord
from sandbox import (
    Balance,
    Candle,
    Fill,
    Holding,
    Order,
    Portfolio,
    Position,
    Snapshot,
    Step,
    Ticker,
    format_time,
    interval_name,
)
from sandbox.fees import FeeModel


class CreateAnswer(msgspec.Struct, frozen=True):
    session_id: str
    status: Literal["created"]
    total_steps: int
    estimated_pairs: int


class StartAnswer(msgspec.Struct, frozen=True):
    session_id: str
    status: Literal["running"]
    virtual_time: Time
    prices: dict[str, Money]


class StartedAnswer(msgspec.Struct, frozen=True):
    """A ``StartAnswer`` but for the session's id: the same in every replay."""

    status: Literal["running"]
    virtual_time: Time
    prices: dict[str, Money]


class PositionAnswer(msgspec.Struct, frozen=True):
    symbol: str
    quantity: Money
    avg_entry_price: Money
    cost_basis: Money
    current_price: Money
    market_value: Money
    unrealized_pnl: Money
    realized_pnl: Money

    @classmethod
    def of(cls, position: Position) -> "PositionAnswer":
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


class PortfolioAnswer(msgspec.Struct, frozen=True):
    total_equity: Money
    available_cash: Money
    locked_cash: Money
    position_value: Money
    unrealized_pnl: Money
    realized_pnl: Money
    starting_balance: Money
    positions: list[PositionAnswer]

    @classmethod
    def of(cls, portfolio: Portfolio) -> "PortfolioAnswer":
        return cls(
            money(portfolio.total_equity),
            money(portfolio.available_cash),
            money(portfolio.locked_cash),
            money(portfolio.position_value),
            money(portfolio.unrealized_pnl),
            money(portfolio.realized_pnl),
            money(portfolio.starting_balance),
            [PositionAnswer.of(position) for position in portfolio.positions],
        )


class OrderAnswer(msgspec.Struct, frozen=True):
    id: int
    order_id: int
    client_order_id: str | None
    oco_group: str | None
    status: Literal["pending", "filled", "cancelled", "rejected", "expired"]
    reason: str | None
    symbol: str
    side: Literal["buy", "sell"]
    type: Literal["market", "limit", "stop_loss", "take_profit"]
    quantity: Money
    price: Money | None
    trigger_price: Money | None
    executed_price: Money | None
    executed_qty: Money | None
    fee: Money | None
    slippage_pct: Money | None
    realized_pnl: Money | None
    created_at: Time
    filled_at: Time | None
    closed_at: Time | None
    expires_at: Time | None

    @classmethod
    def of(cls, order: Order) -> "OrderAnswer":
        fill = order.fill
        return cls(
            id=order.id,
            order_id=order.id,
            client_order_id=order.client_order_id,
            oco_group=order.oco_group,
            status=order.status,
            reason=order.reason,
            symbol=order.symbol,
            side=order.side,
            type=order.type,
            quantity=money(order.quantity),
            price=optional_money(order.price),
            trigger_price=optional_money(order.trigger_price),
            executed_price=None if fill is None else money(fill.price),
            executed_qty=None if fill is None else money(fill.quantity),
            fee=None if fill is None else money(fill.fee),
            slippage_pct=None if fill is None else percent(fill.slippage),
            realized_pnl=None if fill is None else optional_money(fill.realized_pnl),
            created_at=format_time(order.created_at),
            filled_at=optional_time(order.filled_at),
            closed_at=optional_time(order.closed_at),
            expires_at=optional_time(order.expires_at),
        )


def percent(fraction: Decimal) -> str:
    """A fraction as text in percent: 0.0001 is ``0.01``."""
    return money(fraction.scaleb(2))


class StepAnswer(msgspec.Struct, frozen=True):
    virtual_time: Time
    step: int
    total_steps: int
    progress_pct: Money
    prices: dict[str, Money]
    orders_filled: list[OrderAnswer]
    orders_closed: list[OrderAnswer]
    portfolio: PortfolioAnswer
    is_complete: bool
    remaining_steps: int


class FastAnswer(StepAnswer, frozen=True):
    steps_executed: int


class StepTexts:
    """Writes the steps of one session; what is as it was at the last step is not written again."""

    def __init__(self) -> None:
        self._cash: tuple[Decimal | None, ...] = (None, None, None, None)
        self._cash_texts: tuple[str, ...] = ()
        self._holdings: dict[str, tuple[Holding, tuple[str, str, str, str]]] = {}

    def answer(self, step: Step) -> StepAnswer:
        """The answer that tells of ``step``."""
        prices = {symbol: money(price) for symbol, price in step.prices.items()}
        return StepAnswer(
            format_time(step.time),
            step.step,
            step.total_steps,
            progress(step.step, step.total_steps),
            prices,
            [OrderAnswer.of(order) for order in step.orders_filled],
            [OrderAnswer.of(order) for order in step.orders_closed],
            self._portfolio(step.portfolio, prices),
            step.is_complete,
            step.total_steps - step.step,
        )

    def _portfolio(self, portfolio: Portfolio, prices: dict[str, str]) -> PortfolioAnswer:
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
        return PortfolioAnswer(
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

    def _position(self, holding: Holding, position: Position, price: str) -> PositionAnswer:
        kept = self._holdings.get(holding.symbol)
        if kept is None or kept[0] is not holding:
            amounts = (position.quantity, position.avg_entry_price, position.cost_basis)
            quantity, entry, basis = map(money, amounts)
            kept = (holding, (quantity, entry, basis, money(position.realized_pnl)))
            self._holdings[holding.symbol] = kept
        quantity, entry, basis, realized = kept[1]
        return PositionAnswer(
            holding.symbol,
            quantity,
            entry,
            basis,
            price,
            money(position.market_value),
            money(position.unrealized_pnl),
            realized,
        )


def progress(step: int, total_steps: int) -> str:
    """Share of steps done, in percent with 2 decimals, half up."""
    hundredths = (step * 20_000 + total_steps) // (2 * total_steps)
    return f"{hundredths // 100}.{hundredths % 100:02d}"


class PricesAnswer(msgspec.Struct, frozen=True):
    prices: dict[str, Money]
    virtual_time: Time


class PriceAnswer(msgspec.Struct, frozen=True):
    symbol: str
    price: Money
    virtual_time: Time


class TickerAnswer(msgspec.Struct, frozen=True):
    symbol: str
    open: Money
    high: Money
    low: Money
    close: Money
    volume: Money
    price_change: Money
    price_change_pct: Money
    virtual_time: Time

    @classmethod
    def of(cls, ticker: Ticker) -> "TickerAnswer":
        return cls(
            ticker.symbol,
            money(ticker.open),
            money(ticker.high),
            money(ticker.low),
            money(ticker.close),
            money(ticker.volume),
            money(ticker.price_change),
            money(ticker.price_change_pct),
            format_time(ticker.time),
        )


class CandleAnswer(msgspec.Struct, frozen=True):
    open_time: Time
    bucket: Time
    open: Money
    high: Money
    low: Money
    close: Money
    volume: Money

    @classmethod
    def of(cls, candle: Candle) -> "CandleAnswer":
        open_time = format_time(candle.open_time)
        prices = (candle.open, candle.high, candle.low, candle.close, candle.volume)
        return cls(open_time, open_time, *map(money, prices))


class CandlesAnswer(msgspec.Struct, frozen=True):
    symbol: str
    interval: str
    candles: list[CandleAnswer]
    count: int


class BalanceAnswer(msgspec.Struct, frozen=True):
    asset: str
    available: Money
    locked: Money
    total: Money

    @classmethod
    def of(cls, balance: Balance) -> "BalanceAnswer":
        return cls(
            balance.asset, money(balance.available), money(balance.locked), money(balance.total)
        )


class BalancesAnswer(msgspec.Struct, frozen=True):
    balances: list[BalanceAnswer]


class PositionsAnswer(msgspec.Struct, frozen=True):
    positions: list[PositionAnswer]


class OrdersAnswer(msgspec.Struct, frozen=True):
    orders: list[OrderAnswer]
    count: int
    total: int


class CancelOrderAnswer(msgspec.Struct, frozen=True):
    order_id: int
    status: Literal["cancelled"]
    cancelled: bool


class TradeAnswer(msgspec.Struct, frozen=True):
    id: int
    order_id: int
    symbol: str
    side: Literal["buy", "sell"]
    type: Literal["market", "limit", "stop_loss", "take_profit"]
    quantity: Money
    price: Money
    quote_amount: Money
    fee: Money
    slippage_pct: Money
    realized_pnl: Money | None
    simulated_at: Time

    @classmethod
    def of(cls, fill: Fill) -> "TradeAnswer":
        return cls(
            fill.id,
            fill.order_id,
            fill.symbol,
            fill.side,
            fill.type,
            money(fill.quantity),
            money(fill.price),
            money(fill.quote_amount),
            money(fill.fee),
            percent(fill.slippage),
            optional_money(fill.realized_pnl),
            format_time(fill.time),
        )


class TradesAnswer(msgspec.Struct, frozen=True):
    trades: list[TradeAnswer]
    count: int
    total: int


class SessionAnswer(msgspec.Struct, frozen=True):
    session_id: str
    agent_id: str
    strategy_label: str
    status: Status
    start_time: Time
    end_time: Time
    candle_interval: str
    starting_balance: Money
    pairs: list[str]
    current_step: int
    total_steps: int
    progress_pct: Money
    virtual_time: Time
    final_equity: Money | None
    total_pnl: Money | None
    roi_pct: Money | None
    total_trades: int | None
    total_fees: Money | None
    sharpe_ratio: float | None
    max_drawdown_pct: float | None
    created_at: Time
    started_at: Time | None
    completed_at: Time | None
    error: str | None

    @classmethod
    def of(cls, record: SessionRecord) -> "SessionAnswer":
        return cls(
            session_id=record.session_id,
            agent_id=record.agent_id,
            strategy_label=record.strategy_label,
            status=record.status,
            start_time=format_time(record.start_time),
            end_time=format_time(record.end_time),
            candle_interval=interval_name(record.interval),
            starting_balance=money(record.starting_balance),
            pairs=record.pairs,
            current_step=record.current_step,
            total_steps=record.total_steps,
            progress_pct=progress(record.current_step, record.total_steps),
            virtual_time=format_time(record.start_time + record.current_step * record.interval),
            final_equity=optional_money(record.final_equity),
            total_pnl=optional_money(record.total_pnl),
            roi_pct=None if record.roi_pct is None else money(record.roi_pct),
            total_trades=record.total_trades,
            total_fees=optional_money(record.total_fees),
            sharpe_ratio=record.sharpe_ratio,
            max_drawdown_pct=record.max_drawdown_pct,
            created_at=format_time(record.created_at),
            started_at=optional_time(record.started_at),
            completed_at=optional_time(record.completed_at),
            error=record.error,
        )


class SessionsAnswer(msgspec.Struct, frozen=True):
    backtests: list[SessionAnswer]
    total: int


class CancelAnswer(msgspec.Struct, frozen=True):
    session_id: str
    status: Literal["cancelled", "completed"]
    total_trades: int
    roi_pct: Money


class EndAnswer(msgspec.Struct, frozen=True):
    """A ``CancelAnswer`` but for the session's id: the same in every replay."""

    status: Literal["cancelled", "completed"]
    total_trades: int
    roi_pct: Money


class Forked(msgspec.Struct, frozen=True):
    session_id: str
    status: Literal["running"]
    strategy_label: str


class ForkAnswer(msgspec.Struct, frozen=True):
    session_id: str
    """Of the session that was forked."""
    current_step: int
    virtual_time: Time
    forks: list[Forked]
    count: int


class SlippageAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    model: Literal["volume", "fixed_bps", "none"]
    bps: Decimals | UnsetType = UNSET


class FeePeriodAnswer(msgspec.Struct, frozen=True):
    start: Time = msgspec.field(name="from")
    until: Time | None
    symbols: Annotated[list[str] | None, Meta(description="Null: all that no other names.")]
    maker: Decimals
    taker: Decimals

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> "FeePeriodAnswer":
        return cls(
            entry["from"],
            entry.get("until"),
            entry.get("symbols"),
            entry["maker"],
            entry["taker"],
        )


class RiskAnswer(msgspec.Struct, frozen=True):
    max_order_size_pct: Decimals | None
    max_position_size_pct: Decimals | None
    daily_loss_limit_pct: Decimals | None

    @classmethod
    def of(cls, profile: Mapping[str, str | None]) -> "RiskAnswer":
        return cls(*(profile.get(limit) for limit in cls.__struct_fields__))


class ResultsConfig(msgspec.Struct, frozen=True):
    start_time: Time
    end_time: Time
    starting_balance: Money
    strategy_label: str
    candle_interval: str
    agent_id: str
    pairs: list[str]
    exchange: str
    import_number: Annotated[int | None, Meta(description="The data version it ran on.")]
    fee_rate: Annotated[Decimals | None, Meta(description="Null with a `fee_model`.")]
    fee_model: FeeModel | None
    fee_bps: Annotated[Decimals | None, Meta(description="Of the model `fixed_bps`.")]
    fee_schedule: Annotated[
        list[FeePeriodAnswer] | None, Meta(description="What `match_exchange` was run with.")
    ]
    slippage: SlippageAnswer
    trigger: Literal["path", "close"]
    liquidate_at_end: bool
    risk_profile: RiskAnswer


class ResultsSummary(msgspec.Struct, frozen=True):
    final_equity: Money
    total_pnl: Money
    roi_pct: Money
    total_trades: int
    total_fees: Money


class MetricsAnswer(msgspec.Struct, frozen=True):
    sharpe_ratio: float | None
    sortino_ratio: float | None
    max_drawdown_pct: float
    max_drawdown_duration_days: int
    win_rate: float | None
    profit_factor: float | None
    avg_win: Money | None
    avg_loss: Money | None
    best_trade: Money | None
    worst_trade: Money | None
    trades_per_day: float
    total_return: float
    cagr: float | None
    calmar_ratio: float | None
    volatility: float | None
    var_95: float | None
    var_99: float | None
    cvar_95: float | None
    cvar_99: float | None
    expectancy: Money | None
    turnover: float | None
    candles_in_market: int
    returns_grid: str


class PairAnswer(msgspec.Struct, frozen=True):
    symbol: str
    trades: int
    win_rate: float | None
    net_pnl: Money


class ResultsAnswer(msgspec.Struct, frozen=True):
    session_id: str
    status: Status
    config: ResultsConfig
    summary: ResultsSummary
    metrics: MetricsAnswer
    by_pair: list[PairAnswer]


class SnapshotAnswer(msgspec.Struct, frozen=True):
    simulated_at: Time
    total_equity: Money
    available_cash: Money
    locked_cash: Money
    position_value: Money
    unrealized_pnl: Money
    realized_pnl: Money

    @classmethod
    def of(cls, snapshot: Snapshot) -> "SnapshotAnswer":
        return cls(
            format_time(snapshot.time),
            money(snapshot.total_equity),
            money(snapshot.available_cash),
            money(snapshot.locked_cash),
            money(snapshot.position_value),
            money(snapshot.unrealized_pnl),
            money(snapshot.realized_pnl),
        )


class EquityCurveAnswer(msgspec.Struct, frozen=True):
    session_id: str
    interval: int
    snapshots: list[SnapshotAnswer]


class Comparison(msgspec.Struct, frozen=True):
    session_id: str
    strategy_label: str
    roi_pct: float
    sharpe_ratio: float | None
    sortino_ratio: float | None
    max_drawdown_pct: float
    win_rate: float | None
    profit_factor: float | None
    total_trades: int
    final_equity: Money


class CompareAnswer(msgspec.Struct, frozen=True):
    comparisons: list[Comparison]
    best_by_roi: str
    best_by_sharpe: str | None
    best_by_drawdown: str
    recommendation: str


class BestAnswer(msgspec.Struct, frozen=True):
    session_id: str
    strategy_label: str
    metric: str
    value: float | Money


class AgentAnswer(msgspec.Struct, frozen=True):
    agent_id: str
    name: str
    risk_profile: RiskAnswer
    created_at: Time


class AgentsAnswer(msgspec.Struct, frozen=True):
    agents: list[AgentAnswer]
    total: int


class Gap(msgspec.Struct, frozen=True):
    exchange: str
    symbol: str
    start: Time
    end: Time


class DataRangeAnswer(msgspec.Struct, frozen=True):
    earliest: Time | None
    latest: Time | None
    total_pairs: int
    intervals_available: list[str]
    data_gaps: list[Gap]
    pairs: list[str]
    synthetic: Annotated[
        bool, Meta(description="Whether the data, or some of it, is the synthetic sample market.")
    ]


class HealthAnswer(msgspec.Struct, frozen=True):
    status: Literal["ok"]
    version: str
    open_sessions: int
